//! A repository that is read through mirrors of its registry (`docs/adr/0017-mirrors-of-registries.md`).
//!
//! Only a digest says what has to come back, so only content by digest is read from a mirror
//! first. What a tag names, and which signatures there are, the registry itself says. A list of
//! referrers comes from mirrors only while the registry does not answer: a mirror without
//! signatures must not look like an image without signatures.

mod availability;
mod request;

use std::{io::Cursor, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::timeout;

pub use availability::HostAvailability;

use request::{CompleteRequest, ManifestRequest, ReferrersRequest, SourceRequest, StreamRequest};

use super::{ContentReader, ContentSource, OciError, ResolvedManifest};
use crate::core::{
    limits::InputLimits,
    oci::Descriptor,
    reference::{DIGEST_TAG_PREFIX, ImageRepository, TagOrDigest},
};

/// Content up to this size is read completely before it counts, so that what a mirror sends too
/// little of, or with other bytes, is read elsewhere. What is larger ends with an error instead.
const MAX_BUFFERED: usize = 1 << 20;

/// One place that is read from.
#[derive(Clone)]
pub struct MirroredHost {
    /// The repository there.
    pub source: Arc<dyn ContentSource>,
    /// What is known about the host.
    pub availability: HostAvailability,
}

/// A repository of a registry, with the same repository in mirrors. For reading only: it is no
/// [`super::ContentTarget`].
pub struct MirroredRepository {
    registry: MirroredHost,
    mirrors: Vec<MirroredHost>,
    patience: Duration,
}

impl MirroredRepository {
    /// The repository with its mirrors, in their order. `patience` is how long one of them is
    /// waited for before the next one is asked.
    pub const fn new(
        registry: MirroredHost,
        mirrors: Vec<MirroredHost>,
        patience: Duration,
    ) -> Self {
        Self {
            registry,
            mirrors,
            patience,
        }
    }

    /// Asks the mirrors that have answered, the registry, then the other mirrors.
    async fn read_by_digest<R: SourceRequest>(&self, request: &R) -> Result<R::Answer, OciError> {
        let (ready, silent): (Vec<_>, Vec<_>) = self
            .mirrors
            .iter()
            .partition(|mirror| mirror.availability.is_expected());
        let mut failed = Vec::new();
        for mirror in ready {
            match self.ask(mirror, request).await {
                Ok(found) => return Ok(found),
                Err(cause) => failed.push(cause),
            }
        }
        let error = match request.send_to(&*self.registry.source).await {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        for mirror in silent {
            match self.ask(mirror, request).await {
                Ok(found) => return Ok(found),
                Err(cause) => failed.push(cause),
            }
        }
        Err(with_mirrors(error, &failed))
    }

    /// Asks one place, within the time for it, and remembers whether it answered.
    async fn ask<R: SourceRequest>(
        &self,
        host: &MirroredHost,
        request: &R,
    ) -> Result<R::Answer, OciError> {
        let location = host.source.location();
        let answer = timeout(self.patience, request.send_to(&*host.source))
            .await
            .unwrap_or_else(|_| {
                Err(OciError::Deadline {
                    location: location.clone(),
                    cause: format!("it was waited for {} s", self.patience.as_secs_f32()),
                })
            });
        match &answer {
            Err(error) if is_silence(error) => {
                tracing::debug!(%location, %error, "asking the next place");
                host.availability.set_silent();
            }
            Err(error) => tracing::debug!(%location, %error, "asking the next place"),
            Ok(_) => host.availability.set_answered(),
        }
        answer
    }

    /// Asks the registry for what only it can say. `None`: it does not answer now.
    async fn ask_registry<R: SourceRequest>(
        &self,
        request: &R,
    ) -> Option<Result<R::Answer, OciError>> {
        if !self.registry.availability.is_expected() {
            return None;
        }
        match self.ask(&self.registry, request).await {
            Err(error) if is_silence(&error) => None,
            answer => Some(answer),
        }
    }

    /// Asks the registry once more, with all its time, after the mirrors had nothing.
    async fn ask_registry_again<R: SourceRequest>(
        &self,
        request: &R,
        failed: &[OciError],
    ) -> Result<R::Answer, OciError> {
        let answer = request.send_to(&*self.registry.source).await;
        if answer.is_ok() {
            self.registry.availability.set_answered();
        }
        answer.map_err(|error| with_mirrors(error, failed))
    }

    /// cosign's tags and the list of referrers are lists of signatures, too.
    async fn resolve_digest_tag(
        &self,
        request: &ManifestRequest<'_>,
    ) -> Result<ResolvedManifest, OciError> {
        if let Some(answer) = self.ask_registry(request).await {
            return answer;
        }
        let mut failed = Vec::new();
        for mirror in &self.mirrors {
            match self.ask(mirror, request).await {
                Ok(found) => return Ok(found),
                Err(error) => failed.push(error),
            }
        }
        self.ask_registry_again(request, &failed).await
    }
}

#[async_trait]
impl ContentSource for MirroredRepository {
    fn location(&self) -> String {
        self.registry.source.location()
    }

    async fn resolve_manifest(
        &self,
        selector: &TagOrDigest,
        limits: &InputLimits,
    ) -> Result<ResolvedManifest, OciError> {
        let request = &ManifestRequest { selector, limits };
        match selector {
            TagOrDigest::Digest(_) => self.read_by_digest(request).await,
            TagOrDigest::Tag(tag) if tag.as_str().starts_with(DIGEST_TAG_PREFIX) => {
                self.resolve_digest_tag(request).await
            }
            TagOrDigest::Tag(_) => {
                let resolved = self.registry.source.resolve_manifest(selector, limits);
                resolved.await.map_err(with_digest_advice)
            }
        }
    }

    async fn open_content(&self, descriptor: &Descriptor) -> Result<ContentReader, OciError> {
        if descriptor.size > MAX_BUFFERED as u64 {
            return self.read_by_digest(&StreamRequest(descriptor)).await;
        }
        let request = CompleteRequest {
            descriptor,
            limit: MAX_BUFFERED,
        };
        let bytes = self.read_by_digest(&request).await?;
        Ok(Box::new(Cursor::new(bytes)))
    }

    async fn list_referrers(
        &self,
        subject: &Descriptor,
        limits: &InputLimits,
    ) -> Result<Vec<Descriptor>, OciError> {
        let request = &ReferrersRequest { subject, limits };
        if let Some(answer) = self.ask_registry(request).await {
            return answer;
        }
        let (mut found, mut failed): (Vec<Descriptor>, _) = (Vec::new(), Vec::new());
        for mirror in &self.mirrors {
            match self.ask(mirror, request).await {
                Ok(listed) => {
                    for referrer in listed {
                        if found.iter().all(|known| known.digest != referrer.digest) {
                            found.push(referrer);
                        }
                    }
                }
                Err(error) => failed.push(error),
            }
        }
        if found.len() > limits.referrers_listed {
            return Err(OciError::TooManyReferrers {
                subject: subject.digest.to_string(),
                limit: limits.referrers_listed,
            });
        }
        if found.is_empty() {
            return self.ask_registry_again(request, &failed).await;
        }
        Ok(found)
    }

    fn request_count(&self) -> u64 {
        let mirrors = self.mirrors.iter();
        let of_mirrors: u64 = mirrors.map(|mirror| mirror.source.request_count()).sum();
        self.registry.source.request_count() + of_mirrors
    }

    fn repository(&self) -> Option<&ImageRepository> {
        self.registry.source.repository()
    }

    fn has_other_writers(&self) -> bool {
        true
    }
}

/// True if nothing was answered. A refusal is an answer; that too much is asked for is none.
const fn is_silence(error: &OciError) -> bool {
    matches!(
        error,
        OciError::Unavailable { .. } | OciError::Deadline { .. } | OciError::RateLimited { .. }
    )
}

/// Adds what the mirrors answered to the registry's error.
fn with_mirrors(error: OciError, failed: &[OciError]) -> OciError {
    let mirrors: Vec<String> = failed.iter().map(ToString::to_string).collect();
    if mirrors.is_empty() {
        return error;
    }
    add_to_cause(error, &format!("; its mirrors: {}", mirrors.join("; ")))
}

/// A way out for whoever has no way to the registry.
fn with_digest_advice(error: OciError) -> OciError {
    let advice = "; its mirrors are not asked what a tag names: write NAME@DIGEST";
    if is_silence(&error) {
        add_to_cause(error, advice)
    } else {
        error
    }
}

fn add_to_cause(error: OciError, words: &str) -> OciError {
    match error {
        OciError::Unavailable { location, cause } => OciError::Unavailable {
            location,
            cause: cause + words,
        },
        OciError::Deadline { location, cause } => OciError::Deadline {
            location,
            cause: cause + words,
        },
        OciError::Denied {
            location,
            status,
            cause,
        } => OciError::Denied {
            location,
            status,
            cause: cause + words,
        },
        other => other,
    }
}

#[cfg(test)]
mod tests;
