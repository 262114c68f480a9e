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
//!   and its kind shows ([`super::subject_alt_name`]);
//! - it accepts every certificate of a trust root as a CA, and further ones from bundles, and
//!   requires exactly one SCT: here its certificate checks are not used at all ([`super::chain`],
//!   [`super::sct`]), and invalid timestamp authorities are removed before;
//! - it binds a log entry only loosely to its log: here strictly ([`super::log_entries`]);
//! - it returns success as a value with flags: here every flag must be set.
//!
//! It reads the wall clock, only to refuse times in the future. This is the one exception to "no
//! clock in `core`".

use std::{io::Read, sync::Arc};

use jiff::Timestamp;
use sigstore_crypto::{FulcioCiClaims, parse_certificate_info};
use sigstore_types::{Artifact as Signed, DerPublicKey, Sha256Hash};
use sigstore_verify::{
    CertificateError, Error, PublicKeyVerificationPolicy, TimestampError, TransparencyLogError,
    VerificationPolicy, VerificationResult,
};

use crate::core::{
    digest::Digest,
    reason::{ClassifiedError, Reason},
    sigstore_bundle::SigstoreBundle,
};

use super::{
    BlobArtifact, EvidenceError, KeyAlgorithm, SignerIdentity, SigningTime, TrustRoot,
    ValidityPeriod, VerificationKey,
    chain::{self, EndEntityCertificate},
    error::sanitize_text,
    subject_alt_name,
    verified::{
        AuthenticatedSignature, CertificateClaims, StoredSignatureFormat, TimeEvidenceStatus,
    },
};

/// The signed content, in the crate's form.
enum ArtifactInput<'a> {
    Known(Signed<'a>),
    Read(&'a mut dyn Read),
}

impl<'a> ArtifactInput<'a> {
    fn from_blob(artifact: BlobArtifact<'a>) -> Self {
        artifact.content.map_or_else(
            || Self::Known(manifest_artifact(&artifact.digest)),
            Self::Read,
        )
    }
}

/// What a signature covers, and how it is stored.
pub(super) struct SignedArtifact<'a> {
    pub(super) artifact: Signed<'a>,
    pub(super) format: StoredSignatureFormat,
}

impl SignedArtifact<'static> {
    fn manifest_in_bundle(subject: &Digest) -> Self {
        Self {
            artifact: manifest_artifact(subject),
            format: StoredSignatureFormat::Bundle,
        }
    }
}

/// The manifest under verification, as the crate's artifact type.
pub(super) fn manifest_artifact(subject: &Digest) -> Signed<'static> {
    Signed::from_digest(Sha256Hash::new(*subject.as_bytes()))
}

/// Identifies the signer, once for every trust root that verifies the signature; an error if none
/// does.
pub(super) fn authenticate_manifest(
    bundle: &SigstoreBundle,
    subject: &Digest,
    roots: &[Arc<TrustRoot>],
) -> Result<Vec<AuthenticatedSignature>, EvidenceError> {
    authenticate_artifact(bundle, &SignedArtifact::manifest_in_bundle(subject), roots)
}

/// The same for any artifact.
pub(super) fn authenticate_artifact(
    bundle: &SigstoreBundle,
    stored: &SignedArtifact<'_>,
    roots: &[Arc<TrustRoot>],
) -> Result<Vec<AuthenticatedSignature>, EvidenceError> {
    let mut found = Vec::new();
    let mut faults = Vec::new();
    for root in roots {
        match authenticate_with_root(root, bundle, stored) {
            Ok(authenticated) => found.push(authenticated),
            Err(error) => faults.push(error),
        }
    }
    if found.is_empty() {
        Err(furthest_or_no_trust_root(faults))
    } else {
        Ok(found)
    }
}

/// The error of the furthest check.
pub(super) fn furthest_or_no_trust_root(faults: Vec<EvidenceError>) -> EvidenceError {
    chain::furthest_error(faults).unwrap_or(EvidenceError::NoTrustRoot)
}

fn authenticate_with_root(
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    stored: &SignedArtifact<'_>,
) -> Result<AuthenticatedSignature, EvidenceError> {
    authenticate_certificate(
        root,
        bundle,
        ArtifactInput::Known(stored.artifact.clone()),
        stored.format,
    )
}

/// Identifies the signer of a blob with a certificate.
pub(super) fn authenticate_blob(
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    artifact: BlobArtifact<'_>,
) -> Result<AuthenticatedSignature, EvidenceError> {
    authenticate_certificate(
        root,
        bundle,
        ArtifactInput::from_blob(artifact),
        StoredSignatureFormat::Bundle,
    )
}

fn authenticate_certificate(
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    content: ArtifactInput<'_>,
    format: StoredSignatureFormat,
) -> Result<AuthenticatedSignature, EvidenceError> {
    require_inclusion_proofs(bundle, format)?;
    let certificate = end_entity_certificate(bundle)?;
    let policy = VerificationPolicy::any_identity().skip_certificate_chain();
    let result = run_sigstore_verifier(root, bundle, content, &policy)
        .map_err(|error| prefer_certificate_error(root, bundle, &certificate, &error))?;
    require_log_verified(&result)?;
    root.check_certificate(&certificate, result.verified_timestamps())?;
    require_trusted_logs(root, bundle, &result, format)?;
    let signer = certificate_signer(bundle)
        .ok_or_else(|| sigstore_error(Reason::IdentityMismatch, MISSING_NAME_OR_ISSUER))?;
    let time = result
        .verified_timestamps()
        .iter()
        .min()
        .copied()
        .ok_or_else(|| {
            sigstore_error(
                Reason::NoTrustedTime,
                "no log or timestamp authority attests a signing time",
            )
        })?;
    Ok(AuthenticatedSignature {
        signer,
        root: Some(root.digest()),
        time: SigningTime::Known(time),
        time_evidence: TimeEvidenceStatus::Verified,
        logged: true,
        claims: result
            .certificate()
            .map(|certificate| to_certificate_claims(&certificate.ci_claims))
            .unwrap_or_default(),
        format,
        key: None,
        validity: ValidityPeriod::default(),
    })
}

/// Verifies the log entries and timestamps of a signature by a key with a trust root. All of them
/// must be valid.
pub(super) fn verify_key_time_evidence(
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    key: &VerificationKey,
    subject: &Digest,
) -> Result<AuthenticatedSignature, EvidenceError> {
    verify_artifact_time_evidence(
        root,
        bundle,
        key,
        &SignedArtifact::manifest_in_bundle(subject),
    )
}

/// The same for any artifact.
pub(super) fn verify_artifact_time_evidence(
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    key: &VerificationKey,
    stored: &SignedArtifact<'_>,
) -> Result<AuthenticatedSignature, EvidenceError> {
    verify_time_evidence(
        root,
        bundle,
        key,
        ArtifactInput::Known(stored.artifact.clone()),
        stored.format,
    )
}

/// The same for a blob.
pub(super) fn verify_blob_time_evidence(
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    key: &VerificationKey,
    artifact: BlobArtifact<'_>,
) -> Result<AuthenticatedSignature, EvidenceError> {
    verify_time_evidence(
        root,
        bundle,
        key,
        ArtifactInput::from_blob(artifact),
        StoredSignatureFormat::Bundle,
    )
}

fn verify_time_evidence(
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    key: &VerificationKey,
    content: ArtifactInput<'_>,
    format: StoredSignatureFormat,
) -> Result<AuthenticatedSignature, EvidenceError> {
    let signer = SignerIdentity::Key {
        fingerprint: key.fingerprint(),
    };
    let concerning = |error| match error {
        EvidenceError::Sigstore {
            reason, message, ..
        } => EvidenceError::Sigstore {
            reason,
            message,
            signer: Some(signer.clone()),
        },
        other => other,
    };
    let logged = !bundle.log_entries().is_empty();
    if logged {
        require_inclusion_proofs(bundle, format).map_err(concerning)?;
    }
    if matches!(
        key.algorithm(),
        KeyAlgorithm::EcdsaP521 | KeyAlgorithm::RsaPss
    ) {
        let reason = if logged {
            Reason::InvalidInclusionProof
        } else {
            Reason::InvalidTimestamp
        };
        return Err(concerning(sigstore_error(
            reason,
            "log entries and timestamps of signatures by P-521 and RSASSA-PSS keys cannot be \
                checked",
        )));
    }
    let policy = PublicKeyVerificationPolicy::new(DerPublicKey::new(key.spki_der().to_vec()));
    // Without a log entry there is nothing to skip; the crate would require one although there is a
    // timestamp.
    let policy = if logged {
        policy
    } else {
        policy.skip_tlog_unsafe()
    };
    let result = run_sigstore_verifier(root, bundle, content, &policy)
        .map_err(|error| concerning(explain_sigstore_error(&error, root, bundle)))?;
    if logged && !result.tlog_verified() {
        return Err(concerning(sigstore_error(
            Reason::InvalidInclusionProof,
            "its log entry was not checked",
        )));
    }
    require_trusted_logs(root, bundle, &result, format).map_err(concerning)?;
    let time = result
        .verified_timestamps()
        .iter()
        .min()
        .copied()
        .map_or(SigningTime::Unknown, SigningTime::Known);
    Ok(AuthenticatedSignature {
        signer,
        root: Some(root.digest()),
        time,
        time_evidence: TimeEvidenceStatus::Verified,
        logged,
        claims: CertificateClaims::default(),
        format,
        key: Some(key.key_identifiers()),
        validity: ValidityPeriod::default(),
    })
}

/// What a trust root verifies about the time of a signature by a private CA's certificate.
pub(super) struct CertificateTimeEvidence {
    /// The verified times; at least one.
    pub(super) times: Vec<Timestamp>,
    /// True if a transparency log has the signature.
    pub(super) logged: bool,
}

/// Verifies the log entries and timestamps of a signature by a private CA's certificate with a
/// trust root. All of them must be valid, and one must give a time. The certificate itself is not
/// checked here.
pub(super) fn verify_certificate_time_evidence(
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    subject: &Digest,
) -> Result<CertificateTimeEvidence, EvidenceError> {
    let logged = !bundle.log_entries().is_empty();
    let policy = VerificationPolicy::any_identity().skip_certificate_chain();
    let policy = if logged {
        policy
    } else {
        policy.skip_tlog_unsafe()
    };
    if logged {
        require_inclusion_proofs(bundle, StoredSignatureFormat::Bundle)?;
    }
    let artifact = Sha256Hash::new(*subject.as_bytes());
    let result = root
        .verifier
        .verify(artifact, bundle.as_sigstore_types(), &policy)
        .map_err(|error| explain_sigstore_error(&error, root, bundle))?;
    if logged && !result.tlog_verified() {
        return Err(sigstore_error(
            Reason::InvalidInclusionProof,
            "its log entry was not checked",
        ));
    }
    require_trusted_logs(root, bundle, &result, StoredSignatureFormat::Bundle)?;
    Ok(CertificateTimeEvidence {
        times: result.verified_timestamps().to_vec(),
        logged,
    })
}

fn run_sigstore_verifier(
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    content: ArtifactInput<'_>,
    policy: &dyn sigstore_verify::Policy,
) -> Result<VerificationResult, Error> {
    match content {
        ArtifactInput::Read(content) => {
            root.verifier
                .verify_reader(content, bundle.as_sigstore_types(), policy)
        }
        ArtifactInput::Known(artifact) => {
            root.verifier
                .verify(artifact, bundle.as_sigstore_types(), policy)
        }
    }
}

pub(super) const MISSING_NAME_OR_ISSUER: &str = "its certificate must have exactly one name, a URI, an email \
    address or a Fulcio username, and an issuer";

fn to_certificate_claims(claims: &FulcioCiClaims) -> CertificateClaims {
    CertificateClaims {
        source_repository: claims.source_repository_uri.clone(),
        source_ref: claims.source_repository_ref.clone(),
        workflow: claims.build_config_uri.clone(),
        trigger: claims.build_trigger.clone(),
        runner: claims.runner_environment.clone(),
    }
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

fn require_log_verified(result: &VerificationResult) -> Result<(), EvidenceError> {
    if result.tlog_verified() {
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

/// An untrusted certificate is reported as such, whatever else is wrong with the signature and its
/// log entry.
fn prefer_certificate_error(
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    certificate: &EndEntityCertificate<'_>,
    error: &Error,
) -> EvidenceError {
    let explained = explain_sigstore_error(error, root, bundle);
    let times: Vec<Timestamp> = match (error, explained.reason()) {
        // Before and after the certificate's validity.
        (Error::TransparencyLog(TransparencyLogError::IntegratedTime(message)), _)
            if !message.contains("future") =>
        {
            bundle
                .log_entries()
                .iter()
                .filter_map(|entry| entry.integrated_time)
                .collect()
        }
        (
            _,
            Reason::InvalidInclusionProof
            | Reason::LogEntryMismatch
            | Reason::InvalidSignature
            | Reason::SubjectMismatch,
        ) => certificate.properties.validity.from.into_iter().collect(),
        _ => return explained,
    };
    root.check_certificate(certificate, &times)
        .err()
        .unwrap_or(explained)
}

pub(super) fn sigstore_error(reason: Reason, message: &str) -> EvidenceError {
    EvidenceError::Sigstore {
        reason,
        message: message.to_owned(),
        signer: None,
    }
}

/// The reason code for the crate's error. The crate reports a subject mismatch only after it
/// verified certificate and signature, so the certificate's name can be reported.
fn explain_sigstore_error(
    error: &Error,
    root: &TrustRoot,
    bundle: &SigstoreBundle,
) -> EvidenceError {
    let reason = reason_of(error);
    let signer = if reason == Reason::SubjectMismatch {
        certificate_signer(bundle)
    } else {
        None
    };
    let unused = root
        .unused_timestamp_authority()
        .filter(|_| matches!(error, Error::Timestamp(TimestampError::Invalid(_))));
    let message = unused.map_or_else(|| error.to_string(), |unused| format!("{error}; {unused}"));
    EvidenceError::Sigstore {
        reason,
        message: sanitize_text(&message),
        signer,
    }
}

fn certificate_signer(bundle: &SigstoreBundle) -> Option<SignerIdentity> {
    let certificate = bundle.as_sigstore_types().signing_certificate()?;
    let issuer = parse_certificate_info(certificate)
        .ok()?
        .issuer
        .filter(|issuer| !issuer.is_empty())?;
    Some(SignerIdentity::Identity {
        san: subject_alt_name::single_san(certificate.as_bytes())?,
        issuer,
    })
}

fn reason_of(error: &Error) -> Reason {
    match error {
        // The log's `hashedrekord` entry is about other bytes than the signed ones.
        Error::ArtifactMismatch(message) if message.contains("hashedrekord") => {
            Reason::LogEntryMismatch
        }
        Error::IdentityMismatch { .. } | Error::IssuerMismatch { .. } => Reason::IdentityMismatch,
        Error::SignatureInvalid(_) => Reason::InvalidSignature,
        Error::ArtifactMismatch(_) => Reason::SubjectMismatch,
        Error::Certificate(error) => certificate_reason(error),
        Error::TransparencyLog(error) => log_reason(error),
        Error::Timestamp(TimestampError::NoVerifiedTimestamp(_)) => Reason::NoTrustedTime,
        Error::Timestamp(_) => Reason::InvalidTimestamp,
        Error::Bundle(error) => bundle_reason(error),
        Error::InvalidTrustRoot(_) | Error::TrustRoot(_) | Error::TrustedCertificate(_) => {
            Reason::UntrustedChain
        }
        _ => Reason::MalformedEvidence,
    }
}

/// The crate only parses certificates here; it does not verify them.
const fn certificate_reason(error: &CertificateError) -> Reason {
    match error {
        CertificateError::Malformed(_) => Reason::MalformedEvidence,
        _ => Reason::UntrustedChain,
    }
}

/// The inclusion promise is the log's signed entry timestamp (SET), which proves the time.
const fn log_reason(error: &TransparencyLogError) -> Reason {
    match error {
        TransparencyLogError::InclusionPromise(_) | TransparencyLogError::IntegratedTime(_) => {
            Reason::InvalidTimestamp
        }
        TransparencyLogError::EntryMismatch(_) => Reason::LogEntryMismatch,
        TransparencyLogError::MalformedEntry(_) => Reason::MalformedEvidence,
        _ => Reason::InvalidInclusionProof,
    }
}

const fn bundle_reason(error: &sigstore_verify::bundle::Error) -> Reason {
    use sigstore_verify::bundle::Error as E;
    match error {
        E::MissingInclusionProof(_)
        | E::MissingCheckpoint
        | E::LogIndexOutOfRange { .. }
        | E::CheckpointRootMismatch => Reason::InvalidInclusionProof,
        E::MissingInclusionPromise(_) | E::MissingSigningTimeEvidence | E::MissingTimestamp => {
            Reason::NoTrustedTime
        }
        _ => Reason::MalformedEvidence,
    }
}
