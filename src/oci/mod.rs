//! EFFECT. Storage of OCI content: memory, a layout on disk, an archive of a layout, a registry.
//!
//! Two traits, [`ContentSource`] and [`ContentTarget`]. One function moves content between them,
//! `service::copy`: push and pull are the same thing in two directions.

pub mod archive;
pub mod credentials;
pub mod error;
pub mod layout;
pub mod memory;
pub mod mirrored;
pub mod remote;
pub mod separate_signatures;
pub(crate) mod shared_tag;
pub mod verify_stream;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::core::{
    digest::Digest,
    limits::InputLimits,
    oci::{Descriptor, ManifestOrIndex},
    reference::{ImageRepository, ImageTag, TagOrDigest},
};

pub use archive::OciArchiveTarget;
pub use error::OciError;
pub use layout::OciLayoutTarget;
pub use memory::MemoryTarget;
pub use mirrored::{HostAvailability, MirroredHost, MirroredRepository};
pub use separate_signatures::SeparateSignatures;

/// A stream of bytes.
pub type ContentReader = Box<dyn AsyncRead + Send + Unpin>;

/// A resolved manifest or index, with the exact bytes that were hashed.
#[derive(Clone, Debug)]
pub struct ResolvedManifest {
    /// Media type, digest and size of the bytes.
    pub descriptor: Descriptor,
    /// The raw document.
    pub bytes: Bytes,
}

impl ResolvedManifest {
    /// Parses the document.
    pub fn parse_document(&self, limits: &InputLimits) -> Result<ManifestOrIndex, OciError> {
        Ok(ManifestOrIndex::parse(
            &self.descriptor.media_type,
            &self.bytes,
            limits,
        )?)
    }
}

/// A place to read content from. One value represents one repository, layout or archive.
#[doc(alias = "RegistryHandler")]
#[async_trait]
pub trait ContentSource: Send + Sync {
    /// The name of this place, without tag and digest: `r.example.com/team/app`, `oci:out`.
    fn location(&self) -> String;

    /// Resolves a tag or digest to its manifest or index, which is read once. The bytes are at most
    /// `limits.manifest_bytes` and hash to the returned descriptor; for a digest selector, to that
    /// digest.
    ///
    /// Errors: [`OciError::NotFound`] if it does not exist.
    async fn resolve_manifest(
        &self,
        selector: &TagOrDigest,
        limits: &InputLimits,
    ) -> Result<ResolvedManifest, OciError>;

    /// Opens content. The stream yields exactly `descriptor.size` bytes with the hash
    /// `descriptor.digest`, or ends with an error ([`verify_stream::DigestVerifyingReader`]).
    async fn open_content(&self, descriptor: &Descriptor) -> Result<ContentReader, OciError>;

    /// Lists possible referrers of `subject`, at most `limits.referrers_listed`. The descriptors
    /// are claims: the caller opens each manifest and checks its `subject`. An error is never an
    /// empty list.
    async fn list_referrers(
        &self,
        subject: &Descriptor,
        limits: &InputLimits,
    ) -> Result<Vec<Descriptor>, OciError>;

    /// The number of network requests sent for this value and its clones so far, with every retry,
    /// redirect and token request.
    fn request_count(&self) -> u64 {
        0
    }

    /// The repository, if this place is one in a registry.
    fn repository(&self) -> Option<&ImageRepository> {
        None
    }

    /// True if others may write to this place at the same time, so that what a tag names may change
    /// between reading and writing it.
    fn has_other_writers(&self) -> bool {
        false
    }
}

/// Content to push: bytes, or content of a source under the same descriptor.
#[derive(Clone, Copy)]
pub enum PushContent<'a> {
    /// These bytes.
    Bytes(&'a Bytes),
    /// Content of this source. It is opened again when a push is retried.
    StoredIn(&'a dyn ContentSource),
}

impl PushContent<'_> {
    /// Opens the content of `descriptor`, verified while it is read.
    pub async fn open_reader(&self, descriptor: &Descriptor) -> Result<ContentReader, OciError> {
        match self {
            Self::Bytes(bytes) => Ok(Box::new(verify_stream::DigestVerifyingReader::new(
                std::io::Cursor::new((*bytes).clone()),
                descriptor,
            ))),
            Self::StoredIn(source) => source.open_content(descriptor).await,
        }
    }
}

/// A manifest that was written, but that nothing lists as a referrer yet.
#[derive(Clone, Debug)]
pub struct UnlistedReferrer {
    /// What it refers to.
    pub subject: Descriptor,
    /// Its descriptor as a list has it.
    pub entry: Descriptor,
}

/// A place to write content to.
#[async_trait]
pub trait ContentTarget: ContentSource {
    /// True if the content exists.
    async fn content_exists(&self, descriptor: &Descriptor) -> Result<bool, OciError>;

    /// Writes content under its digest: a manifest or index if the media type says so, else a blob.
    /// A manifest with a `subject` can be found through [`ContentSource::list_referrers`]
    /// afterwards, whatever the registry supports. Does nothing if the content exists already.
    async fn push_content(
        &self,
        descriptor: &Descriptor,
        content: PushContent<'_>,
    ) -> Result<(), OciError>;

    /// Writes a manifest or index like [`ContentTarget::push_content`]. If it has a `subject` and
    /// a list of referrers has to be written for it, this is left to
    /// [`ContentTarget::list_pushed_referrers`]: one write for many.
    async fn push_unlisted(
        &self,
        descriptor: &Descriptor,
        content: PushContent<'_>,
    ) -> Result<Option<UnlistedReferrer>, OciError> {
        self.push_content(descriptor, content).await.map(|()| None)
    }

    /// Lists what [`ContentTarget::push_unlisted`] has written, with one write for each subject.
    async fn list_pushed_referrers(&self, _: Vec<UnlistedReferrer>) -> Result<(), OciError> {
        Ok(())
    }

    /// Takes a blob over from another repository of the same registry, without its bytes. `false`:
    /// it has to be pushed.
    async fn mount_blob(&self, _: &Descriptor, _: &ImageRepository) -> Result<bool, OciError> {
        Ok(false)
    }

    /// Sets `tag` to a manifest or index that was pushed before. A tag that names it already is not
    /// written again.
    async fn tag_manifest(&self, descriptor: &Descriptor, tag: &ImageTag) -> Result<(), OciError>;

    /// Makes all changes durable. Only needed for archives and layouts.
    async fn commit_changes(&self) -> Result<(), OciError> {
        Ok(())
    }
}

/// A target on this machine that accepts blobs whose digest is only known when they are complete.
pub trait LocalContentStore: ContentTarget {
    /// A new blob. Nothing is visible before [`BlobWriter::commit_blob`]; a writer that is dropped
    /// leaves nothing behind.
    fn new_blob_writer(&self) -> Result<Box<dyn BlobWriter>, OciError>;
}

/// A blob that is being written. Blocking: use it off the async threads.
pub trait BlobWriter: std::io::Write + Send {
    /// Stores the blob under its digest, and returns digest and size.
    fn commit_blob(self: Box<Self>) -> Result<(Digest, u64), OciError>;
}

/// Reads content into memory, at most `limit` bytes, checked against its descriptor.
///
/// Content embedded in the descriptor (image-spec 1.1, descriptor.md, `data`) is used without a
/// request.
pub async fn fetch_content(
    source: &dyn ContentSource,
    descriptor: &Descriptor,
    limit: usize,
) -> Result<Bytes, OciError> {
    match embedded_content(descriptor, limit) {
        Some(bytes) => Ok(bytes),
        None => fetch_stored_content(source, descriptor, limit).await,
    }
}

/// The embedded content of the descriptor, if it matches the descriptor. Otherwise it is ignored:
/// only the embedded copy may be wrong.
pub(crate) fn embedded_content(descriptor: &Descriptor, limit: usize) -> Option<Bytes> {
    let bytes = descriptor.embedded_content()?;
    let fits = bytes.len() <= limit && bytes.len() as u64 == descriptor.size;
    (fits && Digest::of_bytes(&bytes) == descriptor.digest).then(|| bytes.into())
}

/// Reads content into memory from its storage, even if it is embedded in the descriptor.
pub async fn fetch_stored_content(
    source: &dyn ContentSource,
    descriptor: &Descriptor,
    limit: usize,
) -> Result<Bytes, OciError> {
    let size = usize::try_from(descriptor.size)
        .ok()
        .filter(|size| *size <= limit);
    let size = size.ok_or_else(|| OciError::LimitExceeded {
        what: descriptor.digest.to_string(),
        size: descriptor.size,
        limit: limit as u64,
    })?;
    let mut bytes = Vec::with_capacity(size);
    let mut reader = source.open_content(descriptor).await?;
    reader
        .read_to_end(&mut bytes)
        .await
        .map_err(|e| OciError::from_io_error(e, &source.location()))?;
    Ok(bytes.into())
}

/// A referrer's descriptor as a list has it, with its type and annotations, which readers use
/// (distribution-spec 1.1, "Listing Referrers").
fn listed_referrer(descriptor: &Descriptor, document: &ManifestOrIndex) -> Descriptor {
    Descriptor {
        artifact_type: document.artifact_type().map(Into::into),
        annotations: document.annotations().clone(),
        ..descriptor.without_metadata()
    }
}

/// Reads the manifest or index of a descriptor.
pub async fn fetch_document(
    source: &dyn ContentSource,
    descriptor: &Descriptor,
    limits: &InputLimits,
) -> Result<(Bytes, ManifestOrIndex), OciError> {
    let bytes = fetch_content(source, descriptor, limits.manifest_bytes).await?;
    let document = ManifestOrIndex::parse(&descriptor.media_type, &bytes, limits)?;
    Ok((bytes, document))
}
