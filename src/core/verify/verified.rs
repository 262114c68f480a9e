//! Verified statements and their signers. Only `core::verify` can construct these values.

use std::fmt;

use jiff::Timestamp;

use crate::core::digest::Digest;

/// A claim whose signature, signer and subject were checked. Only verification constructs one.
///
/// ```compile_fail
/// # use packgate::core::{digest::Digest, intoto::Statement, verify::{SignerIdentity, SigningTime, Verified}};
/// fn forge(claim: Statement, signer: SignerIdentity) -> Verified<Statement> {
///     Verified { claim, subject: Digest::of(b""), referrer: Digest::of(b""), by: signer }
/// }
/// ```
///
/// ```compile_fail
/// # use packgate::core::{intoto::Statement, verify::Verified};
/// fn rewrite(verified: &mut Verified<Statement>) {
///     verified.claim.predicate_type = "https://sigstore.dev/cosign/sign/v1".into();
/// }
/// ```
///
/// ```compile_fail
/// # use packgate::core::{intoto::Statement, verify::Verified};
/// fn read(json: &str) -> Verified<Statement> {
///     serde_json::from_str(json).unwrap()
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Verified<T> {
    claim: T,
    subject: Digest,
    referrer: Digest,
    by: AuthenticatedSignature,
}

/// The identity of a signer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SignerIdentity {
    /// The holder of a key.
    Key {
        /// SHA-256 of the key's SPKI in DER.
        fingerprint: Digest,
    },
    /// An identity in a certificate of a trust root's CA.
    Identity {
        /// The certificate's subject alternative name: a URI if it contains `:`, else an email
        /// address.
        san: String,
        /// The OIDC issuer in the certificate.
        issuer: String,
    },
    /// An identity in a certificate of a private CA.
    Certificate {
        /// The certificate's subject alternative name: a URI if it contains `:`, else an email
        /// address if it contains `@`, else a DNS name.
        san: String,
        /// The digest of the authority's certificates and revocation lists.
        authority: Digest,
    },
}

/// A period of validity. `until` is the first moment outside of it. An absent end is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ValidityPeriod {
    /// The first moment of validity.
    pub from: Option<Timestamp>,
    /// The first moment after it.
    pub until: Option<Timestamp>,
}

/// The workload's claims in a certificate: Fulcio's extensions 1.3.6.1.4.1.57264.1.11 to .20.
/// `None` if the extension is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateClaims {
    /// The source repository (`.12`).
    pub source_repository: Option<String>,
    /// The source's ref (`.14`).
    pub source_ref: Option<String>,
    /// The build configuration (`.18`).
    pub workflow: Option<String>,
    /// The build trigger (`.20`).
    pub trigger: Option<String>,
    /// The runner environment (`.11`).
    pub runner: Option<String>,
}

/// The status of the log entries and timestamps of a signature by a key. A certificate's are always
/// verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeEvidenceStatus {
    /// There are none.
    Absent,
    /// There are some, and they were not verified with a trust root.
    Unchecked,
    /// All of them are valid.
    Verified,
}

/// When a signature was made, by the evidence of a third party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningTime {
    /// The earliest time that a transparency log or timestamp authority proves.
    Known(Timestamp),
    /// There is no such evidence.
    Unknown,
}

/// How a signature is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum StoredSignatureFormat {
    /// A Sigstore bundle as an OCI 1.1 referrer.
    Bundle,
    /// A `.sig` or `.att` tag of older cosign versions, without a log entry: only the key
    /// identifies the signer.
    Legacy,
    /// The same, with a log's promise of inclusion (SET) and no inclusion proof.
    LegacySetOnly,
}

impl StoredSignatureFormat {
    /// The name in configuration and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bundle => "Bundle",
            Self::Legacy => "Legacy",
            Self::LegacySetOnly => "LegacySetOnly",
        }
    }
}

/// The signer of a verified signature: what `core::verify` knows before it parses the payload.
#[derive(Clone, Debug)]
pub(super) struct AuthenticatedSignature {
    pub(super) signer: SignerIdentity,
    /// The digest of the trust root that the certificate chains to, or that verifies a key's log
    /// entries and timestamps.
    pub(super) root: Option<Digest>,
    pub(super) time: SigningTime,
    pub(super) time_evidence: TimeEvidenceStatus,
    /// True if a transparency log of the root has the signature.
    pub(super) logged: bool,
    pub(super) claims: CertificateClaims,
    pub(super) format: StoredSignatureFormat,
    /// The key, if it is a long-lived one: it can be revoked, and counts as one signer.
    pub(super) key: Option<KeyIdentifiers>,
    /// When the certificate is valid; matters only without time evidence.
    pub(super) validity: ValidityPeriod,
}

/// The identifiers of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyIdentifiers {
    /// SHA-256 of the SPKI in DER.
    pub(super) fingerprint: Digest,
    /// The same fingerprint for every algorithm that a key is declared for.
    pub(super) normalized_fingerprint: Digest,
}

impl<T> Verified<T> {
    /// `claim` was parsed from the payload that `by` authenticated, and is about `subject`.
    pub(super) const fn new(
        claim: T,
        subject: Digest,
        referrer: Digest,
        by: AuthenticatedSignature,
    ) -> Self {
        Self {
            claim,
            subject,
            referrer,
            by,
        }
    }

    /// The verified claim.
    pub const fn claim(&self) -> &T {
        &self.claim
    }

    /// The digest that it was verified for.
    pub const fn subject(&self) -> &Digest {
        &self.subject
    }

    /// The digest of the referrer.
    pub const fn referrer(&self) -> &Digest {
        &self.referrer
    }

    /// The signer.
    pub const fn signer(&self) -> &SignerIdentity {
        &self.by.signer
    }

    /// The digest of the trust root that the signer's certificate chains to, or that verifies the
    /// time and log entry of a key's signature.
    pub const fn trust_root(&self) -> Option<&Digest> {
        self.by.root.as_ref()
    }

    /// When it was signed.
    pub const fn signing_time(&self) -> SigningTime {
        self.by.time
    }

    /// The status of its log entries and timestamps.
    pub const fn time_evidence(&self) -> TimeEvidenceStatus {
        self.by.time_evidence
    }

    /// True if a transparency log of its trust root has the signature.
    pub const fn is_logged(&self) -> bool {
        self.by.logged
    }

    /// The workload claims in the signer's certificate.
    pub const fn certificate_claims(&self) -> &CertificateClaims {
        &self.by.claims
    }

    /// SHA-256 of the SPKI of the signing key, if it is a long-lived key: a listed key, or one in a
    /// private CA's certificate.
    pub fn key_fingerprint(&self) -> Option<&Digest> {
        self.by.key.as_ref().map(|key| &key.fingerprint)
    }

    /// A fingerprint of the key that is independent of its algorithm: one RSA key for PKCS#1 and
    /// for PSS is one key.
    pub fn normalized_key_fingerprint(&self) -> Option<&Digest> {
        self.by.key.as_ref().map(|key| &key.normalized_fingerprint)
    }

    /// When the signer's certificate and its revocation lists are valid. Outside of it the
    /// statement must not be used.
    pub const fn validity_period(&self) -> ValidityPeriod {
        self.by.validity
    }

    /// How it is stored.
    pub const fn signature_format(&self) -> StoredSignatureFormat {
        self.by.format
    }
}

impl ValidityPeriod {
    /// The period from `from` up to, but excluding, `until`.
    pub const fn between(from: Timestamp, until: Timestamp) -> Self {
        Self {
            from: Some(from),
            until: Some(until),
        }
    }

    /// The period in which both are valid.
    #[must_use]
    pub fn intersect_with(self, other: Self) -> Self {
        let until = [self.until, other.until].into_iter().flatten().min();
        Self {
            from: self.from.max(other.from),
            until,
        }
    }

    /// True if `now` is in the period.
    pub fn contains_time(self, now: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now < until)
    }
}

impl SigningTime {
    /// The time, if it is known.
    pub const fn timestamp(self) -> Option<Timestamp> {
        match self {
            Self::Known(time) => Some(time),
            Self::Unknown => None,
        }
    }
}

impl fmt::Display for SignerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { fingerprint } => fingerprint.fmt(f),
            Self::Identity { san, issuer } => write!(f, "{san} ({issuer})"),
            Self::Certificate { san, authority } => {
                write!(f, "{san} (certificate authority {authority})")
            }
        }
    }
}
