//! A target in memory: a real implementation, for tests and for content that never needs a disk.

use std::{
    collections::BTreeMap,
    io::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncReadExt;

use super::{
    BlobWriter, ContentReader, ContentSource, ContentTarget, LocalContentStore, OciError,
    PushContent, ResolvedManifest, verify_stream::DigestVerifyingReader,
};
use crate::core::{
    digest::Digest,
    limits::InputLimits,
    oci::{Descriptor, ManifestOrIndex},
    reference::{ImageTag, TagOrDigest},
};

/// Blobs, manifests and tags in memory. Clones share their content.
#[derive(Clone, Default)]
pub struct MemoryTarget(Arc<Mutex<MemoryTargetContents>>);

#[derive(Default)]
struct MemoryTargetContents {
    blobs: BTreeMap<Digest, Bytes>,
    documents: BTreeMap<Digest, Descriptor>,
    tags: BTreeMap<ImageTag, Digest>,
}

impl MemoryTarget {
    /// An empty target.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock_contents(&self) -> MutexGuard<'_, MemoryTargetContents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find_blob(&self, digest: &Digest) -> Result<Bytes, OciError> {
        self.lock_contents()
            .blobs
            .get(digest)
            .cloned()
            .ok_or_else(|| OciError::NotFound {
                what: digest.to_string(),
                location: self.location(),
            })
    }
}

#[async_trait]
impl ContentSource for MemoryTarget {
    fn location(&self) -> String {
        "memory".into()
    }

    async fn resolve_manifest(
        &self,
        selector: &TagOrDigest,
        _: &InputLimits,
    ) -> Result<ResolvedManifest, OciError> {
        let content = self.lock_contents();
        let digest = match selector {
            TagOrDigest::Digest(digest) => Some(*digest),
            TagOrDigest::Tag(tag) => content.tags.get(tag).copied(),
        };
        let found = digest.and_then(|d| {
            Some(ResolvedManifest {
                descriptor: content.documents.get(&d)?.clone(),
                bytes: content.blobs.get(&d)?.clone(),
            })
        });
        found.ok_or_else(|| OciError::NotFound {
            what: selector.to_string(),
            location: "memory".into(),
        })
    }

    async fn open_content(&self, descriptor: &Descriptor) -> Result<ContentReader, OciError> {
        let bytes = self.find_blob(&descriptor.digest)?;
        Ok(Box::new(DigestVerifyingReader::new(
            std::io::Cursor::new(bytes),
            descriptor,
        )))
    }

    async fn list_referrers(
        &self,
        subject: &Descriptor,
        limits: &InputLimits,
    ) -> Result<Vec<Descriptor>, OciError> {
        let content = self.lock_contents();
        let refers = |descriptor: &&Descriptor| {
            let bytes = content.blobs.get(&descriptor.digest);
            let document = bytes.and_then(|bytes| {
                ManifestOrIndex::parse(&descriptor.media_type, bytes, &InputLimits::DEFAULT).ok()
            });
            document.is_some_and(|d| d.subject().is_some_and(|s| s.digest == subject.digest))
        };
        let found: Vec<Descriptor> = content.documents.values().filter(refers).cloned().collect();
        if found.len() > limits.referrers_listed {
            return Err(OciError::TooManyReferrers {
                subject: subject.digest.to_string(),
                limit: limits.referrers_listed,
            });
        }
        Ok(found)
    }
}

#[async_trait]
impl ContentTarget for MemoryTarget {
    async fn content_exists(&self, descriptor: &Descriptor) -> Result<bool, OciError> {
        Ok(self.lock_contents().blobs.contains_key(&descriptor.digest))
    }

    async fn push_content(
        &self,
        descriptor: &Descriptor,
        content: PushContent<'_>,
    ) -> Result<(), OciError> {
        let mut bytes = Vec::new();
        content
            .open_reader(descriptor)
            .await?
            .read_to_end(&mut bytes)
            .await
            .map_err(|e| OciError::from_io_error(e, "memory"))?;
        let mut inner = self.lock_contents();
        inner.blobs.insert(descriptor.digest, bytes.into());
        if descriptor.is_manifest_or_index() {
            inner
                .documents
                .insert(descriptor.digest, descriptor.without_metadata());
        }
        Ok(())
    }

    async fn tag_manifest(&self, descriptor: &Descriptor, tag: &ImageTag) -> Result<(), OciError> {
        self.lock_contents()
            .tags
            .insert(tag.clone(), descriptor.digest);
        Ok(())
    }
}

impl LocalContentStore for MemoryTarget {
    fn new_blob_writer(&self) -> Result<Box<dyn BlobWriter>, OciError> {
        Ok(Box::new(MemoryBlobWriter {
            target: self.clone(),
            bytes: Vec::new(),
        }))
    }
}

struct MemoryBlobWriter {
    target: MemoryTarget,
    bytes: Vec<u8>,
}

impl Write for MemoryBlobWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl BlobWriter for MemoryBlobWriter {
    fn commit_blob(self: Box<Self>) -> Result<(Digest, u64), OciError> {
        let (digest, size) = (Digest::of_bytes(&self.bytes), self.bytes.len() as u64);
        self.target
            .lock_contents()
            .blobs
            .insert(digest, self.bytes.into());
        Ok((digest, size))
    }
}
