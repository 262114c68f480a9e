//! What all policies come to together, until when, and what that lets pass.

use jiff::Timestamp;

use crate::core::{digest::Digest, reason::Reason};

use super::{
    AdmissionProof, AdmissionVerdict, AppliedExemption, Denials, EnforcementMode, PolicyOutcome,
    PolicyVerdict,
};

/// The outcome, every governing policy's part in it, and until when it stays the same.
///
/// Private fields: only an evaluation makes one.
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

/// What opens a door to a bundle: whoever unpacks or tags it, or admits it, takes one by value.
///
/// Only [`PolicyDecision::clearance`] makes one, and what is inside has private fields:
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
/// # use packgate::core::policy::{AppliedExemption, Clearance, PolicyIdentity};
/// fn forge(policy: PolicyIdentity) -> Clearance {
///     Clearance::Exempted(AppliedExemption { policy, ..todo!() })
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clearance {
    /// Every policy that governs the use is satisfied, on verified statements.
    Admitted(AdmissionProof),
    /// A policy's exemption lets it pass, and no other policy denies it.
    Exempted(AppliedExemption),
}

/// Why a use may go on at admission: a clearance, or the administrator's own choice to enforce
/// nothing here. Only a decision makes one.
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
    /// No policy governs it, and the installation lets that pass.
    Ungoverned(Ungoverned),
}

/// That every policy that denies only warns or audits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotEnforced(());

/// That no policy governs a use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ungoverned(());

impl PolicyDecision {
    /// Combines what each governing policy says. `holds_until`: the first moment at which any of
    /// them may say something else of the same evidence.
    pub(super) fn new(policies: Vec<PolicyVerdict>, holds_until: Option<Timestamp>) -> Self {
        Self {
            outcome: combine_verdicts(&policies),
            policies,
            holds_until,
        }
    }

    /// For tests of what follows from a decision.
    #[cfg(test)]
    pub(crate) fn from_verdicts(policies: Vec<PolicyVerdict>) -> Self {
        Self::new(policies, None)
    }

    /// What all policies together say.
    pub const fn outcome(&self) -> &PolicyOutcome {
        &self.outcome
    }

    /// What each governing policy says.
    pub fn policies(&self) -> &[PolicyVerdict] {
        &self.policies
    }

    /// The first moment at which time alone may change the decision: an exemption ends, a
    /// revocation begins, a certificate or provenance grows too old. `None`: never.
    pub const fn holds_until(&self) -> Option<Timestamp> {
        self.holds_until
    }

    /// The answer after modes: no policy that enforces denies. False if nothing governs; what that
    /// means is the installation's word.
    pub fn is_admitted(&self) -> bool {
        !self.policies.is_empty() && !self.is_denied_by_enforcing_policy()
    }

    /// Is this one of the reasons why not?
    pub fn has_denial_reason(&self, reason: Reason) -> bool {
        matches!(&self.outcome, PolicyOutcome::Governed(AdmissionVerdict::Deny(denials))
            if denials.iter().any(|denial| denial.reason == reason))
    }

    /// What lets `digest` pass wherever no mode softens a denial. `None` if it is denied or
    /// governed by nobody, or if the proof is of another digest.
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

    /// What lets `digest` pass at admission, after modes. `None` if a policy that enforces denies
    /// it, or if nothing governs it ([`Self::ungoverned`]).
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

    /// That no policy governs the use, if that is so. What follows is the installation's word.
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
    /// For tests of what takes one.
    #[cfg(test)]
    pub(crate) fn exempted_for_test(digest: Digest) -> Self {
        let policy = super::PolicyIdentity {
            kind: super::PolicyOrigin::Cluster,
            name: "test".to_owned(),
        };
        let exemption =
            AppliedExemption::new(digest, policy, "test".to_owned(), Timestamp::MAX);
        Self::Exempted(exemption)
    }

    /// The digest that it is for, and for no other.
    pub const fn digest(&self) -> &Digest {
        match self {
            Self::Admitted(proof) => proof.digest(),
            Self::Exempted(exemption) => exemption.digest(),
        }
    }
}

/// One denial denies; otherwise an exemption is told before an admission.
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
                )
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
