//! A tar of an OCI image layout in one file.
//!
//! It is edited as a layout in a temporary folder next to it, and written again, in one
//! deterministic form, by [`ContentTarget::commit_changes`].

mod reader;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs::{self, File, Permissions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;

use super::{
    BlobWriter, ContentReader, ContentSource, ContentTarget, LocalContentStore, OciError,
    OciLayoutTarget, PushContent, ResolvedManifest,
};
use crate::core::{
    digest::Digest,
    limits::InputLimits,
    oci::{
        Descriptor,
        layout::{INDEX_FILE, MARKER_FILE},
    },
    pack::{TarFile, TarSegment, plan_tar_segments},
    reference::{ImageTag, TagOrDigest},
};

/// An archive (tar) of a layout.
pub struct OciArchiveTarget {
    file: PathBuf,
    /// The file as last read or written.
    last_identity: Mutex<Option<ArchiveFileIdentity>>,
    layout: OciLayoutTarget,
    changed: AtomicBool,
    // Last, so that the layout is dropped before its folder.
    _folder: tempfile::TempDir,
}

/// The identity of a version of the file. A file that is replaced or written to gets another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ArchiveFileIdentity {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    mode: u32,
}

impl ArchiveFileIdentity {
    fn from_metadata(file: &fs::Metadata) -> Self {
        let (device, inode, length, mode) = (file.dev(), file.ino(), file.len(), file.mode());
        Self {
            device,
            inode,
            length,
            modified: (file.mtime(), file.mtime_nsec()),
            mode,
        }
    }

    /// `None` if the file does not exist.
    fn from_path(path: &Path) -> Result<Option<Self>, OciError> {
        match fs::metadata(path) {
            Ok(found) => Ok(Some(Self::from_metadata(&found))),
            Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(storage_error(path, cause)),
        }
    }
}

impl OciArchiveTarget {
    /// Opens an archive to read and to add to. Needs free disk space of its size in its folder.
    /// Errors: [`OciError::NotFound`], [`OciError::Malformed`] if it contains anything but a
    /// layout.
    pub fn open_archive(path: &str) -> Result<Self, OciError> {
        let file = PathBuf::from(path);
        let archive = open_archive_file(&file, path)?;
        let seen = ArchiveFileIdentity::from_metadata(
            &archive
                .metadata()
                .map_err(|cause| storage_error(&file, cause))?,
        );
        let folder = create_temporary_folder(&file)?;
        reader::extract_layout(archive, folder.path(), path)?;
        let layout =
            OciLayoutTarget::open_as(&folder.path().to_string_lossy(), archive_location(path))?;
        Ok(Self {
            file,
            last_identity: Mutex::new(Some(seen)),
            layout,
            changed: AtomicBool::new(false),
            _folder: folder,
        })
    }

    /// Opens an archive for writing; creates it if it does not exist.
    pub fn open_or_create(path: &str) -> Result<Self, OciError> {
        let file = PathBuf::from(path);
        if file.exists() {
            return Self::open_archive(path);
        }
        let folder = create_temporary_folder(&file)?;
        let layout = OciLayoutTarget::open_or_create_as(
            &folder.path().to_string_lossy(),
            archive_location(path),
        )?;
        Ok(Self {
            file,
            last_identity: Mutex::default(),
            layout,
            changed: AtomicBool::new(true),
            _folder: folder,
        })
    }

    fn mark_changed(&self) -> &OciLayoutTarget {
        self.changed.store(true, Ordering::Relaxed);
        &self.layout
    }

    /// Replaces the file atomically. If another process has changed it meanwhile, it is an error:
    /// those changes would be lost.
    fn save_archive(&self) -> Result<(), OciError> {
        let mut seen = self
            .last_identity
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mode = seen.map_or(0o644, |file| file.mode & 0o777);
        let new = write_layout_tar(self.layout.root(), &self.file, mode)?;
        let parent = parent_folder(&self.file);
        let guard = File::open(parent)
            .and_then(|folder| folder.lock().map(|()| folder))
            .map_err(|cause| storage_error(parent, cause))?;
        if ArchiveFileIdentity::from_path(&self.file)? != *seen {
            return Err(storage_error(
                &self.file,
                std::io::Error::other("was changed by another process in the meantime, try again"),
            ));
        }
        new.persist(&self.file)
            .map_err(|e| storage_error(&self.file, e.error))?;
        *seen = ArchiveFileIdentity::from_path(&self.file)?;
        drop(guard);
        Ok(())
    }
}

#[async_trait]
impl ContentSource for OciArchiveTarget {
    fn location(&self) -> String {
        self.layout.location()
    }

    async fn resolve_manifest(
        &self,
        selector: &TagOrDigest,
        limits: &InputLimits,
    ) -> Result<ResolvedManifest, OciError> {
        self.layout.resolve_manifest(selector, limits).await
    }

    async fn open_content(&self, descriptor: &Descriptor) -> Result<ContentReader, OciError> {
        self.layout.open_content(descriptor).await
    }

    async fn list_referrers(
        &self,
        subject: &Descriptor,
        limits: &InputLimits,
    ) -> Result<Vec<Descriptor>, OciError> {
        self.layout.list_referrers(subject, limits).await
    }
}

#[async_trait]
impl ContentTarget for OciArchiveTarget {
    async fn content_exists(&self, descriptor: &Descriptor) -> Result<bool, OciError> {
        self.layout.content_exists(descriptor).await
    }

    async fn push_content(
        &self,
        descriptor: &Descriptor,
        content: PushContent<'_>,
    ) -> Result<(), OciError> {
        self.mark_changed().push_content(descriptor, content).await
    }

    async fn tag_manifest(&self, descriptor: &Descriptor, tag: &ImageTag) -> Result<(), OciError> {
        self.mark_changed().tag_manifest(descriptor, tag).await
    }

    async fn commit_changes(&self) -> Result<(), OciError> {
        self.layout.commit_changes().await?;
        if self.changed.load(Ordering::Relaxed) {
            self.save_archive()?;
            self.changed.store(false, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl LocalContentStore for OciArchiveTarget {
    fn new_blob_writer(&self) -> Result<Box<dyn BlobWriter>, OciError> {
        self.mark_changed().new_blob_writer()
    }
}

fn archive_location(path: &str) -> String {
    format!("oci-archive:{path}")
}

fn open_archive_file(file: &Path, path: &str) -> Result<File, OciError> {
    let failed = |cause: std::io::Error| match cause.kind() {
        ErrorKind::NotFound => OciError::NotFound {
            what: "OCI archive".into(),
            location: path.into(),
        },
        _ => storage_error(file, cause),
    };
    if !fs::metadata(file).map_err(failed)?.is_file() {
        return Err(OciError::Malformed {
            location: path.into(),
            cause: "it is not a regular file".into(),
        });
    }
    File::open(file).map_err(failed)
}

fn parent_folder(file: &Path) -> &Path {
    file.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."))
}

fn create_temporary_folder(file: &Path) -> Result<tempfile::TempDir, OciError> {
    let parent = parent_folder(file);
    tempfile::Builder::new()
        .prefix(".packgate-")
        .tempdir_in(parent)
        .map_err(|cause| storage_error(parent, cause))
}

/// Writes the layout's files as a tar, sorted, without anything variable.
fn write_layout_tar(
    root: &Path,
    file: &Path,
    mode: u32,
) -> Result<tempfile::NamedTempFile, OciError> {
    let permissions = Permissions::from_mode(mode);
    let out = tempfile::Builder::new()
        .prefix(".packgate-")
        .permissions(permissions)
        .tempfile_in(parent_folder(file));
    let mut out = out.map_err(|cause| storage_error(file, cause))?;
    for segment in plan_tar_segments(layout_files(root)?) {
        match segment {
            TarSegment::Literal(bytes) => out
                .write_all(&bytes)
                .map_err(|cause| storage_error(file, cause))?,
            TarSegment::Content { content, size } => copy_exactly(&content, size, &mut out)?,
        }
    }
    Ok(out)
}

fn copy_exactly(path: &Path, size: u64, out: &mut impl Write) -> Result<(), OciError> {
    let file = File::open(path).map_err(|cause| storage_error(path, cause))?;
    let copied =
        std::io::copy(&mut file.take(size), out).map_err(|cause| storage_error(path, cause))?;
    if copied == size {
        Ok(())
    } else {
        Err(storage_error(
            path,
            std::io::Error::other("shrank while it was being read"),
        ))
    }
}

fn layout_files(root: &Path) -> Result<Vec<TarFile<PathBuf>>, OciError> {
    let folder = root.join("blobs/sha256");
    let mut files = BTreeMap::from([
        (MARKER_FILE.to_owned(), root.join(MARKER_FILE)),
        (INDEX_FILE.to_owned(), root.join(INDEX_FILE)),
    ]);
    for entry in fs::read_dir(&folder).map_err(|cause| storage_error(&folder, cause))? {
        let name = entry
            .map_err(|cause| storage_error(&folder, cause))?
            .file_name()
            .to_string_lossy()
            .into_owned();
        if format!("sha256:{name}").parse::<Digest>().is_ok() {
            files.insert(format!("blobs/sha256/{name}"), folder.join(name));
        }
    }
    files
        .into_iter()
        .map(|(path, content)| {
            Ok(TarFile {
                path,
                mode: 0o644,
                size: fs::metadata(&content)
                    .map_err(|cause| storage_error(&content, cause))?
                    .len(),
                content,
            })
        })
        .collect()
}

fn storage_error(path: &Path, cause: std::io::Error) -> OciError {
    OciError::Storage {
        path: path.display().to_string(),
        cause,
    }
}
