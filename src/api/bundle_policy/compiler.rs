//! Compiles policies again and again, and each time only those of the namespaces in which something
//! changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    Gathered, Parts, PolicyObject, Revision, Snapshot, Sources, Usage,
    gathered::{home, title},
};
use crate::{
    api::trust_root::{Seen, TrustRoot},
    core::{
        class::{Classified, Reason},
        digest::Digest,
        policy::{Kind, Mode, Policy},
        verify,
    },
};

/// How often one namespace's policies are compiled, in the long run. Whoever changes them without
/// pause waits, and nobody else does.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// How many times in a row they are compiled at once: policies, keys and lists are often applied
/// together.
const AT_ONCE: u32 = 5;

/// Trust roots by name: each in force, or why it cannot be used.
type Roots = BTreeMap<String, Result<Root, (Reason, String)>>;

/// Compiles policies, and remembers what it compiled.
#[derive(Debug, Default)]
pub struct Compiler {
    parts: Parts,
    /// By the address of the shared object, which is kept.
    described: BTreeMap<usize, Described>,
    /// By namespace; the cluster's under an empty name.
    groups: BTreeMap<String, Arc<Group>>,
    /// When a namespace would have been compiled at the pace of [`INTERVAL`], if that is still to
    /// come.
    paces: BTreeMap<String, Instant>,
}

/// A policy with what is derived from it once.
#[derive(Clone, Debug)]
struct Described {
    object: PolicyObject,
    /// Of every word of it.
    print: Digest,
    bytes: usize,
}

/// The policies of the cluster, or of a namespace.
#[derive(Debug)]
struct Group {
    /// Of all of it, with everything that it refers to.
    print: Digest,
    /// Each with its print.
    policies: Vec<(Policy, Digest)>,
    /// What they were compiled from.
    objects: Vec<PolicyObject>,
    sizes: BTreeMap<String, usize>,
}

/// A trust root in force.
struct Root {
    root: Arc<verify::TrustRoot>,
    ends: Option<Timestamp>,
}

/// What is compiled: a policy, and what it refers to.
struct Task {
    described: Described,
    sources: Sources,
    /// A `ConfigMap` that was not read yet.
    unknown: Option<String>,
    print: Digest,
}

impl Compiler {
    /// Compiles what changed, as it is at `now`.
    pub fn compile(
        &mut self,
        gathered: &Gathered,
        system_namespace: &str,
        now: Timestamp,
    ) -> Snapshot {
        self.compile_paced(gathered, system_namespace, now, None).0
    }

    /// The same, where a namespace that changes without pause waits for its turn; until then its
    /// policies stay what they were. Says when the first turn comes.
    pub fn compile_at(
        &mut self,
        gathered: &Gathered,
        system_namespace: &str,
        now: Timestamp,
        at: Instant,
    ) -> (Snapshot, Option<Instant>) {
        self.paces.retain(|_, pace| *pace > at);
        self.compile_paced(gathered, system_namespace, now, Some(at))
    }

    fn compile_paced(
        &mut self,
        gathered: &Gathered,
        system_namespace: &str,
        now: Timestamp,
        at: Option<Instant>,
    ) -> (Snapshot, Option<Instant>) {
        let roots = self.roots(gathered, system_namespace, now);
        let (mut described, mut groups, mut turns) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for (kind, objects) in gathered.by_kind() {
            let tasks: Vec<Task> = objects
                .into_iter()
                .map(|object| self.task(object, &kind, gathered, system_namespace, &roots))
                .collect();
            described.extend(
                tasks
                    .iter()
                    .map(|task| (address(&task.described.object), task.described.clone())),
            );
            let print = Digest::of(
                tasks
                    .iter()
                    .map(|task| task.print.to_string())
                    .collect::<String>()
                    .as_bytes(),
            );
            let name = if let Kind::Namespaced(namespace) = &kind {
                namespace.clone()
            } else {
                String::new()
            };
            let old = self.groups.get(&name);
            let group = match (old, self.turn(&kind, at)) {
                (Some(old), _) if old.print == print => Arc::clone(old),
                (old, Err(turn)) => {
                    turns.push(turn);
                    old.map_or_else(|| Arc::new(Group::waiting(&tasks)), Arc::clone)
                }
                (_, Ok(pace)) => {
                    self.paces.extend(pace.map(|pace| (name.clone(), pace)));
                    Arc::new(Group::compile(&kind, print, &tasks, system_namespace))
                }
            };
            groups.insert(name, group);
        }
        (self.described, self.groups) = (described, groups);
        self.parts.forget();
        (self.snapshot(gathered, &roots), turns.into_iter().min())
    }

    /// May a namespace be compiled now? If so, its new pace; if not, when.
    fn turn(&self, kind: &Kind, at: Option<Instant>) -> Result<Option<Instant>, Instant> {
        let (Kind::Namespaced(namespace), Some(at)) = (kind, at) else {
            return Ok(None);
        };
        let pace = self.paces.get(namespace).copied().unwrap_or(at).max(at);
        let ahead = INTERVAL * (AT_ONCE - 1);
        if pace <= at + ahead {
            Ok(Some(pace + INTERVAL))
        } else {
            Err(pace.checked_sub(ahead).unwrap_or(at))
        }
    }

    fn snapshot(&self, gathered: &Gathered, roots: &Roots) -> Snapshot {
        let (mut policies, mut prints) = (Vec::new(), Vec::new());
        for (policy, print) in self.groups.values().flat_map(|group| &group.policies) {
            policies.push(policy.clone());
            prints.push(*print);
        }
        for (kind, name) in &gathered.unreadable {
            let fault = "this version of packgate cannot read it; bring packgate and its custom \
                resource definitions to one version";
            policies.push(Policy::unusable(
                name,
                kind.clone(),
                0,
                Mode::Enforce,
                None,
                fault,
            ));
            prints.push(Digest::of(format!("{kind:?}/{name}").as_bytes()));
        }
        let mut named = BTreeMap::<String, BTreeSet<String>>::new();
        for object in &gathered.policies {
            for root in object.needs().trust_roots {
                named.entry(root).or_default().insert(title(object));
            }
        }
        let ends = roots
            .values()
            .filter_map(|root| root.as_ref().ok()?.ends)
            .min();
        let revision =
            Revision::of(self.groups.values().flat_map(|group| &group.objects)).to_string();
        let sizes = self
            .groups
            .iter()
            .map(|(name, group)| (name.clone(), group.sizes.clone()))
            .collect();
        Snapshot {
            policies,
            prints,
            revision,
            ends,
            named,
            sizes,
        }
    }

    /// Every trust root that a policy names, or why it cannot be used.
    fn roots(&self, gathered: &Gathered, system_namespace: &str, now: Timestamp) -> Roots {
        gathered
            .named_roots()
            .map(|root| {
                (
                    root.name_any(),
                    self.root(root, gathered, system_namespace, now),
                )
            })
            .collect()
    }

    fn root(
        &self,
        root: &TrustRoot,
        gathered: &Gathered,
        system_namespace: &str,
        now: Timestamp,
    ) -> Result<Root, (Reason, String)> {
        let seen = |name: &str| match gathered
            .config_maps
            .get(&(system_namespace.to_owned(), name.to_owned()))
        {
            None => Seen::Unknown,
            Some(None) => Seen::Absent,
            Some(Some(map)) => Seen::There(map.data()),
        };
        let found = root
            .find(seen, now)
            .map_err(|error| (error.reason(), error.to_string()))?;
        let root = self
            .parts
            .root(found.text)
            .map_err(|error| (error.reason(), error.to_string()))?;
        Ok(Root {
            root,
            ends: found.ends,
        })
    }

    fn task(
        &self,
        object: &PolicyObject,
        kind: &Kind,
        gathered: &Gathered,
        system_namespace: &str,
        roots: &Roots,
    ) -> Task {
        let described = self
            .described
            .get(&address(object))
            .cloned()
            .unwrap_or_else(|| Described::of(object.clone()));
        let (needs, namespace) = (object.needs(), home(kind, system_namespace));
        let mut sources = Sources {
            parts: self.parts.clone(),
            ..Sources::default()
        };
        let mut unknown = None;
        for name in needs.config_maps {
            match gathered
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
        let print = fingerprint(&described, &sources, unknown.as_deref());
        Task {
            described,
            sources,
            unknown,
            print,
        }
    }
}

impl Described {
    fn of(object: PolicyObject) -> Self {
        let content = object.content();
        Self {
            print: Digest::of(content.as_bytes()),
            bytes: content.len(),
            object,
        }
    }
}

impl Group {
    /// Compiles all of them, or none if they are too much together.
    fn compile(kind: &Kind, print: Digest, tasks: &[Task], system_namespace: &str) -> Self {
        let usage = Usage::of(kind);
        let counted = tasks.iter().try_for_each(|task| {
            usage.count(&task.described.object, task.described.bytes, &task.sources)
        });
        let mut policies = Vec::new();
        for task in tasks
            .iter()
            .take_while(|_| counted.is_ok() && usage.excess().is_none())
        {
            let object = &task.described.object;
            let policy = match &task.unknown {
                Some(name) => object.unusable(format!(
                    "its ConfigMap {}/{name} was not read yet; try again",
                    home(kind, system_namespace)
                )),
                None => object.compile_or_refuse(&Sources {
                    usage: usage.clone(),
                    ..task.sources.clone()
                }),
            };
            policies.push((policy, task.print));
        }
        if let Some(excess) = usage.excess() {
            let refusing = |task: &Task| {
                (
                    task.described
                        .object
                        .unusable(&excess)
                        .for_reason(Reason::LimitExceeded),
                    task.print,
                )
            };
            policies = tasks.iter().map(refusing).collect();
        }
        // Of what was not read yet nobody says that it is in force.
        let known = tasks.iter().filter(|task| task.unknown.is_none());
        Self {
            print,
            policies,
            objects: known.map(|task| task.described.object.clone()).collect(),
            sizes: sizes(tasks),
        }
    }

    /// While it is not their turn they refuse all that they govern.
    fn waiting(tasks: &[Task]) -> Self {
        let refusing = |task: &Task| {
            let why = "the policies of its namespace change too often; it is compiled in a moment";
            (
                task.described
                    .object
                    .unusable(why)
                    .for_reason(Reason::LimitExceeded),
                task.print,
            )
        };
        Self {
            print: Digest::of(b"waiting"),
            policies: tasks.iter().map(refusing).collect(),
            objects: Vec::new(),
            sizes: sizes(tasks),
        }
    }
}

fn sizes(tasks: &[Task]) -> BTreeMap<String, usize> {
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

fn address(object: &PolicyObject) -> usize {
    match object {
        PolicyObject::Cluster(policy) => Arc::as_ptr(policy).addr(),
        PolicyObject::Namespaced(policy) => Arc::as_ptr(policy).addr(),
    }
}

/// Of every word of the policy, and everything that it refers to.
fn fingerprint(described: &Described, sources: &Sources, unknown: Option<&str>) -> Digest {
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
    Digest::of(all.to_string().as_bytes())
}

#[cfg(test)]
mod tests;
