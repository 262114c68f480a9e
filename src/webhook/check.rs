//! Judges one use of one image, at admission: with a bound on how many are judged at once, and a
//! memory of what was admitted.
//!
//! Everybody waits in the line of their own namespace, and what one namespace asks is never
//! answered from another's place in line. Only successes are remembered, under everything that they
//! depend on: the use, the repository and digest, whose credentials were used, and the content of
//! every policy that governs. What time alone can end (an exemption, provenance that grows too old,
//! a revocation that begins) ends them too: an entry lives as long as judging it again would give
//! the same.

mod remembered;

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use moka::future::Cache;

use self::remembered::{REMEMBERED, Remembered, Success};
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
        shares::{Bounds, Full, Party, Share, Shares},
        stage::{At, Stage},
        verdict::{self, Answer, denial},
        verify::{Question, Reading},
    },
};

/// Images that evidence is gathered for at once, and that wait for it. Who is over has to ask
/// again: they would have given up by then.
///
/// Half of the slots are left to others whatever one registry does, and most of them whatever one
/// namespace does.
const SLOTS: Bounds = Bounds {
    all: 64,
    namespace: 24,
    host: 32,
    namespace_at_host: 16,
    waiting: 1_000,
    waiting_of_namespace: 500,
};

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

/// Judges uses of images.
pub(super) struct Checker {
    registries: Arc<dyn Registries>,
    clock: Arc<dyn Clock>,
    deadline: Duration,
    remembered: Remembered<Key>,
    /// What is asked at the moment, by each namespace. Nothing stays here.
    asked: Cache<(Key, String), Infallible>,
    slots: Arc<Shares>,
    metrics: Metrics,
}

/// What came of asking.
struct Found {
    report: Report,
    /// It is remembered.
    success: Option<Arc<Success>>,
}

impl Checker {
    /// Every review is answered within `deadline`.
    pub(super) fn new(
        registries: Arc<dyn Registries>,
        clock: Arc<dyn Clock>,
        deadline: Duration,
        metrics: Metrics,
    ) -> Self {
        let (remembered, asked) = (Remembered::default(), Cache::builder().build());
        Self {
            registries,
            clock,
            deadline,
            remembered,
            asked,
            slots: Shares::new(SLOTS),
            metrics,
        }
    }

    /// The verdict on one use, by the policies of `snapshot`. `begun` is when the review came.
    pub(super) async fn check(&self, ask: &Ask, snapshot: &Snapshot, begun: Instant) -> Report {
        let Ok(reference) = ask.reference.parse::<Reference>() else {
            return unreadable(ask, snapshot, begun);
        };
        let question = self.question(ask, &reference, snapshot.policies());
        let case = Case {
            ask,
            reference: &reference,
            question: &question,
            begun,
            stage: &Stage::default(),
        };
        if !question.is_governed() {
            return case.report(
                &verdict::refused(&question, &Denial::new(Reason::Ungoverned, "")),
                reference.digest,
            );
        }
        let left = self.deadline.saturating_sub(begun.elapsed());
        let judged = tokio::time::timeout(left, self.governed(&case, snapshot)).await;
        judged.unwrap_or_else(|_| {
            let message = case
                .stage
                .late(&reference.repository.to_string(), self.deadline);
            case.refused(&Denial::new(Reason::DeadlineExceeded, message))
        })
    }

    async fn governed(&self, case: &Case<'_>, snapshot: &Snapshot) -> Report {
        let docker_config = case
            .ask
            .credential
            .as_ref()
            .map(|credential| credential.docker_config.as_slice());
        let source = match self
            .registries
            .open(&case.reference.repository, docker_config)
        {
            Ok(source) => source,
            Err(error) => return case.refused(&denial(&error)),
        };
        // A tag is resolved each time: what it named before says nothing about now.
        let Some(digest) = case.reference.digest else {
            return match self.slot(case).await {
                Ok(_slot) => self.fresh(case, &source).await.0,
                Err(denial) => case.refused(&denial),
            };
        };
        let key = Key {
            used_as: case.ask.used_as,
            repository: case.reference.repository.to_string(),
            digest,
            had_digest: true,
            credential: docker_config.map(Digest::of),
            policies: snapshot.fingerprints(&case.question.scope()),
        };
        if let Some(success) = self.remembered.get(&key, self.clock.now()).await {
            self.metrics.cache("verdict", "hit");
            return case.again(&success.report);
        }
        self.metrics.cache("verdict", "miss");
        // Of many in one namespace who ask for the same at once, one gathers the evidence and all
        // get its answer.
        case.stage.set(At::Queue);
        let asking = Box::pin(async { Err::<Infallible, _>(self.ask(case, &source, &key).await) });
        let outcome = match self
            .asked
            .try_get_with((key.clone(), case.ask.namespace.clone()), asking)
            .await
        {
            Ok(never) => match never {},
            Err(outcome) => outcome,
        };
        if outcome.success.is_some() {
            case.again(&outcome.report)
        } else {
            case.told(&outcome.report)
        }
    }

    /// Judges when it is this question's turn, unless another namespace has found out the same
    /// meanwhile.
    async fn ask(&self, case: &Case<'_>, source: &Opened, key: &Key) -> Found {
        let _slot = match self.slot(case).await {
            Ok(slot) => slot,
            Err(denial) => {
                return Found {
                    report: case.refused(&denial),
                    success: None,
                };
            }
        };
        if let Some(success) = self.remembered.get(key, self.clock.now()).await {
            return Found {
                report: success.report.clone(),
                success: Some(success),
            };
        }
        let (report, until) = self.fresh(case, source).await;
        let success =
            until.map(|until| Arc::new(Success::new(report.clone(), until, &case.ask.namespace)));
        if let Some(success) = &success
            && !self
                .remembered
                .insert(key.clone(), Arc::clone(success))
                .await
        {
            self.metrics.cache("verdict", "full");
        }
        Found { report, success }
    }

    /// Gathers the evidence and judges it. With a time, until when the answer holds: it is a
    /// success then.
    async fn fresh(&self, case: &Case<'_>, source: &Opened) -> (Report, Option<Timestamp>) {
        // The review's own deadline ends this.
        let selector = case.reference.selector();
        let answer = verdict::give_telling(
            source,
            &selector,
            case.question,
            None,
            case.stage,
            &Limits::DEFAULT,
        )
        .await;
        let until = holds_until(case, &answer);
        (case.report(&answer, answer.digest), until)
    }

    /// A place among those that are judged at once.
    async fn slot(&self, case: &Case<'_>) -> Result<Share, Denial> {
        let party = Party::new(
            Some(&case.ask.namespace),
            Some(case.reference.repository.host()),
        );
        let taken = match self.slots.try_take(&party) {
            Ok(slot) => {
                case.stage.set(At::Registry);
                return Ok(slot);
            }
            Err(taken) => taken,
        };
        case.stage.set(At::Queue);
        let _waiting = self.metrics.waiting(taken);
        let slot = self.slots.take(&party).await;
        case.stage.set(At::Registry);
        slot.map_err(|full| overloaded(full, &case.ask.namespace))
    }

    fn question<'a>(
        &self,
        ask: &'a Ask,
        reference: &'a Reference,
        policies: &'a [Policy],
    ) -> Question<'a> {
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

fn overloaded(full: Full, namespace: &str) -> Denial {
    let message = match full {
        Full::Namespace => format!(
            "{} images of namespace {namespace} wait to be judged already; try again",
            SLOTS.waiting_of_namespace
        ),
        Full::All => format!(
            "{} images wait to be judged already, of all namespaces; try again",
            SLOTS.waiting
        ),
    };
    Denial::new(Reason::Overloaded, message)
}

/// Until when judging the same again would admit it, at most as long as anything is remembered.
/// `None` for what is not admitted now.
fn holds_until(case: &Case<'_>, answer: &Answer) -> Option<Timestamp> {
    let digest = answer.digest?;
    let now = case.question.now;
    let admits = |at: Timestamp| case.admits(&digest, answer, at);
    if !admits(now) {
        return None;
    }
    let (mut good, mut late) = (
        SignedDuration::ZERO,
        SignedDuration::try_from(REMEMBERED).unwrap_or(SignedDuration::ZERO),
    );
    if admits(now.checked_add(late).ok()?) {
        return now.checked_add(late).ok();
    }
    // Time only ever takes an admission away, so the moment is found by halving.
    while late - good > SignedDuration::from_millis(100) {
        let middle = good + (late - good) / 2;
        if admits(now.checked_add(middle).ok()?) {
            good = middle
        } else {
            late = middle
        }
    }
    now.checked_add(good).ok()
}

/// Nothing that can be understood: refused by every policy of its use, because a runtime might
/// understand it.
fn unreadable(ask: &Ask, snapshot: &Snapshot, begun: Instant) -> Report {
    let why = ask
        .reference
        .parse::<Reference>()
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    let scope = Scope {
        name: Name::Unreadable,
        used_as: ask.used_as,
        namespace: Some(&ask.namespace),
    };
    let decision = refuse(
        snapshot.policies(),
        &scope,
        &Denial::new(Reason::InvalidSpec, why),
    );
    Report::new(
        asked(
            ask,
            in_cluster(&ask.reference, ask.used_as, &ask.namespace),
            begun,
        ),
        &decision,
        &Findings::default(),
    )
}

/// One use that is being judged.
struct Case<'a> {
    ask: &'a Ask,
    reference: &'a Reference,
    question: &'a Question<'a>,
    begun: Instant,
    stage: &'a Stage,
}

impl Case<'_> {
    fn report(&self, answer: &Answer, digest: Option<Digest>) -> Report {
        // With the digest filled in, the command would no longer be refused for not having one.
        let pinned = digest.filter(|_| !answer.decision.denies_for(Reason::DigestRequired));
        let reference = Reference {
            digest: pinned,
            ..self.reference.clone()
        };
        let named = if reference.digest.is_some() {
            Reference {
                tag: None,
                ..reference
            }
        } else {
            reference
        };
        let asked = asked(
            self.ask,
            in_cluster(&named.to_string(), self.ask.used_as, &self.ask.namespace),
            self.begun,
        );
        Report::new(
            Asked {
                digest,
                registry_requests: answer.requests,
                ..asked
            },
            &answer.decision,
            &answer.findings,
        )
    }

    fn refused(&self, denial: &Denial) -> Report {
        self.report(
            &verdict::refused(self.question, denial),
            self.reference.digest,
        )
    }

    /// A success that was found out before, perhaps in another object.
    fn again(&self, report: &Report) -> Report {
        Report {
            registry_requests: 0,
            ..self.told(report)
        }
    }

    /// A verdict that somebody else waited for as well.
    fn told(&self, report: &Report) -> Report {
        let mut report = Report {
            reference: self.ask.reference.clone(),
            field: Some(self.ask.field.clone()),
            elapsed_ms: milliseconds(self.begun),
            ..report.clone()
        };
        report.reproduce = in_cluster(
            &pinned(self.reference),
            self.ask.used_as,
            &self.ask.namespace,
        );
        report
            .denials
            .iter_mut()
            .for_each(|denial| denial.field = Some(self.ask.field.clone()));
        report
    }

    /// Would the same evidence be enough at another time?
    fn admits(&self, digest: &Digest, answer: &Answer, at: Timestamp) -> bool {
        let decision = if at == self.question.now {
            None
        } else {
            Some(answer.at(self.question, *digest, at))
        };
        let outcome = decision
            .as_ref()
            .map_or(&answer.decision.outcome, |decision| &decision.outcome);
        match outcome {
            Outcome::Governed(Verdict::Admit(admitted)) => admitted.digest() == digest,
            Outcome::Governed(Verdict::Exempt(_)) => true,
            Outcome::Governed(Verdict::Deny(_)) | Outcome::Ungoverned => false,
        }
    }
}

fn pinned(reference: &Reference) -> String {
    if reference.digest.is_some() {
        Reference {
            tag: None,
            ..reference.clone()
        }
        .to_string()
    } else {
        reference.to_string()
    }
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
