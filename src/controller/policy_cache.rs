//! Compiled policies, for a short time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    api::bundle_policy::{PolicyCompiler, PolicySnapshot},
    core::policy::PolicyOrigin,
};

/// How long the compiled policies of a namespace are used for its other policies.
const COMPILED_POLICY_TTL: Duration = Duration::from_secs(2);

/// Recently compiled policies: those of a namespace share a budget, so they are read and compiled
/// together, and reported one by one.
#[derive(Debug, Default)]
pub(super) struct CompiledPolicyCache {
    /// By namespace; the cluster's under an empty name.
    entries: Mutex<BTreeMap<String, CompiledPolicyCacheEntry>>,
}

#[derive(Debug, Default)]
struct CompiledPolicyCacheEntry {
    compiler: Arc<Mutex<PolicyCompiler>>,
    found: Option<(Instant, Arc<PolicySnapshot>)>,
}

impl CompiledPolicyCache {
    /// A cached snapshot, if it is recent.
    pub(super) fn recent_snapshot(
        &self,
        kind: &PolicyOrigin,
    ) -> Option<(Duration, Arc<PolicySnapshot>)> {
        let all = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, found) = all.get(scope_key(kind))?.found.as_ref()?;
        Some((since.elapsed(), Arc::clone(found))).filter(|(age, _)| *age < COMPILED_POLICY_TTL)
    }

    /// The compiler of the cluster's policies, or of a namespace's.
    pub(super) fn scope_compiler(&self, kind: &PolicyOrigin) -> Arc<Mutex<PolicyCompiler>> {
        let mut all = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&all.entry(scope_key(kind).to_owned()).or_default().compiler)
    }

    /// Caches a snapshot and drops expired ones: an idle process keeps none.
    pub(super) fn store_snapshot(&self, kind: &PolicyOrigin, snapshot: &Arc<PolicySnapshot>) {
        let mut all = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, lately| {
            lately
                .found
                .as_ref()
                .is_none_or(|(since, _)| since.elapsed() < COMPILED_POLICY_TTL)
        });
        all.entry(scope_key(kind).to_owned()).or_default().found =
            Some((Instant::now(), Arc::clone(snapshot)));
    }
}

fn scope_key(kind: &PolicyOrigin) -> &str {
    if let PolicyOrigin::Namespaced(namespace) = kind {
        namespace
    } else {
        ""
    }
}
