//! What every reconciliation needs.

use std::sync::Arc;

use kube::{Client, core::DeserializeGuard, runtime::reflector::Store};

use tokio::sync::watch;

use super::{
    build::Setup, cached::CachedBundle, memory::Memory, metrics::Metrics, policies::Compiled,
    queue::Queue, reading::Reading, secrets::Secrets, trust::Trust, webhook::Enforcement,
};
use crate::{
    api::installation::Installation, clock::Clock, core::job::Registry,
    service::registries::Registries, telemetry::events::Events,
};

/// What every reconciliation needs.
pub(super) struct Context {
    /// The API server.
    pub client: Client,
    /// How runs are built.
    pub setup: Setup,
    /// The chart's values.
    pub installation: Installation,
    /// UID of the namespace `kube-system`.
    pub cluster: String,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Opens repositories for reading.
    pub registries: Arc<dyn Registries>,
    /// How Jobs speak to registries.
    pub job_registries: Vec<Registry>,
    /// Every `PackedBundle`, without its lock.
    pub store: Store<DeserializeGuard<CachedBundle>>,
    /// What may be read at once.
    pub reading: Reading,
    /// What this process remembers.
    pub memory: Memory,
    /// Who waits to sign.
    pub queue: Queue,
    /// Numbers for people who watch.
    pub metrics: Metrics,
    /// Tells events.
    pub events: Events,
    /// Reads what objects name.
    pub secrets: Secrets,
    /// Fetches trust roots.
    pub trust: Trust,
    /// Policies that were compiled lately.
    pub compiled: Compiled,
    /// Which policies the webhook carries.
    pub enforcement: watch::Sender<Enforcement>,
}
