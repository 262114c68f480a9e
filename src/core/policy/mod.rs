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
//! and change no verdict. docs/reading-the-trust-core.md says in which order to read this folder.

mod attestations;
mod authority;
mod bundle_lock;
mod decision;
mod evaluate;
mod evaluation;
mod exemption;
mod next_change;
mod repository_binding;
mod scope;
mod signatures;
mod signed_repository;
mod slsa;
#[cfg(test)]
mod tests;
mod threshold;
mod verdict;

pub use super::{
    admission_subject::{AdmissionSubject, BundleLock, ReferenceTarget, ReferenceUseScope},
    policy_findings::{AuthorityFinding, Denial, Denials, PolicyVerdict, SlsaFinding},
    policy_syntax::*,
};
pub use decision::{AdmissionGrounds, Clearance, NotEnforced, PolicyDecision, Ungoverned};
pub use evaluate::{deny_without_evidence, evaluate_policies};
pub(in crate::core) use evaluation::PolicyEvaluation;
pub use verdict::{
    AdmissionProof, AdmissionVerdict, AdmittingEvidence, AppliedExemption, PolicyOutcome,
};
