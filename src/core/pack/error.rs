//! Why a lock cannot be packed.

use crate::core::reason::{Reason, classify};

/// Why a lock cannot be packed with these options.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum PackError {
    #[error(
        "annotation {0:?} is reserved for packgate, choose another key (the creation time comes \
            from --source-date-epoch)"
    )]
    ReservedAnnotation(String),
    #[error("source date epoch {0} must be seconds from 1970 to 9999")]
    Epoch(i64),
    #[error(
        "format Artifact does not support compression, choose compression None or format Image"
    )]
    CompressedArtifact,
    #[error(
        "format Artifact does not support platforms, choose format Image for a lock whose artifacts have \
            platforms"
    )]
    ArtifactPlatforms,
    #[error(
        "the lock's recorded layers do not match its artifacts: {0}; record them again: packgate \
            lock LOCK"
    )]
    RecordedLayers(String),
    #[error("digest cannot be predicted: {0}; {1}")]
    NotPredictable(String, &'static str),
    /// A config, manifest or index would exceed what registries accept.
    #[error(
        "{what} would have {size} bytes, registries accept {limit}; choose format Image, or fewer or \
            shorter annotations"
    )]
    TooLarge {
        what: String,
        size: usize,
        limit: usize,
    },
    #[error("the lock has {count} {what}, the limit is {limit}; split it into several bundles")]
    TooMany {
        what: &'static str,
        count: usize,
        limit: usize,
    },
    #[error("document cannot be written in canonical form: {0}")]
    Canonical(String),
}

classify!(PackError, |error| match error {
    Self::ReservedAnnotation(_)
    | Self::Epoch(_)
    | Self::CompressedArtifact
    | Self::TooLarge { .. } => Reason::InvalidSpec,
    Self::ArtifactPlatforms | Self::RecordedLayers(_) => Reason::InvalidLock,
    Self::TooMany { .. } => Reason::LimitExceeded,
    Self::NotPredictable(..) => Reason::NotPredictable,
    Self::Canonical(_) => Reason::Internal,
});
