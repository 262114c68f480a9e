//! What the webhook is started with, and why it stops.

use std::{net::SocketAddr, sync::Arc};

use crate::{
    api::installation::InstallationConfig,
    clock::Clock,
    core::reason::{ClassifiedError, Reason},
    service::registries::TenantRepositoryOpener,
};

/// Name of the Deployment, the Service, the account and the Lease.
pub const NAME: &str = "packgate-webhook";

/// The options of the webhook.
pub struct WebhookOptions {
    /// The namespace that it runs in.
    pub namespace: String,
    /// The unique identity of this replica.
    pub identity: String,
    /// The address that serves reviews.
    pub address: SocketAddr,
    /// The installation's settings from the chart's values.
    pub installation: InstallationConfig,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Opens repositories with a tenant's credentials.
    pub registries: Arc<dyn TenantRepositoryOpener>,
}

/// Why the webhook stopped.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// It cannot listen on the address.
    #[error("reviews cannot be served on {address}: {cause}; choose another address")]
    Serve {
        /// The address to bind.
        address: SocketAddr,
        /// The system's error.
        cause: std::io::Error,
    },
    /// CA certificates of the configuration are invalid.
    #[error("{0}")]
    Authorities(String),
    /// Policies are no longer watched.
    #[error("internal: the watch of the policies ended")]
    PoliciesNotWatched,
}

impl ClassifiedError for WebhookError {
    fn reason(&self) -> Reason {
        match self {
            Self::Serve { .. } | Self::Authorities(_) => Reason::InvalidSpec,
            Self::PoliciesNotWatched => Reason::Internal,
        }
    }
}
