//! EFFECT. Origins of artifacts: files next to the lock or in a context artifact, downloads, images
//! in registries.
//!
//! An origin yields bytes and checks nothing: the reader compares them with the lock.

mod context_artifact;
mod error;
mod file;
mod http;
mod registry;
mod tar_stream;

use std::sync::Arc;

use async_trait::async_trait;

pub use context_artifact::{ContextArtifactOrigin, MissingContextOrigin, context_files};
pub use error::FetchError;
pub use file::{FileOrigin, OutsideFolderPolicy};
pub use http::{
    DownloadAccess, DownloadCredential, DownloadCredentialError, DownloadOptionNames,
    DownloadProxy, HttpOrigin, NetrcEntry, NetrcError, parse_netrc,
};
pub use registry::{RegistryOrigin, RepositoryOpener};

use crate::{
    core::{
        digest::Digest,
        lockfile::{OciSelection, OriginType},
    },
    oci::ContentReader,
};

/// A request to fetch an artifact.
#[derive(Clone, Copy)]
pub struct FetchRequest<'a> {
    /// The type of origin.
    pub origin_type: OriginType,
    /// The origin as written in the lock, with its credential if it has one.
    pub origin: &'a str,
    /// The selected part of an image.
    pub oci: Option<&'a OciSelection>,
    /// The size of its bytes, if the lock says it. Not checked here, except for mirrors.
    pub expected_size: Option<u64>,
}

/// The opened content of an origin.
pub struct OpenedArtifact {
    /// The bytes.
    pub content: ArtifactStream,
    /// The actual download location, if that is not the origin.
    pub download_location: Option<String>,
}

/// A stream of bytes, blocking or asynchronous.
pub enum ArtifactStream {
    /// From the disk: to be read off the async threads.
    Blocking(Box<dyn std::io::Read + Send>),
    /// From the network.
    Stream(ContentReader),
}

/// A source of artifacts.
#[async_trait]
pub trait ArtifactOrigin: Send + Sync {
    /// Opens the content that `request` names.
    async fn open_artifact(&self, request: FetchRequest<'_>) -> Result<OpenedArtifact, FetchError>;

    /// Resolves an `oci` origin to its current digest. `None` for other kinds.
    async fn resolve_oci_digest(
        &self,
        request: FetchRequest<'_>,
    ) -> Result<Option<Digest>, FetchError>;
}

/// Passes each request to the origin of its kind.
pub struct OriginDispatcher {
    /// Files next to the lock, or in a context artifact.
    pub file: Arc<dyn ArtifactOrigin>,
    /// For downloads.
    pub http: Arc<dyn ArtifactOrigin>,
    /// For registries.
    pub registry: Arc<dyn ArtifactOrigin>,
}

impl OriginDispatcher {
    fn origin_for(&self, request: FetchRequest<'_>) -> &dyn ArtifactOrigin {
        match request.origin_type {
            OriginType::File => &*self.file,
            OriginType::Http => &*self.http,
            OriginType::Oci => &*self.registry,
        }
    }
}

#[async_trait]
impl ArtifactOrigin for OriginDispatcher {
    async fn open_artifact(&self, request: FetchRequest<'_>) -> Result<OpenedArtifact, FetchError> {
        self.origin_for(request).open_artifact(request).await
    }

    async fn resolve_oci_digest(
        &self,
        request: FetchRequest<'_>,
    ) -> Result<Option<Digest>, FetchError> {
        self.origin_for(request).resolve_oci_digest(request).await
    }
}
