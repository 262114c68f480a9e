//! Verdicts that were good, remembered for a while and in bounded memory, of which no namespace has
//! more than its part.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use moka::future::Cache;

use crate::core::report::Report;

/// How long a success is remembered.
pub(super) const REMEMBERED: Duration = Duration::from_mins(10);
/// Bytes of all that is remembered, about.
const MEMORY: u64 = 16 << 20;
/// Bytes of what was found out for one namespace. What is over is judged again each time.
const OF_ONE_NAMESPACE: u64 = MEMORY / 4;

/// A success.
#[derive(Debug)]
pub(super) struct Success {
    pub(super) report: Report,
    until: Timestamp,
    weight: u32,
    /// The namespace that asked first.
    namespace: Arc<str>,
}

/// Successes by what they depend on.
pub(super) struct Remembered<K> {
    cache: Cache<K, Arc<Success>>,
    held: Held,
}

/// Bytes by namespace.
#[derive(Clone, Default)]
struct Held(Arc<Mutex<HashMap<Arc<str>, u64>>>);

impl Success {
    /// It holds until then, and was found out for this namespace.
    pub(super) fn new(report: Report, until: Timestamp, namespace: &str) -> Self {
        let size = serde_json::to_string(&report).map_or(4_096, |text| text.len());
        // What the strings and lists of a report need beside their text, and the key.
        let weight = u32::try_from(size * 2 + 512).unwrap_or(u32::MAX);
        Self {
            report,
            until,
            weight,
            namespace: namespace.into(),
        }
    }
}

impl<K: Hash + Eq + Send + Sync + 'static> Default for Remembered<K> {
    fn default() -> Self {
        let held = Held::default();
        let evicted = held.clone();
        let cache = Cache::builder()
            .max_capacity(MEMORY)
            .weigher(|_: &K, success: &Arc<Success>| success.weight)
            .time_to_live(REMEMBERED)
            .eviction_listener(move |_, success: Arc<Success>, _| evicted.give_back(&success))
            .build();
        Self { cache, held }
    }
}

impl<K: Hash + Eq + Send + Sync + 'static> Remembered<K> {
    /// The success, if it still holds.
    pub(super) async fn get(&self, key: &K, now: Timestamp) -> Option<Arc<Success>> {
        let success = self.cache.get(key).await?;
        if now < success.until {
            return Some(success);
        }
        self.cache.invalidate(key).await;
        None
    }

    /// Remembers a success. False if its namespace has its part already.
    pub(super) async fn insert(&self, key: K, success: Arc<Success>) -> bool {
        if !self.held.take(&success) {
            // What has ended is noticed late.
            self.cache.run_pending_tasks().await;
            if !self.held.take(&success) {
                return false;
            }
        }
        self.cache.insert(key, success).await;
        true
    }
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, success: &Success) -> bool {
        let mut held = self.lock();
        let before = held.get(&success.namespace).copied().unwrap_or_default();
        let after = before.saturating_add(success.weight.into());
        if after > OF_ONE_NAMESPACE {
            return false;
        }
        held.insert(Arc::clone(&success.namespace), after);
        true
    }

    fn give_back(&self, success: &Success) {
        let mut held = self.lock();
        let Some(bytes) = held.get_mut(&success.namespace) else {
            return;
        };
        *bytes = bytes.saturating_sub(success.weight.into());
        if *bytes == 0 {
            held.remove(&success.namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{
        policy::{Decision, Outcome},
        report::Asked,
        verify::Findings,
    };

    fn success(namespace: &str) -> Arc<Success> {
        let asked = Asked {
            reproduce: "x".repeat(200_000),
            ..Asked::default()
        };
        let report = Report::new(
            asked,
            &Decision {
                outcome: Outcome::Ungoverned,
                policies: Vec::new(),
            },
            &Findings::default(),
        );
        Arc::new(Success::new(
            report,
            "2026-11-21T12:00:00Z".parse().expect("a time"),
            namespace,
        ))
    }

    #[tokio::test]
    async fn no_namespace_forgets_what_another_found_out() {
        let remembered = Remembered::default();
        let now = "2026-11-21T11:59:00Z".parse().expect("a time");
        assert!(remembered.insert(1_000, success("honest")).await);
        let mut kept = 0;
        for key in 0..200 {
            kept += u64::from(remembered.insert(key, success("flood")).await);
        }
        remembered.cache.run_pending_tasks().await;
        assert_eq!(
            kept,
            OF_ONE_NAMESPACE / u64::from(success("flood").weight),
            "and not 200"
        );
        assert!(remembered.get(&1_000, now).await.is_some());
        for key in 0..200 {
            remembered.cache.invalidate(&key).await;
        }
        remembered.cache.run_pending_tasks().await;
        assert!(
            remembered.insert(0, success("flood")).await,
            "there is room again"
        );
        assert!(
            remembered.insert(1_000, success("honest")).await && remembered.held.lock().len() == 2
        );
    }
}
