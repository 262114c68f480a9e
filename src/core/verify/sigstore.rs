//! The one adapter to `sigstore-verify`: bundles with a certificate, their log entries and
//! timestamps.
//!
//! The crate checks timestamps, the log's inclusion proof, checkpoint and promise, the signature,
//! and that the log entry speaks of this signature. What it does not check is checked here, before
//! and after it:
//!
//! - it accepts a bundle relabelled 0.1 without an inclusion proof: here every log entry must carry
//!   one;
//! - it has no caps: [`SigstoreBundle`] has them;
//! - it takes the first email address or URI of a certificate: here there must be exactly one name,
//!   and its kind shows ([`crate::core::x509::single_san`]);
//! - it accepts every certificate of a trust root as a CA, and further ones from bundles, and
//!   requires exactly one SCT: here its certificate checks are not used at all
//!   ([`crate::core::x509`]), and invalid timestamp authorities are removed before;
//! - it binds a log entry only loosely to its log: here strictly ([`super::log_entries`]);
//! - it returns success as a value with flags: here every flag must be set.
//!
//! It reads the wall clock, only to refuse times in the future. This is the one exception to "no
//! clock in `core`".

use std::io::Read;

use jiff::Timestamp;
use sigstore_types::{Artifact, DerPublicKey, Sha256Hash};
use sigstore_verify::{Error, PublicKeyVerificationPolicy, VerificationPolicy, VerificationResult};

use crate::core::{
    digest::Digest,
    reason::Reason,
    sigstore_bundle::SigstoreBundle,
    sigstore_errors::{explain_sigstore_error, prefer_certificate_error, sigstore_error},
    x509::{EndEntityCertificate, MISSING_NAME_OR_ISSUER, fulcio_claims, fulcio_identity},
};

use super::{
    EvidenceError, KeyAlgorithm, SigningTime, StoredSignatureFormat, TimeEvidenceStatus, TrustRoot,
    VerificationKey, verified::AuthenticatedSignature,
};

pub(super) const UNSUPPORTED_TIME_EVIDENCE: &str = "log entries and timestamps of signatures by P-521 and \
    RSASSA-PSS keys cannot be checked";

/// What a signature covers, and how it is stored.
pub(crate) struct SignedArtifact<'a> {
    content: ArtifactContent<'a>,
    format: StoredSignatureFormat,
}

/// The signed content, in the crate's form.
enum ArtifactContent<'a> {
    Known(Artifact<'a>),
    Read(&'a mut dyn Read),
}

impl<'a> SignedArtifact<'a> {
    /// The manifest under verification, or another artifact with this digest, in a bundle.
    pub(super) fn manifest(subject: &Digest) -> Self {
        Self::with_digest(subject, StoredSignatureFormat::Bundle)
    }

    /// An artifact with this digest.
    pub(crate) fn with_digest(digest: &Digest, format: StoredSignatureFormat) -> Self {
        let artifact = Artifact::from_digest(Sha256Hash::new(*digest.as_bytes()));
        Self {
            content: ArtifactContent::Known(artifact),
            format,
        }
    }

    /// These bytes.
    pub(crate) fn bytes(bytes: &'a [u8], format: StoredSignatureFormat) -> Self {
        Self {
            content: ArtifactContent::Known(Artifact::from_blob(bytes)),
            format,
        }
    }

    /// What `content` reads, in a bundle.
    pub(super) fn reader(content: &'a mut dyn Read) -> Self {
        Self {
            content: ArtifactContent::Read(content),
            format: StoredSignatureFormat::Bundle,
        }
    }
}

/// Identifies the signer by a certificate: it chains to an authority of the trust root, a log has
/// the signature, and its time is known.
pub(super) fn authenticate_certificate(
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    artifact: SignedArtifact<'_>,
) -> Result<AuthenticatedSignature, EvidenceError> {
    let format = artifact.format;
    require_inclusion_proofs(bundle, format)?;
    let certificate = end_entity_certificate(bundle)?;
    let policy = VerificationPolicy::any_identity().skip_certificate_chain();
    let result = run_sigstore_verifier(root, bundle, artifact, &policy)
        .map_err(|error| prefer_certificate_error(root, bundle, &certificate, &error))?;
    require_log_verified(bundle, &result)?;
    root.check_certificate(&certificate, result.verified_timestamps())?;
    require_trusted_logs(root, bundle, &result, format)?;
    let signing_certificate = bundle.as_sigstore_types().signing_certificate();
    let signer = signing_certificate
        .and_then(fulcio_identity)
        .ok_or_else(|| sigstore_error(Reason::IdentityMismatch, MISSING_NAME_OR_ISSUER))?;
    let time = earliest_time(&result);
    if time == SigningTime::Unknown {
        return Err(sigstore_error(
            Reason::NoTrustedTime,
            "no log or timestamp authority attests a signing time",
        ));
    }
    Ok(AuthenticatedSignature {
        root: Some(root.digest()),
        time,
        time_evidence: TimeEvidenceStatus::Verified,
        logged: true,
        claims: result
            .certificate()
            .map(|certificate| fulcio_claims(&certificate.ci_claims))
            .unwrap_or_default(),
        ..AuthenticatedSignature::by(signer, format)
    })
}

/// Verifies the log entries and timestamps of a signature by a key with a trust root. All of them
/// must be valid.
pub(super) fn verify_key_time_evidence(
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    key: &VerificationKey,
    artifact: SignedArtifact<'_>,
) -> Result<AuthenticatedSignature, EvidenceError> {
    let found = AuthenticatedSignature::by_key(key, artifact.format);
    let result = check_key_time_evidence(root, bundle, key, artifact)
        .map_err(|error| error.with_signer(Some(found.signer.clone())))?;
    Ok(AuthenticatedSignature {
        root: Some(root.digest()),
        time: earliest_time(&result),
        time_evidence: TimeEvidenceStatus::Verified,
        logged: is_logged(bundle),
        ..found
    })
}

fn check_key_time_evidence(
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    key: &VerificationKey,
    artifact: SignedArtifact<'_>,
) -> Result<VerificationResult, EvidenceError> {
    let logged = is_logged(bundle);
    if logged {
        require_inclusion_proofs(bundle, artifact.format)?;
    }
    if !can_check_time_evidence(key) {
        let reason = if logged {
            Reason::InvalidInclusionProof
        } else {
            Reason::InvalidTimestamp
        };
        return Err(sigstore_error(reason, UNSUPPORTED_TIME_EVIDENCE));
    }
    let policy = PublicKeyVerificationPolicy::new(DerPublicKey::new(key.spki_der().to_vec()));
    // Without a log entry there is nothing to skip; the crate would require one although there is a
    // timestamp.
    let policy = if logged {
        policy
    } else {
        policy.skip_tlog_unsafe()
    };
    verify_times(root, bundle, artifact, &policy)
}

/// True if `sigstore-verify` can check log entries and timestamps of signatures by this key.
pub(super) const fn can_check_time_evidence(key: &VerificationKey) -> bool {
    !matches!(
        key.algorithm(),
        KeyAlgorithm::EcdsaP521 | KeyAlgorithm::RsaPss
    )
}

/// Verifies the log entries and timestamps of a signature by a private CA's certificate with a
/// trust root. All of them must be valid, and one must give a time. The certificate itself is not
/// checked here. The result: the verified times.
pub(super) fn verify_certificate_time_evidence(
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    artifact: SignedArtifact<'_>,
) -> Result<Vec<Timestamp>, EvidenceError> {
    let policy = VerificationPolicy::any_identity().skip_certificate_chain();
    let policy = if is_logged(bundle) {
        require_inclusion_proofs(bundle, artifact.format)?;
        policy
    } else {
        policy.skip_tlog_unsafe()
    };
    let result = verify_times(root, bundle, artifact, &policy)?;
    Ok(result.verified_timestamps().to_vec())
}

/// All log entries and timestamps of a bundle, which may have no log entry.
fn verify_times(
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    artifact: SignedArtifact<'_>,
    policy: &dyn sigstore_verify::Policy,
) -> Result<VerificationResult, EvidenceError> {
    let format = artifact.format;
    let result = run_sigstore_verifier(root, bundle, artifact, policy)
        .map_err(|error| explain_sigstore_error(&error, root, bundle))?;
    require_log_verified(bundle, &result)?;
    require_trusted_logs(root, bundle, &result, format)?;
    Ok(result)
}

fn run_sigstore_verifier(
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    artifact: SignedArtifact<'_>,
    policy: &dyn sigstore_verify::Policy,
) -> Result<VerificationResult, Error> {
    let (verifier, bundle) = (&root.verifier, bundle.as_sigstore_types());
    match artifact.content {
        ArtifactContent::Read(content) => verifier.verify_reader(content, bundle, policy),
        ArtifactContent::Known(artifact) => verifier.verify(artifact, bundle, policy),
    }
}

pub(super) fn is_logged(bundle: &SigstoreBundle) -> bool {
    !bundle.log_entries().is_empty()
}

fn earliest_time(result: &VerificationResult) -> SigningTime {
    let times = result.verified_timestamps().iter();
    times
        .min()
        .copied()
        .map_or(SigningTime::Unknown, SigningTime::Known)
}

/// An inclusion promise alone is only accepted in [`StoredSignatureFormat::LegacySetOnly`], which a
/// policy must list.
fn require_inclusion_proofs(
    bundle: &SigstoreBundle,
    format: StoredSignatureFormat,
) -> Result<(), EvidenceError> {
    let entries = bundle.log_entries();
    let promised = format == StoredSignatureFormat::LegacySetOnly
        && entries
            .iter()
            .all(|entry| entry.inclusion_promise.is_some());
    if entries.is_empty()
        || !promised && entries.iter().any(|entry| entry.inclusion_proof.is_none())
    {
        return Err(sigstore_error(
            Reason::InvalidInclusionProof,
            "it has no log entry, or one without an inclusion proof",
        ));
    }
    Ok(())
}

fn require_trusted_logs(
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    result: &VerificationResult,
    format: StoredSignatureFormat,
) -> Result<(), EvidenceError> {
    let checked = root.logs.check_entries(
        bundle.log_entries(),
        result.verified_timestamps(),
        format == StoredSignatureFormat::LegacySetOnly,
    );
    checked.map_err(|found| sigstore_error(Reason::InvalidInclusionProof, &found.to_string()))
}

fn require_log_verified(
    bundle: &SigstoreBundle,
    result: &VerificationResult,
) -> Result<(), EvidenceError> {
    if result.tlog_verified() || !is_logged(bundle) {
        Ok(())
    } else {
        Err(sigstore_error(
            Reason::InvalidInclusionProof,
            "its log entry was not checked",
        ))
    }
}

fn end_entity_certificate(
    bundle: &SigstoreBundle,
) -> Result<EndEntityCertificate<'_>, EvidenceError> {
    let der = bundle.as_sigstore_types().signing_certificate();
    der.and_then(|der| EndEntityCertificate::from_der(der.as_bytes()))
        .ok_or_else(|| sigstore_error(Reason::MalformedEvidence, "its certificate cannot be read"))
}
