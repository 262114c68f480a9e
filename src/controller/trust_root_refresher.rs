//! Where trust roots are fetched from, and the last failures.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    api::trust_root::TrustRoot,
    core::{job::JobFailure, timestamp::time_after},
    service::trust_root::TrustSource,
};

/// The longest delay before a failed repository is tried again.
pub(super) const MAX_RETRY_DELAY: Duration = Duration::from_mins(5);

/// Fetches trust roots, and remembers the last attempts.
pub(super) struct TrustRootRefresher {
    /// Where they are fetched from.
    pub source: Arc<dyn TrustSource>,
    failed: Mutex<HashMap<String, FailedTrustRootRefresh>>,
}

/// The last failed attempt for one object.
#[derive(Clone)]
struct FailedTrustRootRefresh {
    generation: Option<i64>,
    at: Timestamp,
    failure: JobFailure,
}

impl TrustRootRefresher {
    /// A refresher that has not tried anything yet.
    pub(super) fn new(source: Arc<dyn TrustSource>) -> Self {
        Self {
            source,
            failed: Mutex::default(),
        }
    }

    /// The last failure for this generation, if it is too early for another attempt.
    pub(super) fn recent_failure(
        &self,
        root: &TrustRoot,
        interval: Duration,
        now: Timestamp,
    ) -> Option<JobFailure> {
        let failed = self
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&root_uid(root))
            .cloned()?;
        let is_soon =
            failed.at <= now && now < time_after(failed.at, interval.min(MAX_RETRY_DELAY));
        (is_soon && failed.generation == root.metadata.generation).then_some(failed.failure)
    }

    /// Remembers the result of an attempt.
    pub(super) fn record_refresh(
        &self,
        root: &TrustRoot,
        failure: Option<&JobFailure>,
        now: Timestamp,
    ) {
        let mut all = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        match failure {
            Some(failure) => all.insert(
                root_uid(root),
                FailedTrustRootRefresh {
                    generation: root.metadata.generation,
                    at: now,
                    failure: failure.clone(),
                },
            ),
            None => all.remove(&root_uid(root)),
        };
    }
}

fn root_uid(root: &TrustRoot) -> String {
    root.uid().unwrap_or_default()
}
