//! Verdicts. An [`AdmissionProof`] cannot exist without the verified statements that it is based
//! on.

use jiff::Timestamp;

use crate::core::{digest::Digest, evidence::SignerIdentity, intoto::Statement, verify::Verified};

use super::{Denials, PolicyIdentity};

/// The combined outcome of all policies.
#[derive(Clone, Debug)]
pub enum PolicyOutcome {
    /// No policy governs this use.
    Ungoverned,
    /// At least one policy governs it.
    Governed(AdmissionVerdict),
}

/// The verdict of one policy, or of all of them.
#[derive(Clone, Debug)]
pub enum AdmissionVerdict {
    /// All requirements are met.
    Admit(AdmissionProof),
    /// A requirement is not met.
    Deny(Denials),
    /// A requirement is not met, or was not checked, but an exemption applies.
    Exempt(AppliedExemption),
}

/// The proof of an admission, with the statements that it is based on. Private fields: only an
/// evaluation with verified statements constructs one.
///
/// ```compile_fail
/// # use packgate::core::{digest::Digest, policy::AdmissionProof};
/// fn forge(digest: Digest) -> AdmissionProof {
///     AdmissionProof { digest, evidence: Vec::new() }
/// }
/// ```
///
/// ```compile_fail
/// # use packgate::core::{intoto::Statement, policy::AdmissionProof, verify::Verified};
/// fn without_policy(signature: &Verified<Statement>) -> AdmissionProof {
///     AdmissionProof::from_signature(signature)
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmissionProof {
    digest: Digest,
    evidence: Vec<AdmittingEvidence>,
}

/// A verified statement that an admission is based on. Only a [`Verified`] statement makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmittingEvidence {
    predicate_type: String,
    referrer: Digest,
    signer: SignerIdentity,
}

/// The exemption that applied. Its fields are private: only an evaluation that found an exemption
/// in force makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedExemption {
    digest: Digest,
    policy: PolicyIdentity,
    reason: String,
    expires: Timestamp,
}

impl AdmissionProof {
    /// Based on this signature. Further statements are added with [`Self::with_statement`].
    pub(super) fn from_signature(signature: &Verified<Statement>) -> Self {
        Self {
            digest: *signature.subject(),
            evidence: vec![AdmittingEvidence::from_statement(signature)],
        }
    }

    /// Adds this statement to the proof.
    #[must_use]
    pub(super) fn with_statement(self, statement: &Verified<Statement>) -> Self {
        self.with_evidence(AdmittingEvidence::from_statement(statement))
    }

    /// Adds the statements that satisfied another policy.
    #[must_use]
    pub(super) fn with_evidence_of(self, other: &Self) -> Self {
        let more = other.evidence.iter().cloned();
        more.fold(self, Self::with_evidence)
    }

    fn with_evidence(mut self, evidence: AdmittingEvidence) -> Self {
        let is_known = |known: &AdmittingEvidence| {
            known.referrer == evidence.referrer && known.signer == evidence.signer
        };
        if !self.evidence.iter().any(is_known) {
            self.evidence.push(evidence);
        }
        self
    }

    /// The admitted digest, for which the signature was verified.
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The statements that the proof is based on; never empty.
    pub fn evidence(&self) -> &[AdmittingEvidence] {
        &self.evidence
    }
}

impl AdmittingEvidence {
    fn from_statement(statement: &Verified<Statement>) -> Self {
        Self {
            predicate_type: statement.claim().predicate_type.clone(),
            referrer: *statement.referrer(),
            signer: statement.signer().clone(),
        }
    }

    /// The predicate type of the statement.
    pub fn predicate_type(&self) -> &str {
        &self.predicate_type
    }

    /// The digest of the manifest, or for cosign's tags of the layer, that holds the statement.
    pub const fn referrer(&self) -> &Digest {
        &self.referrer
    }

    /// The identity that signed the statement.
    pub const fn signer(&self) -> &SignerIdentity {
        &self.signer
    }
}

impl AppliedExemption {
    /// An exemption of `digest` until `expires`.
    pub(super) const fn new(
        digest: Digest,
        policy: PolicyIdentity,
        reason: String,
        expires: Timestamp,
    ) -> Self {
        Self {
            digest,
            policy,
            reason,
            expires,
        }
    }

    /// For tests of what an exemption allows.
    #[cfg(test)]
    pub(crate) fn for_test(digest: Digest) -> Self {
        let policy = PolicyIdentity {
            kind: super::PolicyOrigin::Cluster,
            name: "test".to_owned(),
        };
        Self::new(digest, policy, "test".to_owned(), Timestamp::MAX)
    }

    /// The exempted digest.
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The policy with the exemption.
    pub const fn policy(&self) -> &PolicyIdentity {
        &self.policy
    }

    /// Why it was exempted.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// When the exemption ends.
    pub const fn expires(&self) -> Timestamp {
        self.expires
    }
}
