//! Packs a lock: fetches every artifact, compares it with its checksum, and writes the bundle into
//! a local store.

use std::{io::Write, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    copy::{self, CopyError, ReferrerCopying},
    progress::Progress,
    transfer::{
        ExpectedContent, TransferError, artifact_name, fetch_request, shown_name, transfer_artifact,
    },
};
use crate::{
    core::{
        digest::{Digest, DigestHasher},
        limits::InputLimits,
        lockfile::{Lockfile, LockfileError},
        oci::Descriptor,
        pack::{
            BundleFormat, LayerBlob, LayerCompression, LayerPlan, ManifestDocuments, ManifestPlan,
            PackError, PackOptions, PackPlan, PackedFile, TarSegment, ZSTD_LEVEL,
        },
        reason::{ClassifiedError, Reason},
    },
    fetch::ArtifactOrigin,
    oci::{
        BlobWriter, ContentSource, ContentTarget, LocalContentStore, OciError, PushContent,
        ResolvedManifest, fetch_content,
    },
};

/// Layers written concurrently. More would not be faster: the work is hashing.
const PARALLEL: usize = 2;

/// Why packing failed.
#[derive(Debug, thiserror::Error)]
pub enum PackServiceError {
    /// The lock is invalid.
    #[error(transparent)]
    Lock(#[from] LockfileError),
    /// The lock cannot be packed with these options.
    #[error(transparent)]
    Plan(#[from] PackError),
    /// An artifact could not be transferred.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The store failed.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// A layer differs from the recorded one.
    #[error(
        "layer with {files:?} became {actual}, the lock has recorded {recorded}; record it again: \
            packgate lock LOCK"
    )]
    Recorded {
        /// The names of the files in the layer.
        files: Vec<String>,
        /// The diffID in the lock.
        recorded: Digest,
        /// The actual diffID.
        actual: Digest,
    },
}

impl ClassifiedError for PackServiceError {
    fn reason(&self) -> Reason {
        match self {
            Self::Lock(error) => error.reason(),
            Self::Plan(error) => error.reason(),
            Self::Transfer(error) => error.reason(),
            Self::Oci(error) => error.reason(),
            Self::Recorded { .. } => Reason::DigestMismatch,
        }
    }
}

/// A bundle in the store.
#[derive(Clone, Debug)]
pub struct StoredBundle {
    /// The descriptor of its manifest or index.
    pub root: Descriptor,
    /// The total size in bytes of all its blobs and manifests.
    pub size: u64,
    /// Layers of its first manifest, with the lock's.
    pub layers: usize,
    /// The actual download locations, by artifact name, where they differ from the origin.
    pub download_locations: Vec<(String, String)>,
}

/// Packs locks.
#[derive(Clone)]
pub struct PackService {
    store: Arc<dyn LocalContentStore>,
    origin: Arc<dyn ArtifactOrigin>,
    progress: Arc<dyn Progress>,
}

impl PackService {
    /// Packs into `store` the artifacts of `origin`.
    pub fn new(
        store: Arc<dyn LocalContentStore>,
        origin: Arc<dyn ArtifactOrigin>,
        progress: Arc<dyn Progress>,
    ) -> Self {
        Self {
            store,
            origin,
            progress,
        }
    }

    /// Packs `lock`. Nothing is tagged. All checks that need no artifact are made first.
    pub async fn pack_lock(
        &self,
        lock: &Lockfile,
        output: PackOptions,
        allow_outside: bool,
    ) -> Result<StoredBundle, PackServiceError> {
        lock.check_packable(allow_outside)?;
        let plan = PackPlan::new(lock, output)?;
        if plan.output.format == BundleFormat::Artifact {
            // All documents follow from the lock, so an oversized manifest is detected before
            // anything is fetched.
            plan.predict_digest()?;
        }
        self.progress
            .begin_task("packing", Some(plan.content_bytes()));
        let mut all = Vec::new();
        let mut packed = StoredBundle {
            root: Descriptor::empty(),
            size: 0,
            layers: 0,
            download_locations: Vec::new(),
        };
        for manifest in plan.manifest_plans() {
            all.push(
                self.pack_manifest(lock, &plan, &manifest, &mut packed)
                    .await?
                    .manifest
                    .0,
            );
        }
        self.progress.end_task();
        packed.root = match (
            plan.bundle_digest_and_index(&all)?.1,
            all.into_iter().next(),
        ) {
            (Some(index), _) => self.push_document(&mut packed, &index).await?,
            (None, Some(manifest)) => manifest,
            (None, None) => packed.root,
        };
        Ok(packed)
    }

    async fn pack_manifest(
        &self,
        lock: &Lockfile,
        plan: &PackPlan,
        manifest: &ManifestPlan,
        packed: &mut StoredBundle,
    ) -> Result<ManifestDocuments, PackServiceError> {
        let layers = manifest
            .layers
            .iter()
            .map(|layer| self.pack_layer(lock, plan, layer));
        let written: Vec<(LayerBlob, Vec<(String, String)>)> = stream::iter(layers)
            .buffered(PARALLEL)
            .try_collect()
            .await?;
        let (blobs, locations): (Vec<_>, Vec<_>) = written.into_iter().unzip();
        let documents = plan.build_documents(manifest, &blobs)?;
        for blob in [&documents.lock, &documents.config, &documents.manifest] {
            self.push_document(packed, blob).await?;
        }
        packed.size += blobs.iter().map(|blob| blob.descriptor.size).sum::<u64>();
        packed.layers = packed.layers.max(blobs.len() + 1);
        packed
            .download_locations
            .extend(locations.into_iter().flatten());
        Ok(documents)
    }

    async fn push_document(
        &self,
        packed: &mut StoredBundle,
        (descriptor, bytes): &(Descriptor, Bytes),
    ) -> Result<Descriptor, PackServiceError> {
        self.store
            .push_content(descriptor, PushContent::Bytes(bytes))
            .await?;
        packed.size += descriptor.size;
        Ok(descriptor.clone())
    }

    async fn pack_layer(
        &self,
        lock: &Lockfile,
        plan: &PackPlan,
        layer: &LayerPlan,
    ) -> Result<(LayerBlob, Vec<(String, String)>), PackServiceError> {
        let mut locations = Vec::new();
        let mut sink = LayerBlobSink::new(self.store.new_blob_writer()?, plan.output.compression)?;
        let segments = match plan.output.format {
            BundleFormat::Image => layer.tar_segments(),
            BundleFormat::Artifact => layer
                .files
                .iter()
                .map(|file| TarSegment::Content {
                    size: file.size,
                    content: file.clone(),
                })
                .collect(),
        };
        for segment in segments {
            sink = match segment {
                TarSegment::Literal(bytes) => sink.write_literal(&bytes)?,
                TarSegment::Content { content, .. } => {
                    self.pack_file(lock, &content, sink, &mut locations).await?
                }
            };
        }
        let blob = sink.commit_blob()?;
        check_recorded(lock, layer, plan.output.format, &blob)?;
        Ok((blob, locations))
    }

    async fn pack_file(
        &self,
        lock: &Lockfile,
        file: &PackedFile,
        sink: LayerBlobSink,
        locations: &mut Vec<(String, String)>,
    ) -> Result<LayerBlobSink, PackServiceError> {
        let name = artifact_name(lock, file);
        let Some(request) = fetch_request(lock, file) else {
            return Err(TransferError::Worker("a file that is not in the lock".into()).into());
        };
        let opened =
            self.origin
                .open_artifact(request)
                .await
                .map_err(|source| TransferError::Fetch {
                    name: name.clone(),
                    source: Box::new(source),
                })?;
        let shown = shown_name(&name, opened.download_location.as_deref());
        locations.extend(
            opened
                .download_location
                .map(|location| (name.clone(), location)),
        );
        let expected = ExpectedContent {
            checksum: file.checksum,
            size: file.size,
        };
        let progress = Arc::clone(&self.progress);
        Ok(
            transfer_artifact(&shown, opened.content, Some(expected), sink, move |bytes| {
                progress.advance_bytes(bytes);
            })
            .await?
            .0,
        )
    }
}

/// Copies a bundle that was packed into `from` to its destination, by digest: nothing is tagged.
pub async fn push_bundle(
    from: &dyn ContentSource,
    to: &dyn ContentTarget,
    root: &Descriptor,
    limits: &InputLimits,
    progress: &dyn Progress,
) -> Result<ResolvedManifest, CopyError> {
    let bytes = fetch_content(from, root, limits.manifest_bytes).await?;
    let resolved = ResolvedManifest {
        descriptor: root.without_metadata(),
        bytes,
    };
    copy::copy_bundle(
        from,
        to,
        &resolved,
        ReferrerCopying::Excluded,
        limits,
        progress,
    )
    .await?;
    Ok(resolved)
}

fn check_recorded(
    lock: &Lockfile,
    layer: &LayerPlan,
    format: BundleFormat,
    blob: &LayerBlob,
) -> Result<(), PackServiceError> {
    match layer.recorded {
        Some(recorded) if format == BundleFormat::Image && recorded != blob.diff_id => {
            let files = layer
                .files
                .iter()
                .map(|file| artifact_name(lock, file))
                .collect();
            Err(PackServiceError::Recorded {
                files,
                recorded,
                actual: blob.diff_id,
            })
        }
        _ => Ok(()),
    }
}

/// The destination of a layer's tar: a blob directly, or through the compressor.
enum LayerBlobSink {
    Plain(Box<dyn BlobWriter>),
    Zstd {
        encoder: Box<zstd::Encoder<'static, Box<dyn BlobWriter>>>,
        diff_id: DigestHasher,
    },
}

impl LayerBlobSink {
    fn new(
        writer: Box<dyn BlobWriter>,
        compression: LayerCompression,
    ) -> Result<Self, TransferError> {
        Ok(match compression {
            LayerCompression::None => Self::Plain(writer),
            LayerCompression::Zstd => {
                let encoder =
                    zstd::Encoder::new(writer, ZSTD_LEVEL).map_err(TransferError::Write)?;
                Self::Zstd {
                    encoder: Box::new(encoder),
                    diff_id: DigestHasher::new(),
                }
            }
        })
    }

    fn write_literal(mut self, bytes: &[u8]) -> Result<Self, TransferError> {
        self.write_all(bytes).map_err(TransferError::Write)?;
        Ok(self)
    }

    fn commit_blob(self) -> Result<LayerBlob, PackServiceError> {
        Ok(match self {
            Self::Plain(writer) => {
                let (digest, size) = writer.commit_blob()?;
                LayerBlob::uncompressed_layer(digest, size)
            }
            Self::Zstd { encoder, diff_id } => {
                let (digest, size) = encoder
                    .finish()
                    .map_err(TransferError::Write)?
                    .commit_blob()?;
                LayerBlob::zstd_layer(digest, size, diff_id.finish())
            }
        })
    }
}

impl Write for LayerBlobSink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(writer) => writer.write(bytes),
            Self::Zstd { encoder, diff_id } => {
                let count = encoder.write(bytes)?;
                diff_id.update(&bytes[..count]);
                Ok(count)
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
