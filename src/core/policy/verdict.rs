//! Answers. An [`AdmissionProof`] cannot exist without the verified statements that it stands on.

use jiff::Timestamp;

use crate::core::{
    digest::Digest,
    intoto::Statement,
    reason::{Class, Reason},
    verify::{SignerIdentity, SigningTime, StoredSignatureFormat, Verified},
};

use super::{EnforcementMode, PolicyIdentity};

/// What all policies together say.
#[derive(Clone, Debug)]
pub enum PolicyOutcome {
    /// No policy governs this use.
    Ungoverned,
    /// At least one does.
    Governed(AdmissionVerdict),
}

/// What a policy, or all of them, says.
#[derive(Clone, Debug)]
pub enum AdmissionVerdict {
    /// Everything that was asked for is proved.
    Admit(AdmissionProof),
    /// Something is not.
    Deny(Denials),
    /// Something is not, or was not looked at, but an exemption lets it pass.
    Exempt(AppliedExemption),
}

/// The proof that something was admitted, and on what. Private fields: only an evaluation that
/// found verified statements makes one.
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

/// A verified statement that an admission stands on. Only a [`Verified`] statement makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmittingEvidence {
    predicate_type: String,
    referrer: Digest,
    signer: SignerIdentity,
}

/// At least one reason why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denials {
    first: Denial,
    more: Vec<Denial>,
}

/// One reason why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Its stable name.
    pub reason: Reason,
    /// What is missing, and the way out.
    pub message: String,
    /// The policy that asks for it.
    pub policy: Option<PolicyIdentity>,
    /// The authority that it concerns.
    pub authority: Option<String>,
}

/// What let it pass all the same. Private fields: only an evaluation that found an exemption in
/// force makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedExemption {
    digest: Digest,
    policy: PolicyIdentity,
    reason: String,
    expires: Timestamp,
}

/// One policy's answer, with what it found.
#[derive(Clone, Debug)]
pub struct PolicyVerdict {
    /// The policy.
    pub identity: PolicyIdentity,
    /// Its generation.
    pub generation: i64,
    /// What happens with its denials.
    pub mode: EnforcementMode,
    /// Its answer.
    pub verdict: AdmissionVerdict,
    /// What each of its authorities signed.
    pub authorities: Vec<AuthorityFinding>,
    /// What the provenance proved. Absent if the policy asks for none or none passed.
    pub slsa: Option<SlsaFinding>,
    /// Its settings that weaken it.
    pub unsafe_settings: Vec<String>,
}

/// Did an authority sign?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityFinding {
    /// Its name in the policy.
    pub name: String,
    /// The signature that counts, if there is one.
    pub signature: Option<(StoredSignatureFormat, SignerIdentity, SigningTime)>,
}

/// What the provenance proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlsaFinding {
    /// Who built it.
    pub builder: String,
    /// The SLSA Build level that the policy gives that builder.
    pub level: u8,
    /// Were the dependencies compared with the lock?
    pub lock_checked: bool,
}

impl AdmissionProof {
    /// Stands on this signature. What else counted is added with [`Self::with_statement`].
    pub(super) fn from_signature(signature: &Verified<Statement>) -> Self {
        Self {
            digest: *signature.subject(),
            evidence: vec![AdmittingEvidence::from_statement(signature)],
        }
    }

    /// Stands on this statement too.
    #[must_use]
    pub(super) fn with_statement(self, statement: &Verified<Statement>) -> Self {
        self.with_evidence(AdmittingEvidence::from_statement(statement))
    }

    /// Stands on what another policy was satisfied with, too.
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

    /// What was admitted: the digest that the signature was verified for.
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// On what. Never empty.
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

    /// What is stated about the digest.
    pub fn predicate_type(&self) -> &str {
        &self.predicate_type
    }

    /// The manifest, or for cosign's tags the layer, that holds the statement.
    pub const fn referrer(&self) -> &Digest {
        &self.referrer
    }

    /// Who signed it.
    pub const fn signer(&self) -> &SignerIdentity {
        &self.signer
    }
}

impl AppliedExemption {
    /// For `digest`, and only until `expires`.
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

    /// What is exempted.
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

    /// The first moment at which it no longer is.
    pub const fn expires(&self) -> Timestamp {
        self.expires
    }
}

impl Denials {
    /// One reason.
    pub const fn from_denial(first: Denial) -> Self {
        Self {
            first,
            more: Vec::new(),
        }
    }

    /// All of these reasons, if there is any.
    pub fn from_denials(denials: Vec<Denial>) -> Option<Self> {
        let mut denials = denials.into_iter();
        let first = denials.next()?;
        Some(Self {
            first,
            more: denials.collect(),
        })
    }

    /// The first one.
    pub const fn first(&self) -> &Denial {
        &self.first
    }

    /// Every one.
    pub fn iter(&self) -> impl Iterator<Item = &Denial> {
        std::iter::once(&self.first).chain(&self.more)
    }
}

impl Denial {
    /// A denial that concerns no policy.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            policy: None,
            authority: None,
        }
    }

    /// What happens next.
    pub const fn class(&self) -> Class {
        self.reason.class()
    }
}
