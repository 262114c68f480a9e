//! The combined decision of all policies, how long it is valid, and the clearance that it gives.

use jiff::Timestamp;

use crate::core::{digest::Digest, reason::Reason};

use super::{
    AdmissionProof, AdmissionVerdict, AppliedExemption, Denials, EnforcementMode, PolicyOutcome,
    PolicyVerdict,
};

/// The combined outcome, with the verdict of every governing policy, and when it may change.
///
/// Its fields are private: only an evaluation makes one.
///
/// ```compile_fail
/// # use packgate::core::policy::{PolicyDecision, PolicyOutcome};
/// fn forge() -> PolicyDecision {
///     PolicyDecision { outcome: PolicyOutcome::Ungoverned, policies: Vec::new(), holds_until: None }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct PolicyDecision {
    outcome: PolicyOutcome,
    policies: Vec<PolicyVerdict>,
    holds_until: Option<Timestamp>,
}

/// Proof that a bundle may be used. Unpacking, tagging and admitting take one by value.
///
/// Only [`PolicyDecision::clearance`] makes one, and both kinds of proof have private fields:
///
/// ```compile_fail
/// # use packgate::core::policy::{AdmissionProof, Clearance};
/// # use packgate::core::digest::Digest;
/// fn forge(digest: Digest) -> Clearance {
///     Clearance::Admitted(AdmissionProof { digest, evidence: Default::default() })
/// }
/// ```
///
/// ```compile_fail
/// # use packgate::core::digest::Digest;
/// # use packgate::core::policy::{AppliedExemption, Clearance, PolicyIdentity};
/// fn forge(digest: Digest, policy: PolicyIdentity) -> Clearance {
///     let (reason, expires) = (String::new(), jiff::Timestamp::MAX);
///     Clearance::Exempted(AppliedExemption { digest, policy, reason, expires })
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clearance {
    /// Every policy that governs the use is satisfied, by verified statements.
    Admitted(AdmissionProof),
    /// A policy exempts it, and no other policy denies it.
    Exempted(AppliedExemption),
}

/// What allows a use at admission: a clearance, or the administrator's choice not to enforce. Only
/// a decision makes one.
///
/// ```compile_fail
/// # use packgate::core::policy::{AdmissionGrounds, NotEnforced};
/// fn forge() -> AdmissionGrounds {
///     AdmissionGrounds::NotEnforced(NotEnforced(()))
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdmissionGrounds {
    /// It is admitted, or exempted.
    Cleared(Clearance),
    /// Policies deny it, and the mode of each of them is `Warn` or `Audit`.
    NotEnforced(NotEnforced),
    /// No policy governs it, and the installation allows that.
    Ungoverned(Ungoverned),
}

/// Proof that every policy that denies is in mode `Warn` or `Audit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotEnforced(());

/// Proof that no policy governs a use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ungoverned(());

impl PolicyDecision {
    /// Combines the verdicts of the governing policies. `holds_until` is the first moment at which
    /// any of them may change for the same evidence.
    pub(super) fn new(policies: Vec<PolicyVerdict>, holds_until: Option<Timestamp>) -> Self {
        Self {
            outcome: combine_verdicts(&policies),
            policies,
            holds_until,
        }
    }

    /// For tests of what depends on a decision.
    #[cfg(test)]
    pub(crate) fn from_verdicts(policies: Vec<PolicyVerdict>) -> Self {
        Self::new(policies, None)
    }

    /// The combined outcome of all policies.
    pub const fn outcome(&self) -> &PolicyOutcome {
        &self.outcome
    }

    /// The verdict of each governing policy.
    pub fn policies(&self) -> &[PolicyVerdict] {
        &self.policies
    }

    /// The first moment at which time alone may change the decision: an exemption ends, a
    /// revocation begins, a certificate or provenance grows too old. `None`: never.
    pub const fn holds_until(&self) -> Option<Timestamp> {
        self.holds_until
    }

    /// True if no policy in mode `Enforce` denies. False if no policy governs the use: the
    /// installation decides about that.
    pub fn is_admitted(&self) -> bool {
        !self.policies.is_empty() && !self.is_denied_by_enforcing_policy()
    }

    /// True if this is one of the denial reasons.
    pub fn has_denial_reason(&self, reason: Reason) -> bool {
        matches!(&self.outcome, PolicyOutcome::Governed(AdmissionVerdict::Deny(denials))
            if denials.iter().any(|denial| denial.reason == reason))
    }

    /// The proof that `digest` may be used, whatever the enforcement modes. `None` if it is denied
    /// or ungoverned, or if the decision is about another digest.
    pub fn clearance(&self, digest: &Digest) -> Option<Clearance> {
        let clearance = match &self.outcome {
            PolicyOutcome::Governed(AdmissionVerdict::Admit(proof)) => {
                Clearance::Admitted(proof.clone())
            }
            PolicyOutcome::Governed(AdmissionVerdict::Exempt(exemption)) => {
                Clearance::Exempted(exemption.clone())
            }
            PolicyOutcome::Governed(AdmissionVerdict::Deny(_)) | PolicyOutcome::Ungoverned => {
                return None;
            }
        };
        (clearance.digest() == digest).then_some(clearance)
    }

    /// What allows `digest` at admission, after the enforcement modes. `None` if a policy in mode
    /// `Enforce` denies it, or if no policy governs it ([`Self::ungoverned`]).
    pub fn admission_grounds(&self, digest: Option<&Digest>) -> Option<AdmissionGrounds> {
        if let Some(clearance) = digest.and_then(|digest| self.clearance(digest)) {
            return Some(AdmissionGrounds::Cleared(clearance));
        }
        let is_denied = matches!(
            self.outcome,
            PolicyOutcome::Governed(AdmissionVerdict::Deny(_))
        );
        (is_denied && self.is_admitted()).then_some(AdmissionGrounds::NotEnforced(NotEnforced(())))
    }

    /// Proof that no policy governs the use; `None` if one does. The installation decides what
    /// follows.
    pub const fn ungoverned(&self) -> Option<Ungoverned> {
        match self.outcome {
            PolicyOutcome::Ungoverned => Some(Ungoverned(())),
            PolicyOutcome::Governed(_) => None,
        }
    }

    fn is_denied_by_enforcing_policy(&self) -> bool {
        self.policies.iter().any(|policy| {
            policy.mode == EnforcementMode::Enforce
                && matches!(policy.verdict, AdmissionVerdict::Deny(_))
        })
    }
}

impl Clearance {
    /// The digest that may be used.
    pub const fn digest(&self) -> &Digest {
        match self {
            Self::Admitted(proof) => proof.digest(),
            Self::Exempted(exemption) => exemption.digest(),
        }
    }
}

/// One denial denies; otherwise an exemption takes precedence over an admission.
fn combine_verdicts(policies: &[PolicyVerdict]) -> PolicyOutcome {
    let mut denials = Vec::new();
    let mut exempted = None;
    let mut admitted: Option<AdmissionProof> = None;
    for policy in policies {
        match &policy.verdict {
            AdmissionVerdict::Deny(more) => denials.extend(more.iter().cloned()),
            AdmissionVerdict::Exempt(by) => exempted = exempted.or_else(|| Some(by.clone())),
            AdmissionVerdict::Admit(more) => {
                admitted = Some(
                    admitted.map_or_else(|| more.clone(), |known| known.with_evidence_of(more)),
                );
            }
        }
    }
    match (Denials::from_denials(denials), exempted, admitted) {
        (Some(denials), ..) => PolicyOutcome::Governed(AdmissionVerdict::Deny(denials)),
        (None, Some(by), _) => PolicyOutcome::Governed(AdmissionVerdict::Exempt(by)),
        (None, None, Some(admitted)) => PolicyOutcome::Governed(AdmissionVerdict::Admit(admitted)),
        (None, None, None) => PolicyOutcome::Ungoverned,
    }
}
