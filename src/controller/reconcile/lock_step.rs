//! Resolves the source of a bundle and freezes the lock.

use super::status_guard::StatusGuard;
use crate::{
    api::packed_bundle::{LockStatus, PackingRequest},
    controller::{
        apply, garbage_collector, lock_source, next_step::ObservedRunState,
        reconcile_error::ReconcileError, status,
    },
};

/// Resolves the source and freezes the result. A failed run starts again if that was requested.
pub(super) async fn resolve_and_freeze(
    guard: &mut StatusGuard<'_>,
    packing: &PackingRequest,
    seen: &ObservedRunState,
) -> Result<(), ReconcileError> {
    guard.begin_reconcile_request();
    let context = guard.context;
    let resolved = lock_source::resolve_lock(guard.object(), packing, context).await?;
    let known = seen.frozen.as_ref();
    let key = apply::freeze_lock(guard.object(), packing, &resolved, known, context).await?;
    let is_new = known.is_none_or(|frozen| frozen.run != key);
    let mut status = guard.current_status();
    if seen.requested && seen.finished.is_none() && !is_new {
        apply::delete_run_jobs(guard.object(), &key, context).await?;
        status = status::with_run_restarted(&status, &key);
    }
    let lock = LockStatus {
        digest: resolved.canonical.digest.to_string(),
        artifacts: status::saturating_i64(resolved.lock.artifacts.len()),
    };
    guard.stage_status(status::with_resolved_lock(&status, lock));
    guard.tracked.resolved_at = Some(context.clock.now());
    if is_new || seen.requested {
        guard.tracked.verified_at = None;
        guard.tracked.refused = None;
    }
    if is_new {
        let limits = packing.history_limits;
        garbage_collector::delete_old_runs(guard.object(), &key, limits, context).await?;
        let message = format!("froze the lock {}", resolved.canonical.digest);
        guard.queue_event("LockFrozen", "Resolve", message);
    }
    Ok(())
}
