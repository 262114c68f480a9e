//! A bundle that passed verification.

use crate::{
    api::packed_bundle::EvidenceStatus,
    core::{
        intoto::COSIGN_SIGN,
        job::JobFailure,
        policy::{AdmissionGrounds, PolicyIdentity},
        reason::Reason,
        reference::{ImageTag, PinnedReference},
    },
    service::bundle_state::BundleSize,
};

/// A bundle that passed verification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AcceptedBundle {
    /// Its repository and digest.
    pub reference: PinnedReference,
    /// Its tag.
    pub tag: Option<ImageTag>,
    /// Its size and artifacts, if packgate packed it.
    pub size: Option<BundleSize>,
    /// The evidence that it was admitted on.
    pub evidence: Vec<EvidenceStatus>,
    /// Denials of policies that only warn or audit.
    pub warnings: Vec<JobFailure>,
    /// Why it is accepted without a signature, if so.
    pub unsigned: Option<UnsignedReason>,
    /// What allows the condition `Ready`; only a policy decision makes one.
    pub grounds: AdmissionGrounds,
}

/// Why a bundle without a signature is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UnsignedReason {
    /// The installation allows unsigned bundles.
    AllowedByInstallation,
    /// A policy exempts it.
    Exempt(PolicyIdentity),
    /// Policies govern it, and none of them enforces.
    NotEnforced,
    /// No policy governs it.
    Ungoverned,
}

impl AcceptedBundle {
    /// The finding as a message for the status.
    pub(super) fn status_message(&self) -> String {
        let reference = &self.reference;
        match &self.unsigned {
            Some(UnsignedReason::AllowedByInstallation) => {
                "packed and compared with the lock; the installation allows that nobody signed it"
                    .to_owned()
            }
            Some(UnsignedReason::Exempt(policy)) => {
                format!("{reference} is there, and {policy} exempts it; nothing else was verified")
            }
            Some(UnsignedReason::NotEnforced) => format!(
                "{reference} is there, and no policy that governs it enforces; it is not verified"
            ),
            Some(UnsignedReason::Ungoverned) => {
                format!("{reference} is there, and no policy governs it; it is not verified")
            }
            None => format!("{reference} is {}", self.evidence_summary()),
        }
    }

    fn evidence_summary(&self) -> &'static str {
        let has = |signature: bool| {
            self.evidence
                .iter()
                .any(|evidence| (evidence.predicate_type == COSIGN_SIGN) == signature)
        };
        match (has(true), has(false)) {
            (true, true) => "signed, attested and verified",
            (true, false) => "signed and verified",
            (false, true) => "attested and verified",
            (false, false) => "verified",
        }
    }
}

impl UnsignedReason {
    /// The reason code.
    pub(super) const fn reason(&self) -> Reason {
        match self {
            Self::Exempt(_) => Reason::Exempt,
            Self::Ungoverned => Reason::Ungoverned,
            Self::AllowedByInstallation | Self::NotEnforced => Reason::NoSignatures,
        }
    }
}
