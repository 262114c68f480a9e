//! Errors of fetching.

use crate::{
    core::{
        context_artifact::ContextArtifactError,
        reason::{ClassifiedError, Reason},
    },
    http::HttpError,
    oci::OciError,
};

/// Why an artifact could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The file does not exist.
    #[error("{origin} was not found")]
    NotFound {
        /// The origin.
        origin: String,
    },
    /// A file outside of the lock's folder.
    #[error(
        "{origin} is outside the folder of the lockfile, move the file there or allow it with \
            --allow-outside"
    )]
    OutsideFolder {
        /// The origin.
        origin: String,
    },
    /// A file outside of the context artifact.
    #[error("{origin} is outside the context artifact, put the file into it")]
    OutsideContext {
        /// The origin.
        origin: String,
    },
    /// A file origin without a file system.
    #[error(
        "file origin {origin:?} cannot be resolved inside a cluster: push lock and files together as \
            a context artifact and name it in spec.source.ociRef"
    )]
    MissingContextArtifact {
        /// The origin.
        origin: String,
    },
    /// It is not a context artifact.
    #[error(transparent)]
    Context(#[from] ContextArtifactError),
    /// Neither a file nor a folder.
    #[error("{origin} is not a regular file{hint}")]
    NotAFile {
        /// The origin.
        origin: String,
        /// What to write instead.
        hint: &'static str,
    },
    /// Reading failed.
    #[error("{origin} could not be read: {cause}")]
    ReadFailed {
        /// The origin, without secrets.
        origin: String,
        /// The error.
        cause: String,
    },
    /// The HTTP request failed.
    #[error("{origin} could not be read: {source}")]
    Http {
        /// The origin, without secrets.
        origin: String,
        /// The error.
        source: HttpError,
    },
    /// An image without a digest.
    #[error(
        "{origin} names an image by tag, which can move: packgate lock --update writes the digest \
            of what it names now"
    )]
    Unpinned {
        /// The origin.
        origin: String,
    },
    /// The registry failed.
    #[error("{origin}: {source}")]
    Registry {
        /// The origin.
        origin: String,
        /// The registry's error.
        source: OciError,
    },
}

impl ClassifiedError for FetchError {
    fn reason(&self) -> Reason {
        match self {
            Self::NotFound { .. } => Reason::SourceNotFound,
            Self::OutsideFolder { .. }
            | Self::OutsideContext { .. }
            | Self::MissingContextArtifact { .. }
            | Self::NotAFile { .. } => Reason::InvalidLock,
            Self::Context(error) => error.reason(),
            Self::ReadFailed { .. } => Reason::FetchFailed,
            Self::Unpinned { .. } => Reason::UnverifiableOci,
            Self::Http { source, .. } => source.reason(),
            Self::Registry { source, .. } => source.reason(),
        }
    }
}
