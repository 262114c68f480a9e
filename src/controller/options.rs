//! What the controller is started with, and why it stops.

use std::sync::Arc;

use super::{platform_key::PlatformKeyGenerator, reconcile_error::ReconcileError};
use crate::{
    api::installation::InstallationConfig,
    clock::Clock,
    core::{
        job::JobRegistry,
        reason::{ClassifiedError, Reason},
    },
    service::{registries::TenantRepositoryOpener, trust_root::TrustSource},
};

/// Name of the Deployment, the account and the Lease.
pub const NAME: &str = "packgate-controller";
/// Makes registry clients.
pub type RegistryClientsFactory =
    dyn Fn(&[JobRegistry]) -> Result<Arc<dyn TenantRepositoryOpener>, String> + Send + Sync;

/// Makes clients of TUF repositories; those on a registry's host trust the same CAs as the
/// registry's client.
pub type TrustSourceFactory =
    dyn Fn(&[JobRegistry]) -> Result<Arc<dyn TrustSource>, String> + Send + Sync;

/// The options of the controller.
pub struct ControllerOptions {
    /// The namespace that it runs in.
    pub namespace: String,
    /// Its own image, which Jobs use as well.
    pub image: String,
    /// The unique identity of this replica.
    pub identity: String,
    /// The installation's settings from the chart's values.
    pub installation: InstallationConfig,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Makes registry clients.
    pub registries: Box<RegistryClientsFactory>,
    /// Makes clients of TUF repositories.
    pub trust: Box<TrustSourceFactory>,
    /// Generates the platform key.
    pub make_key: Box<PlatformKeyGenerator>,
}

/// Why the controller stopped.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// Another replica leads, or the Lease could not be renewed in time.
    #[error("the Lease {NAME} was lost; another replica takes over")]
    LeaseLost,
    /// It cannot start; the message.
    #[error("cannot start: {0}")]
    Start(String),
    /// The configuration is invalid.
    #[error("configuration: {0}")]
    Configuration(String),
    /// All watches have ended.
    #[error("internal: all watches ended")]
    WatchesEnded,
}

impl ClassifiedError for ControllerError {
    fn reason(&self) -> Reason {
        match self {
            Self::LeaseLost | Self::Start(_) => Reason::DeadlineExceeded,
            Self::Configuration(_) => Reason::InvalidSpec,
            Self::WatchesEnded => Reason::Internal,
        }
    }
}

impl From<ReconcileError> for ControllerError {
    fn from(error: ReconcileError) -> Self {
        Self::Start(error.to_string())
    }
}
