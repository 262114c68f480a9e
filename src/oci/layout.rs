//! An OCI image layout on disk (image-spec 1.1, image-layout.md).
//!
//! Blobs appear under their digest by rename, so a blob that is there is complete. Changes of `index.json` are serialised by a lock on the
//! file `oci-layout`. What a run has added is taken away again unless [`Target::finish`] is called: a failed run leaves nothing behind.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncReadExt;

use super::{BlobWriter, Content, OciError, Reader, Resolved, Source, Store, Target, verify_stream::VerifyReader};
use crate::core::{
    digest::{Digest, Hasher},
    json,
    limits::Limits,
    oci::{
        Annotations, Descriptor, Document, Index,
        layout::{INDEX_FILE, MARKER_FILE, OCI_LAYOUT, REF_NAME, blob_path},
    },
    reference::{Selector, Tag},
};

/// An OCI image layout. Clones are the same layout.
#[doc(alias = "OCIBundleHandler")]
#[derive(Clone)]
pub struct LayoutTarget(Arc<Inner>);

struct Inner {
    root: PathBuf,
    name: String,
    added: Mutex<Added>,
}

/// What this run has added, to be taken away if it fails.
#[derive(Default)]
struct Added {
    root: bool,
    blobs: BTreeSet<PathBuf>,
    index_before: Option<Option<Vec<u8>>>,
}

impl LayoutTarget {
    /// A layout to read, and perhaps to add to. Errors: [`OciError::NotFound`] if there is none, [`OciError::Malformed`] if it is none.
    pub fn open(path: &str) -> Result<Self, OciError> {
        let root = PathBuf::from(path);
        let marker = fs::read(root.join(MARKER_FILE)).map_err(|cause| match cause.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
                OciError::NotFound { what: "OCI layout".into(), location: path.into() }
            }
            _ => storage(&root.join(MARKER_FILE), cause),
        })?;
        let version: serde_json::Value = serde_json::from_slice(&marker).unwrap_or_default();
        if version["imageLayoutVersion"] != "1.0.0" {
            return Err(OciError::Malformed { location: path.into(), cause: "oci-layout does not say imageLayoutVersion 1.0.0".into() });
        }
        Ok(Self::new(root, path, false))
    }

    /// A layout to write to; made if there is none. Errors: [`OciError::Invalid`] if something else is in the way.
    pub fn open_or_create(path: &str) -> Result<Self, OciError> {
        let root = PathBuf::from(path);
        if root.join(MARKER_FILE).exists() {
            return Self::open(path);
        }
        let occupied = fs::read_dir(&root).is_ok_and(|mut entries| entries.next().is_some());
        if occupied || (root.exists() && !root.is_dir()) {
            return Err(OciError::Invalid(format!("{path} is no OCI layout and not empty, choose another folder")));
        }
        let fresh = !root.exists();
        let blobs = root.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(|cause| storage(&blobs, cause))?;
        let layout = Self::new(root, path, fresh);
        layout.write_file(MARKER_FILE, OCI_LAYOUT)?;
        layout.write_file(INDEX_FILE, &to_json(&Index::new(Vec::new())))?;
        Ok(layout)
    }

    fn new(root: PathBuf, name: &str, fresh: bool) -> Self {
        let added = Mutex::new(Added { root: fresh, ..Added::default() });
        Self(Arc::new(Inner { root, name: format!("oci:{name}"), added }))
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    fn path_of(&self, digest: &Digest) -> PathBuf {
        self.0.root.join(blob_path(digest))
    }

    fn read_index(&self, limits: &Limits) -> Result<Index, OciError> {
        let path = self.0.root.join(INDEX_FILE);
        let length = fs::metadata(&path).map_err(|cause| storage(&path, cause))?.len();
        // Every referrer has an entry here, so the bound is the referrers' and not one manifest's.
        let limit = limits.manifest_bytes * 4;
        if length > limit as u64 {
            return Err(OciError::LimitExceeded { what: format!("{}/{INDEX_FILE}", self.0.root.display()), size: length, limit: limit as u64 });
        }
        let bytes = fs::read(&path).map_err(|cause| storage(&path, cause))?;
        json::parse(&bytes, limit, limits.json_depth).map_err(|e| OciError::Malformed { location: path.display().to_string(), cause: e.to_string() })
    }

    fn read_document(&self, descriptor: &Descriptor, limits: &Limits) -> Result<Bytes, OciError> {
        let too_large =
            || OciError::LimitExceeded { what: descriptor.digest.to_string(), size: descriptor.size, limit: limits.manifest_bytes as u64 };
        let size = usize::try_from(descriptor.size).ok().filter(|size| *size <= limits.manifest_bytes).ok_or_else(too_large)?;
        let bytes = self.read_blob(&descriptor.digest, size)?;
        check(&bytes, descriptor)?;
        Ok(bytes.into())
    }

    /// Reads at most one byte more than `size`, so that a longer file shows.
    fn read_blob(&self, digest: &Digest, size: usize) -> Result<Vec<u8>, OciError> {
        use std::io::Read;
        let path = self.path_of(digest);
        let mut bytes = Vec::with_capacity(size);
        let file = File::open(&path).map_err(|cause| self.missing(digest, &path, cause))?;
        file.take(size as u64 + 1).read_to_end(&mut bytes).map_err(|cause| storage(&path, cause))?;
        Ok(bytes)
    }

    fn missing(&self, digest: &Digest, path: &Path, cause: std::io::Error) -> OciError {
        if cause.kind() == std::io::ErrorKind::NotFound {
            return OciError::NotFound { what: digest.to_string(), location: self.location() };
        }
        storage(path, cause)
    }

    fn find(&self, selector: &Selector, limits: &Limits) -> Result<Descriptor, OciError> {
        let index = self.read_index(limits)?;
        let named = |descriptor: &&Descriptor| match selector {
            Selector::Tag(tag) => descriptor.annotations.get(REF_NAME).is_some_and(|name| name == tag.as_str()),
            Selector::Digest(digest) => descriptor.digest == *digest,
        };
        if let Some(found) = index.manifests.iter().find(named) {
            return Ok(found.bare());
        }
        match selector {
            Selector::Digest(digest) => self.find_child(&index, digest, limits),
            Selector::Tag(tag) => Err(OciError::NotFound { what: format!("tag {tag}"), location: self.location() }),
        }
    }

    /// A manifest that only an index of this layout names.
    fn find_child(&self, index: &Index, digest: &Digest, limits: &Limits) -> Result<Descriptor, OciError> {
        for descriptor in index.manifests.iter().filter(|d| crate::core::media_type::is_index(&d.media_type)) {
            let bytes = self.read_document(descriptor, limits)?;
            let document = Document::parse(&descriptor.media_type, &bytes, limits)?;
            if let Some(child) = document.children().into_iter().find(|child| child.digest == *digest) {
                return Ok(child.bare());
            }
        }
        Err(OciError::NotFound { what: digest.to_string(), location: self.location() })
    }

    /// Changes `index.json` while nobody else does.
    fn change_index(&self, change: impl FnOnce(&mut Vec<Descriptor>)) -> Result<(), OciError> {
        let marker = self.0.root.join(MARKER_FILE);
        let guard = File::open(&marker).map_err(|cause| storage(&marker, cause))?;
        guard.lock().map_err(|cause| storage(&marker, cause))?;
        let path = self.0.root.join(INDEX_FILE);
        let before = fs::read(&path).ok();
        let mut index = self.read_index(&Limits::DEFAULT)?;
        change(&mut index.manifests);
        self.added(|added| {
            added.index_before.get_or_insert(before);
        });
        self.write_file(INDEX_FILE, &to_json(&index))
    }

    fn write_file(&self, name: &str, bytes: &[u8]) -> Result<(), OciError> {
        let path = self.0.root.join(name);
        let mut file = temporary(&self.0.root)?;
        file.write_all(bytes).map_err(|cause| storage(&path, cause))?;
        persist(file, &path)
    }

    fn added<T>(&self, act: impl FnOnce(&mut Added) -> T) -> T {
        act(&mut self.0.added.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Source for LayoutTarget {
    fn location(&self) -> String {
        self.0.name.clone()
    }

    async fn resolve(&self, selector: &Selector, limits: &Limits) -> Result<Resolved, OciError> {
        let descriptor = self.find(selector, limits)?;
        let bytes = self.read_document(&descriptor, limits)?;
        Ok(Resolved { descriptor, bytes })
    }

    async fn open(&self, descriptor: &Descriptor) -> Result<Reader, OciError> {
        let path = self.path_of(&descriptor.digest);
        let file = tokio::fs::File::open(&path).await.map_err(|cause| self.missing(&descriptor.digest, &path, cause))?;
        let length = file.metadata().await.map_err(|cause| storage(&path, cause))?.len();
        if length != descriptor.size {
            return Err(OciError::SizeMismatch { digest: descriptor.digest.to_string(), expected: descriptor.size, actual: length.to_string() });
        }
        Ok(Box::new(VerifyReader::new(file, descriptor)))
    }

    async fn referrers(&self, subject: &Descriptor, limits: &Limits) -> Result<Vec<Descriptor>, OciError> {
        let mut found = Vec::new();
        let index = self.read_index(limits)?;
        let fallback = subject.digest.fallback_tag();
        for descriptor in index.manifests.into_iter().filter(Descriptor::is_document) {
            let is_fallback = descriptor.annotations.get(REF_NAME) == Some(&fallback);
            let bytes = self.read_document(&descriptor, limits)?;
            let document = Document::parse(&descriptor.media_type, &bytes, limits)?;
            match document {
                Document::Index(list) if is_fallback => found.extend(list.manifests),
                document if document.subject().is_some_and(|s| s.digest == subject.digest) => found.push(described(&descriptor, &document)),
                _ => {}
            }
        }
        found.sort_by_key(|descriptor| descriptor.digest);
        found.dedup_by_key(|descriptor| descriptor.digest);
        if found.len() > limits.referrers_listed {
            return Err(OciError::TooManyReferrers { subject: subject.digest.to_string(), limit: limits.referrers_listed });
        }
        Ok(found)
    }
}

#[async_trait]
impl Target for LayoutTarget {
    async fn exists(&self, descriptor: &Descriptor) -> Result<bool, OciError> {
        Ok(fs::metadata(self.path_of(&descriptor.digest)).is_ok_and(|file| file.len() == descriptor.size))
    }

    async fn push(&self, descriptor: &Descriptor, content: Content<'_>) -> Result<(), OciError> {
        let mut reader = content.open(descriptor).await?;
        let mut writer = self.writer()?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = reader.read(&mut buffer).await.map_err(|e| OciError::from_stream(e, &self.location()))?;
            if count == 0 {
                break;
            }
            writer.write_all(&buffer[..count]).map_err(|cause| storage(&self.0.root, cause))?;
        }
        writer.commit()?;
        if descriptor.is_document() {
            self.list_if_referrer(descriptor)?;
        }
        Ok(())
    }

    async fn tag(&self, descriptor: &Descriptor, tag: &Tag) -> Result<(), OciError> {
        let named = Descriptor { annotations: Annotations::from([(REF_NAME.to_owned(), tag.to_string())]), ..descriptor.bare() };
        self.change_index(|manifests| {
            manifests.retain(|entry| entry.annotations.get(REF_NAME).is_none_or(|name| name != tag.as_str()));
            manifests.push(named);
        })
    }

    async fn finish(&self) -> Result<(), OciError> {
        self.added(|added| *added = Added::default());
        Ok(())
    }
}

impl LayoutTarget {
    fn list_if_referrer(&self, descriptor: &Descriptor) -> Result<(), OciError> {
        let bytes = self.read_document(descriptor, &Limits::DEFAULT)?;
        let document = Document::parse(&descriptor.media_type, &bytes, &Limits::DEFAULT)?;
        if document.subject().is_none() {
            return Ok(());
        }
        let listed = described(descriptor, &document);
        self.change_index(|manifests| {
            if !manifests.iter().any(|entry| entry.digest == listed.digest) {
                manifests.push(listed);
            }
        })
    }
}

impl Store for LayoutTarget {
    fn writer(&self) -> Result<Box<dyn BlobWriter>, OciError> {
        let folder = self.0.root.join("blobs/sha256");
        fs::create_dir_all(&folder).map_err(|cause| storage(&folder, cause))?;
        Ok(Box::new(LayoutWriter { layout: self.clone(), file: temporary(&folder)?, hasher: Hasher::new(), size: 0 }))
    }
}

struct LayoutWriter {
    layout: LayoutTarget,
    file: tempfile::NamedTempFile,
    hasher: Hasher,
    size: u64,
}

impl Write for LayoutWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl BlobWriter for LayoutWriter {
    fn commit(self: Box<Self>) -> Result<(Digest, u64), OciError> {
        let Self { layout, file, hasher, size } = *self;
        let digest = hasher.finish();
        let path = layout.path_of(&digest);
        if !path.exists() {
            layout.added(|added| added.blobs.insert(path.clone()));
        }
        persist(file, &path)?;
        Ok((digest, size))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let added = std::mem::take(self.added.get_mut().unwrap_or_else(PoisonError::into_inner));
        if added.root {
            let _ = fs::remove_dir_all(&self.root);
            return;
        }
        if let Some(Some(before)) = added.index_before {
            let _ = fs::write(self.root.join(INDEX_FILE), before);
        }
        for blob in added.blobs {
            let _ = fs::remove_file(blob);
        }
    }
}

/// A referrer's descriptor as the referrers API would list it (distribution-spec 1.1, "Listing Referrers").
fn described(descriptor: &Descriptor, document: &Document) -> Descriptor {
    Descriptor { artifact_type: document.artifact_type().map(Into::into), annotations: document.annotations().clone(), ..descriptor.bare() }
}

fn check(bytes: &[u8], descriptor: &Descriptor) -> Result<(), OciError> {
    if bytes.len() as u64 != descriptor.size {
        let actual = if bytes.len() as u64 > descriptor.size { "more".into() } else { bytes.len().to_string() };
        return Err(OciError::SizeMismatch { digest: descriptor.digest.to_string(), expected: descriptor.size, actual });
    }
    let actual = Digest::of(bytes);
    if actual == descriptor.digest {
        Ok(())
    } else {
        Err(OciError::DigestMismatch { expected: descriptor.digest.to_string(), actual: actual.to_string() })
    }
}

fn temporary(folder: &Path) -> Result<tempfile::NamedTempFile, OciError> {
    use std::os::unix::fs::PermissionsExt;
    let permissions = fs::Permissions::from_mode(0o644);
    tempfile::Builder::new().prefix(".packgate-").permissions(permissions).tempfile_in(folder).map_err(|cause| storage(folder, cause))
}

fn persist(file: tempfile::NamedTempFile, path: &Path) -> Result<(), OciError> {
    file.persist(path).map_err(|e| storage(path, e.error))?;
    Ok(())
}

fn to_json(index: &Index) -> Vec<u8> {
    serde_json::to_vec(index).unwrap_or_default()
}

fn storage(path: &Path, cause: std::io::Error) -> OciError {
    OciError::Storage { path: path.display().to_string(), cause }
}
