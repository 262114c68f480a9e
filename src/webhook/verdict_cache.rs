//! A cache of admissions, limited in time and memory, with a limit for each namespace.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use moka::future::Cache;

use crate::core::{policy::Clearance, report::AdmissionReport};

/// How long an admission is cached.
pub(super) const VERDICT_TTL: Duration = Duration::from_mins(10);
/// Approximate bytes of the whole cache.
const VERDICT_CACHE_BYTES: u64 = 16 << 20;
/// Bytes of cached verdicts for one namespace. Beyond that, uses are evaluated each time.
const NAMESPACE_CACHE_BYTES: u64 = VERDICT_CACHE_BYTES / 4;

/// A cached admission.
#[derive(Debug)]
pub(super) struct CachedVerdict {
    pub(super) report: AdmissionReport,
    /// What allows the same use again.
    pub(super) clearance: Clearance,
    until: Timestamp,
    weight: u32,
    /// The namespace of the first request.
    namespace: Arc<str>,
}

/// Admissions by everything that they depend on.
pub(super) struct VerdictCache<K> {
    cache: Cache<K, Arc<CachedVerdict>>,
    namespace_usage: NamespaceCacheUsage,
}

/// Cached bytes by namespace.
#[derive(Clone, Default)]
struct NamespaceCacheUsage(Arc<Mutex<HashMap<Arc<str>, u64>>>);

impl CachedVerdict {
    /// An admission that is valid until `until`, evaluated for this namespace.
    pub(super) fn new(
        report: AdmissionReport,
        clearance: Clearance,
        until: Timestamp,
        namespace: &str,
    ) -> Self {
        let size = serde_json::to_string(&report).map_or(4_096, |text| text.len());
        // The overhead of a report's strings and lists, and of the key.
        let weight = u32::try_from(size * 2 + 512).unwrap_or(u32::MAX);
        Self {
            report,
            clearance,
            until,
            weight,
            namespace: namespace.into(),
        }
    }
}

impl<K: Hash + Eq + Send + Sync + 'static> Default for VerdictCache<K> {
    fn default() -> Self {
        let held = NamespaceCacheUsage::default();
        let evicted = held.clone();
        let cache = Cache::builder()
            .max_capacity(VERDICT_CACHE_BYTES)
            .weigher(|_: &K, success: &Arc<CachedVerdict>| success.weight)
            .time_to_live(VERDICT_TTL)
            .eviction_listener(move |_, success: Arc<CachedVerdict>, _| {
                evicted.release_reserved(&success);
            })
            .build();
        Self {
            cache,
            namespace_usage: held,
        }
    }
}

impl<K: Hash + Eq + Send + Sync + 'static> VerdictCache<K> {
    /// The cached admission, if it is still valid.
    pub(super) async fn get(&self, key: &K, now: Timestamp) -> Option<Arc<CachedVerdict>> {
        let success = self.cache.get(key).await?;
        if now < success.until {
            return Some(success);
        }
        self.cache.invalidate(key).await;
        None
    }

    /// Caches an admission. False if its namespace has used up its part.
    pub(super) async fn insert(&self, key: K, success: Arc<CachedVerdict>) -> bool {
        if !self.namespace_usage.try_reserve(&success) {
            // Expired entries are removed late.
            self.cache.run_pending_tasks().await;
            if !self.namespace_usage.try_reserve(&success) {
                return false;
            }
        }
        self.cache.insert(key, success).await;
        true
    }
}

impl NamespaceCacheUsage {
    fn lock_usage(&self) -> MutexGuard<'_, HashMap<Arc<str>, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_reserve(&self, success: &CachedVerdict) -> bool {
        let mut held = self.lock_usage();
        let before = held.get(&success.namespace).copied().unwrap_or_default();
        let after = before.saturating_add(success.weight.into());
        if after > NAMESPACE_CACHE_BYTES {
            return false;
        }
        held.insert(Arc::clone(&success.namespace), after);
        true
    }

    fn release_reserved(&self, success: &CachedVerdict) {
        let mut held = self.lock_usage();
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
        digest::Digest,
        policy::{AppliedExemption, PolicyDecision},
        report::ReportInputs,
        verify::VerificationFindings,
    };

    fn success(namespace: &str) -> Arc<CachedVerdict> {
        let inputs = ReportInputs {
            reproduce: "x".repeat(200_000),
            ..ReportInputs::default()
        };
        let report = AdmissionReport::new(
            inputs,
            &PolicyDecision::from_verdicts(Vec::new()),
            &VerificationFindings::default(),
        );
        Arc::new(CachedVerdict::new(
            report,
            Clearance::Exempted(AppliedExemption::for_test(Digest::of_bytes(b"bundle"))),
            "2026-11-21T12:00:00Z".parse().expect("a time"),
            namespace,
        ))
    }

    #[tokio::test]
    async fn no_namespace_forgets_what_another_found_out() {
        let remembered = VerdictCache::default();
        let now = "2026-11-21T11:59:00Z".parse().expect("a time");
        assert!(remembered.insert(1_000, success("honest")).await);
        let mut kept = 0;
        for key in 0..200 {
            kept += u64::from(remembered.insert(key, success("flood")).await);
        }
        remembered.cache.run_pending_tasks().await;
        assert_eq!(
            kept,
            NAMESPACE_CACHE_BYTES / u64::from(success("flood").weight),
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
            remembered.insert(1_000, success("honest")).await
                && remembered.namespace_usage.lock_usage().len() == 2
        );
    }
}
