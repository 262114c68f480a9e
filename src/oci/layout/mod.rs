//! An OCI image layout on disk (image-spec 1.1, image-layout.md).
//!
//! What a run writes is visible to itself at once and to others when [`Target::finish`] is called:
//! blobs by rename, so a blob that is there is complete, then `index.json`. A run that fails leaves
//! nothing behind, and runs at the same time lose nothing of each other.

mod index;
mod staging;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    fs::File,
    io::{ErrorKind, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, BufReader, copy_buf, sink};

use self::{
    index::Change,
    staging::{Staging, open_plain, read_index, read_small, storage},
};
use super::{
    BlobWriter, Content, OciError, Reader, Resolved, Source, Store, Target,
    verify_stream::VerifyReader,
};
use crate::core::{
    digest::{Digest, Hasher},
    limits::Limits,
    media_type,
    oci::{
        Descriptor, Document, Index,
        layout::{INDEX_FILE, MARKER_FILE, REF_NAME},
    },
    reference::{Selector, Tag},
};

/// Bytes of the file `oci-layout`; it has 30.
const MAX_MARKER: usize = 4 << 10;
/// Indexes in indexes that a digest is looked for in.
const MAX_DEPTH: usize = 4;

/// An OCI image layout. Clones are the same layout.
#[doc(alias = "OCIBundleHandler")]
#[derive(Clone)]
pub struct LayoutTarget(Arc<Inner>);

struct Inner {
    root: PathBuf,
    name: String,
    staging: Mutex<Staging>,
}

impl LayoutTarget {
    /// A layout to read, and perhaps to add to. Errors: [`OciError::NotFound`] if there is none,
    /// [`OciError::Malformed`] if it is none.
    pub fn open(path: &str) -> Result<Self, OciError> {
        Self::open_as(path, format!("oci:{path}"))
    }

    /// The same, under another name for people.
    pub(super) fn open_as(path: &str, name: String) -> Result<Self, OciError> {
        let root = PathBuf::from(path);
        check_marker(&root, &name)?;
        Ok(Self::new(root.clone(), name, Staging::new(root)))
    }

    /// A layout to write to; made if there is none. Errors: [`OciError::Invalid`] if something else
    /// is in the way.
    pub fn open_or_create(path: &str) -> Result<Self, OciError> {
        Self::open_or_create_as(path, format!("oci:{path}"))
    }

    /// The same, under another name for people.
    pub(super) fn open_or_create_as(path: &str, name: String) -> Result<Self, OciError> {
        let root = PathBuf::from(path);
        let staging = Staging::create(&root)?;
        if !staging.is_fresh() {
            check_marker(&root, &name)?;
        }
        Ok(Self::new(root, name, staging))
    }

    fn new(root: PathBuf, name: String, staging: Staging) -> Self {
        Self(Arc::new(Inner {
            root,
            name,
            staging: Mutex::new(staging),
        }))
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    fn staging(&self) -> MutexGuard<'_, Staging> {
        self.0
            .staging
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// `index.json` as it will be.
    fn read_index(&self, limits: &Limits) -> Result<Index, OciError> {
        let staging = self.staging();
        let bytes = read_index(&self.0.root)?;
        let location = self.index_name();
        if bytes.is_none() && !staging.is_fresh() {
            return Err(OciError::Malformed {
                location,
                cause: "the layout has none".into(),
            });
        }
        index::read(bytes.as_deref(), staging.changes(), limits, &location)
    }

    fn index_name(&self) -> String {
        format!("{}/{INDEX_FILE}", self.0.name)
    }

    /// Opens a blob's file, and says how long it is.
    fn open_blob(&self, digest: &Digest) -> Result<(File, u64), OciError> {
        let path = self.staging().path_of(digest);
        let missing = |error| match error {
            OciError::Storage { cause, .. } if cause.kind() == ErrorKind::NotFound => {
                OciError::NotFound {
                    what: digest.to_string(),
                    location: self.location(),
                }
            }
            other => other,
        };
        let file = open_plain(&path).map_err(missing)?;
        let length = file
            .metadata()
            .map_err(|cause| storage(&path, cause))?
            .len();
        Ok((file, length))
    }

    fn read_document(&self, descriptor: &Descriptor, limits: &Limits) -> Result<Bytes, OciError> {
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
        // One byte more, so that a longer file shows.
        file.take(size as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|cause| storage(&self.0.root, cause))?;
        check(&bytes, descriptor)?;
        Ok(bytes.into())
    }

    fn parse(&self, descriptor: &Descriptor, limits: &Limits) -> Result<Document, OciError> {
        Ok(Document::parse(
            &descriptor.media_type,
            &self.read_document(descriptor, limits)?,
            limits,
        )?)
    }

    fn find(&self, selector: &Selector, limits: &Limits) -> Result<Descriptor, OciError> {
        let index = self.read_index(limits)?;
        match selector {
            Selector::Digest(digest) => self.find_digest(index, digest, limits),
            Selector::Tag(tag) => self.find_tag(&index, tag),
        }
    }

    /// A tag that two entries carry has two meanings, depending on who reads it.
    fn find_tag(&self, index: &Index, tag: &Tag) -> Result<Descriptor, OciError> {
        let is_named = |entry: &&Descriptor| {
            entry
                .annotations
                .get(REF_NAME)
                .is_some_and(|name| name == tag.as_str())
        };
        let mut named = index.manifests.iter().filter(is_named);
        let first = named.next().ok_or_else(|| OciError::NotFound {
            what: format!("tag {tag}"),
            location: self.location(),
        })?;
        match named.find(|other| other.digest != first.digest) {
            Some(other) => {
                let cause = format!(
                    "tag {tag} names both {} and {}; say the digest",
                    first.digest, other.digest
                );
                Err(OciError::Malformed {
                    location: self.location(),
                    cause,
                })
            }
            None => Ok(first.bare()),
        }
    }

    /// What the layout's index names, or an index below it. One that cannot be read hides what it
    /// alone names, and nothing else.
    fn find_digest(
        &self,
        index: Index,
        digest: &Digest,
        limits: &Limits,
    ) -> Result<Descriptor, OciError> {
        let mut seen = HashSet::new();
        let mut queue: VecDeque<(Descriptor, usize)> = index
            .manifests
            .into_iter()
            .map(|entry| (entry, 0))
            .collect();
        while let Some((entry, depth)) = queue.pop_front() {
            if entry.digest == *digest {
                return Ok(entry.bare());
            }
            if media_type::is_index(&entry.media_type)
                && depth < MAX_DEPTH
                && seen.insert(entry.digest)
                && let Ok(Document::Index(inner)) = self.parse(&entry, limits)
            {
                queue.extend(inner.manifests.into_iter().map(|child| (child, depth + 1)));
            }
        }
        Err(OciError::NotFound {
            what: digest.to_string(),
            location: self.location(),
        })
    }

    /// What an entry of the index has to do with `subject`.
    fn judge(
        &self,
        entry: &Descriptor,
        is_fallback: bool,
        subject: &Digest,
        limits: &Limits,
    ) -> Result<Relation, OciError> {
        match self.parse(entry, limits) {
            Ok(Document::Index(list)) if is_fallback => Ok(Relation::Lists(list.manifests)),
            Ok(document)
                if document
                    .subject()
                    .is_some_and(|named| named.digest == *subject) =>
            {
                Ok(Relation::Refers(described(entry, &document)))
            }
            Ok(_) => Ok(Relation::None),
            // Nobody can say what it refers to, so it is listed: who opens it finds out what is
            // wrong with it.
            Err(
                OciError::NotFound { .. }
                | OciError::SizeMismatch { .. }
                | OciError::LimitExceeded { .. }
                | OciError::Manifest(_),
            ) => Ok(Relation::Refers(entry.bare())),
            Err(error) => Err(error),
        }
    }

    fn list_if_referrer(&self, descriptor: &Descriptor) -> Result<(), OciError> {
        let document = self.parse(descriptor, &Limits::DEFAULT)?;
        if document.subject().is_some() {
            self.staging()
                .change(Change::List(described(descriptor, &document)));
        }
        Ok(())
    }
}

/// What an entry of `index.json` has to do with a subject.
enum Relation {
    None,
    Refers(Descriptor),
    /// It is the index under the fallback tag, and lists these.
    Lists(Vec<Descriptor>),
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
        let (file, length) = self.open_blob(&descriptor.digest)?;
        if length != descriptor.size {
            return Err(OciError::SizeMismatch {
                digest: descriptor.digest.to_string(),
                expected: descriptor.size,
                actual: length.to_string(),
            });
        }
        Ok(Box::new(VerifyReader::new(
            tokio::fs::File::from_std(file),
            descriptor,
        )))
    }

    async fn referrers(
        &self,
        subject: &Descriptor,
        limits: &Limits,
    ) -> Result<Vec<Descriptor>, OciError> {
        let (mut found, mut claimed) = (Vec::new(), Vec::new());
        // An index may name one document a million times; it is read once.
        let mut seen = BTreeSet::new();
        let fallback = subject.digest.fallback_tag();
        for entry in self
            .read_index(limits)?
            .manifests
            .into_iter()
            .filter(Descriptor::is_document)
        {
            let is_fallback = entry.annotations.get(REF_NAME) == Some(&fallback);
            if !seen.insert((entry.digest, is_fallback)) {
                continue;
            }
            match self.judge(&entry, is_fallback, &subject.digest, limits)? {
                Relation::None => {}
                Relation::Refers(referrer) => found.push(referrer),
                Relation::Lists(list) => claimed.extend(list),
            }
        }
        // What was opened comes first, so that it counts where both speak of the same digest.
        found.extend(claimed);
        found.sort_by_key(|descriptor| descriptor.digest);
        found.dedup_by_key(|descriptor| descriptor.digest);
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
impl Target for LayoutTarget {
    /// Reads it, because a damaged blob is to be replaced and not to be relied on.
    async fn exists(&self, descriptor: &Descriptor) -> Result<bool, OciError> {
        let read = match self.open(descriptor).await {
            Ok(reader) => {
                let mut reader = BufReader::with_capacity(256 << 10, reader);
                copy_buf(&mut reader, &mut sink())
                    .await
                    .map_err(|e| OciError::from_stream(e, &self.location()))
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

    async fn push(&self, descriptor: &Descriptor, content: Content<'_>) -> Result<(), OciError> {
        let mut reader = content.open(descriptor).await?;
        let mut writer = self.writer()?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = reader
                .read(&mut buffer)
                .await
                .map_err(|e| OciError::from_stream(e, &self.location()))?;
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
                break;
            };
            writer
                .write_all(bytes)
                .map_err(|cause| storage(&self.0.root, cause))?;
        }
        writer.commit()?;
        if descriptor.is_document() {
            self.list_if_referrer(descriptor)
        } else {
            Ok(())
        }
    }

    async fn tag(&self, descriptor: &Descriptor, tag: &Tag) -> Result<(), OciError> {
        self.staging()
            .change(Change::Tag(descriptor.bare(), tag.clone()));
        Ok(())
    }

    async fn finish(&self) -> Result<(), OciError> {
        self.staging().publish(&self.index_name())
    }
}

impl Store for LayoutTarget {
    fn writer(&self) -> Result<Box<dyn BlobWriter>, OciError> {
        let file = self.staging().file()?;
        Ok(Box::new(LayoutWriter {
            layout: self.clone(),
            file,
            hasher: Hasher::new(),
            size: 0,
        }))
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
        self.hasher.update(bytes.get(..count).unwrap_or(bytes));
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl BlobWriter for LayoutWriter {
    fn commit(self: Box<Self>) -> Result<(Digest, u64), OciError> {
        let Self {
            layout,
            file,
            hasher,
            size,
        } = *self;
        let digest = hasher.finish();
        layout.staging().keep(file, digest)?;
        Ok((digest, size))
    }
}

fn check_marker(root: &Path, name: &str) -> Result<(), OciError> {
    let marker = read_small(&root.join(MARKER_FILE), MAX_MARKER)?;
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
        cause: "oci-layout does not say imageLayoutVersion 1.0.0".into(),
    })
}

/// A referrer's descriptor as the referrers API would list it (distribution-spec 1.1, "Listing
/// Referrers").
fn described(descriptor: &Descriptor, document: &Document) -> Descriptor {
    Descriptor {
        artifact_type: document.artifact_type().map(Into::into),
        annotations: document.annotations().clone(),
        ..descriptor.bare()
    }
}

fn check(bytes: &[u8], descriptor: &Descriptor) -> Result<(), OciError> {
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
    let actual = Digest::of(bytes);
    if actual == descriptor.digest {
        Ok(())
    } else {
        Err(OciError::DigestMismatch {
            expected: descriptor.digest.to_string(),
            actual: actual.to_string(),
        })
    }
}
