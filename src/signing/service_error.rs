//! Errors of the services that certify, log and timestamp signatures.

use url::Url;

use crate::{
    core::{
        reason::{ClassifiedError, Reason},
        sigstore::SigstoreResponseError,
        verify::EvidenceError,
    },
    http::{HttpError, redact},
};

/// Why Sigstore's services gave no valid result. No variant contains a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigstoreServiceError {
    /// The request failed, or there was no response.
    #[error("{service}: {message}")]
    Http {
        /// The service.
        service: &'static str,
        /// The reason code.
        reason: Reason,
        /// The message.
        message: String,
    },
    /// The service refused the request.
    #[error("{service} at {url} answered HTTP {status}: {message}")]
    Refused {
        /// The service.
        service: &'static str,
        /// Its URL.
        url: String,
        /// The HTTP status.
        status: u16,
        /// Its message.
        message: String,
    },
    /// The certificate authority refused the token.
    #[error(
        "certificate authority at {url} refused the identity token (HTTP {status}): {message}; the \
            token is for the audience {audience} and was \
         issued by {issuer}: a Fulcio usually wants the audience \"sigstore\" and must know the \
         issuer"
    )]
    Token {
        /// Its URL.
        url: String,
        /// The HTTP status.
        status: u16,
        /// Its message.
        message: String,
        /// The audience of the token.
        audience: String,
        /// The issuer of the token.
        issuer: String,
    },
    /// Its response is invalid.
    #[error("{service} at {url}: {cause}")]
    Answer {
        /// The service.
        service: &'static str,
        /// Its URL.
        url: String,
        /// The error.
        cause: SigstoreResponseError,
    },
    /// The certificate is for another key, or has no name.
    #[error("certificate authority issued a certificate that {0}")]
    Certificate(&'static str),
    /// There is no certificate authority.
    #[error(
        "signing configuration names no certificate authority, which signing with an identity \
            token needs; add one under caUrls"
    )]
    NoAuthority,
    /// There is no transparency log.
    #[error(
        "signing configuration names no transparency log, which signing with an identity token \
            needs; add one under rekorTlogUrls"
    )]
    NoLog,
    /// There is neither a log nor a timestamp authority.
    #[error(
        "signing configuration names neither a transparency log nor a timestamp authority; leave \
            it out to sign with the key alone"
    )]
    NoLogOrTimestamp,
    /// Entries of such keys cannot be verified.
    #[error(
        "a Rekor 2 log takes signatures of ECDSA P-256 keys only here; use another key, a Rekor 1 \
            log, or no signing configuration"
    )]
    UnsupportedLogKey,
    /// A response is wrong, or the trusted root is another Sigstore's.
    #[error(
        "the new signature does not verify against the trusted root, so it was not stored: \
            {message}"
    )]
    NotVerified {
        /// The reason code.
        reason: Reason,
        /// The message.
        message: String,
    },
}

impl SigstoreServiceError {
    pub(super) fn from_http(service: &'static str, error: &HttpError) -> Self {
        Self::Http {
            service,
            reason: error.reason(),
            message: error.to_string(),
        }
    }

    pub(super) fn from_response(
        service: &'static str,
        url: &Url,
        cause: SigstoreResponseError,
    ) -> Self {
        Self::Answer {
            service,
            url: redact::redact_url(url),
            cause,
        }
    }

    #[allow(clippy::needless_pass_by_value, reason = "for map_err")]
    pub(super) fn from_evidence(error: EvidenceError) -> Self {
        Self::NotVerified {
            reason: error.reason(),
            message: error.to_string(),
        }
    }
}

impl ClassifiedError for SigstoreServiceError {
    fn reason(&self) -> Reason {
        match self {
            Self::Http { reason, .. } | Self::NotVerified { reason, .. } => *reason,
            Self::Refused { status: 429, .. } => Reason::RateLimited,
            Self::Refused { status: 500.., .. } => Reason::FetchFailed,
            Self::Answer { cause, .. } => cause.reason(),
            Self::Certificate(_) => Reason::MalformedEvidence,
            Self::Refused { .. }
            | Self::Token { .. }
            | Self::NoAuthority
            | Self::NoLog
            | Self::NoLogOrTimestamp
            | Self::UnsupportedLogKey => Reason::NoSigner,
        }
    }
}
