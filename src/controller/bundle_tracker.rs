//! What this process remembers about objects, so that nothing is written without a change. All of
//! it may be lost.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::{
    api::packed_bundle::PackedBundle,
    core::{digest::Digest, job::JobFailure, reason::Reason},
};

/// Warnings with the same reason about the same object are reported once in this interval.
const WARNING_INTERVAL: SignedDuration = SignedDuration::from_mins(1);
/// After a start, finished objects are verified again spread over this time, not all at once.
const VERIFICATION_SPREAD: Duration = Duration::from_mins(10);

/// What the controller remembers of each object, by UID.
#[derive(Debug, Default)]
pub(super) struct BundleTracker {
    objects: Mutex<HashMap<String, TrackerEntry>>,
}

/// An object with one specification: what is remembered of another one says nothing about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BundleGeneration {
    uid: String,
    generation: i64,
}

/// What is remembered about one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TrackedBundle {
    /// When its source was last resolved.
    pub resolved_at: Option<Timestamp>,
    /// When its bundle was last verified.
    pub verified_at: Option<Timestamp>,
    /// Why that source was refused.
    pub refused: Option<JobFailure>,
    /// Consecutive failures outside of Jobs.
    pub failures: u32,
    /// The reconcile request in progress. It counts as handled once the conditions show its result.
    pub handling: Option<String>,
}

#[derive(Debug, Default)]
struct TrackerEntry {
    generation: i64,
    bundle: TrackedBundle,
    warned: HashMap<Reason, Timestamp>,
}

impl BundleGeneration {
    /// The object as it was read.
    pub(super) fn of(object: &PackedBundle) -> Self {
        Self {
            uid: object.uid().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or_default(),
        }
    }
}

impl BundleTracker {
    /// What is remembered of an object with this specification.
    pub(super) fn get(&self, of: &BundleGeneration) -> TrackedBundle {
        let objects = self.lock_objects();
        let known = objects.get(&of.uid);
        let known = known.filter(|entry| entry.generation == of.generation);
        known.map(|entry| entry.bundle.clone()).unwrap_or_default()
    }

    /// Replaces what is remembered of an object.
    pub(super) fn set(&self, of: &BundleGeneration, bundle: TrackedBundle) {
        let mut objects = self.lock_objects();
        let entry = objects.entry(of.uid.clone()).or_default();
        entry.generation = of.generation;
        entry.bundle = bundle;
    }

    /// Treats an object that was finished before this process started as verified some time ago: a
    /// varying part of its interval.
    pub(super) fn assume_checked_earlier(
        &self,
        of: &BundleGeneration,
        interval: Option<Duration>,
        now: Timestamp,
    ) {
        let uid = of.uid.as_str();
        if self.lock_objects().contains_key(uid) {
            return;
        }
        let interval = interval.unwrap_or(VERIFICATION_SPREAD);
        let soon = interval.min(VERIFICATION_SPREAD).mul_f64(uid_fraction(uid));
        let then = SignedDuration::try_from(interval.saturating_sub(soon))
            .ok()
            .and_then(|ago| now.checked_sub(ago).ok())
            .unwrap_or(now);
        let assumed = TrackedBundle {
            resolved_at: Some(then),
            verified_at: Some(then),
            ..TrackedBundle::default()
        };
        self.set(of, assumed);
    }

    /// True if a warning is due: it was not reported within the interval.
    pub(super) fn should_warn(&self, uid: &str, reason: Reason, now: Timestamp) -> bool {
        let mut objects = self.lock_objects();
        let warned = &mut objects.entry(uid.to_owned()).or_default().warned;
        let quiet = warned
            .get(&reason)
            .is_some_and(|last| now.duration_since(*last) < WARNING_INTERVAL);
        if !quiet {
            warned.insert(reason, now);
        }
        !quiet
    }

    /// Removes every object for which `exists` is false.
    pub(super) fn retain(&self, exists: impl Fn(&str) -> bool) {
        self.lock_objects().retain(|uid, _| exists(uid));
    }

    fn lock_objects(&self) -> MutexGuard<'_, HashMap<String, TrackerEntry>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number from 0 to 1 that is constant for a UID.
fn uid_fraction(uid: &str) -> f64 {
    let hex = Digest::of_bytes(uid.as_bytes()).hex_digits();
    u32::from_str_radix(&hex[..8], 16).map_or(0.0, |number| f64::from(number) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn generation(uid: &str, generation: i64) -> BundleGeneration {
        BundleGeneration {
            uid: uid.to_owned(),
            generation,
        }
    }

    #[test]
    fn a_warning_is_told_once_a_minute() {
        let memory = BundleTracker::default();
        assert!(memory.should_warn("u", Reason::FetchFailed, time("2026-11-21T12:00:00Z")));
        assert!(!memory.should_warn("u", Reason::FetchFailed, time("2026-11-21T12:00:59Z")));
        assert!(memory.should_warn("u", Reason::TagConflict, time("2026-11-21T12:00:59Z")));
        assert!(memory.should_warn("v", Reason::FetchFailed, time("2026-11-21T12:00:59Z")));
        assert!(memory.should_warn("u", Reason::FetchFailed, time("2026-11-21T12:01:00Z")));
    }

    #[test]
    fn after_a_start_objects_are_verified_one_after_the_other() {
        let (memory, now) = (BundleTracker::default(), time("2026-11-21T12:00:00Z"));
        let hour = Duration::from_hours(1);
        let due: Vec<i64> = ["a", "b", "c", "d"]
            .into_iter()
            .map(|uid| {
                let of = generation(uid, 1);
                memory.assume_checked_earlier(&of, Some(hour), now);
                let at = memory.get(&of).verified_at.expect("taken over");
                3_600 - now.duration_since(at).as_secs()
            })
            .collect();
        assert!(
            due.iter().all(|seconds| (0..=600).contains(seconds)),
            "{due:?}"
        );
        assert!(due.iter().any(|seconds| *seconds != due[0]), "{due:?}");
        let of = generation("a", 1);
        let failed = TrackedBundle {
            failures: 3,
            ..memory.get(&of)
        };
        memory.set(&of, failed);
        memory.assume_checked_earlier(&of, Some(hour), now);
        assert_eq!(memory.get(&of).failures, 3, "what is known is kept");
        assert_eq!(
            memory.get(&generation("a", 2)),
            TrackedBundle::default(),
            "another specification"
        );
        memory.retain(|uid| uid != "a");
        assert_eq!(memory.get(&of), TrackedBundle::default());
    }
}
