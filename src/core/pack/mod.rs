//! How a lock becomes a bundle: `packFormat: "1"`.
//!
//! Every rule here shapes bytes that digests cover. They are frozen: a change needs a new pack format, and old bundles stay re-packable.
//! No clock, host, user, file name or tool version goes into these bytes.
//!
//! A [`PackPlan`] is made from the lock alone. Who packs fetches files and writes the plan out; who verifies re-derives the same plan from
//! the lock inside of the bundle and compares.

mod documents;
#[cfg(test)]
mod golden;
mod output;
mod tar;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

pub use documents::{Blob, Documents, EmbeddedError, LayerBlob, artifact, image, index, lock_in_layer, manifest_of, output_of};
pub use output::{
    CREATED_ANNOTATION, Format, LOCK_ANNOTATION, LayerCompression, MODE_ANNOTATION, Output, PACK_FORMAT_ANNOTATION, TITLE_ANNOTATION, is_reserved,
};
pub use tar::{Segment, TarFile, segments, total};

use super::{
    class::{Classified, Reason},
    digest::Digest,
    lockfile::{Artifact, CanonicalLock, Entrypoint, FileMode, Lockfile},
    oci::{Descriptor, Platform},
    path::BundlePath,
};

/// The version of the rules in this module.
pub const PACK_FORMAT: &str = "1";
/// The level that `Zstd` layers are compressed with.
pub const ZSTD_LEVEL: i32 = 3;
/// Layers that hold artifacts; one more holds the lock. Runtimes pull layers in parallel, but choke on hundreds.
pub const MAX_ARTIFACT_LAYERS: usize = 63;
/// Where the lock lies in an `Image` bundle.
pub const LOCK_PATH: &str = ".packgate/lock.json";

/// A file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedFile {
    /// What of the lock it is.
    pub item: Item,
    /// Where it goes.
    pub path: BundlePath,
    /// Its mode.
    pub mode: FileMode,
    /// Digest of its bytes.
    pub checksum: Digest,
    /// Length of its bytes.
    pub size: u64,
}

/// Points into a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// The artifact with this index.
    Artifact(usize),
    /// The entrypoint.
    Entrypoint,
}

/// What goes where, for a whole lock.
#[derive(Clone, Debug)]
pub struct PackPlan {
    /// The canonical lock, which travels inside.
    pub lock: CanonicalLock,
    /// What the user chose.
    pub output: Output,
    /// One, or one for each platform (sorted) if the lock has platforms.
    pub manifests: Vec<ManifestPlan>,
}

/// What goes into one manifest.
#[derive(Clone, Debug)]
pub struct ManifestPlan {
    /// The platform, if the lock has platforms. Then the manifests go into an index.
    pub platform: Option<Platform>,
    /// The layers after the lock's, each with its files in the lock's order.
    pub layers: Vec<LayerPlan>,
}

/// One layer that holds files.
#[derive(Clone, Debug)]
pub struct LayerPlan {
    /// Its files: for `Artifact` exactly one.
    pub files: Vec<PackedFile>,
    /// Digest of the uncompressed tar, if the lock has it recorded.
    pub recorded: Option<Digest>,
}

impl PackPlan {
    /// Plans `lock`. Errors: a choice that cannot be packed, or recorded layers that are not this lock's.
    pub fn new(lock: &Lockfile, output: Output) -> Result<Self, PackError> {
        output.check()?;
        let platforms: BTreeSet<Platform> = lock.artifacts.iter().flat_map(|artifact| artifact.platforms.iter().cloned()).collect();
        if !platforms.is_empty() && output.format == Format::Artifact {
            return Err(PackError::ArtifactPlatforms);
        }
        let choices: Vec<Option<Platform>> = if platforms.is_empty() { vec![None] } else { platforms.into_iter().map(Some).collect() };
        let manifests = choices.into_iter().map(|platform| plan_manifest(lock, &output, platform)).collect::<Result<Vec<_>, _>>()?;
        let planned: usize = manifests.iter().map(|manifest| manifest.layers.len()).sum();
        if output.format == Format::Image && !lock.layers.is_empty() && lock.layers.len() != planned {
            return Err(PackError::RecordedLayers(format!("{} are recorded, {planned} are needed", lock.layers.len())));
        }
        Ok(Self { lock: lock.canonical(), output, manifests })
    }

    /// The bytes that all files have together, as a measure of progress.
    pub fn content_bytes(&self) -> u64 {
        self.manifests.iter().flat_map(|manifest| &manifest.layers).flat_map(|layer| &layer.files).map(|file| file.size).sum()
    }

    /// The digest that packing will give, if that follows from the lock alone.
    pub fn predict(&self) -> Result<Digest, PackError> {
        if self.output.compression == LayerCompression::Zstd {
            return Err(PackError::NotPredictable(
                "the digest of compressed layers follows from no lock".into(),
                "choose --compression None, or pack and look",
            ));
        }
        let predicted = |manifest| Ok(self.predict_manifest(manifest)?.manifest.0);
        let manifests = self.manifests.iter().map(predicted).collect::<Result<Vec<_>, PackError>>()?;
        Ok(self.top(&manifests)?.0)
    }

    /// The documents of one manifest, from its layers' blobs in order (without the lock's).
    pub fn documents(&self, manifest: &ManifestPlan, blobs: &[LayerBlob]) -> Result<Documents, PackError> {
        match self.output.format {
            Format::Image => image(&self.lock, &self.output, manifest.platform.as_ref(), blobs),
            Format::Artifact => artifact(&self.lock, &self.output, &manifest.layers),
        }
    }

    /// The digest of the whole bundle, and the index if there is one, from its manifests in order.
    pub fn top(&self, manifests: &[Descriptor]) -> Result<(Digest, Option<Blob>), PackError> {
        if let ([ManifestPlan { platform: None, .. }], [only]) = (&self.manifests[..], manifests) {
            return Ok((only.digest, None));
        }
        let children = self.manifests.iter().zip(manifests).filter_map(|(plan, manifest)| Some((plan.platform.clone()?, manifest.clone())));
        let index = index(&self.lock, &self.output, children)?;
        Ok((index.0.digest, Some(index)))
    }

    fn predict_manifest(&self, manifest: &ManifestPlan) -> Result<Documents, PackError> {
        if self.output.format == Format::Artifact {
            return self.documents(manifest, &[]);
        }
        let blob = |layer: &LayerPlan| layer.recorded.map(|diff_id| LayerBlob::plain(diff_id, total(&layer.segments())));
        let unknown = || PackError::NotPredictable("the lock has no layers recorded".into(), "record them: packgate lock LOCK");
        let blobs = manifest.layers.iter().map(|layer| blob(layer).ok_or_else(unknown)).collect::<Result<Vec<_>, _>>()?;
        self.documents(manifest, &blobs)
    }
}

impl LayerPlan {
    /// The layer's tar.
    pub fn segments(&self) -> Vec<Segment<PackedFile>> {
        segments(self.files.iter().map(|file| TarFile {
            path: file.path.as_str().into(),
            mode: file.mode.bits(),
            size: file.size,
            content: file.clone(),
        }))
    }
}

fn plan_manifest(lock: &Lockfile, output: &Output, platform: Option<Platform>) -> Result<ManifestPlan, PackError> {
    let files = files_for(lock, platform.as_ref());
    let runs = match output.format {
        Format::Image => runs(files),
        Format::Artifact => files.into_iter().map(|file| vec![file]).collect(),
    };
    let mut layers: Vec<LayerPlan> = runs.into_iter().map(|files| LayerPlan { files, recorded: None }).collect();
    if output.format == Format::Image && !lock.layers.is_empty() {
        take_recorded(lock, platform.as_ref(), &mut layers)?;
    }
    Ok(ManifestPlan { platform, layers })
}

/// The lock's files in order, the entrypoint last; only those of `platform` if one is given.
fn files_for(lock: &Lockfile, platform: Option<&Platform>) -> Vec<PackedFile> {
    let included = |artifact: &Artifact| artifact.platforms.is_empty() || platform.is_some_and(|platform| artifact.platforms.contains(platform));
    let artifacts = lock.artifacts.iter().enumerate().filter(|(_, artifact)| included(artifact)).map(|(index, artifact)| file_of(index, artifact));
    artifacts.chain(lock.entrypoint.as_ref().map(file_of_entrypoint)).collect()
}

fn file_of(index: usize, artifact: &Artifact) -> PackedFile {
    let Artifact { target, mode, checksum, size, .. } = artifact;
    PackedFile { item: Item::Artifact(index), path: target.clone(), mode: *mode, checksum: *checksum, size: *size }
}

fn file_of_entrypoint(entrypoint: &Entrypoint) -> PackedFile {
    let Entrypoint { target, mode, checksum, size, .. } = entrypoint;
    PackedFile { item: Item::Entrypoint, path: target.clone(), mode: *mode, checksum: *checksum, size: *size }
}

/// Up to 63 files: one a layer. More: 63 runs in order, the first `n mod 63` of them one file longer.
fn runs(files: Vec<PackedFile>) -> Vec<Vec<PackedFile>> {
    let count = files.len().min(MAX_ARTIFACT_LAYERS);
    if count == 0 {
        return Vec::new();
    }
    let (length, longer) = (files.len() / count, files.len() % count);
    let mut files = files.into_iter();
    (0..count).map(|run| files.by_ref().take(length + usize::from(run < longer)).collect()).collect()
}

/// Gives each layer the diffID that the lock has recorded for it.
fn take_recorded(lock: &Lockfile, platform: Option<&Platform>, layers: &mut [LayerPlan]) -> Result<(), PackError> {
    let recorded: Vec<_> = lock.layers.iter().filter(|layer| layer.platform.as_ref() == platform).collect();
    if recorded.len() != layers.len() {
        return Err(PackError::RecordedLayers(format!("{} are recorded, {} are needed", recorded.len(), layers.len())));
    }
    for (number, (layer, recorded)) in layers.iter_mut().zip(recorded).enumerate() {
        let size = total(&layer.segments());
        if recorded.artifacts != layer.files.len() || recorded.size != size {
            let cause = format!(
                "layer {number} is recorded with {} artifacts and {} bytes, it has {} and {size}",
                recorded.artifacts,
                recorded.size,
                layer.files.len()
            );
            return Err(PackError::RecordedLayers(cause));
        }
        layer.recorded = Some(recorded.diff_id);
    }
    Ok(())
}

/// Why a lock cannot be packed as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// An annotation that only packgate sets.
    #[error("annotation {0:?} is set by packgate itself, choose another key (the creation time comes from --source-date-epoch)")]
    ReservedAnnotation(String),
    /// Seconds that are no time.
    #[error("source date epoch {0} must be seconds from 1970 to 9999")]
    Epoch(i64),
    /// `Artifact` with compression.
    #[error("format Artifact holds the files as they are, choose compression None or format Image")]
    CompressedArtifact,
    /// `Artifact` with platforms.
    #[error("format Artifact knows no platforms, choose format Image for a lock whose artifacts have platforms")]
    ArtifactPlatforms,
    /// The lock's `layers` are not its artifacts'.
    #[error("the lock's recorded layers do not fit its artifacts: {0}; record them again: packgate lock LOCK")]
    RecordedLayers(String),
    /// The digest does not follow from the lock.
    #[error("digest cannot be predicted: {0}; {1}")]
    NotPredictable(String, &'static str),
    /// A config, manifest or index that nobody would read.
    #[error("{what} would have {size} bytes, registries take {limit}; choose format Image, or fewer or shorter annotations")]
    TooLarge {
        /// Media type of the document.
        what: String,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A document could not be written.
    #[error("document cannot be written in canonical form: {0}")]
    Canonical(String),
}

impl Classified for PackError {
    fn reason(&self) -> Reason {
        match self {
            Self::ReservedAnnotation(_) | Self::Epoch(_) | Self::CompressedArtifact | Self::TooLarge { .. } => Reason::InvalidSpec,
            Self::ArtifactPlatforms | Self::RecordedLayers(_) => Reason::InvalidLock,
            Self::NotPredictable(..) => Reason::NotPredictable,
            Self::Canonical(_) => Reason::Internal,
        }
    }
}
