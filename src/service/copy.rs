//! Copies a bundle with everything that it refers to: push and pull are this one function in two
//! directions.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future::BoxFuture, stream};

use super::{cosign_tags, progress::Progress};
use crate::{
    core::{
        cosign_tags::CosignTagKind,
        digest::Digest,
        limits::InputLimits,
        oci::{Descriptor, ManifestOrIndex, platform::PlatformMatchError},
        reason::{ClassifiedError, Reason},
    },
    oci::{
        ContentSource, ContentTarget, OciError, PushContent, ResolvedManifest, UnlistedReferrer,
        fetch_document,
    },
};

/// The number of blobs that are copied concurrently.
const PARALLEL: usize = 4;
/// The number of referrers of one subject that are copied concurrently.
const REFERRERS_AT_ONCE: usize = 8;
/// Levels of documents: an index of manifests, their referrers, and what refers to these.
const MAX_DEPTH: usize = 8;

/// Whether referrers are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferrerCopying {
    /// All of them, at every level, and cosign's tags of the root and of the manifests of an index.
    Included,
    /// None.
    Excluded,
}

/// Why a copy failed.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Reading or writing failed.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// Required content is missing.
    #[error("{root} is not complete: {missing}")]
    Incomplete {
        /// The digest of the root that is copied.
        root: Digest,
        /// The missing content, and where it is missing.
        missing: Box<OciError>,
    },
    /// Documents are nested too deep.
    #[error("{0} is nested too deep")]
    TooDeep(Digest),
    /// The index has no manifest for that platform.
    #[error("{root} has {cause}")]
    NoSuchPlatform {
        /// The digest of the index.
        root: Digest,
        /// What it has.
        cause: PlatformMatchError,
    },
}

impl ClassifiedError for CopyError {
    fn reason(&self) -> Reason {
        match self {
            Self::Oci(error) => error.reason(),
            Self::Incomplete { missing, .. } => missing.reason(),
            Self::TooDeep(_) => Reason::LimitExceeded,
            Self::NoSuchPlatform { .. } => Reason::InvalidSpec,
        }
    }
}

/// Copies `root` and all that it refers to; the root itself last, so that it never exists without
/// its content. Referrers follow, each of them complete.
pub async fn copy_bundle(
    from: &dyn ContentSource,
    to: &dyn ContentTarget,
    root: &ResolvedManifest,
    referrers: ReferrerCopying,
    limits: &InputLimits,
    progress: &dyn Progress,
) -> Result<(), CopyError> {
    let document = root.parse_document(limits)?;
    let job = CopyJob {
        from,
        to,
        root: root.descriptor.digest,
        referrers,
        limits,
        progress,
        seen: Mutex::default(),
        stored: Mutex::default(),
        mounts: AtomicBool::new(true),
    };
    progress.begin_task("copying", None);
    let result = job.copy_all(root, &document).await;
    progress.end_task();
    result
}

/// The manifests that refer to `root` itself, or carry its signatures under cosign's tags: what a
/// copy of one of its platforms leaves behind.
pub async fn list_attached(
    source: &dyn ContentSource,
    root: &Descriptor,
    limits: &InputLimits,
) -> Result<Vec<Digest>, CopyError> {
    let referrers = source.list_referrers(root, limits).await?;
    let mut attached: Vec<Digest> = referrers.iter().map(|found| found.digest).collect();
    for tag in CosignTagKind::ALL {
        let found = cosign_tags::resolve_cosign_tag(source, tag, &root.digest, limits).await?;
        attached.extend(found.map(|found| found.descriptor.digest));
    }
    Ok(attached)
}

struct CopyJob<'a> {
    from: &'a dyn ContentSource,
    to: &'a dyn ContentTarget,
    root: Digest,
    referrers: ReferrerCopying,
    limits: &'a InputLimits,
    progress: &'a dyn Progress,
    /// Documents that were copied, or are being copied.
    seen: Mutex<HashSet<Digest>>,
    /// Blobs that are at the target.
    stored: Mutex<HashSet<Digest>>,
    /// False once the target did not take over a blob from the source's repository.
    mounts: AtomicBool,
}

impl CopyJob<'_> {
    async fn copy_all(
        &self,
        root: &ResolvedManifest,
        document: &ManifestOrIndex,
    ) -> Result<(), CopyError> {
        self.copy_document(&root.descriptor, &root.bytes, document, 0)
            .await?;
        if self.referrers == ReferrerCopying::Excluded {
            return Ok(());
        }
        let manifests = document
            .children()
            .into_iter()
            .filter(|child| child.is_manifest_or_index())
            .map(|child| child.digest);
        let subjects: BTreeSet<Digest> = std::iter::once(root.descriptor.digest)
            .chain(manifests)
            .collect();
        for subject in subjects {
            for tag in CosignTagKind::ALL {
                self.copy_cosign_tag(tag, &subject).await?;
            }
        }
        Ok(())
    }

    /// Copies the manifest that a cosign tag names. Signatures or attestations under that tag at
    /// the target are kept.
    async fn copy_cosign_tag(&self, tag: CosignTagKind, subject: &Digest) -> Result<(), CopyError> {
        let Some(found) =
            cosign_tags::resolve_cosign_tag(self.from, tag, subject, self.limits).await?
        else {
            return Ok(());
        };
        let document = found.parse_document(self.limits)?;
        self.copy_document(&found.descriptor, &found.bytes, &document, 1)
            .await?;
        let there = cosign_tags::resolve_cosign_tag(self.to, tag, subject, self.limits).await?;
        match (there, document) {
            (Some(there), _) if there.descriptor.digest == found.descriptor.digest => Ok(()),
            (Some(_), ManifestOrIndex::Manifest(manifest)) if tag.layer_media_type().is_some() => {
                cosign_tags::add_cosign_layers(
                    self.to,
                    tag,
                    subject,
                    &manifest.layers,
                    self.limits,
                )
                .await?;
                Ok(())
            }
            _ => Ok(self
                .to
                .tag_manifest(&found.descriptor, &tag.tag_for(subject))
                .await?),
        }
    }

    fn copy_document<'f>(
        &'f self,
        descriptor: &'f Descriptor,
        bytes: &'f Bytes,
        document: &'f ManifestOrIndex,
        depth: usize,
    ) -> BoxFuture<'f, Result<(), CopyError>> {
        Box::pin(async move {
            if !self.begin_document(descriptor, depth)? {
                return Ok(());
            }
            self.copy_children(document, depth).await?;
            self.to
                .push_content(&descriptor.without_metadata(), PushContent::Bytes(bytes))
                .await?;
            self.copy_referrers(descriptor, depth).await
        })
    }

    /// False if the document was copied before.
    fn begin_document(&self, descriptor: &Descriptor, depth: usize) -> Result<bool, CopyError> {
        if depth > MAX_DEPTH {
            return Err(CopyError::TooDeep(self.root));
        }
        Ok(lock(&self.seen).insert(descriptor.digest))
    }

    /// Copies what a document consists of.
    async fn copy_children(
        &self,
        document: &ManifestOrIndex,
        depth: usize,
    ) -> Result<(), CopyError> {
        let (documents, blobs): (Vec<_>, Vec<_>) = document
            .children()
            .into_iter()
            .partition(|child| child.is_manifest_or_index());
        for child in documents {
            self.fetch_and_copy(child, depth + 1).await?;
        }
        // Files with equal content are one blob, which two concurrent uploads would send twice.
        // Not `seen`: a blob of one document can be another's referrer.
        let mut once = HashSet::new();
        let pushes: Vec<_> = blobs
            .into_iter()
            .filter(|blob| once.insert(blob.digest))
            .map(|blob| self.copy_blob(blob))
            .collect();
        stream::iter(pushes)
            .buffer_unordered(PARALLEL)
            .try_collect::<Vec<()>>()
            .await
            .map(drop)
    }

    /// Copies all referrers of `subject`, and lists them with one write where the target does not
    /// list them by itself.
    async fn copy_referrers(&self, subject: &Descriptor, depth: usize) -> Result<(), CopyError> {
        if self.referrers == ReferrerCopying::Excluded {
            return Ok(());
        }
        let listed = self.from.list_referrers(subject, self.limits).await?;
        // Referrers of referrers are copied one at a time: their number would multiply.
        let at_once = if depth == 0 { REFERRERS_AT_ONCE } else { 1 };
        let work: Vec<_> = listed
            .iter()
            .map(|referrer| self.copy_referrer(subject, referrer, depth + 1))
            .collect();
        let copied: Vec<Option<UnlistedReferrer>> =
            stream::iter(work).buffered(at_once).try_collect().await?;
        let unlisted = copied.into_iter().flatten().collect();
        Ok(self.to.list_pushed_referrers(unlisted).await?)
    }

    fn copy_referrer<'f>(
        &'f self,
        subject: &'f Descriptor,
        referrer: &'f Descriptor,
        depth: usize,
    ) -> BoxFuture<'f, Result<Option<UnlistedReferrer>, CopyError>> {
        Box::pin(async move {
            if lock(&self.seen).contains(&referrer.digest) {
                return Ok(None);
            }
            let (bytes, document) = fetch_document(self.from, referrer, self.limits)
                .await
                .map_err(|error| self.incomplete_error(error))?;
            // A list is a claim: a manifest with another subject is not copied.
            let refers = document
                .subject()
                .is_some_and(|named| named.digest == subject.digest);
            if !refers || !self.begin_document(referrer, depth)? {
                return Ok(None);
            }
            self.copy_children(&document, depth).await?;
            let content = PushContent::Bytes(&bytes);
            let unlisted = self
                .to
                .push_unlisted(&referrer.without_metadata(), content)
                .await?;
            self.copy_referrers(referrer, depth).await?;
            Ok(unlisted)
        })
    }

    async fn fetch_and_copy(&self, descriptor: &Descriptor, depth: usize) -> Result<(), CopyError> {
        if lock(&self.seen).contains(&descriptor.digest) {
            return Ok(());
        }
        let (bytes, document) = fetch_document(self.from, descriptor, self.limits)
            .await
            .map_err(|error| self.incomplete_error(error))?;
        self.copy_document(descriptor, &bytes, &document, depth)
            .await
    }

    async fn copy_blob(&self, blob: &Descriptor) -> Result<(), CopyError> {
        if lock(&self.stored).contains(&blob.digest) {
            return Ok(());
        }
        if !self.to.content_exists(blob).await? && !self.mount_blob(blob).await? {
            self.to
                .push_content(blob, PushContent::StoredIn(self.from))
                .await
                .map_err(|error| self.incomplete_error(error))?;
        }
        lock(&self.stored).insert(blob.digest);
        self.progress.advance_bytes(blob.size);
        Ok(())
    }

    /// Within one registry no bytes need to be sent.
    async fn mount_blob(&self, blob: &Descriptor) -> Result<bool, CopyError> {
        let (Some(from), Some(to)) = (self.from.repository(), self.to.repository()) else {
            return Ok(false);
        };
        if from.host() != to.host() || from == to || !self.mounts.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let mounted = self.to.mount_blob(blob, from).await?;
        self.mounts.fetch_and(mounted, Ordering::Relaxed);
        Ok(mounted)
    }

    fn incomplete_error(&self, error: OciError) -> CopyError {
        match error {
            missing @ OciError::NotFound { .. } => CopyError::Incomplete {
                root: self.root,
                missing: Box::new(missing),
            },
            other => other.into(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
