//! What to do next: a pure function of what was observed. Tables of what it says are in
//! `step/tests.rs`.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::rival::Rival;
use crate::{
    api::packed_bundle::{Packing, ToSign, ValidatedPackedBundle, Work},
    core::{
        class::{Class, Reason},
        digest::Digest,
        job::{Failure, RunKey, Success},
        reference::Tag,
    },
};

/// The first wait after a dependency did not answer; it doubles up to [`LONGEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_secs(15);
const LONGEST_RETRY: Duration = Duration::from_mins(15);
/// How soon an object is looked at again whose fault a person may have mended elsewhere: a
/// `ConfigMap`, a Secret, another object.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How soon after a defect of ours.
const AFTER_DEFECT: Duration = Duration::from_mins(10);

/// What was observed of a `PackedBundle` that packs or adopts.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    /// A reconcile was asked for that was not acted on yet.
    pub requested: bool,
    /// The lock that is frozen for this generation.
    pub frozen: Option<Frozen>,
    /// The pack Job of that lock.
    pub pack: JobState,
    /// The sign Job of that lock.
    pub sign: JobState,
    /// The bundle that a finished run of that lock gave.
    pub finished: Option<Digest>,
    /// How often in a row runs of that lock failed because a dependency did not answer.
    pub failures: u32,
    /// An older object with the same destination.
    pub rival: Option<Rival>,
    /// When the source was resolved last by this process.
    pub resolved_at: Option<Timestamp>,
    /// When the bundle was verified last by this process.
    pub verified_at: Option<Timestamp>,
    /// Why it was refused then.
    pub refused: Option<Failure>,
    /// Is an unsigned bundle allowed here?
    pub allow_unsigned: bool,
}

/// A frozen lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frozen {
    /// The run that packs it.
    pub run: RunKey,
    /// The canonical lock's digest.
    pub lock: Digest,
    /// When it was frozen.
    pub at: Timestamp,
}

/// A Job, as its Pods and its conditions tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JobState {
    /// There is none.
    Absent,
    /// It is under way.
    Running {
        /// What keeps it from starting, if something does.
        trouble: Option<String>,
    },
    /// The cluster does not let it make a Pod.
    Refused {
        /// What the cluster says.
        why: String,
    },
    /// It reports success. A claim.
    Succeeded {
        /// What it reports.
        report: Success,
        /// When it ended.
        at: Timestamp,
    },
    /// It failed for good.
    Failed {
        /// Why.
        failure: Failure,
        /// When it ended.
        at: Timestamp,
    },
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing, by the user's wish.
    Suspend,
    /// Resolve the source and freeze the lock.
    Resolve,
    /// Start the pack Job.
    Pack(Frozen),
    /// Start the sign Job on what the pack Job reports.
    Sign(Frozen, Digest),
    /// Wait for a Job.
    Wait(Phase, Option<String>),
    /// Read the bundle back from the registry and verify it.
    Verify(Digest),
    /// Throw the failed run's Jobs away, so that it begins again.
    Restart(Frozen),
    /// A run failed, or cannot begin. What follows is in the failure's class; look again after this
    /// time.
    Fail(Failure, Option<Duration>),
    /// All is done; look again after this time.
    Rest(Option<Duration>),
}

/// Which Job is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The pack Job.
    Packing,
    /// The sign Job.
    Signing,
}

/// What to do next.
pub(super) fn next(validated: &ValidatedPackedBundle, seen: &Observed, now: Timestamp) -> Step {
    if validated.suspend {
        return Step::Suspend;
    }
    match &validated.work {
        Work::Adopt(adoption) => {
            after_run(adoption.reference.digest(), validated.interval, seen, now)
        }
        Work::Pack(packing) => next_of_packing(packing, validated.interval, seen, now),
    }
}

fn next_of_packing(
    packing: &Packing,
    interval: Option<Duration>,
    seen: &Observed,
    now: Timestamp,
) -> Step {
    if packing.signing == ToSign::Nobody && !seen.allow_unsigned {
        return stall(
            Reason::InvalidSpec,
            "spec.signing.mode: None is not allowed by this installation (chart value \
                signing.allowNone)",
        );
    }
    let Some(frozen) = &seen.frozen else {
        return Step::Resolve;
    };
    let step = match seen.finished {
        Some(digest) => after_run(digest, interval, seen, now),
        None => run(frozen, interval, seen, now),
    };
    // No Job is under way: what the source says now may as well count.
    let at_rest = matches!(
        step,
        Step::Verify(_) | Step::Fail(..) | Step::Rest(_) | Step::Pack(_)
    );
    if at_rest && (seen.requested || is_due(seen.resolved_at, interval, now)) {
        return Step::Resolve;
    }
    match &seen.rival {
        Some(rival) => Step::Fail(
            Failure::new(Reason::TagConflict, &conflict(rival)),
            Some(LOOK_AGAIN),
        ),
        None => step,
    }
}

fn conflict(rival: &Rival) -> String {
    match rival {
        Rival::Here { name } => {
            format!(
                "PackedBundle {name} is older and has the same repository and tag; choose \
                another tag, or delete one of the two"
            )
        }
        Rival::Elsewhere => {
            "a PackedBundle of another namespace has pushed to the same repository \
            and tag before; choose another tag"
                .to_owned()
        }
    }
}

/// The failure of the current run.
fn failed(seen: &Observed) -> Option<(&Failure, Timestamp)> {
    [&seen.sign, &seen.pack]
        .into_iter()
        .find_map(|job| match job {
            JobState::Failed { failure, at } => Some((failure, *at)),
            _ => None,
        })
}

fn run(frozen: &Frozen, interval: Option<Duration>, seen: &Observed, now: Timestamp) -> Step {
    if let Some((failure, at)) = failed(seen) {
        return after_failure(frozen, failure, at, seen.failures, now);
    }
    if let Some(why) = [&seen.sign, &seen.pack].into_iter().find_map(refused) {
        return Step::Fail(
            Failure::new(
                Reason::PodDenied,
                &format!("the cluster refuses the Job's Pod: {why}"),
            ),
            Some(LOOK_AGAIN),
        );
    }
    match (&seen.sign, &seen.pack) {
        (JobState::Succeeded { report, .. }, _) => after_run(report.digest, interval, seen, now),
        (JobState::Running { trouble }, _) => Step::Wait(Phase::Signing, trouble.clone()),
        (_, JobState::Running { trouble }) => Step::Wait(Phase::Packing, trouble.clone()),
        (_, JobState::Succeeded { report, .. }) if report.lock_digest == frozen.lock => {
            Step::Sign(frozen.clone(), report.digest)
        }
        (_, JobState::Succeeded { report, .. }) => stall(
            Reason::LockMismatch,
            &format!(
                "the pack Job packed the lock {}, frozen is {}",
                report.lock_digest, frozen.lock
            ),
        ),
        _ => Step::Pack(frozen.clone()),
    }
}

fn refused(job: &JobState) -> Option<&str> {
    match job {
        JobState::Refused { why } => Some(why),
        _ => None,
    }
}

/// Only what may pass by itself is tried again. The wait is counted from the failure, so a restart
/// of ours does not prolong it.
fn after_failure(
    frozen: &Frozen,
    failure: &Failure,
    at: Timestamp,
    failures: u32,
    now: Timestamp,
) -> Step {
    match failure.class() {
        Class::Unavailable => {
            let wait = retry_after(failures.saturating_sub(1));
            match left(at, wait, now) {
                None => Step::Restart(frozen.clone()),
                some => Step::Fail(failure.clone(), some),
            }
        }
        Class::Internal => Step::Fail(failure.clone(), Some(AFTER_DEFECT)),
        Class::Denied | Class::Invalid | Class::Corrupt => Step::Fail(failure.clone(), None),
    }
}

fn after_run(digest: Digest, interval: Option<Duration>, seen: &Observed, now: Timestamp) -> Step {
    if seen.requested || seen.verified_at.is_none() || is_due(seen.verified_at, interval, now) {
        return Step::Verify(digest);
    }
    let times = [seen.resolved_at, seen.verified_at].into_iter().flatten();
    let rest = interval.map(|interval| {
        times
            .filter_map(|at| left(at, interval, now))
            .min()
            .unwrap_or(interval)
    });
    match &seen.refused {
        Some(failure) => Step::Fail(failure.clone(), rest),
        None => Step::Rest(rest),
    }
}

fn is_due(last: Option<Timestamp>, interval: Option<Duration>, now: Timestamp) -> bool {
    match (last, interval) {
        (Some(last), Some(interval)) => left(last, interval, now).is_none(),
        _ => false,
    }
}

/// What is left of a wait that began at `since`.
fn left(since: Timestamp, wait: Duration, now: Timestamp) -> Option<Duration> {
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
    let left = wait.saturating_sub(now.duration_since(since));
    Duration::try_from(left).ok().filter(|left| !left.is_zero())
}

/// The wait after the number of failures that came before this one.
pub(super) fn retry_after(earlier: u32) -> Duration {
    FIRST_RETRY
        .saturating_mul(1 << earlier.min(16))
        .min(LONGEST_RETRY)
}

/// How soon to look again after a failure outside of Jobs, `earlier` ones of which came before.
pub(super) fn look_again(reason: Reason, earlier: u32) -> Option<Duration> {
    match (reason.class(), reason) {
        // Often the ConfigMap comes a moment after the object that names it.
        (_, Reason::SourceNotFound) => Some(
            Duration::from_secs(2)
                .saturating_mul(1 << earlier.min(8))
                .min(LOOK_AGAIN),
        ),
        (Class::Unavailable, _) => Some(retry_after(earlier)),
        (Class::Internal, _) => Some(AFTER_DEFECT),
        (_, Reason::SecretAccessDenied | Reason::NoSigner | Reason::TagConflict) => {
            Some(LOOK_AGAIN)
        }
        (Class::Denied | Class::Invalid | Class::Corrupt, _) => None,
    }
}

fn stall(reason: Reason, message: &str) -> Step {
    Step::Fail(Failure::new(reason, message), None)
}

/// The tag that a run gives: the one asked for, else one that follows from the lock. Nobody's
/// bundle gets none.
pub(super) fn tag(packing: &Packing, lock: &Digest) -> Option<Tag> {
    match (&packing.signing, &packing.tag) {
        (ToSign::Nobody, _) => None,
        (_, Some(tag)) => Some(tag.clone()),
        (_, None) => format!("lock-{}", &lock.hex()[..12]).parse().ok(),
    }
}

#[cfg(test)]
mod tests;
