//! What a report says of each policy, and of each denial. A policy is its kind, namespace and name: the
//! name alone is not unique, and tenants can choose it.

use serde::Serialize;

use super::outcome::ReportOutcome;
use crate::core::{
    policy::{
        AuthorityFinding, Denial, EnforcementMode, LockRule, PolicyOrigin, PolicyVerdict,
        SlsaFinding,
    },
    reason::{Class, Reason},
    verify::{SigningTime, StoredSignatureFormat},
};

/// The verdict of one policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyReport {
    /// Its name, which alone does not identify it: a namespace's policy may have the name of a
    /// cluster policy.
    pub name: String,
    /// `ClusterBundlePolicy` or `BundlePolicy`. Absent for flags of the command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<PolicyKind>,
    /// The namespace of a `BundlePolicy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its `metadata.generation`.
    pub generation: i64,
    /// What happens with its denials.
    pub mode: EnforcementMode,
    /// The verdict.
    pub verdict: ReportOutcome,
    /// The findings for each of its authorities.
    pub authorities: Vec<AuthorityReport>,
    /// What the provenance proves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slsa: Option<SlsaReport>,
}

/// Whether an authority's signature was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorityReport {
    /// The authority's name in the policy.
    pub name: String,
    /// True if it has a signature that counts.
    pub verified: bool,
    /// How that signature is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<StoredSignatureFormat>,
    /// A key's fingerprint, or an identity with its issuer in parentheses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// The signing time, by the evidence of a third party.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<jiff::Timestamp>,
}

/// What the SLSA provenance proves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SlsaReport {
    /// The builder id.
    pub builder: String,
    /// The SLSA Build level that the policy gives that builder.
    pub level: u8,
    /// `Exact` if the dependencies are those of the lock in the bundle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock: Option<LockRule>,
}

/// One reason for a denial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DenialReport {
    /// The stable reason code.
    pub reason: Reason,
    /// The class of the failure.
    pub class: Class,
    /// What is missing, and how to resolve it.
    pub message: String,
    /// The name of the policy that denies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The kind of that policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_kind: Option<PolicyKind>,
    /// The namespace of that policy, if it is a `BundlePolicy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_namespace: Option<String>,
    /// The authority that the denial is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// The field of an object that the denial is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

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

const fn policy_kind_of(kind: &PolicyOrigin) -> Option<PolicyKind> {
    match kind {
        PolicyOrigin::Cluster => Some(PolicyKind::ClusterBundlePolicy),
        PolicyOrigin::Namespaced(_) => Some(PolicyKind::BundlePolicy),
        PolicyOrigin::AdHoc => None,
    }
}

fn policy_namespace_of(kind: &PolicyOrigin) -> Option<String> {
    if let PolicyOrigin::Namespaced(namespace) = kind {
        Some(namespace.clone())
    } else {
        None
    }
}

pub(super) fn denial_report(denial: &Denial, field: Option<&String>) -> DenialReport {
    DenialReport {
        reason: denial.reason,
        class: denial.class(),
        message: denial.message.clone(),
        policy: denial.policy.as_ref().map(|policy| policy.name.clone()),
        policy_kind: denial
            .policy
            .as_ref()
            .and_then(|policy| policy_kind_of(&policy.kind)),
        policy_namespace: denial
            .policy
            .as_ref()
            .and_then(|policy| policy_namespace_of(&policy.kind)),
        authority: denial.authority.clone(),
        field: field.cloned(),
    }
}

impl From<&PolicyVerdict> for PolicyReport {
    fn from(policy: &PolicyVerdict) -> Self {
        Self {
            name: policy.identity.name.clone(),
            kind: policy_kind_of(&policy.identity.kind),
            namespace: policy_namespace_of(&policy.identity.kind),
            generation: policy.generation,
            mode: policy.mode,
            verdict: (&policy.verdict).into(),
            authorities: policy
                .authorities
                .iter()
                .map(AuthorityReport::from)
                .collect(),
            slsa: policy.slsa.as_ref().map(SlsaReport::from),
        }
    }
}

impl From<&AuthorityFinding> for AuthorityReport {
    fn from(finding: &AuthorityFinding) -> Self {
        let signature = finding.signature.as_ref();
        Self {
            name: finding.name.clone(),
            verified: signature.is_some(),
            format: signature.map(|(format, ..)| *format),
            signer: signature.map(|(_, signer, _)| signer.to_string()),
            time: signature.and_then(|(.., time): &(_, _, SigningTime)| time.timestamp()),
        }
    }
}

impl From<&SlsaFinding> for SlsaReport {
    fn from(finding: &SlsaFinding) -> Self {
        Self {
            builder: finding.builder.clone(),
            level: finding.level,
            lock: finding.lock_checked.then_some(LockRule::Exact),
        }
    }
}
