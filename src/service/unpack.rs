//! Writes the files of a bundle into a folder, and compares every byte of every layer with the lock
//! ([`super::layer`]).

use std::{io::Write, sync::Arc};

use tokio::task::spawn_blocking;

use super::{
    bundle_contents::{BundleContents, PlatformManifest},
    layer::{self, ExpectedLayer, LayerError, LayerFileSink},
    progress::Progress,
};
use crate::{
    core::{
        digest::Digest,
        limits::InputLimits,
        lockfile::Lockfile,
        oci::Platform,
        pack::{LockItem, ManifestPlan, PackedFile},
        path_glob::PathGlob,
        policy::Clearance,
        reason::{ClassifiedError, Reason},
        unpack::{self as extraction, ArchiveExtractionPlan, plan_extraction},
    },
    oci::{ContentSource, ResolvedManifest},
    outdir::{OutDirError, OutDirStaging},
};

/// Why unpacking failed. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum BundleUnpackError {
    /// Writing failed, or an archive in the bundle is hostile.
    #[error(transparent)]
    OutDir(#[from] OutDirError),
    /// The lock does not say how to extract an archive.
    #[error(transparent)]
    Extraction(extraction::ArchiveUnpackError),
    /// A layer differs from the lock, or cannot be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// There is no manifest for that platform.
    #[error("bundle has no manifest for {wanted}, choose one of {available} with --platform")]
    NoSuchPlatform {
        /// The requested platform.
        wanted: String,
        /// The available platforms.
        available: String,
    },
    /// No file matches the selection.
    #[error("no file of the bundle matches {0:?}; packgate inspect lists them")]
    NothingSelected(String),
    /// The clearance is for another bundle than the opened one.
    #[error("internal: {cleared} was verified, {opened} was opened")]
    ClearanceForOther {
        /// The digest that may be unpacked.
        cleared: Digest,
        /// The digest of the opened bundle.
        opened: Digest,
    },
    /// The worker thread panicked or was cancelled.
    #[error("internal: the worker thread ended early: {0}")]
    Worker(String),
}

impl ClassifiedError for BundleUnpackError {
    fn reason(&self) -> Reason {
        match self {
            Self::OutDir(error) => error.reason(),
            Self::Extraction(error) => error.reason(),
            Self::Layer(error) => error.reason(),
            Self::NoSuchPlatform { .. } | Self::NothingSelected(_) => Reason::InvalidSpec,
            Self::ClearanceForOther { .. } | Self::Worker(_) => Reason::Internal,
        }
    }
}

/// The part of a bundle to unpack.
#[derive(Clone, Debug, Default)]
pub struct UnpackSelection {
    /// Files whose path matches one of these; all if there are none.
    pub globs: Vec<PathGlob>,
    /// The platform, for a bundle that has several.
    pub platform: Option<Platform>,
}

impl UnpackSelection {
    fn selects_file(&self, file: &PackedFile) -> bool {
        self.globs.is_empty()
            || self
                .globs
                .iter()
                .any(|glob| glob.matches_path(file.path.as_str()))
    }
}

/// What allows a bundle's files to be written.
#[derive(Debug)]
pub enum UnpackPermission {
    /// It is admitted by policies, or by the keys that the user named.
    Cleared(Clearance),
    /// The user turned verification off (`--insecure-skip-verify`).
    WithoutVerification,
}

/// An opened bundle, and what of it to unpack.
pub struct UnpackRequest<'a> {
    /// Where its layers are read.
    pub source: &'a dyn ContentSource,
    /// Its manifest or index.
    pub root: &'a ResolvedManifest,
    /// Its contents.
    pub contents: &'a BundleContents,
    /// The files to write.
    pub selection: UnpackSelection,
    /// The limits of archives that are extracted.
    pub limits: &'a InputLimits,
    /// Shows the work to people.
    pub progress: Arc<dyn Progress>,
}

/// Unpacks an opened bundle into `staging`, extracts archives as the lock says, and returns the
/// number of files written. The caller commits.
pub async fn unpack_bundle(
    request: UnpackRequest<'_>,
    permission: UnpackPermission,
    staging: OutDirStaging,
) -> Result<(OutDirStaging, usize), BundleUnpackError> {
    let UnpackRequest {
        root,
        contents,
        selection,
        limits,
        ..
    } = &request;
    if let UnpackPermission::Cleared(clearance) = permission
        && *clearance.digest() != root.descriptor.digest
    {
        return Err(BundleUnpackError::ClearanceForOther {
            cleared: *clearance.digest(),
            opened: root.descriptor.digest,
        });
    }
    let part = choose_manifest(contents, selection)?;
    let manifest = contents.manifest_plan(part);
    let selected = manifest
        .layers
        .iter()
        .flat_map(|layer| &layer.files)
        .filter(|file| selection.selects_file(file))
        .count();
    if selected == 0 {
        let globs: Vec<String> = selection.globs.iter().map(ToString::to_string).collect();
        return Err(BundleUnpackError::NothingSelected(globs.join(" ")));
    }
    let layer_sizes = part.layers.iter().map(|layer| layer.descriptor.size);
    let total = layer_sizes.fold(0, u64::saturating_add);
    request.progress.begin_task("unpacking", Some(total));
    let wanted = selected_extractions(&contents.lock, &manifest, selection)?;
    let staging = write_selected_files(&request, part, &manifest, staging).await?;
    request.progress.end_task();
    Ok((extract_archives(wanted, staging, **limits).await?, selected))
}

/// Reads and compares every layer that has a selected file, and writes these files.
async fn write_selected_files(
    request: &UnpackRequest<'_>,
    part: &PlatformManifest,
    manifest: &ManifestPlan,
    staging: OutDirStaging,
) -> Result<OutDirStaging, BundleUnpackError> {
    let selection = &request.selection;
    let mut files = SelectedFileSink {
        selection: selection.clone(),
        staging,
    };
    for (index, (plan, blob)) in manifest.layers.iter().zip(&part.layers).enumerate() {
        if !plan.files.iter().any(|file| selection.selects_file(file)) {
            continue;
        }
        let layer = ExpectedLayer {
            number: index + 1,
            platform: part.platform.as_ref(),
            plan,
            blob,
            format: request.contents.plan.output.format,
        };
        files = layer::compare_layer(request.source, layer, files).await?;
        request.progress.advance_bytes(blob.descriptor.size);
    }
    Ok(files.staging)
}

fn choose_manifest<'a>(
    contents: &'a BundleContents,
    selection: &UnpackSelection,
) -> Result<&'a PlatformManifest, BundleUnpackError> {
    let matches = |part: &&PlatformManifest| match (&selection.platform, &part.platform) {
        (_, None) => true,
        (Some(wanted), Some(has)) => wanted == has,
        (None, Some(has)) => *has == Platform::linux_amd64() || contents.parts.len() == 1,
    };
    contents.parts.iter().find(matches).ok_or_else(|| {
        let available: Vec<String> = contents
            .parts
            .iter()
            .filter_map(|part| part.platform.as_ref().map(ToString::to_string))
            .collect();
        let wanted = selection
            .platform
            .clone()
            .unwrap_or_else(Platform::linux_amd64);
        BundleUnpackError::NoSuchPlatform {
            wanted: wanted.to_string(),
            available: available.join(", "),
        }
    })
}

/// The extractions of the lock for the selected files.
fn selected_extractions(
    lock: &Lockfile,
    manifest: &ManifestPlan,
    selection: &UnpackSelection,
) -> Result<Vec<ArchiveExtractionPlan>, BundleUnpackError> {
    let files = manifest
        .layers
        .iter()
        .flat_map(|layer| &layer.files)
        .filter(|file| selection.selects_file(file));
    let artifacts = files.filter_map(|file| match file.item {
        LockItem::Artifact(index) => lock.artifacts.get(index),
        LockItem::Entrypoint => None,
    });
    artifacts
        .filter_map(|artifact| plan_extraction(artifact).transpose())
        .collect::<Result<_, _>>()
        .map_err(BundleUnpackError::Extraction)
}

async fn extract_archives(
    wanted: Vec<ArchiveExtractionPlan>,
    staging: OutDirStaging,
    limits: InputLimits,
) -> Result<OutDirStaging, BundleUnpackError> {
    let work = move || {
        for extraction in &wanted {
            staging.extract_archive(extraction, &limits)?;
        }
        Ok(staging)
    };
    spawn_blocking(work)
        .await
        .map_err(|e| BundleUnpackError::Worker(e.to_string()))?
}

/// Selected files go into the folder, others are discarded.
struct SelectedFileSink {
    selection: UnpackSelection,
    staging: OutDirStaging,
}

impl LayerFileSink for SelectedFileSink {
    fn open_file<'a>(&'a self, file: &PackedFile) -> Result<Box<dyn Write + 'a>, OutDirError> {
        if !self.selection.selects_file(file) {
            return Ok(Box::new(std::io::sink()));
        }
        Ok(Box::new(self.staging.write_file(&file.path, file.mode)?))
    }
}
