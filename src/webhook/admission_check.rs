//! Evaluates one use of one image at admission, with a limit on concurrent evaluations and a cache
//! of admitted uses.
//!
//! Requests wait in a queue per namespace, and a request of one namespace never waits in the queue
//! of another. Only admissions are cached, under a key with all that they depend on: the use, the
//! repository and digest, whose credentials were used, and the content of every policy that
//! governs. An entry expires when time alone would change the verdict: an exemption ends,
//! provenance exceeds its maximum age, a revocation takes effect.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use moka::future::Cache;

use super::{
    image_check::{CheckedImage, ImageCheck, ImageCheckRequest, unreadable_reference},
    metrics::WebhookMetrics,
    verdict_cache::{CachedVerdict, VERDICT_TTL, VerdictCache},
};
use crate::{
    api::bundle_policy::PolicySnapshot,
    clock::Clock,
    cluster_reader::explain_access_denial,
    core::{
        digest::Digest,
        limits::InputLimits,
        policy::{Denial, Policy, ReferenceUse},
        reason::Reason,
        reference::ImageReference,
    },
    service::{
        fair_queue::{FairQueue, FairQueueFull, FairQueueKey, FairQueueLimits, FairQueuePermit},
        registries::{OpenedRepository, RepositoryRequester, TenantRepositoryOpener},
        verdict::{denial_from_error, denied_verdict, evaluate_reference_tracked},
        verdict_stage::{VerdictStage, VerdictStageTracker},
        verification_request::{EvidenceDepth, VerificationRequest},
    },
};

/// Images whose evidence is fetched at the same time, and those that wait for it. Requests beyond
/// that are denied and have to be retried: they would have timed out anyway.
///
/// One registry can take at most half of the slots, and one namespace only a small part of them.
const CHECK_SLOTS: FairQueueLimits = FairQueueLimits {
    all: 64,
    namespace: 24,
    host: 32,
    namespace_at_host: 16,
    waiting: 1_000,
    waiting_of_namespace: 500,
};

/// Everything that an admission depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct VerdictCacheKey {
    used_as: ReferenceUse,
    repository: String,
    digest: Digest,
    had_digest: bool,
    /// The digest of the credentials for the repository. An admission with one user's credentials
    /// is not valid for another's.
    credentials: Option<Digest>,
    /// The fingerprints of the governing policies, with all that they refer to.
    policies: Vec<Digest>,
}

/// Evaluates uses of images.
pub(super) struct AdmissionChecker {
    registries: Arc<dyn TenantRepositoryOpener>,
    clock: Arc<dyn Clock>,
    deadline: Duration,
    verdict_cache: VerdictCache<VerdictCacheKey>,
    /// The checks in progress, by key and namespace; deduplicates equal checks. Nothing is stored
    /// in it.
    in_flight: Cache<(VerdictCacheKey, String), Infallible>,
    slots: Arc<FairQueue>,
    metrics: WebhookMetrics,
    system_namespace: String,
}

/// A checked image, and whether its verdict is cached.
struct ImageCheckOutcome {
    image: CheckedImage,
    /// The verdict was put into the cache, or comes from it.
    is_cached: bool,
}

impl AdmissionChecker {
    /// Every review gets its response within `deadline`.
    pub(super) fn new(
        registries: Arc<dyn TenantRepositoryOpener>,
        clock: Arc<dyn Clock>,
        deadline: Duration,
        metrics: WebhookMetrics,
        system_namespace: &str,
    ) -> Self {
        let (verdict_cache, in_flight) = (VerdictCache::default(), Cache::builder().build());
        Self {
            registries,
            clock,
            deadline,
            verdict_cache,
            in_flight,
            slots: FairQueue::new(CHECK_SLOTS),
            metrics,
            system_namespace: system_namespace.to_owned(),
        }
    }

    /// The verdict on one use, by the policies of `snapshot`. `begun` is when the review arrived.
    pub(super) async fn check_image(
        &self,
        ask: &ImageCheckRequest,
        snapshot: &PolicySnapshot,
        begun: Instant,
    ) -> CheckedImage {
        let Ok(reference) = ask.reference.parse::<ImageReference>() else {
            return unreadable_reference(ask, snapshot, begun);
        };
        let request = self.verification_request(ask, &reference, snapshot.policies());
        let check = ImageCheck {
            ask,
            reference: &reference,
            request: &request,
            begun,
            stage: &VerdictStageTracker::default(),
        };
        if !request.is_governed() {
            return check.checked_image(
                &denied_verdict(&request, &Denial::new(Reason::Ungoverned, "")),
                reference.digest,
            );
        }
        let left = self.deadline.saturating_sub(begun.elapsed());
        let checking = Box::pin(self.check_governed_image(&check, snapshot));
        let checked = tokio::time::timeout(left, checking).await;
        checked.unwrap_or_else(|_| {
            let message = check
                .stage
                .timeout_message(&reference.repository.to_string(), self.deadline);
            check.denied_image(&Denial::new(Reason::DeadlineExceeded, message))
        })
    }

    async fn check_governed_image(
        &self,
        check: &ImageCheck<'_>,
        snapshot: &PolicySnapshot,
    ) -> CheckedImage {
        let pulled = check.ask.credentials.get().await;
        let requester = RepositoryRequester {
            namespace: &check.ask.namespace,
            configs: &pulled.configs,
            service_account: check.ask.credentials.service_account(),
        };
        let opened = self
            .registries
            .open_repository(&check.reference.repository, &requester)
            .await;
        let source = match opened {
            Ok(source) => source,
            Err(error) => return check.denied_image(&denial_from_error(&error)),
        };
        // A tag is resolved anew each time: the digest that it named before says nothing about now.
        let Some(digest) = check.reference.digest else {
            return match self.acquire_slot(check).await {
                Ok(_slot) => self.evaluate_evidence(check, &source).await.0,
                Err(denial) => check.denied_image(&denial),
            };
        };
        let key = VerdictCacheKey {
            used_as: check.ask.used_as,
            repository: check.reference.repository.to_string(),
            digest,
            had_digest: true,
            credentials: source.credentials,
            policies: snapshot.governing_fingerprints(&check.request.policy_scope()),
        };
        if let Some(success) = self.verdict_cache.get(&key, self.clock.now()).await {
            self.metrics.count_cache_request("verdict", "hit");
            return check.cached_image(&success);
        }
        self.metrics.count_cache_request("verdict", "miss");
        // Of several equal checks in one namespace, one fetches the evidence and all get its
        // verdict.
        check.stage.set_stage(VerdictStage::Queue);
        let asking = Box::pin(async {
            Err::<Infallible, _>(self.check_in_turn(check, &source, &key).await)
        });
        let outcome = match self
            .in_flight
            .try_get_with((key.clone(), check.ask.namespace.clone()), asking)
            .await
        {
            Ok(never) => match never {},
            Err(outcome) => outcome,
        };
        let report = check.shared_report(&outcome.image.report, outcome.is_cached);
        CheckedImage {
            report,
            ..outcome.image.clone()
        }
    }

    /// Evaluates once a slot is free, unless the cache has an admission of another namespace by
    /// then.
    async fn check_in_turn(
        &self,
        check: &ImageCheck<'_>,
        source: &OpenedRepository,
        key: &VerdictCacheKey,
    ) -> ImageCheckOutcome {
        let _slot = match self.acquire_slot(check).await {
            Ok(slot) => slot,
            Err(denial) => {
                return ImageCheckOutcome {
                    image: check.denied_image(&denial),
                    is_cached: false,
                };
            }
        };
        if let Some(success) = self.verdict_cache.get(key, self.clock.now()).await {
            return ImageCheckOutcome {
                image: check.cached_image(&success),
                is_cached: true,
            };
        }
        let (image, success) = self.evaluate_evidence(check, source).await;
        let is_cached = success.is_some();
        if let Some(success) = success
            && !self
                .verdict_cache
                .insert(key.clone(), Arc::new(success))
                .await
        {
            self.metrics.count_cache_request("verdict", "full");
        }
        ImageCheckOutcome { image, is_cached }
    }

    /// Fetches the evidence and evaluates it. Also returns the entry for the cache, if admitted.
    async fn evaluate_evidence(
        &self,
        check: &ImageCheck<'_>,
        source: &OpenedRepository,
    ) -> (CheckedImage, Option<CachedVerdict>) {
        // The review's own deadline ends this.
        let selector = check.reference.tag_or_digest();
        let verdict = evaluate_reference_tracked(
            &source.source,
            &selector,
            check.request,
            None,
            check.stage,
            &InputLimits::DEFAULT,
        )
        .await;
        let pulled = check.ask.credentials.get().await;
        let verdict = explain_access_denial(verdict, check.request, pulled, &self.system_namespace);
        let image = check.checked_image(&verdict, verdict.digest);
        // What was read with renewed credentials is not known to whoever has those of the key.
        let clearance = verdict
            .digest
            .filter(|_| !source.renewal.has_happened())
            .and_then(|digest| verdict.decision.clearance(&digest));
        let success = clearance.map(|clearance| {
            let until = cached_until(check.request.now, verdict.decision.holds_until());
            CachedVerdict::new(image.report.clone(), clearance, until, &check.ask.namespace)
        });
        (image, success)
    }

    /// Waits for one of the slots of concurrent evaluations.
    async fn acquire_slot(&self, check: &ImageCheck<'_>) -> Result<FairQueuePermit, Denial> {
        let party = FairQueueKey::new(
            Some(&check.ask.namespace),
            Some(check.reference.repository.host()),
        );
        let taken = match self.slots.try_acquire(&party) {
            Ok(slot) => {
                check.stage.set_stage(VerdictStage::Registry);
                return Ok(slot);
            }
            Err(taken) => taken,
        };
        check.stage.set_stage(VerdictStage::Queue);
        let _waiting = self.metrics.track_waiting_image(taken);
        let slot = self.slots.acquire_permit(&party).await;
        check.stage.set_stage(VerdictStage::Registry);
        slot.map_err(|full| overload_denial(full, &check.ask.namespace))
    }

    fn verification_request<'a>(
        &self,
        ask: &'a ImageCheckRequest,
        reference: &'a ImageReference,
        policies: &'a [Policy],
    ) -> VerificationRequest<'a> {
        VerificationRequest {
            policies,
            reference: &ask.reference,
            repository: Some(&reference.repository),
            had_digest: reference.digest.is_some(),
            used_as: ask.used_as,
            namespace: Some(&ask.namespace),
            now: self.clock.now(),
            reading: EvidenceDepth::Needed,
        }
    }
}

fn overload_denial(full: FairQueueFull, namespace: &str) -> Denial {
    let message = match full {
        FairQueueFull::Namespace => format!(
            "{} images of namespace {namespace} are already queued for verification; try again",
            CHECK_SLOTS.waiting_of_namespace
        ),
        FairQueueFull::All => format!(
            "{} images of all namespaces are already queued for verification; try again",
            CHECK_SLOTS.waiting
        ),
    };
    Denial::new(Reason::Overloaded, message)
}

/// When the cache entry of a decision made at `now` expires. The decision is valid until
/// `holds_until`.
fn cached_until(now: Timestamp, holds_until: Option<Timestamp>) -> Timestamp {
    let ttl = SignedDuration::try_from(VERDICT_TTL).unwrap_or(SignedDuration::ZERO);
    let latest = now.saturating_add(ttl).unwrap_or(now);
    holds_until.map_or(latest, |end| end.min(latest))
}

#[cfg(test)]
mod tests;
