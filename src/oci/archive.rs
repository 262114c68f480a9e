//! A tar of an OCI image layout in one file.
//!
//! It is worked on as a layout in a temporary folder next to it, and written anew, in one deterministic form, by [`Target::finish`].

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
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
    layout: LayoutTarget,
    changed: AtomicBool,
    // Last, so that the layout goes before its folder.
    _folder: tempfile::TempDir,
}

impl ArchiveTarget {
    /// An archive to read, and perhaps to add to. Needs as much free disk beside it as it is long. Errors: [`OciError::NotFound`],
    /// [`OciError::Malformed`] if it holds anything that is not part of a layout.
    pub fn open(path: &str) -> Result<Self, OciError> {
        let file = PathBuf::from(path);
        let archive = File::open(&file).map_err(|cause| match cause.kind() {
            std::io::ErrorKind::NotFound => OciError::NotFound { what: "OCI archive".into(), location: path.into() },
            _ => storage(&file, cause),
        })?;
        let folder = beside(&file)?;
        extract(archive, folder.path(), path)?;
        let layout = LayoutTarget::open(&folder.path().to_string_lossy())?;
        Ok(Self { file, layout, changed: AtomicBool::new(false), _folder: folder })
    }

    /// An archive to write to; made if there is none.
    pub fn open_or_create(path: &str) -> Result<Self, OciError> {
        let file = PathBuf::from(path);
        if file.exists() {
            return Self::open(path);
        }
        let folder = beside(&file)?;
        let layout = LayoutTarget::open_or_create(&folder.path().to_string_lossy())?;
        Ok(Self { file, layout, changed: AtomicBool::new(true), _folder: folder })
    }

    fn touch(&self) -> &LayoutTarget {
        self.changed.store(true, Ordering::Relaxed);
        &self.layout
    }
}

#[async_trait]
impl Source for ArchiveTarget {
    fn location(&self) -> String {
        format!("oci-archive:{}", self.file.display())
    }

    async fn resolve(&self, selector: &Selector, limits: &Limits) -> Result<Resolved, OciError> {
        self.layout.resolve(selector, limits).await
    }

    async fn open(&self, descriptor: &Descriptor) -> Result<Reader, OciError> {
        self.layout.open(descriptor).await
    }

    async fn referrers(&self, subject: &Descriptor, limits: &Limits) -> Result<Vec<Descriptor>, OciError> {
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
        if self.changed.swap(false, Ordering::Relaxed) { write_archive(self.layout.root(), &self.file) } else { Ok(()) }
    }
}

impl Store for ArchiveTarget {
    fn writer(&self) -> Result<Box<dyn BlobWriter>, OciError> {
        self.touch().writer()
    }
}

fn beside(file: &Path) -> Result<tempfile::TempDir, OciError> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    tempfile::Builder::new().prefix(".packgate-").tempdir_in(parent).map_err(|cause| storage(parent, cause))
}

/// Writes the layout's files as a tar, sorted, without anything that varies.
fn write_archive(root: &Path, file: &Path) -> Result<(), OciError> {
    let mut out = tempfile::NamedTempFile::new_in(root.parent().unwrap_or(root)).map_err(|cause| storage(file, cause))?;
    for segment in segments(layout_files(root)?) {
        match segment {
            Segment::Literal(bytes) => out.write_all(&bytes).map_err(|cause| storage(file, cause))?,
            Segment::Content { content, size } => copy_exactly(&content, size, &mut out)?,
        }
    }
    out.persist(file).map_err(|e| storage(file, e.error))?;
    make_readable(file)
}

fn make_readable(file: &Path) -> Result<(), OciError> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).map_err(|cause| storage(file, cause))
}

fn copy_exactly(path: &Path, size: u64, out: &mut impl Write) -> Result<(), OciError> {
    let file = File::open(path).map_err(|cause| storage(path, cause))?;
    let copied = std::io::copy(&mut file.take(size), out).map_err(|cause| storage(path, cause))?;
    if copied == size { Ok(()) } else { Err(storage(path, std::io::Error::other("became shorter while it was read"))) }
}

fn layout_files(root: &Path) -> Result<Vec<TarFile<PathBuf>>, OciError> {
    let folder = root.join("blobs/sha256");
    let mut files = BTreeMap::from([(MARKER_FILE.to_owned(), root.join(MARKER_FILE)), (INDEX_FILE.to_owned(), root.join(INDEX_FILE))]);
    for entry in fs::read_dir(&folder).map_err(|cause| storage(&folder, cause))? {
        let name = entry.map_err(|cause| storage(&folder, cause))?.file_name().to_string_lossy().into_owned();
        files.insert(format!("blobs/sha256/{name}"), folder.join(name));
    }
    files
        .into_iter()
        .map(|(path, content)| {
            Ok(TarFile { path, mode: 0o644, size: fs::metadata(&content).map_err(|cause| storage(&content, cause))?.len(), content })
        })
        .collect()
}

/// Takes the files of a layout out of an archive, and refuses everything else: no path of the archive is ever used as one.
fn extract(archive: File, root: &Path, location: &str) -> Result<(), OciError> {
    let malformed = |cause: String| OciError::Malformed { location: location.into(), cause };
    fs::create_dir_all(root.join("blobs/sha256")).map_err(|cause| storage(root, cause))?;
    let mut archive = tar::Archive::new(archive);
    let mut entries = 0;
    for entry in archive.entries().map_err(|e| malformed(e.to_string()))? {
        let mut entry = entry.map_err(|e| malformed(e.to_string()))?;
        entries += 1;
        if entries > Limits::DEFAULT.unpack_entries {
            return Err(OciError::LimitExceeded { what: location.into(), size: entries, limit: Limits::DEFAULT.unpack_entries });
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let Some(place) = place_of(name.trim_start_matches("./")) else {
            return Err(malformed(format!("{:?} is not part of an OCI layout", shorten(&name))));
        };
        if entry.header().entry_type().is_dir() || place.is_empty() {
            continue;
        }
        if !entry.header().entry_type().is_file() {
            return Err(malformed(format!("{:?} is not a plain file", shorten(&name))));
        }
        write_new(&mut entry, &root.join(place))?;
    }
    Ok(())
}

/// Where an entry goes: empty for the layout's folders, `None` for anything that is not of a layout.
fn place_of(name: &str) -> Option<String> {
    match name.trim_end_matches('/') {
        "" | "blobs" | "blobs/sha256" => Some(String::new()),
        MARKER_FILE | INDEX_FILE => Some(name.to_owned()),
        blob => {
            let digest: Digest = format!("sha256:{}", blob.strip_prefix("blobs/sha256/")?).parse().ok()?;
            Some(format!("blobs/sha256/{}", digest.hex()))
        }
    }
}

fn write_new(from: &mut impl Read, path: &Path) -> Result<(), OciError> {
    let mut file = File::create_new(path).map_err(|cause| storage(path, cause))?;
    std::io::copy(from, &mut file).map_err(|cause| storage(path, cause))?;
    Ok(())
}

fn shorten(text: &str) -> String {
    text.chars().take(100).collect()
}

fn storage(path: &Path, cause: std::io::Error) -> OciError {
    OciError::Storage { path: path.display().to_string(), cause }
}
