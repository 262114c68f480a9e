//! Verifies a bundle, and reports and remembers the verdict.

use kube::runtime::controller::Action;

use super::{job_step::record_job_duration, status_guard::StatusGuard};
use crate::{
    api::packed_bundle::{BundleAdoption, PackingRequest},
    controller::{
        accepted_bundle::AcceptedBundle,
        apply, garbage_collector,
        next_step::ObservedRunState,
        packing_run::{FrozenLock, bundle_tag},
        reconcile_error::ReconcileError,
        status::{self, SUCCEEDED, StatusUpdate},
        verify,
    },
    core::{
        digest::Digest,
        reason::{Class, Reason},
    },
};

/// Verifies the bundle of a run, and records the end of the run. `None`: observe again immediately.
pub(super) async fn verify_packed(
    guard: &mut StatusGuard<'_>,
    packing: &PackingRequest,
    digest: Digest,
    seen: &ObservedRunState,
) -> Result<Option<Action>, ReconcileError> {
    let (context, namespace) = (guard.context, guard.namespace());
    let Some(frozen) = &seen.frozen else {
        return Err(ReconcileError::new(Reason::Internal, "no lock is frozen"));
    };
    let tag = bundle_tag(packing, &frozen.lock);
    let verdict =
        verify::verify_packed_bundle(&namespace, packing, frozen.lock, digest, tag, context).await;
    let finished = seen.finished.is_some();
    if finished && is_lost(&verdict) {
        return restart_lost_run(guard, frozen).await.map(|()| None);
    }
    if !finished && verdict.is_ok() {
        apply::delete_push_secret_copy(&frozen.run, context).await?;
        record_success(guard, packing, frozen, digest, seen);
    }
    record_verdict(guard, verdict)?;
    if !finished {
        let limits = packing.history_limits;
        garbage_collector::delete_old_runs(guard.object(), &frozen.run, limits, context).await?;
    }
    Ok(None)
}

/// Verifies an existing bundle.
pub(super) async fn verify_adopted(
    guard: &mut StatusGuard<'_>,
    adoption: &BundleAdoption,
) -> Result<Option<Action>, ReconcileError> {
    guard.begin_reconcile_request();
    let namespace = guard.namespace();
    let verdict = verify::verify_adopted_bundle(&namespace, adoption, guard.context).await;
    record_verdict(guard, verdict).map(|()| None)
}

/// True if the registry no longer has the bundle.
fn is_lost(verdict: &Result<AcceptedBundle, ReconcileError>) -> bool {
    matches!(verdict, Err(ReconcileError::StatusFailure(failure)) if failure.reason == Reason::SourceNotFound)
}

/// A lost bundle is packed again.
async fn restart_lost_run(
    guard: &mut StatusGuard<'_>,
    frozen: &FrozenLock,
) -> Result<(), ReconcileError> {
    let (reason, now) = (Reason::SourceNotFound.as_str(), guard.context.clock.now());
    apply::delete_run_jobs(guard.object(), &frozen.run, guard.context).await?;
    let next = status::with_run_result(&guard.current_status(), frozen, None, reason, now);
    guard.stage_status(next);
    Ok(())
}

fn record_success(
    guard: &mut StatusGuard<'_>,
    packing: &PackingRequest,
    frozen: &FrozenLock,
    digest: Digest,
    seen: &ObservedRunState,
) {
    record_job_duration(guard, "sign", &seen.sign, frozen);
    let at = seen.sign.ended_at();
    let at = at.unwrap_or_else(|| guard.context.clock.now());
    let status = guard.current_status();
    let next = status::with_run_result(&status, frozen, Some(digest), SUCCEEDED, at);
    guard.stage_status(next);
    let repository = &packing.repository;
    let message = format!("{repository}@{digest} is signed, attested and tagged");
    guard.queue_event("Signed", "Sign", message);
}

/// Reports and remembers a verdict. A verdict that could not be reached is an error, and is
/// retried.
fn record_verdict(
    guard: &mut StatusGuard<'_>,
    verdict: Result<AcceptedBundle, ReconcileError>,
) -> Result<(), ReconcileError> {
    let now = guard.context.clock.now();
    match verdict {
        Ok(accepted) => {
            let (was_ready, message) = (guard.is_ready(), accepted.status_message());
            for warning in &accepted.warnings {
                guard.queue_warning(warning);
            }
            guard.stage_update(&StatusUpdate::Accepted(Box::new(accepted)));
            guard.tracked.verified_at = Some(now);
            guard.tracked.refused = None;
            guard.tracked.failures = 0;
            if !was_ready {
                guard.queue_event("Ready", "Verify", message);
            }
            Ok(())
        }
        Err(ReconcileError::StatusFailure(failure)) if failure.class() != Class::Unavailable => {
            guard.stage_failure(&failure, None);
            guard.tracked.verified_at = Some(now);
            guard.tracked.refused = Some(failure);
            Ok(())
        }
        Err(error) => Err(error),
    }
}
