//! From everything that a cluster holds to the policies in force, as a pure function: the webhook, the controller and the command line come to
//! the same.
//!
//! A policy that is there counts, whatever is wrong with it: one that cannot be read, or whose key is missing, refuses all that it governs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use kube::ResourceExt;

use super::{PolicyObject, Sources, revision};
use crate::{
    api::trust_root::{Seen, TrustRoot},
    core::{
        class::{Classified, Reason},
        digest::Digest,
        limits::Limits,
        policy::{Kind, Mode, Policy, Scope},
        verify,
    },
};

/// Namespace and name.
pub type Name = (String, String);

/// All policies at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    policies: Vec<Policy>,
    /// Of each policy, with everything that it refers to.
    prints: Vec<Digest>,
    revision: String,
    /// When the first trust root in use may not be used any longer.
    ends: Option<Timestamp>,
    /// Who names which trust root.
    named: BTreeMap<String, BTreeSet<String>>,
}

/// What the cluster holds, as far as policies need it.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Policies.
    pub policies: Vec<PolicyObject>,
    /// Policies that cannot be read: whose they are and what they are called.
    pub unreadable: Vec<(Kind, String)>,
    /// Trust roots.
    pub trust_roots: Vec<TrustRoot>,
    /// `ConfigMap`s that were looked for; `None` for those that are not there.
    pub config_maps: BTreeMap<Name, Option<BTreeMap<String, String>>>,
}

impl Snapshot {
    /// The policies.
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// Which set of policies this is.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Until when it holds, if time alone ends it: then everything is to be compiled again.
    pub const fn ends(&self) -> Option<Timestamp> {
        self.ends
    }

    /// The policies that name a trust root, as people name them.
    pub fn naming(&self, trust_root: &str) -> impl Iterator<Item = &str> {
        self.named.get(trust_root).into_iter().flatten().map(String::as_str)
    }

    /// The content of the policies that govern a use, as digests.
    pub fn fingerprints(&self, scope: &Scope<'_>) -> Vec<Digest> {
        let governing = self.policies.iter().zip(&self.prints).filter(|(policy, _)| policy.concerns(scope));
        governing.map(|(_, print)| *print).collect()
    }
}

impl Gathered {
    /// The `ConfigMap`s that policies and the trust roots in use name.
    pub fn needed(&self, system_namespace: &str) -> BTreeSet<Name> {
        let keys = self.policies.iter().flat_map(|policy| {
            let namespace = home(policy, system_namespace).to_owned();
            policy.needs().config_maps.into_iter().map(move |name| (namespace.clone(), name))
        });
        let roots = self.named_roots().flat_map(TrustRoot::config_maps).map(|name| (system_namespace.to_owned(), name));
        keys.chain(roots).collect()
    }

    /// Compiles everything, as it is at `now`.
    pub fn compile(&self, system_namespace: &str, now: Timestamp) -> Snapshot {
        let roots = self.roots(system_namespace, now);
        let (mut policies, mut prints, mut named) = (Vec::new(), Vec::new(), BTreeMap::<String, BTreeSet<String>>::new());
        for object in &self.policies {
            let (policy, print) = self.compile_one(object, system_namespace, &roots);
            policies.push(policy);
            prints.push(print);
            for root in object.needs().trust_roots {
                named.entry(root).or_default().insert(title(object));
            }
        }
        for (kind, name) in &self.unreadable {
            let fault = "this version of packgate cannot read it; bring packgate and its custom resource definitions to one version";
            policies.push(Policy::unusable(name, kind.clone(), 0, Mode::Enforce, None, fault));
            prints.push(Digest::of(format!("{kind:?}/{name}").as_bytes()));
        }
        let ends = roots.values().filter_map(|root| root.as_ref().ok()?.ends).min();
        Snapshot { policies, prints, revision: revision(&self.policies), ends, named }
    }

    /// Every trust root that a policy names, or why it cannot be used.
    fn roots(&self, system_namespace: &str, now: Timestamp) -> BTreeMap<String, Result<Root, (Reason, String)>> {
        self.named_roots().map(|root| (root.name_any(), self.root(root, system_namespace, now))).collect()
    }

    /// The trust roots that a policy names.
    fn named_roots(&self) -> impl Iterator<Item = &TrustRoot> {
        let named: BTreeSet<String> = self.policies.iter().flat_map(|policy| policy.needs().trust_roots).collect();
        self.trust_roots.iter().filter(move |root| named.contains(&root.name_any()))
    }

    fn root(&self, root: &TrustRoot, system_namespace: &str, now: Timestamp) -> Result<Root, (Reason, String)> {
        let seen = |name: &str| match self.config_maps.get(&(system_namespace.to_owned(), name.to_owned())) {
            None => Seen::Unknown,
            Some(None) => Seen::Absent,
            Some(Some(data)) => Seen::There(data),
        };
        let found = root.find(seen, now).map_err(|error| (error.reason(), error.to_string()))?;
        let root = verify::TrustRoot::parse(found.text.as_bytes(), &Limits::DEFAULT).map_err(|error| (error.reason(), error.to_string()))?;
        Ok(Root { root: Arc::new(root), ends: found.ends })
    }

    fn compile_one(
        &self,
        object: &PolicyObject,
        system_namespace: &str,
        roots: &BTreeMap<String, Result<Root, (Reason, String)>>,
    ) -> (Policy, Digest) {
        let needs = object.needs();
        let namespace = home(object, system_namespace);
        let map = |name: &str| self.config_maps.get(&(namespace.to_owned(), name.to_owned()));
        let unknown = needs.config_maps.iter().find(|name| map(name).is_none());
        let mut sources = Sources::default();
        for name in &needs.config_maps {
            if let Some(Some(data)) = map(name) {
                sources.config_maps.insert(name.clone(), data.clone());
            }
        }
        for (name, root) in roots.iter().filter(|(name, _)| needs.trust_roots.contains(*name)) {
            match root {
                Ok(root) => drop(sources.trust_roots.insert(name.clone(), Arc::clone(&root.root))),
                Err(why) => drop(sources.lost_roots.insert(name.clone(), why.clone())),
            }
        }
        let print = fingerprint(object, &sources);
        let policy = match unknown {
            Some(name) => object.unusable(format!("its ConfigMap {namespace}/{name} was not read yet; try again")),
            None => object.compile_or_refuse(&sources),
        };
        (policy, print)
    }
}

/// A trust root in force.
struct Root {
    root: Arc<verify::TrustRoot>,
    ends: Option<Timestamp>,
}

/// A policy as people name it.
fn title(object: &PolicyObject) -> String {
    match object {
        PolicyObject::Cluster(_) => format!("ClusterBundlePolicy {}", object.name()),
        PolicyObject::Namespaced(policy) => format!("BundlePolicy {}/{}", policy.metadata.namespace.as_deref().unwrap_or_default(), object.name()),
    }
}

/// The namespace that a policy's references are those of.
fn home<'a>(policy: &'a PolicyObject, system_namespace: &'a str) -> &'a str {
    match policy {
        PolicyObject::Cluster(_) => system_namespace,
        PolicyObject::Namespaced(policy) => policy.metadata.namespace.as_deref().unwrap_or_default(),
    }
}

/// Of the object itself, every word of what it says, and everything that it refers to.
fn fingerprint(object: &PolicyObject, sources: &Sources) -> Digest {
    let metadata = object.metadata();
    let spec = match object {
        PolicyObject::Cluster(policy) => serde_json::to_value(&policy.spec),
        PolicyObject::Namespaced(policy) => serde_json::to_value(&policy.spec),
    };
    let Sources { config_maps, trust_roots, lost_roots } = sources;
    let roots: BTreeMap<&str, Digest> = trust_roots.iter().map(|(name, root)| (name.as_str(), root.digest())).collect();
    let all = serde_json::json!([metadata.namespace, metadata.name, metadata.uid, metadata.generation, spec.ok(), config_maps, roots, lost_roots]);
    Digest::of(all.to_string().as_bytes())
}
