//! Applies the next step of a reconcile.

use std::time::Duration;

use kube::runtime::controller::Action;

use super::{job_step, lock_step, status_guard::StatusGuard, verify_step};
use crate::{
    api::packed_bundle::PackedBundleWork,
    controller::{
        apply,
        next_step::{ObservedRunState, ReconcileStep},
        reconcile_error::ReconcileError,
        status::StatusUpdate,
    },
    core::reason::Reason,
};

/// Applies one step. `None`: observe again immediately.
pub(super) async fn apply_step(
    guard: &mut StatusGuard<'_>,
    step: ReconcileStep,
    work: &PackedBundleWork,
    seen: &ObservedRunState,
) -> Result<Option<Action>, ReconcileError> {
    use {PackedBundleWork as Work, ReconcileStep as Step};
    let action = match (step, work) {
        (Step::Suspend, _) => {
            guard.begin_reconcile_request();
            guard.stage_update(&StatusUpdate::Suspended);
            Action::await_change()
        }
        (Step::Resolve, Work::Pack(packing)) => {
            lock_step::resolve_and_freeze(guard, packing, seen).await?;
            return Ok(None);
        }
        (Step::Pack(frozen), Work::Pack(packing)) => {
            job_step::start_packing(guard, packing, &frozen, seen).await?
        }
        (Step::Sign(frozen, digest), Work::Pack(packing)) => {
            job_step::start_signing(guard, packing, (&frozen, &digest), seen).await?
        }
        (Step::Wait(phase, problem), _) => job_step::wait_for_job(guard, phase, problem, seen),
        (Step::Verify(digest), Work::Pack(packing)) => {
            return verify_step::verify_packed(guard, packing, digest, seen).await;
        }
        (Step::Verify(_), Work::Adopt(adoption)) => {
            return verify_step::verify_adopted(guard, adoption).await;
        }
        (Step::Restart(frozen), _) => {
            apply::delete_run_jobs(guard.object(), &frozen.run, guard.context).await?;
            Action::requeue(Duration::from_secs(1))
        }
        (Step::Fail(failure, wait), _) => {
            job_step::report_run_failure(guard, &failure, wait, seen).await?
        }
        (Step::Idle(wait), _) => {
            guard.stage_recovery();
            wait.map_or_else(Action::await_change, Action::requeue)
        }
        (Step::Resolve | Step::Pack(_) | Step::Sign(..), Work::Adopt(_)) => {
            let message = "an adopted bundle is never packed";
            return Err(ReconcileError::new(Reason::Internal, message));
        }
    };
    Ok(Some(action))
}
