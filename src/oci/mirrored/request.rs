//! What is asked of one place after the other.

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    core::{limits::InputLimits, oci::Descriptor, reference::TagOrDigest},
    oci::{ContentReader, ContentSource, OciError, ResolvedManifest, fetch_stored_content},
};

/// A request that any place can answer.
#[async_trait]
pub(super) trait SourceRequest: Sync {
    type Answer: Send;

    async fn send_to(&self, source: &dyn ContentSource) -> Result<Self::Answer, OciError>;
}

pub(super) struct ManifestRequest<'a> {
    pub(super) selector: &'a TagOrDigest,
    pub(super) limits: &'a InputLimits,
}

/// Content as a stream.
pub(super) struct StreamRequest<'a>(pub(super) &'a Descriptor);

/// Content that is read completely, at most so many bytes.
pub(super) struct CompleteRequest<'a> {
    pub(super) descriptor: &'a Descriptor,
    pub(super) limit: usize,
}

pub(super) struct ReferrersRequest<'a> {
    pub(super) subject: &'a Descriptor,
    pub(super) limits: &'a InputLimits,
}

#[async_trait]
impl SourceRequest for ManifestRequest<'_> {
    type Answer = ResolvedManifest;

    async fn send_to(&self, source: &dyn ContentSource) -> Result<ResolvedManifest, OciError> {
        source.resolve_manifest(self.selector, self.limits).await
    }
}

#[async_trait]
impl SourceRequest for StreamRequest<'_> {
    type Answer = ContentReader;

    async fn send_to(&self, source: &dyn ContentSource) -> Result<ContentReader, OciError> {
        source.open_content(self.0).await
    }
}

#[async_trait]
impl SourceRequest for CompleteRequest<'_> {
    type Answer = Bytes;

    async fn send_to(&self, source: &dyn ContentSource) -> Result<Bytes, OciError> {
        fetch_stored_content(source, self.descriptor, self.limit).await
    }
}

#[async_trait]
impl SourceRequest for ReferrersRequest<'_> {
    type Answer = Vec<Descriptor>;

    async fn send_to(&self, source: &dyn ContentSource) -> Result<Vec<Descriptor>, OciError> {
        source.list_referrers(self.subject, self.limits).await
    }
}
