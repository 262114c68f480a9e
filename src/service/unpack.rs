//! Writes the files of a bundle into a folder, comparing every byte of every layer with the lock on the way.
//!
//! No tar is ever parsed: the lock says what each layer must be, so its literal bytes are compared and its contents hashed. A path that
//! the lock does not name cannot come out.

use std::{
    io::{BufReader, Read, Write},
    sync::Arc,
};

use tokio::task::spawn_blocking;
use tokio_util::io::SyncIoBridge;

use super::{
    contents::{Contents, Part},
    progress::Progress,
};
use crate::{
    core::{
        class::{Classified, Reason},
        digest::{Digest, Hasher},
        glob::PathGlob,
        limits::Limits,
        lockfile::Lockfile,
        media_type,
        oci::Platform,
        pack::{Format, Item, LayerPlan, PackedFile, Segment, total},
        unpack::{self as extraction, Extraction, extraction},
    },
    oci::{OciError, Source},
    outdir::{OutDirError, Staging},
};

const BUFFER: usize = 256 << 10;
/// The largest window that a zstd frame may ask memory for: 8 MiB, what every decoder has to support (RFC 8878, section 3.1.1.1.2). The level
/// that layers are compressed with uses 2 MiB.
const MAX_WINDOW_LOG: u32 = 23;

/// Why unpacking failed. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// Reading failed.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// Writing failed, or an archive inside of the bundle is hostile.
    #[error(transparent)]
    OutDir(#[from] OutDirError),
    /// The lock does not say how an archive is to be extracted.
    #[error(transparent)]
    Extraction(extraction::UnpackError),
    /// A layer holds something else than the lock says.
    #[error("layer {layer} is not what the lock says: {cause}")]
    Layer {
        /// Number of the layer, the lock's being 0.
        layer: usize,
        /// What differs.
        cause: String,
    },
    /// No manifest for that platform.
    #[error("bundle has no manifest for {wanted}, choose one of {available} with --platform")]
    NoSuchPlatform {
        /// What was asked for.
        wanted: String,
        /// What there is.
        available: String,
    },
    /// No file matches.
    #[error("no file of the bundle matches {0:?}; packgate inspect lists them")]
    NothingSelected(String),
    /// A stream broke.
    #[error("layer {layer} could not be read to its end: {cause}")]
    Broken {
        /// Number of the layer.
        layer: usize,
        /// What happened.
        cause: String,
    },
    /// The worker thread ended early.
    #[error("internal: the worker thread ended early: {0}")]
    Worker(String),
}

impl Classified for UnpackError {
    fn reason(&self) -> Reason {
        match self {
            Self::Oci(error) => error.reason(),
            Self::OutDir(error) => error.reason(),
            Self::Extraction(error) => error.reason(),
            Self::Layer { .. } => Reason::LockMismatch,
            Self::NoSuchPlatform { .. } | Self::NothingSelected(_) => Reason::InvalidSpec,
            Self::Broken { .. } => Reason::RegistryUnavailable,
            Self::Worker(_) => Reason::Internal,
        }
    }
}

/// What of a bundle is written.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Files whose path matches one of these; all if there is none.
    pub globs: Vec<PathGlob>,
    /// The platform, for a bundle that has several.
    pub platform: Option<Platform>,
}

impl Selection {
    fn includes(&self, file: &PackedFile) -> bool {
        self.globs.is_empty() || self.globs.iter().any(|glob| glob.matches(file.path.as_str()))
    }
}

/// Unpacks an opened bundle into `staging`, extracts what the lock says, and returns how many files were written. Who calls it commits.
pub async fn unpack(
    source: &dyn Source,
    contents: &Contents,
    selection: &Selection,
    staging: Staging,
    limits: &Limits,
    progress: Arc<dyn Progress>,
) -> Result<(Staging, usize), UnpackError> {
    let part = choose(contents, selection)?;
    let selected = part.plan.layers.iter().flat_map(|layer| &layer.files).filter(|file| selection.includes(file)).count();
    if selected == 0 {
        let globs: Vec<String> = selection.globs.iter().map(ToString::to_string).collect();
        return Err(UnpackError::NothingSelected(globs.join(" ")));
    }
    progress.begin("unpacking", Some(part.layers.iter().map(|layer| layer.descriptor.size).fold(0, u64::saturating_add)));
    let wanted = extractions(&contents.lock, part, selection)?;
    let mut staging = staging;
    for (number, (plan, blob)) in part.plan.layers.iter().zip(&part.layers).enumerate() {
        if !plan.files.iter().any(|file| selection.includes(file)) {
            continue;
        }
        let work = Layer {
            number: number + 1,
            segments: expected(plan, contents.plan.output.format),
            compressed: blob.descriptor.media_type == media_type::LAYER_ZSTD,
            diff_id: blob.diff_id,
            selection: selection.clone(),
        };
        work.check_size(blob.descriptor.size)?;
        let stream = source.open(&blob.descriptor).await?;
        let reader = SyncIoBridge::new(stream);
        staging = spawn_blocking(move || work.write(reader, staging)).await.map_err(|e| UnpackError::Worker(e.to_string()))??;
        progress.advance(blob.descriptor.size);
    }
    progress.end();
    Ok((extract(wanted, staging, *limits).await?, selected))
}

fn choose<'a>(contents: &'a Contents, selection: &Selection) -> Result<&'a Part, UnpackError> {
    let matches = |part: &&Part| match (&selection.platform, &part.plan.platform) {
        (_, None) => true,
        (Some(wanted), Some(has)) => wanted == has,
        (None, Some(has)) => *has == Platform::linux_amd64() || contents.parts.len() == 1,
    };
    contents.parts.iter().find(matches).ok_or_else(|| {
        let available: Vec<String> = contents.parts.iter().filter_map(|part| part.plan.platform.as_ref().map(ToString::to_string)).collect();
        let wanted = selection.platform.clone().unwrap_or_else(Platform::linux_amd64);
        UnpackError::NoSuchPlatform { wanted: wanted.to_string(), available: available.join(", ") }
    })
}

fn expected(plan: &LayerPlan, format: Format) -> Vec<Segment<PackedFile>> {
    match format {
        Format::Image => plan.segments(),
        Format::Artifact => plan.files.iter().map(|file| Segment::Content { size: file.size, content: file.clone() }).collect(),
    }
}

/// What the lock says is extracted, of the files that were selected.
fn extractions(lock: &Lockfile, part: &Part, selection: &Selection) -> Result<Vec<Extraction>, UnpackError> {
    let files = part.plan.layers.iter().flat_map(|layer| &layer.files).filter(|file| selection.includes(file));
    let artifacts = files.filter_map(|file| match file.item {
        Item::Artifact(index) => lock.artifacts.get(index),
        Item::Entrypoint => None,
    });
    artifacts.filter_map(|artifact| extraction(artifact).transpose()).collect::<Result<_, _>>().map_err(UnpackError::Extraction)
}

async fn extract(wanted: Vec<Extraction>, staging: Staging, limits: Limits) -> Result<Staging, UnpackError> {
    let work = move || {
        for extraction in &wanted {
            staging.extract(extraction, &limits)?;
        }
        Ok(staging)
    };
    spawn_blocking(work).await.map_err(|e| UnpackError::Worker(e.to_string()))?
}

/// One layer that is compared with what it must be.
struct Layer {
    number: usize,
    segments: Vec<Segment<PackedFile>>,
    compressed: bool,
    diff_id: Digest,
    selection: Selection,
}

impl Layer {
    fn write(self, mut blob: impl Read, staging: Staging) -> Result<Staging, UnpackError> {
        let outcome = if self.compressed { self.decompress(&mut blob, &staging) } else { self.compare(&mut blob, &staging) };
        if let Err(error @ UnpackError::Layer { .. }) = outcome {
            // Bytes that contradict their digest explain everything else, so read on until that is known.
            self.drain(&mut blob)?;
            return Err(error);
        }
        outcome?;
        self.drain(&mut blob)?;
        Ok(staging)
    }

    /// Refuses, before anything is read, a blob that cannot be what the lock says.
    fn check_size(&self, size: u64) -> Result<(), UnpackError> {
        let tar = total(&self.segments);
        // The most that zstd makes of what cannot be compressed, and then some (`ZSTD_COMPRESSBOUND`).
        let fits = if self.compressed { size <= tar.saturating_add(tar >> 7).saturating_add(1 << 20) } else { size == tar };
        if fits { Ok(()) } else { Err(self.differs(&format!("it has {size} bytes, and its files {tar}"))) }
    }

    /// Exactly one frame, as packgate writes it. A second or skippable frame would hide bytes behind a diffID that still holds.
    fn decompress(&self, blob: &mut impl Read, staging: &Staging) -> Result<(), UnpackError> {
        let blob = BufReader::with_capacity(BUFFER, blob);
        let mut tar = zstd::Decoder::with_buffer(blob).map_err(|e| self.broken(e))?.single_frame();
        tar.window_log_max(MAX_WINDOW_LOG).map_err(|e| self.broken(e))?;
        self.compare(&mut tar, staging)?;
        if tar.finish().read(&mut [0]).map_err(|e| self.broken(e))? == 0 { Ok(()) } else { Err(self.differs("something follows its zstd frame")) }
    }

    fn compare(&self, tar: &mut impl Read, staging: &Staging) -> Result<(), UnpackError> {
        let mut hasher = Hasher::new();
        for segment in &self.segments {
            match segment {
                Segment::Literal(bytes) => self.literal(tar, bytes, &mut hasher)?,
                Segment::Content { content, .. } => self.content(tar, content, &mut hasher, staging)?,
            }
        }
        if tar.read(&mut [0]).map_err(|e| self.broken(e))? != 0 {
            return Err(self.differs("it goes on after its end"));
        }
        if hasher.finish() == self.diff_id { Ok(()) } else { Err(self.differs("its diffID is not the config's")) }
    }

    fn literal(&self, tar: &mut impl Read, expected: &[u8], hasher: &mut Hasher) -> Result<(), UnpackError> {
        let mut actual = vec![0; expected.len()];
        tar.read_exact(&mut actual).map_err(|e| self.broken(e))?;
        hasher.update(&actual);
        if actual == expected { Ok(()) } else { Err(self.differs("an entry that the lock does not name")) }
    }

    fn content(&self, tar: &mut impl Read, file: &PackedFile, hasher: &mut Hasher, staging: &Staging) -> Result<(), UnpackError> {
        let mut out: Box<dyn Write> =
            if self.selection.includes(file) { Box::new(staging.write_file(&file.path, file.mode)?) } else { Box::new(std::io::sink()) };
        let mut checksum = Hasher::new();
        let mut left = file.size;
        let mut buffer = vec![0; BUFFER];
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
            tar.read_exact(&mut buffer[..most]).map_err(|e| self.broken(e))?;
            hasher.update(&buffer[..most]);
            checksum.update(&buffer[..most]);
            out.write_all(&buffer[..most]).map_err(|cause| OutDirError::storage(&file.path, &cause))?;
            left -= most as u64;
        }
        out.flush().map_err(|cause| OutDirError::storage(&file.path, &cause))?;
        if checksum.finish() == file.checksum { Ok(()) } else { Err(self.differs(&format!("{} does not have the lock's checksum", file.path))) }
    }

    fn drain(&self, blob: &mut impl Read) -> Result<(), UnpackError> {
        std::io::copy(blob, &mut std::io::sink()).map_err(|e| self.broken(e))?;
        Ok(())
    }

    fn differs(&self, cause: &str) -> UnpackError {
        UnpackError::Layer { layer: self.number, cause: cause.into() }
    }

    fn broken(&self, error: std::io::Error) -> UnpackError {
        if error.kind() == std::io::ErrorKind::UnexpectedEof {
            return self.differs("it ends too early");
        }
        match error.downcast::<OciError>() {
            Ok(inner) => inner.into(),
            Err(cause) if self.compressed => self.differs(&format!("it cannot be decompressed: {cause}")),
            Err(cause) => UnpackError::Broken { layer: self.number, cause: cause.to_string() },
        }
    }
}
