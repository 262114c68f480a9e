//! The files of a bundle, and which layer each is in.

use std::{collections::BTreeMap, sync::Arc};

use crate::core::{
    bundle_path::BundlePath,
    digest::Digest,
    lockfile::{BundleFileMode, LockedArtifact, LockedEntrypoint, Lockfile},
    oci::Platform,
};

/// The maximum number of layers with artifacts; one more contains the lock. Runtimes pull layers in
/// parallel, but hundreds are too many for them.
pub const MAX_ARTIFACT_LAYERS: usize = 63;

/// A file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedFile {
    /// The item of the lock.
    pub item: LockItem,
    /// Its path in the bundle.
    pub path: BundlePath,
    /// Its file mode.
    pub mode: BundleFileMode,
    /// The digest of its bytes.
    pub checksum: Digest,
    /// The size of its bytes.
    pub size: u64,
}

/// An item of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockItem {
    /// The artifact with this index.
    Artifact(usize),
    /// The entrypoint.
    Entrypoint,
}

/// A file, and the platforms that it is for.
#[derive(Clone, Debug)]
pub(super) struct PlannedFile {
    pub(super) file: Arc<PackedFile>,
    /// One bit for each platform of the lock, in their order. Every bit for a file that is for all
    /// of them.
    pub(super) platforms: u64,
}

/// The files of the lock, the entrypoint last. `bits` has one bit for each platform.
pub(super) fn planned_files(lock: &Lockfile, bits: &BTreeMap<&Platform, u64>) -> Vec<PlannedFile> {
    let platforms = |artifact: &LockedArtifact| {
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
    let artifacts =
        lock.artifacts.iter().enumerate().map(|(index, artifact)| {
            planned(file_from_artifact(index, artifact), platforms(artifact))
        });
    artifacts
        .chain(
            lock.entrypoint
                .as_ref()
                .map(|entrypoint| planned(file_from_entrypoint(entrypoint), u64::MAX)),
        )
        .collect()
}

fn file_from_artifact(index: usize, artifact: &LockedArtifact) -> PackedFile {
    let LockedArtifact {
        target,
        mode,
        checksum,
        size,
        ..
    } = artifact;
    PackedFile {
        item: LockItem::Artifact(index),
        path: target.clone(),
        mode: *mode,
        checksum: *checksum,
        size: *size,
    }
}

fn file_from_entrypoint(entrypoint: &LockedEntrypoint) -> PackedFile {
    let LockedEntrypoint {
        target,
        mode,
        checksum,
        size,
        ..
    } = entrypoint;
    PackedFile {
        item: LockItem::Entrypoint,
        path: target.clone(),
        mode: *mode,
        checksum: *checksum,
        size: *size,
    }
}

/// Up to 63 files: one a layer. More: 63 runs in order, the first `n mod 63` of them one file
/// longer.
pub(super) fn split_into_layers(files: Vec<Arc<PackedFile>>) -> Vec<Vec<Arc<PackedFile>>> {
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
