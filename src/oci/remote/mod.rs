//! A repository in a registry, by the OCI distribution specification 1.1.
//!
//! All requests are packgate's own (`docs/adr/0002-own-registry-requests.md`). For each of them:
//!
//! - every body is read up to a cap and hashed here; `Docker-Content-Digest` never makes content
//!   valid, and a mismatch refuses it;
//! - credentials go to the registry's own origin and to its token service only, which has the same
//!   owner, or is published or configured;
//! - a refusal by the registry (401, 403, 429) is an error and never looks like absent content.
//!
//! What is *not* checked here: whether a listed referrer really refers to the subject. The code
//! that opens it checks its `subject`.

mod authorization;
mod blobs;
mod challenge;
mod endpoint;
mod error_message;
mod manifests;
mod referrers;
mod referrers_index;
mod referrers_tag;
mod registry_access;
mod registry_error;
mod session;
mod session_candidates;
mod session_tokens;
mod token;
mod token_hosts;
mod upload;

use std::{collections::VecDeque, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Mutex;

use super::{
    ContentReader, ContentSource, ContentTarget, OciError, PushContent, ResolvedManifest,
    UnlistedReferrer, credentials::CredentialStore, listed_referrer,
};
use crate::{
    core::{
        digest::Digest,
        limits::InputLimits,
        oci::Descriptor,
        reference::{ImageRepository, ImageTag, TagOrDigest},
    },
    http::HttpClient,
};
use endpoint::RepositoryEndpoint;
use session::RegistrySession;
pub use token_hosts::AllowedTokenService;

/// The number of manifests that are cached after a push, so that tagging them needs no request to
/// read them back.
const MAX_CACHED_MANIFESTS: usize = 8;

/// The options of a registry.
#[derive(Clone, Debug, Default)]
pub struct RegistryOptions {
    /// Use HTTP without TLS. Default: false, even for `localhost`.
    pub plain_http: bool,
    /// Token services of other owners that the registry's credentials may be sent to.
    pub token_services: Vec<AllowedTokenService>,
    /// Limits of reads while pushing; read operations have their own.
    pub limits: InputLimits,
}

/// One repository in a registry. Clones share tokens, connections and the request counter.
#[doc(alias = "RegistryHandler")]
#[derive(Clone)]
pub struct RegistryTarget {
    session: RegistrySession,
    limits: InputLimits,
    pushed: Arc<Mutex<VecDeque<ResolvedManifest>>>,
}

impl RegistryTarget {
    /// The repository, accessed through `http` with the credentials for its host. Sends nothing
    /// yet.
    pub fn new(
        repository: ImageRepository,
        http: &HttpClient,
        credentials: Arc<dyn CredentialStore>,
        options: RegistryOptions,
    ) -> Result<Self, OciError> {
        let endpoint = RepositoryEndpoint::new(repository, options.plain_http)?;
        Ok(Self {
            session: RegistrySession::new(
                endpoint,
                http.with_own_counter(),
                credentials,
                options.token_services,
            ),
            limits: options.limits,
            pushed: Arc::default(),
        })
    }

    /// The same repository for a command that signs. Its requests name a client that signs, so that
    /// a registry which hides what has no signature yet (Harbor, "Cosign content trust") shows it.
    /// Never for a command that only verifies.
    #[must_use]
    pub fn for_signing(self) -> Self {
        Self {
            session: self.session.for_signing(),
            ..self
        }
    }

    async fn cache_manifest(&self, document: ResolvedManifest) {
        let mut pushed = self.pushed.lock().await;
        pushed.retain(|known| known.descriptor.digest != document.descriptor.digest);
        pushed.truncate(MAX_CACHED_MANIFESTS - 1);
        pushed.push_front(document);
    }

    async fn cached_manifest(&self, digest: &Digest) -> Option<Bytes> {
        self.pushed
            .lock()
            .await
            .iter()
            .find(|known| known.descriptor.digest == *digest)
            .map(|known| known.bytes.clone())
    }

    async fn push_document(
        &self,
        descriptor: &Descriptor,
        content: PushContent<'_>,
    ) -> Result<Option<UnlistedReferrer>, OciError> {
        let bytes =
            manifests::read_pushed_manifest(descriptor, content, &self.session, &self.limits)
                .await?;
        let document = ResolvedManifest {
            descriptor: descriptor.without_metadata(),
            bytes,
        };
        let parsed = document.parse_document(&self.limits)?;
        let listed = manifests::put_manifest(
            &self.session,
            &document,
            &TagOrDigest::Digest(descriptor.digest),
        )
        .await?;
        let unlisted = parsed
            .subject()
            .filter(|subject| listed != Some(subject.digest))
            .map(|subject| UnlistedReferrer {
                subject: subject.without_metadata(),
                entry: listed_referrer(&document.descriptor, &parsed),
            });
        self.cache_manifest(document).await;
        Ok(unlisted)
    }
}

#[async_trait]
impl ContentSource for RegistryTarget {
    fn location(&self) -> String {
        self.session.location()
    }

    async fn resolve_manifest(
        &self,
        selector: &TagOrDigest,
        limits: &InputLimits,
    ) -> Result<ResolvedManifest, OciError> {
        manifests::get_manifest(&self.session, selector, limits.manifest_bytes).await
    }

    async fn open_content(&self, descriptor: &Descriptor) -> Result<ContentReader, OciError> {
        blobs::open_content_stream(&self.session, descriptor).await
    }

    async fn list_referrers(
        &self,
        subject: &Descriptor,
        limits: &InputLimits,
    ) -> Result<Vec<Descriptor>, OciError> {
        referrers::list_referrers(&self.session, subject, limits).await
    }

    fn request_count(&self) -> u64 {
        self.session.request_count()
    }

    fn repository(&self) -> Option<&ImageRepository> {
        Some(self.session.endpoint.repository())
    }

    fn has_other_writers(&self) -> bool {
        true
    }
}

#[async_trait]
impl ContentTarget for RegistryTarget {
    async fn content_exists(&self, descriptor: &Descriptor) -> Result<bool, OciError> {
        blobs::check_content_exists(&self.session, descriptor).await
    }

    async fn push_content(
        &self,
        descriptor: &Descriptor,
        content: PushContent<'_>,
    ) -> Result<(), OciError> {
        if descriptor.is_manifest_or_index() {
            let unlisted = self.push_document(descriptor, content).await?;
            return self
                .list_pushed_referrers(unlisted.into_iter().collect())
                .await;
        }
        if self.content_exists(descriptor).await? {
            Ok(())
        } else {
            upload::upload_blob(&self.session, descriptor, content).await
        }
    }

    async fn push_unlisted(
        &self,
        descriptor: &Descriptor,
        content: PushContent<'_>,
    ) -> Result<Option<UnlistedReferrer>, OciError> {
        self.push_document(descriptor, content).await
    }

    async fn list_pushed_referrers(
        &self,
        referrers: Vec<UnlistedReferrer>,
    ) -> Result<(), OciError> {
        let mut by_subject: Vec<(Descriptor, Vec<Descriptor>)> = Vec::new();
        for UnlistedReferrer { subject, entry } in referrers {
            match by_subject.iter_mut().find(|(known, _)| *known == subject) {
                Some((_, entries)) => entries.push(entry),
                None => by_subject.push((subject, vec![entry])),
            }
        }
        for (subject, entries) in by_subject {
            referrers_tag::add_referrers(&self.session, &subject, &entries, &self.limits).await?;
        }
        Ok(())
    }

    async fn mount_blob(
        &self,
        descriptor: &Descriptor,
        from: &ImageRepository,
    ) -> Result<bool, OciError> {
        upload::mount_blob(&self.session, descriptor, from).await
    }

    async fn tag_manifest(&self, descriptor: &Descriptor, tag: &ImageTag) -> Result<(), OciError> {
        if manifests::is_tag_of(&self.session, tag, &descriptor.digest).await {
            return Ok(());
        }
        let bytes = match self.cached_manifest(&descriptor.digest).await {
            Some(bytes) => bytes,
            None => {
                manifests::get_manifest(
                    &self.session,
                    &TagOrDigest::Digest(descriptor.digest),
                    self.limits.manifest_bytes,
                )
                .await?
                .bytes
            }
        };
        let document = ResolvedManifest {
            descriptor: descriptor.without_metadata(),
            bytes,
        };
        manifests::put_manifest(&self.session, &document, &TagOrDigest::Tag(tag.clone()))
            .await
            .map(|_| ())
    }
}
