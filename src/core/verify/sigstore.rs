//! The one adapter to `sigstore-verify`: bundles with a certificate, their log entries and
//! timestamps.
//!
//! The crate checks timestamps, the log's inclusion proof, checkpoint and promise, the signature,
//! and that the log entry speaks of this signature. What it leaves open is closed here, before and
//! after it:
//!
//! - it accepts a bundle relabelled 0.1 without an inclusion proof: here every log entry must carry
//!   one;
//! - it has no caps: [`SigstoreBundle`] has them;
//! - it takes the first email address or URI of a certificate: here there must be exactly one name,
//!   and its kind shows ([`super::san`]);
//! - it takes every certificate of a trust root for an authority's, and further ones from bundles,
//!   and wants exactly one SCT: here it is not asked about certificates at all ([`super::chain`],
//!   [`super::sct`]), and timestamp authorities that are none are kept from it;
//! - it binds a log entry loosely to its log: here closely ([`super::log_entries`]);
//! - it says yes as a value with flags: here every flag must be set.
//!
//! It reads the wall clock, only to refuse what lies in the future. This is the one exception to
//! "no clock in `core`".

use std::{io::Read, sync::Arc};

use jiff::Timestamp;
use sigstore_crypto::{FulcioCiClaims, parse_certificate_info};
use sigstore_types::{Artifact as Signed, DerPublicKey, Sha256Hash};
use sigstore_verify::{
    CertificateError, Error, PublicKeyVerificationPolicy, TimestampError, TransparencyLogError,
    VerificationPolicy, VerificationResult,
};

use crate::core::{
    class::{Classified, Reason},
    digest::Digest,
    sigstore_bundle::SigstoreBundle,
};

use super::{
    Artifact, EvidenceError, KeyAlgorithm, SignedAt, Signer, TrustRoot, Validity, VerificationKey,
    chain::{self, EndEntity},
    error::shorten,
    san,
    verified::{Authenticated, Claims, Format, Vouched},
};

/// What was signed, as the crate takes it.
enum Content<'a> {
    Known(Signed<'a>),
    Read(&'a mut dyn Read),
}

impl<'a> Content<'a> {
    fn of(artifact: Artifact<'a>) -> Self {
        artifact
            .content
            .map_or_else(|| Self::Known(manifest(&artifact.digest)), Self::Read)
    }
}

/// What a signature is over, and in which form it is stored.
pub(super) struct Stored<'a> {
    pub(super) artifact: Signed<'a>,
    pub(super) format: Format,
}

impl Stored<'static> {
    fn in_bundle(subject: &Digest) -> Self {
        Self {
            artifact: manifest(subject),
            format: Format::Bundle,
        }
    }
}

/// The judged manifest, as the crate knows it.
pub(super) fn manifest(subject: &Digest) -> Signed<'static> {
    Signed::from_digest(Sha256Hash::new(*subject.bytes()))
}

/// Finds out who signed, once for every trust root that vouches for it; an error if none does.
pub(super) fn authenticate(
    bundle: &SigstoreBundle,
    subject: &Digest,
    roots: &[Arc<TrustRoot>],
) -> Result<Vec<Authenticated>, EvidenceError> {
    authenticate_stored(bundle, &Stored::in_bundle(subject), roots)
}

/// The same for what need not be a bundle.
pub(super) fn authenticate_stored(
    bundle: &SigstoreBundle,
    stored: &Stored<'_>,
    roots: &[Arc<TrustRoot>],
) -> Result<Vec<Authenticated>, EvidenceError> {
    let mut found = Vec::new();
    let mut faults = Vec::new();
    for root in roots {
        match authenticate_with(root, bundle, stored) {
            Ok(authenticated) => found.push(authenticated),
            Err(error) => faults.push(error),
        }
    }
    if found.is_empty() {
        Err(furthest(faults))
    } else {
        Ok(found)
    }
}

/// The fault that came furthest.
pub(super) fn furthest(faults: Vec<EvidenceError>) -> EvidenceError {
    chain::furthest(faults).unwrap_or(EvidenceError::NoTrustRoot)
}

fn authenticate_with(
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    stored: &Stored<'_>,
) -> Result<Authenticated, EvidenceError> {
    authenticate_as(
        root,
        bundle,
        Content::Known(stored.artifact.clone()),
        stored.format,
    )
}

/// Finds out who signed something with a certificate.
pub(super) fn authenticate_blob(
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    artifact: Artifact<'_>,
) -> Result<Authenticated, EvidenceError> {
    authenticate_as(root, bundle, Content::of(artifact), Format::Bundle)
}

fn authenticate_as(
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    content: Content<'_>,
    format: Format,
) -> Result<Authenticated, EvidenceError> {
    require_proofs(bundle, format)?;
    let certificate = certificate(bundle)?;
    let policy = VerificationPolicy::any_identity().skip_certificate_chain();
    let result = run(root, bundle, content, &policy)
        .map_err(|error| blame(root, bundle, &certificate, &error))?;
    require_logged(&result)?;
    root.check_certificate(&certificate, result.verified_timestamps())?;
    require_logs(root, bundle, &result, format)?;
    let signer = certified(bundle).ok_or_else(|| fault(Reason::IdentityMismatch, NAMELESS))?;
    let time = result
        .verified_timestamps()
        .iter()
        .min()
        .copied()
        .ok_or_else(|| fault(Reason::NoTrustedTime, "nobody vouches for a time"))?;
    Ok(Authenticated {
        signer,
        root: Some(root.digest()),
        time: SignedAt::Known(time),
        vouched: Vouched::Holds,
        logged: true,
        claims: result
            .certificate()
            .map(|certificate| claims(&certificate.ci_claims))
            .unwrap_or_default(),
        format,
        key: None,
        validity: Validity::default(),
    })
}

/// Holds the log entries and timestamps beside a key's signature against a trust root. All of them
/// must hold.
pub(super) fn vouch(
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    key: &VerificationKey,
    subject: &Digest,
) -> Result<Authenticated, EvidenceError> {
    vouch_stored(root, bundle, key, &Stored::in_bundle(subject))
}

/// The same for what need not be a bundle.
pub(super) fn vouch_stored(
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    key: &VerificationKey,
    stored: &Stored<'_>,
) -> Result<Authenticated, EvidenceError> {
    vouch_as(
        root,
        bundle,
        key,
        Content::Known(stored.artifact.clone()),
        stored.format,
    )
}

/// The same for whatever was signed.
pub(super) fn vouch_for_blob(
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    key: &VerificationKey,
    artifact: Artifact<'_>,
) -> Result<Authenticated, EvidenceError> {
    vouch_as(root, bundle, key, Content::of(artifact), Format::Bundle)
}

fn vouch_as(
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    key: &VerificationKey,
    content: Content<'_>,
    format: Format,
) -> Result<Authenticated, EvidenceError> {
    let signer = Signer::Key {
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
        require_proofs(bundle, format).map_err(concerning)?;
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
        return Err(concerning(fault(
            reason,
            "log entries and timestamps beside signatures of P-521 and RSASSA-PSS keys cannot be \
                checked",
        )));
    }
    let policy = PublicKeyVerificationPolicy::new(DerPublicKey::new(key.spki().to_vec()));
    // Without an entry there is nothing to skip; the crate would ask for one although there is a
    // timestamp.
    let policy = if logged {
        policy
    } else {
        policy.skip_tlog_unsafe()
    };
    let result = run(root, bundle, content, &policy)
        .map_err(|error| concerning(explain(&error, root, bundle)))?;
    if logged && !result.tlog_verified() {
        return Err(concerning(fault(
            Reason::InvalidInclusionProof,
            "its log entry was not checked",
        )));
    }
    require_logs(root, bundle, &result, format).map_err(concerning)?;
    let time = result
        .verified_timestamps()
        .iter()
        .min()
        .copied()
        .map_or(SignedAt::Unknown, SignedAt::Known);
    Ok(Authenticated {
        signer,
        root: Some(root.digest()),
        time,
        vouched: Vouched::Holds,
        logged,
        claims: Claims::default(),
        format,
        key: Some(key.names()),
        validity: Validity::default(),
    })
}

/// What a trust root's logs and timestamp authorities say about a signature by a certificate that
/// others issued.
pub(super) struct Vouching {
    /// At least one.
    pub(super) times: Vec<Timestamp>,
    /// Is it in a log?
    pub(super) logged: bool,
}

/// Holds the log entries and timestamps beside a company's certificate against a trust root. All of
/// them must hold, and one must say when. The certificate itself is not looked at.
pub(super) fn vouch_for_certificate(
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    subject: &Digest,
) -> Result<Vouching, EvidenceError> {
    let logged = !bundle.log_entries().is_empty();
    let policy = VerificationPolicy::any_identity().skip_certificate_chain();
    let policy = if logged {
        policy
    } else {
        policy.skip_tlog_unsafe()
    };
    if logged {
        require_proofs(bundle, Format::Bundle)?;
    }
    let artifact = Sha256Hash::new(*subject.bytes());
    let result = root
        .verifier
        .verify(artifact, bundle.inner(), &policy)
        .map_err(|error| explain(&error, root, bundle))?;
    if logged && !result.tlog_verified() {
        return Err(fault(
            Reason::InvalidInclusionProof,
            "its log entry was not checked",
        ));
    }
    require_logs(root, bundle, &result, Format::Bundle)?;
    Ok(Vouching {
        times: result.verified_timestamps().to_vec(),
        logged,
    })
}

fn run(
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    content: Content<'_>,
    policy: &dyn sigstore_verify::Policy,
) -> Result<VerificationResult, Error> {
    match content {
        Content::Read(content) => root.verifier.verify_reader(content, bundle.inner(), policy),
        Content::Known(artifact) => root.verifier.verify(artifact, bundle.inner(), policy),
    }
}

pub(super) const NAMELESS: &str = "its certificate must have exactly one name, a URI, an email \
    address or a Fulcio username, and an issuer";

fn claims(claims: &FulcioCiClaims) -> Claims {
    Claims {
        source_repository: claims.source_repository_uri.clone(),
        source_ref: claims.source_repository_ref.clone(),
        workflow: claims.build_config_uri.clone(),
        trigger: claims.build_trigger.clone(),
        runner: claims.runner_environment.clone(),
    }
}

/// A log's promise alone will do nowhere but in the form that is called so, which a policy must
/// list.
fn require_proofs(bundle: &SigstoreBundle, format: Format) -> Result<(), EvidenceError> {
    let entries = bundle.log_entries();
    let promised = format == Format::LegacySetOnly
        && entries
            .iter()
            .all(|entry| entry.inclusion_promise.is_some());
    if entries.is_empty()
        || !promised && entries.iter().any(|entry| entry.inclusion_proof.is_none())
    {
        return Err(fault(
            Reason::InvalidInclusionProof,
            "it has no log entry, or one without an inclusion proof",
        ));
    }
    Ok(())
}

fn require_logs(
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    result: &VerificationResult,
    format: Format,
) -> Result<(), EvidenceError> {
    let checked = root.logs.check(
        bundle.log_entries(),
        result.verified_timestamps(),
        format == Format::LegacySetOnly,
    );
    checked.map_err(|found| fault(Reason::InvalidInclusionProof, &found.to_string()))
}

fn require_logged(result: &VerificationResult) -> Result<(), EvidenceError> {
    if result.tlog_verified() {
        Ok(())
    } else {
        Err(fault(
            Reason::InvalidInclusionProof,
            "its log entry was not checked",
        ))
    }
}

fn certificate(bundle: &SigstoreBundle) -> Result<EndEntity<'_>, EvidenceError> {
    let der = bundle.inner().signing_certificate();
    der.and_then(|der| EndEntity::of(der.as_bytes()))
        .ok_or_else(|| fault(Reason::MalformedEvidence, "its certificate cannot be read"))
}

/// A certificate of nobody who is trusted is told as that, whatever else is wrong with what its key
/// signed and a log holds.
fn blame(
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    certificate: &EndEntity<'_>,
    error: &Error,
) -> EvidenceError {
    let explained = explain(error, root, bundle);
    let times: Vec<Timestamp> = match (error, explained.reason()) {
        // Before and after the certificate.
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
        ) => certificate.facts.validity.from.into_iter().collect(),
        _ => return explained,
    };
    root.check_certificate(certificate, &times)
        .err()
        .unwrap_or(explained)
}

pub(super) fn fault(reason: Reason, message: &str) -> EvidenceError {
    EvidenceError::Sigstore {
        reason,
        message: message.to_owned(),
        signer: None,
    }
}

/// Our reason for the crate's error. A mismatch of the subject comes after the certificate and the
/// signature were found good, so the certificate's names can be told.
fn explain(error: &Error, root: &TrustRoot, bundle: &SigstoreBundle) -> EvidenceError {
    let reason = reason_of(error);
    let signer = if reason == Reason::SubjectMismatch {
        certified(bundle)
    } else {
        None
    };
    let unused = root
        .unused_timestamp_authority()
        .filter(|_| matches!(error, Error::Timestamp(TimestampError::Invalid(_))));
    let message = unused.map_or_else(|| error.to_string(), |unused| format!("{error}; {unused}"));
    EvidenceError::Sigstore {
        reason,
        message: shorten(&message),
        signer,
    }
}

fn certified(bundle: &SigstoreBundle) -> Option<Signer> {
    let certificate = bundle.inner().signing_certificate()?;
    let issuer = parse_certificate_info(certificate)
        .ok()?
        .issuer
        .filter(|issuer| !issuer.is_empty())?;
    Some(Signer::Identity {
        san: san::only_name(certificate.as_bytes())?,
        issuer,
    })
}

fn reason_of(error: &Error) -> Reason {
    match error {
        // The log's `hashedrekord` speaks of other bytes than were signed.
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

/// The crate does not judge certificates; it reads them.
const fn certificate_reason(error: &CertificateError) -> Reason {
    match error {
        CertificateError::Malformed(_) => Reason::MalformedEvidence,
        _ => Reason::UntrustedChain,
    }
}

/// The inclusion promise is the log's signed entry timestamp: it vouches for the time.
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
