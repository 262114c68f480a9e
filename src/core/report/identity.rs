//! Which policy a report speaks of: its kind, its namespace and its name. The name alone is
//! whatever somebody chose.

use serde::{Deserialize, Serialize};

use crate::core::policy::Kind;

use super::{DenialReport, PolicyReport};

/// The kind of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PolicyKind {
    /// Of the cluster.
    ClusterBundlePolicy,
    /// Of a namespace.
    BundlePolicy,
}

impl PolicyReport {
    /// The policy with its kind and namespace, for people: `BundlePolicy team-a/own`.
    pub fn title(&self) -> String {
        title(self.kind, self.namespace.as_deref(), &self.name)
    }
}

impl DenialReport {
    /// The policy that asks for it with its kind and namespace, for people.
    pub fn policy_title(&self) -> Option<String> {
        self.policy
            .as_ref()
            .map(|name| title(self.policy_kind, self.policy_namespace.as_deref(), name))
    }

    /// Is it this policy that asks for it?
    pub fn is_by(&self, policy: &PolicyReport) -> bool {
        (
            self.policy.as_ref(),
            self.policy_kind,
            &self.policy_namespace,
        ) == (Some(&policy.name), policy.kind, &policy.namespace)
    }
}

fn title(kind: Option<PolicyKind>, namespace: Option<&str>, name: &str) -> String {
    let kind = match kind {
        None => return name.to_owned(),
        Some(PolicyKind::ClusterBundlePolicy) => "ClusterBundlePolicy",
        Some(PolicyKind::BundlePolicy) => "BundlePolicy",
    };
    namespace.map_or_else(
        || format!("{kind} {name}"),
        |namespace| format!("{kind} {namespace}/{name}"),
    )
}

pub(super) const fn kind(kind: &Kind) -> Option<PolicyKind> {
    match kind {
        Kind::Cluster => Some(PolicyKind::ClusterBundlePolicy),
        Kind::Namespaced(_) => Some(PolicyKind::BundlePolicy),
        Kind::AdHoc => None,
    }
}

pub(super) fn namespace(kind: &Kind) -> Option<String> {
    if let Kind::Namespaced(namespace) = kind {
        Some(namespace.clone())
    } else {
        None
    }
}
