//! The pack format of bundles: `packFormat: "1"`.
//!
//! Every rule here determines bytes that digests cover. They are frozen: a change needs a new pack
//! format, and old bundles stay re-packable. No clock, host, user, file name or tool version goes
//! into these bytes.
//!
//! A [`PackPlan`] is made from the lock alone. Packing fetches files and writes the plan out;
//! verification derives the same plan again from the lock in the bundle and compares.

mod documents;
mod error;
#[cfg(test)]
mod golden_tests;
mod options;
mod planned_files;
#[cfg(test)]
mod platform_tests;
mod tar;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub use documents::{
    BundleFormatError, DescribedBlob, LayerBlob, ManifestDocuments, artifact_documents,
    image_documents, platform_index, read_lock_from_layer, read_pack_options, require_manifest,
};
pub use error::PackError;
pub use options::{
    BundleFormat, CREATED_ANNOTATION, LOCK_ANNOTATION, LayerCompression, MODE_ANNOTATION,
    PACK_FORMAT_ANNOTATION, PackOptions, TITLE_ANNOTATION, is_reserved_annotation,
};
pub use planned_files::{LockItem, MAX_ARTIFACT_LAYERS, PackedFile};
use planned_files::{PlannedFile, planned_files, split_into_layers};
pub use tar::{TarFile, TarSegment, plan_tar_segments, total_segment_bytes};

use super::{
    digest::Digest,
    limits::InputLimits,
    lockfile::{CanonicalLock, LockedArtifact, Lockfile},
    oci::{Descriptor, Platform},
};

/// The version of the rules in this module.
pub const PACK_FORMAT: &str = "1";
/// The level that `Zstd` layers are compressed with.
pub const ZSTD_LEVEL: i32 = 3;
/// The path of the lock in an `Image` bundle.
pub const LOCK_PATH: &str = ".packgate/lock.json";

/// The plan of a whole bundle. Files are stored once, for however many platforms; a manifest is
/// planned on demand.
#[derive(Clone, Debug)]
pub struct PackPlan {
    /// The canonical lock, which travels inside.
    pub lock: CanonicalLock,
    /// The user's options.
    pub output: PackOptions,
    files: Vec<PlannedFile>,
    choices: Vec<PlatformPlan>,
}

/// One planned manifest.
#[derive(Clone, Debug)]
struct PlatformPlan {
    platform: Option<Platform>,
    /// The platform's bit, or every bit.
    bit: u64,
    /// The diffIDs of its layers, if the lock has them recorded.
    recorded: Vec<Digest>,
}

/// The plan of one manifest.
#[derive(Clone, Debug)]
pub struct ManifestPlan {
    /// The platform, if the lock has platforms. Then the manifests go into an index.
    pub platform: Option<Platform>,
    /// The layers after the lock's, each with its files in the lock's order.
    pub layers: Vec<LayerPlan>,
}

/// One layer with files.
#[derive(Clone, Debug)]
pub struct LayerPlan {
    /// Its files: for `Artifact` exactly one.
    pub files: Vec<Arc<PackedFile>>,
    /// Digest of the uncompressed tar, if the lock has it recorded.
    pub recorded: Option<Digest>,
}

impl PackPlan {
    /// Plans `lock`. Errors: options that cannot be packed, recorded layers of another lock, or an
    /// exceeded limit.
    pub fn new(lock: &Lockfile, output: PackOptions) -> Result<Self, PackError> {
        output.check_options()?;
        let platforms: BTreeSet<&Platform> = lock
            .artifacts
            .iter()
            .flat_map(|artifact| &artifact.platforms)
            .collect();
        if !platforms.is_empty() && output.format == BundleFormat::Artifact {
            return Err(PackError::ArtifactPlatforms);
        }
        check_platform_limits(lock, platforms.len(), &InputLimits::DEFAULT)?;
        let bits: BTreeMap<&Platform, u64> = platforms
            .iter()
            .enumerate()
            .map(|(at, platform)| (*platform, 1 << at))
            .collect();
        let choice = |platform: Option<&Platform>, bit| PlatformPlan {
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
        let files = planned_files(lock, &bits);
        let mut plan = Self {
            lock: lock.to_canonical(),
            output,
            files,
            choices,
        };
        if plan.output.format == BundleFormat::Image && !lock.layers.is_empty() {
            plan.assign_recorded_layers(lock)?;
        }
        Ok(plan)
    }

    /// The platforms of its manifests, in order: nothing for the only manifest of a lock without
    /// platforms.
    pub fn platforms(&self) -> impl ExactSizeIterator<Item = Option<&Platform>> {
        self.choices.iter().map(|choice| choice.platform.as_ref())
    }

    /// The plans of its manifests: one, or one for each platform (sorted) if the lock has
    /// platforms. Each is planned on demand.
    pub fn manifest_plans(&self) -> impl ExactSizeIterator<Item = ManifestPlan> {
        self.choices.iter().map(|choice| self.plan_manifest(choice))
    }

    /// The manifest with this number.
    pub fn manifest_plan_at(&self, number: usize) -> Option<ManifestPlan> {
        self.choices
            .get(number)
            .map(|choice| self.plan_manifest(choice))
    }

    /// Without the manifests of other platforms.
    #[must_use]
    pub fn with_only_platform(mut self, platform: &Platform) -> Self {
        self.choices
            .retain(|choice| choice.platform.as_ref() == Some(platform));
        self
    }

    /// The bytes that all files have together, as a measure of progress.
    pub fn content_bytes(&self) -> u64 {
        let sizes = self
            .choices
            .iter()
            .flat_map(|choice| self.files_for_platform(choice))
            .map(|file| file.size);
        sizes.fold(0, u64::saturating_add)
    }

    /// The digest of the packed bundle, if it follows from the lock alone.
    pub fn predict_digest(&self) -> Result<Digest, PackError> {
        if self.output.compression == LayerCompression::Zstd {
            return Err(PackError::NotPredictable(
                "the digest of compressed layers cannot be derived from a lock".into(),
                "choose --compression None, or pack it to get the digest",
            ));
        }
        let predicted = |manifest: ManifestPlan| Ok(self.predict_documents(&manifest)?.manifest.0);
        let manifests = self
            .manifest_plans()
            .map(predicted)
            .collect::<Result<Vec<_>, PackError>>()?;
        Ok(self.bundle_digest_and_index(&manifests)?.0)
    }

    /// The documents of one manifest, from its layers' blobs in order (without the lock's).
    pub fn build_documents(
        &self,
        manifest: &ManifestPlan,
        blobs: &[LayerBlob],
    ) -> Result<ManifestDocuments, PackError> {
        match self.output.format {
            BundleFormat::Image => {
                image_documents(&self.lock, &self.output, manifest.platform.as_ref(), blobs)
            }
            BundleFormat::Artifact => {
                artifact_documents(&self.lock, &self.output, &manifest.layers)
            }
        }
    }

    /// The digest of the whole bundle, and the index if there is one, from its manifests in order.
    pub fn bundle_digest_and_index(
        &self,
        manifests: &[Descriptor],
    ) -> Result<(Digest, Option<DescribedBlob>), PackError> {
        if let ([PlatformPlan { platform: None, .. }], [only]) = (&self.choices[..], manifests) {
            return Ok((only.digest, None));
        }
        let children = self
            .platforms()
            .zip(manifests)
            .filter_map(|(platform, manifest)| Some((platform?.clone(), manifest.clone())));
        let index = platform_index(&self.lock, &self.output, children)?;
        Ok((index.0.digest, Some(index)))
    }

    fn predict_documents(&self, manifest: &ManifestPlan) -> Result<ManifestDocuments, PackError> {
        if self.output.format == BundleFormat::Artifact {
            return self.build_documents(manifest, &[]);
        }
        let blob = |layer: &LayerPlan| {
            layer.recorded.map(|diff_id| {
                LayerBlob::uncompressed_layer(diff_id, total_segment_bytes(&layer.tar_segments()))
            })
        };
        let unknown = || {
            PackError::NotPredictable(
                "the lock has no layers recorded".into(),
                "record them with packgate lock LOCK",
            )
        };
        let blobs = manifest
            .layers
            .iter()
            .map(|layer| blob(layer).ok_or_else(unknown))
            .collect::<Result<Vec<_>, _>>()?;
        self.build_documents(manifest, &blobs)
    }

    /// The lock's files in order, the entrypoint last; only those that are for this manifest.
    fn files_for_platform(&self, choice: &PlatformPlan) -> impl Iterator<Item = &Arc<PackedFile>> {
        let bit = choice.bit;
        self.files
            .iter()
            .filter(move |planned| planned.platforms & bit != 0)
            .map(|planned| &planned.file)
    }

    fn plan_manifest(&self, choice: &PlatformPlan) -> ManifestPlan {
        let files: Vec<Arc<PackedFile>> = self.files_for_platform(choice).cloned().collect();
        let runs = match self.output.format {
            BundleFormat::Image => split_into_layers(files),
            BundleFormat::Artifact => files.into_iter().map(|file| vec![file]).collect(),
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

    /// Assigns each layer its recorded diffID.
    fn assign_recorded_layers(&mut self, lock: &Lockfile) -> Result<(), PackError> {
        let mut taken = Vec::new();
        for manifest in self.manifest_plans() {
            taken.push(recorded_diff_ids(lock, &manifest)?);
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
    /// The segments of the layer's tar.
    pub fn tar_segments(&self) -> Vec<TarSegment<Arc<PackedFile>>> {
        plan_tar_segments(self.files.iter().map(|file| TarFile {
            path: file.path.as_str().into(),
            mode: file.mode.permission_bits(),
            size: file.size,
            content: Arc::clone(file),
        }))
    }
}

/// Checks limits on packing for platforms: an artifact without platforms is packed for each of the
/// lock's.
fn check_platform_limits(
    lock: &Lockfile,
    platforms: usize,
    limits: &InputLimits,
) -> Result<(), PackError> {
    if platforms > limits.platforms {
        return Err(PackError::TooMany {
            what: "platforms",
            count: platforms,
            limit: limits.platforms,
        });
    }
    let times = |artifact: &LockedArtifact| {
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

/// The recorded diffIDs of a manifest's layers.
fn recorded_diff_ids(lock: &Lockfile, manifest: &ManifestPlan) -> Result<Vec<Digest>, PackError> {
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
        let size = total_segment_bytes(&layer.tar_segments());
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
