//! What there is: the snapshot and the Jobs of the current run, and other objects that stand in the
//! way.

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
    build::BUNDLE_UID,
    context::Context,
    jobs,
    memory::Object,
    rival::rival,
    status::SUCCEEDED,
    step::{Frozen, JobState, Observed},
    trouble::Trouble,
};
use crate::{
    api::packed_bundle::{
        PackedBundle, PackedBundleStatus, RECONCILE_REQUESTED, ToSign, ValidatedPackedBundle, Work,
    },
    core::{
        class::Class,
        digest::Digest,
        job::{RunKey, Step},
    },
};

/// Looks at everything that the next step depends on. Reads only.
pub(super) async fn observe(
    object: &PackedBundle,
    validated: &ValidatedPackedBundle,
    context: &Context,
) -> Result<Observed, Trouble> {
    let Object {
        resolved_at,
        verified_at,
        refused,
        handling,
        ..
    } = context.memory.of(&object.uid().unwrap_or_default());
    let status = object.status.clone().unwrap_or_default();
    let mut seen = Observed {
        requested: requested(object).is_some_and(|token| handling != Some(token)),
        frozen: None,
        pack: JobState::Absent,
        sign: JobState::Absent,
        finished: None,
        failures: 0,
        rival: None,
        resolved_at,
        verified_at,
        refused,
        allow_unsigned: context.installation.signing.allow_none,
    };
    if let Work::Pack(packing) = &validated.work
        && let Some(frozen) = frozen(object, &status, context).await?
    {
        let namespace = object.namespace().unwrap_or_default();
        let signs_in = if matches!(packing.signing, ToSign::Namespace(_)) {
            &namespace
        } else {
            &context.setup.system_namespace
        };
        seen.pack = job(&namespace, &frozen.run.pack_name(), Step::Pack, context).await?;
        seen.sign = job(signs_in, &frozen.run.sign_name(), Step::Sign, context).await?;
        seen.finished =
            finished(&status, &frozen.run).filter(|digest| !contradicts(&seen.sign, digest));
        seen.failures = failures(&status, &frozen.run);
        let others = context.store.state();
        seen.rival = rival(
            object,
            packing,
            &frozen.lock,
            others
                .iter()
                .filter_map(|guarded| guarded.0.as_ref().ok())
                .map(|cached| &cached.0),
        );
        seen.frozen = Some(frozen);
    }
    Ok(seen)
}

/// The text of a request for a reconcile that does not count as handled yet.
pub(super) fn requested(object: &PackedBundle) -> Option<String> {
    let asked = object.annotations().get(RECONCILE_REQUESTED)?;
    let handled = object
        .status
        .as_ref()
        .and_then(|status| status.last_handled_reconcile_at.as_ref());
    (handled != Some(asked)).then(|| asked.clone())
}

/// The lock that is frozen for this generation. The status only says where to look: what counts is
/// the snapshot.
async fn frozen(
    object: &PackedBundle,
    status: &PackedBundleStatus,
    context: &Context,
) -> Result<Option<Frozen>, Trouble> {
    let Some(lock) = status
        .lock
        .as_ref()
        .and_then(|lock| lock.digest.parse::<Digest>().ok())
    else {
        return Ok(None);
    };
    let uid = object.uid().unwrap_or_default();
    let run = RunKey::new(&uid, object.metadata.generation.unwrap_or_default(), &lock);
    let maps = Api::<PartialObjectMeta<ConfigMap>>::namespaced(
        context.client.clone(),
        &context.setup.system_namespace,
    );
    let snapshot = maps.get_metadata_opt(&run.snapshot_name()).await?;
    let snapshot = snapshot.filter(|snapshot| snapshot.labels().get(BUNDLE_UID) == Some(&uid));
    Ok(snapshot.map(|snapshot| Frozen {
        run,
        lock,
        at: created(&snapshot.metadata),
    }))
}

fn created(metadata: &ObjectMeta) -> Timestamp {
    metadata
        .creation_timestamp
        .as_ref()
        .map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// What the newest record of this run says it gave. A later failure means that it was lost since.
pub(super) fn finished(status: &PackedBundleStatus, run: &RunKey) -> Option<Digest> {
    let entry = status
        .history
        .iter()
        .find(|entry| entry.run == run.as_str())?;
    if entry.reason == SUCCEEDED {
        entry.digest.as_deref()?.parse().ok()
    } else {
        None
    }
}

/// Does the sign Job say that the run gave something else? The record is a line in a status, which
/// an administrator's tool can write; the Job in the system namespace is nearer to what was done.
/// Without this a wrong record would be verified, and refused, for ever.
pub(super) fn contradicts(sign: &JobState, recorded: &Digest) -> bool {
    matches!(sign, JobState::Succeeded { report, .. } if report.digest != *recorded)
}

/// How many of the newest records of this run, in a row, are failures of something else.
fn failures(status: &PackedBundleStatus, run: &RunKey) -> u32 {
    let unavailable = |reason: &str| {
        let reason = crate::core::class::Reason::ALL
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
async fn job(
    namespace: &str,
    name: &str,
    step: Step,
    context: &Context,
) -> Result<JobState, Trouble> {
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
        refusal(namespace, &job, context).await?
    } else {
        None
    };
    Ok(jobs::state(Some(&job), &pods, refused.as_deref(), step))
}

/// What the cluster said when it did not let the Job make a Pod. Only an event tells.
async fn refusal(namespace: &str, job: &Job, context: &Context) -> Result<Option<String>, Trouble> {
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
