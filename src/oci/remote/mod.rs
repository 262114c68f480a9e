//! A repository in a registry, by the OCI distribution specification 1.1.
//!
//! All requests are packgate's own (`docs/adr/0002-own-registry-requests.md`). What holds for each
//! of them:
//!
//! - every body is read up to a cap and hashed here; `Docker-Content-Digest` makes nothing good,
//!   and refuses what it contradicts;
//! - credentials go to the registry's own origin and to token services of its own domain only;
//! - "the registry said no" (401, 403, 429) is an error and never looks like "there is nothing".
//!
//! What is *not* checked here: whether a listed referrer refers to what it was listed for. Who
//! opens it checks its `subject`.

mod blobs;
mod challenge;
mod endpoint;
mod fallback;
mod manifests;
mod pace;
mod problem;
mod referrers;
mod session;
mod token;
mod upload;

use std::{collections::VecDeque, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Mutex;

use super::{Content, OciError, Reader, Resolved, Source, Target, auth::CredentialStore};
use crate::{
    core::{
        digest::Digest,
        limits::Limits,
        oci::Descriptor,
        reference::{Repository, Selector, Tag},
    },
    http::HttpClient,
};
use endpoint::Endpoint;
use session::Session;

/// Manifests that are remembered after a push, so that tagging them needs no request to read them
/// back.
const REMEMBERED: usize = 8;

/// How a registry is spoken to.
#[derive(Clone, Copy, Debug, Default)]
pub struct RemoteOptions {
    /// Without TLS. Default: no, not even for `localhost`.
    pub plain_http: bool,
    /// Caps for what is read while pushing; reading takes its own.
    pub limits: Limits,
}

/// One repository in a registry. Clones share tokens, connections and the counter.
#[doc(alias = "RegistryHandler")]
#[derive(Clone)]
pub struct RemoteTarget {
    session: Session,
    limits: Limits,
    pushed: Arc<Mutex<VecDeque<Resolved>>>,
}

impl RemoteTarget {
    /// The repository, asked through `http` with what `credentials` knows of its host. Sends
    /// nothing yet.
    pub fn new(
        repository: Repository,
        http: &HttpClient,
        credentials: Arc<dyn CredentialStore>,
        options: RemoteOptions,
    ) -> Result<Self, OciError> {
        let endpoint = Endpoint::new(repository, options.plain_http)?;
        Ok(Self {
            session: Session::new(endpoint, http.counted(), credentials),
            limits: options.limits,
            pushed: Arc::default(),
        })
    }

    /// Makes a blob of another repository of the same registry appear in this one. `false`: the
    /// registry did not, push it instead.
    pub async fn mount(
        &self,
        descriptor: &Descriptor,
        from: &Repository,
    ) -> Result<bool, OciError> {
        upload::mount(&self.session, descriptor, from).await
    }

    async fn remember(&self, document: Resolved) {
        let mut pushed = self.pushed.lock().await;
        pushed.retain(|known| known.descriptor.digest != document.descriptor.digest);
        pushed.truncate(REMEMBERED - 1);
        pushed.push_front(document);
    }

    async fn recall(&self, digest: &Digest) -> Option<Bytes> {
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
        content: Content<'_>,
    ) -> Result<(), OciError> {
        let bytes = manifests::collect(descriptor, content, &self.session, &self.limits).await?;
        let document = Resolved {
            descriptor: descriptor.bare(),
            bytes,
        };
        let parsed = document.document(&self.limits)?;
        let listed = manifests::put(
            &self.session,
            &document,
            &Selector::Digest(descriptor.digest),
        )
        .await?;
        if let Some(subject) = parsed.subject()
            && listed != Some(subject.digest)
        {
            fallback::add(
                &self.session,
                subject,
                &fallback::entry(&document.descriptor, &parsed),
                &self.limits,
            )
            .await?;
        }
        self.remember(document).await;
        Ok(())
    }
}

#[async_trait]
impl Source for RemoteTarget {
    fn location(&self) -> String {
        self.session.location()
    }

    async fn resolve(&self, selector: &Selector, limits: &Limits) -> Result<Resolved, OciError> {
        manifests::get(&self.session, selector, limits.manifest_bytes).await
    }

    async fn open(&self, descriptor: &Descriptor) -> Result<Reader, OciError> {
        blobs::open(&self.session, descriptor).await
    }

    async fn referrers(
        &self,
        subject: &Descriptor,
        limits: &Limits,
    ) -> Result<Vec<Descriptor>, OciError> {
        referrers::list(&self.session, subject, limits).await
    }

    fn requests(&self) -> u64 {
        self.session.requests()
    }
}

#[async_trait]
impl Target for RemoteTarget {
    async fn exists(&self, descriptor: &Descriptor) -> Result<bool, OciError> {
        blobs::exists(&self.session, descriptor).await
    }

    async fn push(&self, descriptor: &Descriptor, content: Content<'_>) -> Result<(), OciError> {
        if descriptor.is_document() {
            return self.push_document(descriptor, content).await;
        }
        if self.exists(descriptor).await? {
            Ok(())
        } else {
            upload::push(&self.session, descriptor, content).await
        }
    }

    async fn tag(&self, descriptor: &Descriptor, tag: &Tag) -> Result<(), OciError> {
        let bytes = match self.recall(&descriptor.digest).await {
            Some(bytes) => bytes,
            None => {
                manifests::get(
                    &self.session,
                    &Selector::Digest(descriptor.digest),
                    self.limits.manifest_bytes,
                )
                .await?
                .bytes
            }
        };
        let document = Resolved {
            descriptor: descriptor.bare(),
            bytes,
        };
        manifests::put(&self.session, &document, &Selector::Tag(tag.clone()))
            .await
            .map(|_| ())
    }
}
