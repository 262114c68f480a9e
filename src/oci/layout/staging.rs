//! The unpublished changes of a process.
//!
//! Blobs are in a folder of their own below `blobs/sha256` and are renamed into place by
//! [`LayoutStaging::publish_changes`], which then changes `index.json`; all under a lock on the
//! layout's folder, so that concurrent processes lose none of each other's changes. A process that
//! fails removes its own folder only, so a blob that two processes have written is never removed
//! from under the other.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{ErrorKind, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use tempfile::{NamedTempFile, TempDir};

use super::index::{self, IndexChange};
use crate::{
    core::{
        digest::Digest,
        limits::InputLimits,
        oci::layout::{INDEX_FILE, MARKER_FILE, OCI_LAYOUT, blob_path},
    },
    oci::OciError,
};

const BLOBS: &str = "blobs";
const BLOBS_FOLDER: &str = "blobs/sha256";
/// The prefix of unfinished files and folders.
const UNFINISHED: &str = ".packgate-";
/// How often the folders are created again because another process, which failed, removed them.
const ATTEMPTS: usize = 20;

/// Unpublished blobs and changes.
pub(super) struct LayoutStaging {
    root: PathBuf,
    /// True if the layout does not exist yet.
    fresh: bool,
    /// Folders that this process created, outermost first.
    created_folders: Vec<PathBuf>,
    folder: Option<TempDir>,
    blobs: BTreeSet<Digest>,
    changes: Vec<IndexChange>,
}

impl LayoutStaging {
    /// Staging for an existing layout.
    pub(super) const fn new(root: PathBuf) -> Self {
        Self {
            root,
            fresh: false,
            created_folders: Vec::new(),
            folder: None,
            blobs: BTreeSet::new(),
            changes: Vec::new(),
        }
    }

    /// Creates the layout's folders if necessary. Errors: [`OciError::Invalid`] if there is
    /// something else at the path.
    pub(super) fn create_layout(root: &Path) -> Result<Self, OciError> {
        for _ in 0..ATTEMPTS {
            match Self::try_create(root.to_owned()) {
                Err(OciError::Storage { cause, .. }) if cause.kind() == ErrorKind::NotFound => {}
                outcome => return outcome,
            }
        }
        Self::try_create(root.to_owned())
    }

    fn try_create(root: PathBuf) -> Result<Self, OciError> {
        let mut staging = Self::new(root);
        if staging.root.exists() && !staging.root.is_dir() {
            return Err(staging.occupied_error());
        }
        staging.make_folders(&staging.root.clone())?;
        let guard = lock_layout(&staging.root)?;
        staging.fresh = !staging.root.join(MARKER_FILE).exists();
        if staging.fresh && has_foreign_entries(&staging.root)? {
            return Err(staging.occupied_error());
        }
        staging.staging_folder()?;
        drop(guard);
        Ok(staging)
    }

    fn occupied_error(&self) -> OciError {
        OciError::Invalid(format!(
            "{} is not an OCI layout and not empty, choose another folder",
            self.root.display()
        ))
    }

    /// The folder of unpublished blobs.
    fn staging_folder(&mut self) -> Result<&Path, OciError> {
        if self.folder.is_none() {
            let blobs = self.root.join(BLOBS_FOLDER);
            self.make_folders(&blobs)?;
            let folder = tempfile::Builder::new()
                .prefix(UNFINISHED)
                .tempdir_in(&blobs)
                .map_err(|cause| storage_error(&blobs, cause))?;
            self.folder = Some(folder);
        }
        Ok(self.folder.as_ref().map_or(&self.root, TempDir::path))
    }

    fn make_folders(&mut self, path: &Path) -> Result<(), OciError> {
        let missing: Vec<&Path> = path
            .ancestors()
            .take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists())
            .collect();
        for folder in missing.into_iter().rev() {
            match fs::create_dir(folder) {
                Ok(()) => self.created_folders.push(folder.to_owned()),
                Err(cause) if cause.kind() == ErrorKind::AlreadyExists => {}
                Err(cause) => return Err(storage_error(folder, cause)),
            }
        }
        Ok(())
    }

    /// A file for a new blob.
    pub(super) fn create_blob_file(&mut self) -> Result<NamedTempFile, OciError> {
        create_temporary_file(self.staging_folder()?)
    }

    /// Stages a complete blob.
    pub(super) fn stage_blob(
        &mut self,
        file: NamedTempFile,
        digest: Digest,
    ) -> Result<(), OciError> {
        let path = self.staging_folder()?.join(digest.hex_digits());
        persist_file(file, &path)?;
        self.blobs.insert(digest);
        Ok(())
    }

    /// Records a change of `index.json`.
    pub(super) fn record_change(&mut self, change: IndexChange) {
        self.changes.push(change);
    }

    /// Changes that are not in `index.json` yet.
    pub(super) fn pending_changes(&self) -> &[IndexChange] {
        &self.changes
    }

    /// True if the layout did not exist before, and does not exist yet.
    pub(super) const fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// The path of a blob, whether it exists or not.
    pub(super) fn path_of(&self, digest: &Digest) -> PathBuf {
        match &self.folder {
            Some(folder) if self.blobs.contains(digest) => folder.path().join(digest.hex_digits()),
            _ => self.root.join(blob_path(digest)),
        }
    }

    /// Publishes everything: blobs first, then the index.
    pub(super) fn publish_changes(&mut self, index_name: &str) -> Result<(), OciError> {
        if self.folder.is_none() && self.changes.is_empty() {
            return Ok(());
        }
        let guard = lock_layout(&self.root)?;
        let before = read_index(&self.root)?;
        let rendered = index::render_updated_index(before.as_deref(), &self.changes, index_name)?;
        // Written before the first blob is moved: a full disk is detected here.
        let index = write_temporary_file(&self.root, &rendered)?;
        for digest in &self.blobs {
            let path = self.root.join(blob_path(digest));
            fs::rename(self.path_of(digest), &path).map_err(|cause| storage_error(&path, cause))?;
        }
        if before.as_ref() != Some(&rendered) {
            persist_file(index, &self.root.join(INDEX_FILE))?;
        }
        self.write_marker()?;
        drop(guard);
        self.fresh = false;
        self.created_folders.clear();
        self.blobs.clear();
        self.changes.clear();
        self.folder = None;
        Ok(())
    }

    /// Last, because the marker means that the layout exists.
    fn write_marker(&self) -> Result<(), OciError> {
        let path = self.root.join(MARKER_FILE);
        if path.exists() {
            Ok(())
        } else {
            persist_file(write_temporary_file(&self.root, OCI_LAYOUT)?, &path)
        }
    }
}

impl Drop for LayoutStaging {
    fn drop(&mut self) {
        drop(self.folder.take());
        if self.created_folders.is_empty() {
            return;
        }
        let _guard = lock_layout(&self.root);
        for folder in self.created_folders.iter().rev() {
            // Removed only if it is empty, so that no other process's files are lost.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// True if there are files that do not belong to a layout.
fn has_foreign_entries(root: &Path) -> Result<bool, OciError> {
    for entry in fs::read_dir(root).map_err(|cause| storage_error(root, cause))? {
        let name = entry
            .map_err(|cause| storage_error(root, cause))?
            .file_name();
        if name != BLOBS && !name.to_string_lossy().starts_with(UNFINISHED) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Waits for the exclusive lock on the layout. The lock is on the folder, and ends when the returned
/// file is closed. Whoever made the folder may have removed it meanwhile, and another one may stand
/// there: then that is locked.
fn lock_layout(root: &Path) -> Result<File, OciError> {
    let error = |cause| storage_error(root, cause);
    for _ in 0..ATTEMPTS {
        let folder = File::open(root).map_err(error)?;
        folder.lock().map_err(error)?;
        let locked = folder.metadata().map_err(error)?;
        let there = fs::metadata(root).map_err(error)?;
        if (locked.dev(), locked.ino()) == (there.dev(), there.ino()) {
            return Ok(folder);
        }
    }
    Err(error(ErrorKind::NotFound.into()))
}

/// The bytes of `index.json`; `None` if it does not exist.
pub(super) fn read_index(root: &Path) -> Result<Option<Vec<u8>>, OciError> {
    read_bounded(
        &root.join(INDEX_FILE),
        index::index_size_limit(&InputLimits::DEFAULT),
    )
}

/// Reads at most `limit` bytes of a regular file; `None` if it does not exist. The target of a link
/// may be endless.
pub(super) fn read_bounded(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, OciError> {
    let file = match open_regular_file(path) {
        Err(OciError::Storage { cause, .. })
            if matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
        {
            return Ok(None);
        }
        other => other?,
    };
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|cause| storage_error(path, cause))?;
    if bytes.len() > limit {
        return Err(OciError::LimitExceeded {
            what: path.display().to_string(),
            size: bytes.len() as u64,
            limit: limit as u64,
        });
    }
    Ok(Some(bytes))
}

/// Opens a regular file, or a link to one. Anything else is refused before it is opened: opening a
/// FIFO would block forever.
pub(super) fn open_regular_file(path: &Path) -> Result<File, OciError> {
    let kind = fs::metadata(path).map_err(|cause| storage_error(path, cause))?;
    if !kind.is_file() {
        return Err(OciError::Malformed {
            location: path.display().to_string(),
            cause: "it is not a regular file".into(),
        });
    }
    File::open(path).map_err(|cause| storage_error(path, cause))
}

fn write_temporary_file(folder: &Path, bytes: &[u8]) -> Result<NamedTempFile, OciError> {
    let mut file = create_temporary_file(folder)?;
    file.write_all(bytes)
        .map_err(|cause| storage_error(folder, cause))?;
    Ok(file)
}

fn create_temporary_file(folder: &Path) -> Result<NamedTempFile, OciError> {
    use std::os::unix::fs::PermissionsExt;
    let permissions = fs::Permissions::from_mode(0o644);
    tempfile::Builder::new()
        .prefix(UNFINISHED)
        .permissions(permissions)
        .tempfile_in(folder)
        .map_err(|cause| storage_error(folder, cause))
}

fn persist_file(file: NamedTempFile, path: &Path) -> Result<(), OciError> {
    file.persist(path)
        .map_err(|e| storage_error(path, e.error))?;
    Ok(())
}

pub(super) fn storage_error(path: &Path, cause: std::io::Error) -> OciError {
    OciError::Storage {
        path: path.display().to_string(),
        cause,
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    #[test]
    fn a_folder_that_was_made_anew_is_locked_and_not_the_one_before() {
        let parent = tempfile::tempdir().expect("a folder");
        let root = &parent.path().join("layout");
        fs::create_dir(root).expect("a folder");
        let removed = lock_layout(root).expect("free");
        let (sender, locked) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(move || sender.send(lock_layout(root)));
            let waiting = |time| locked.recv_timeout(time);
            assert!(waiting(Duration::from_millis(100)).is_err(), "it is locked");
            fs::remove_dir(root).expect("empty");
            fs::create_dir(root).expect("a folder");
            let there = lock_layout(root).expect("free");
            drop(removed);
            assert!(waiting(Duration::from_millis(100)).is_err(), "it is locked");
            drop(there);
            let second = waiting(Duration::from_mins(1))
                .expect("free")
                .expect("there");
            let inode = |metadata: fs::Metadata| metadata.ino();
            let there = fs::metadata(root).map(inode).expect("a folder");
            assert_eq!(second.metadata().map(inode).expect("open"), there);
        });
    }
}
