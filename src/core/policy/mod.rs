//! Policies: which uses of which images they govern, and what must be verified before such a use is
//! admitted.
//!
//! A [`Policy`] is compiled once ([`Policy::new`] refuses rules that could never have their
//! intended effect) and evaluated as a pure function of the subject, the findings of `core::verify`
//! and the time. Policies are AND-ed; authorities inside one are OR-ed unless the threshold
//! requires more. Every path that does not end in [`AdmissionVerdict::Admit`] or
//! [`AdmissionVerdict::Exempt`] is a denial with its reason.
//!
//! What is *not* done here: mapping a denial to "allowed, with a warning". Modes are carried along
//! and change no verdict.

mod compile;
mod decision;
mod evaluate;
mod image_pattern;
mod next_change;
mod repository_binding;
mod rules;
mod scope;
mod slsa;
mod subject_matcher;
#[cfg(test)]
mod tests;
mod threshold;
mod verdict;

use super::{reason::Reason, verify::StoredSignatureFormat};

pub use compile::{AdHocPolicyOptions, PolicyError};
pub use decision::{AdmissionGrounds, Clearance, NotEnforced, PolicyDecision, Ungoverned};
pub use evaluate::{
    AdmissionSubject, BundleLock, deny_without_evidence, evaluate_policies, trusted_material,
};
pub use image_pattern::{ImagePattern, ImagePatternError};
pub use repository_binding::{MAX_MIRRORS, RepositoryBinding, RepositoryMirror};
pub use rules::{
    AttestationRule, AuthorityKind, BuilderRule, EnforcementMode, ExemptionRule, LockRule,
    MAX_AUTHORITIES, MAX_REFERENCES, PolicyAuthority, PolicyIdentity, PolicyMatcher, PolicyOrigin,
    PolicyRules, ReferenceUse, RevocationRule, RevocationTarget, SlsaRules,
    TransparencyRequirement,
};
pub use scope::{PolicyApplicability, ReferenceTarget, ReferenceUseScope};
pub use subject_matcher::{AnchoredRegex, ClaimsRule, SubjectMatcher};
pub use verdict::{
    AdmissionProof, AdmissionVerdict, AdmittingEvidence, AppliedExemption, AuthorityFinding,
    Denial, Denials, PolicyOutcome, PolicyVerdict, SlsaFinding,
};

/// A valid policy. The rules are private, so that no policy exists that [`Policy::new`] did not
/// check.
///
/// ```compile_fail
/// # use packgate::core::policy::{Policy, PolicyRules};
/// fn unchecked(rules: PolicyRules) -> Policy {
///     Policy { rules: rules.into(), fault: None, fault_reason: packgate::core::reason::Reason::InvalidSpec }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Policy {
    /// Shared, because each evaluation takes a snapshot of the policies.
    rules: std::sync::Arc<PolicyRules>,
    /// Why the policy could not be compiled.
    fault: Option<String>,
    /// The reason code of `fault`.
    fault_reason: Reason,
}

impl Policy {
    /// Its name, without its kind and namespace.
    pub fn name(&self) -> &str {
        &self.rules.name
    }

    /// The identity of the policy, as in reports.
    pub fn identity(&self) -> PolicyIdentity {
        self.rules.identity()
    }

    /// What happens with its denials.
    pub fn mode(&self) -> EnforcementMode {
        self.rules.mode
    }

    /// Why the policy could not be compiled, if so. It then denies every use that it governs.
    pub fn fault_message(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// The reason code of [`Self::fault_message`].
    pub const fn fault_reason(&self) -> Reason {
        self.fault_reason
    }

    /// The rules that the policy was compiled from.
    pub fn rules(&self) -> &PolicyRules {
        &self.rules
    }

    /// True if signatures under cosign's tags count. If not, these tags need not be fetched.
    pub fn accepts_cosign_tags(&self) -> bool {
        self.rules.formats.iter().any(|format| {
            matches!(
                format,
                StoredSignatureFormat::Legacy | StoredSignatureFormat::LegacySetOnly
            )
        })
    }

    /// Settings that weaken it, for the report.
    pub fn unsafe_settings(&self) -> Vec<String> {
        self.rules.unsafe_settings()
    }
}
