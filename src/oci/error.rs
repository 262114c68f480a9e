//! Errors of OCI content.

use std::time::Duration;

use crate::core::{
    digest::Digest,
    oci::{ManifestError, platform::PlatformMatchError},
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
        /// The delay that it asks for, if it does.
        retry_after: Option<Duration>,
    },
    /// A definite refusal, which the same request will get again: HTTP 400, 409, 412, 413 and
    /// others, and 404 for what is written.
    #[error("{location} refused {what} with HTTP {status}: {cause}{}", refusal_advice(*status, cause))]
    Refused {
        /// The registry or repository.
        location: String,
        /// What was read or written.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The registry's code and message, shortened.
        cause: String,
    },
    /// The registry refuses to store the list of referrers under its tag.
    #[error(
        "the list of referrers of {digest} cannot be stored: {refusal}; it is kept under the tag \
            {tag}, because the registry has no referrers API (OCI distribution 1.1): exempt the \
            tags sha256-* from its rules against changing tags, or sign with --signature-format \
            Legacy"
    )]
    ReferrersTagRefused {
        /// The digest of the subject.
        digest: String,
        /// The tag.
        tag: String,
        /// The refusal.
        refusal: Box<Self>,
    },
    /// A blob could not be uploaded, neither as a whole nor in parts.
    #[error("{first}; in parts: {last}")]
    UploadFailed {
        /// The error of the first attempt.
        first: Box<Self>,
        /// The error of the attempt in parts.
        last: Box<Self>,
    },
    /// A redirect that is not followed.
    #[error("{location} is unavailable: {cause}")]
    Redirected {
        /// The registry or repository.
        location: String,
        /// Why it is not followed.
        cause: String,
    },
    /// The address is not allowed.
    #[error("{location} is at an address that is not allowed: {cause}")]
    AddressNotAllowed {
        /// The registry or repository.
        location: String,
        /// The address and the rule.
        cause: String,
    },
    /// An index has no manifest for a platform, or several.
    #[error("{root} has {cause}")]
    NoPlatform {
        /// The digest of the index.
        root: Digest,
        /// What it has.
        cause: PlatformMatchError,
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
    /// A list of referrers is malformed.
    #[error("the list of referrers of {digest} in {location} ({place}) cannot be read: {cause}")]
    MalformedReferrers {
        /// The repository.
        location: String,
        /// The digest of the subject.
        digest: String,
        /// Where the list was read.
        place: String,
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
    /// A referrer is stored, but the registry does not list it.
    #[error(
        "{digest} is stored in {location}, but is missing from its list of referrers: {cause}; \
            sign again, fewer at a time, with --signature-format Legacy, or in a registry with the \
            referrers API (OCI distribution 1.1)"
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
    /// There are no credentials, because the places that may have some failed.
    #[error("{message}")]
    Credentials {
        /// Each of them with its error.
        message: String,
        /// The class of the first.
        reason: Reason,
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

    /// The same with the delay that the registry asks for, if it limits the request rate.
    #[must_use]
    pub fn with_retry_after(self, retry_after: Option<Duration>) -> Self {
        match self {
            Self::RateLimited { location, .. } => Self::RateLimited {
                location,
                retry_after,
            },
            other => other,
        }
    }

    /// True if the registry has answered, and will answer the same again: access was denied, or
    /// the request was refused.
    pub const fn is_definite_answer(&self) -> bool {
        matches!(self, Self::Denied { .. } | Self::Refused { .. })
    }

    /// Wraps this error so that it can be passed through a stream.
    pub fn into_io_error(self) -> std::io::Error {
        std::io::Error::other(self)
    }
}

impl ClassifiedError for OciError {
    fn reason(&self) -> Reason {
        match self {
            Self::NotFound { .. } | Self::NoPlatform { .. } => Reason::SourceNotFound,
            Self::Unavailable { .. } | Self::Redirected { .. } | Self::ReferrerNotListed { .. } => {
                Reason::RegistryUnavailable
            }
            Self::Refused { .. } => Reason::RegistryRefused,
            Self::ReferrersTagRefused { refusal, .. } => refusal.reason(),
            Self::UploadFailed { first, .. } => first.reason(),
            Self::Deadline { .. } => Reason::DeadlineExceeded,
            Self::Denied { .. } => Reason::RegistryDenied,
            Self::RateLimited { .. } => Reason::RateLimited,
            Self::AddressNotAllowed { .. } => Reason::AddressNotAllowed,
            Self::DigestMismatch { .. } | Self::DigestHeaderMismatch { .. } => {
                Reason::DigestMismatch
            }
            Self::SizeMismatch { .. } => Reason::SizeMismatch,
            Self::Manifest(error) => error.reason(),
            Self::Malformed { .. } | Self::MalformedReferrers { .. } => Reason::MalformedManifest,
            Self::TooManyReferrers { .. } => Reason::TooManyReferrers,
            Self::LimitExceeded { .. } => Reason::LimitExceeded,
            Self::Storage { .. } => Reason::StorageFailed,
            Self::Credentials { reason, .. } => *reason,
            Self::Invalid(_) => Reason::InvalidSpec,
        }
    }
}

/// The way out of a 403 that is not about credentials: registries use it for more than missing
/// rights. Empty for others.
pub(super) fn denial_advice(status: u16, words: &str) -> &'static str {
    let words = words.to_ascii_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    if status != 403 {
        ""
    } else if says(&["quota", "exceed", "storage", "no space", "limit"]) {
        "; free space there, or have the quota raised"
    } else if says(&["read only", "read-only", "readonly", "maintenance"]) {
        "; it takes no changes now, try again later or ask its operator"
    } else if says(&["immutable", "overwrit", "already exists"]) {
        TAG_ADVICE
    } else {
        ""
    }
}

/// The way out of a definite refusal.
fn refusal_advice(status: u16, words: &str) -> &'static str {
    let lower = words.to_ascii_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    if says(&["projectpolicyviolation", "not signed"]) {
        "; the registry lets nobody read what is not signed (Harbor: content trust): pack with \
         --key, which signs before anything is read back, or lift the rule until it is signed"
    } else if says(&["tag_invalid", "immutable", "overwrit", "already exists"]) {
        TAG_ADVICE
    } else {
        match status {
            404 => "; create the repository first, or check its name",
            402 | 507 => "; free space there, or have the quota raised",
            413 => {
                "; it is larger than the registry, or a proxy before it, accepts: have the limit \
                 raised"
            }
            _ => "",
        }
    }
}

const TAG_ADVICE: &str =
    "; choose another tag, or have the registry allow that this one is overwritten";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_403_that_is_not_about_credentials_has_its_own_way_out() {
        for (status, words, expected) in [
            (401, "UNAUTHORIZED authentication required", ""),
            (401, "read only", ""),
            (403, "DENIED requested access to the resource is denied", ""),
            (
                403,
                "DENIED adding 12.0 MiB of storage resource, which when updated to current usage will exceed the configured upper limit",
                "quota raised",
            ),
            (
                403,
                "DENIED The system is in read only mode. Any modification is prohibited.",
                "no changes now",
            ),
            (403, "DENIED tag v1 is immutable", "another tag"),
        ] {
            let advice = denial_advice(status, words);
            assert_eq!(advice.is_empty(), expected.is_empty(), "{words}");
            assert!(advice.contains(expected), "{words}: {advice}");
        }
    }

    #[test]
    fn a_refusal_names_the_way_out() {
        for (status, words, advice) in [
            (400, "TAG_INVALID the tag is immutable", "another tag"),
            (
                412,
                "PROJECTPOLICYVIOLATION The image is not signed by cosign.",
                "content trust",
            ),
            (413, "payload too large", "limit raised"),
            (
                404,
                "NAME_UNKNOWN The repository does not exist",
                "create the repository",
            ),
            (507, "insufficient storage", "quota raised"),
            (405, "method not allowed", "HTTP 405"),
        ] {
            let error = OciError::Refused {
                location: "r.example.com/a".into(),
                what: "v1".into(),
                status,
                cause: words.into(),
            };
            let text = error.to_string();
            assert!(text.contains(words) && text.contains(advice), "{text}");
            assert!(!text.contains("credentials"), "{text}");
            assert_eq!(error.reason(), Reason::RegistryRefused);
        }
    }
}
