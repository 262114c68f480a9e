//! The policy of a report: its kind, namespace and name. The name alone is not unique, and tenants
//! can choose it.

use serde::Serialize;

use crate::core::policy::PolicyOrigin;

use super::{DenialReport, PolicyReport};

/// The kind of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum PolicyKind {
    /// A cluster policy.
    ClusterBundlePolicy,
    /// A namespace's policy.
    BundlePolicy,
}

impl PolicyReport {
    /// The policy with its kind and namespace, for messages: `BundlePolicy team-a/own`.
    pub fn title(&self) -> String {
        format_policy_title(self.kind, self.namespace.as_deref(), &self.name)
    }
}

impl DenialReport {
    /// The policy that denies, with its kind and namespace, for messages.
    pub fn policy_title(&self) -> Option<String> {
        self.policy.as_ref().map(|name| {
            format_policy_title(self.policy_kind, self.policy_namespace.as_deref(), name)
        })
    }

    /// True if this policy denies.
    pub fn is_by_policy(&self, policy: &PolicyReport) -> bool {
        (
            self.policy.as_ref(),
            self.policy_kind,
            &self.policy_namespace,
        ) == (Some(&policy.name), policy.kind, &policy.namespace)
    }
}

fn format_policy_title(kind: Option<PolicyKind>, namespace: Option<&str>, name: &str) -> String {
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

pub(super) const fn policy_kind_of(kind: &PolicyOrigin) -> Option<PolicyKind> {
    match kind {
        PolicyOrigin::Cluster => Some(PolicyKind::ClusterBundlePolicy),
        PolicyOrigin::Namespaced(_) => Some(PolicyKind::BundlePolicy),
        PolicyOrigin::AdHoc => None,
    }
}

pub(super) fn policy_namespace_of(kind: &PolicyOrigin) -> Option<String> {
    if let PolicyOrigin::Namespaced(namespace) = kind {
        Some(namespace.clone())
    } else {
        None
    }
}
