//! The requests to Sigstore's services for signing, and the parsing of their responses.
//!
//! The services are a certificate authority (Fulcio), transparency logs (Rekor 1 and 2) and
//! timestamp authorities (RFC 3161), all named by a [`SigstoreSigningConfig`].
//!
//! What is *not* checked here: whether a response is true. The resulting bundle is verified like
//! any other before it is used.

pub mod fulcio;
pub mod rekor;
mod signing_config;
pub mod timestamp;

pub use signing_config::{RekorLog, RekorVersion, SelectedServices, SigstoreSigningConfig};

use super::reason::{Reason, classify};

/// Why the response of a service is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SigstoreResponseError(pub String);

impl SigstoreResponseError {
    fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

classify!(SigstoreResponseError, |_| Reason::MalformedEvidence);
