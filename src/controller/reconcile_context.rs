//! The shared context of reconciles.

use std::sync::Arc;

use kube::{Client, core::DeserializeGuard, runtime::reflector::Store};

use tokio::sync::watch;

use super::{
    bundle_tracker::BundleTracker, cached_bundle::CachedBundle, metrics::ControllerMetrics,
    policy_cache::CompiledPolicyCache, policy_enforcement::PolicyEnforcement,
    read_limiter::ReadLimiter, resources::RunSettings, secrets::ReferencedObjectReader,
    sign_queue::SignQueue, trust_root_refresher::TrustRootRefresher,
};
use crate::{
    api::installation::InstallationConfig, clock::Clock, core::job::JobRegistry,
    service::registries::TenantRepositoryOpener, telemetry::events::EventRecorder,
};

/// The shared context of reconciles.
pub(super) struct ReconcileContext {
    /// The client of the API server.
    pub client: Client,
    /// The settings of runs.
    pub run_settings: RunSettings,
    /// The installation's settings from the chart's values.
    pub installation: InstallationConfig,
    /// UID of the namespace `kube-system`.
    pub cluster_uid: String,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Opens repositories for reading.
    pub registries: Arc<dyn TenantRepositoryOpener>,
    /// The registries' settings for Jobs.
    pub job_registries: Vec<JobRegistry>,
    /// Every `PackedBundle`, without its lock.
    pub bundle_store: Store<DeserializeGuard<CachedBundle>>,
    /// Limits on concurrent reads.
    pub read_limiter: ReadLimiter,
    /// What this process remembers about objects.
    pub bundle_tracker: BundleTracker,
    /// The queue for sign Jobs.
    pub queue: SignQueue,
    /// The metrics.
    pub metrics: ControllerMetrics,
    /// Records events.
    pub events: EventRecorder,
    /// Reads referenced objects.
    pub secrets: ReferencedObjectReader,
    /// Refreshes trust roots.
    pub trust_root_refresher: TrustRootRefresher,
    /// Recently compiled policies.
    pub policy_cache: CompiledPolicyCache,
    /// The policies that the webhook has loaded.
    pub enforcement: watch::Sender<PolicyEnforcement>,
}
