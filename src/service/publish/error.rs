//! Why nothing was tagged.

use crate::{
    core::{
        digest::Digest,
        policy::PolicyError,
        reason::{ClassifiedError, Reason},
        reference::ImageTag,
        verify::PublicKeyError,
    },
    oci::OciError,
    service::{sign::SignError, verification_request::VerifyError},
    signing::SigningError,
};

/// Why nothing was tagged.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Signing failed. Never treated as "unsigned".
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The target failed.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// The evidence in the registry could not be verified.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The signer's identity is not available.
    #[error(transparent)]
    Signer(#[from] SigningError),
    /// The signer's own public key cannot be parsed.
    #[error("the signer's public key: {0}")]
    Key(#[from] PublicKeyError),
    /// No valid policy can be built for the signer.
    #[error("the signer's own policy: {0}")]
    Policy(#[from] PolicyError),
    /// It is signed, but would still be denied.
    #[error("{digest} was signed and is not admitted: {message}")]
    NotAdmitted {
        /// The digest of the bundle.
        digest: Digest,
        /// The reason of the first denial.
        reason: Reason,
        /// The message of the first denial.
        message: String,
    },
    /// The tag names another digest, and must not be moved.
    #[error(
        "tag {tag} of {location} names {found} already, not {wanted}; choose another tag, or set \
            tagPolicy: Mutable"
    )]
    TagConflict {
        /// The tag.
        tag: ImageTag,
        /// The repository.
        location: String,
        /// The digest that the tag names.
        found: Digest,
        /// The digest that it should name.
        wanted: Digest,
    },
    /// Another writer set the tag at the same time.
    #[error(
        "tag {tag} of {location} names {found} now, it was set to {wanted} a moment before; two \
            writers use one tag"
    )]
    TagMoved {
        /// The tag.
        tag: ImageTag,
        /// The repository.
        location: String,
        /// The digest that the tag names.
        found: Digest,
        /// The digest that it should name.
        wanted: Digest,
    },
}

impl ClassifiedError for PublishError {
    fn reason(&self) -> Reason {
        match self {
            Self::Sign(error) => error.reason(),
            Self::Oci(error) => error.reason(),
            Self::Verify(error) => error.reason(),
            Self::Signer(error) => error.reason(),
            Self::Key(_) => Reason::NoSigner,
            Self::Policy(error) => error.reason(),
            Self::NotAdmitted { reason, .. } => *reason,
            Self::TagConflict { .. } | Self::TagMoved { .. } => Reason::TagConflict,
        }
    }
}

impl PublishError {
    pub(super) const fn not_admitted(digest: Digest, reason: Reason, message: String) -> Self {
        Self::NotAdmitted {
            digest,
            reason,
            message,
        }
    }
}
