//! The next step of a reconcile: a pure function of the observed state. `next_step/tests.rs` has
//! tables of its results.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{
    duplicate_destination::DuplicateDestination,
    packing_run::{FrozenLock, JobPhase, JobState},
};
use crate::{
    api::packed_bundle::{PackedBundleWork, PackingRequest, SigningParty, ValidatedPackedBundle},
    core::{
        digest::Digest,
        job::JobFailure,
        reason::{Class, Reason},
    },
};

/// The first delay after a dependency was unavailable; it doubles up to [`LONGEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_secs(15);
const LONGEST_RETRY: Duration = Duration::from_mins(15);
/// The delay of checks after a failure that a user may have resolved elsewhere: a `ConfigMap`, a
/// Secret, another object.
const MAX_RECHECK_DELAY: Duration = Duration::from_secs(30);
/// The delay after an internal error.
const INTERNAL_ERROR_RETRY_DELAY: Duration = Duration::from_mins(10);

/// The observed state of a `PackedBundle` that packs or adopts.
#[derive(Clone, Debug)]
pub(super) struct ObservedRunState {
    /// A reconcile request is pending.
    pub requested: bool,
    /// The lock that is frozen for this generation.
    pub frozen: Option<FrozenLock>,
    /// The state of that lock's pack Job.
    pub pack: JobState,
    /// The state of that lock's sign Job.
    pub sign: JobState,
    /// The bundle of a finished run of that lock.
    pub finished: Option<Digest>,
    /// Consecutive runs of that lock that failed because a dependency was unavailable.
    pub failures: u32,
    /// An older object with the same destination.
    pub duplicate_destination: Option<DuplicateDestination>,
    /// When this process last resolved the source.
    pub resolved_at: Option<Timestamp>,
    /// When this process last verified the bundle.
    pub verified_at: Option<Timestamp>,
    /// Why that source was refused.
    pub refused: Option<JobFailure>,
    /// Whether the installation allows unsigned bundles.
    pub allow_unsigned: bool,
}

/// The next step of a reconcile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReconcileStep {
    /// Nothing, because the user suspended it.
    Suspend,
    /// Resolve the source and freeze the lock.
    Resolve,
    /// Start the pack Job.
    Pack(FrozenLock),
    /// Start the sign Job for the digest in the pack Job's report.
    Sign(FrozenLock, Digest),
    /// Wait for a Job.
    Wait(JobPhase, Option<String>),
    /// Read the bundle back from the registry and verify it.
    Verify(Digest),
    /// Delete the failed run's Jobs, so that it starts again.
    Restart(FrozenLock),
    /// A run failed, or cannot start. The failure's class says what may resolve it; check again
    /// after this time.
    Fail(JobFailure, Option<Duration>),
    /// All is done; check again after this time.
    Idle(Option<Duration>),
}

/// The next step for the observed state.
pub(super) fn next_step(
    validated: &ValidatedPackedBundle,
    seen: &ObservedRunState,
    now: Timestamp,
) -> ReconcileStep {
    if validated.suspend {
        return ReconcileStep::Suspend;
    }
    match &validated.work {
        PackedBundleWork::Adopt(adoption) => {
            step_after_run(adoption.reference.digest(), validated.interval, seen, now)
        }
        PackedBundleWork::Pack(packing) => {
            next_packing_step(packing, validated.interval, seen, now)
        }
    }
}

fn next_packing_step(
    packing: &PackingRequest,
    interval: Option<Duration>,
    seen: &ObservedRunState,
    now: Timestamp,
) -> ReconcileStep {
    if packing.signing == SigningParty::Unsigned && !seen.allow_unsigned {
        return fail_without_retry(
            Reason::InvalidSpec,
            "spec.signing.mode: None is not allowed by this installation (chart value \
                signing.allowNone)",
        );
    }
    let Some(frozen) = &seen.frozen else {
        return ReconcileStep::Resolve;
    };
    let step = match seen.finished {
        Some(digest) => step_after_run(digest, interval, seen, now),
        None => next_run_step(frozen, interval, seen, now),
    };
    // No Job is running, so a change of the source may take effect.
    let at_rest = matches!(
        step,
        ReconcileStep::Verify(_)
            | ReconcileStep::Fail(..)
            | ReconcileStep::Idle(_)
            | ReconcileStep::Pack(_)
    );
    if at_rest && (seen.requested || is_due(seen.resolved_at, interval, now)) {
        return ReconcileStep::Resolve;
    }
    match &seen.duplicate_destination {
        Some(duplicate) => ReconcileStep::Fail(
            JobFailure::new(Reason::TagConflict, &conflict_message(duplicate)),
            Some(MAX_RECHECK_DELAY),
        ),
        None => step,
    }
}

fn conflict_message(duplicate: &DuplicateDestination) -> String {
    match duplicate {
        DuplicateDestination::SameNamespace { name } => {
            format!(
                "PackedBundle {name} is older and has the same repository and tag; choose \
                another tag, or delete one of the two"
            )
        }
        DuplicateDestination::OtherNamespace => {
            "a PackedBundle of another namespace has pushed to the same repository \
            and tag before; choose another tag"
                .to_owned()
        }
    }
}

/// The failure of the current run.
fn failed_job(seen: &ObservedRunState) -> Option<(&JobFailure, Timestamp)> {
    [&seen.sign, &seen.pack]
        .into_iter()
        .find_map(|job| match job {
            JobState::Failed { failure, at } => Some((failure, *at)),
            _ => None,
        })
}

fn next_run_step(
    frozen: &FrozenLock,
    interval: Option<Duration>,
    seen: &ObservedRunState,
    now: Timestamp,
) -> ReconcileStep {
    if let Some((failure, at)) = failed_job(seen) {
        return step_after_failure(frozen, failure, at, seen.failures, now);
    }
    if let Some(why) = [&seen.sign, &seen.pack].into_iter().find_map(pod_denial) {
        return ReconcileStep::Fail(
            JobFailure::new(
                Reason::PodDenied,
                &format!("the cluster denies the Job's Pod: {why}"),
            ),
            Some(MAX_RECHECK_DELAY),
        );
    }
    match (&seen.sign, &seen.pack) {
        (JobState::Succeeded { report, .. }, _) => {
            step_after_run(report.digest, interval, seen, now)
        }
        (JobState::Running { problem }, _) => {
            ReconcileStep::Wait(JobPhase::Signing, problem.clone())
        }
        (_, JobState::Running { problem }) => {
            ReconcileStep::Wait(JobPhase::Packing, problem.clone())
        }
        (_, JobState::Succeeded { report, .. }) if report.lock_digest == frozen.lock => {
            ReconcileStep::Sign(frozen.clone(), report.digest)
        }
        (_, JobState::Succeeded { report, .. }) => fail_without_retry(
            Reason::LockMismatch,
            &format!(
                "the pack Job packed the lock {}, frozen is {}",
                report.lock_digest, frozen.lock
            ),
        ),
        _ => ReconcileStep::Pack(frozen.clone()),
    }
}

fn pod_denial(job: &JobState) -> Option<&str> {
    match job {
        JobState::PodDenied { why } => Some(why),
        _ => None,
    }
}

/// Only temporary failures are retried. The delay starts at the failure, so a restart of the
/// controller does not prolong it.
fn step_after_failure(
    frozen: &FrozenLock,
    failure: &JobFailure,
    at: Timestamp,
    failures: u32,
    now: Timestamp,
) -> ReconcileStep {
    match failure.class() {
        Class::Unavailable => {
            let wait = retry_after(failures.saturating_sub(1));
            match remaining_wait(at, wait, now) {
                None => ReconcileStep::Restart(frozen.clone()),
                some => ReconcileStep::Fail(failure.clone(), some),
            }
        }
        Class::Internal => ReconcileStep::Fail(failure.clone(), Some(INTERNAL_ERROR_RETRY_DELAY)),
        Class::Denied | Class::Invalid | Class::Corrupt => {
            ReconcileStep::Fail(failure.clone(), None)
        }
    }
}

fn step_after_run(
    digest: Digest,
    interval: Option<Duration>,
    seen: &ObservedRunState,
    now: Timestamp,
) -> ReconcileStep {
    if seen.requested || seen.verified_at.is_none() || is_due(seen.verified_at, interval, now) {
        return ReconcileStep::Verify(digest);
    }
    let times = [seen.resolved_at, seen.verified_at].into_iter().flatten();
    let rest = interval.map(|interval| {
        times
            .filter_map(|at| remaining_wait(at, interval, now))
            .min()
            .unwrap_or(interval)
    });
    match &seen.refused {
        Some(failure) => ReconcileStep::Fail(failure.clone(), rest),
        None => ReconcileStep::Idle(rest),
    }
}

fn is_due(last: Option<Timestamp>, interval: Option<Duration>, now: Timestamp) -> bool {
    match (last, interval) {
        (Some(last), Some(interval)) => remaining_wait(last, interval, now).is_none(),
        _ => false,
    }
}

/// The rest of a delay that began at `since`.
fn remaining_wait(since: Timestamp, wait: Duration, now: Timestamp) -> Option<Duration> {
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
    let left = wait.saturating_sub(now.duration_since(since));
    Duration::try_from(left).ok().filter(|left| !left.is_zero())
}

/// The delay after this many earlier failures.
pub(super) fn retry_after(earlier: u32) -> Duration {
    FIRST_RETRY
        .saturating_mul(1 << earlier.min(16))
        .min(LONGEST_RETRY)
}

/// The delay after a failure outside of Jobs, with `earlier` ones before it.
pub(super) fn recheck_delay(reason: Reason, earlier: u32) -> Option<Duration> {
    match (reason.class(), reason) {
        // Often the ConfigMap is created a moment after the object that refers to it.
        (_, Reason::SourceNotFound) => Some(
            Duration::from_secs(2)
                .saturating_mul(1 << earlier.min(8))
                .min(MAX_RECHECK_DELAY),
        ),
        (Class::Unavailable, _) => Some(retry_after(earlier)),
        (Class::Internal, _) => Some(INTERNAL_ERROR_RETRY_DELAY),
        (_, Reason::SecretAccessDenied | Reason::NoSigner | Reason::TagConflict) => {
            Some(MAX_RECHECK_DELAY)
        }
        (Class::Denied | Class::Invalid | Class::Corrupt, _) => None,
    }
}

fn fail_without_retry(reason: Reason, message: &str) -> ReconcileStep {
    ReconcileStep::Fail(JobFailure::new(reason, message), None)
}

#[cfg(test)]
mod tests;
