//! Judges one use of one image, at admission: with a bound on how many are judged at once, and a
//! memory of what was admitted.
//!
//! Everybody waits in the line of their own namespace, and what one namespace asks is never
//! answered from another's place in line. Only successes are remembered, under everything that they
//! depend on: the use, the repository and digest, whose credentials were used, and the content of
//! every policy that governs. What time alone can end (an exemption, provenance that grows too old,
//! a revocation that begins) ends them too: an entry lives as long as judging it again would give
//! the same.

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
        verify::{EvidenceDepth, VerificationRequest},
    },
};

/// Images that evidence is gathered for at once, and that wait for it. Who is over has to ask
/// again: they would have given up by then.
///
/// Half of the slots are left to others whatever one registry does, and most of them whatever one
/// namespace does.
const CHECK_SLOTS: FairQueueLimits = FairQueueLimits {
    all: 64,
    namespace: 24,
    host: 32,
    namespace_at_host: 16,
    waiting: 1_000,
    waiting_of_namespace: 500,
};

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct ImageCheckRequest {
    /// Where it stands in the object.
    pub field: String,
    /// The reference as it stands there.
    pub reference: String,
    /// What it is used as.
    pub used_as: ReferenceUse,
    /// In which namespace.
    pub namespace: String,
    /// Who pulls it.
    pub credential: Option<PullCredential>,
}

/// What a registry is shown.
#[derive(Clone)]
pub(super) struct PullCredential {
    /// A docker configuration.
    pub docker_config: Vec<u8>,
}

impl std::fmt::Debug for PullCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PullCredential")
    }
}

/// Everything that a success depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct VerdictCacheKey {
    used_as: ReferenceUse,
    repository: String,
    digest: Digest,
    had_digest: bool,
    /// Digest of the docker configuration. Verified with A's credentials is not verified with B's.
    credential: Option<Digest>,
    /// Digests of the policies that govern, with all that they refer to.
    policies: Vec<Digest>,
}

/// Judges uses of images.
pub(super) struct AdmissionChecker {
    registries: Arc<dyn TenantRepositoryOpener>,
    clock: Arc<dyn Clock>,
    deadline: Duration,
    verdict_cache: VerdictCache<VerdictCacheKey>,
    /// What is asked at the moment, by each namespace. Nothing stays here.
    asked: Cache<(VerdictCacheKey, String), Infallible>,
    slots: Arc<FairQueue>,
    metrics: WebhookMetrics,
}

/// The verdict on one use, and what lets it pass.
#[derive(Clone, Debug)]
pub(super) struct CheckedImage {
    /// What people are told.
    pub report: AdmissionReport,
    /// What lets it pass, if a policy governs it and no policy that enforces denies it.
    pub grounds: Option<AdmissionGrounds>,
    /// That no policy governs it.
    pub ungoverned: Option<Ungoverned>,
}

/// What came of asking.
struct ImageCheckOutcome {
    image: CheckedImage,
    /// It is remembered.
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
        let (remembered, asked) = (VerdictCache::default(), Cache::builder().build());
        Self {
            registries,
            clock,
            deadline,
            verdict_cache: remembered,
            asked,
            slots: FairQueue::new(CHECK_SLOTS),
            metrics,
        }
    }

    /// The verdict on one use, by the policies of `snapshot`. `begun` is when the review came.
    pub(super) async fn check_image(
        &self,
        ask: &ImageCheckRequest,
        snapshot: &PolicySnapshot,
        begun: Instant,
    ) -> CheckedImage {
        let Ok(reference) = ask.reference.parse::<ImageReference>() else {
            return unreadable_reference(ask, snapshot, begun);
        };
        let question = self.verification_request(ask, &reference, snapshot.policies());
        let case = ImageCheckContext {
            ask,
            reference: &reference,
            question: &question,
            begun,
            stage: &VerdictStageTracker::default(),
        };
        if !question.is_governed() {
            return case.checked_image(
                &verdict::denied_verdict(&question, &Denial::new(Reason::Ungoverned, "")),
                reference.digest,
            );
        }
        let left = self.deadline.saturating_sub(begun.elapsed());
        let judged = tokio::time::timeout(left, self.check_governed_image(&case, snapshot)).await;
        judged.unwrap_or_else(|_| {
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
        // A tag is resolved each time: what it named before says nothing about now.
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
            policies: snapshot.governing_fingerprints(&case.question.policy_scope()),
        };
        if let Some(success) = self.verdict_cache.get(&key, self.clock.now()).await {
            self.metrics.count_cache_request("verdict", "hit");
            return case.cached_image(&success);
        }
        self.metrics.count_cache_request("verdict", "miss");
        // Of many in one namespace who ask for the same at once, one gathers the evidence and all
        // get its answer.
        case.stage.set_stage(VerdictStage::Queue);
        let asking =
            Box::pin(async { Err::<Infallible, _>(self.check_in_turn(case, &source, &key).await) });
        let outcome = match self
            .asked
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

    /// Judges when it is this question's turn, unless another namespace has found out the same
    /// meanwhile.
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

    /// Gathers the evidence and judges it. What may be remembered comes with it.
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
            case.question,
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
            let until = cached_until(case.question.now, answer.decision.holds_until());
            CachedVerdict::new(image.report.clone(), clearance, until, &case.ask.namespace)
        });
        (image, success)
    }

    /// A place among those that are judged at once.
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

/// Until when a decision of `now` is remembered: it holds until `holds_until`.
fn cached_until(now: Timestamp, holds_until: Option<Timestamp>) -> Timestamp {
    let ttl = SignedDuration::try_from(VERDICT_TTL).unwrap_or(SignedDuration::ZERO);
    let latest = now.saturating_add(ttl).unwrap_or(now);
    holds_until.map_or(latest, |end| end.min(latest))
}

/// Nothing that can be understood: refused by every policy of its use, because a runtime might
/// understand it.
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

/// One use that is being judged.
struct ImageCheckContext<'a> {
    ask: &'a ImageCheckRequest,
    reference: &'a ImageReference,
    question: &'a VerificationRequest<'a>,
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
        // With the digest filled in, the command would no longer be refused for not having one.
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
        let asked = report_request(
            self.ask,
            cluster_verify_command(&named.to_string(), self.ask.used_as, &self.ask.namespace),
            self.begun,
        );
        AdmissionReport::new(
            ReportInputs {
                digest,
                registry_requests: answer.requests,
                ..asked
            },
            &answer.decision,
            &answer.findings,
        )
    }

    fn denied_image(&self, denial: &Denial) -> CheckedImage {
        self.checked_image(
            &verdict::denied_verdict(self.question, denial),
            self.reference.digest,
        )
    }

    /// A success that was found out before, perhaps in another object.
    fn cached_image(&self, success: &CachedVerdict) -> CheckedImage {
        CheckedImage {
            report: self.shared_report(&success.report, true),
            grounds: Some(AdmissionGrounds::Cleared(success.clearance.clone())),
            ungoverned: None,
        }
    }

    /// The report of a verdict that was given for another object. One that is remembered took no
    /// requests.
    fn shared_report(&self, report: &AdmissionReport, is_cached: bool) -> AdmissionReport {
        let reproduce = cluster_verify_command(
            &pinned_name(self.reference),
            self.ask.used_as,
            &self.ask.namespace,
        );
        let asked = report_request(self.ask, reproduce, self.begun);
        report.for_request(ReportInputs {
            registry_requests: if is_cached {
                0
            } else {
                report.registry_requests
            },
            ..asked
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
