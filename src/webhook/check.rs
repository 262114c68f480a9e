//! Judges one use of one image, at admission: with a bound on how many are judged at once, and a memory of what was admitted.
//!
//! Only successes are remembered, under everything that they depend on: the use, the repository and digest, whose credentials were used,
//! and the content of every policy that governs. What time alone can end (an exemption, provenance that grows too old, a revocation that
//! begins) ends them too: an entry lives as long as judging it again would give the same.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use moka::future::Cache;
use tokio::sync::Semaphore;

use super::metrics::Metrics;
use crate::{
    api::bundle_policy::Snapshot,
    clock::Clock,
    core::{
        class::Reason,
        digest::Digest,
        limits::Limits,
        policy::{Denial, Name, Outcome, Policy, Scope, Use, Verdict, refuse},
        reference::Reference,
        report::{Asked, Report, in_cluster},
        verify::Findings,
    },
    service::{
        registries::{Opened, Registries},
        verdict::{self, Answer, denial},
        verify::{Question, Reading},
    },
};

/// How long a success is remembered.
const REMEMBERED: Duration = Duration::from_mins(10);
/// Bytes of all that is remembered, about.
const MEMORY: u64 = 16 << 20;
/// Images that evidence is gathered for at once.
const AT_ONCE: usize = 64;
/// Images that wait for that. More are refused: whoever asks has given up by then.
const WAITING: usize = 1_000;

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    /// Where it stands in the object.
    pub field: String,
    /// The reference as it stands there.
    pub reference: String,
    /// What it is used as.
    pub used_as: Use,
    /// In which namespace.
    pub namespace: String,
    /// Who pulls it.
    pub credential: Option<Credential>,
}

/// What a registry is shown.
#[derive(Clone)]
pub(super) struct Credential {
    /// A docker configuration.
    pub docker_config: Vec<u8>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential")
    }
}

/// Everything that a success depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    used_as: Use,
    repository: String,
    digest: Digest,
    had_digest: bool,
    /// Digest of the docker configuration. Verified with A's credentials is not verified with B's.
    credential: Option<Digest>,
    /// Digests of the policies that govern, with all that they refer to.
    policies: Vec<Digest>,
}

/// A success.
#[derive(Debug)]
struct Success {
    report: Report,
    until: Timestamp,
    weight: u32,
}

/// Judges uses of images.
pub(super) struct Checker {
    registries: Arc<dyn Registries>,
    clock: Arc<dyn Clock>,
    deadline: Duration,
    cache: Cache<Key, Arc<Success>>,
    slots: Semaphore,
    waiting: AtomicUsize,
    metrics: Metrics,
}

impl Checker {
    /// Every review is answered within `deadline`.
    pub(super) fn new(registries: Arc<dyn Registries>, clock: Arc<dyn Clock>, deadline: Duration, metrics: Metrics) -> Self {
        let cache = Cache::builder().max_capacity(MEMORY).weigher(|_: &Key, success: &Arc<Success>| success.weight).time_to_live(REMEMBERED).build();
        Self { registries, clock, deadline, cache, slots: Semaphore::new(AT_ONCE), waiting: AtomicUsize::new(0), metrics }
    }

    /// The verdict on one use, by the policies of `snapshot`. `begun` is when the review came.
    pub(super) async fn check(&self, ask: &Ask, snapshot: &Snapshot, begun: Instant) -> Report {
        let Ok(reference) = ask.reference.parse::<Reference>() else { return unreadable(ask, snapshot, begun) };
        let question = self.question(ask, &reference, snapshot.policies());
        let case = Case { ask, reference: &reference, question: &question, begun };
        if !question.is_governed() {
            return case.report(&verdict::refused(&question, &Denial::new(Reason::Ungoverned, "")), reference.digest);
        }
        let left = self.deadline.saturating_sub(begun.elapsed());
        let judged = tokio::time::timeout(left, self.governed(&case, snapshot)).await;
        judged.unwrap_or_else(|_| {
            let message =
                format!("no verdict within {} s: {} answers too slowly, or not at all; try again", self.deadline.as_secs_f32(), reference.repository);
            case.refused(&Denial::new(Reason::DeadlineExceeded, message))
        })
    }

    async fn governed(&self, case: &Case<'_>, snapshot: &Snapshot) -> Report {
        let docker_config = case.ask.credential.as_ref().map(|credential| credential.docker_config.as_slice());
        let source = match self.registries.open(&case.reference.repository, docker_config) {
            Ok(source) => source,
            Err(error) => return case.refused(&denial(&error)),
        };
        // A tag is resolved each time: what it named before says nothing about now.
        let Some(digest) = case.reference.digest else { return self.fresh(case, &source).await.0 };
        let key = Key {
            used_as: case.ask.used_as,
            repository: case.reference.repository.to_string(),
            digest,
            had_digest: true,
            credential: docker_config.map(Digest::of),
            policies: snapshot.fingerprints(&case.question.scope()),
        };
        if let Some(success) = self.cache.get(&key).await {
            if self.clock.now() < success.until {
                self.metrics.cache("verdict", "hit");
                return case.remembered(&success.report);
            }
            self.cache.invalidate(&key).await;
        }
        self.metrics.cache("verdict", "miss");
        // Of many who ask for the same at once, one gathers the evidence and all get its answer.
        let judged = self.cache.try_get_with(
            key,
            Box::pin(async {
                let (report, until) = self.fresh(case, &source).await;
                match until {
                    Some(until) => Ok(Arc::new(Success::new(report, until))),
                    None => Err(Box::new(report)),
                }
            }),
        );
        match judged.await {
            Ok(success) => case.remembered(&success.report),
            Err(report) => case.told(&report),
        }
    }

    /// Gathers the evidence and judges it. With a time, until when the answer holds: it is a success then.
    async fn fresh(&self, case: &Case<'_>, source: &Opened) -> (Report, Option<Timestamp>) {
        let Some(_slot) = self.slot().await else {
            let message = format!("{WAITING} images wait to be judged already; try again");
            return (case.refused(&Denial::new(Reason::Overloaded, message)), None);
        };
        // The review's own deadline ends this.
        let selector = case.reference.selector();
        let answer = verdict::give(source, &selector, case.question, None, &Limits::DEFAULT).await;
        let until = holds_until(case, &answer);
        (case.report(&answer, answer.digest), until)
    }

    async fn slot(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        if let Ok(slot) = self.slots.try_acquire() {
            return Some(slot);
        }
        let waiting = Waiting::begin(&self.waiting)?;
        let slot = self.slots.acquire().await.ok();
        drop(waiting);
        slot
    }

    fn question<'a>(&self, ask: &'a Ask, reference: &'a Reference, policies: &'a [Policy]) -> Question<'a> {
        Question {
            policies,
            reference: &ask.reference,
            repository: Some(&reference.repository),
            had_digest: reference.digest.is_some(),
            used_as: ask.used_as,
            namespace: Some(&ask.namespace),
            now: self.clock.now(),
            reading: Reading::Needed,
        }
    }
}

/// Until when judging the same again would admit it, at most as long as anything is remembered. `None` for what is not admitted now.
fn holds_until(case: &Case<'_>, answer: &Answer) -> Option<Timestamp> {
    let digest = answer.digest?;
    let now = case.question.now;
    let admits = |at: Timestamp| case.admits(&digest, answer, at);
    if !admits(now) {
        return None;
    }
    let (mut good, mut late) = (SignedDuration::ZERO, SignedDuration::try_from(REMEMBERED).unwrap_or(SignedDuration::ZERO));
    if admits(now.checked_add(late).ok()?) {
        return now.checked_add(late).ok();
    }
    // Time only ever takes an admission away, so the moment is found by halving.
    while late - good > SignedDuration::from_millis(100) {
        let middle = good + (late - good) / 2;
        if admits(now.checked_add(middle).ok()?) { good = middle } else { late = middle }
    }
    now.checked_add(good).ok()
}

/// Nothing that can be understood: refused by every policy of its use, because a runtime might understand it.
fn unreadable(ask: &Ask, snapshot: &Snapshot, begun: Instant) -> Report {
    let why = ask.reference.parse::<Reference>().err().map(|error| error.to_string()).unwrap_or_default();
    let scope = Scope { name: Name::Unreadable, used_as: ask.used_as, namespace: Some(&ask.namespace) };
    let decision = refuse(snapshot.policies(), &scope, &Denial::new(Reason::InvalidSpec, why));
    Report::new(asked(ask, in_cluster(&ask.reference, ask.used_as, &ask.namespace), begun), &decision, &Findings::default())
}

/// One of those who wait.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Option<Self> {
        let waiting = Self(count);
        (count.fetch_add(1, Ordering::Relaxed) < WAITING).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Success {
    fn new(report: Report, until: Timestamp) -> Self {
        let size = serde_json::to_string(&report).map_or(4_096, |text| text.len());
        // What the strings and lists of a report need beside their text, and the key.
        let weight = u32::try_from(size * 2 + 512).unwrap_or(u32::MAX);
        Self { report, until, weight }
    }
}

/// One use that is being judged.
struct Case<'a> {
    ask: &'a Ask,
    reference: &'a Reference,
    question: &'a Question<'a>,
    begun: Instant,
}

impl Case<'_> {
    fn report(&self, answer: &Answer, digest: Option<Digest>) -> Report {
        // With the digest filled in, the command would no longer be refused for not having one.
        let pinned = digest.filter(|_| !answer.decision.denies_for(Reason::DigestRequired));
        let reference = Reference { digest: pinned, ..self.reference.clone() };
        let named = if reference.digest.is_some() { Reference { tag: None, ..reference } } else { reference };
        let asked = asked(self.ask, in_cluster(&named.to_string(), self.ask.used_as, &self.ask.namespace), self.begun);
        Report::new(Asked { digest, registry_requests: answer.requests, ..asked }, &answer.decision, &answer.findings)
    }

    fn refused(&self, denial: &Denial) -> Report {
        self.report(&verdict::refused(self.question, denial), self.reference.digest)
    }

    /// A success that was found out before, perhaps in another object.
    fn remembered(&self, report: &Report) -> Report {
        Report { registry_requests: 0, ..self.told(report) }
    }

    /// A verdict that somebody else waited for as well.
    fn told(&self, report: &Report) -> Report {
        let mut report = Report {
            reference: self.ask.reference.clone(),
            field: Some(self.ask.field.clone()),
            elapsed_ms: milliseconds(self.begun),
            ..report.clone()
        };
        report.reproduce = in_cluster(&pinned(self.reference), self.ask.used_as, &self.ask.namespace);
        report.denials.iter_mut().for_each(|denial| denial.field = Some(self.ask.field.clone()));
        report
    }

    /// Would the same evidence be enough at another time?
    fn admits(&self, digest: &Digest, answer: &Answer, at: Timestamp) -> bool {
        let decision = if at == self.question.now { None } else { Some(answer.at(self.question, *digest, at)) };
        let outcome = decision.as_ref().map_or(&answer.decision.outcome, |decision| &decision.outcome);
        match outcome {
            Outcome::Governed(Verdict::Admit(admitted)) => admitted.digest() == digest,
            Outcome::Governed(Verdict::Exempt(_)) => true,
            Outcome::Governed(Verdict::Deny(_)) | Outcome::Ungoverned => false,
        }
    }
}

fn pinned(reference: &Reference) -> String {
    if reference.digest.is_some() { Reference { tag: None, ..reference.clone() }.to_string() } else { reference.to_string() }
}

fn asked(ask: &Ask, reproduce: String, begun: Instant) -> Asked {
    Asked {
        reference: ask.reference.clone(),
        used_as: ask.used_as,
        field: Some(ask.field.clone()),
        reproduce,
        elapsed_ms: milliseconds(begun),
        ..Asked::default()
    }
}

fn milliseconds(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
