//! Why a candidate was rejected, and which of several errors is reported.

use crate::core::{
    digest::Digest,
    json::JsonError,
    reason::{Class, ClassifiedError, Reason},
    sigstore_bundle::SigstoreBundleError,
};

use super::SignerIdentity;

pub(crate) use crate::core::display_text::sanitize_text;

/// Why a candidate does not count.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The manifest refers to another subject, or to none.
    #[error("its manifest refers to {}, not to the digest that is verified", digest_or_nothing(.0.as_ref()))]
    ForeignSubject(Option<Digest>),
    /// The bundle is not the only layer.
    #[error("its manifest has {0} layers, a signature has one")]
    Layers(usize),
    /// No layer is a Sigstore bundle.
    #[error("it is no Sigstore bundle")]
    NotABundle,
    /// The bytes do not match the manifest's digest.
    #[error("its content hashes to {actual}, the manifest says {expected}")]
    Content {
        /// The digest in the layer's descriptor.
        expected: Digest,
        /// The digest of the bytes read.
        actual: Digest,
    },
    /// The Sigstore bundle cannot be parsed.
    #[error(transparent)]
    Bundle(#[from] SigstoreBundleError),
    /// It signs plain bytes instead of a statement.
    #[error("it signs plain bytes, not a DSSE envelope with a statement")]
    NoEnvelope,
    /// The media type of a layer under a cosign tag does not match the tag.
    #[error("it is of type {0:?}, which is neither cosign's simple signing nor a DSSE envelope")]
    LayerType(String),
    /// A cosign tag names an index.
    #[error("it is an index, not a manifest with signatures")]
    CosignTagIndex,
    /// A required annotation is missing or invalid.
    #[error("its annotation {name} {problem}")]
    Annotation {
        /// The name of the annotation.
        name: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The DSSE envelope is not valid JSON, or ambiguous.
    #[error("its DSSE envelope cannot be read: {0}")]
    Envelope(JsonError),
    /// The envelope has no signature, or more than one; their number.
    #[error("its DSSE envelope has {0} signatures, it must have one")]
    Signatures(usize),
    /// Bytes are not valid base64.
    #[error("{0} is not base64")]
    NotBase64(&'static str),
    /// The payload type of the envelope is not that of in-toto statements.
    #[error("its payload type is {0:?}, not application/vnd.in-toto+json")]
    PayloadType(String),
    /// None of the keys made the signature.
    #[error("its signature was made by none of the {keys} configured keys")]
    NoMatchingKey {
        /// The number of keys tried.
        keys: usize,
    },
    /// It contains a certificate, and there is no trust root to verify it with.
    #[error("it was signed with a certificate, but no trust root was given")]
    NoTrustRoot,
    /// The key hint names one of the keys, but the signature is invalid.
    #[error("it names the key {0}, but the signature does not verify with it")]
    KeySignature(Digest),
    /// The certificate, the log entry, a timestamp or the signature is invalid.
    #[error("{message}")]
    Sigstore {
        /// The reason code.
        reason: Reason,
        /// The verifier's message.
        message: String,
        /// The signer, if the certificate itself is valid.
        signer: Option<SignerIdentity>,
    },
    /// The signed payload is not a supported statement.
    #[error("its statement, signed by {signer}, cannot be read: {cause}")]
    Statement {
        /// The signer.
        signer: SignerIdentity,
        /// What is wrong with it.
        cause: JsonError,
    },
    /// `_type` is neither 1 nor 0.1.
    #[error("its statement, signed by {signer}, has the unknown type {found:?}")]
    StatementType {
        /// The signer.
        signer: SignerIdentity,
        /// The value of `_type`.
        found: String,
    },
    /// The statement has too many subjects.
    #[error("its statement, signed by {signer}, has {count} subjects, the limit is {limit}")]
    Subjects {
        /// The signer.
        signer: SignerIdentity,
        /// The number of subjects.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// The request has no signature checks left.
    #[error(
        "it was not fully verified: the evidence needs more than {limit} signature checks; \
            delete what is not needed, or name fewer keys"
    )]
    TooManyChecks {
        /// The limit.
        limit: usize,
    },
    /// Verified statements already use all the memory that one request may use.
    #[error(
        "its statement needs about {size} bytes of memory, and the statements of one digest may \
            need {limit}"
    )]
    StatementMemoryExceeded {
        /// The memory that the statement needs, in bytes.
        size: usize,
        /// The limit for all statements, in bytes.
        limit: usize,
    },
    /// The request was cancelled or its deadline has passed.
    #[error("it was not verified: the deadline for the verdict has passed")]
    DeadlineExceeded,
    /// A verified statement about another subject.
    #[error(
        "its statement, signed by {signer}, is about {named}, not about the digest that is verified"
    )]
    Subject {
        /// The signer.
        signer: SignerIdentity,
        /// The first subject's digest.
        named: String,
    },
}

impl EvidenceError {
    /// The signer, if the signature was verified.
    pub const fn signer(&self) -> Option<&SignerIdentity> {
        match self {
            Self::Sigstore { signer, .. } => signer.as_ref(),
            Self::Statement { signer, .. }
            | Self::StatementType { signer, .. }
            | Self::Subjects { signer, .. }
            | Self::Subject { signer, .. } => Some(signer),
            _ => None,
        }
    }

    /// The same about the signature of this signer, if it is about a certificate, a log entry, a
    /// timestamp or a signature.
    #[must_use]
    pub(in crate::core) fn with_signer(self, signer: Option<SignerIdentity>) -> Self {
        match self {
            Self::Sigstore {
                reason, message, ..
            } => Self::Sigstore {
                reason,
                message,
                signer,
            },
            other => other,
        }
    }
}

impl ClassifiedError for EvidenceError {
    fn reason(&self) -> Reason {
        match self {
            Self::Content { .. } => Reason::DigestMismatch,
            Self::Bundle(error) => error.reason(),
            Self::NoMatchingKey { .. } | Self::NoTrustRoot => Reason::NoMatchingAuthority,
            Self::KeySignature(_) => Reason::InvalidSignature,
            Self::Sigstore { reason, .. } => *reason,
            Self::Subjects { .. }
            | Self::TooManyChecks { .. }
            | Self::StatementMemoryExceeded { .. }
            | Self::Envelope(JsonError::TooLarge { .. }) => Reason::LimitExceeded,
            Self::DeadlineExceeded => Reason::DeadlineExceeded,
            Self::ForeignSubject(_) | Self::Subject { .. } => Reason::SubjectMismatch,
            Self::Layers(_)
            | Self::NotABundle
            | Self::NoEnvelope
            | Self::LayerType(_)
            | Self::CosignTagIndex
            | Self::Annotation { .. }
            | Self::Envelope(_)
            | Self::Signatures(_)
            | Self::NotBase64(_)
            | Self::PayloadType(_)
            | Self::Statement { .. }
            | Self::StatementType { .. } => Reason::MalformedEvidence,
        }
    }
}

/// One rejected referrer, for the report. It proves nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedEvidence {
    /// The digest of the referrer, or of the manifest that a cosign tag names.
    pub referrer: Digest,
    /// The reason code.
    pub reason: Reason,
    /// The description: at most 300 characters, no control characters.
    pub message: String,
    /// The signer, or the holder of the key that the evidence names.
    pub signer: Option<SignerIdentity>,
}

impl RejectedEvidence {
    /// `referrer` was rejected because of `error`.
    pub fn new(referrer: Digest, error: &EvidenceError) -> Self {
        let hinted = match error {
            EvidenceError::KeySignature(fingerprint) => Some(SignerIdentity::Key {
                fingerprint: *fingerprint,
            }),
            _ => error.signer().cloned(),
        };
        Self {
            referrer,
            reason: error.reason(),
            message: sanitize_text(&error.to_string()),
            signer: hinted,
        }
    }

    /// `referrer` could not be fetched because of `error`.
    pub fn from_read_error(referrer: Digest, error: &dyn ClassifiedError) -> Self {
        Self {
            referrer,
            reason: error.reason(),
            message: sanitize_text(&error.to_string()),
            signer: None,
        }
    }

    /// How far verification came, by its reason.
    pub const fn rejection_rank(&self) -> u8 {
        match (self.reason, &self.signer) {
            // Unauthenticated: any user can list a referrer of another subject.
            (Reason::SubjectMismatch, None) => reason_rank(Reason::MalformedEvidence),
            (reason, _) => reason_rank(reason),
        }
    }
}

/// How far verification came before the rejection: of several errors, the one with the highest rank
/// is reported.
///
/// Changed bytes and unavailable dependencies rank highest, because what an unread signature would
/// have proved is unknown.
pub(crate) const fn reason_rank(reason: Reason) -> u8 {
    match (reason.class(), reason) {
        (Class::Corrupt, _) => 101,
        (Class::Unavailable, _) => 100,
        (_, Reason::Revoked) => 90,
        (_, Reason::ThresholdNotMet) => 80,
        (_, Reason::RepositoryMismatch) => 75,
        (_, Reason::SubjectMismatch) => 70,
        (_, Reason::PredicateTypeMismatch) => 65,
        (_, Reason::InvalidInclusionProof | Reason::LogEntryMismatch) => 60,
        (_, Reason::CertificateExpired | Reason::NoTrustedTime | Reason::InvalidTimestamp) => 50,
        (_, Reason::IdentityMismatch) => 45,
        (_, Reason::UntrustedChain) => 40,
        (_, Reason::InvalidSignature) => 30,
        (_, Reason::TooManyReferrers) => 25,
        (_, Reason::NoMatchingAuthority) => 20,
        (_, Reason::MalformedEvidence | Reason::LimitExceeded) => 10,
        _ => 0,
    }
}

fn digest_or_nothing(digest: Option<&Digest>) -> String {
    digest.map_or_else(|| "nothing".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_ordered_by_how_far_they_came() {
        let order = [
            Reason::NoSignatures,
            Reason::MalformedEvidence,
            Reason::NoMatchingAuthority,
            Reason::InvalidSignature,
            Reason::UntrustedChain,
            Reason::IdentityMismatch,
            Reason::CertificateExpired,
            Reason::InvalidInclusionProof,
            Reason::SubjectMismatch,
            Reason::ThresholdNotMet,
            Reason::Revoked,
            Reason::RegistryUnavailable,
            Reason::DigestMismatch,
        ];
        for pair in order.windows(2) {
            assert!(
                reason_rank(pair[0]) < reason_rank(pair[1]),
                "{} < {}",
                pair[0],
                pair[1]
            );
        }
    }
}
