//! An OCI image layout on disk (image-spec 1.1, image-layout.md).
//!
//! Writes are visible to the same process immediately and to others when
//! [`ContentTarget::commit_changes`] is called: blobs by rename, so an existing blob is complete,
//! then `index.json`. A process that fails leaves nothing behind, and concurrent processes lose
//! none of each other's changes.

mod index;
mod lookup;
mod referrers;
mod staging;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, BufReader, copy_buf, sink};

use self::{
    index::IndexChange,
    staging::{LayoutStaging, open_regular_file, read_bounded, read_index, storage_error},
};
use super::{
    BlobWriter, ContentReader, ContentSource, ContentTarget, LocalContentStore, OciError,
    PushContent, ResolvedManifest, verify_stream::DigestVerifyingReader,
};
use crate::core::{
    digest::{Digest, DigestHasher},
    limits::InputLimits,
    oci::{
        Descriptor, ImageIndex, ManifestOrIndex,
        layout::{INDEX_FILE, MARKER_FILE},
    },
    reference::{ImageTag, TagOrDigest},
};

/// The maximum size in bytes of the file `oci-layout`; it has 30.
const MAX_MARKER: usize = 4 << 10;

/// An OCI image layout. Clones are the same layout.
#[doc(alias = "OCIBundleHandler")]
#[derive(Clone)]
pub struct OciLayoutTarget(Arc<OciLayoutState>);

struct OciLayoutState {
    root: PathBuf,
    name: String,
    staging: Mutex<LayoutStaging>,
}

impl OciLayoutTarget {
    /// Opens a layout to read and to add to. Errors: [`OciError::NotFound`] if the folder does not
    /// exist, [`OciError::Malformed`] if it is not a layout.
    pub fn open_layout(path: &str) -> Result<Self, OciError> {
        Self::open_as(path, format!("oci:{path}"))
    }

    /// The same, with another name in messages.
    pub(super) fn open_as(path: &str, name: String) -> Result<Self, OciError> {
        let root = PathBuf::from(path);
        check_marker(&root, &name)?;
        Ok(Self::new(root.clone(), name, LayoutStaging::new(root)))
    }

    /// Opens a layout for writing; creates it if it does not exist. Errors: [`OciError::Invalid`]
    /// if there is something else at the path.
    pub fn open_or_create(path: &str) -> Result<Self, OciError> {
        Self::open_or_create_as(path, format!("oci:{path}"))
    }

    /// The same, with another name in messages.
    pub(super) fn open_or_create_as(path: &str, name: String) -> Result<Self, OciError> {
        let root = PathBuf::from(path);
        let staging = LayoutStaging::create_layout(&root)?;
        if !staging.is_fresh() {
            check_marker(&root, &name)?;
        }
        Ok(Self::new(root, name, staging))
    }

    fn new(root: PathBuf, name: String, staging: LayoutStaging) -> Self {
        Self(Arc::new(OciLayoutState {
            root,
            name,
            staging: Mutex::new(staging),
        }))
    }

    /// The folder of the layout.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    fn lock_staging(&self) -> MutexGuard<'_, LayoutStaging> {
        self.0
            .staging
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// `index.json` with the pending changes.
    fn read_index(&self, limits: &InputLimits) -> Result<ImageIndex, OciError> {
        let staging = self.lock_staging();
        let bytes = read_index(&self.0.root)?;
        let location = self.index_name();
        if bytes.is_none() && !staging.is_fresh() {
            return Err(OciError::Malformed {
                location,
                cause: "the layout has no index.json".into(),
            });
        }
        index::parse_updated_index(
            bytes.as_deref(),
            staging.pending_changes(),
            limits,
            &location,
        )
    }

    fn index_name(&self) -> String {
        format!("{}/{INDEX_FILE}", self.0.name)
    }

    /// Opens a blob's file, and returns its size.
    fn open_blob(&self, digest: &Digest) -> Result<(File, u64), OciError> {
        let path = self.lock_staging().path_of(digest);
        let missing = |error| match error {
            OciError::Storage { cause, .. } if cause.kind() == ErrorKind::NotFound => {
                OciError::NotFound {
                    what: digest.to_string(),
                    location: self.location(),
                }
            }
            other => other,
        };
        let file = open_regular_file(&path).map_err(missing)?;
        let length = file
            .metadata()
            .map_err(|cause| storage_error(&path, cause))?
            .len();
        Ok((file, length))
    }

    fn read_document(
        &self,
        descriptor: &Descriptor,
        limits: &InputLimits,
    ) -> Result<Bytes, OciError> {
        let too_large = || OciError::LimitExceeded {
            what: descriptor.digest.to_string(),
            size: descriptor.size,
            limit: limits.manifest_bytes as u64,
        };
        let size = usize::try_from(descriptor.size)
            .ok()
            .filter(|size| *size <= limits.manifest_bytes)
            .ok_or_else(too_large)?;
        let (file, _) = self.open_blob(&descriptor.digest)?;
        let mut bytes = Vec::with_capacity(size);
        // One byte more, to detect a longer file.
        file.take(size as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|cause| storage_error(&self.0.root, cause))?;
        verify_content(&bytes, descriptor)?;
        Ok(bytes.into())
    }

    fn read_and_parse(
        &self,
        descriptor: &Descriptor,
        limits: &InputLimits,
    ) -> Result<ManifestOrIndex, OciError> {
        Ok(ManifestOrIndex::parse(
            &descriptor.media_type,
            &self.read_document(descriptor, limits)?,
            limits,
        )?)
    }
}

#[async_trait]
impl ContentSource for OciLayoutTarget {
    fn location(&self) -> String {
        self.0.name.clone()
    }

    async fn resolve_manifest(
        &self,
        selector: &TagOrDigest,
        limits: &InputLimits,
    ) -> Result<ResolvedManifest, OciError> {
        let descriptor = self.find_descriptor(selector, limits)?;
        let bytes = self.read_document(&descriptor, limits)?;
        Ok(ResolvedManifest { descriptor, bytes })
    }

    async fn open_content(&self, descriptor: &Descriptor) -> Result<ContentReader, OciError> {
        let (file, length) = self.open_blob(&descriptor.digest)?;
        if length != descriptor.size {
            return Err(OciError::SizeMismatch {
                digest: descriptor.digest.to_string(),
                expected: descriptor.size,
                actual: length.to_string(),
            });
        }
        Ok(Box::new(DigestVerifyingReader::new(
            tokio::fs::File::from_std(file),
            descriptor,
        )))
    }

    async fn list_referrers(
        &self,
        subject: &Descriptor,
        limits: &InputLimits,
    ) -> Result<Vec<Descriptor>, OciError> {
        self.find_referrers(subject, limits)
    }
}

#[async_trait]
impl ContentTarget for OciLayoutTarget {
    /// Reads the content, because a damaged blob has to be replaced.
    async fn content_exists(&self, descriptor: &Descriptor) -> Result<bool, OciError> {
        let read = match self.open_content(descriptor).await {
            Ok(reader) => {
                let mut reader = BufReader::with_capacity(256 << 10, reader);
                copy_buf(&mut reader, &mut sink())
                    .await
                    .map_err(|e| OciError::from_io_error(e, &self.location()))
            }
            Err(error) => Err(error),
        };
        match read {
            Ok(_) => Ok(true),
            Err(
                OciError::NotFound { .. }
                | OciError::SizeMismatch { .. }
                | OciError::DigestMismatch { .. },
            ) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn push_content(
        &self,
        descriptor: &Descriptor,
        content: PushContent<'_>,
    ) -> Result<(), OciError> {
        let mut reader = content.open_reader(descriptor).await?;
        let mut writer = self.new_blob_writer()?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = reader
                .read(&mut buffer)
                .await
                .map_err(|e| OciError::from_io_error(e, &self.location()))?;
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
                break;
            };
            writer
                .write_all(bytes)
                .map_err(|cause| storage_error(&self.0.root, cause))?;
        }
        writer.commit_blob()?;
        if descriptor.is_manifest_or_index() {
            self.list_if_referrer(descriptor)
        } else {
            Ok(())
        }
    }

    async fn tag_manifest(&self, descriptor: &Descriptor, tag: &ImageTag) -> Result<(), OciError> {
        self.lock_staging()
            .record_change(IndexChange::Tag(descriptor.without_metadata(), tag.clone()));
        Ok(())
    }

    async fn commit_changes(&self) -> Result<(), OciError> {
        self.lock_staging().publish_changes(&self.index_name())
    }
}

impl LocalContentStore for OciLayoutTarget {
    fn new_blob_writer(&self) -> Result<Box<dyn BlobWriter>, OciError> {
        let file = self.lock_staging().create_blob_file()?;
        Ok(Box::new(LayoutBlobWriter {
            layout: self.clone(),
            file,
            hasher: DigestHasher::new(),
            size: 0,
        }))
    }
}

struct LayoutBlobWriter {
    layout: OciLayoutTarget,
    file: tempfile::NamedTempFile,
    hasher: DigestHasher,
    size: u64,
}

impl Write for LayoutBlobWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or(bytes));
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl BlobWriter for LayoutBlobWriter {
    fn commit_blob(self: Box<Self>) -> Result<(Digest, u64), OciError> {
        let Self {
            layout,
            file,
            hasher,
            size,
        } = *self;
        let digest = hasher.finish();
        layout.lock_staging().stage_blob(file, digest)?;
        Ok((digest, size))
    }
}

fn check_marker(root: &Path, name: &str) -> Result<(), OciError> {
    let marker = read_bounded(&root.join(MARKER_FILE), MAX_MARKER)?;
    let marker = marker.ok_or_else(|| OciError::NotFound {
        what: "OCI layout".into(),
        location: name.into(),
    })?;
    let version: serde_json::Value = serde_json::from_slice(&marker).unwrap_or_default();
    if version["imageLayoutVersion"] == "1.0.0" {
        return Ok(());
    }
    Err(OciError::Malformed {
        location: name.into(),
        cause: "oci-layout does not declare imageLayoutVersion 1.0.0".into(),
    })
}

fn verify_content(bytes: &[u8], descriptor: &Descriptor) -> Result<(), OciError> {
    if bytes.len() as u64 != descriptor.size {
        let actual = if bytes.len() as u64 > descriptor.size {
            "more".into()
        } else {
            bytes.len().to_string()
        };
        return Err(OciError::SizeMismatch {
            digest: descriptor.digest.to_string(),
            expected: descriptor.size,
            actual,
        });
    }
    let actual = Digest::of_bytes(bytes);
    if actual == descriptor.digest {
        Ok(())
    } else {
        Err(OciError::DigestMismatch {
            expected: descriptor.digest.to_string(),
            actual: actual.to_string(),
        })
    }
}
