//! Writes the files of a bundle into a folder, comparing every byte of every layer with the lock on
//! the way ([`super::layer`]).

use std::{io::Write, sync::Arc};

use tokio::task::spawn_blocking;

use super::{
    contents::{Contents, Part},
    layer::{self, Files, Layer, LayerError},
    progress::Progress,
};
use crate::{
    core::{
        class::{Classified, Reason},
        glob::PathGlob,
        limits::Limits,
        lockfile::Lockfile,
        oci::Platform,
        pack::{Item, ManifestPlan, PackedFile},
        unpack::{self as extraction, Extraction, extraction},
    },
    oci::Source,
    outdir::{OutDirError, Staging},
};

/// Why unpacking failed. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// Writing failed, or an archive inside of the bundle is hostile.
    #[error(transparent)]
    OutDir(#[from] OutDirError),
    /// The lock does not say how an archive is to be extracted.
    #[error(transparent)]
    Extraction(extraction::UnpackError),
    /// A layer holds something else than the lock says, or cannot be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
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
    /// The worker thread ended early.
    #[error("internal: the worker thread ended early: {0}")]
    Worker(String),
}

impl Classified for UnpackError {
    fn reason(&self) -> Reason {
        match self {
            Self::OutDir(error) => error.reason(),
            Self::Extraction(error) => error.reason(),
            Self::Layer(error) => error.reason(),
            Self::NoSuchPlatform { .. } | Self::NothingSelected(_) => Reason::InvalidSpec,
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
        self.globs.is_empty()
            || self
                .globs
                .iter()
                .any(|glob| glob.matches(file.path.as_str()))
    }
}

/// Unpacks an opened bundle into `staging`, extracts what the lock says, and returns how many files
/// were written. Who calls it commits.
pub async fn unpack(
    source: &dyn Source,
    contents: &Contents,
    selection: &Selection,
    staging: Staging,
    limits: &Limits,
    progress: Arc<dyn Progress>,
) -> Result<(Staging, usize), UnpackError> {
    let part = choose(contents, selection)?;
    let manifest = contents.manifest(part);
    let selected = manifest
        .layers
        .iter()
        .flat_map(|layer| &layer.files)
        .filter(|file| selection.includes(file))
        .count();
    if selected == 0 {
        let globs: Vec<String> = selection.globs.iter().map(ToString::to_string).collect();
        return Err(UnpackError::NothingSelected(globs.join(" ")));
    }
    progress.begin(
        "unpacking",
        Some(
            part.layers
                .iter()
                .map(|layer| layer.descriptor.size)
                .fold(0, u64::saturating_add),
        ),
    );
    let wanted = extractions(&contents.lock, &manifest, selection)?;
    let mut files = Selected {
        selection: selection.clone(),
        staging,
    };
    for (index, (plan, blob)) in manifest.layers.iter().zip(&part.layers).enumerate() {
        if !plan.files.iter().any(|file| selection.includes(file)) {
            continue;
        }
        let layer = Layer {
            number: index + 1,
            platform: part.platform.as_ref(),
            plan,
            blob,
            format: contents.plan.output.format,
        };
        files = layer::compare(source, layer, files).await?;
        progress.advance(blob.descriptor.size);
    }
    progress.end();
    Ok((extract(wanted, files.staging, *limits).await?, selected))
}

fn choose<'a>(contents: &'a Contents, selection: &Selection) -> Result<&'a Part, UnpackError> {
    let matches = |part: &&Part| match (&selection.platform, &part.platform) {
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
        UnpackError::NoSuchPlatform {
            wanted: wanted.to_string(),
            available: available.join(", "),
        }
    })
}

/// What the lock says is extracted, of the files that were selected.
fn extractions(
    lock: &Lockfile,
    manifest: &ManifestPlan,
    selection: &Selection,
) -> Result<Vec<Extraction>, UnpackError> {
    let files = manifest
        .layers
        .iter()
        .flat_map(|layer| &layer.files)
        .filter(|file| selection.includes(file));
    let artifacts = files.filter_map(|file| match file.item {
        Item::Artifact(index) => lock.artifacts.get(index),
        Item::Entrypoint => None,
    });
    artifacts
        .filter_map(|artifact| extraction(artifact).transpose())
        .collect::<Result<_, _>>()
        .map_err(UnpackError::Extraction)
}

async fn extract(
    wanted: Vec<Extraction>,
    staging: Staging,
    limits: Limits,
) -> Result<Staging, UnpackError> {
    let work = move || {
        for extraction in &wanted {
            staging.extract(extraction, &limits)?;
        }
        Ok(staging)
    };
    spawn_blocking(work)
        .await
        .map_err(|e| UnpackError::Worker(e.to_string()))?
}

/// The files that were selected go into the folder, the others nowhere.
struct Selected {
    selection: Selection,
    staging: Staging,
}

impl Files for Selected {
    fn open<'a>(&'a self, file: &PackedFile) -> Result<Box<dyn Write + 'a>, OutDirError> {
        if !self.selection.includes(file) {
            return Ok(Box::new(std::io::sink()));
        }
        Ok(Box::new(self.staging.write_file(&file.path, file.mode)?))
    }
}
