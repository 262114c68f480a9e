//! Reconciles one object: observe, next step, apply, status. Repeats until it has to wait.

mod apply_step;
mod bundle_events;
mod bundle_reader;
mod job_step;
mod lock_step;
mod status_guard;
mod status_writer;
mod verify_step;

use std::sync::Arc;

use kube::{ResourceExt, core::DeserializeGuard, runtime::controller::Action};

use self::{apply_step::apply_step, bundle_reader::read_bundle, status_guard::StatusGuard};
use super::{
    cached_bundle::CachedBundle, next_step::next_step, observe::observe_bundle,
    reconcile_context::ReconcileContext, reconcile_error::ReconcileError,
};
use crate::{
    api::packed_bundle::ValidatedPackedBundle,
    core::{job::JobFailure, reason::Reason},
};

/// The maximum number of steps in one reconcile. Each changes something, so more would be a bug.
const MAX_STEPS: usize = 12;

/// Reconciles one object as far as possible.
pub(super) async fn reconcile_bundle(
    guarded: Arc<DeserializeGuard<CachedBundle>>,
    context: Arc<ReconcileContext>,
) -> Result<Action, ReconcileError> {
    let (namespace, name) = (guarded.namespace().unwrap_or_default(), guarded.name_any());
    let result = Box::pin(reconcile_named_bundle(&namespace, &name, &context)).await;
    context.metrics.record_reconcile(result.is_ok());
    result
}

async fn reconcile_named_bundle(
    namespace: &str,
    name: &str,
    context: &ReconcileContext,
) -> Result<Action, ReconcileError> {
    let Some(object) = read_bundle(namespace, name, context).await? else {
        return Ok(Action::await_change());
    };
    let mut guard = StatusGuard::new(object, context);
    let result = run_steps(&mut guard).await;
    guard.finish(result).await
}

/// Runs steps until one has to wait.
async fn run_steps(guard: &mut StatusGuard<'_>) -> Result<Action, ReconcileError> {
    let validated = match ValidatedPackedBundle::try_from(guard.object()) {
        Ok(validated) => validated,
        Err(error) => {
            guard.begin_reconcile_request();
            return Ok(guard.stage_failure(&JobFailure::from_error(&error), None));
        }
    };
    guard.begin_valid(&validated);
    for _ in 0..MAX_STEPS {
        let seen = observe_bundle(guard.object(), &validated, guard.context).await?;
        let step = next_step(&validated, &seen, guard.context.clock.now());
        let wait = apply_step(guard, step, &validated.work, &seen).await?;
        guard.write_status().await?;
        if let Some(action) = wait {
            return Ok(action);
        }
    }
    let (namespace, name) = (guard.namespace(), guard.object().name_any());
    let message = format!("{namespace}/{name} did not settle within {MAX_STEPS} steps");
    Err(ReconcileError::new(Reason::Internal, message))
}

#[cfg(test)]
mod tests;
