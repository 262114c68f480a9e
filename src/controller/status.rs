//! The status of an object: a pure function of its old status and an update. One patch writes it,
//! and only if it changed.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    accepted_bundle::AcceptedBundle,
    packing_run::{FrozenLock, JobPhase},
};
pub(super) use crate::api::condition::SUCCEEDED;
use crate::{
    api::{
        condition::{
            self, DesiredCondition, PACKING, READY, RECONCILING, SIGNING, STALLED, SUSPENDED,
            UNSIGNED, VERIFIED,
        },
        packed_bundle::{
            BundleStatus, LockStatus, MAX_HISTORY, PackedBundleStatus, RunHistoryEntry,
        },
    },
    core::{
        digest::Digest,
        job::{JobFailure, JobRunKey},
        pack::PACK_FORMAT,
        reason::{Class, Reason},
    },
};

/// An update of an object's status.
#[derive(Clone, Debug)]
pub(super) enum StatusUpdate {
    /// The user suspended the object.
    Suspended,
    /// A Job is running.
    JobRunning(JobPhase, Option<String>),
    /// The bundle is verified.
    Accepted(Box<AcceptedBundle>),
    /// A step failed.
    Failed(JobFailure),
    /// The API server failed, so nothing is known about this generation.
    Interrupted(JobFailure),
    /// Nothing is left to do after an interruption.
    Recovered,
}

/// The status after the update.
pub(super) fn with_update(
    old: &PackedBundleStatus,
    update: &StatusUpdate,
    generation: i64,
    now: Timestamp,
) -> PackedBundleStatus {
    let mut status = old.clone();
    let observed = match update {
        StatusUpdate::Recovered if !is_interrupted(old) => return status,
        StatusUpdate::Interrupted(_) | StatusUpdate::Recovered => old.observed_generation,
        _ => Some(generation),
    };
    status.observed_generation = observed;
    if let StatusUpdate::Accepted(good) = update {
        status.bundle = Some(bundle_status(good));
        status.evidence.clone_from(&good.evidence);
    }
    status.conditions = condition::merge_conditions(
        &old.conditions,
        &desired_conditions(old, update),
        observed.unwrap_or(generation),
        now,
    );
    status
}

/// Records the lock that is packed now.
pub(super) fn with_resolved_lock(old: &PackedBundleStatus, lock: LockStatus) -> PackedBundleStatus {
    PackedBundleStatus {
        lock: Some(lock),
        ..old.clone()
    }
}

/// Records that a request was handled.
pub(super) fn with_handled_request(
    old: &PackedBundleStatus,
    requested: Option<String>,
) -> PackedBundleStatus {
    let handled = requested.or_else(|| old.last_handled_reconcile_at.clone());
    PackedBundleStatus {
        last_handled_reconcile_at: handled,
        ..old.clone()
    }
}

/// Records the result of a run. The same result is recorded once.
pub(super) fn with_run_result(
    old: &PackedBundleStatus,
    frozen: &FrozenLock,
    digest: Option<Digest>,
    reason: &str,
    at: Timestamp,
) -> PackedBundleStatus {
    let entry = RunHistoryEntry {
        run: frozen.run.to_string(),
        digest: digest.map(|digest| digest.to_string()),
        lock_digest: frozen.lock.to_string(),
        started: frozen.at.to_string(),
        finished: at.to_string(),
        reason: reason.to_owned(),
    };
    let mut status = old.clone();
    let of_run = |known: &&RunHistoryEntry| known.run == entry.run;
    let newest = status.history.iter().position(|known| of_run(&known));
    if let Some(wrong) = newest.filter(|newest| is_corrected(&status.history[*newest], &entry)) {
        status.history[wrong] = entry;
        return status;
    }
    let newest_is_success = status
        .history
        .iter()
        .find(of_run)
        .is_some_and(|known| known.reason == SUCCEEDED);
    let mut same = status
        .history
        .iter()
        .filter(of_run)
        .filter(|known| known.reason == entry.reason && known.finished == entry.finished);
    let is_known = same.next().is_some() || (reason == SUCCEEDED && newest_is_success);
    if !is_known {
        status.history.insert(0, entry);
        status.history.truncate(MAX_HISTORY);
    }
    status
}

/// Removes a run's success, because it starts again.
pub(super) fn with_run_restarted(old: &PackedBundleStatus, run: &JobRunKey) -> PackedBundleStatus {
    let mut status = old.clone();
    status
        .history
        .retain(|known| known.run != run.as_str() || known.reason != SUCCEEDED);
    status
}

/// The JSON merge patch that turns `found` into `wanted`, whoever manages the fields.
pub(super) fn overwrite_patch(found: &Value, wanted: &Value) -> Value {
    let (Value::Object(found), Value::Object(wanted)) = (found, wanted) else {
        return wanted.clone();
    };
    let mut patch: Map<String, Value> =
        found.keys().map(|key| (key.clone(), Value::Null)).collect();
    patch.extend(wanted.iter().map(|(key, value)| {
        (
            key.clone(),
            overwrite_patch(found.get(key).unwrap_or(&Value::Null), value),
        )
    }));
    Value::Object(patch)
}

/// True if `known` has another bundle than the run produced. A run produces one bundle, so the
/// controller did not write that record.
fn is_corrected(known: &RunHistoryEntry, entry: &RunHistoryEntry) -> bool {
    known.reason == SUCCEEDED && entry.reason == SUCCEEDED && known.digest != entry.digest
}

/// A number in the type of Kubernetes' API.
pub(crate) fn saturating_i64(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// True if a verified bundle waits for the API server.
fn is_interrupted(status: &PackedBundleStatus) -> bool {
    condition::is_true(&status.conditions, READY)
        && condition::is_true(&status.conditions, RECONCILING)
}

fn bundle_status(good: &AcceptedBundle) -> BundleStatus {
    let AcceptedBundle {
        reference,
        tag,
        size,
        ..
    } = good;
    let named = match tag {
        Some(tag) => format!("{}:{tag}@{}", reference.repository(), reference.digest()),
        None => reference.to_string(),
    };
    BundleStatus {
        reference: named,
        digest: reference.digest().to_string(),
        tag: tag.as_ref().map(ToString::to_string),
        size: size.map(|size| saturating_i64(size.bytes)),
        layers: size.map(|size| saturating_i64(size.layers)),
        pack_format: size.map(|_| PACK_FORMAT.to_owned()),
    }
}

fn desired_conditions(old: &PackedBundleStatus, update: &StatusUpdate) -> Vec<DesiredCondition> {
    match update {
        StatusUpdate::Suspended => suspended_conditions(old),
        StatusUpdate::JobRunning(phase, problem) => {
            job_running_conditions(*phase, problem.as_deref())
        }
        StatusUpdate::Accepted(good) => accepted_conditions(good),
        StatusUpdate::Failed(failure) | StatusUpdate::Interrupted(failure) => {
            failed_conditions(old, failure)
        }
        StatusUpdate::Recovered => existing_conditions(old, &[READY, VERIFIED]),
    }
}

fn desired_condition(
    type_: &'static str,
    status: bool,
    reason: impl Into<String>,
    message: impl Into<String>,
) -> DesiredCondition {
    DesiredCondition {
        type_,
        status,
        reason: reason.into(),
        message: message.into(),
    }
}

/// Conditions keep their values while suspended.
fn suspended_conditions(old: &PackedBundleStatus) -> Vec<DesiredCondition> {
    let known = existing_conditions(old, &[READY, VERIFIED]);
    if known.is_empty() {
        vec![desired_condition(
            READY,
            false,
            SUSPENDED,
            "spec.suspend is true, reconciliation is suspended until it is false",
        )]
    } else {
        known
    }
}

fn existing_conditions(old: &PackedBundleStatus, types: &[&'static str]) -> Vec<DesiredCondition> {
    let find = |type_: &&'static str| {
        let condition = old
            .conditions
            .iter()
            .find(|condition| condition.type_ == **type_)?;
        Some(desired_condition(
            type_,
            condition.status == "True",
            condition.reason.clone(),
            condition.message.clone(),
        ))
    };
    types.iter().filter_map(find).collect()
}

fn job_running_conditions(phase: JobPhase, problem: Option<&str>) -> Vec<DesiredCondition> {
    let (reason, what) = match phase {
        JobPhase::Packing => (PACKING, "the pack Job is running"),
        JobPhase::Signing => (SIGNING, "the sign Job is running"),
    };
    let message = problem.unwrap_or(what);
    vec![
        desired_condition(READY, false, reason, message),
        desired_condition(RECONCILING, true, reason, message),
    ]
}

fn accepted_conditions(good: &AcceptedBundle) -> Vec<DesiredCondition> {
    let message = good.status_message();
    if let Some(unsigned) = &good.unsigned {
        return vec![
            desired_condition(READY, true, UNSIGNED, message.clone()),
            desired_condition(VERIFIED, false, unsigned.reason().as_str(), message),
        ];
    }
    vec![
        desired_condition(READY, true, SUCCEEDED, message.clone()),
        desired_condition(VERIFIED, true, SUCCEEDED, message),
    ]
}

fn failed_conditions(old: &PackedBundleStatus, failure: &JobFailure) -> Vec<DesiredCondition> {
    let JobFailure { reason, message } = failure;
    let tell = |type_, status| desired_condition(type_, status, reason.as_str(), message);
    let stalled = || vec![tell(READY, false), tell(STALLED, true)];
    match (failure.class(), reason) {
        // Needs a change by a user, so it does not resolve by itself.
        (_, Reason::SourceNotFound | Reason::PodDenied | Reason::JobFailed)
        | (Class::Invalid | Class::Internal, _) => stalled(),
        (Class::Unavailable, _) if condition::is_true(&old.conditions, READY) => {
            let mut wanted = existing_conditions(old, &[READY, VERIFIED]);
            wanted.push(tell(RECONCILING, true));
            wanted
        }
        (Class::Unavailable, _) => vec![tell(READY, false), tell(RECONCILING, true)],
        (Class::Denied | Class::Corrupt, _) => vec![
            tell(READY, false),
            tell(STALLED, true),
            tell(VERIFIED, false),
        ],
    }
}

#[cfg(test)]
mod tests;
