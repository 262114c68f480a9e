//! Images in registries, as one deterministic tar of an OCI layout, and single blobs as they are.
//!
//! The archive holds everything that the digest names (or one platform's manifest), and nothing that varies: no tag, no time.

use std::{collections::BTreeMap, io::Cursor, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future::BoxFuture, stream};
use tokio_util::io::{ReaderStream, StreamReader};

use super::{FetchError, OpenContent, Opened, Origin, Request};
use crate::{
    core::{
        digest::Digest,
        limits::Limits,
        lockfile::OciSelection,
        oci::{
            Descriptor, Document, Index, Platform,
            layout::{INDEX_FILE, MARKER_FILE, OCI_LAYOUT, blob_path},
        },
        pack::{Segment, TarFile, segments},
        reference::Reference,
    },
    http::HttpClient,
    oci::{
        OciError, Reader, Resolved, Source,
        auth::CredentialStore,
        fetch_document,
        remote::{RemoteOptions, RemoteTarget},
    },
};

const SCHEME: &str = "oci://";
/// Documents in one image, nested at most so deep.
const MAX_DEPTH: usize = 4;
const MAX_BLOBS: usize = 10_000;
/// Bytes of all documents of one image, which are in memory until the archive is read.
const MAX_DOCUMENTS: u64 = 64 << 20;

/// Images in any registry.
pub struct RegistryOrigin {
    http: HttpClient,
    credentials: Arc<dyn CredentialStore>,
    options: RemoteOptions,
}

impl RegistryOrigin {
    /// Asks registries through `http`.
    pub fn new(http: HttpClient, credentials: Arc<dyn CredentialStore>, options: RemoteOptions) -> Self {
        Self { http, credentials, options }
    }

    fn target(&self, origin: &str, reference: &Reference) -> Result<Arc<dyn Source>, FetchError> {
        let target = RemoteTarget::new(reference.repository.clone(), &self.http, Arc::clone(&self.credentials), self.options);
        Ok(Arc::new(target.map_err(|source| FetchError::Registry { origin: origin.into(), source })?))
    }
}

#[async_trait]
impl Origin for RegistryOrigin {
    async fn open(&self, request: Request<'_>) -> Result<Opened, FetchError> {
        let reference = parse(request.origin)?;
        if reference.digest.is_none() {
            return Err(FetchError::Unpinned { origin: request.origin.into() });
        }
        let source = self.target(request.origin, &reference)?;
        let reader = open(source, &reference, request.oci).await.map_err(|source| FetchError::Registry { origin: request.origin.into(), source })?;
        Ok(Opened { content: OpenContent::Stream(reader), download_location: None })
    }

    async fn pin(&self, request: Request<'_>) -> Result<Option<Digest>, FetchError> {
        let reference = parse(request.origin)?;
        let resolved = self.target(request.origin, &reference)?.resolve(&reference.selector(), &Limits::DEFAULT).await;
        resolved.map(|resolved| Some(resolved.descriptor.digest)).map_err(|source| FetchError::Registry { origin: request.origin.into(), source })
    }
}

fn parse(origin: &str) -> Result<Reference, FetchError> {
    let failed = |cause: String| FetchError::Failed { origin: origin.into(), cause };
    let name = origin.strip_prefix(SCHEME).ok_or_else(|| failed("must start with oci://".into()))?;
    name.parse().map_err(|e: crate::core::reference::ReferenceError| failed(e.to_string()))
}

async fn open(source: Arc<dyn Source>, reference: &Reference, selection: Option<&OciSelection>) -> Result<Reader, OciError> {
    let root = source.resolve(&reference.selector(), &Limits::DEFAULT).await?;
    match selection {
        Some(OciSelection::Blob(digest)) => open_blob(&*source, &root, digest).await,
        Some(OciSelection::Platform(platform)) => {
            let root = for_platform(&*source, root, platform).await?;
            archive(source, root).await
        }
        None => archive(source, root).await,
    }
}

async fn open_blob(source: &dyn Source, root: &Resolved, digest: &Digest) -> Result<Reader, OciError> {
    let document = root.document(&Limits::DEFAULT)?;
    let found = document.children().into_iter().find(|child| child.digest == *digest).cloned();
    let blob = found.ok_or_else(|| OciError::NotFound { what: digest.to_string(), location: root.descriptor.digest.to_string() })?;
    source.open(&blob).await
}

/// One platform's manifest of an index. A manifest stands for itself.
async fn for_platform(source: &dyn Source, root: Resolved, platform: &Platform) -> Result<Resolved, OciError> {
    let Document::Index(index) = root.document(&Limits::DEFAULT)? else { return Ok(root) };
    let child = index.manifests.into_iter().find(|child| child.platform.as_ref() == Some(platform));
    let child =
        child.ok_or_else(|| OciError::NotFound { what: format!("a manifest for {platform}"), location: root.descriptor.digest.to_string() })?;
    let (bytes, _) = fetch_document(source, &child, &Limits::DEFAULT).await?;
    Ok(Resolved { descriptor: child.bare(), bytes })
}

/// What lies in the archive: bytes that are known, or a blob that is still in the registry.
#[derive(Clone)]
enum Part {
    Bytes(Bytes),
    Blob(Descriptor),
}

async fn archive(source: Arc<dyn Source>, root: Resolved) -> Result<Reader, OciError> {
    let mut gathered = Gathered::default();
    let document = root.document(&Limits::DEFAULT)?;
    gathered.document(&*source, &root.descriptor, root.bytes.clone(), &document, 0).await?;
    let index = serde_json_canonicalizer::to_vec(&Index::new(vec![root.descriptor.bare()])).map_err(|e| OciError::Invalid(e.to_string()))?;
    let fixed = [(MARKER_FILE, Bytes::from_static(OCI_LAYOUT)), (INDEX_FILE, index.into())];
    let fixed =
        fixed.into_iter().map(|(path, bytes)| TarFile { path: path.into(), mode: 0o644, size: bytes.len() as u64, content: Part::Bytes(bytes) });
    let blobs = gathered.parts.into_iter().map(|(digest, (size, part))| TarFile { path: blob_path(&digest), mode: 0o644, size, content: part });
    Ok(read(source, segments(fixed.chain(blobs))))
}

/// Every document and blob of an image, each once.
#[derive(Default)]
struct Gathered {
    parts: BTreeMap<Digest, (u64, Part)>,
    in_memory: u64,
}

impl Gathered {
    /// Takes in a document and all below it. One that was taken in is not entered again: indexes that list each other's children over and
    /// over would never come to an end.
    fn document<'a>(
        &'a mut self,
        source: &'a dyn Source,
        descriptor: &'a Descriptor,
        bytes: Bytes,
        document: &'a Document,
        depth: usize,
    ) -> BoxFuture<'a, Result<(), OciError>> {
        Box::pin(async move {
            self.in_memory += bytes.len() as u64;
            check_limit("all documents of the image", self.in_memory, MAX_DOCUMENTS)?;
            self.parts.insert(descriptor.digest, (descriptor.size, Part::Bytes(bytes)));
            for child in document.children() {
                check_limit("the nesting of the image", depth as u64, MAX_DEPTH as u64)?;
                check_limit("the number of blobs of the image", self.parts.len() as u64, MAX_BLOBS as u64)?;
                check_limit(&child.digest.to_string(), child.size, Limits::DEFAULT.artifact_bytes)?;
                if !child.is_document() {
                    self.parts.entry(child.digest).or_insert_with(|| (child.size, Part::Blob(child.clone())));
                } else if !matches!(self.parts.get(&child.digest), Some((_, Part::Bytes(_)))) {
                    let (bytes, inner) = fetch_document(source, child, &Limits::DEFAULT).await?;
                    self.document(source, child, bytes, &inner, depth + 1).await?;
                }
            }
            Ok(())
        })
    }
}

fn check_limit(what: &str, size: u64, limit: u64) -> Result<(), OciError> {
    if size > limit { Err(OciError::LimitExceeded { what: what.into(), size, limit }) } else { Ok(()) }
}

/// Reads the pieces one after the other; blobs are checked against their descriptors on the way.
fn read(source: Arc<dyn Source>, pieces: Vec<Segment<Part>>) -> Reader {
    let streams = stream::iter(pieces).then(move |piece| {
        let source = Arc::clone(&source);
        async move {
            let reader: Reader = match piece {
                Segment::Literal(bytes) => Box::new(Cursor::new(bytes)),
                Segment::Content { content: Part::Bytes(bytes), .. } => Box::new(Cursor::new(bytes)),
                Segment::Content { content: Part::Blob(blob), .. } => source.open(&blob).await.map_err(OciError::into_stream)?,
            };
            Ok::<_, std::io::Error>(ReaderStream::with_capacity(reader, 64 << 10))
        }
    });
    Box::new(StreamReader::new(Box::pin(streams.try_flatten())))
}
