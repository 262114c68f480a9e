//! Copies a bundle with everything that belongs to it: push and pull are this one function in two
//! directions.

use std::collections::{BTreeSet, HashSet};

use futures::{StreamExt, TryStreamExt, future::BoxFuture, stream};

use super::{beside, progress::Progress};
use crate::{
    core::{
        class::{Classified, Reason},
        digest::Digest,
        legacy::Beside,
        limits::Limits,
        oci::{Descriptor, Document},
    },
    oci::{Content, OciError, Resolved, Source, Target, fetch_document},
};

/// Blobs that are on their way at once.
const PARALLEL: usize = 4;
/// Levels of documents: an index of manifests, their referrers, and what refers to these.
const MAX_DEPTH: usize = 8;

/// Are referrers copied too?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Referrers {
    /// All of them, at every level, and what lies under cosign's tags beside the root and beside
    /// the manifests of an index.
    Included,
    /// None.
    Left,
}

/// Why a copy failed.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Reading or writing failed.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// Something that belongs to it is not there.
    #[error("{root} is not complete: {missing}")]
    Incomplete {
        /// What is copied.
        root: Digest,
        /// What is missing, and where.
        missing: OciError,
    },
    /// Documents in documents in documents.
    #[error("{0} is nested too deep")]
    TooDeep(Digest),
    /// No child of that platform.
    #[error("{root} has no manifest for {platform}, it has {available}")]
    NoSuchPlatform {
        /// The index.
        root: Digest,
        /// What was asked for.
        platform: String,
        /// What there is.
        available: String,
    },
}

impl Classified for CopyError {
    fn reason(&self) -> Reason {
        match self {
            Self::Oci(error) => error.reason(),
            Self::Incomplete { missing, .. } => missing.reason(),
            Self::TooDeep(_) => Reason::LimitExceeded,
            Self::NoSuchPlatform { .. } => Reason::InvalidSpec,
        }
    }
}

/// Copies `root` and all below it; the root itself last, so that it is never there without its
/// parts. Referrers follow, each complete.
pub async fn copy(
    from: &dyn Source,
    to: &dyn Target,
    root: &Resolved,
    referrers: Referrers,
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<(), CopyError> {
    let document = root.document(limits)?;
    let job = Job {
        from,
        to,
        root: root.descriptor.digest,
        referrers,
        limits,
        progress,
    };
    progress.begin("copying", None);
    let mut seen = HashSet::new();
    let result = job.everything(root, &document, &mut seen).await;
    progress.end();
    result
}

struct Job<'a> {
    from: &'a dyn Source,
    to: &'a dyn Target,
    root: Digest,
    referrers: Referrers,
    limits: &'a Limits,
    progress: &'a dyn Progress,
}

impl Job<'_> {
    async fn everything(
        &self,
        root: &Resolved,
        document: &Document,
        seen: &mut HashSet<Digest>,
    ) -> Result<(), CopyError> {
        self.document(&root.descriptor, &root.bytes, document, seen, 0)
            .await?;
        if self.referrers == Referrers::Left {
            return Ok(());
        }
        let manifests = document
            .children()
            .into_iter()
            .filter(|child| child.is_document())
            .map(|child| child.digest);
        let subjects: BTreeSet<Digest> = std::iter::once(root.descriptor.digest)
            .chain(manifests)
            .collect();
        for subject in subjects {
            for tag in Beside::ALL {
                self.beside(tag, &subject, seen).await?;
            }
        }
        Ok(())
    }

    /// Copies what cosign's tag names. What lies under that tag at the target stays, as far as it
    /// is signatures or attestations.
    async fn beside(
        &self,
        tag: Beside,
        subject: &Digest,
        seen: &mut HashSet<Digest>,
    ) -> Result<(), CopyError> {
        let Some(found) = beside::find(self.from, tag, subject, self.limits).await? else {
            return Ok(());
        };
        let document = found.document(self.limits)?;
        self.document(&found.descriptor, &found.bytes, &document, seen, 1)
            .await?;
        let there = beside::find(self.to, tag, subject, self.limits).await?;
        match (there, document) {
            (Some(there), _) if there.descriptor.digest == found.descriptor.digest => Ok(()),
            (Some(_), Document::Manifest(manifest)) if tag.layer_type().is_some() => {
                beside::add(self.to, tag, subject, &manifest.layers, self.limits).await?;
                Ok(())
            }
            _ => Ok(self.to.tag(&found.descriptor, &tag.tag(subject)).await?),
        }
    }

    fn document<'f>(
        &'f self,
        descriptor: &'f Descriptor,
        bytes: &'f bytes::Bytes,
        document: &'f Document,
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
                .partition(|child| child.is_document());
            for child in documents {
                self.fetch_and_copy(child, seen, depth + 1).await?;
            }
            // Files with equal content are one blob, which two uploads at once would send twice.
            // Not `seen`: what one document calls a blob can be another's referrer.
            let mut once = HashSet::new();
            let pushes: Vec<_> = blobs
                .into_iter()
                .filter(|blob| once.insert(blob.digest))
                .map(|blob| self.blob(blob))
                .collect();
            stream::iter(pushes)
                .buffer_unordered(PARALLEL)
                .try_collect::<Vec<()>>()
                .await?;
            self.to
                .push(&descriptor.bare(), Content::Bytes(bytes))
                .await?;
            match self.referrers {
                Referrers::Included => self.referrers(descriptor, seen, depth).await,
                Referrers::Left => Ok(()),
            }
        })
    }

    async fn referrers(
        &self,
        subject: &Descriptor,
        seen: &mut HashSet<Digest>,
        depth: usize,
    ) -> Result<(), CopyError> {
        for referrer in self.from.referrers(subject, self.limits).await? {
            if seen.contains(&referrer.digest) {
                continue;
            }
            let (bytes, document) = fetch_document(self.from, &referrer, self.limits)
                .await
                .map_err(|error| self.missing(error))?;
            // A list is a claim: what refers to something else does not come along.
            if document
                .subject()
                .is_some_and(|named| named.digest == subject.digest)
            {
                self.document(&referrer, &bytes, &document, seen, depth + 1)
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
            .map_err(|error| self.missing(error))?;
        self.document(descriptor, &bytes, &document, seen, depth)
            .await
    }

    async fn blob(&self, blob: &Descriptor) -> Result<(), CopyError> {
        if !self.to.exists(blob).await? {
            self.to
                .push(blob, Content::From(self.from))
                .await
                .map_err(|error| self.missing(error))?;
        }
        self.progress.advance(blob.size);
        Ok(())
    }

    fn missing(&self, error: OciError) -> CopyError {
        match error {
            missing @ OciError::NotFound { .. } => CopyError::Incomplete {
                root: self.root,
                missing,
            },
            other => other.into(),
        }
    }
}
