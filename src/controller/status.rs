//! The status of an object: a pure function of what it was and what happened. One patch writes it,
//! and only if it changed.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    step::{Frozen, Phase},
    verify::Good,
};
pub(super) use crate::api::condition::SUCCEEDED;
use crate::{
    api::{
        condition::{
            self, PACKING, READY, RECONCILING, SIGNING, STALLED, SUSPENDED, UNSIGNED, VERIFIED,
            Wanted,
        },
        packed_bundle::{BundleStatus, HistoryEntry, LockStatus, MAX_HISTORY, PackedBundleStatus},
    },
    core::{
        class::{Class, Reason},
        digest::Digest,
        job::{Failure, RunKey},
        pack::PACK_FORMAT,
    },
};

/// What happened to an object.
#[derive(Clone, Debug)]
pub(super) enum News {
    /// Its owner wants it left alone.
    Suspended,
    /// A Job is at work.
    Working(Phase, Option<String>),
    /// The bundle is there and good.
    Good(Box<Good>),
    /// Something failed.
    Failed(Failure),
}

/// The status that follows.
pub(super) fn after(
    old: &PackedBundleStatus,
    news: &News,
    generation: i64,
    now: Timestamp,
) -> PackedBundleStatus {
    let mut status = old.clone();
    status.observed_generation = Some(generation);
    if let News::Good(good) = news {
        status.bundle = Some(bundle(good));
        status.evidence.clone_from(&good.evidence);
    }
    status.conditions = condition::merge(&old.conditions, &wanted(old, news), generation, now);
    status
}

/// Notes which lock is packed now.
pub(super) fn resolved(old: &PackedBundleStatus, lock: LockStatus) -> PackedBundleStatus {
    PackedBundleStatus {
        lock: Some(lock),
        ..old.clone()
    }
}

/// Notes that a request was handled.
pub(super) fn handled(old: &PackedBundleStatus, requested: Option<String>) -> PackedBundleStatus {
    let handled = requested.or_else(|| old.last_handled_reconcile_at.clone());
    PackedBundleStatus {
        last_handled_reconcile_at: handled,
        ..old.clone()
    }
}

/// Notes how a run ended. The same end is noted once.
pub(super) fn ended(
    old: &PackedBundleStatus,
    frozen: &Frozen,
    digest: Option<Digest>,
    reason: &str,
    at: Timestamp,
) -> PackedBundleStatus {
    let entry = HistoryEntry {
        run: frozen.run.to_string(),
        digest: digest.map(|digest| digest.to_string()),
        lock_digest: frozen.lock.to_string(),
        started: frozen.at.to_string(),
        finished: at.to_string(),
        reason: reason.to_owned(),
    };
    let mut status = old.clone();
    let of_run = |known: &&HistoryEntry| known.run == entry.run;
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

/// Forgets that a run ended well, because it begins again.
pub(super) fn begun_again(old: &PackedBundleStatus, run: &RunKey) -> PackedBundleStatus {
    let mut status = old.clone();
    status
        .history
        .retain(|known| known.run != run.as_str() || known.reason != SUCCEEDED);
    status
}

/// The JSON merge patch that makes `wanted` of `found`, whoever wrote that.
pub(super) fn overwriting(found: &Value, wanted: &Value) -> Value {
    let (Value::Object(found), Value::Object(wanted)) = (found, wanted) else {
        return wanted.clone();
    };
    let mut patch: Map<String, Value> =
        found.keys().map(|key| (key.clone(), Value::Null)).collect();
    patch.extend(wanted.iter().map(|(key, value)| {
        (
            key.clone(),
            overwriting(found.get(key).unwrap_or(&Value::Null), value),
        )
    }));
    Value::Object(patch)
}

/// Does `known` claim another bundle than the run gave? Runs give one, so it was not the controller
/// that wrote it.
fn is_corrected(known: &HistoryEntry, entry: &HistoryEntry) -> bool {
    known.reason == SUCCEEDED && entry.reason == SUCCEEDED && known.digest != entry.digest
}

/// A number as Kubernetes has them.
pub(crate) fn whole(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

fn bundle(good: &Good) -> BundleStatus {
    let Good {
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
        size: size.map(|size| whole(size.bytes)),
        layers: size.map(|size| whole(size.layers)),
        pack_format: size.map(|_| PACK_FORMAT.to_owned()),
    }
}

fn wanted(old: &PackedBundleStatus, news: &News) -> Vec<Wanted> {
    match news {
        News::Suspended => suspended(old),
        News::Working(phase, trouble) => working(*phase, trouble.as_deref()),
        News::Good(good) => good_news(good),
        News::Failed(failure) => failed(old, failure),
    }
}

fn of(
    type_: &'static str,
    status: bool,
    reason: impl Into<String>,
    message: impl Into<String>,
) -> Wanted {
    Wanted {
        type_,
        status,
        reason: reason.into(),
        message: message.into(),
    }
}

/// What is known stays known.
fn suspended(old: &PackedBundleStatus) -> Vec<Wanted> {
    let known = kept(old, &[READY, VERIFIED]);
    if known.is_empty() {
        vec![of(
            READY,
            false,
            SUSPENDED,
            "spec.suspend is true, nothing is done until it is false",
        )]
    } else {
        known
    }
}

fn kept(old: &PackedBundleStatus, types: &[&'static str]) -> Vec<Wanted> {
    let find = |type_: &&'static str| {
        let condition = old
            .conditions
            .iter()
            .find(|condition| condition.type_ == **type_)?;
        Some(of(
            type_,
            condition.status == "True",
            condition.reason.clone(),
            condition.message.clone(),
        ))
    };
    types.iter().filter_map(find).collect()
}

fn working(phase: Phase, trouble: Option<&str>) -> Vec<Wanted> {
    let (reason, what) = match phase {
        Phase::Packing => (PACKING, "the pack Job is at work"),
        Phase::Signing => (SIGNING, "the sign Job is at work"),
    };
    let message = trouble.unwrap_or(what);
    vec![
        of(READY, false, reason, message),
        of(RECONCILING, true, reason, message),
    ]
}

fn good_news(good: &Good) -> Vec<Wanted> {
    let message = good.words();
    if let Some(unsigned) = &good.unsigned {
        return vec![
            of(READY, true, UNSIGNED, message.clone()),
            of(VERIFIED, false, unsigned.reason().as_str(), message),
        ];
    }
    vec![
        of(READY, true, SUCCEEDED, message.clone()),
        of(VERIFIED, true, SUCCEEDED, message),
    ]
}

fn failed(old: &PackedBundleStatus, failure: &Failure) -> Vec<Wanted> {
    let Failure { reason, message } = failure;
    let tell = |type_, status| of(type_, status, reason.as_str(), message);
    let stalled = || vec![tell(READY, false), tell(STALLED, true)];
    match (failure.class(), reason) {
        // Somebody must make it, so it will not pass by itself.
        (_, Reason::SourceNotFound | Reason::PodDenied | Reason::JobFailed)
        | (Class::Invalid | Class::Internal, _) => stalled(),
        (Class::Unavailable, _) if condition::is_true(&old.conditions, READY) => {
            let mut wanted = kept(old, &[READY, VERIFIED]);
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
