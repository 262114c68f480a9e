//! Errors of certificate paths.

use jiff::Timestamp;
use pki_types::UnixTime;
use webpki::Error;

use super::CertificatePurpose;
use crate::core::{
    reason::{ClassifiedError, Reason},
    verify::{
        EvidenceError,
        error::{reason_rank, sanitize_text},
    },
};

/// No path to a trusted certificate, or none with valid issuers.
pub(in crate::core::verify) fn untrusted_chain_error(message: &str) -> EvidenceError {
    EvidenceError::Sigstore {
        reason: Reason::UntrustedChain,
        message: message.to_owned(),
        signer: None,
    }
}

const UNKNOWN_ISSUER: &str = "its certificate chains to no root of the authority";

/// The error of the furthest check, of those of several authorities. That another authority did not
/// issue the certificate is not reported.
pub(in crate::core::verify) fn furthest_error(faults: Vec<EvidenceError>) -> Option<EvidenceError> {
    let is_news = |error: &EvidenceError| !matches!(error, EvidenceError::Sigstore { message, .. } if message == UNKNOWN_ISSUER);
    faults
        .into_iter()
        .max_by_key(|error| (reason_rank(error.reason()), is_news(error)))
}

/// The errors to report, of those of several authorities: every revocation of the certificate by
/// its issuer, or else the error of the furthest check. No exemption covers a revocation, so none
/// may be lost.
pub(in crate::core::verify) fn errors_to_report(faults: Vec<EvidenceError>) -> Vec<EvidenceError> {
    let (revoked, rest): (Vec<_>, Vec<_>) = faults
        .into_iter()
        .partition(|fault| fault.reason() == Reason::Revoked && fault.signer().is_some());
    if revoked.is_empty() {
        furthest_error(rest).into_iter().collect()
    } else {
        revoked
    }
}

/// The reason code for webpki's error, with a description.
pub(in crate::core::verify) fn explain_webpki_error(
    error: &Error,
    purpose: CertificatePurpose,
) -> EvidenceError {
    let when = |time: &UnixTime| {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        Timestamp::from_second(seconds)
            .map_or_else(|_| "the end of time".to_owned(), |time| time.to_string())
    };
    let (reason, message) = match error {
        Error::CertExpired { not_after, .. } => (
            Reason::CertificateExpired,
            format!("a certificate of its chain expired at {}", when(not_after)),
        ),
        Error::CertNotValidYet { not_before, .. } => (
            Reason::CertificateExpired,
            format!(
                "a certificate of its chain is not valid before \
                {}",
                when(not_before)
            ),
        ),
        Error::InvalidCertValidity => (
            Reason::CertificateExpired,
            "a certificate of its chain is \
            never valid"
                .into(),
        ),
        Error::CrlExpired { next_update, .. } => (
            Reason::CertificateExpired,
            format!(
                "a revocation list of its issuers expired at \
                {}; put a new one in its place",
                when(next_update)
            ),
        ),
        Error::CertRevoked => (
            Reason::Revoked,
            "a certificate of its chain is revoked".into(),
        ),
        Error::UnknownRevocationStatus => (
            Reason::UntrustedChain,
            "the revocation status of its chain is unknown: there is no \
                revocation list of one of its issuers"
                .into(),
        ),
        Error::InvalidCrlSignatureForPublicKey => (
            Reason::UntrustedChain,
            "a revocation list was \
            not signed by the issuer that it names"
                .into(),
        ),
        Error::IssuerNotCrlSigner => (
            Reason::UntrustedChain,
            "a revocation list was signed by an \
            issuer that may not sign any"
                .into(),
        ),
        Error::UnknownIssuer => (Reason::UntrustedChain, UNKNOWN_ISSUER.into()),
        Error::InvalidSignatureForPublicKey => (
            Reason::UntrustedChain,
            "a certificate of its \
            chain was not signed by its issuer"
                .into(),
        ),
        Error::CaUsedAsEndEntity => (
            Reason::UntrustedChain,
            "its certificate is a certificate \
            authority's"
                .into(),
        ),
        Error::EndEntityUsedAsCa => (
            Reason::UntrustedChain,
            "an issuer in its chain may not sign \
            certificates"
                .into(),
        ),
        Error::PathLenConstraintViolated => (
            Reason::UntrustedChain,
            "its chain is longer than an \
            issuer allows"
                .into(),
        ),
        Error::NameConstraintViolation => (
            Reason::UntrustedChain,
            "a name in its chain is outside of an issuer's name constraints, or of a kind that \
                cannot be compared with them"
                .into(),
        ),
        Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => (
            Reason::UntrustedChain,
            format!(
                "a certificate of its chain is not for {}, by its \
                extended key usage",
                purpose.purpose_name()
            ),
        ),
        other => (
            Reason::UntrustedChain,
            format!("its certificate cannot be trusted: {other:?}"),
        ),
    };
    EvidenceError::Sigstore {
        reason,
        message: sanitize_text(&message),
        signer: None,
    }
}
