//! Images in registries, as one deterministic tar of an OCI layout, and single blobs as they are.
//!
//! The archive holds everything that the digest names (or one platform's manifest), and nothing
//! that varies: no tag, no time.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;

use super::{
    FetchError, OpenContent, Opened, Origin, Request,
    pieces::{Part, read},
};
use crate::{
    core::{
        digest::Digest,
        limits::Limits,
        lockfile::OciSelection,
        oci::{
            Descriptor, Document, Index, Platform,
            layout::{INDEX_FILE, MARKER_FILE, OCI_LAYOUT, blob_path},
        },
        pack::{TarFile, segments},
        reference::{Reference, Repository},
    },
    oci::{OciError, Reader, Resolved, Source, fetch_document},
};

const SCHEME: &str = "oci://";
/// Documents in one image, nested at most so deep.
const MAX_DEPTH: usize = 4;
const MAX_BLOBS: usize = 10_000;
/// Bytes of all documents of one image, which are in memory until the archive is read.
const MAX_DOCUMENTS: u64 = 64 << 20;

/// Opens repositories: knows how each registry is reached, and what it is shown.
pub trait Repositories: Send + Sync {
    /// The repository, for reading. Sends nothing yet.
    fn open(&self, repository: &Repository) -> Result<Arc<dyn Source>, OciError>;
}

/// Images in any registry.
pub struct RegistryOrigin {
    repositories: Arc<dyn Repositories>,
}

impl RegistryOrigin {
    /// Images in what `repositories` opens.
    pub fn new(repositories: Arc<dyn Repositories>) -> Self {
        Self { repositories }
    }

    fn target(&self, origin: &str, reference: &Reference) -> Result<Arc<dyn Source>, FetchError> {
        self.repositories
            .open(&reference.repository)
            .map_err(|source| FetchError::Registry {
                origin: origin.into(),
                source,
            })
    }
}

#[async_trait]
impl Origin for RegistryOrigin {
    async fn open(&self, request: Request<'_>) -> Result<Opened, FetchError> {
        let reference = parse(request.origin)?;
        if reference.digest.is_none() {
            return Err(FetchError::Unpinned {
                origin: request.origin.into(),
            });
        }
        let source = self.target(request.origin, &reference)?;
        let reader = open(source, &reference, request.oci)
            .await
            .map_err(|source| FetchError::Registry {
                origin: request.origin.into(),
                source,
            })?;
        Ok(Opened {
            content: OpenContent::Stream(reader),
            download_location: None,
        })
    }

    async fn pin(&self, request: Request<'_>) -> Result<Option<Digest>, FetchError> {
        let reference = parse(request.origin)?;
        let resolved = self
            .target(request.origin, &reference)?
            .resolve(&reference.selector(), &Limits::DEFAULT)
            .await;
        resolved
            .map(|resolved| Some(resolved.descriptor.digest))
            .map_err(|source| FetchError::Registry {
                origin: request.origin.into(),
                source,
            })
    }
}

fn parse(origin: &str) -> Result<Reference, FetchError> {
    let failed = |cause: String| FetchError::Failed {
        origin: origin.into(),
        cause,
    };
    let name = origin
        .strip_prefix(SCHEME)
        .ok_or_else(|| failed("must start with oci://".into()))?;
    name.parse()
        .map_err(|e: crate::core::reference::ReferenceError| failed(e.to_string()))
}

async fn open(
    source: Arc<dyn Source>,
    reference: &Reference,
    selection: Option<&OciSelection>,
) -> Result<Reader, OciError> {
    let root = source
        .resolve(&reference.selector(), &Limits::DEFAULT)
        .await?;
    match selection {
        Some(OciSelection::Blob(digest)) => open_blob(&*source, &root, digest).await,
        Some(OciSelection::Platform(platform)) => {
            let root = for_platform(&*source, root, platform).await?;
            archive(source, root).await
        }
        None => archive(source, root).await,
    }
}

async fn open_blob(
    source: &dyn Source,
    root: &Resolved,
    digest: &Digest,
) -> Result<Reader, OciError> {
    let document = root.document(&Limits::DEFAULT)?;
    let found = document
        .children()
        .into_iter()
        .find(|child| child.digest == *digest)
        .cloned();
    let blob = found.ok_or_else(|| OciError::NotFound {
        what: digest.to_string(),
        location: root.descriptor.digest.to_string(),
    })?;
    source.open(&blob).await
}

/// One platform's manifest of an index. A manifest stands for itself.
async fn for_platform(
    source: &dyn Source,
    root: Resolved,
    platform: &Platform,
) -> Result<Resolved, OciError> {
    let Document::Index(index) = root.document(&Limits::DEFAULT)? else {
        return Ok(root);
    };
    let child = index
        .manifests
        .into_iter()
        .find(|child| child.platform.as_ref() == Some(platform));
    let child = child.ok_or_else(|| OciError::NotFound {
        what: format!("a manifest for {platform}"),
        location: root.descriptor.digest.to_string(),
    })?;
    let (bytes, _) = fetch_document(source, &child, &Limits::DEFAULT).await?;
    Ok(Resolved {
        descriptor: child.bare(),
        bytes,
    })
}

async fn archive(source: Arc<dyn Source>, root: Resolved) -> Result<Reader, OciError> {
    let mut gathered = Gathered::default();
    let document = root.document(&Limits::DEFAULT)?;
    gathered
        .document(&*source, &root.descriptor, root.bytes.clone(), &document, 0)
        .await?;
    let index = serde_json_canonicalizer::to_vec(&Index::new(vec![root.descriptor.bare()]))
        .map_err(|e| OciError::Invalid(e.to_string()))?;
    let fixed = [
        (MARKER_FILE, Bytes::from_static(OCI_LAYOUT)),
        (INDEX_FILE, index.into()),
    ];
    let fixed = fixed.into_iter().map(|(path, bytes)| TarFile {
        path: path.into(),
        mode: 0o644,
        size: bytes.len() as u64,
        content: Part::Bytes(bytes),
    });
    let blobs = gathered
        .parts
        .into_iter()
        .map(|(digest, (size, part))| TarFile {
            path: blob_path(&digest),
            mode: 0o644,
            size,
            content: part,
        });
    Ok(read(source, segments(fixed.chain(blobs))))
}

/// Every document and blob of an image, each once.
#[derive(Default)]
struct Gathered {
    parts: BTreeMap<Digest, (u64, Part)>,
    in_memory: u64,
}

impl Gathered {
    /// Takes in a document and all below it. One that was taken in is not entered again: indexes
    /// that list each other's children over and over would never come to an end.
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
            self.parts
                .insert(descriptor.digest, (descriptor.size, Part::Bytes(bytes)));
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
                    Limits::DEFAULT.artifact_bytes,
                )?;
                if !child.is_document() {
                    self.parts
                        .entry(child.digest)
                        .or_insert_with(|| (child.size, Part::Blob(child.clone())));
                } else if !matches!(self.parts.get(&child.digest), Some((_, Part::Bytes(_)))) {
                    let (bytes, inner) = fetch_document(source, child, &Limits::DEFAULT).await?;
                    self.document(source, child, bytes, &inner, depth + 1)
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
            class::{Classified, Reason},
            media_type,
            oci::{Annotations, Manifest},
            reference::Selector,
        },
        oci::{Content, MemoryTarget, Target},
    };

    /// Counts what is opened.
    #[derive(Default)]
    struct Counting(MemoryTarget, AtomicUsize);

    #[async_trait]
    impl Source for Counting {
        fn location(&self) -> String {
            self.0.location()
        }

        async fn resolve(
            &self,
            selector: &Selector,
            limits: &Limits,
        ) -> Result<Resolved, OciError> {
            self.0.resolve(selector, limits).await
        }

        async fn open(&self, descriptor: &Descriptor) -> Result<Reader, OciError> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.open(descriptor).await
        }

        async fn referrers(
            &self,
            subject: &Descriptor,
            limits: &Limits,
        ) -> Result<Vec<Descriptor>, OciError> {
            self.0.referrers(subject, limits).await
        }
    }

    impl Counting {
        async fn push(&self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
            let bytes = Bytes::from(bytes);
            let descriptor = Descriptor::of(media_type, &bytes);
            self.0
                .push(&descriptor, Content::Bytes(&bytes))
                .await
                .expect("pushed");
            descriptor
        }

        async fn index(&self, children: Vec<Descriptor>, padding: usize) -> Descriptor {
            let annotations = Annotations::from([("padding".to_owned(), "x".repeat(padding))]);
            self.push(
                media_type::INDEX,
                serde_json::to_vec(&Index {
                    annotations,
                    ..Index::new(children)
                })
                .expect("JSON"),
            )
            .await
        }

        async fn manifest(&self, layers: Vec<Descriptor>) -> Descriptor {
            let config = self.push(media_type::CONFIG, b"{}".to_vec()).await;
            let manifest = Manifest {
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

    /// The archive's bytes, and how much was opened for it.
    async fn read_archive(source: Counting, root: &Descriptor) -> Result<(Vec<u8>, usize), Reason> {
        let source = Arc::new(source);
        let root = source
            .resolve(&Selector::Digest(root.digest), &Limits::DEFAULT)
            .await
            .expect("there");
        let dynamic: Arc<dyn Source> = Arc::clone(&source) as Arc<dyn Source>;
        let mut reader = archive(dynamic, root).await.map_err(|e| e.reason())?;
        let mut bytes = Vec::new();
        reader
            .read_to_end(&mut bytes)
            .await
            .map_err(|e| OciError::from_stream(e, "memory").reason())?;
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
            ..Descriptor::of(media_type::LAYER, b"x")
        };
        let root = source.manifest(vec![endless]).await;
        assert_eq!(
            read_archive(source, &root).await,
            Err(Reason::LimitExceeded),
            "size"
        );

        let source = Counting::default();
        let layers = (0..10_001_u32)
            .map(|n| Descriptor::of(media_type::LAYER, &n.to_be_bytes()))
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
