//! A tar of an OCI image layout in one file.
//!
//! It is worked on as a layout in a temporary folder next to it, and written anew, in one
//! deterministic form, by [`Target::finish`].

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

use super::{BlobWriter, Content, LayoutTarget, OciError, Reader, Resolved, Source, Store, Target};
use crate::core::{
    digest::Digest,
    limits::Limits,
    oci::{
        Descriptor,
        layout::{INDEX_FILE, MARKER_FILE},
    },
    pack::{Segment, TarFile, segments},
    reference::{Selector, Tag},
};

/// An archive of a layout.
pub struct ArchiveTarget {
    file: PathBuf,
    /// The file as it was read or written last.
    seen: Mutex<Option<Identity>>,
    layout: LayoutTarget,
    changed: AtomicBool,
    // Last, so that the layout goes before its folder.
    _folder: tempfile::TempDir,
}

/// Tells whether a file is still the one that was read. A file that is replaced or written to has
/// another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    mode: u32,
}

impl Identity {
    fn of(file: &fs::Metadata) -> Self {
        let (device, inode, length, mode) = (file.dev(), file.ino(), file.len(), file.mode());
        Self {
            device,
            inode,
            length,
            modified: (file.mtime(), file.mtime_nsec()),
            mode,
        }
    }

    /// `None` if there is no file.
    fn at(path: &Path) -> Result<Option<Self>, OciError> {
        match fs::metadata(path) {
            Ok(found) => Ok(Some(Self::of(&found))),
            Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(storage(path, cause)),
        }
    }
}

impl ArchiveTarget {
    /// An archive to read, and perhaps to add to. Needs as much free disk beside it as it is long.
    /// Errors: [`OciError::NotFound`], [`OciError::Malformed`] if it holds anything that is not
    /// part of a layout.
    pub fn open(path: &str) -> Result<Self, OciError> {
        let file = PathBuf::from(path);
        let archive = open_plain(&file, path)?;
        let seen = Identity::of(&archive.metadata().map_err(|cause| storage(&file, cause))?);
        let folder = beside(&file)?;
        reader::extract(archive, folder.path(), path)?;
        let layout = LayoutTarget::open_as(&folder.path().to_string_lossy(), name_of(path))?;
        Ok(Self {
            file,
            seen: Mutex::new(Some(seen)),
            layout,
            changed: AtomicBool::new(false),
            _folder: folder,
        })
    }

    /// An archive to write to; made if there is none.
    pub fn open_or_create(path: &str) -> Result<Self, OciError> {
        let file = PathBuf::from(path);
        if file.exists() {
            return Self::open(path);
        }
        let folder = beside(&file)?;
        let layout =
            LayoutTarget::open_or_create_as(&folder.path().to_string_lossy(), name_of(path))?;
        Ok(Self {
            file,
            seen: Mutex::default(),
            layout,
            changed: AtomicBool::new(true),
            _folder: folder,
        })
    }

    fn touch(&self) -> &LayoutTarget {
        self.changed.store(true, Ordering::Relaxed);
        &self.layout
    }

    /// Replaces the file in one step. One that somebody else has changed meanwhile is left alone:
    /// what they added would be lost.
    fn write(&self) -> Result<(), OciError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mode = seen.map_or(0o644, |file| file.mode & 0o777);
        let new = write_archive(self.layout.root(), &self.file, mode)?;
        let parent = parent(&self.file);
        let guard = File::open(parent)
            .and_then(|folder| folder.lock().map(|()| folder))
            .map_err(|cause| storage(parent, cause))?;
        if Identity::at(&self.file)? != *seen {
            return Err(storage(
                &self.file,
                std::io::Error::other("was changed by somebody else meanwhile, try again"),
            ));
        }
        new.persist(&self.file)
            .map_err(|e| storage(&self.file, e.error))?;
        *seen = Identity::at(&self.file)?;
        drop(guard);
        Ok(())
    }
}

#[async_trait]
impl Source for ArchiveTarget {
    fn location(&self) -> String {
        self.layout.location()
    }

    async fn resolve(&self, selector: &Selector, limits: &Limits) -> Result<Resolved, OciError> {
        self.layout.resolve(selector, limits).await
    }

    async fn open(&self, descriptor: &Descriptor) -> Result<Reader, OciError> {
        self.layout.open(descriptor).await
    }

    async fn referrers(
        &self,
        subject: &Descriptor,
        limits: &Limits,
    ) -> Result<Vec<Descriptor>, OciError> {
        self.layout.referrers(subject, limits).await
    }
}

#[async_trait]
impl Target for ArchiveTarget {
    async fn exists(&self, descriptor: &Descriptor) -> Result<bool, OciError> {
        self.layout.exists(descriptor).await
    }

    async fn push(&self, descriptor: &Descriptor, content: Content<'_>) -> Result<(), OciError> {
        self.touch().push(descriptor, content).await
    }

    async fn tag(&self, descriptor: &Descriptor, tag: &Tag) -> Result<(), OciError> {
        self.touch().tag(descriptor, tag).await
    }

    async fn finish(&self) -> Result<(), OciError> {
        self.layout.finish().await?;
        if self.changed.load(Ordering::Relaxed) {
            self.write()?;
            self.changed.store(false, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Store for ArchiveTarget {
    fn writer(&self) -> Result<Box<dyn BlobWriter>, OciError> {
        self.touch().writer()
    }
}

fn name_of(path: &str) -> String {
    format!("oci-archive:{path}")
}

fn open_plain(file: &Path, path: &str) -> Result<File, OciError> {
    let failed = |cause: std::io::Error| match cause.kind() {
        ErrorKind::NotFound => OciError::NotFound {
            what: "OCI archive".into(),
            location: path.into(),
        },
        _ => storage(file, cause),
    };
    if !fs::metadata(file).map_err(failed)?.is_file() {
        return Err(OciError::Malformed {
            location: path.into(),
            cause: "it is not a plain file".into(),
        });
    }
    File::open(file).map_err(failed)
}

fn parent(file: &Path) -> &Path {
    file.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."))
}

fn beside(file: &Path) -> Result<tempfile::TempDir, OciError> {
    let parent = parent(file);
    tempfile::Builder::new()
        .prefix(".packgate-")
        .tempdir_in(parent)
        .map_err(|cause| storage(parent, cause))
}

/// Writes the layout's files as a tar, sorted, without anything that varies.
fn write_archive(root: &Path, file: &Path, mode: u32) -> Result<tempfile::NamedTempFile, OciError> {
    let permissions = Permissions::from_mode(mode);
    let out = tempfile::Builder::new()
        .prefix(".packgate-")
        .permissions(permissions)
        .tempfile_in(parent(file));
    let mut out = out.map_err(|cause| storage(file, cause))?;
    for segment in segments(layout_files(root)?) {
        match segment {
            Segment::Literal(bytes) => out
                .write_all(&bytes)
                .map_err(|cause| storage(file, cause))?,
            Segment::Content { content, size } => copy_exactly(&content, size, &mut out)?,
        }
    }
    Ok(out)
}

fn copy_exactly(path: &Path, size: u64, out: &mut impl Write) -> Result<(), OciError> {
    let file = File::open(path).map_err(|cause| storage(path, cause))?;
    let copied = std::io::copy(&mut file.take(size), out).map_err(|cause| storage(path, cause))?;
    if copied == size {
        Ok(())
    } else {
        Err(storage(
            path,
            std::io::Error::other("became shorter while it was read"),
        ))
    }
}

fn layout_files(root: &Path) -> Result<Vec<TarFile<PathBuf>>, OciError> {
    let folder = root.join("blobs/sha256");
    let mut files = BTreeMap::from([
        (MARKER_FILE.to_owned(), root.join(MARKER_FILE)),
        (INDEX_FILE.to_owned(), root.join(INDEX_FILE)),
    ]);
    for entry in fs::read_dir(&folder).map_err(|cause| storage(&folder, cause))? {
        let name = entry
            .map_err(|cause| storage(&folder, cause))?
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
                    .map_err(|cause| storage(&content, cause))?
                    .len(),
                content,
            })
        })
        .collect()
}

fn storage(path: &Path, cause: std::io::Error) -> OciError {
    OciError::Storage {
        path: path.display().to_string(),
        cause,
    }
}
