//! Errors of certificate paths.

use jiff::Timestamp;
use pki_types::UnixTime;
use webpki::Error;

use super::CertificatePurpose;
use crate::core::{
    evidence::{EvidenceError, reason_rank, sanitize_text},
    reason::{ClassifiedError, Reason},
};

/// No path to a trusted certificate, or none with valid issuers.
pub(crate) fn untrusted_chain_error(message: &str) -> EvidenceError {
    EvidenceError::Sigstore {
        reason: Reason::UntrustedChain,
        message: message.to_owned(),
        signer: None,
    }
}

const UNKNOWN_ISSUER: &str = "its certificate chains to no root of the authority";

/// The error of the furthest check, of those of several authorities. That another authority did not
/// issue the certificate is not reported.
pub(crate) fn furthest_error(faults: Vec<EvidenceError>) -> Option<EvidenceError> {
    let is_news = |error: &EvidenceError| !matches!(error, EvidenceError::Sigstore { message, .. } if message == UNKNOWN_ISSUER);
    faults
        .into_iter()
        .max_by_key(|error| (reason_rank(error.reason()), is_news(error)))
}

/// The errors to report, of those of several authorities: every revocation of the certificate by
/// its issuer, or else the error of the furthest check. No exemption covers a revocation, so none
/// may be lost.
pub(crate) fn errors_to_report(faults: Vec<EvidenceError>) -> Vec<EvidenceError> {
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
pub(crate) fn explain_webpki_error(error: &Error, purpose: CertificatePurpose) -> EvidenceError {
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
                "a certificate of its chain is not valid before {}",
                when(not_before)
            ),
        ),
        Error::CrlExpired { next_update, .. } => (
            Reason::CertificateExpired,
            format!(
                "a revocation list of its issuers expired at {}; put a new one in its place",
                when(next_update)
            ),
        ),
        Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => (
            Reason::UntrustedChain,
            format!(
                "a certificate of its chain is not for {}, by its extended key usage",
                purpose.purpose_name()
            ),
        ),
        other => match fixed_explanation(other) {
            Some((reason, message)) => (reason, message.to_owned()),
            None => (
                Reason::UntrustedChain,
                format!("its certificate cannot be trusted: {other:?}"),
            ),
        },
    };
    EvidenceError::Sigstore {
        reason,
        message: sanitize_text(&message),
        signer: None,
    }
}

/// What is the same for every chain.
const fn fixed_explanation(error: &Error) -> Option<(Reason, &'static str)> {
    let message = match error {
        Error::InvalidCertValidity => {
            return Some((
                Reason::CertificateExpired,
                "a certificate of its chain is never valid",
            ));
        }
        Error::CertRevoked => {
            return Some((Reason::Revoked, "a certificate of its chain is revoked"));
        }
        Error::UnknownRevocationStatus => {
            "the revocation status of its chain is unknown: there is no revocation list of one of \
                its issuers"
        }
        Error::InvalidCrlSignatureForPublicKey => {
            "a revocation list was not signed by the issuer that it names"
        }
        Error::IssuerNotCrlSigner => {
            "a revocation list was signed by an issuer that may not sign any"
        }
        Error::UnknownIssuer => UNKNOWN_ISSUER,
        Error::InvalidSignatureForPublicKey => {
            "a certificate of its chain was not signed by its issuer"
        }
        Error::CaUsedAsEndEntity => "its certificate is a certificate authority's",
        Error::EndEntityUsedAsCa => "an issuer in its chain may not sign certificates",
        Error::PathLenConstraintViolated => "its chain is longer than an issuer allows",
        Error::NameConstraintViolation => {
            "a name in its chain is outside of an issuer's name constraints, or of a kind that \
                cannot be compared with them"
        }
        _ => return None,
    };
    Some((Reason::UntrustedChain, message))
}
