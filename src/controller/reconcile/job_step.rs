//! Starts the Jobs of a run, waits for them, and records how they ended.

use std::time::Duration;

use kube::runtime::controller::Action;

use super::status_guard::StatusGuard;
use crate::{
    api::packed_bundle::PackingRequest,
    controller::{
        apply,
        next_step::ObservedRunState,
        packing_run::{FrozenLock, JobPhase, JobState},
        reconcile_error::ReconcileError,
        sign_queue::SignQueueWait,
        status::{self, StatusUpdate},
    },
    core::{digest::Digest, job::JobFailure},
};

/// The interval of checks on a Job without a Pod: only an event would say why.
const POD_CHECK_INTERVAL: Duration = Duration::from_secs(3);
/// The interval of checks on a Job with a Pod, in case the watch missed an event.
const JOB_CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// Starts the pack Job.
pub(super) async fn start_packing(
    guard: &mut StatusGuard<'_>,
    packing: &PackingRequest,
    frozen: &FrozenLock,
    seen: &ObservedRunState,
) -> Result<Action, ReconcileError> {
    apply::start_pack_job(guard.object(), packing, frozen, guard.context).await?;
    Ok(wait_for_job(guard, JobPhase::Packing, None, seen))
}

/// Starts the sign Job for `digest`, or waits for a slot.
pub(super) async fn start_signing(
    guard: &mut StatusGuard<'_>,
    packing: &PackingRequest,
    (frozen, digest): (&FrozenLock, &Digest),
    seen: &ObservedRunState,
) -> Result<Action, ReconcileError> {
    let waits =
        apply::try_start_sign_job(guard.object(), packing, frozen, digest, guard.context).await?;
    if let Some(SignQueueWait { why, again }) = waits {
        guard.stage_update(&StatusUpdate::JobRunning(JobPhase::Signing, Some(why)));
        return Ok(Action::requeue(again));
    }
    record_job_duration(guard, "pack", &seen.pack, frozen);
    let message = format!("packed {}@{digest}", packing.repository);
    guard.queue_event("Packed", "Pack", message);
    Ok(wait_for_job(guard, JobPhase::Signing, None, seen))
}

/// Reports that a Job is running.
pub(super) fn wait_for_job(
    guard: &mut StatusGuard<'_>,
    phase: JobPhase,
    problem: Option<String>,
    seen: &ObservedRunState,
) -> Action {
    let job = if phase == JobPhase::Packing {
        &seen.pack
    } else {
        &seen.sign
    };
    let soon = matches!(job, JobState::Absent | JobState::Running { problem: None });
    guard.stage_update(&StatusUpdate::JobRunning(phase, problem));
    Action::requeue(if soon {
        POD_CHECK_INTERVAL
    } else {
        JOB_CHECK_INTERVAL
    })
}

/// Records a run's failure in the history, once, and reports it.
pub(super) async fn report_run_failure(
    guard: &mut StatusGuard<'_>,
    failure: &JobFailure,
    wait: Option<Duration>,
    seen: &ObservedRunState,
) -> Result<Action, ReconcileError> {
    if let Some(frozen) = seen.frozen.as_ref().filter(|_| seen.finished.is_none()) {
        for (step, job) in [("pack", &seen.pack), ("sign", &seen.sign)] {
            if let JobState::Failed { at, .. } = job {
                let reason = failure.reason.as_str();
                let status = guard.current_status();
                let next = status::with_run_result(&status, frozen, None, reason, *at);
                if next != status {
                    apply::delete_push_secret_copy(&frozen.run, guard.context).await?;
                    record_job_duration(guard, step, job, frozen);
                    guard.stage_status(next);
                }
            }
        }
    }
    Ok(guard.stage_failure(failure, wait))
}

/// Measures a finished Job, from its frozen lock.
pub(super) fn record_job_duration(
    guard: &StatusGuard<'_>,
    step: &'static str,
    job: &JobState,
    frozen: &FrozenLock,
) {
    if let Some(at) = job.ended_at() {
        let took = Duration::try_from(at.duration_since(frozen.at)).unwrap_or_default();
        let succeeded = matches!(job, JobState::Succeeded { .. });
        guard
            .context
            .metrics
            .observe_job_duration(step, succeeded, took);
    }
}
