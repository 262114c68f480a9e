//! What an error of `sigstore-verify` means: its reason code, its message, and whose signature it is
//! about. That it is an error is decided when these functions are called.

use jiff::Timestamp;
use sigstore_verify::{CertificateError, Error, TimestampError, TransparencyLogError};

use super::{
    evidence::{EvidenceError, sanitize_text},
    reason::{ClassifiedError, Reason},
    sigstore_bundle::SigstoreBundle,
    trusted_material::TrustRoot,
    x509::{EndEntityCertificate, fulcio_identity},
};

/// An error about no signer in particular.
pub(crate) fn sigstore_error(reason: Reason, message: &str) -> EvidenceError {
    EvidenceError::Sigstore {
        reason,
        message: message.to_owned(),
        signer: None,
    }
}

/// An untrusted certificate is reported as such, whatever else is wrong with the signature and its
/// log entry.
pub(crate) fn prefer_certificate_error(
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

/// The reason code for the crate's error. The crate reports a subject mismatch only after it
/// verified certificate and signature, so the certificate's name can be reported.
pub(crate) fn explain_sigstore_error(
    error: &Error,
    root: &TrustRoot,
    bundle: &SigstoreBundle,
) -> EvidenceError {
    let reason = sigstore_error_reason(error);
    let signer = if reason == Reason::SubjectMismatch {
        let certificate = bundle.as_sigstore_types().signing_certificate();
        certificate.and_then(fulcio_identity)
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

fn sigstore_error_reason(error: &Error) -> Reason {
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
