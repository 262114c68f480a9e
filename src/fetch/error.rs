//! Errors of fetching.

use crate::{
    core::{
        context_artifact::ContextArtifactError,
        reason::{Reason, classify},
    },
    http::HttpError,
    oci::OciError,
};

/// Why an artifact could not be fetched.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum FetchError {
    #[error("{origin} was not found")]
    NotFound { origin: String },
    #[error(
        "{origin} is outside the folder of the lockfile, move the file there or allow it with \
            --allow-outside"
    )]
    OutsideFolder { origin: String },
    #[error("{origin} is outside the context artifact, put the file into it")]
    OutsideContext { origin: String },
    #[error(
        "file origin {origin:?} cannot be resolved inside a cluster: push lock and files together as \
            a context artifact and name it in spec.source.ociRef"
    )]
    MissingContextArtifact { origin: String },
    #[error(transparent)]
    Context(#[from] ContextArtifactError),
    #[error("{origin} is not a regular file{hint}")]
    NotAFile { origin: String, hint: &'static str },
    #[error("{origin} could not be read: {cause}")]
    ReadFailed {
        /// The origin, without secrets.
        origin: String,
        cause: String,
    },
    #[error("{origin} could not be read: {source}{hint}")]
    Http {
        /// The origin, without secrets.
        origin: String,
        source: Box<HttpError>,
        /// The way out, where there is a known one.
        hint: String,
    },
    #[error("{origin} has {actual} bytes, the lock says {expected}")]
    WrongLength {
        /// The mirror's URL, without secrets.
        origin: String,
        expected: u64,
        actual: u64,
    },
    #[error("{source}; its mirrors failed before: {mirrors}")]
    MirrorsToo {
        /// The error of the origin itself.
        source: Box<Self>,
        mirrors: String,
    },
    #[error(
        "{origin} names an image by tag, which can move: packgate lock --update writes the digest \
            of what it names now"
    )]
    Unpinned { origin: String },
    #[error("{origin}: {source}")]
    Registry {
        origin: String,
        source: Box<OciError>,
    },
}

classify!(FetchError, |error| match error {
    Self::NotFound { .. } => Reason::SourceNotFound,
    Self::OutsideFolder { .. }
    | Self::OutsideContext { .. }
    | Self::MissingContextArtifact { .. }
    | Self::NotAFile { .. } => Reason::InvalidLock,
    Self::Context(error) => error.reason(),
    Self::ReadFailed { .. } => Reason::FetchFailed,
    Self::Unpinned { .. } => Reason::UnverifiableOci,
    Self::Http { source, .. } => source.reason(),
    Self::WrongLength { .. } => Reason::SizeMismatch,
    Self::MirrorsToo { source, .. } => source.reason(),
    Self::Registry { source, .. } => source.reason(),
});
