//! The queue for sign Jobs, which run in packgate's own namespace, with its controller and its key,
//! where no tenant's quota applies. So their number is limited, in total and for each namespace.
//!
//! Running Jobs are counted from the existing Jobs, so a restart changes nothing, and from those
//! that are being created: no object waits for another's requests to the API server. Waiting
//! objects are remembered here; one that is lost requests a slot again a moment later.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;

use super::resources::{BUNDLE_NAMESPACE, BUNDLE_UID};
use crate::api::installation::SignJobsConfig;

/// A waiting object without a request for this long leaves the queue: it was deleted, suspended or
/// changed.
const WAITER_EXPIRY: SignedDuration = SignedDuration::from_mins(2);
/// When the first in the queue requests again, and the additional delay of each one after it.
const FIRST_RETRY_DELAY: Duration = Duration::from_secs(3);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(30);

/// The objects that wait to sign.
#[derive(Debug, Default)]
pub(super) struct SignQueue {
    waiting: Mutex<HashMap<String, SignQueueEntry>>,
    /// The objects whose Jobs are being created, with their namespaces.
    starting: Mutex<StartingSignJobs>,
    /// Locked while slots are counted, so that two objects do not take one slot.
    pub slot_count_lock: tokio::sync::Mutex<()>,
}

/// Namespaces by the UID of the object whose Job is being created.
pub(super) type StartingSignJobs = BTreeMap<String, String>;

/// An allocated slot, until its Job exists or could not be created.
pub(super) struct SignSlot<'a> {
    queue: &'a SignQueue,
    uid: String,
}

/// A waiting object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SignQueueEntry {
    pub namespace: String,
    /// When its lock was frozen: its position in the queue.
    pub since: Timestamp,
    /// The time of its last request.
    pub asked: Timestamp,
}

/// Why and how long an object waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SignQueueWait {
    /// The message for the status.
    pub why: String,
    /// When to request again.
    pub again: Duration,
}

impl SignQueue {
    /// Requests a slot for the object with this UID. `jobs` are the sign Jobs of the system
    /// namespace. `starting` is the result of [`Self::starting_jobs`] from before they were listed:
    /// a Job that was created meanwhile is in one of both.
    pub(super) fn request_slot(
        &self,
        uid: &str,
        own: &SignQueueEntry,
        jobs: &[Job],
        starting: &StartingSignJobs,
        limits: &SignJobsConfig,
    ) -> Option<SignQueueWait> {
        let now = own.asked;
        let mut waiting = self.lock_waiting();
        waiting.insert(uid.to_owned(), own.clone());
        waiting.retain(|_, other| now.duration_since(other.asked) < WAITER_EXPIRY);
        let running = count_running_jobs(jobs, starting, uid);
        let wait = allocate_slots(uid, &own.namespace, &running, &waiting, limits);
        if wait.is_none() {
            waiting.remove(uid);
        }
        wait
    }

    /// The objects whose Jobs are being created now.
    pub(super) fn starting_jobs(&self) -> StartingSignJobs {
        self.starting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Takes the slot that [`Self::request_slot`] allocated.
    pub(super) fn take_slot(&self, uid: String, namespace: String) -> SignSlot<'_> {
        self.starting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(uid.clone(), namespace);
        SignSlot { queue: self, uid }
    }

    fn lock_waiting(&self) -> MutexGuard<'_, HashMap<String, SignQueueEntry>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SignSlot<'_> {
    fn drop(&mut self) {
        self.queue
            .starting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.uid);
    }
}

/// The number of running Jobs of other objects, by namespace. Only the controller sets labels in
/// the system namespace.
fn count_running_jobs(
    jobs: &[Job],
    starting: &StartingSignJobs,
    uid: &str,
) -> BTreeMap<String, usize> {
    let of = |job: &Job| job.labels().get(BUNDLE_UID).cloned().unwrap_or_default();
    let mut running = BTreeMap::new();
    for job in jobs
        .iter()
        .filter(|job| !is_job_finished(job) && of(job) != uid)
    {
        *running
            .entry(
                job.labels()
                    .get(BUNDLE_NAMESPACE)
                    .cloned()
                    .unwrap_or_default(),
            )
            .or_default() += 1;
    }
    for (_, namespace) in starting
        .iter()
        .filter(|(other, _)| *other != uid && !jobs.iter().any(|job| of(job) == **other))
    {
        *running.entry(namespace.clone()).or_default() += 1;
    }
    running
}

fn is_job_finished(job: &Job) -> bool {
    let conditions = job
        .status
        .iter()
        .filter_map(|status| status.conditions.as_ref())
        .flatten();
    conditions.into_iter().any(|condition| {
        ["Complete", "Failed"].contains(&condition.type_.as_str()) && condition.status == "True"
    })
}

/// Allocates free slots, each to the namespace with the fewest, and there to the object that waits
/// longest. `None` if the object with this UID gets one.
fn allocate_slots(
    uid: &str,
    namespace: &str,
    running: &BTreeMap<String, usize>,
    waiting: &HashMap<String, SignQueueEntry>,
    limits: &SignJobsConfig,
) -> Option<SignQueueWait> {
    let mut taken = running.clone();
    let mut free = limits.max_concurrent.saturating_sub(running.values().sum());
    let mut row: BTreeMap<&str, &SignQueueEntry> = waiting
        .iter()
        .map(|(uid, one)| (uid.as_str(), one))
        .collect();
    while free > 0 {
        let has = |one: &SignQueueEntry| taken.get(&one.namespace).copied().unwrap_or_default();
        let may = row
            .iter()
            .filter(|(_, one)| has(one) < limits.max_concurrent_per_namespace);
        let Some(next) = may
            .min_by_key(|(uid, one)| (has(one), one.since, **uid))
            .map(|(uid, _)| *uid)
        else {
            break;
        };
        if next == uid {
            return None;
        }
        if let Some(one) = row.remove(next) {
            *taken.entry(one.namespace.clone()).or_default() += 1;
        }
        free -= 1;
    }
    let ahead = waiting.len().saturating_sub(1);
    let again = FIRST_RETRY_DELAY
        .saturating_mul(u32::try_from(1 + ahead / limits.max_concurrent.max(1)).unwrap_or(u32::MAX))
        .min(MAX_RETRY_DELAY);
    let own = running.get(namespace).copied().unwrap_or_default();
    let with_those_before = taken.get(namespace).copied().unwrap_or_default();
    let why = if with_those_before >= limits.max_concurrent_per_namespace {
        format!(
            "waits until another bundle of namespace {namespace} is signed: {own} sign Jobs of it \
                run and {} are next, as many as may (chart value \
                jobs.sign.maxConcurrentPerNamespace)",
            with_those_before - own
        )
    } else {
        format!(
            "waits for a free sign Job slot: this installation runs {} sign Jobs at once (chart \
                value jobs.sign.maxConcurrent)",
            limits.max_concurrent
        )
    };
    Some(SignQueueWait { why, again })
}

#[cfg(test)]
mod tests;
