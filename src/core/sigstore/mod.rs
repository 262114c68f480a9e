//! What is said to Sigstore's services while something is signed, and how their answers are read.
//!
//! They are a certificate authority (Fulcio), transparency logs (Rekor 1 and 2) and timestamp
//! authorities (RFC 3161), all named by a [`SigstoreSigningConfig`].
//!
//! What is *not* checked here: whether an answer is true. What comes together is verified like
//! anybody's bundle before it is used.

pub mod fulcio;
pub mod rekor;
mod signing_config;
pub mod timestamp;

pub use signing_config::{
    RekorLog, RekorVersion, SelectedServices, SigningConfigError, SigstoreSigningConfig,
};

use super::reason::{ClassifiedError, Reason};

/// Why an answer of a service cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SigstoreResponseError(pub String);

impl SigstoreResponseError {
    fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl ClassifiedError for SigstoreResponseError {
    fn reason(&self) -> Reason {
        Reason::MalformedEvidence
    }
}
