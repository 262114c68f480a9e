//! How much of the processor each namespace may use for long work in a server.
//!
//! A namespace has half a second at once, and then a quarter of a core: enough for thousands of
//! ordinary verdicts, and too little to slow down others. Beyond that its work waits, and only its
//! own.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// CPU time that a namespace may use at once.
const BURST: Duration = Duration::from_millis(500);
/// The part of a core that it may use all the time: one in so many.
const CORE_SHARE: u32 = 4;
/// Namespaces that are remembered, at least; those with a full budget are forgotten first.
const MAX_REMEMBERED: usize = 4_096;

/// The CPU time that namespaces have used. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct CpuBudget(Arc<Mutex<HashMap<Arc<str>, NamespaceCpu>>>);

/// What a namespace has used, without what time has given back since.
#[derive(Clone, Copy, Debug)]
struct NamespaceCpu {
    used: Duration,
    at: Instant,
}

impl NamespaceCpu {
    fn used_at(self, now: Instant) -> Duration {
        let given_back = now.saturating_duration_since(self.at) / CORE_SHARE;
        self.used.saturating_sub(given_back)
    }
}

impl CpuBudget {
    /// How long the work of a namespace has to wait.
    pub(super) fn wait_time(&self, namespace: &str, now: Instant) -> Duration {
        let all = self.lock();
        let used = all
            .get(namespace)
            .map_or(Duration::ZERO, |cpu| cpu.used_at(now));
        used.saturating_sub(BURST) * CORE_SHARE
    }

    /// Counts CPU time that the work of a namespace took.
    pub(super) fn charge(&self, namespace: &str, took: Duration, now: Instant) {
        let mut all = self.lock();
        if all.len() >= MAX_REMEMBERED && !all.contains_key(namespace) {
            all.retain(|_, cpu| !cpu.used_at(now).is_zero());
        }
        let before = all
            .get(namespace)
            .map_or(Duration::ZERO, |cpu| cpu.used_at(now));
        let cpu = NamespaceCpu {
            used: before + took,
            at: now,
        };
        all.insert(namespace.into(), cpu);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, NamespaceCpu>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_namespace_waits_for_what_it_has_used_and_no_other_does() {
        let (budget, start) = (CpuBudget::default(), Instant::now());
        assert_eq!(budget.wait_time("a", start), Duration::ZERO);
        budget.charge("a", BURST, start);
        assert_eq!(budget.wait_time("a", start), Duration::ZERO, "its burst");
        budget.charge("a", SECOND, start);
        assert_eq!(
            budget.wait_time("a", start),
            4 * SECOND,
            "a quarter of a core"
        );
        assert_eq!(budget.wait_time("a", start + SECOND), 3 * SECOND);
        assert_eq!(budget.wait_time("a", start + 4 * SECOND), Duration::ZERO);
        assert_eq!(budget.wait_time("b", start), Duration::ZERO);
        // After a pause it has no more than its burst.
        let later = start + 1_000 * SECOND;
        budget.charge("a", BURST + SECOND, later);
        assert_eq!(budget.wait_time("a", later), 4 * SECOND);
    }

    #[test]
    fn namespaces_that_use_nothing_are_forgotten() {
        let (budget, start) = (CpuBudget::default(), Instant::now());
        for n in 0..MAX_REMEMBERED {
            budget.charge(&format!("n{n}"), Duration::from_millis(1), start);
        }
        budget.charge("busy", 10 * SECOND, start);
        assert_eq!(budget.lock().len(), MAX_REMEMBERED + 1);
        let later = start + SECOND;
        budget.charge("new", Duration::from_millis(1), later);
        assert_eq!(budget.lock().len(), 2);
        assert!(budget.wait_time("busy", later) > SECOND);
    }
}
