//! What can go wrong between a signature and those who vouch for it.

use url::Url;

use crate::{
    core::{
        reason::{ClassifiedError, Reason},
        sigstore::SigstoreResponseError,
        verify::EvidenceError,
    },
    http::{HttpError, redact},
};

/// Why Sigstore's services gave nothing that could be used. No variant carries a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigstoreServiceError {
    /// It could not be asked, or did not answer.
    #[error("{service}: {message}")]
    Http {
        /// Which service.
        service: &'static str,
        /// The same for scripts.
        reason: Reason,
        /// What happened.
        message: String,
    },
    /// It said no.
    #[error("{service} at {url} answered HTTP {status}: {message}")]
    Refused {
        /// Which service.
        service: &'static str,
        /// Where it is.
        url: String,
        /// The status.
        status: u16,
        /// What it said.
        message: String,
    },
    /// It does not know who we are.
    #[error(
        "certificate authority at {url} refused the identity token (HTTP {status}): {message}; the \
            token is for the audience {audience} and was \
         issued by {issuer}: a Fulcio usually wants the audience \"sigstore\" and must know the \
         issuer"
    )]
    Token {
        /// Where it is.
        url: String,
        /// The status.
        status: u16,
        /// What it said.
        message: String,
        /// Whom the token is for.
        audience: String,
        /// Who issued it.
        issuer: String,
    },
    /// Its answer cannot be used.
    #[error("{service} at {url}: {cause}")]
    Answer {
        /// Which service.
        service: &'static str,
        /// Where it is.
        url: String,
        /// Why.
        cause: SigstoreResponseError,
    },
    /// The certificate is for another key, or names nobody.
    #[error("certificate authority issued a certificate that {0}")]
    Certificate(&'static str),
    /// Nobody certifies identities.
    #[error(
        "signing configuration names no certificate authority, which signing with an identity \
            token needs; add one under caUrls"
    )]
    NoAuthority,
    /// Nobody keeps a record.
    #[error(
        "signing configuration names no transparency log, which signing with an identity token \
            needs; add one under rekorTlogUrls"
    )]
    NoLog,
    /// Nobody vouches for anything.
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
    /// Somebody did not tell the truth, or the trusted root is another Sigstore's.
    #[error(
        "the new signature does not verify against the trusted root, so it was not stored: \
            {message}"
    )]
    NotVerified {
        /// The fault.
        reason: Reason,
        /// The same in words.
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
