//! Verified statements and their signers. Only `core::verify` can construct these values.

use crate::core::{digest::Digest, public_key::KeyIdentifiers};

use super::{
    CertificateClaims, SignerIdentity, SigningTime, StoredSignatureFormat, TimeEvidenceStatus,
    ValidityPeriod, VerificationKey,
};

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

/// The signer of a verified signature: what `core::verify` knows before it parses the payload.
#[derive(Clone, Debug)]
pub(crate) struct AuthenticatedSignature {
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

impl AuthenticatedSignature {
    /// The signature of `signer`, of which nothing more is known.
    pub(super) fn by(signer: SignerIdentity, format: StoredSignatureFormat) -> Self {
        Self {
            signer,
            root: None,
            time: SigningTime::Unknown,
            time_evidence: TimeEvidenceStatus::Absent,
            logged: false,
            claims: CertificateClaims::default(),
            format,
            key: None,
            validity: ValidityPeriod::default(),
        }
    }

    /// The signature of the holder of `key`, of which nothing more is known.
    pub(super) fn by_key(key: &VerificationKey, format: StoredSignatureFormat) -> Self {
        let signer = SignerIdentity::Key {
            fingerprint: key.fingerprint(),
        };
        Self {
            key: Some(key.key_identifiers()),
            ..Self::by(signer, format)
        }
    }
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
