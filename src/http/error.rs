//! Errors of requests, with messages that contain no secret.

use std::error::Error;

use url::Url;

use super::{
    ErrorAdvice, TlsFailure, TlsFault, address_policy::AddressError, redact::redact_url,
    tls_fault::host_with_port,
};
use crate::core::{
    display_text::sanitize_line,
    reason::{ClassifiedError, Reason},
};

/// Why there was no response, or an invalid one. An HTTP status is not an error here: its meaning
/// depends on the request.
///
/// Every `url` is shown without user info, query and fragment.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is not allowed.
    #[error("{url}: {cause}")]
    Address {
        /// The requested URL.
        url: String,
        /// The address and the rule.
        cause: AddressError,
    },
    /// No connection, or one that ended before a response.
    #[error("{url}: {cause}")]
    Unreachable {
        /// The requested URL.
        url: String,
        /// The system's error.
        cause: String,
    },
    /// A connection with another fault than that nobody answers: it is not trusted, or one side
    /// speaks TLS and the other does not.
    #[error("{url}: {failure}")]
    Tls {
        /// The requested URL.
        url: String,
        /// What is wrong, and the way out.
        failure: TlsFailure,
    },
    /// The connection ended in the middle of the body.
    #[error("{url}: the connection was interrupted: {cause}")]
    Broken {
        /// The requested URL.
        url: String,
        /// The system's error.
        cause: String,
    },
    /// A timeout.
    #[error("{url}: no {wait} within {seconds} s")]
    Timeout {
        /// The requested URL.
        url: String,
        /// The wait that timed out.
        wait: &'static str,
        /// The timeout in seconds.
        seconds: u64,
    },
    /// The body arrives more slowly than the minimum transfer rate.
    #[error(
        "{url}: only {bytes} bytes arrived in {seconds} s, at least {least} bytes a second are \
            needed; raise the server's or the network's speed"
    )]
    TooSlow {
        /// The requested URL.
        url: String,
        /// The bytes received.
        bytes: u64,
        /// The time in seconds.
        seconds: u64,
        /// The required bytes.
        least: u64,
    },
    /// The body is larger than the limit.
    #[error("{url}: the response is larger than {limit} bytes")]
    TooLarge {
        /// The requested URL.
        url: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// A redirect that is not followed.
    #[error("{url}: {cause}")]
    Redirect {
        /// The requested URL.
        url: String,
        /// Why it is not followed.
        cause: String,
    },
    /// The client cannot be set up, or the request cannot be built.
    #[error("{what}: {cause}")]
    Setup {
        /// The option or the URL.
        what: String,
        /// What is wrong with it.
        cause: String,
    },
}

impl HttpError {
    /// Classifies the library's error. `answered`: the head of the response was received.
    pub(super) fn from_reqwest(error: reqwest::Error, url: &Url, answered: bool) -> Self {
        let host = host_with_port(url);
        let url = redact_url(url);
        if let Some(cause) = find_cause::<AddressError>(&error) {
            return Self::Address {
                url,
                cause: cause.clone(),
            };
        }
        if let Some(fault) = tls_fault(&error).filter(|_| !answered) {
            let advice = ErrorAdvice::default();
            let failure = TlsFailure {
                fault,
                host,
                advice,
            };
            return Self::Tls { url, failure };
        }
        let error = error.without_url();
        let cause = root_cause(&error);
        match (error.is_builder(), answered) {
            (true, _) => Self::Setup { what: url, cause },
            (false, true) => Self::Broken { url, cause },
            (false, false) => Self::Unreachable { url, cause },
        }
    }

    /// The same for whoever reads it.
    pub(super) fn with_advice(self, reader: ErrorAdvice) -> Self {
        match self {
            Self::Tls { url, failure } => Self::Tls {
                url,
                failure: TlsFailure {
                    advice: reader,
                    ..failure
                },
            },
            other => other,
        }
    }

    /// The same without details of the network.
    pub(super) fn without_network_details(self) -> Self {
        match self {
            Self::Tls { url, failure } => {
                tracing::info!(url, cause = %failure, "could not be reached");
                Self::unreachable_without_details(url)
            }
            Self::Unreachable { url, cause } => {
                tracing::info!(url, cause, "could not be reached");
                Self::unreachable_without_details(url)
            }
            Self::Address { url, cause } => {
                tracing::info!(url, %cause, "address is not allowed by the address policy");
                // A name's addresses must not be disclosed.
                let address = Url::parse(&url)
                    .ok()
                    .and_then(|url| url.host_str().map(ToOwned::to_owned))
                    .unwrap_or_default();
                Self::Address {
                    url,
                    cause: AddressError { address, ..cause },
                }
            }
            other => other,
        }
    }

    fn unreachable_without_details(url: String) -> Self {
        Self::Unreachable {
            url,
            cause: "could not be reached; the operator's log has the cause".into(),
        }
    }

    /// True if a retry of the same request may succeed.
    pub(super) const fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

fn tls_fault(error: &reqwest::Error) -> Option<TlsFault> {
    if let Some(error) = find_cause::<rustls::Error>(error) {
        return Some(TlsFault::from_rustls(error));
    }
    // The first bytes of an answer were no HTTP.
    let parsing = find_cause::<hyper::Error>(error).is_some_and(hyper::Error::is_parse);
    let plain = error.url().is_some_and(|url| url.scheme() == "http");
    (parsing && plain).then_some(TlsFault::NotPlainHttpServer)
}

fn find_cause<T: Error + 'static>(error: &reqwest::Error) -> Option<&T> {
    error_chain(error).find_map(<dyn Error>::downcast_ref)
}

/// The innermost message: "connection refused" rather than "error sending request".
pub(super) fn root_cause(error: &reqwest::Error) -> String {
    sanitize_line(
        &error_chain(error)
            .last()
            .map(ToString::to_string)
            .unwrap_or_default(),
        200,
    )
}

/// The error and its causes. Libraries wrap errors in [`std::io::Error`], also in several of them,
/// whose own source leaves out what is in it.
fn error_chain(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let first: &(dyn Error + 'static) = error;
    std::iter::successors(Some(first), |error: &&(dyn Error + 'static)| {
        let wrapping = error.downcast_ref::<std::io::Error>();
        match wrapping.and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => (*error).source(),
        }
    })
}

impl ClassifiedError for HttpError {
    fn reason(&self) -> Reason {
        match self {
            Self::Address { .. } => Reason::AddressNotAllowed,
            Self::Tls { .. }
            | Self::Unreachable { .. }
            | Self::Broken { .. }
            | Self::TooSlow { .. }
            | Self::Redirect { .. } => Reason::FetchFailed,
            Self::Timeout { .. } => Reason::DeadlineExceeded,
            Self::TooLarge { .. } => Reason::LimitExceeded,
            Self::Setup { .. } => Reason::InvalidSpec,
        }
    }
}
