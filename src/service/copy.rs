//! Copies a bundle with everything that it refers to: push and pull are this one function in two
//! directions.

use std::collections::{BTreeSet, HashSet};

use futures::{StreamExt, TryStreamExt, future::BoxFuture, stream};

use super::{cosign_tags, progress::Progress};
use crate::{
    core::{
        cosign_tags::CosignTagKind,
        digest::Digest,
        limits::InputLimits,
        oci::{Descriptor, ManifestOrIndex},
        reason::{ClassifiedError, Reason},
    },
    oci::{ContentSource, ContentTarget, OciError, PushContent, ResolvedManifest, fetch_document},
};

/// The number of blobs that are copied concurrently.
const PARALLEL: usize = 4;
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
        missing: OciError,
    },
    /// Documents are nested too deep.
    #[error("{0} is nested too deep")]
    TooDeep(Digest),
    /// The index has no manifest for that platform.
    #[error("{root} has no manifest for {platform}, it has {available}")]
    NoSuchPlatform {
        /// The digest of the index.
        root: Digest,
        /// The requested platform.
        platform: String,
        /// The available platforms.
        available: String,
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
    };
    progress.begin_task("copying", None);
    let mut seen = HashSet::new();
    let result = job.copy_all(root, &document, &mut seen).await;
    progress.end_task();
    result
}

struct CopyJob<'a> {
    from: &'a dyn ContentSource,
    to: &'a dyn ContentTarget,
    root: Digest,
    referrers: ReferrerCopying,
    limits: &'a InputLimits,
    progress: &'a dyn Progress,
}

impl CopyJob<'_> {
    async fn copy_all(
        &self,
        root: &ResolvedManifest,
        document: &ManifestOrIndex,
        seen: &mut HashSet<Digest>,
    ) -> Result<(), CopyError> {
        self.copy_document(&root.descriptor, &root.bytes, document, seen, 0)
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
                self.copy_cosign_tag(tag, &subject, seen).await?;
            }
        }
        Ok(())
    }

    /// Copies the manifest that a cosign tag names. Signatures or attestations under that tag at
    /// the target are kept.
    async fn copy_cosign_tag(
        &self,
        tag: CosignTagKind,
        subject: &Digest,
        seen: &mut HashSet<Digest>,
    ) -> Result<(), CopyError> {
        let Some(found) =
            cosign_tags::resolve_cosign_tag(self.from, tag, subject, self.limits).await?
        else {
            return Ok(());
        };
        let document = found.parse_document(self.limits)?;
        self.copy_document(&found.descriptor, &found.bytes, &document, seen, 1)
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
        bytes: &'f bytes::Bytes,
        document: &'f ManifestOrIndex,
        seen: &'f mut HashSet<Digest>,
        depth: usize,
    ) -> BoxFuture<'f, Result<(), CopyError>> {
        Box::pin(async move {
            if depth > MAX_DEPTH {
                return Err(CopyError::TooDeep(self.root));
            }
            if !seen.insert(descriptor.digest) {
                return Ok(());
            }
            let (documents, blobs): (Vec<_>, Vec<_>) = document
                .children()
                .into_iter()
                .partition(|child| child.is_manifest_or_index());
            for child in documents {
                self.fetch_and_copy(child, seen, depth + 1).await?;
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
                .await?;
            self.to
                .push_content(&descriptor.without_metadata(), PushContent::Bytes(bytes))
                .await?;
            match self.referrers {
                ReferrerCopying::Included => self.copy_referrers(descriptor, seen, depth).await,
                ReferrerCopying::Excluded => Ok(()),
            }
        })
    }

    async fn copy_referrers(
        &self,
        subject: &Descriptor,
        seen: &mut HashSet<Digest>,
        depth: usize,
    ) -> Result<(), CopyError> {
        for referrer in self.from.list_referrers(subject, self.limits).await? {
            if seen.contains(&referrer.digest) {
                continue;
            }
            let (bytes, document) = fetch_document(self.from, &referrer, self.limits)
                .await
                .map_err(|error| self.incomplete_error(error))?;
            // A list is a claim: a manifest with another subject is not copied.
            if document
                .subject()
                .is_some_and(|named| named.digest == subject.digest)
            {
                self.copy_document(&referrer, &bytes, &document, seen, depth + 1)
                    .await?;
            }
        }
        Ok(())
    }

    async fn fetch_and_copy(
        &self,
        descriptor: &Descriptor,
        seen: &mut HashSet<Digest>,
        depth: usize,
    ) -> Result<(), CopyError> {
        if seen.contains(&descriptor.digest) {
            return Ok(());
        }
        let (bytes, document) = fetch_document(self.from, descriptor, self.limits)
            .await
            .map_err(|error| self.incomplete_error(error))?;
        self.copy_document(descriptor, &bytes, &document, seen, depth)
            .await
    }

    async fn copy_blob(&self, blob: &Descriptor) -> Result<(), CopyError> {
        if !self.to.content_exists(blob).await? {
            self.to
                .push_content(blob, PushContent::StoredIn(self.from))
                .await
                .map_err(|error| self.incomplete_error(error))?;
        }
        self.progress.advance_bytes(blob.size);
        Ok(())
    }

    fn incomplete_error(&self, error: OciError) -> CopyError {
        match error {
            missing @ OciError::NotFound { .. } => CopyError::Incomplete {
                root: self.root,
                missing,
            },
            other => other.into(),
        }
    }
}
