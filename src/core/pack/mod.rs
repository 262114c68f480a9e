//! How a lock becomes a bundle: `packFormat: "1"`.
//!
//! Every rule here shapes bytes that digests cover. They are frozen: a change needs a new pack
//! format, and old bundles stay re-packable. No clock, host, user, file name or tool version goes
//! into these bytes.
//!
//! A [`PackPlan`] is made from the lock alone. Who packs fetches files and writes the plan out; who
//! verifies re-derives the same plan from the lock inside of the bundle and compares.

mod documents;
#[cfg(test)]
mod golden;
mod output;
#[cfg(test)]
mod platforms;
mod tar;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub use documents::{
    Blob, Documents, EmbeddedError, LayerBlob, artifact, image, index, lock_in_layer, manifest_of,
    output_of,
};
pub use output::{
    CREATED_ANNOTATION, Format, LOCK_ANNOTATION, LayerCompression, MODE_ANNOTATION, Output,
    PACK_FORMAT_ANNOTATION, TITLE_ANNOTATION, is_reserved,
};
pub use tar::{Segment, TarFile, segments, total};

use super::{
    class::{Classified, Reason},
    digest::Digest,
    limits::Limits,
    lockfile::{Artifact, CanonicalLock, Entrypoint, FileMode, Lockfile},
    oci::{Descriptor, Platform},
    path::BundlePath,
};

/// The version of the rules in this module.
pub const PACK_FORMAT: &str = "1";
/// The level that `Zstd` layers are compressed with.
pub const ZSTD_LEVEL: i32 = 3;
/// Layers that hold artifacts; one more holds the lock. Runtimes pull layers in parallel, but choke
/// on hundreds.
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

/// What goes where, for a whole lock. Files are kept once, however many platforms they are for; a
/// manifest is planned when it is needed.
#[derive(Clone, Debug)]
pub struct PackPlan {
    /// The canonical lock, which travels inside.
    pub lock: CanonicalLock,
    /// What the user chose.
    pub output: Output,
    files: Vec<PlannedFile>,
    choices: Vec<Choice>,
}

/// A file, and the platforms that it is for.
#[derive(Clone, Debug)]
struct PlannedFile {
    file: Arc<PackedFile>,
    /// One bit for each platform of the lock, in their order. Every bit for a file that is for all
    /// of them.
    platforms: u64,
}

/// One manifest to be.
#[derive(Clone, Debug)]
struct Choice {
    platform: Option<Platform>,
    /// The platform's bit, or every bit.
    bit: u64,
    /// The diffIDs of its layers, if the lock has them recorded.
    recorded: Vec<Digest>,
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
    pub files: Vec<Arc<PackedFile>>,
    /// Digest of the uncompressed tar, if the lock has it recorded.
    pub recorded: Option<Digest>,
}

impl PackPlan {
    /// Plans `lock`. Errors: a choice that cannot be packed, recorded layers that are not this
    /// lock's, or more than anybody should pack.
    pub fn new(lock: &Lockfile, output: Output) -> Result<Self, PackError> {
        output.check()?;
        let platforms: BTreeSet<&Platform> = lock
            .artifacts
            .iter()
            .flat_map(|artifact| &artifact.platforms)
            .collect();
        if !platforms.is_empty() && output.format == Format::Artifact {
            return Err(PackError::ArtifactPlatforms);
        }
        check_platforms(lock, platforms.len(), &Limits::DEFAULT)?;
        let bits: BTreeMap<&Platform, u64> = platforms
            .iter()
            .enumerate()
            .map(|(at, platform)| (*platform, 1 << at))
            .collect();
        let choice = |platform: Option<&Platform>, bit| Choice {
            platform: platform.cloned(),
            bit,
            recorded: Vec::new(),
        };
        let each = bits
            .iter()
            .map(|(platform, bit)| choice(Some(*platform), *bit));
        let choices = if bits.is_empty() {
            vec![choice(None, u64::MAX)]
        } else {
            each.collect()
        };
        let files = files_of(lock, &bits);
        let mut plan = Self {
            lock: lock.canonical(),
            output,
            files,
            choices,
        };
        if plan.output.format == Format::Image && !lock.layers.is_empty() {
            plan.take_recorded(lock)?;
        }
        Ok(plan)
    }

    /// The platforms of its manifests, in order: nothing for the only manifest of a lock without
    /// platforms.
    pub fn platforms(&self) -> impl ExactSizeIterator<Item = Option<&Platform>> {
        self.choices.iter().map(|choice| choice.platform.as_ref())
    }

    /// Its manifests: one, or one for each platform (sorted) if the lock has platforms. Each is
    /// planned when it is asked for.
    pub fn manifests(&self) -> impl ExactSizeIterator<Item = ManifestPlan> {
        self.choices.iter().map(|choice| self.plan_manifest(choice))
    }

    /// The manifest with this number.
    pub fn manifest(&self, number: usize) -> Option<ManifestPlan> {
        self.choices
            .get(number)
            .map(|choice| self.plan_manifest(choice))
    }

    /// Without the manifests of other platforms.
    #[must_use]
    pub fn only(mut self, platform: &Platform) -> Self {
        self.choices
            .retain(|choice| choice.platform.as_ref() == Some(platform));
        self
    }

    /// The bytes that all files have together, as a measure of progress.
    pub fn content_bytes(&self) -> u64 {
        let sizes = self
            .choices
            .iter()
            .flat_map(|choice| self.files_for(choice))
            .map(|file| file.size);
        sizes.fold(0, u64::saturating_add)
    }

    /// The digest that packing will give, if that follows from the lock alone.
    pub fn predict(&self) -> Result<Digest, PackError> {
        if self.output.compression == LayerCompression::Zstd {
            return Err(PackError::NotPredictable(
                "the digest of compressed layers follows from no lock".into(),
                "choose --compression None, or pack and look",
            ));
        }
        let predicted = |manifest: ManifestPlan| Ok(self.predict_manifest(&manifest)?.manifest.0);
        let manifests = self
            .manifests()
            .map(predicted)
            .collect::<Result<Vec<_>, PackError>>()?;
        Ok(self.top(&manifests)?.0)
    }

    /// The documents of one manifest, from its layers' blobs in order (without the lock's).
    pub fn documents(
        &self,
        manifest: &ManifestPlan,
        blobs: &[LayerBlob],
    ) -> Result<Documents, PackError> {
        match self.output.format {
            Format::Image => image(&self.lock, &self.output, manifest.platform.as_ref(), blobs),
            Format::Artifact => artifact(&self.lock, &self.output, &manifest.layers),
        }
    }

    /// The digest of the whole bundle, and the index if there is one, from its manifests in order.
    pub fn top(&self, manifests: &[Descriptor]) -> Result<(Digest, Option<Blob>), PackError> {
        if let ([Choice { platform: None, .. }], [only]) = (&self.choices[..], manifests) {
            return Ok((only.digest, None));
        }
        let children = self
            .platforms()
            .zip(manifests)
            .filter_map(|(platform, manifest)| Some((platform?.clone(), manifest.clone())));
        let index = index(&self.lock, &self.output, children)?;
        Ok((index.0.digest, Some(index)))
    }

    fn predict_manifest(&self, manifest: &ManifestPlan) -> Result<Documents, PackError> {
        if self.output.format == Format::Artifact {
            return self.documents(manifest, &[]);
        }
        let blob = |layer: &LayerPlan| {
            layer
                .recorded
                .map(|diff_id| LayerBlob::plain(diff_id, total(&layer.segments())))
        };
        let unknown = || {
            PackError::NotPredictable(
                "the lock has no layers recorded".into(),
                "record them: packgate lock LOCK",
            )
        };
        let blobs = manifest
            .layers
            .iter()
            .map(|layer| blob(layer).ok_or_else(unknown))
            .collect::<Result<Vec<_>, _>>()?;
        self.documents(manifest, &blobs)
    }

    /// The lock's files in order, the entrypoint last; only those that are for this manifest.
    fn files_for(&self, choice: &Choice) -> impl Iterator<Item = &Arc<PackedFile>> {
        let bit = choice.bit;
        self.files
            .iter()
            .filter(move |planned| planned.platforms & bit != 0)
            .map(|planned| &planned.file)
    }

    fn plan_manifest(&self, choice: &Choice) -> ManifestPlan {
        let files: Vec<Arc<PackedFile>> = self.files_for(choice).cloned().collect();
        let runs = match self.output.format {
            Format::Image => runs(files),
            Format::Artifact => files.into_iter().map(|file| vec![file]).collect(),
        };
        let recorded = choice
            .recorded
            .iter()
            .copied()
            .map(Some)
            .chain(std::iter::repeat(None));
        let layers = runs
            .into_iter()
            .zip(recorded)
            .map(|(files, recorded)| LayerPlan { files, recorded })
            .collect();
        ManifestPlan {
            platform: choice.platform.clone(),
            layers,
        }
    }

    /// Gives each layer the diffID that the lock has recorded for it.
    fn take_recorded(&mut self, lock: &Lockfile) -> Result<(), PackError> {
        let mut taken = Vec::new();
        for manifest in self.manifests() {
            taken.push(recorded(lock, &manifest)?);
        }
        let planned: usize = taken.iter().map(Vec::len).sum();
        if lock.layers.len() != planned {
            return Err(PackError::RecordedLayers(format!(
                "{} are recorded, {planned} are needed",
                lock.layers.len()
            )));
        }
        for (choice, recorded) in self.choices.iter_mut().zip(taken) {
            choice.recorded = recorded;
        }
        Ok(())
    }
}

impl LayerPlan {
    /// The layer's tar.
    pub fn segments(&self) -> Vec<Segment<Arc<PackedFile>>> {
        segments(self.files.iter().map(|file| TarFile {
            path: file.path.as_str().into(),
            mode: file.mode.bits(),
            size: file.size,
            content: Arc::clone(file),
        }))
    }
}

/// Refuses what would be packed too often: an artifact without platforms is packed for each of the
/// lock's.
fn check_platforms(lock: &Lockfile, platforms: usize, limits: &Limits) -> Result<(), PackError> {
    if platforms > limits.platforms {
        return Err(PackError::TooMany {
            what: "platforms",
            count: platforms,
            limit: limits.platforms,
        });
    }
    let times = |artifact: &Artifact| {
        if artifact.platforms.is_empty() {
            platforms
        } else {
            artifact.platforms.len()
        }
    };
    let count: usize = lock.artifacts.iter().map(times).sum();
    if count > limits.platform_artifacts {
        return Err(PackError::TooMany {
            what: "artifacts, counted once for each of their platforms",
            count,
            limit: limits.platform_artifacts,
        });
    }
    Ok(())
}

fn files_of(lock: &Lockfile, bits: &BTreeMap<&Platform, u64>) -> Vec<PlannedFile> {
    let platforms = |artifact: &Artifact| {
        let own = artifact
            .platforms
            .iter()
            .filter_map(|platform| bits.get(platform))
            .fold(0, |all, bit| all | bit);
        if artifact.platforms.is_empty() {
            u64::MAX
        } else {
            own
        }
    };
    let planned = |file, platforms| PlannedFile {
        file: Arc::new(file),
        platforms,
    };
    let artifacts = lock
        .artifacts
        .iter()
        .enumerate()
        .map(|(index, artifact)| planned(file_of(index, artifact), platforms(artifact)));
    artifacts
        .chain(
            lock.entrypoint
                .as_ref()
                .map(|entrypoint| planned(file_of_entrypoint(entrypoint), u64::MAX)),
        )
        .collect()
}

fn file_of(index: usize, artifact: &Artifact) -> PackedFile {
    let Artifact {
        target,
        mode,
        checksum,
        size,
        ..
    } = artifact;
    PackedFile {
        item: Item::Artifact(index),
        path: target.clone(),
        mode: *mode,
        checksum: *checksum,
        size: *size,
    }
}

fn file_of_entrypoint(entrypoint: &Entrypoint) -> PackedFile {
    let Entrypoint {
        target,
        mode,
        checksum,
        size,
        ..
    } = entrypoint;
    PackedFile {
        item: Item::Entrypoint,
        path: target.clone(),
        mode: *mode,
        checksum: *checksum,
        size: *size,
    }
}

/// Up to 63 files: one a layer. More: 63 runs in order, the first `n mod 63` of them one file
/// longer.
fn runs(files: Vec<Arc<PackedFile>>) -> Vec<Vec<Arc<PackedFile>>> {
    let count = files.len().min(MAX_ARTIFACT_LAYERS);
    if count == 0 {
        return Vec::new();
    }
    let (length, longer) = (files.len() / count, files.len() % count);
    let mut files = files.into_iter();
    (0..count)
        .map(|run| {
            files
                .by_ref()
                .take(length + usize::from(run < longer))
                .collect()
        })
        .collect()
}

/// The diffIDs that the lock has recorded for the layers of a manifest.
fn recorded(lock: &Lockfile, manifest: &ManifestPlan) -> Result<Vec<Digest>, PackError> {
    let recorded: Vec<_> = lock
        .layers
        .iter()
        .filter(|layer| layer.platform == manifest.platform)
        .collect();
    if recorded.len() != manifest.layers.len() {
        return Err(PackError::RecordedLayers(format!(
            "{} are recorded, {} are needed",
            recorded.len(),
            manifest.layers.len()
        )));
    }
    for (number, (layer, recorded)) in manifest.layers.iter().zip(&recorded).enumerate() {
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
    }
    Ok(recorded.into_iter().map(|layer| layer.diff_id).collect())
}

/// Why a lock cannot be packed as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// An annotation that only packgate sets.
    #[error(
        "annotation {0:?} is set by packgate itself, choose another key (the creation time comes \
            from --source-date-epoch)"
    )]
    ReservedAnnotation(String),
    /// Seconds that are no time.
    #[error("source date epoch {0} must be seconds from 1970 to 9999")]
    Epoch(i64),
    /// `Artifact` with compression.
    #[error("format Artifact holds the files as they are, choose compression None or format Image")]
    CompressedArtifact,
    /// `Artifact` with platforms.
    #[error(
        "format Artifact knows no platforms, choose format Image for a lock whose artifacts have \
            platforms"
    )]
    ArtifactPlatforms,
    /// The lock's `layers` are not its artifacts'.
    #[error(
        "the lock's recorded layers do not fit its artifacts: {0}; record them again: packgate \
            lock LOCK"
    )]
    RecordedLayers(String),
    /// The digest does not follow from the lock.
    #[error("digest cannot be predicted: {0}; {1}")]
    NotPredictable(String, &'static str),
    /// A config, manifest or index that nobody would read.
    #[error(
        "{what} would have {size} bytes, registries take {limit}; choose format Image, or fewer or \
            shorter annotations"
    )]
    TooLarge {
        /// Media type of the document.
        what: String,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// More than anybody should pack.
    #[error("the lock has {count} {what}, the limit is {limit}; make several bundles of it")]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A document could not be written.
    #[error("document cannot be written in canonical form: {0}")]
    Canonical(String),
}

impl Classified for PackError {
    fn reason(&self) -> Reason {
        match self {
            Self::ReservedAnnotation(_)
            | Self::Epoch(_)
            | Self::CompressedArtifact
            | Self::TooLarge { .. } => Reason::InvalidSpec,
            Self::ArtifactPlatforms | Self::RecordedLayers(_) => Reason::InvalidLock,
            Self::TooMany { .. } => Reason::LimitExceeded,
            Self::NotPredictable(..) => Reason::NotPredictable,
            Self::Canonical(_) => Reason::Internal,
        }
    }
}
