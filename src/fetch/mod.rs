//! EFFECT. Where artifacts come from: files next to the lock or in a context artifact, downloads,
//! images in registries.
//!
//! An origin yields bytes and checks nothing: who reads them compares them with the lock.

mod context;
mod error;
mod file;
mod http;
mod pieces;
mod registry;

use std::sync::Arc;

use async_trait::async_trait;

pub use context::{ContextOrigin, NoContext, context_files};
pub use error::FetchError;
pub use file::{FileOrigin, Outside};
pub use http::HttpOrigin;
pub use registry::{RegistryOrigin, Repositories};

use crate::{
    core::{
        digest::Digest,
        lockfile::{OciSelection, OriginType},
    },
    oci::Reader,
};

/// What to fetch.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The kind of origin.
    pub origin_type: OriginType,
    /// The origin as it stands in the lock.
    pub origin: &'a str,
    /// Which part of an image.
    pub oci: Option<&'a OciSelection>,
}

/// Bytes that come from an origin.
pub struct Opened {
    /// The bytes.
    pub content: OpenContent,
    /// Where they were really taken from, if that is not the origin.
    pub download_location: Option<String>,
}

/// A stream of bytes, blocking or not, as the origin has it.
pub enum OpenContent {
    /// From the disk: to be read off the async threads.
    Blocking(Box<dyn std::io::Read + Send>),
    /// From the network.
    Stream(Reader),
}

/// A place that artifacts come from.
#[async_trait]
pub trait Origin: Send + Sync {
    /// Opens the bytes that `request` names.
    async fn open(&self, request: Request<'_>) -> Result<Opened, FetchError>;

    /// Finds out what digest an `oci` origin names now. `None` for the other kinds.
    async fn pin(&self, request: Request<'_>) -> Result<Option<Digest>, FetchError>;
}

/// Hands each request to the origin of its kind.
pub struct Origins {
    /// Files next to the lock, or in a context artifact.
    pub file: Arc<dyn Origin>,
    /// Downloads.
    pub http: Arc<dyn Origin>,
    /// Registries.
    pub registry: Arc<dyn Origin>,
}

impl Origins {
    fn of(&self, request: Request<'_>) -> &dyn Origin {
        match request.origin_type {
            OriginType::File => &*self.file,
            OriginType::Http => &*self.http,
            OriginType::Oci => &*self.registry,
        }
    }
}

#[async_trait]
impl Origin for Origins {
    async fn open(&self, request: Request<'_>) -> Result<Opened, FetchError> {
        self.of(request).open(request).await
    }

    async fn pin(&self, request: Request<'_>) -> Result<Option<Digest>, FetchError> {
        self.of(request).pin(request).await
    }
}
