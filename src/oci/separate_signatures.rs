//! Content in one place, and everything that refers to it in another: a repository for signatures,
//! for images in registries that take none (`COSIGN_REPOSITORY` of cosign).

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;

use super::{ContentReader, ContentSource, OciError, ResolvedManifest};
use crate::core::{
    digest::Digest,
    limits::InputLimits,
    oci::Descriptor,
    reference::{DIGEST_TAG_PREFIX, ImageRepository, TagOrDigest},
};

/// Content, with its referrers and cosign's tags in another place.
pub struct SeparateSignatures {
    content: Arc<dyn ContentSource>,
    signatures: Arc<dyn ContentSource>,
    /// Referrers that the other place has listed.
    listed: Mutex<HashSet<Digest>>,
}

impl SeparateSignatures {
    /// The content of one place with the signatures of another. What refers to it in its own place
    /// does not count.
    pub fn new(content: Arc<dyn ContentSource>, signatures: Arc<dyn ContentSource>) -> Self {
        Self {
            content,
            signatures,
            listed: Mutex::default(),
        }
    }

    fn is_listed(&self, digest: &Digest) -> bool {
        let listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        listed.contains(digest)
    }
}

#[async_trait]
impl ContentSource for SeparateSignatures {
    fn location(&self) -> String {
        self.content.location()
    }

    async fn resolve_manifest(
        &self,
        selector: &TagOrDigest,
        limits: &InputLimits,
    ) -> Result<ResolvedManifest, OciError> {
        let source = match selector {
            TagOrDigest::Tag(tag) if tag.as_str().starts_with(DIGEST_TAG_PREFIX) => {
                &self.signatures
            }
            _ => &self.content,
        };
        source.resolve_manifest(selector, limits).await
    }

    /// What belongs to a signature is only known by where it is found.
    async fn open_content(&self, descriptor: &Descriptor) -> Result<ContentReader, OciError> {
        if self.is_listed(&descriptor.digest) {
            return self.signatures.open_content(descriptor).await;
        }
        match self.content.open_content(descriptor).await {
            Err(OciError::NotFound { .. }) => self.signatures.open_content(descriptor).await,
            opened => opened,
        }
    }

    async fn list_referrers(
        &self,
        subject: &Descriptor,
        limits: &InputLimits,
    ) -> Result<Vec<Descriptor>, OciError> {
        let found = self.signatures.list_referrers(subject, limits).await?;
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        listed.extend(found.iter().map(|referrer| referrer.digest));
        Ok(found)
    }

    fn request_count(&self) -> u64 {
        self.content.request_count() + self.signatures.request_count()
    }

    fn repository(&self) -> Option<&ImageRepository> {
        self.content.repository()
    }

    fn has_other_writers(&self) -> bool {
        self.content.has_other_writers() || self.signatures.has_other_writers()
    }
}
