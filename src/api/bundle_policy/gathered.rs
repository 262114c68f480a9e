//! From everything that a cluster holds to the policies in force, as a pure function: the webhook, the controller and the command line come to
//! the same.
//!
//! A policy that is there counts, whatever is wrong with it: one that cannot be read, or whose key is missing, refuses all that it governs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kube::ResourceExt;

use super::{PolicyObject, Sources, revision};
use crate::{
    api::trust_root::{TRUSTED_ROOT_KEY, TrustRoot},
    core::{
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

    /// The content of the policies that govern a use, as digests.
    pub fn fingerprints(&self, scope: &Scope<'_>) -> Vec<Digest> {
        let governing = self.policies.iter().zip(&self.prints).filter(|(policy, _)| policy.concerns(scope));
        governing.map(|(_, print)| *print).collect()
    }
}

impl Gathered {
    /// The `ConfigMap`s that policies and trust roots name.
    pub fn needed(&self, system_namespace: &str) -> BTreeSet<Name> {
        let keys = self.policies.iter().flat_map(|policy| {
            let namespace = home(policy, system_namespace).to_owned();
            policy.needs().config_maps.into_iter().map(move |name| (namespace.clone(), name))
        });
        let roots = self.trust_roots.iter().filter_map(|root| Some((system_namespace.to_owned(), root.config_map()?.to_owned())));
        keys.chain(roots).collect()
    }

    /// Compiles everything.
    pub fn compile(&self, system_namespace: &str) -> Snapshot {
        let (mut policies, mut prints) = (Vec::new(), Vec::new());
        for object in &self.policies {
            let (policy, print) = self.compile_one(object, system_namespace);
            policies.push(policy);
            prints.push(print);
        }
        for (kind, name) in &self.unreadable {
            let fault = "this version of packgate cannot read it; bring packgate and its custom resource definitions to one version";
            policies.push(Policy::unusable(name, kind.clone(), 0, Mode::Enforce, None, fault));
            prints.push(Digest::of(format!("{kind:?}/{name}").as_bytes()));
        }
        Snapshot { policies, prints, revision: revision(&self.policies) }
    }

    fn compile_one(&self, object: &PolicyObject, system_namespace: &str) -> (Policy, Digest) {
        let needs = object.needs();
        let namespace = home(object, system_namespace);
        let map = |namespace: &str, name: &str| self.config_maps.get(&(namespace.to_owned(), name.to_owned()));
        let unknown = needs.config_maps.iter().find(|name| map(namespace, name).is_none());
        let mut config_maps = BTreeMap::new();
        for name in &needs.config_maps {
            if let Some(Some(data)) = map(namespace, name) {
                config_maps.insert(name.clone(), data.clone());
            }
        }
        let roots = self.trust_roots.iter().filter(|root| needs.trust_roots.contains(&root.name_any()));
        let texts: BTreeMap<String, String> = roots
            .filter_map(|root| {
                let data = map(system_namespace, root.config_map()?)?.as_ref()?;
                Some((root.name_any(), data.get(TRUSTED_ROOT_KEY)?.clone()))
            })
            .collect();
        let print = fingerprint(object, &config_maps, &texts);
        let parsed = texts.iter().filter_map(|(name, text)| {
            let root = verify::TrustRoot::parse(text.as_bytes(), &Limits::DEFAULT).ok()?;
            Some((name.clone(), Arc::new(root)))
        });
        let sources = Sources { config_maps, trust_roots: parsed.collect() };
        let policy = match unknown {
            Some(name) => object.unusable(format!("its ConfigMap {namespace}/{name} was not read yet; try again")),
            None => object.compile_or_refuse(&sources),
        };
        (policy, print)
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
fn fingerprint(object: &PolicyObject, config_maps: &BTreeMap<String, BTreeMap<String, String>>, roots: &BTreeMap<String, String>) -> Digest {
    let metadata = object.metadata();
    let spec = match object {
        PolicyObject::Cluster(policy) => serde_json::to_value(&policy.spec),
        PolicyObject::Namespaced(policy) => serde_json::to_value(&policy.spec),
    };
    let all = serde_json::json!([metadata.namespace, metadata.name, metadata.uid, metadata.generation, spec.ok(), config_maps, roots]);
    Digest::of(all.to_string().as_bytes())
}
