//! Reconciles one object: observe, decide, act, report. Repeats until it has to wait.

use std::{sync::Arc, time::Duration};

use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::{DeserializeGuard, object::HasStatus},
    runtime::{
        controller::Action,
        events::{Event, EventType},
    },
};
use serde_json::json;

use super::{
    apply,
    cached_bundle::{CachedBundle, StoredStatus, strip_large_fields},
    garbage_collector, lock_source,
    next_step::{
        self, FrozenLock, JobPhase, JobState, ObservedRunState, ReconcileStep, recheck_delay,
    },
    observe::{observe_bundle, pending_reconcile_request},
    reconcile_context::ReconcileContext,
    reconcile_error::ReconcileError,
    resources::MANAGER,
    sign_queue::SignQueueWait,
    status,
    status::{SUCCEEDED, StatusUpdate},
    verify,
};
use crate::{
    api::packed_bundle::{
        LockStatus, PackedBundle, PackedBundleStatus, PackedBundleWork, PackingRequest,
        ValidatedPackedBundle,
    },
    core::{digest::Digest, job::JobFailure, reason::Reason},
};

/// The maximum number of steps in one reconcile. Each changes something, so more would be a bug.
const MOST_STEPS: usize = 12;
/// The interval of checks on a Job without a Pod: only an event would say why.
const POD_CHECK_INTERVAL: Duration = Duration::from_secs(3);
/// The interval of checks on a Job with a Pod, in case the watch missed an event.
const JOB_CHECK_INTERVAL: Duration = Duration::from_secs(30);

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
    let api = Api::<DeserializeGuard<PackedBundle>>::namespaced(context.client.clone(), namespace);
    let whole = context.read_limiter.acquire_object_permit().await;
    let Some(DeserializeGuard(mut object)) = api.get_opt(name).await? else {
        return Ok(Action::await_change());
    };
    // Its lock is read again when it is resolved: meanwhile there may be long waits.
    if let Ok(object) = &mut object {
        strip_large_fields(object);
    }
    drop(whole);
    let object = match object {
        Ok(object) if object.metadata.deletion_timestamp.is_some() => {
            return Ok(Action::await_change());
        }
        Ok(object) => object,
        Err(invalid) => {
            tracing::warn!(namespace, name, error = %invalid.error, "an object is stored that \
                cannot be read; apply it again");
            return Ok(Action::await_change());
        }
    };
    let mut run = BundleReconciler { object, context };
    let validated = match ValidatedPackedBundle::try_from(&run.object) {
        Ok(validated) => validated,
        Err(error) => {
            run.begin_reconcile_request();
            return run
                .report_failure(JobFailure::from_error(&error), None)
                .await;
        }
    };
    run.assume_checked_earlier(&validated);
    for _ in 0..MOST_STEPS {
        match run.run_one_step(&validated).await {
            Ok(Some(action)) => return Ok(action),
            Ok(None) => (),
            Err(ReconcileError::StatusFailure(failure)) => {
                run.begin_reconcile_request();
                let earlier = run.count_failure();
                let wait = recheck_delay(failure.reason, earlier).or(validated.interval);
                return run.report_failure(failure, wait).await;
            }
            Err(error) => return Err(error),
        }
    }
    Err(ReconcileError::new(
        Reason::Internal,
        format!("{namespace}/{name} did not settle within {MOST_STEPS} steps"),
    ))
}

/// The reconcile of one object.
struct BundleReconciler<'a> {
    object: PackedBundle,
    context: &'a ReconcileContext,
}

impl BundleReconciler<'_> {
    /// Runs one step. `None`: observe again immediately.
    async fn run_one_step(
        &mut self,
        validated: &ValidatedPackedBundle,
    ) -> Result<Option<Action>, ReconcileError> {
        let seen = observe_bundle(&self.object, validated, self.context).await?;
        let now = self.context.clock.now();
        match (next_step::next_step(validated, &seen, now), &validated.work) {
            (ReconcileStep::Suspend, _) => {
                self.begin_reconcile_request();
                self.update_status(&StatusUpdate::Suspended)
                    .await
                    .map(|()| Some(Action::await_change()))
            }
            (ReconcileStep::Resolve, PackedBundleWork::Pack(packing)) => {
                self.resolve_and_freeze(packing, &seen).await.map(|()| None)
            }
            (ReconcileStep::Pack(frozen), PackedBundleWork::Pack(packing)) => {
                apply::start_pack_job(&self.object, packing, &frozen, self.context).await?;
                self.wait_for_job(JobPhase::Packing, None, &seen)
                    .await
                    .map(Some)
            }
            (ReconcileStep::Sign(frozen, digest), PackedBundleWork::Pack(packing)) => {
                if let Some(SignQueueWait { why, again }) =
                    apply::try_start_sign_job(&self.object, packing, &frozen, &digest, self.context)
                        .await?
                {
                    self.update_status(&StatusUpdate::JobRunning(JobPhase::Signing, Some(why)))
                        .await?;
                    return Ok(Some(Action::requeue(again)));
                }
                self.record_job_duration("pack", &seen.pack, &frozen);
                self.record_event(
                    "Packed",
                    "Pack",
                    &format!("packed {}@{digest}", packing.repository),
                )
                .await;
                self.wait_for_job(JobPhase::Signing, None, &seen)
                    .await
                    .map(Some)
            }
            (ReconcileStep::Wait(phase, problem), _) => {
                self.wait_for_job(phase, problem, &seen).await.map(Some)
            }
            (ReconcileStep::Verify(digest), PackedBundleWork::Pack(packing)) => self
                .verify_packed_bundle(packing, digest, &seen)
                .await
                .map(|()| None),
            (ReconcileStep::Verify(_), PackedBundleWork::Adopt(adoption)) => {
                self.begin_reconcile_request();
                let good =
                    verify::verify_adopted_bundle(&self.namespace(), adoption, self.context).await;
                self.record_verdict(good).await.map(|()| None)
            }
            (ReconcileStep::Restart(frozen), _) => {
                apply::delete_run_jobs(&self.object, &frozen.run, self.context).await?;
                Ok(Some(Action::requeue(Duration::from_secs(1))))
            }
            (ReconcileStep::Fail(failure, wait), _) => {
                self.record_run_failure(&seen, &failure).await?;
                self.report_failure(failure, wait).await.map(Some)
            }
            (ReconcileStep::Idle(wait), _) => Ok(Some(
                wait.map_or_else(Action::await_change, Action::requeue),
            )),
            (
                ReconcileStep::Resolve | ReconcileStep::Pack(_) | ReconcileStep::Sign(..),
                PackedBundleWork::Adopt(_),
            ) => Err(ReconcileError::new(
                Reason::Internal,
                "an adopted bundle is never packed",
            )),
        }
    }

    /// Resolves the source and freezes the result. A failed run starts again if that was requested.
    async fn resolve_and_freeze(
        &mut self,
        packing: &PackingRequest,
        seen: &ObservedRunState,
    ) -> Result<(), ReconcileError> {
        self.begin_reconcile_request();
        let resolved = lock_source::resolve_lock(&self.object, packing, self.context).await?;
        let key = apply::freeze_lock(
            &self.object,
            packing,
            &resolved,
            seen.frozen.as_ref(),
            self.context,
        )
        .await?;
        let known = seen.frozen.as_ref().filter(|frozen| frozen.run == key);
        let is_new = known.is_none();
        if seen.requested && seen.finished.is_none() && known.is_some() {
            apply::delete_run_jobs(&self.object, &key, self.context).await?;
            self.object.status = Some(status::with_run_restarted(&self.current_status(), &key));
        }
        let lock = LockStatus {
            digest: resolved.canonical.digest.to_string(),
            artifacts: status::saturating_i64(resolved.lock.artifacts.len()),
        };
        let next = status::with_resolved_lock(&self.current_status(), lock);
        self.apply_status(next).await?;
        let now = self.context.clock.now();
        let forget = is_new || seen.requested;
        self.context.bundle_tracker.update(&self.uid(), |object| {
            object.resolved_at = Some(now);
            if forget {
                object.verified_at = None;
                object.refused = None;
            }
        });
        if is_new {
            garbage_collector::delete_old_runs(
                &self.object,
                &key,
                packing.history_limits,
                self.context,
            )
            .await?;
            self.record_event(
                "LockFrozen",
                "Resolve",
                &format!("froze the lock {}", resolved.canonical.digest),
            )
            .await;
        }
        Ok(())
    }

    async fn verify_packed_bundle(
        &mut self,
        packing: &PackingRequest,
        digest: Digest,
        seen: &ObservedRunState,
    ) -> Result<(), ReconcileError> {
        let Some(frozen) = &seen.frozen else {
            return Err(ReconcileError::new(Reason::Internal, "no lock is frozen"));
        };
        let tag = next_step::bundle_tag(packing, &frozen.lock);
        let good = verify::verify_packed_bundle(
            &self.namespace(),
            packing,
            frozen.lock,
            digest,
            tag,
            self.context,
        )
        .await;
        let finished = seen.finished.is_some();
        match &good {
            Ok(_) if !finished => {
                apply::delete_push_secret_copy(&frozen.run, self.context).await?;
                self.record_job_duration("sign", &seen.sign, frozen);
                let at = ended_at(&seen.sign).unwrap_or_else(|| self.context.clock.now());
                let next = status::with_run_result(
                    &self.current_status(),
                    frozen,
                    Some(digest),
                    SUCCEEDED,
                    at,
                );
                self.record_event(
                    "Signed",
                    "Sign",
                    &format!(
                        "{}@{digest} is signed, attested and tagged",
                        packing.repository
                    ),
                )
                .await;
                self.object.status = Some(next);
            }
            // A lost bundle is packed again.
            Err(ReconcileError::StatusFailure(failure))
                if failure.reason == Reason::SourceNotFound && finished =>
            {
                let next = status::with_run_result(
                    &self.current_status(),
                    frozen,
                    None,
                    failure.reason.as_str(),
                    self.context.clock.now(),
                );
                apply::delete_run_jobs(&self.object, &frozen.run, self.context).await?;
                return self.apply_status(next).await;
            }
            _ => (),
        }
        let frozen = frozen.clone();
        self.record_verdict(good).await?;
        if !finished {
            garbage_collector::delete_old_runs(
                &self.object,
                &frozen.run,
                packing.history_limits,
                self.context,
            )
            .await?;
        }
        Ok(())
    }

    /// Reports and remembers a verdict. A verdict that could not be reached is an error, and is
    /// retried.
    async fn record_verdict(
        &mut self,
        good: Result<verify::AcceptedBundle, ReconcileError>,
    ) -> Result<(), ReconcileError> {
        let now = self.context.clock.now();
        match good {
            Ok(good) => {
                let was_ready = self.is_ready();
                let message = good.status_message();
                for warning in &good.warnings {
                    self.record_warning(warning).await;
                }
                self.update_status(&StatusUpdate::Accepted(Box::new(good)))
                    .await?;
                self.context.bundle_tracker.update(&self.uid(), |object| {
                    object.verified_at = Some(now);
                    object.refused = None;
                    object.failures = 0;
                });
                if !was_ready {
                    self.record_event("Ready", "Verify", &message).await;
                }
                Ok(())
            }
            Err(ReconcileError::StatusFailure(failure))
                if failure.class() != crate::core::reason::Class::Unavailable =>
            {
                self.update_status(&StatusUpdate::Failed(failure.clone()))
                    .await?;
                self.record_warning(&failure).await;
                self.context.bundle_tracker.update(&self.uid(), |object| {
                    object.verified_at = Some(now);
                    object.refused = Some(failure);
                });
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn wait_for_job(
        &mut self,
        phase: JobPhase,
        problem: Option<String>,
        seen: &ObservedRunState,
    ) -> Result<Action, ReconcileError> {
        let job = if phase == JobPhase::Packing {
            &seen.pack
        } else {
            &seen.sign
        };
        let soon = matches!(job, JobState::Absent | JobState::Running { problem: None });
        self.update_status(&StatusUpdate::JobRunning(phase, problem))
            .await?;
        Ok(Action::requeue(if soon {
            POD_CHECK_INTERVAL
        } else {
            JOB_CHECK_INTERVAL
        }))
    }

    async fn report_failure(
        &mut self,
        failure: JobFailure,
        wait: Option<Duration>,
    ) -> Result<Action, ReconcileError> {
        self.update_status(&StatusUpdate::Failed(failure.clone()))
            .await?;
        self.record_warning(&failure).await;
        Ok(wait.map_or_else(Action::await_change, Action::requeue))
    }

    /// Records a warning event, at most once a minute.
    async fn record_warning(&self, failure: &JobFailure) {
        if self.context.bundle_tracker.should_warn(
            &self.uid(),
            failure.reason,
            self.context.clock.now(),
        ) {
            self.publish_event(
                EventType::Warning,
                failure.reason.as_str(),
                "Reconcile",
                &failure.message,
            )
            .await;
        }
    }

    /// Records a run's failure in the history, once.
    async fn record_run_failure(
        &mut self,
        seen: &ObservedRunState,
        failure: &JobFailure,
    ) -> Result<(), ReconcileError> {
        let Some(frozen) = seen.frozen.as_ref().filter(|_| seen.finished.is_none()) else {
            return Ok(());
        };
        for (name, job) in [("pack", &seen.pack), ("sign", &seen.sign)] {
            if let JobState::Failed { at, .. } = job {
                let next = status::with_run_result(
                    &self.current_status(),
                    frozen,
                    None,
                    failure.reason.as_str(),
                    *at,
                );
                if next != self.current_status() {
                    self.record_job_duration(name, job, frozen);
                    self.apply_status(next).await?;
                    apply::delete_push_secret_copy(&frozen.run, self.context).await?;
                }
            }
        }
        Ok(())
    }

    fn record_job_duration(&self, step: &'static str, job: &JobState, frozen: &FrozenLock) {
        if let Some(at) = ended_at(job) {
            let took = Duration::try_from(at.duration_since(frozen.at)).unwrap_or_default();
            self.context.metrics.observe_job_duration(
                step,
                matches!(job, JobState::Succeeded { .. }),
                took,
            );
        }
    }

    /// Objects that were finished before this process started are not all verified at once.
    fn assume_checked_earlier(&self, validated: &ValidatedPackedBundle) {
        let status = self.current_status();
        let settled =
            status.observed_generation == self.object.metadata.generation && self.is_ready();
        if settled && pending_reconcile_request(&self.object).is_none() {
            self.context.bundle_tracker.assume_checked_earlier(
                &self.uid(),
                validated.interval,
                self.context.clock.now(),
            );
        }
    }

    fn is_ready(&self) -> bool {
        crate::api::condition::is_true(
            &self.current_status().conditions,
            crate::api::condition::READY,
        )
    }

    fn count_failure(&self) -> u32 {
        let earlier = self.context.bundle_tracker.get(&self.uid()).failures;
        self.context.bundle_tracker.update(&self.uid(), |object| {
            object.failures = earlier.saturating_add(1);
        });
        earlier
    }

    /// Starts to act on a reconcile request. It counts as handled once the conditions show its
    /// result, and never before, so that an older `Ready` is not mistaken for the result. A request
    /// that arrives meanwhile waits.
    fn begin_reconcile_request(&self) {
        let request = pending_reconcile_request(&self.object);
        self.context
            .bundle_tracker
            .update(&self.uid(), |object| object.handling = request);
    }

    async fn update_status(&mut self, update: &StatusUpdate) -> Result<(), ReconcileError> {
        let generation = self.object.metadata.generation.unwrap_or_default();
        let told = status::with_update(
            &self.current_status(),
            update,
            generation,
            self.context.clock.now(),
        );
        let handled = self.context.bundle_tracker.get(&self.uid()).handling;
        self.apply_status(status::with_handled_request(&told, handled))
            .await
    }

    /// Writes the status in one patch, if it differs from the API server's.
    async fn apply_status(&mut self, next: PackedBundleStatus) -> Result<(), ReconcileError> {
        let api = Api::<StoredStatus>::namespaced(self.context.client.clone(), &self.namespace());
        let patch = json!({
            "apiVersion": PackedBundle::api_version(&()),
            "kind": PackedBundle::kind(&()),
            "metadata": {"name": self.object.name_any()},
            "status": &next,
        });
        let whole = self.context.read_limiter.acquire_object_permit().await;
        let stored = api.get(&self.object.name_any()).await?;
        // A write may take as long as other admission webhooks do: no other reconcile waits for it.
        drop(whole);
        // Compared as JSON: written times have whole seconds.
        if json!(stored.status) != json!(next) {
            let told = api
                .patch_status(
                    &self.object.name_any(),
                    &PatchParams::apply(MANAGER).force(),
                    &Patch::Apply(&patch),
                )
                .await?;
            self.overwrite_foreign_fields(&api, &json!(told.status), &json!(next))
                .await?;
        }
        self.object.status = Some(next);
        Ok(())
    }

    /// Server-side apply does not remove status fields of other managers; this does.
    async fn overwrite_foreign_fields(
        &self,
        api: &Api<StoredStatus>,
        told: &serde_json::Value,
        next: &serde_json::Value,
    ) -> Result<(), ReconcileError> {
        if told != next {
            let patch = json!({"status": status::overwrite_patch(told, next)});
            let params = PatchParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PatchParams::default()
            };
            api.patch_status(&self.object.name_any(), &params, &Patch::Merge(&patch))
                .await?;
        }
        Ok(())
    }

    async fn record_event(&self, reason: &str, action: &str, message: &str) {
        self.publish_event(EventType::Normal, reason, action, message)
            .await;
    }

    /// Records an event. A lost event stops nothing.
    async fn publish_event(&self, type_: EventType, reason: &str, action: &str, message: &str) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(message.to_owned()),
            action: action.to_owned(),
            secondary: None,
        };
        if let Err(error) = self
            .context
            .events
            .record_event(event, &self.object.object_ref(&()))
            .await
        {
            tracing::warn!(%error, reason, "an event was not recorded");
        }
    }

    fn current_status(&self) -> PackedBundleStatus {
        self.object.status().cloned().unwrap_or_default()
    }

    fn uid(&self) -> String {
        self.object.uid().unwrap_or_default()
    }

    fn namespace(&self) -> String {
        self.object.namespace().unwrap_or_default()
    }
}

const fn ended_at(job: &JobState) -> Option<jiff::Timestamp> {
    match job {
        JobState::Succeeded { at, .. } | JobState::Failed { at, .. } => Some(*at),
        JobState::Absent | JobState::Running { .. } | JobState::PodDenied { .. } => None,
    }
}
