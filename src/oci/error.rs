//! Errors of OCI content.

use crate::core::{
    oci::ManifestError,
    reason::{ClassifiedError, Reason},
};

/// Why content could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// The tag, manifest or blob does not exist.
    #[error("{what} was not found in {location}")]
    NotFound {
        /// The tag or digest.
        what: String,
        /// The repository, layout or archive.
        location: String,
    },
    /// The registry is unavailable, or its response is invalid.
    #[error("{location} is unavailable: {cause}")]
    Unavailable {
        /// The registry or repository.
        location: String,
        /// The error.
        cause: String,
    },
    /// A timeout or deadline.
    #[error("{location} did not respond in time: {cause}")]
    Deadline {
        /// The registry or repository.
        location: String,
        /// The timeout that was exceeded.
        cause: String,
    },
    /// HTTP 401 or 403.
    #[error("{location} denied access with HTTP {status}: {cause}")]
    Denied {
        /// The registry or repository.
        location: String,
        /// The HTTP status.
        status: u16,
        /// The registry's message, shortened; which credentials were tried, and the way out.
        cause: String,
    },
    /// HTTP 429.
    #[error("{location} limited the request rate (HTTP 429)")]
    RateLimited {
        /// The registry or repository.
        location: String,
    },
    /// The address is not allowed.
    #[error("{location} is at an address that is not allowed: {cause}")]
    AddressNotAllowed {
        /// The registry or repository.
        location: String,
        /// The address and the rule.
        cause: String,
    },
    /// Bytes do not match their digest.
    #[error("content of {expected} hashes to {actual}")]
    DigestMismatch {
        /// The requested digest.
        expected: String,
        /// The digest of the content.
        actual: String,
    },
    /// The digest that a registry declares for its response does not match the content.
    #[error(
        "{location} sent a manifest for {what} that hashes to {actual}, and declares that it is \
            {expected} (Docker-Content-Digest), twice; the registry or something before it is \
            broken, name the digest instead of the tag"
    )]
    DigestHeaderMismatch {
        /// The repository.
        location: String,
        /// The tag.
        what: String,
        /// The digest that the registry declares.
        expected: String,
        /// The digest of the content.
        actual: String,
    },
    /// More or fewer bytes than declared.
    #[error("content of {digest} has {actual} bytes, {expected} were declared")]
    SizeMismatch {
        /// The requested digest.
        digest: String,
        /// The declared size in bytes.
        expected: u64,
        /// The actual size: a number, or "more".
        actual: String,
    },
    /// A manifest or index is malformed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A layout or archive is malformed.
    #[error("{location} is malformed: {cause}")]
    Malformed {
        /// The layout or archive.
        location: String,
        /// What is wrong with it.
        cause: String,
    },
    /// More referrers than the limit.
    #[error("{subject} has more than {limit} referrers")]
    TooManyReferrers {
        /// The subject of the referrers.
        subject: String,
        /// The limit.
        limit: usize,
    },
    /// A referrer is stored, but could not be kept in the list under the referrers tag.
    #[error(
        "{digest} is stored in {location}, but is missing from its list of referrers: {cause}; \
            sign again, fewer at a time, or use a registry with the referrers API (OCI \
            distribution 1.1)"
    )]
    ReferrerNotListed {
        /// The repository.
        location: String,
        /// The digest of the referrer.
        digest: String,
        /// The error.
        cause: String,
    },
    /// Content is larger than the limit.
    #[error("content of {what} has {size} bytes, the limit is {limit}")]
    LimitExceeded {
        /// The digest or name of the document.
        what: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The local disk failed.
    #[error("{path}: {cause}")]
    Storage {
        /// The file or folder.
        path: String,
        /// The system's error.
        cause: std::io::Error,
    },
    /// A local path cannot be used this way.
    #[error("{0}")]
    Invalid(String),
}

impl OciError {
    /// Recovers the error that a verifying stream passed through [`std::io::Error`].
    pub fn from_io_error(error: std::io::Error, location: &str) -> Self {
        match error.downcast::<Self>() {
            Ok(inner) => inner,
            Err(cause) => Self::Unavailable {
                location: location.into(),
                cause: cause.to_string(),
            },
        }
    }

    /// Wraps this error so that it can be passed through a stream.
    pub fn into_io_error(self) -> std::io::Error {
        std::io::Error::other(self)
    }
}

impl ClassifiedError for OciError {
    fn reason(&self) -> Reason {
        match self {
            Self::NotFound { .. } => Reason::SourceNotFound,
            Self::Unavailable { .. } | Self::ReferrerNotListed { .. } => {
                Reason::RegistryUnavailable
            }
            Self::Deadline { .. } => Reason::DeadlineExceeded,
            Self::Denied { .. } => Reason::RegistryDenied,
            Self::RateLimited { .. } => Reason::RateLimited,
            Self::AddressNotAllowed { .. } => Reason::AddressNotAllowed,
            Self::DigestMismatch { .. } | Self::DigestHeaderMismatch { .. } => {
                Reason::DigestMismatch
            }
            Self::SizeMismatch { .. } => Reason::SizeMismatch,
            Self::Manifest(error) => error.reason(),
            Self::Malformed { .. } => Reason::MalformedManifest,
            Self::TooManyReferrers { .. } => Reason::TooManyReferrers,
            Self::LimitExceeded { .. } => Reason::LimitExceeded,
            Self::Storage { .. } => Reason::StorageFailed,
            Self::Invalid(_) => Reason::InvalidSpec,
        }
    }
}
