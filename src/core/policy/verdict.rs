//! Verdicts. An [`AdmissionProof`] cannot exist without the verified statements that it is based
//! on.

use jiff::Timestamp;

use crate::core::{
    digest::Digest,
    intoto::Statement,
    reason::{Class, Reason},
    verify::{SignerIdentity, SigningTime, StoredSignatureFormat, Verified},
};

use super::{EnforcementMode, PolicyIdentity};

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

/// The reasons of a denial; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denials {
    first: Denial,
    more: Vec<Denial>,
}

/// One reason for a denial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The stable reason code.
    pub reason: Reason,
    /// What is missing, and how to resolve it.
    pub message: String,
    /// The policy that denies; `None` if no single policy does.
    pub policy: Option<PolicyIdentity>,
    /// The authority that the denial is about.
    pub authority: Option<String>,
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

/// The verdict of one policy, with its findings.
#[derive(Clone, Debug)]
pub struct PolicyVerdict {
    /// The identity of the policy.
    pub identity: PolicyIdentity,
    /// `metadata.generation` of the policy.
    pub generation: i64,
    /// What happens with its denials.
    pub mode: EnforcementMode,
    /// The verdict.
    pub verdict: AdmissionVerdict,
    /// The findings for each of its authorities.
    pub authorities: Vec<AuthorityFinding>,
    /// What the provenance proves. `None` if the policy requires no provenance or none passed.
    pub slsa: Option<SlsaFinding>,
    /// Its settings that weaken it.
    pub unsafe_settings: Vec<String>,
}

/// Whether an authority's signature was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityFinding {
    /// The authority's name in the policy.
    pub name: String,
    /// The signature that counts, if there is one.
    pub signature: Option<(StoredSignatureFormat, SignerIdentity, SigningTime)>,
}

/// What the SLSA provenance proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlsaFinding {
    /// The builder id.
    pub builder: String,
    /// The SLSA Build level that the policy gives that builder.
    pub level: u8,
    /// True if the dependencies were compared with the lock.
    pub lock_checked: bool,
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

impl Denials {
    /// Denials with one reason.
    pub const fn from_denial(first: Denial) -> Self {
        Self {
            first,
            more: Vec::new(),
        }
    }

    /// All of these denials, if there are any.
    pub fn from_denials(denials: Vec<Denial>) -> Option<Self> {
        let mut denials = denials.into_iter();
        let first = denials.next()?;
        Some(Self {
            first,
            more: denials.collect(),
        })
    }

    /// The first denial.
    pub const fn first(&self) -> &Denial {
        &self.first
    }

    /// All denials, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Denial> {
        std::iter::once(&self.first).chain(&self.more)
    }
}

impl Denial {
    /// A denial by no policy in particular.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            policy: None,
            authority: None,
        }
    }

    /// The class of the failure, which says what may resolve it.
    pub const fn class(&self) -> Class {
        self.reason.class()
    }
}
