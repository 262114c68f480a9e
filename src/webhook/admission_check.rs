//! Evaluates one use of one image at admission, with a limit on concurrent evaluations and a cache
//! of admitted uses.
//!
//! Requests wait in a queue per namespace, and a request of one namespace never waits in the queue
//! of another. Only admissions are cached, under a key with all that they depend on: the use, the
//! repository and digest, whose credentials were used, and the content of every policy that
//! governs. An entry expires when time alone would change the verdict: an exemption ends,
//! provenance exceeds its maximum age, a revocation takes effect.

mod verdict_cache;

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use moka::future::Cache;

use self::verdict_cache::{CachedVerdict, VERDICT_TTL, VerdictCache};
use super::metrics::WebhookMetrics;
use crate::{
    api::bundle_policy::PolicySnapshot,
    clock::Clock,
    core::{
        digest::Digest,
        limits::InputLimits,
        policy::{
            AdmissionGrounds, Denial, Policy, ReferenceTarget, ReferenceUse, ReferenceUseScope,
            Ungoverned, deny_without_evidence,
        },
        reason::Reason,
        reference::ImageReference,
        report::{AdmissionReport, ReportInputs, cluster_verify_command},
        verify::VerificationFindings,
    },
    service::{
        fair_queue::{FairQueue, FairQueueFull, FairQueueKey, FairQueueLimits, FairQueuePermit},
        registries::{OpenedRepository, TenantRepositoryOpener},
        verdict::{self, ReferenceVerdict, denial_from_error},
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

/// One use of an image to check.
#[derive(Clone, Debug)]
pub(super) struct ImageCheckRequest {
    /// The path of the field in the object.
    pub field: String,
    /// The reference as written in the field.
    pub reference: String,
    /// How the image is used.
    pub used_as: ReferenceUse,
    /// The namespace of the object.
    pub namespace: String,
    /// The credentials of the pull; `None` for anonymous access.
    pub credential: Option<PullCredential>,
}

/// Registry credentials.
#[derive(Clone)]
pub(super) struct PullCredential {
    /// A docker configuration (`config.json`).
    pub docker_config: Vec<u8>,
}

impl std::fmt::Debug for PullCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PullCredential")
    }
}

/// Everything that an admission depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct VerdictCacheKey {
    used_as: ReferenceUse,
    repository: String,
    digest: Digest,
    had_digest: bool,
    /// The digest of the docker configuration. An admission with one user's credentials is not
    /// valid for another's.
    credential: Option<Digest>,
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
}

/// The verdict on one use, with what allows it.
#[derive(Clone, Debug)]
pub(super) struct CheckedImage {
    /// The report with the verdict.
    pub report: AdmissionReport,
    /// What allows it, if a policy governs it and no policy in mode `Enforce` denies it.
    pub grounds: Option<AdmissionGrounds>,
    /// Set if no policy governs it.
    pub ungoverned: Option<Ungoverned>,
}

/// A checked image, and whether its verdict is cached.
struct ImageCheckOutcome {
    image: CheckedImage,
    /// The verdict was put into the cache, or comes from it.
    is_cached: bool,
}

impl AdmissionChecker {
    /// Every review is answered within `deadline`.
    pub(super) fn new(
        registries: Arc<dyn TenantRepositoryOpener>,
        clock: Arc<dyn Clock>,
        deadline: Duration,
        metrics: WebhookMetrics,
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
        let case = ImageCheckContext {
            ask,
            reference: &reference,
            request: &request,
            begun,
            stage: &VerdictStageTracker::default(),
        };
        if !request.is_governed() {
            return case.checked_image(
                &verdict::denied_verdict(&request, &Denial::new(Reason::Ungoverned, "")),
                reference.digest,
            );
        }
        let left = self.deadline.saturating_sub(begun.elapsed());
        let checked = tokio::time::timeout(left, self.check_governed_image(&case, snapshot)).await;
        checked.unwrap_or_else(|_| {
            let message = case
                .stage
                .timeout_message(&reference.repository.to_string(), self.deadline);
            case.denied_image(&Denial::new(Reason::DeadlineExceeded, message))
        })
    }

    async fn check_governed_image(
        &self,
        case: &ImageCheckContext<'_>,
        snapshot: &PolicySnapshot,
    ) -> CheckedImage {
        let docker_config = case
            .ask
            .credential
            .as_ref()
            .map(|credential| credential.docker_config.as_slice());
        let source = match self
            .registries
            .open_repository(&case.reference.repository, docker_config)
        {
            Ok(source) => source,
            Err(error) => return case.denied_image(&denial_from_error(&error)),
        };
        // A tag is resolved anew each time: the digest that it named before says nothing about now.
        let Some(digest) = case.reference.digest else {
            return match self.acquire_slot(case).await {
                Ok(_slot) => self.evaluate_evidence(case, &source).await.0,
                Err(denial) => case.denied_image(&denial),
            };
        };
        let key = VerdictCacheKey {
            used_as: case.ask.used_as,
            repository: case.reference.repository.to_string(),
            digest,
            had_digest: true,
            credential: docker_config.map(Digest::of_bytes),
            policies: snapshot.governing_fingerprints(&case.request.policy_scope()),
        };
        if let Some(success) = self.verdict_cache.get(&key, self.clock.now()).await {
            self.metrics.count_cache_request("verdict", "hit");
            return case.cached_image(&success);
        }
        self.metrics.count_cache_request("verdict", "miss");
        // Of several equal checks in one namespace, one fetches the evidence and all get its
        // verdict.
        case.stage.set_stage(VerdictStage::Queue);
        let asking =
            Box::pin(async { Err::<Infallible, _>(self.check_in_turn(case, &source, &key).await) });
        let outcome = match self
            .in_flight
            .try_get_with((key.clone(), case.ask.namespace.clone()), asking)
            .await
        {
            Ok(never) => match never {},
            Err(outcome) => outcome,
        };
        let report = case.shared_report(&outcome.image.report, outcome.is_cached);
        CheckedImage {
            report,
            ..outcome.image.clone()
        }
    }

    /// Evaluates once a slot is free, unless the cache has an admission of another namespace by
    /// then.
    async fn check_in_turn(
        &self,
        case: &ImageCheckContext<'_>,
        source: &OpenedRepository,
        key: &VerdictCacheKey,
    ) -> ImageCheckOutcome {
        let _slot = match self.acquire_slot(case).await {
            Ok(slot) => slot,
            Err(denial) => {
                return ImageCheckOutcome {
                    image: case.denied_image(&denial),
                    is_cached: false,
                };
            }
        };
        if let Some(success) = self.verdict_cache.get(key, self.clock.now()).await {
            return ImageCheckOutcome {
                image: case.cached_image(&success),
                is_cached: true,
            };
        }
        let (image, success) = self.evaluate_evidence(case, source).await;
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
        case: &ImageCheckContext<'_>,
        source: &OpenedRepository,
    ) -> (CheckedImage, Option<CachedVerdict>) {
        // The review's own deadline ends this.
        let selector = case.reference.tag_or_digest();
        let answer = verdict::evaluate_reference_tracked(
            source,
            &selector,
            case.request,
            None,
            case.stage,
            &InputLimits::DEFAULT,
        )
        .await;
        let image = case.checked_image(&answer, answer.digest);
        let clearance = answer
            .digest
            .and_then(|digest| answer.decision.clearance(&digest));
        let success = clearance.map(|clearance| {
            let until = cached_until(case.request.now, answer.decision.holds_until());
            CachedVerdict::new(image.report.clone(), clearance, until, &case.ask.namespace)
        });
        (image, success)
    }

    /// Waits for one of the slots of concurrent evaluations.
    async fn acquire_slot(&self, case: &ImageCheckContext<'_>) -> Result<FairQueuePermit, Denial> {
        let party = FairQueueKey::new(
            Some(&case.ask.namespace),
            Some(case.reference.repository.host()),
        );
        let taken = match self.slots.try_acquire(&party) {
            Ok(slot) => {
                case.stage.set_stage(VerdictStage::Registry);
                return Ok(slot);
            }
            Err(taken) => taken,
        };
        case.stage.set_stage(VerdictStage::Queue);
        let _waiting = self.metrics.track_waiting_image(taken);
        let slot = self.slots.acquire_permit(&party).await;
        case.stage.set_stage(VerdictStage::Registry);
        slot.map_err(|full| overload_denial(full, &case.ask.namespace))
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

/// A reference that cannot be parsed: denied by every policy of its use, because a runtime might
/// be able to parse it.
fn unreadable_reference(
    ask: &ImageCheckRequest,
    snapshot: &PolicySnapshot,
    begun: Instant,
) -> CheckedImage {
    let why = ask
        .reference
        .parse::<ImageReference>()
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    let scope = ReferenceUseScope {
        name: ReferenceTarget::Unreadable,
        used_as: ask.used_as,
        namespace: Some(&ask.namespace),
    };
    let decision = deny_without_evidence(
        snapshot.policies(),
        &scope,
        &Denial::new(Reason::InvalidSpec, why),
    );
    let reproduce = cluster_verify_command(&ask.reference, ask.used_as, &ask.namespace);
    CheckedImage {
        report: AdmissionReport::new(
            report_request(ask, reproduce, begun),
            &decision,
            &VerificationFindings::default(),
        ),
        grounds: decision.admission_grounds(None),
        ungoverned: decision.ungoverned(),
    }
}

/// One use under evaluation.
struct ImageCheckContext<'a> {
    ask: &'a ImageCheckRequest,
    reference: &'a ImageReference,
    request: &'a VerificationRequest<'a>,
    begun: Instant,
    stage: &'a VerdictStageTracker,
}

impl ImageCheckContext<'_> {
    fn checked_image(&self, answer: &ReferenceVerdict, digest: Option<Digest>) -> CheckedImage {
        CheckedImage {
            report: self.build_report(answer, digest),
            grounds: answer.decision.admission_grounds(digest.as_ref()),
            ungoverned: answer.decision.ungoverned(),
        }
    }

    fn build_report(&self, answer: &ReferenceVerdict, digest: Option<Digest>) -> AdmissionReport {
        // With the digest filled in, the command would no longer be denied for its missing digest.
        let pinned = digest.filter(|_| !answer.decision.has_denial_reason(Reason::DigestRequired));
        let reference = ImageReference {
            digest: pinned,
            ..self.reference.clone()
        };
        let named = if reference.digest.is_some() {
            ImageReference {
                tag: None,
                ..reference
            }
        } else {
            reference
        };
        let inputs = report_request(
            self.ask,
            cluster_verify_command(&named.to_string(), self.ask.used_as, &self.ask.namespace),
            self.begun,
        );
        AdmissionReport::new(
            ReportInputs {
                digest,
                registry_requests: answer.requests,
                ..inputs
            },
            &answer.decision,
            &answer.findings,
        )
    }

    fn denied_image(&self, denial: &Denial) -> CheckedImage {
        self.checked_image(
            &verdict::denied_verdict(self.request, denial),
            self.reference.digest,
        )
    }

    /// A cached admission, possibly of another object.
    fn cached_image(&self, success: &CachedVerdict) -> CheckedImage {
        CheckedImage {
            report: self.shared_report(&success.report, true),
            grounds: Some(AdmissionGrounds::Cleared(success.clearance.clone())),
            ungoverned: None,
        }
    }

    /// The report of a shared check, adapted to this request. A cached one made no registry
    /// requests.
    fn shared_report(&self, report: &AdmissionReport, is_cached: bool) -> AdmissionReport {
        let reproduce = cluster_verify_command(
            &pinned_name(self.reference),
            self.ask.used_as,
            &self.ask.namespace,
        );
        let inputs = report_request(self.ask, reproduce, self.begun);
        report.for_request(ReportInputs {
            registry_requests: if is_cached {
                0
            } else {
                report.registry_requests()
            },
            ..inputs
        })
    }
}

fn pinned_name(reference: &ImageReference) -> String {
    if reference.digest.is_some() {
        ImageReference {
            tag: None,
            ..reference.clone()
        }
        .to_string()
    } else {
        reference.to_string()
    }
}

fn report_request(ask: &ImageCheckRequest, reproduce: String, begun: Instant) -> ReportInputs {
    ReportInputs {
        reference: ask.reference.clone(),
        used_as: ask.used_as,
        field: Some(ask.field.clone()),
        reproduce,
        elapsed_ms: elapsed_millis(begun),
        ..ReportInputs::default()
    }
}

fn elapsed_millis(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
