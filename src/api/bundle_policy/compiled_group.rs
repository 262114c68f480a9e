//! The policies of the cluster, or of a namespace, compiled together.

use std::collections::BTreeMap;

use super::{
    PolicyObject, PolicyQuotaUsage, ResolvedPolicyReferences, policy_inputs::reference_namespace,
};
use crate::core::{
    digest::Digest,
    policy::{Policy, PolicyOrigin},
    reason::Reason,
};

/// A policy with its fingerprint, which is computed once.
#[derive(Clone, Debug)]
pub(super) struct FingerprintedPolicy {
    pub object: PolicyObject,
    /// Over its whole content.
    pub print: Digest,
    pub bytes: usize,
}

/// The policies of the cluster, or of a namespace.
#[derive(Debug)]
pub(super) struct CompiledPolicyGroup {
    /// The fingerprint of all of it, with everything that it refers to.
    pub print: Digest,
    /// Each with the fingerprint of its content.
    pub policies: Vec<(Policy, Digest)>,
    /// The objects that they were compiled from.
    pub objects: Vec<PolicyObject>,
    pub sizes: BTreeMap<String, usize>,
}

/// A policy to compile, and the objects that it refers to.
pub(super) struct PolicyCompileTask {
    pub described: FingerprintedPolicy,
    pub sources: ResolvedPolicyReferences,
    /// A `ConfigMap` that was not read yet.
    pub unknown: Option<String>,
    pub print: Digest,
}

impl FingerprintedPolicy {
    /// Computes the fingerprint.
    pub(super) fn from_object(object: PolicyObject) -> Self {
        let content = object.canonical_json();
        Self {
            print: Digest::of_bytes(content.as_bytes()),
            bytes: content.len(),
            object,
        }
    }
}

impl CompiledPolicyGroup {
    /// Compiles all of them, or none if they exceed the quota together.
    pub(super) fn compile_group(
        kind: &PolicyOrigin,
        print: Digest,
        tasks: &[PolicyCompileTask],
        system_namespace: &str,
    ) -> Self {
        let usage = PolicyQuotaUsage::for_kind(kind);
        let counted = tasks.iter().try_for_each(|task| {
            let (object, maps) = (&task.described.object, &task.sources.config_maps);
            usage.count_policy(object, task.described.bytes, maps)
        });
        let mut policies = Vec::new();
        for task in tasks
            .iter()
            .take_while(|_| counted.is_ok() && usage.exceeded_limit().is_none())
        {
            let object = &task.described.object;
            let policy = match &task.unknown {
                Some(name) => object.to_deny_all_policy(format!(
                    "its ConfigMap {}/{name} was not read yet; try again",
                    reference_namespace(kind, system_namespace)
                )),
                None => object.compile_or_deny_all(&ResolvedPolicyReferences {
                    usage: usage.clone(),
                    ..task.sources.clone()
                }),
            };
            policies.push((policy, task.print));
        }
        if let Some(excess) = usage.exceeded_limit() {
            let refusing = |task: &PolicyCompileTask| {
                (
                    task.described
                        .object
                        .to_deny_all_policy(&excess)
                        .with_fault_reason(Reason::LimitExceeded),
                    task.print,
                )
            };
            policies = tasks.iter().map(refusing).collect();
        }
        // A policy that was not read yet is not reported as in force.
        let known = tasks.iter().filter(|task| task.unknown.is_none());
        Self {
            print,
            policies,
            objects: known.map(|task| task.described.object.clone()).collect(),
            sizes: policy_sizes(tasks),
        }
    }

    /// Until they are compiled they deny every use that they govern.
    pub(super) fn deny_all_until_compiled(tasks: &[PolicyCompileTask]) -> Self {
        let refusing = |task: &PolicyCompileTask| {
            let why = "the policies of its namespace change too often (rate limit); it is compiled shortly";
            (
                task.described
                    .object
                    .to_deny_all_policy(why)
                    .with_fault_reason(Reason::LimitExceeded),
                task.print,
            )
        };
        Self {
            print: Digest::of_bytes(b"waiting"),
            policies: tasks.iter().map(refusing).collect(),
            objects: Vec::new(),
            sizes: policy_sizes(tasks),
        }
    }
}

fn policy_sizes(tasks: &[PolicyCompileTask]) -> BTreeMap<String, usize> {
    tasks
        .iter()
        .map(|task| {
            (
                task.described.object.name().to_owned(),
                task.described.bytes,
            )
        })
        .collect()
}

/// Over the whole policy, and everything that it refers to.
pub(super) fn fingerprint_with_references(
    described: &FingerprintedPolicy,
    sources: &ResolvedPolicyReferences,
    unknown: Option<&str>,
) -> Digest {
    let maps: BTreeMap<&str, Digest> = sources
        .config_maps
        .iter()
        .map(|(name, map)| (name.as_str(), map.digest()))
        .collect();
    let roots: BTreeMap<&str, Digest> = sources
        .trust_roots
        .iter()
        .map(|(name, root)| (name.as_str(), root.digest()))
        .collect();
    let all = serde_json::json!([described.print, maps, roots, sources.lost_roots, unknown]);
    Digest::of_bytes(all.to_string().as_bytes())
}
