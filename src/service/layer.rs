//! Compares a layer with the content that the lock defines, byte for byte, while it is read.
//!
//! No tar is ever parsed: the lock defines each layer, so its literal bytes are compared and its
//! contents hashed. A path that the lock does not name cannot be written. The caller chooses where
//! the contents go: into a folder, or nowhere.

use std::{
    io::{self, BufReader, Read, Write},
    sync::Arc,
};

use tokio::task::spawn_blocking;

use super::transfer::InterruptibleReader;
use crate::{
    core::{
        digest::{Digest, DigestHasher},
        media_type,
        oci::Platform,
        pack::{BundleFormat, LayerBlob, LayerPlan, PackedFile, TarSegment, total_segment_bytes},
        reason::{ClassifiedError, Reason},
    },
    fetch::ArtifactStream,
    oci::{ContentSource, OciError},
    outdir::OutDirError,
};

const BUFFER: usize = 256 << 10;
/// The largest window that a zstd frame may require: 8 MiB, what every decoder has to support (RFC
/// 8878, section 3.1.1.1.2). The level that layers are compressed with uses 2 MiB.
const MAX_WINDOW_LOG: u32 = 23;

/// Receives the files of a layer.
pub trait LayerFileSink: Send + 'static {
    /// The destination of this file's content. The content may still turn out to differ: the error
    /// comes later.
    fn open_file<'a>(&'a self, file: &PackedFile) -> Result<Box<dyn Write + 'a>, OutDirError>;
}

/// Discards the contents.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiscardLayerFiles;

impl LayerFileSink for DiscardLayerFiles {
    fn open_file<'a>(&'a self, _: &PackedFile) -> Result<Box<dyn Write + 'a>, OutDirError> {
        Ok(Box::new(io::sink()))
    }
}

/// A layer with its expected content.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedLayer<'a> {
    /// Its number in its manifest, the lock's being 0.
    pub number: usize,
    /// The platform of its manifest.
    pub platform: Option<&'a Platform>,
    /// The expected content.
    pub plan: &'a LayerPlan,
    /// The descriptor of the blob.
    pub blob: &'a LayerBlob,
    /// The bundle's format.
    pub format: BundleFormat,
}

/// Why a layer does not match its plan, or cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// Reading failed.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// Writing failed.
    #[error(transparent)]
    OutDir(#[from] OutDirError),
    /// The content differs from the lock's.
    #[error("{layer}: it is not what the lock says: {cause}")]
    Differs {
        /// The layer: `layer 3`, `layer 3 of linux/arm64`.
        layer: String,
        /// The difference.
        cause: String,
    },
    /// Decompression or reading of a stream failed.
    #[error("{layer}: it could not be read to its end: {cause}")]
    Broken {
        /// The layer.
        layer: String,
        /// The error.
        cause: String,
    },
    /// The worker thread panicked or was cancelled.
    #[error("internal: the worker thread ended early: {0}")]
    Worker(String),
}

impl ClassifiedError for LayerError {
    fn reason(&self) -> Reason {
        match self {
            Self::Oci(error) => error.reason(),
            Self::OutDir(error) => error.reason(),
            Self::Differs { .. } => Reason::LockMismatch,
            Self::Broken { .. } => Reason::RegistryUnavailable,
            Self::Worker(_) => Reason::Internal,
        }
    }
}

/// Reads `layer` from `source` completely and compares every byte, passing contents to `files`.
/// When the future is dropped, the reading thread ends too.
pub async fn compare_layer<F: LayerFileSink>(
    source: &dyn ContentSource,
    layer: ExpectedLayer<'_>,
    files: F,
) -> Result<F, LayerError> {
    let work = LayerComparison::new(&layer);
    work.check_size(layer.blob.descriptor.size)?;
    let stream = source.open_content(&layer.blob.descriptor).await?;
    let (mut reader, _guard) = InterruptibleReader::new(ArtifactStream::Stream(stream));
    spawn_blocking(move || work.compare_blob(&mut reader, &files).map(|()| files))
        .await
        .map_err(|e| LayerError::Worker(e.to_string()))?
}

/// One layer under comparison.
struct LayerComparison {
    layer: String,
    segments: Vec<TarSegment<Arc<PackedFile>>>,
    compressed: bool,
    diff_id: Digest,
}

impl LayerComparison {
    fn new(layer: &ExpectedLayer<'_>) -> Self {
        let ExpectedLayer {
            number,
            platform,
            plan,
            blob,
            format,
        } = *layer;
        Self {
            layer: platform.map_or_else(
                || format!("layer {number}"),
                |platform| format!("layer {number} of {platform}"),
            ),
            segments: expected_segments(plan, format),
            compressed: blob.descriptor.media_type == media_type::LAYER_ZSTD,
            diff_id: blob.diff_id,
        }
    }

    fn compare_blob(
        &self,
        blob: &mut impl Read,
        files: &impl LayerFileSink,
    ) -> Result<(), LayerError> {
        let outcome = if self.compressed {
            self.compare_decompressed(blob, files)
        } else {
            self.compare_tar(blob, files)
        };
        if let Err(error @ LayerError::Differs { .. }) = outcome {
            // A digest mismatch would explain every other difference, so read on until it is known.
            self.drain_blob(blob)?;
            return Err(error);
        }
        outcome?;
        self.drain_blob(blob)
    }

    /// Refuses a blob, before anything is read, whose size cannot match the lock.
    fn check_size(&self, size: u64) -> Result<(), LayerError> {
        let tar = total_segment_bytes(&self.segments);
        // The maximum output of zstd for incompressible data, with a margin (`ZSTD_COMPRESSBOUND`).
        let fits = if self.compressed {
            size <= tar.saturating_add(tar >> 7).saturating_add(1 << 20)
        } else {
            size == tar
        };
        if fits {
            Ok(())
        } else {
            Err(self.differs_error(&format!("it has {size} bytes, and its files {tar}")))
        }
    }

    /// Exactly one frame, as packgate writes it. A second or skippable frame would hide bytes
    /// behind a diffID that still matches.
    fn compare_decompressed(
        &self,
        blob: &mut impl Read,
        files: &impl LayerFileSink,
    ) -> Result<(), LayerError> {
        let blob = BufReader::with_capacity(BUFFER, blob);
        let mut tar = zstd::Decoder::with_buffer(blob)
            .map_err(|e| self.read_error(e))?
            .single_frame();
        tar.window_log_max(MAX_WINDOW_LOG)
            .map_err(|e| self.read_error(e))?;
        self.compare_tar(&mut tar, files)?;
        if tar
            .finish()
            .read(&mut [0])
            .map_err(|e| self.read_error(e))?
            == 0
        {
            Ok(())
        } else {
            Err(self.differs_error("something follows its zstd frame"))
        }
    }

    fn compare_tar(
        &self,
        tar: &mut impl Read,
        files: &impl LayerFileSink,
    ) -> Result<(), LayerError> {
        let mut hasher = DigestHasher::new();
        for segment in &self.segments {
            match segment {
                TarSegment::Literal(bytes) => self.compare_literal(tar, bytes, &mut hasher)?,
                TarSegment::Content { content, .. } => {
                    self.compare_content(tar, content, &mut hasher, files)?;
                }
            }
        }
        if tar.read(&mut [0]).map_err(|e| self.read_error(e))? != 0 {
            return Err(self.differs_error("it goes on after its end"));
        }
        if hasher.finish() == self.diff_id {
            Ok(())
        } else {
            Err(self.differs_error("its diffID is not the config's"))
        }
    }

    fn compare_literal(
        &self,
        tar: &mut impl Read,
        expected: &[u8],
        hasher: &mut DigestHasher,
    ) -> Result<(), LayerError> {
        let mut actual = vec![0; expected.len()];
        tar.read_exact(&mut actual)
            .map_err(|e| self.read_error(e))?;
        hasher.update(&actual);
        if actual == expected {
            Ok(())
        } else {
            Err(self.differs_error("an entry that the lock does not name"))
        }
    }

    fn compare_content(
        &self,
        tar: &mut impl Read,
        file: &PackedFile,
        hasher: &mut DigestHasher,
        files: &impl LayerFileSink,
    ) -> Result<(), LayerError> {
        let mut out = files.open_file(file)?;
        let mut checksum = DigestHasher::new();
        let mut left = file.size;
        let mut buffer = vec![0; BUFFER];
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
            tar.read_exact(&mut buffer[..most])
                .map_err(|e| self.read_error(e))?;
            hasher.update(&buffer[..most]);
            checksum.update(&buffer[..most]);
            out.write_all(&buffer[..most])
                .map_err(|cause| OutDirError::storage_error(&file.path, &cause))?;
            left -= most as u64;
        }
        out.flush()
            .map_err(|cause| OutDirError::storage_error(&file.path, &cause))?;
        if checksum.finish() == file.checksum {
            Ok(())
        } else {
            Err(self.differs_error(&format!("{} does not have the lock's checksum", file.path)))
        }
    }

    fn drain_blob(&self, blob: &mut impl Read) -> Result<(), LayerError> {
        io::copy(blob, &mut io::sink()).map_err(|e| self.read_error(e))?;
        Ok(())
    }

    fn differs_error(&self, cause: &str) -> LayerError {
        LayerError::Differs {
            layer: self.layer.clone(),
            cause: cause.into(),
        }
    }

    fn read_error(&self, error: io::Error) -> LayerError {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return self.differs_error("it ends too early");
        }
        match error.downcast::<OciError>() {
            Ok(inner) => inner.into(),
            Err(cause) if self.compressed => {
                self.differs_error(&format!("it cannot be decompressed: {cause}"))
            }
            Err(cause) => LayerError::Broken {
                layer: self.layer.clone(),
                cause: cause.to_string(),
            },
        }
    }
}

fn expected_segments(plan: &LayerPlan, format: BundleFormat) -> Vec<TarSegment<Arc<PackedFile>>> {
    match format {
        BundleFormat::Image => plan.tar_segments(),
        BundleFormat::Artifact => plan
            .files
            .iter()
            .map(|file| TarSegment::Content {
                size: file.size,
                content: file.clone(),
            })
            .collect(),
    }
}
