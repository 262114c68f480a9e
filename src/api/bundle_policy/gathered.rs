//! From everything that a cluster holds to the policies in force, as a pure function: the webhook,
//! the controller and the command line come to the same.
//!
//! A policy that is there counts, whatever is wrong with it: one that cannot be read, or whose key
//! is missing, refuses all that it governs.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kube::ResourceExt;

use super::{Budget, Compiler, ConfigMapData, PolicyObject};
use crate::{
    api::trust_root::TrustRoot,
    core::{
        digest::Digest,
        policy::{Kind, Policy, Scope},
    },
};

/// Namespace and name.
pub type Name = (String, String);

/// All policies at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub(super) policies: Vec<Policy>,
    /// Of each policy, with everything that it refers to.
    pub(super) prints: Vec<Digest>,
    pub(super) revision: String,
    /// When the first trust root in use may not be used any longer.
    pub(super) ends: Option<Timestamp>,
    /// Who names which trust root.
    pub(super) named: BTreeMap<String, BTreeSet<String>>,
    /// How many policies a namespace has, and how long each is; those of the cluster under an empty
    /// name.
    pub(super) sizes: BTreeMap<String, BTreeMap<String, usize>>,
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
    pub config_maps: BTreeMap<Name, Option<ConfigMapData>>,
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

    /// How long the policies of a namespace are, by name; of the cluster, for an empty namespace.
    pub fn sizes(&self, namespace: &str) -> Option<&BTreeMap<String, usize>> {
        self.sizes.get(namespace)
    }

    /// The policies that name a trust root, as people name them.
    pub fn naming(&self, trust_root: &str) -> impl Iterator<Item = &str> {
        self.named
            .get(trust_root)
            .into_iter()
            .flatten()
            .map(String::as_str)
    }

    /// The content of the policies that govern a use, as digests.
    pub fn fingerprints(&self, scope: &Scope<'_>) -> Vec<Digest> {
        let governing = self
            .policies
            .iter()
            .zip(&self.prints)
            .filter(|(policy, _)| policy.concerns(scope));
        governing.map(|(_, print)| *print).collect()
    }
}

impl Gathered {
    /// The `ConfigMap`s that policies and the trust roots in use name. Those of a namespace that
    /// has too many of anything are not needed: its policies are not compiled.
    pub fn needed(&self, system_namespace: &str) -> BTreeSet<Name> {
        let mut needed: BTreeSet<Name> = self
            .named_roots()
            .flat_map(TrustRoot::config_maps)
            .map(|name| (system_namespace.to_owned(), name))
            .collect();
        for (kind, policies) in self.by_kind() {
            let budget = Budget::of(&kind);
            let authorities: usize = policies
                .iter()
                .map(|policy| policy.authorities().len())
                .sum();
            let namespace = home(&kind, system_namespace);
            let names: BTreeSet<String> = policies
                .iter()
                .flat_map(|policy| policy.needs().config_maps)
                .collect();
            if policies.len() <= budget.policies
                && authorities <= budget.authorities
                && names.len() <= budget.config_maps
            {
                needed.extend(names.into_iter().map(|name| (namespace.to_owned(), name)));
            }
        }
        needed
    }

    /// Compiles everything, as it is at `now`.
    pub fn compile(&self, system_namespace: &str, now: Timestamp) -> Snapshot {
        Compiler::default().compile(self, system_namespace, now)
    }

    /// The policies of the cluster, and of each namespace.
    pub(super) fn by_kind(&self) -> Vec<(Kind, Vec<&PolicyObject>)> {
        let (mut cluster, mut namespaces) =
            (Vec::new(), BTreeMap::<String, Vec<&PolicyObject>>::new());
        for policy in &self.policies {
            match policy {
                PolicyObject::Cluster(_) => cluster.push(policy),
                PolicyObject::Namespaced(own) => namespaces
                    .entry(own.metadata.namespace.clone().unwrap_or_default())
                    .or_default()
                    .push(policy),
            }
        }
        let namespaces = namespaces
            .into_iter()
            .map(|(namespace, policies)| (Kind::Namespaced(namespace), policies));
        std::iter::once((Kind::Cluster, cluster))
            .chain(namespaces)
            .collect()
    }

    /// The trust roots that a policy names.
    pub(super) fn named_roots(&self) -> impl Iterator<Item = &TrustRoot> {
        let named: BTreeSet<String> = self
            .policies
            .iter()
            .flat_map(|policy| policy.needs().trust_roots)
            .collect();
        self.trust_roots
            .iter()
            .filter(move |root| named.contains(&root.name_any()))
    }
}

/// A policy as people name it.
pub(super) fn title(object: &PolicyObject) -> String {
    match object {
        PolicyObject::Cluster(_) => format!("ClusterBundlePolicy {}", object.name()),
        PolicyObject::Namespaced(policy) => format!(
            "BundlePolicy {}/{}",
            policy.metadata.namespace.as_deref().unwrap_or_default(),
            object.name()
        ),
    }
}

/// The namespace that a policy's references are those of.
pub(super) fn home<'a>(kind: &'a Kind, system_namespace: &'a str) -> &'a str {
    match kind {
        Kind::Cluster | Kind::AdHoc => system_namespace,
        Kind::Namespaced(namespace) => namespace,
    }
}
