//! Computes the policies in force from the objects of a cluster, as a pure function: the webhook,
//! the controller and the command line get the same result.
//!
//! Every existing policy counts, even an invalid one: a policy that cannot be parsed, or whose key
//! is missing, denies every use that it governs.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kube::ResourceExt;

use super::{ConfigMapData, PolicyObject, PolicyQuota};
use crate::{
    api::trust_root::TrustRoot,
    core::{
        digest::Digest,
        policy::{Policy, PolicyOrigin, ReferenceUseScope},
    },
};

/// Namespace and name.
pub type NamespacedName = (String, String);

/// All policies at one moment.
#[derive(Debug, Default)]
pub struct PolicySnapshot {
    pub(super) policies: Vec<Policy>,
    /// The fingerprint of each policy, with everything that it refers to.
    pub(super) prints: Vec<Digest>,
    pub(super) revision: String,
    /// When the first trust root in use expires for good.
    pub(super) ends: Option<Timestamp>,
    /// The policies that refer to each trust root.
    pub(super) policies_by_trust_root: BTreeMap<String, BTreeSet<String>>,
    /// The number of policies of each namespace and their sizes; the cluster's under an empty name.
    pub(super) sizes: BTreeMap<String, BTreeMap<String, usize>>,
}

/// The objects of the cluster that policies depend on.
#[derive(Debug, Default)]
pub struct PolicyInputs {
    /// The policy objects.
    pub policies: Vec<PolicyObject>,
    /// Policies that cannot be parsed: their origin and name.
    pub unreadable: Vec<(PolicyOrigin, String)>,
    /// The trust roots.
    pub trust_roots: Vec<TrustRoot>,
    /// `ConfigMap`s that were read; `None` for those that do not exist.
    pub config_maps: BTreeMap<NamespacedName, Option<ConfigMapData>>,
}

impl PolicySnapshot {
    /// The policies.
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// The revision of this set of policies.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// When the snapshot expires, if time alone can change it: then everything has to be compiled
    /// again.
    pub const fn valid_until(&self) -> Option<Timestamp> {
        self.ends
    }

    /// The sizes of a namespace's policies, by name; of the cluster's for an empty namespace.
    pub fn policy_sizes(&self, namespace: &str) -> Option<&BTreeMap<String, usize>> {
        self.sizes.get(namespace)
    }

    /// The policies that refer to a trust root, by their titles.
    pub fn policies_naming_trust_root(&self, trust_root: &str) -> impl Iterator<Item = &str> {
        self.policies_by_trust_root
            .get(trust_root)
            .into_iter()
            .flatten()
            .map(String::as_str)
    }

    /// Fingerprints of the policies that govern a use.
    pub fn governing_fingerprints(&self, scope: &ReferenceUseScope<'_>) -> Vec<Digest> {
        let governing = self
            .policies
            .iter()
            .zip(&self.prints)
            .filter(|(policy, _)| policy.governs_scope(scope));
        governing.map(|(_, print)| *print).collect()
    }
}

impl PolicyInputs {
    /// The `ConfigMap`s that policies and the trust roots in use refer to. Those of a namespace
    /// over its quota are not needed: its policies are not compiled.
    pub fn needed_config_maps(&self, system_namespace: &str) -> BTreeSet<NamespacedName> {
        let mut needed: BTreeSet<NamespacedName> = self
            .referenced_trust_roots()
            .flat_map(TrustRoot::config_map_names)
            .map(|name| (system_namespace.to_owned(), name))
            .collect();
        for (kind, policies) in self.policies_by_kind() {
            let budget = PolicyQuota::for_kind(&kind);
            let authorities: usize = policies
                .iter()
                .map(|policy| policy.authorities().len())
                .sum();
            let namespace = reference_namespace(&kind, system_namespace);
            let names: BTreeSet<String> = policies
                .iter()
                .flat_map(|policy| policy.referenced_names().config_maps)
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

    /// The policies of the cluster, and of each namespace.
    pub(super) fn policies_by_kind(&self) -> Vec<(PolicyOrigin, Vec<&PolicyObject>)> {
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
            .map(|(namespace, policies)| (PolicyOrigin::Namespaced(namespace), policies));
        std::iter::once((PolicyOrigin::Cluster, cluster))
            .chain(namespaces)
            .collect()
    }

    /// The trust roots that a policy refers to.
    pub(super) fn referenced_trust_roots(&self) -> impl Iterator<Item = &TrustRoot> {
        let named: BTreeSet<String> = self
            .policies
            .iter()
            .flat_map(|policy| policy.referenced_names().trust_roots)
            .collect();
        self.trust_roots
            .iter()
            .filter(move |root| named.contains(&root.name_any()))
    }
}

/// A policy's name for messages.
pub(super) fn policy_title(object: &PolicyObject) -> String {
    match object {
        PolicyObject::Cluster(_) => format!("ClusterBundlePolicy {}", object.name()),
        PolicyObject::Namespaced(policy) => format!(
            "BundlePolicy {}/{}",
            policy.metadata.namespace.as_deref().unwrap_or_default(),
            object.name()
        ),
    }
}

/// The namespace in which a policy's references are resolved.
pub(super) fn reference_namespace<'a>(
    kind: &'a PolicyOrigin,
    system_namespace: &'a str,
) -> &'a str {
    match kind {
        PolicyOrigin::Cluster | PolicyOrigin::AdHoc => system_namespace,
        PolicyOrigin::Namespaced(namespace) => namespace,
    }
}
