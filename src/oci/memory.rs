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
    BlobWriter, Content, OciError, Reader, Resolved, Source, Store, Target,
    verify_stream::VerifyReader,
};
use crate::core::{
    digest::Digest,
    limits::Limits,
    oci::{Descriptor, Document},
    reference::{Selector, Tag},
};

/// Blobs, manifests and tags in memory. Clones share their content.
#[derive(Clone, Default)]
pub struct MemoryTarget(Arc<Mutex<Inventory>>);

#[derive(Default)]
struct Inventory {
    blobs: BTreeMap<Digest, Bytes>,
    documents: BTreeMap<Digest, Descriptor>,
    tags: BTreeMap<Tag, Digest>,
}

impl MemoryTarget {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inventory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn blob(&self, digest: &Digest) -> Result<Bytes, OciError> {
        self.lock()
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
impl Source for MemoryTarget {
    fn location(&self) -> String {
        "memory".into()
    }

    async fn resolve(&self, selector: &Selector, _: &Limits) -> Result<Resolved, OciError> {
        let content = self.lock();
        let digest = match selector {
            Selector::Digest(digest) => Some(*digest),
            Selector::Tag(tag) => content.tags.get(tag).copied(),
        };
        let found = digest.and_then(|d| {
            Some(Resolved {
                descriptor: content.documents.get(&d)?.clone(),
                bytes: content.blobs.get(&d)?.clone(),
            })
        });
        found.ok_or_else(|| OciError::NotFound {
            what: selector.to_string(),
            location: "memory".into(),
        })
    }

    async fn open(&self, descriptor: &Descriptor) -> Result<Reader, OciError> {
        let bytes = self.blob(&descriptor.digest)?;
        Ok(Box::new(VerifyReader::new(
            std::io::Cursor::new(bytes),
            descriptor,
        )))
    }

    async fn referrers(
        &self,
        subject: &Descriptor,
        limits: &Limits,
    ) -> Result<Vec<Descriptor>, OciError> {
        let content = self.lock();
        let refers = |descriptor: &&Descriptor| {
            let bytes = content.blobs.get(&descriptor.digest);
            let document = bytes.and_then(|bytes| {
                Document::parse(&descriptor.media_type, bytes, &Limits::DEFAULT).ok()
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
impl Target for MemoryTarget {
    async fn exists(&self, descriptor: &Descriptor) -> Result<bool, OciError> {
        Ok(self.lock().blobs.contains_key(&descriptor.digest))
    }

    async fn push(&self, descriptor: &Descriptor, content: Content<'_>) -> Result<(), OciError> {
        let mut bytes = Vec::new();
        content
            .open(descriptor)
            .await?
            .read_to_end(&mut bytes)
            .await
            .map_err(|e| OciError::from_stream(e, "memory"))?;
        let mut inner = self.lock();
        inner.blobs.insert(descriptor.digest, bytes.into());
        if descriptor.is_document() {
            inner.documents.insert(descriptor.digest, descriptor.bare());
        }
        Ok(())
    }

    async fn tag(&self, descriptor: &Descriptor, tag: &Tag) -> Result<(), OciError> {
        self.lock().tags.insert(tag.clone(), descriptor.digest);
        Ok(())
    }
}

impl Store for MemoryTarget {
    fn writer(&self) -> Result<Box<dyn BlobWriter>, OciError> {
        Ok(Box::new(MemoryWriter {
            target: self.clone(),
            bytes: Vec::new(),
        }))
    }
}

struct MemoryWriter {
    target: MemoryTarget,
    bytes: Vec<u8>,
}

impl Write for MemoryWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl BlobWriter for MemoryWriter {
    fn commit(self: Box<Self>) -> Result<(Digest, u64), OciError> {
        let (digest, size) = (Digest::of(&self.bytes), self.bytes.len() as u64);
        self.target.lock().blobs.insert(digest, self.bytes.into());
        Ok((digest, size))
    }
}
