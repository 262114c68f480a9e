//! The status of an object during one reconcile, written on every exit.
//!
//! Steps only change it in memory. It is written after each step, and after the last one by
//! [`StatusGuard::finish`], which makes an error a part of it. What the process remembers about the
//! object, and its events, follow the write: a step whose status was not written is done again.

use std::time::Duration;

use kube::{
    ResourceExt,
    runtime::{controller::Action, events::Event},
};

use super::{
    bundle_events::{normal_event, publish_event, warning_event},
    status_writer::write_bundle_status,
};
use crate::{
    api::{
        condition::{READY, is_true},
        packed_bundle::{PackedBundle, PackedBundleStatus, ValidatedPackedBundle},
    },
    controller::{
        bundle_tracker::{BundleGeneration, TrackedBundle},
        next_step::recheck_delay,
        observe::pending_reconcile_request,
        reconcile_context::ReconcileContext,
        reconcile_error::ReconcileError,
        status::{self, StatusUpdate},
    },
    core::job::JobFailure,
};

/// An object under reconciliation, with the changes that are not written yet.
#[must_use = "only `finish` writes the status after an error"]
pub(super) struct StatusGuard<'a> {
    /// The object, with the status that it gets.
    object: PackedBundle,
    /// The shared context.
    pub context: &'a ReconcileContext,
    /// What the process remembers about it once the status is written.
    pub tracked: TrackedBundle,
    /// `spec.interval`.
    interval: Option<Duration>,
    events: Vec<Event>,
    progress: WriteProgress,
}

/// Whether the status in memory is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteProgress {
    /// Nothing was changed since it was read or written.
    Written,
    /// A change waits for the end of the step.
    Staged,
    /// The API server did not take it.
    Failed,
}

impl<'a> StatusGuard<'a> {
    /// Begins with the object as it was read.
    pub(super) fn new(object: PackedBundle, context: &'a ReconcileContext) -> Self {
        let tracked = context.bundle_tracker.get(&BundleGeneration::of(&object));
        Self {
            object,
            context,
            tracked,
            interval: None,
            events: Vec::new(),
            progress: WriteProgress::Written,
        }
    }

    /// The object, with its status as it will be written.
    pub(super) const fn object(&self) -> &PackedBundle {
        &self.object
    }

    /// The status as it will be written.
    pub(super) fn current_status(&self) -> PackedBundleStatus {
        self.object.status.clone().unwrap_or_default()
    }

    /// The namespace of the object.
    pub(super) fn namespace(&self) -> String {
        self.object.namespace().unwrap_or_default()
    }

    /// True if its condition `Ready` is true.
    pub(super) fn is_ready(&self) -> bool {
        is_true(&self.current_status().conditions, READY)
    }

    /// Uses the interval of the valid spec. An object that was finished before this process started
    /// counts as checked then, so that not all are verified at once.
    pub(super) fn begin_valid(&mut self, validated: &ValidatedPackedBundle) {
        self.interval = validated.interval;
        let generation = self.current_status().observed_generation;
        let settled = generation == self.object.metadata.generation && self.is_ready();
        if settled && pending_reconcile_request(&self.object).is_none() {
            let of = BundleGeneration::of(&self.object);
            let (tracker, now) = (&self.context.bundle_tracker, self.context.clock.now());
            tracker.assume_checked_earlier(&of, validated.interval, now);
            self.tracked = tracker.get(&of);
        }
    }

    /// Starts to act on a reconcile request. It counts as handled once the conditions show its
    /// result, and never before, so that an older `Ready` is not mistaken for the result. A request
    /// that arrives meanwhile waits.
    pub(super) fn begin_reconcile_request(&mut self) {
        self.tracked.handling = pending_reconcile_request(&self.object);
    }

    /// Changes the status.
    pub(super) fn stage_status(&mut self, next: PackedBundleStatus) {
        self.object.status = Some(next);
        self.progress = WriteProgress::Staged;
    }

    /// Changes the conditions; the request that is acted on is handled then.
    pub(super) fn stage_update(&mut self, update: &StatusUpdate) {
        let updated = self.with_update(update);
        let handled = self.tracked.handling.clone();
        self.stage_status(status::with_handled_request(&updated, handled));
    }

    /// Reports a failure, and checks again after `wait`.
    pub(super) fn stage_failure(&mut self, failure: &JobFailure, wait: Option<Duration>) -> Action {
        self.stage_update(&StatusUpdate::Failed(failure.clone()));
        self.queue_warning(failure);
        wait.map_or_else(Action::await_change, Action::requeue)
    }

    /// Ends an interruption by the API server, now that it is known that nothing is left to do.
    pub(super) fn stage_recovery(&mut self) {
        let recovered = self.with_update(&StatusUpdate::Recovered);
        if recovered != self.current_status() {
            self.stage_status(recovered);
        }
    }

    /// An event for after the write.
    pub(super) fn queue_event(&mut self, reason: &str, action: &str, message: String) {
        self.events.push(normal_event(reason, action, message));
    }

    /// A warning for after the write, at most once a minute.
    pub(super) fn queue_warning(&mut self, failure: &JobFailure) {
        let (uid, now) = (
            self.object.uid().unwrap_or_default(),
            self.context.clock.now(),
        );
        if self
            .context
            .bundle_tracker
            .should_warn(&uid, failure.reason, now)
        {
            self.events.push(warning_event(failure));
        }
    }

    /// Writes the status if it was changed; then remembers what was done, and publishes the events.
    pub(super) async fn write_status(&mut self) -> Result<(), ReconcileError> {
        if self.progress == WriteProgress::Staged {
            self.progress = WriteProgress::Failed;
            write_bundle_status(&self.object, &self.current_status(), self.context).await?;
            self.progress = WriteProgress::Written;
        }
        let of = BundleGeneration::of(&self.object);
        self.context.bundle_tracker.set(&of, self.tracked.clone());
        for event in std::mem::take(&mut self.events) {
            publish_event(&self.object, event, self.context).await;
        }
        Ok(())
    }

    /// Ends the reconcile: whatever its result is, the status has it.
    pub(super) async fn finish(
        mut self,
        result: Result<Action, ReconcileError>,
    ) -> Result<Action, ReconcileError> {
        let result = match result {
            Err(ReconcileError::StatusFailure(failure)) => Ok(self.stage_step_failure(&failure)),
            // The write itself failed, so there is nothing to tell it by.
            Err(error) if self.progress == WriteProgress::Failed => return Err(error),
            Err(error) => {
                self.stage_interruption(&error);
                Err(error)
            }
            done => done,
        };
        match (self.write_status().await, result) {
            (Ok(()), result) => result,
            (Err(error), Ok(_)) => Err(error),
            (Err(error), Err(first)) => {
                tracing::debug!(%error, "the status was not written either");
                Err(first)
            }
        }
    }

    /// A failure of a step is retried later and later.
    fn stage_step_failure(&mut self, failure: &JobFailure) -> Action {
        self.begin_reconcile_request();
        let earlier = self.tracked.failures;
        self.tracked.failures = earlier.saturating_add(1);
        let wait = recheck_delay(failure.reason, earlier).or(self.interval);
        self.stage_failure(failure, wait)
    }

    /// A failure of the API server handles no request, and what was done before it is done again.
    fn stage_interruption(&mut self, error: &ReconcileError) {
        let of = BundleGeneration::of(&self.object);
        self.tracked = self.context.bundle_tracker.get(&of);
        let interrupted = self.with_update(&StatusUpdate::Interrupted(error.to_failure()));
        self.stage_status(interrupted);
    }

    fn with_update(&self, update: &StatusUpdate) -> PackedBundleStatus {
        let generation = self.object.metadata.generation.unwrap_or_default();
        let (old, now) = (self.current_status(), self.context.clock.now());
        status::with_update(&old, update, generation, now)
    }
}
