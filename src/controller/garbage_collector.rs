//! Garbage collection: removes children of deleted objects that owner references do not cover, and
//! old runs.
//!
//! There are no finalizers, so objects are deleted immediately even while no controller runs; their
//! children in the system namespace are removed here. Content of registries is never deleted.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Secret},
};
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, PartialObjectMeta},
};
use serde::de::DeserializeOwned;

use super::{
    apply::delete_if_exists,
    reconcile_context::ReconcileContext,
    reconcile_error::ReconcileError,
    resources::{BUNDLE, BUNDLE_NAMESPACE, BUNDLE_UID, MANAGED_BY, MANAGER, RUN},
};
use crate::{
    api::{
        condition::SUCCEEDED,
        packed_bundle::{HistoryLimits, PackedBundle, RunHistoryEntry},
    },
    core::job::JobRunKey,
};

/// The interval of searches for orphans.
const GARBAGE_COLLECTION_INTERVAL: Duration = Duration::from_mins(10);
/// The interval of checks for deleted objects.
const DELETION_CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Collects orphans at the start, after deletions, and periodically.
pub(super) async fn collect_garbage_forever(context: &ReconcileContext) {
    let mut known: Option<HashSet<String>> = None;
    let mut last = tokio::time::Instant::now();
    let ready = context.bundle_store.wait_until_ready().await;
    while ready.is_ok() {
        let there = cached_uids(context);
        let gone = known
            .as_ref()
            .is_none_or(|known| known.difference(&there).next().is_some());
        if gone || last.elapsed() >= GARBAGE_COLLECTION_INTERVAL {
            last = tokio::time::Instant::now();
            if let Err(error) = delete_orphans(context).await {
                tracing::warn!(%error, "orphans were not removed; retrying later");
            } else {
                known = Some(there);
            }
        } else {
            known = Some(there);
        }
        tokio::time::sleep(DELETION_CHECK_INTERVAL).await;
    }
}

/// The UIDs of the objects in the watch cache.
fn cached_uids(context: &ReconcileContext) -> HashSet<String> {
    let objects = context.bundle_store.state();
    objects.iter().filter_map(|object| object.uid()).collect()
}

/// Removes children in the system namespace whose object is gone.
async fn delete_orphans(context: &ReconcileContext) -> Result<(), ReconcileError> {
    let mut gone = HashSet::new();
    delete_orphans_of_kind::<Job>(&mut gone, context).await?;
    delete_orphans_of_kind::<ConfigMap>(&mut gone, context).await?;
    delete_orphans_of_kind::<Secret>(&mut gone, context).await?;
    let there = cached_uids(context);
    context.bundle_tracker.retain(|uid| there.contains(uid));
    Ok(())
}

/// `gone`: the UIDs of objects that the API server no longer has, as far as it was asked.
async fn delete_orphans_of_kind<K>(
    gone: &mut HashSet<String>,
    context: &ReconcileContext,
) -> Result<(), ReconcileError>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api = Api::<K>::namespaced(
        context.client.clone(),
        &context.run_settings.system_namespace,
    );
    // What does not say whose it is cannot be asked for, and stays.
    let ours = ListParams::default().labels(&format!(
        "{MANAGED_BY}={MANAGER},{BUNDLE_UID},{BUNDLE_NAMESPACE},{BUNDLE}"
    ));
    let children = api.list_metadata(&ours).await?.items;
    let there = cached_uids(context);
    for child in children {
        let label = |name| child.labels().get(name).map(String::as_str);
        let (Some(uid), Some(namespace), Some(name)) =
            (label(BUNDLE_UID), label(BUNDLE_NAMESPACE), label(BUNDLE))
        else {
            continue;
        };
        if there.contains(uid) {
            continue;
        }
        if !gone.contains(uid) {
            if bundle_exists(namespace, name, uid, context).await? {
                continue;
            }
            gone.insert(uid.to_owned());
        }
        delete_if_exists(&api, &child.name_any()).await?;
    }
    Ok(())
}

/// Asks the API server for the object that a child was made for. The watch cache can lag behind: the
/// object may be newer than its content, and the child made by the replica that led before.
async fn bundle_exists(
    namespace: &str,
    name: &str,
    uid: &str,
    context: &ReconcileContext,
) -> Result<bool, ReconcileError> {
    let api = Api::<PackedBundle>::namespaced(context.client.clone(), namespace);
    let found = api.get_metadata_opt(name).await?;
    Ok(found.is_some_and(|object| object.uid().as_deref() == Some(uid)))
}

/// Removes old runs of an object: unfinished ones that were replaced, and finished ones over the
/// history limit.
///
/// Tenants can write labels in the object's namespace. These only select objects of that namespace:
/// in the system namespace only labels of that namespace count, which no tenant can write.
pub(super) async fn delete_old_runs(
    object: &PackedBundle,
    current: &JobRunKey,
    kept: HistoryLimits,
    context: &ReconcileContext,
) -> Result<(), ReconcileError> {
    let own = object.namespace().unwrap_or_default();
    let system = context.run_settings.system_namespace.clone();
    let of_object = ListParams::default().labels(&format!(
        "{MANAGED_BY}={MANAGER},{BUNDLE_UID}={}",
        object.uid().unwrap_or_default()
    ));
    let system_jobs = Api::<Job>::namespaced(context.client.clone(), &system)
        .list(&of_object)
        .await?
        .items;
    let snapshots = Api::<ConfigMap>::namespaced(context.client.clone(), &system)
        .list_metadata(&of_object)
        .await?;
    let frozen = snapshots
        .items
        .into_iter()
        .filter_map(|snapshot: PartialObjectMeta<ConfigMap>| snapshot.labels().get(RUN).cloned());
    let system_runs = &frozen.collect() | &runs_of(&system_jobs);
    let own_jobs = Api::<Job>::namespaced(context.client.clone(), &own)
        .list(&of_object)
        .await?
        .items;
    let own_runs = &runs_of(&own_jobs) | &system_runs;
    let jobs = [own_jobs, system_jobs].concat();
    let history = object
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.history);
    let doomed = select_runs_to_delete(&jobs, history, &own_runs, current.as_str(), kept);
    for run in &doomed & &own_runs {
        delete_tenant_objects(&run, &own, context).await?;
    }
    for run in &doomed & &system_runs {
        delete_system_objects(&run, &system, context).await?;
    }
    Ok(())
}

fn runs_of(jobs: &[Job]) -> BTreeSet<String> {
    jobs.iter()
        .filter_map(|job| job.labels().get(RUN).cloned())
        .collect()
}

/// Selects the runs of an object to delete.
fn select_runs_to_delete(
    jobs: &[Job],
    history: &[RunHistoryEntry],
    known: &BTreeSet<String>,
    current: &str,
    kept: HistoryLimits,
) -> BTreeSet<String> {
    let mut succeeded = BTreeSet::new();
    let mut failed = BTreeSet::new();
    for run in known.iter().filter(|run| run.as_str() != current) {
        match recorded_run_end(history, run).or_else(|| observed_run_end(jobs, run)) {
            Some((true, at)) => drop(succeeded.insert((at, run.clone()))),
            Some((false, at)) => drop(failed.insert((at, run.clone()))),
            None => (),
        }
    }
    let newest = |ends: BTreeSet<(Timestamp, String)>, count| {
        ends.into_iter()
            .rev()
            .take(count)
            .map(|(_, run)| run)
            .collect::<Vec<_>>()
    };
    let kept: HashSet<String> = newest(succeeded, kept.succeeded)
        .into_iter()
        .chain(newest(failed, kept.failed))
        .collect();
    known
        .iter()
        .filter(|run| run.as_str() != current && !kept.contains(*run))
        .cloned()
        .collect()
}

/// The result and end of a run in the status: a run counts as ended before its Job is `Complete`.
fn recorded_run_end(history: &[RunHistoryEntry], run: &str) -> Option<(bool, Timestamp)> {
    let entry = history.iter().find(|entry| entry.run == run)?;
    Some((entry.reason == SUCCEEDED, entry.finished.parse().ok()?))
}

/// The result and end of a run: its sign Job's success, or the failure of any of its Jobs. `None`:
/// it did not end, and never will.
fn observed_run_end(jobs: &[Job], run: &str) -> Option<(bool, Timestamp)> {
    let of_run: Vec<&Job> = jobs
        .iter()
        .filter(|job| job.labels().get(RUN).is_some_and(|of| of == run))
        .collect();
    let ended = |job: &Job, type_: &str| {
        let conditions = job.status.as_ref()?.conditions.as_ref()?;
        let condition = conditions
            .iter()
            .find(|condition| condition.type_ == type_ && condition.status == "True")?;
        condition.last_transition_time.as_ref().map(|time| time.0)
    };
    let failed = of_run
        .iter()
        .find_map(|job| ended(job, "Failed"))
        .map(|at| (false, at));
    let signed = of_run
        .iter()
        .filter(|job| job.name_any().ends_with("-sign"))
        .find_map(|job| ended(job, "Complete"))
        .map(|at| (true, at));
    failed.or(signed)
}

async fn delete_tenant_objects(
    run: &str,
    own: &str,
    context: &ReconcileContext,
) -> Result<(), ReconcileError> {
    let (jobs, maps) = (
        Api::<Job>::namespaced(context.client.clone(), own),
        Api::<ConfigMap>::namespaced(context.client.clone(), own),
    );
    delete_if_exists(&jobs, &format!("packgate-{run}-pack")).await?;
    delete_if_exists(&jobs, &format!("packgate-{run}-sign")).await?;
    delete_if_exists(&maps, &format!("packgate-{run}-pack")).await
}

async fn delete_system_objects(
    run: &str,
    system: &str,
    context: &ReconcileContext,
) -> Result<(), ReconcileError> {
    let sign = format!("packgate-{run}-sign");
    delete_if_exists(
        &Api::<Job>::namespaced(context.client.clone(), system),
        &sign,
    )
    .await?;
    delete_if_exists(
        &Api::<Secret>::namespaced(context.client.clone(), system),
        &sign,
    )
    .await?;
    // The snapshot last: while it exists, the run is found again.
    delete_if_exists(
        &Api::<ConfigMap>::namespaced(context.client.clone(), system),
        &format!("packgate-{run}-lock"),
    )
    .await
}

#[cfg(test)]
mod tests;
