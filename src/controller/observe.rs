//! Observes the current state: the snapshot and Jobs of the current run, and objects with the same
//! destination.

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Event, Pod},
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, ObjectMeta, PartialObjectMeta},
};

use super::{
    bundle_tracker::{BundleGeneration, TrackedBundle},
    duplicate_destination::find_duplicate_destination,
    job_state,
    next_step::ObservedRunState,
    packing_run::{FrozenLock, JobState, recorded_bundle_digest},
    reconcile_context::ReconcileContext,
    reconcile_error::ReconcileError,
    resources::BUNDLE_UID,
};
use crate::{
    api::packed_bundle::{
        PackedBundle, PackedBundleStatus, PackedBundleWork, PackingRequest, RECONCILE_REQUESTED,
        SigningParty, ValidatedPackedBundle,
    },
    core::{
        digest::Digest,
        job::{JobRunKey, JobStep},
        reason::Class,
    },
};

/// Observes everything that the next step depends on. Reads only.
pub(super) async fn observe_bundle(
    object: &PackedBundle,
    validated: &ValidatedPackedBundle,
    context: &ReconcileContext,
) -> Result<ObservedRunState, ReconcileError> {
    let TrackedBundle {
        resolved_at,
        verified_at,
        refused,
        handling,
        ..
    } = context.bundle_tracker.get(&BundleGeneration::of(object));
    let status = object.status.clone().unwrap_or_default();
    let mut seen = ObservedRunState {
        requested: pending_reconcile_request(object).is_some_and(|token| handling != Some(token)),
        frozen: None,
        pack: JobState::Absent,
        sign: JobState::Absent,
        finished: None,
        failures: 0,
        duplicate_destination: None,
        resolved_at,
        verified_at,
        refused,
        allow_unsigned: context.installation.signing.allow_none,
    };
    if let PackedBundleWork::Pack(packing) = &validated.work
        && let Some(frozen) = observe_frozen_lock(object, &status, context).await?
    {
        (seen.pack, seen.sign) = observe_jobs(object, packing, &frozen, context).await?;
        seen.finished = recorded_bundle_digest(&status, &frozen.run)
            .filter(|digest| !contradicts_record(&seen.sign, digest));
        seen.failures = count_unavailable_failures(&status, &frozen.run);
        let others = context.bundle_store.state();
        let others = others.iter().filter_map(|guarded| guarded.0.as_ref().ok());
        let others = others.map(|cached| &cached.0);
        seen.duplicate_destination =
            find_duplicate_destination(object, packing, &frozen.lock, others);
        seen.frozen = Some(frozen);
    }
    Ok(seen)
}

/// The pack Job, and the sign Job where it runs.
async fn observe_jobs(
    object: &PackedBundle,
    packing: &PackingRequest,
    frozen: &FrozenLock,
    context: &ReconcileContext,
) -> Result<(JobState, JobState), ReconcileError> {
    let namespace = object.namespace().unwrap_or_default();
    let signs_in = if matches!(packing.signing, SigningParty::Namespace(_)) {
        &namespace
    } else {
        &context.run_settings.system_namespace
    };
    let (pack, sign) = (frozen.run.pack_job_name(), frozen.run.sign_job_name());
    Ok((
        observe_job(&namespace, &pack, JobStep::Pack, context).await?,
        observe_job(signs_in, &sign, JobStep::Sign, context).await?,
    ))
}

/// The value of a reconcile request that does not count as handled yet.
pub(super) fn pending_reconcile_request(object: &PackedBundle) -> Option<String> {
    let asked = object.annotations().get(RECONCILE_REQUESTED)?;
    let handled = object
        .status
        .as_ref()
        .and_then(|status| status.last_handled_reconcile_at.as_ref());
    (handled != Some(asked)).then(|| asked.clone())
}

/// The lock that is frozen for this generation. The status only says where to look: the snapshot is
/// authoritative.
async fn observe_frozen_lock(
    object: &PackedBundle,
    status: &PackedBundleStatus,
    context: &ReconcileContext,
) -> Result<Option<FrozenLock>, ReconcileError> {
    let Some(lock) = status
        .lock
        .as_ref()
        .and_then(|lock| lock.digest.parse::<Digest>().ok())
    else {
        return Ok(None);
    };
    let uid = object.uid().unwrap_or_default();
    let run = JobRunKey::new(&uid, object.metadata.generation.unwrap_or_default(), &lock);
    let maps = Api::<PartialObjectMeta<ConfigMap>>::namespaced(
        context.client.clone(),
        &context.run_settings.system_namespace,
    );
    let snapshot = maps.get_metadata_opt(&run.lock_snapshot_name()).await?;
    let snapshot = snapshot.filter(|snapshot| snapshot.labels().get(BUNDLE_UID) == Some(&uid));
    Ok(snapshot.map(|snapshot| FrozenLock {
        run,
        lock,
        at: creation_time(&snapshot.metadata),
    }))
}

fn creation_time(metadata: &ObjectMeta) -> Timestamp {
    metadata
        .creation_timestamp
        .as_ref()
        .map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// True if the sign Job reports another digest for the run. The record is a field of the status,
/// which an administrator's tool can write; the Job in the system namespace is the better source.
/// Without this check a wrong record would be verified, and refused, forever.
pub(super) fn contradicts_record(sign: &JobState, recorded: &Digest) -> bool {
    matches!(sign, JobState::Succeeded { report, .. } if report.digest != *recorded)
}

/// The number of consecutive newest records of this run that are failures of a dependency.
fn count_unavailable_failures(status: &PackedBundleStatus, run: &JobRunKey) -> u32 {
    let unavailable = |reason: &str| {
        let reason = crate::core::reason::Reason::ALL
            .iter()
            .find(|known| known.as_str() == reason);
        reason.is_some_and(|reason| reason.class() == Class::Unavailable)
    };
    let entries = status
        .history
        .iter()
        .filter(|entry| entry.run == run.as_str());
    u32::try_from(
        entries
            .take_while(|entry| unavailable(&entry.reason))
            .count(),
    )
    .unwrap_or(u32::MAX)
}

/// The state of one Job.
async fn observe_job(
    namespace: &str,
    name: &str,
    step: JobStep,
    context: &ReconcileContext,
) -> Result<JobState, ReconcileError> {
    let Some(job) = Api::<Job>::namespaced(context.client.clone(), namespace)
        .get_opt(name)
        .await?
    else {
        return Ok(JobState::Absent);
    };
    let of_job = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={name}"));
    let pods = Api::<Pod>::namespaced(context.client.clone(), namespace)
        .list(&of_job)
        .await?
        .items;
    let refused = if pods.is_empty() {
        find_pod_denial(namespace, &job, context).await?
    } else {
        None
    };
    Ok(job_state::job_state(
        Some(&job),
        &pods,
        refused.as_deref(),
        step,
    ))
}

/// The cluster's message when it did not let the Job create a Pod. Only an event has it.
async fn find_pod_denial(
    namespace: &str,
    job: &Job,
    context: &ReconcileContext,
) -> Result<Option<String>, ReconcileError> {
    let about = format!(
        "involvedObject.uid={},reason=FailedCreate",
        job.uid().unwrap_or_default()
    );
    let events = Api::<Event>::namespaced(context.client.clone(), namespace)
        .list(&ListParams::default().fields(&about))
        .await?;
    Ok(events
        .items
        .into_iter()
        .rev()
        .find_map(|event| event.message))
}
