//! EFFECT. Writes an unpacked bundle: a staging folder next to the destination, one rename, nothing
//! half-written.
//!
//! Everything goes through a [`Dir`] handle, so no path can leave the staging folder, and every
//! file is created exclusively, so nothing is ever overwritten. Modes are set after creation, so
//! the umask has no effect. All of it blocks: call it outside of async threads.

mod error;
mod extraction;
mod extraction_sink;
mod tar;
mod tree;
mod zip;

use std::{
    fs::{self, File, Permissions},
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use cap_std::{ambient_authority, fs::Dir};
use tempfile::TempDir;

pub use error::OutDirError;

use crate::core::{
    bundle_path::BundlePath, limits::InputLimits, lockfile::BundleFileMode,
    unpack::ArchiveExtractionPlan,
};

/// A folder that becomes the destination when it is complete. Dropped without
/// [`OutDirStaging::commit_folder`], it leaves nothing behind.
#[derive(Debug)]
pub struct OutDirStaging {
    folder: TempDir,
    root: Dir,
    destination: PathBuf,
}

impl OutDirStaging {
    /// Creates `.NAME.packgate-XXXXXX` next to `destination`, which must not exist, or be an empty
    /// folder. No other user can read it before it is complete.
    pub fn create(destination: &Path) -> Result<Self, OutDirError> {
        let refused = |why| OutDirError::Destination {
            path: destination.display().to_string(),
            why,
        };
        let name = destination
            .file_name()
            .ok_or_else(|| refused("has no name"))?
            .to_string_lossy();
        check_destination(destination)?;
        let parent = destination
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or_else(|| Path::new("."));
        let prefix: String = std::iter::once('.')
            .chain(name.chars().take(50))
            .chain(".packgate-".chars())
            .collect();
        let folder = tempfile::Builder::new()
            .prefix(&prefix)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent);
        let folder = folder.map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => {
                refused("lies in a folder that does not exist")
            }
            _ => OutDirError::storage_error(parent.display(), &error),
        })?;
        let root = Dir::open_ambient_dir(folder.path(), ambient_authority())
            .map_err(|e| OutDirError::storage_error(folder.path().display(), &e))?;
        Ok(Self {
            folder,
            root,
            destination: destination.into(),
        })
    }

    /// Creates the file `path` with exactly this mode, and its folders. The caller writes the
    /// content.
    pub fn write_file(&self, path: &BundlePath, mode: BundleFileMode) -> Result<File, OutDirError> {
        tree::create_file(&self.root, path, mode)
    }

    /// Extracts an archive that was written before. Existing files, and files outside of
    /// `extraction.into`, cannot be changed.
    pub fn extract_archive(
        &self,
        extraction: &ArchiveExtractionPlan,
        limits: &InputLimits,
    ) -> Result<(), OutDirError> {
        extraction::extract_archive(&self.root, extraction, limits)
    }

    /// Renames the staging folder to the destination, atomically.
    pub fn commit_folder(self) -> Result<(), OutDirError> {
        let Self {
            folder,
            root,
            destination,
        } = self;
        let failed =
            |error: std::io::Error| OutDirError::storage_error(destination.display(), &error);
        drop(root);
        fs::set_permissions(folder.path(), Permissions::from_mode(tree::FOLDER_MODE))
            .map_err(failed)?;
        fs::rename(folder.path(), &destination).map_err(|error| match error.kind() {
            ErrorKind::DirectoryNotEmpty | ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
                OutDirError::Destination {
                    path: destination.display().to_string(),
                    why: "was created by another process in the meantime",
                }
            }
            _ => failed(error),
        })?;
        // The folder was renamed; there is nothing left to remove.
        let _ = folder.keep();
        Ok(())
    }
}

fn check_destination(destination: &Path) -> Result<(), OutDirError> {
    let refused = |why| {
        Err(OutDirError::Destination {
            path: destination.display().to_string(),
            why,
        })
    };
    let failed = |error: std::io::Error| OutDirError::storage_error(destination.display(), &error);
    match fs::symlink_metadata(destination) {
        Ok(found) if !found.is_dir() => refused("exists and is not a folder"),
        Ok(_) if fs::read_dir(destination).map_err(failed)?.next().is_some() => {
            refused("exists and is not empty")
        }
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(())
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests;
