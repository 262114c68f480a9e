//! One object, brought a step further: gather, decide, act, tell. Repeated until there is something
//! to wait for.

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
    act,
    build::MANAGER,
    cached::{CachedBundle, StoredStatus, strip},
    context::Context,
    gather::{observe, requested},
    queue::Wait,
    source, status,
    status::{News, SUCCEEDED},
    step::{self, Frozen, JobState, Observed, Phase, Step, look_again},
    sweep,
    trouble::Trouble,
    verify,
};
use crate::{
    api::packed_bundle::{
        LockStatus, PackedBundle, PackedBundleStatus, Packing, ValidatedPackedBundle, Work,
    },
    core::{class::Reason, digest::Digest, job::Failure},
};

/// Steps of one object in one go. Each changes something, so more would be a defect.
const MOST_STEPS: usize = 12;
/// How soon a Job is looked at again that has no Pod yet: only an event would tell why.
const LOOK_FOR_POD: Duration = Duration::from_secs(3);
/// How soon a Job is looked at again whose Pod is there: in case a watch was missed.
const LOOK_AT_JOB: Duration = Duration::from_secs(30);

/// Brings one object as far as it goes.
pub(super) async fn reconcile(
    guarded: Arc<DeserializeGuard<CachedBundle>>,
    context: Arc<Context>,
) -> Result<Action, Trouble> {
    let (namespace, name) = (guarded.namespace().unwrap_or_default(), guarded.name_any());
    let result = Box::pin(bring(&namespace, &name, &context)).await;
    context.metrics.reconciled(result.is_ok());
    result
}

async fn bring(namespace: &str, name: &str, context: &Context) -> Result<Action, Trouble> {
    let api = Api::<DeserializeGuard<PackedBundle>>::namespaced(context.client.clone(), namespace);
    let whole = context.reading.object().await;
    let Some(DeserializeGuard(mut object)) = api.get_opt(name).await? else {
        return Ok(Action::await_change());
    };
    // Its lock is read again where it is resolved: meanwhile much may have to be waited for.
    if let Ok(object) = &mut object {
        strip(object);
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
    let mut run = Run { object, context };
    let validated = match ValidatedPackedBundle::try_from(&run.object) {
        Ok(validated) => validated,
        Err(error) => {
            run.take_request();
            return run.fail(Failure::of(&error), None).await;
        }
    };
    run.take_over(&validated);
    for _ in 0..MOST_STEPS {
        match run.one_step(&validated).await {
            Ok(Some(action)) => return Ok(action),
            Ok(None) => (),
            Err(Trouble::Told(failure)) => {
                run.take_request();
                let earlier = run.count_failure();
                let wait = look_again(failure.reason, earlier).or(validated.interval);
                return run.fail(failure, wait).await;
            }
            Err(error) => return Err(error),
        }
    }
    Err(Trouble::new(
        Reason::Internal,
        format!("{namespace}/{name} did not come to rest in {MOST_STEPS} steps"),
    ))
}

/// One object that is being brought further.
struct Run<'a> {
    object: PackedBundle,
    context: &'a Context,
}

impl Run<'_> {
    /// Takes one step. `None`: look again at once.
    async fn one_step(
        &mut self,
        validated: &ValidatedPackedBundle,
    ) -> Result<Option<Action>, Trouble> {
        let seen = observe(&self.object, validated, self.context).await?;
        let now = self.context.clock.now();
        match (step::next(validated, &seen, now), &validated.work) {
            (Step::Suspend, _) => {
                self.take_request();
                self.tell(&News::Suspended)
                    .await
                    .map(|()| Some(Action::await_change()))
            }
            (Step::Resolve, Work::Pack(packing)) => {
                self.resolve(packing, &seen).await.map(|()| None)
            }
            (Step::Pack(frozen), Work::Pack(packing)) => {
                act::pack(&self.object, packing, &frozen, self.context).await?;
                self.wait(Phase::Packing, None, &seen).await.map(Some)
            }
            (Step::Sign(frozen, digest), Work::Pack(packing)) => {
                if let Some(Wait { why, again }) =
                    act::sign(&self.object, packing, &frozen, &digest, self.context).await?
                {
                    self.tell(&News::Working(Phase::Signing, Some(why))).await?;
                    return Ok(Some(Action::requeue(again)));
                }
                self.note_job("pack", &seen.pack, &frozen);
                self.event(
                    "Packed",
                    "Pack",
                    &format!("packed {}@{digest}", packing.repository),
                )
                .await;
                self.wait(Phase::Signing, None, &seen).await.map(Some)
            }
            (Step::Wait(phase, trouble), _) => self.wait(phase, trouble, &seen).await.map(Some),
            (Step::Verify(digest), Work::Pack(packing)) => {
                self.verify(packing, digest, &seen).await.map(|()| None)
            }
            (Step::Verify(_), Work::Adopt(adoption)) => {
                self.take_request();
                let good = verify::adopted(&self.namespace(), adoption, self.context).await;
                self.judged(good).await.map(|()| None)
            }
            (Step::Restart(frozen), _) => {
                act::restart(&self.object, &frozen.run, self.context).await?;
                Ok(Some(Action::requeue(Duration::from_secs(1))))
            }
            (Step::Fail(failure, wait), _) => {
                self.note_failure(&seen, &failure).await?;
                self.fail(failure, wait).await.map(Some)
            }
            (Step::Rest(wait), _) => Ok(Some(
                wait.map_or_else(Action::await_change, Action::requeue),
            )),
            (Step::Resolve | Step::Pack(_) | Step::Sign(..), Work::Adopt(_)) => Err(Trouble::new(
                Reason::Internal,
                "an adopted bundle is never packed",
            )),
        }
    }

    /// Resolves the source and freezes what came out. A run that failed begins again if that was
    /// asked for.
    async fn resolve(&mut self, packing: &Packing, seen: &Observed) -> Result<(), Trouble> {
        self.take_request();
        let resolved = source::resolve(&self.object, packing, self.context).await?;
        let key = act::freeze(
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
            act::restart(&self.object, &key, self.context).await?;
            self.object.status = Some(status::begun_again(&self.status(), &key));
        }
        let lock = LockStatus {
            digest: resolved.canonical.digest.to_string(),
            artifacts: status::whole(resolved.lock.artifacts.len()),
        };
        let next = status::resolved(&self.status(), lock);
        self.write(next).await?;
        let now = self.context.clock.now();
        let forget = is_new || seen.requested;
        self.context.memory.update(&self.uid(), |object| {
            object.resolved_at = Some(now);
            if forget {
                object.verified_at = None;
                object.refused = None;
            }
        });
        if is_new {
            sweep::old_runs(&self.object, &key, packing.kept, self.context).await?;
            self.event(
                "LockFrozen",
                "Resolve",
                &format!("froze the lock {}", resolved.canonical.digest),
            )
            .await;
        }
        Ok(())
    }

    async fn verify(
        &mut self,
        packing: &Packing,
        digest: Digest,
        seen: &Observed,
    ) -> Result<(), Trouble> {
        let Some(frozen) = &seen.frozen else {
            return Err(Trouble::new(Reason::Internal, "nothing is frozen"));
        };
        let tag = step::tag(packing, &frozen.lock);
        let good = verify::packed(
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
                act::forget_credential(&frozen.run, self.context).await?;
                self.note_job("sign", &seen.sign, frozen);
                let at = ended_at(&seen.sign).unwrap_or_else(|| self.context.clock.now());
                let next = status::ended(&self.status(), frozen, Some(digest), SUCCEEDED, at);
                self.event(
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
            // What was there and is lost is made again.
            Err(Trouble::Told(failure)) if failure.reason == Reason::SourceNotFound && finished => {
                let next = status::ended(
                    &self.status(),
                    frozen,
                    None,
                    failure.reason.as_str(),
                    self.context.clock.now(),
                );
                act::restart(&self.object, &frozen.run, self.context).await?;
                return self.write(next).await;
            }
            _ => (),
        }
        let frozen = frozen.clone();
        self.judged(good).await?;
        if !finished {
            sweep::old_runs(&self.object, &frozen.run, packing.kept, self.context).await?;
        }
        Ok(())
    }

    /// Tells and remembers a verdict. One that could not be given is an error, and asked for again.
    async fn judged(&mut self, good: Result<verify::Good, Trouble>) -> Result<(), Trouble> {
        let now = self.context.clock.now();
        match good {
            Ok(good) => {
                let was_ready = self.is_ready();
                let message = good.words();
                for warning in &good.warnings {
                    self.warn(warning).await;
                }
                self.tell(&News::Good(Box::new(good))).await?;
                self.context.memory.update(&self.uid(), |object| {
                    object.verified_at = Some(now);
                    object.refused = None;
                    object.failures = 0;
                });
                if !was_ready {
                    self.event("Ready", "Verify", &message).await;
                }
                Ok(())
            }
            Err(Trouble::Told(failure))
                if failure.class() != crate::core::class::Class::Unavailable =>
            {
                self.tell(&News::Failed(failure.clone())).await?;
                self.warn(&failure).await;
                self.context.memory.update(&self.uid(), |object| {
                    object.verified_at = Some(now);
                    object.refused = Some(failure);
                });
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn wait(
        &mut self,
        phase: Phase,
        trouble: Option<String>,
        seen: &Observed,
    ) -> Result<Action, Trouble> {
        let job = if phase == Phase::Packing {
            &seen.pack
        } else {
            &seen.sign
        };
        let soon = matches!(job, JobState::Absent | JobState::Running { trouble: None });
        self.tell(&News::Working(phase, trouble)).await?;
        Ok(Action::requeue(if soon {
            LOOK_FOR_POD
        } else {
            LOOK_AT_JOB
        }))
    }

    async fn fail(&mut self, failure: Failure, wait: Option<Duration>) -> Result<Action, Trouble> {
        self.tell(&News::Failed(failure.clone())).await?;
        self.warn(&failure).await;
        Ok(wait.map_or_else(Action::await_change, Action::requeue))
    }

    /// Tells a warning, at most once a minute.
    async fn warn(&self, failure: &Failure) {
        if self
            .context
            .memory
            .may_warn(&self.uid(), failure.reason, self.context.clock.now())
        {
            self.publish(
                EventType::Warning,
                failure.reason.as_str(),
                "Reconcile",
                &failure.message,
            )
            .await;
        }
    }

    /// Notes in the history how a run failed, once.
    async fn note_failure(&mut self, seen: &Observed, failure: &Failure) -> Result<(), Trouble> {
        let Some(frozen) = seen.frozen.as_ref().filter(|_| seen.finished.is_none()) else {
            return Ok(());
        };
        for (name, job) in [("pack", &seen.pack), ("sign", &seen.sign)] {
            if let JobState::Failed { at, .. } = job {
                let next =
                    status::ended(&self.status(), frozen, None, failure.reason.as_str(), *at);
                if next != self.status() {
                    self.note_job(name, job, frozen);
                    self.write(next).await?;
                    act::forget_credential(&frozen.run, self.context).await?;
                }
            }
        }
        Ok(())
    }

    fn note_job(&self, step: &'static str, job: &JobState, frozen: &Frozen) {
        if let Some(at) = ended_at(job) {
            let took = Duration::try_from(at.duration_since(frozen.at)).unwrap_or_default();
            self.context
                .metrics
                .job(step, matches!(job, JobState::Succeeded { .. }), took);
        }
    }

    /// Objects that were finished before this process began are not all verified at once.
    fn take_over(&self, validated: &ValidatedPackedBundle) {
        let status = self.status();
        let settled =
            status.observed_generation == self.object.metadata.generation && self.is_ready();
        if settled && requested(&self.object).is_none() {
            self.context.memory.take_over(
                &self.uid(),
                validated.interval,
                self.context.clock.now(),
            );
        }
    }

    fn is_ready(&self) -> bool {
        crate::api::condition::is_true(&self.status().conditions, crate::api::condition::READY)
    }

    fn count_failure(&self) -> u32 {
        let earlier = self.context.memory.of(&self.uid()).failures;
        self.context.memory.update(&self.uid(), |object| {
            object.failures = earlier.saturating_add(1)
        });
        earlier
    }

    /// A request is acted on from here. It counts as handled once the conditions tell what came of
    /// it so far, and never before, so that nobody takes an older `Ready` for the answer. One that
    /// comes in the meantime waits.
    fn take_request(&self) {
        let request = requested(&self.object);
        self.context
            .memory
            .update(&self.uid(), |object| object.handling = request);
    }

    async fn tell(&mut self, news: &News) -> Result<(), Trouble> {
        let generation = self.object.metadata.generation.unwrap_or_default();
        let told = status::after(&self.status(), news, generation, self.context.clock.now());
        let handled = self.context.memory.of(&self.uid()).handling;
        self.write(status::handled(&told, handled)).await
    }

    /// Writes the status in one patch, if it is not what the API server has.
    async fn write(&mut self, next: PackedBundleStatus) -> Result<(), Trouble> {
        let api = Api::<StoredStatus>::namespaced(self.context.client.clone(), &self.namespace());
        let patch = json!({
            "apiVersion": PackedBundle::api_version(&()),
            "kind": PackedBundle::kind(&()),
            "metadata": {"name": self.object.name_any()},
            "status": &next,
        });
        let whole = self.context.reading.object().await;
        let stored = api.get(&self.object.name_any()).await?;
        // A write may take as long as the admission webhooks of others do: nobody else waits for
        // it.
        drop(whole);
        // As documents: what is written has whole seconds.
        if json!(stored.status) != json!(next) {
            let told = api
                .patch_status(
                    &self.object.name_any(),
                    &PatchParams::apply(MANAGER).force(),
                    &Patch::Apply(&patch),
                )
                .await?;
            self.overwrite(&api, &json!(told.status), &json!(next))
                .await?;
        }
        self.object.status = Some(next);
        Ok(())
    }

    /// What somebody else wrote into the status stays theirs when it is applied without; this takes
    /// it out.
    async fn overwrite(
        &self,
        api: &Api<StoredStatus>,
        told: &serde_json::Value,
        next: &serde_json::Value,
    ) -> Result<(), Trouble> {
        if told != next {
            let patch = json!({"status": status::overwriting(told, next)});
            let params = PatchParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PatchParams::default()
            };
            api.patch_status(&self.object.name_any(), &params, &Patch::Merge(&patch))
                .await?;
        }
        Ok(())
    }

    async fn event(&self, reason: &str, action: &str, message: &str) {
        self.publish(EventType::Normal, reason, action, message)
            .await;
    }

    /// Tells an event. One that is lost stops nothing.
    async fn publish(&self, type_: EventType, reason: &str, action: &str, message: &str) {
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
            .tell(event, &self.object.object_ref(&()))
            .await
        {
            tracing::warn!(%error, reason, "an event was not told");
        }
    }

    fn status(&self) -> PackedBundleStatus {
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
        JobState::Absent | JobState::Running { .. } | JobState::Refused { .. } => None,
    }
}
