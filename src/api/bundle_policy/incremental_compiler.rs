//! Compiles policies incrementally: only those of namespaces in which something changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    ParsedMaterialCache, PolicyInputs, PolicyObject, PolicySetRevision, PolicySnapshot,
    ResolvedPolicyReferences,
    compiled_group::{
        CompiledPolicyGroup, FingerprintedPolicy, PolicyCompileTask, fingerprint_with_references,
    },
    policy_inputs::{policy_title, reference_namespace},
};
use crate::{
    api::trust_root::{ConfigMapLookup, TrustRoot},
    core::{
        digest::Digest,
        policy::{EnforcementMode, Policy, PolicyOrigin},
        reason::{ClassifiedError, Reason},
        verify,
    },
};

/// The minimum interval between compilations of one namespace's policies, in the long run. A
/// namespace that changes them constantly waits, without effect on others.
pub const COMPILE_INTERVAL: Duration = Duration::from_secs(1);
/// The number of compilations in a row without a delay: policies, keys and lists are often applied
/// together.
const COMPILE_BURST: u32 = 5;

/// Trust roots by name: each in force, or why it cannot be used.
type TrustRootsByName = BTreeMap<String, Result<CompiledTrustRoot, (Reason, String)>>;

/// Compiles policies, and caches the results.
#[derive(Debug, Default)]
pub struct PolicyCompiler {
    parts: ParsedMaterialCache,
    /// By the address of the shared object, which is kept alive.
    described: BTreeMap<usize, FingerprintedPolicy>,
    /// By namespace; the cluster's under an empty name.
    groups: BTreeMap<String, Arc<CompiledPolicyGroup>>,
    /// When a namespace may be compiled again at the rate of [`COMPILE_INTERVAL`], if that is in
    /// the future.
    next_compile_times: BTreeMap<String, Instant>,
}

/// A trust root in force.
struct CompiledTrustRoot {
    root: Arc<verify::TrustRoot>,
    ends: Option<Timestamp>,
}

impl PolicyCompiler {
    /// Compiles what changed, as of `now`.
    pub fn compile_snapshot(
        &mut self,
        inputs: &PolicyInputs,
        system_namespace: &str,
        now: Timestamp,
    ) -> PolicySnapshot {
        self.compile_changed(inputs, system_namespace, now, None).0
    }

    /// The same, where a namespace that changes constantly has to wait; until then its old policies
    /// stay in force. Returns when the first wait ends.
    pub fn compile_rate_limited(
        &mut self,
        inputs: &PolicyInputs,
        system_namespace: &str,
        now: Timestamp,
        at: Instant,
    ) -> (PolicySnapshot, Option<Instant>) {
        self.next_compile_times
            .retain(|_, next_time| *next_time > at);
        self.compile_changed(inputs, system_namespace, now, Some(at))
    }

    fn compile_changed(
        &mut self,
        inputs: &PolicyInputs,
        system_namespace: &str,
        now: Timestamp,
        at: Option<Instant>,
    ) -> (PolicySnapshot, Option<Instant>) {
        let roots = self.load_trust_roots(inputs, system_namespace, now);
        let (mut described, mut groups, mut turns) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for (kind, objects) in inputs.policies_by_kind() {
            let tasks: Vec<PolicyCompileTask> = objects
                .into_iter()
                .map(|object| self.build_task(object, &kind, inputs, system_namespace, &roots))
                .collect();
            described.extend(tasks.iter().map(|task| {
                (
                    object_address(&task.described.object),
                    task.described.clone(),
                )
            }));
            let print = Digest::of_bytes(
                tasks
                    .iter()
                    .map(|task| task.print.to_string())
                    .collect::<String>()
                    .as_bytes(),
            );
            let name = if let PolicyOrigin::Namespaced(namespace) = &kind {
                namespace.clone()
            } else {
                String::new()
            };
            let old = self.groups.get(&name);
            let group = match (old, self.check_compile_rate(&kind, at)) {
                (Some(old), _) if old.print == print => Arc::clone(old),
                (old, Err(turn)) => {
                    turns.push(turn);
                    old.map_or_else(
                        || Arc::new(CompiledPolicyGroup::deny_all_until_compiled(&tasks)),
                        Arc::clone,
                    )
                }
                (_, Ok(next_time)) => {
                    self.next_compile_times
                        .extend(next_time.map(|next_time| (name.clone(), next_time)));
                    Arc::new(CompiledPolicyGroup::compile_group(
                        &kind,
                        print,
                        &tasks,
                        system_namespace,
                    ))
                }
            };
            groups.insert(name, group);
        }
        (self.described, self.groups) = (described, groups);
        self.parts.evict_unused();
        (self.build_snapshot(inputs, &roots), turns.into_iter().min())
    }

    /// Whether a namespace may be compiled now. If so, its next time; if not, when.
    fn check_compile_rate(
        &self,
        kind: &PolicyOrigin,
        at: Option<Instant>,
    ) -> Result<Option<Instant>, Instant> {
        let (PolicyOrigin::Namespaced(namespace), Some(at)) = (kind, at) else {
            return Ok(None);
        };
        let next_time = self
            .next_compile_times
            .get(namespace)
            .copied()
            .unwrap_or(at)
            .max(at);
        let ahead = COMPILE_INTERVAL * (COMPILE_BURST - 1);
        if next_time <= at + ahead {
            Ok(Some(next_time + COMPILE_INTERVAL))
        } else {
            Err(next_time.checked_sub(ahead).unwrap_or(at))
        }
    }

    fn build_snapshot(&self, inputs: &PolicyInputs, roots: &TrustRootsByName) -> PolicySnapshot {
        let (mut policies, mut prints) = (Vec::new(), Vec::new());
        for (policy, print) in self.groups.values().flat_map(|group| &group.policies) {
            policies.push(policy.clone());
            prints.push(*print);
        }
        for (kind, name) in &inputs.unreadable {
            let fault = "this version of packgate cannot read it; bring packgate and its custom \
                resource definitions to one version";
            policies.push(Policy::new_unusable(
                name,
                kind.clone(),
                0,
                EnforcementMode::Enforce,
                None,
                fault,
            ));
            prints.push(Digest::of_bytes(format!("{kind:?}/{name}").as_bytes()));
        }
        let mut named = BTreeMap::<String, BTreeSet<String>>::new();
        for object in &inputs.policies {
            for root in object.referenced_names().trust_roots {
                named.entry(root).or_default().insert(policy_title(object));
            }
        }
        let ends = roots
            .values()
            .filter_map(|root| root.as_ref().ok()?.ends)
            .min();
        let revision =
            PolicySetRevision::of_policies(self.groups.values().flat_map(|group| &group.objects))
                .to_string();
        let sizes = self
            .groups
            .iter()
            .map(|(name, group)| (name.clone(), group.sizes.clone()))
            .collect();
        PolicySnapshot {
            policies,
            prints,
            revision,
            ends,
            policies_by_trust_root: named,
            sizes,
        }
    }

    /// Every trust root that a policy refers to, or why it cannot be used.
    fn load_trust_roots(
        &self,
        inputs: &PolicyInputs,
        system_namespace: &str,
        now: Timestamp,
    ) -> TrustRootsByName {
        inputs
            .referenced_trust_roots()
            .map(|root| {
                (
                    root.name_any(),
                    self.load_trust_root(root, inputs, system_namespace, now),
                )
            })
            .collect()
    }

    fn load_trust_root(
        &self,
        root: &TrustRoot,
        inputs: &PolicyInputs,
        system_namespace: &str,
        now: Timestamp,
    ) -> Result<CompiledTrustRoot, (Reason, String)> {
        let seen = |name: &str| match inputs
            .config_maps
            .get(&(system_namespace.to_owned(), name.to_owned()))
        {
            None => ConfigMapLookup::Unknown,
            Some(None) => ConfigMapLookup::Absent,
            Some(Some(map)) => ConfigMapLookup::Present(map.data()),
        };
        let found = root
            .find_active_root(seen, now)
            .map_err(|error| (error.reason(), error.to_string()))?;
        let root = self
            .parts
            .get_or_parse_trust_root(found.text)
            .map_err(|error| (error.reason(), error.to_string()))?;
        Ok(CompiledTrustRoot {
            root,
            ends: found.ends,
        })
    }

    fn build_task(
        &self,
        object: &PolicyObject,
        kind: &PolicyOrigin,
        inputs: &PolicyInputs,
        system_namespace: &str,
        roots: &TrustRootsByName,
    ) -> PolicyCompileTask {
        let described = self
            .described
            .get(&object_address(object))
            .cloned()
            .unwrap_or_else(|| FingerprintedPolicy::from_object(object.clone()));
        let (needs, namespace) = (
            object.referenced_names(),
            reference_namespace(kind, system_namespace),
        );
        let mut sources = ResolvedPolicyReferences {
            parts: self.parts.clone(),
            ..ResolvedPolicyReferences::default()
        };
        let mut unknown = None;
        for name in needs.config_maps {
            match inputs
                .config_maps
                .get(&(namespace.to_owned(), name.clone()))
            {
                None => unknown = unknown.or(Some(name)),
                Some(None) => (),
                Some(Some(map)) => drop(sources.config_maps.insert(name, map.clone())),
            }
        }
        for (name, root) in roots
            .iter()
            .filter(|(name, _)| needs.trust_roots.contains(*name))
        {
            match root {
                Ok(root) => drop(
                    sources
                        .trust_roots
                        .insert(name.clone(), Arc::clone(&root.root)),
                ),
                Err(why) => drop(sources.lost_roots.insert(name.clone(), why.clone())),
            }
        }
        let print = fingerprint_with_references(&described, &sources, unknown.as_deref());
        PolicyCompileTask {
            described,
            sources,
            unknown,
            print,
        }
    }
}

impl PolicyInputs {
    /// Compiles everything, as of `now`.
    pub fn compile_snapshot(&self, system_namespace: &str, now: Timestamp) -> PolicySnapshot {
        PolicyCompiler::default().compile_snapshot(self, system_namespace, now)
    }
}

fn object_address(object: &PolicyObject) -> usize {
    match object {
        PolicyObject::Cluster(policy) => Arc::as_ptr(policy).addr(),
        PolicyObject::Namespaced(policy) => Arc::as_ptr(policy).addr(),
    }
}

#[cfg(test)]
mod tests;
