//! Images in registries, as one deterministic tar of an OCI layout, and single blobs unchanged.
//!
//! The archive contains everything that the digest refers to (or one platform's manifest), and
//! nothing that varies: no tag, no time.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;

use super::{
    ArtifactOrigin, ArtifactStream, FetchError, FetchRequest, OpenedArtifact,
    tar_stream::{ArchivedFileContent, read_tar_stream},
};
use crate::{
    core::{
        digest::Digest,
        limits::InputLimits,
        lockfile::OciSelection,
        oci::{
            Descriptor, ImageIndex, ManifestOrIndex, Platform,
            layout::{INDEX_FILE, MARKER_FILE, OCI_LAYOUT, blob_path},
            platform::choose_manifest,
        },
        pack::{TarFile, plan_tar_segments},
        reference::{ImageReference, ImageRepository},
    },
    oci::{ContentReader, ContentSource, OciError, ResolvedManifest, fetch_document},
};

const SCHEME: &str = "oci://";
/// The maximum depth of nested documents in one image.
const MAX_DEPTH: usize = 4;
const MAX_BLOBS: usize = 10_000;
/// Bytes of all documents of one image, which are in memory until the archive is read.
const MAX_DOCUMENTS: u64 = 64 << 20;

/// Opens repositories, with the settings and credentials of each registry.
pub trait RepositoryOpener: Send + Sync {
    /// The repository, for reading. Sends nothing yet.
    fn open_repository(
        &self,
        repository: &ImageRepository,
    ) -> Result<Arc<dyn ContentSource>, OciError>;
}

/// Images in any registry.
pub struct RegistryOrigin {
    repositories: Arc<dyn RepositoryOpener>,
}

impl RegistryOrigin {
    /// Images in the repositories that `repositories` opens.
    pub fn new(repositories: Arc<dyn RepositoryOpener>) -> Self {
        Self { repositories }
    }

    fn open_source(
        &self,
        origin: &str,
        reference: &ImageReference,
    ) -> Result<Arc<dyn ContentSource>, FetchError> {
        self.repositories
            .open_repository(&reference.repository)
            .map_err(|source| FetchError::Registry {
                origin: origin.into(),
                source: Box::new(source),
            })
    }
}

#[async_trait]
impl ArtifactOrigin for RegistryOrigin {
    async fn open_artifact(&self, request: FetchRequest<'_>) -> Result<OpenedArtifact, FetchError> {
        let reference = parse_origin(request.origin)?;
        if reference.digest.is_none() {
            return Err(FetchError::Unpinned {
                origin: request.origin.into(),
            });
        }
        let source = self.open_source(request.origin, &reference)?;
        let reader = open_image(source, &reference, request.oci)
            .await
            .map_err(|source| FetchError::Registry {
                origin: request.origin.into(),
                source: Box::new(source),
            })?;
        Ok(OpenedArtifact {
            content: ArtifactStream::Stream(reader),
            download_location: None,
        })
    }

    async fn resolve_oci_digest(
        &self,
        request: FetchRequest<'_>,
    ) -> Result<Option<Digest>, FetchError> {
        let reference = parse_origin(request.origin)?;
        let resolved = self
            .open_source(request.origin, &reference)?
            .resolve_manifest(&reference.tag_or_digest(), &InputLimits::DEFAULT)
            .await;
        resolved
            .map(|resolved| Some(resolved.descriptor.digest))
            .map_err(|source| FetchError::Registry {
                origin: request.origin.into(),
                source: Box::new(source),
            })
    }
}

fn parse_origin(origin: &str) -> Result<ImageReference, FetchError> {
    let failed = |cause: String| FetchError::ReadFailed {
        origin: origin.into(),
        cause,
    };
    let name = origin
        .strip_prefix(SCHEME)
        .ok_or_else(|| failed("must start with oci://".into()))?;
    name.parse()
        .map_err(|e: crate::core::reference::ImageReferenceError| failed(e.to_string()))
}

async fn open_image(
    source: Arc<dyn ContentSource>,
    reference: &ImageReference,
    selection: Option<&OciSelection>,
) -> Result<ContentReader, OciError> {
    let root = source
        .resolve_manifest(&reference.tag_or_digest(), &InputLimits::DEFAULT)
        .await?;
    match selection {
        Some(OciSelection::Blob(digest)) => open_blob(&*source, &root, digest).await,
        Some(OciSelection::Platform(platform)) => {
            let root = select_platform(&*source, root, platform).await?;
            archive_image(source, root).await
        }
        None => archive_image(source, root).await,
    }
}

async fn open_blob(
    source: &dyn ContentSource,
    root: &ResolvedManifest,
    digest: &Digest,
) -> Result<ContentReader, OciError> {
    let document = root.parse_document(&InputLimits::DEFAULT)?;
    let found = document
        .children()
        .into_iter()
        .find(|child| child.digest == *digest)
        .cloned();
    let blob = found.ok_or_else(|| OciError::NotFound {
        what: digest.to_string(),
        location: root.descriptor.digest.to_string(),
    })?;
    source.open_content(&blob).await
}

/// One platform's manifest of an index. A manifest is returned as it is.
async fn select_platform(
    source: &dyn ContentSource,
    root: ResolvedManifest,
    platform: &Platform,
) -> Result<ResolvedManifest, OciError> {
    let ManifestOrIndex::Index(index) = root.parse_document(&InputLimits::DEFAULT)? else {
        return Ok(root);
    };
    let child =
        choose_manifest(&index.manifests, platform).map_err(|cause| OciError::NoPlatform {
            root: root.descriptor.digest,
            cause,
        })?;
    let (bytes, _) = fetch_document(source, child, &InputLimits::DEFAULT).await?;
    Ok(ResolvedManifest {
        descriptor: child.without_metadata(),
        bytes,
    })
}

async fn archive_image(
    source: Arc<dyn ContentSource>,
    root: ResolvedManifest,
) -> Result<ContentReader, OciError> {
    let mut contents = ImageContents::default();
    let document = root.parse_document(&InputLimits::DEFAULT)?;
    contents
        .add_document(&*source, &root.descriptor, root.bytes.clone(), &document, 0)
        .await?;
    let index = serde_json_canonicalizer::to_vec(&ImageIndex::new(vec![
        root.descriptor.without_metadata(),
    ]))
    .map_err(|e| OciError::Invalid(e.to_string()))?;
    let fixed = [
        (MARKER_FILE, Bytes::from_static(OCI_LAYOUT)),
        (INDEX_FILE, index.into()),
    ];
    let fixed = fixed.into_iter().map(|(path, bytes)| TarFile {
        path: path.into(),
        mode: 0o644,
        size: bytes.len() as u64,
        content: ArchivedFileContent::Bytes(bytes),
    });
    let blobs = contents
        .parts
        .into_iter()
        .map(|(digest, (size, part))| TarFile {
            path: blob_path(&digest),
            mode: 0o644,
            size,
            content: part,
        });
    Ok(read_tar_stream(
        source,
        plan_tar_segments(fixed.chain(blobs)),
    ))
}

/// Every document and blob of an image, each once.
#[derive(Default)]
struct ImageContents {
    parts: BTreeMap<Digest, (u64, ArchivedFileContent)>,
    in_memory: u64,
}

impl ImageContents {
    /// Adds a document and everything below it, once: indexes that repeatedly list each other's
    /// children would never end otherwise.
    fn add_document<'a>(
        &'a mut self,
        source: &'a dyn ContentSource,
        descriptor: &'a Descriptor,
        bytes: Bytes,
        document: &'a ManifestOrIndex,
        depth: usize,
    ) -> BoxFuture<'a, Result<(), OciError>> {
        Box::pin(async move {
            self.in_memory += bytes.len() as u64;
            check_limit("all documents of the image", self.in_memory, MAX_DOCUMENTS)?;
            self.parts.insert(
                descriptor.digest,
                (descriptor.size, ArchivedFileContent::Bytes(bytes)),
            );
            for child in document.children() {
                check_limit("the nesting of the image", depth as u64, MAX_DEPTH as u64)?;
                check_limit(
                    "the number of blobs of the image",
                    self.parts.len() as u64,
                    MAX_BLOBS as u64,
                )?;
                check_limit(
                    &child.digest.to_string(),
                    child.size,
                    InputLimits::DEFAULT.artifact_bytes,
                )?;
                if !child.is_manifest_or_index() {
                    self.parts
                        .entry(child.digest)
                        .or_insert_with(|| (child.size, ArchivedFileContent::Blob(child.clone())));
                } else if !matches!(
                    self.parts.get(&child.digest),
                    Some((_, ArchivedFileContent::Bytes(_)))
                ) {
                    let (bytes, inner) =
                        fetch_document(source, child, &InputLimits::DEFAULT).await?;
                    self.add_document(source, child, bytes, &inner, depth + 1)
                        .await?;
                }
            }
            Ok(())
        })
    }
}

fn check_limit(what: &str, size: u64, limit: u64) -> Result<(), OciError> {
    if size > limit {
        Err(OciError::LimitExceeded {
            what: what.into(),
            size,
            limit,
        })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::{
        core::{
            media_type,
            oci::{Annotations, ImageManifest},
            reason::{ClassifiedError, Reason},
            reference::TagOrDigest,
        },
        oci::{ContentTarget, MemoryTarget, PushContent},
    };

    /// Counts the opened content.
    #[derive(Default)]
    struct Counting(MemoryTarget, AtomicUsize);

    #[async_trait]
    impl ContentSource for Counting {
        fn location(&self) -> String {
            self.0.location()
        }

        async fn resolve_manifest(
            &self,
            selector: &TagOrDigest,
            limits: &InputLimits,
        ) -> Result<ResolvedManifest, OciError> {
            self.0.resolve_manifest(selector, limits).await
        }

        async fn open_content(&self, descriptor: &Descriptor) -> Result<ContentReader, OciError> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.open_content(descriptor).await
        }

        async fn list_referrers(
            &self,
            subject: &Descriptor,
            limits: &InputLimits,
        ) -> Result<Vec<Descriptor>, OciError> {
            self.0.list_referrers(subject, limits).await
        }
    }

    impl Counting {
        async fn push(&self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
            let bytes = Bytes::from(bytes);
            let descriptor = Descriptor::of_bytes(media_type, &bytes);
            self.0
                .push_content(&descriptor, PushContent::Bytes(&bytes))
                .await
                .expect("pushed");
            descriptor
        }

        async fn index(&self, children: Vec<Descriptor>, padding: usize) -> Descriptor {
            let annotations = Annotations::from([("padding".to_owned(), "x".repeat(padding))]);
            self.push(
                media_type::INDEX,
                serde_json::to_vec(&ImageIndex {
                    annotations,
                    ..ImageIndex::new(children)
                })
                .expect("JSON"),
            )
            .await
        }

        async fn manifest(&self, layers: Vec<Descriptor>) -> Descriptor {
            let config = self.push(media_type::CONFIG, b"{}".to_vec()).await;
            let manifest = ImageManifest {
                schema_version: 2,
                media_type: Some(media_type::MANIFEST.into()),
                artifact_type: None,
                config,
                layers,
                subject: None,
                annotations: Annotations::new(),
            };
            self.push(
                media_type::MANIFEST,
                serde_json::to_vec(&manifest).expect("JSON"),
            )
            .await
        }
    }

    /// The archive's bytes, and the number of opened blobs.
    async fn read_archive(source: Counting, root: &Descriptor) -> Result<(Vec<u8>, usize), Reason> {
        let source = Arc::new(source);
        let root = source
            .resolve_manifest(&TagOrDigest::Digest(root.digest), &InputLimits::DEFAULT)
            .await
            .expect("there");
        let dynamic: Arc<dyn ContentSource> = Arc::clone(&source) as Arc<dyn ContentSource>;
        let mut reader = archive_image(dynamic, root).await.map_err(|e| e.reason())?;
        let mut bytes = Vec::new();
        reader
            .read_to_end(&mut bytes)
            .await
            .map_err(|e| OciError::from_io_error(e, "memory").reason())?;
        Ok((bytes, source.1.load(Ordering::Relaxed)))
    }

    #[tokio::test]
    async fn an_archive_holds_everything_once() {
        let source = Counting::default();
        let layer = source.push(media_type::LAYER, b"layer".to_vec()).await;
        let manifest = source.manifest(vec![layer.clone(), layer]).await;
        let root = source.index(vec![manifest.clone(), manifest], 0).await;
        let (bytes, opened) = read_archive(source, &root).await.expect("read");
        let mut archive = ::tar::Archive::new(&bytes[..]);
        let names: Vec<String> = archive
            .entries()
            .expect("a tar")
            .map(|e| {
                e.expect("an entry")
                    .path()
                    .expect("a path")
                    .display()
                    .to_string()
            })
            .collect();
        assert_eq!(
            names
                .iter()
                .filter(|name| name.starts_with("blobs/sha256/") && name.len() > 20)
                .count(),
            4
        );
        assert_eq!(opened, 3, "manifest, config, layer");
    }

    #[tokio::test]
    async fn indexes_that_list_each_other_over_and_over_are_read_once() {
        let source = Counting::default();
        let mut child = source.manifest(Vec::new()).await;
        for _ in 0..4 {
            child = source.index(vec![child; 1_000], 0).await;
        }
        let (_, opened) = read_archive(source, &child).await.expect("read");
        assert!(opened <= 10, "{opened} requests");
    }

    #[tokio::test]
    async fn images_without_bounds_are_refused() {
        let source = Counting::default();
        let mut child = source.manifest(Vec::new()).await;
        for _ in 0..6 {
            child = source.index(vec![child], 0).await;
        }
        assert_eq!(
            read_archive(source, &child).await,
            Err(Reason::LimitExceeded),
            "nested"
        );

        let source = Counting::default();
        let endless = Descriptor {
            size: u64::MAX,
            ..Descriptor::of_bytes(media_type::LAYER, b"x")
        };
        let root = source.manifest(vec![endless]).await;
        assert_eq!(
            read_archive(source, &root).await,
            Err(Reason::LimitExceeded),
            "size"
        );

        let source = Counting::default();
        let layers = (0..10_001_u32)
            .map(|n| Descriptor::of_bytes(media_type::LAYER, &n.to_be_bytes()))
            .collect();
        let root = source.manifest(layers).await;
        assert_eq!(
            read_archive(source, &root).await,
            Err(Reason::LimitExceeded),
            "number"
        );

        let source = Counting::default();
        let mut children = Vec::new();
        for number in 0..20 {
            children.push(source.index(Vec::new(), (4 << 20) - 1_000 - number).await);
        }
        let root = source.index(children, 0).await;
        assert_eq!(
            read_archive(source, &root).await,
            Err(Reason::LimitExceeded),
            "documents"
        );
    }
}
