//! The webhook's serving certificate: from a Secret that the controller creates and renews,
//! reloaded without interruption.

use std::{convert::Infallible, ops::ControlFlow, time::Duration};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::metrics::WebhookMetrics;
use crate::{
    api::webhook::{TLS_SECRET, certificate_not_after},
    cluster_reader::{WatchedObjectState, follow_object},
    listener::{ClientCertificateVerifier, ReloadableTlsConfig},
};

/// The delay after an error of the API server.
const WATCH_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServingCertificateError {
    /// This key is missing.
    #[error("Secret {TLS_SECRET} has no {0}")]
    MissingKey(&'static str),
    /// It is not valid PEM.
    #[error("Secret {TLS_SECRET}: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// Certificate and key do not match, or are invalid.
    #[error("Secret {TLS_SECRET}: {0}")]
    Rustls(#[from] rustls::Error),
}

/// Waits for the first certificate.
pub(super) async fn wait_for_certificate(
    client: &Client,
    namespace: &str,
    clients: Option<&ClientCertificateVerifier>,
    metrics: &WebhookMetrics,
) -> ReloadableTlsConfig {
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    let observe = |state| {
        match state {
            WatchedObjectState::Present(secret) => {
                match serving_tls_config(&secret, clients, metrics) {
                    Ok(config) => return ControlFlow::Break(ReloadableTlsConfig::new(config)),
                    Err(error) => tracing::warn!(%error, "waiting for a valid serving certificate"),
                }
            }
            WatchedObjectState::Absent => {
                tracing::info!("waiting for the controller to make Secret {TLS_SECRET}");
            }
            WatchedObjectState::Unknown => (),
        }
        ControlFlow::Continue(())
    };
    match follow_object(secrets, TLS_SECRET, WATCH_RETRY_DELAY, observe).await {
        Some(config) => config,
        None => std::future::pending().await,
    }
}

/// Reloads each new certificate. New connections use it; open ones stay as they are.
pub(super) async fn reload_certificates(
    client: &Client,
    namespace: &str,
    clients: Option<&ClientCertificateVerifier>,
    shown: &ReloadableTlsConfig,
    metrics: &WebhookMetrics,
) {
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    let observe = |state| {
        match state {
            WatchedObjectState::Present(secret) => {
                match serving_tls_config(&secret, clients, metrics) {
                    Ok(config) => shown.replace(config),
                    Err(error) => {
                        tracing::error!(%error, "the new serving certificate is invalid; keeping the current one");
                    }
                }
            }
            WatchedObjectState::Absent => tracing::warn!(
                "Secret {TLS_SECRET} was deleted; keeping the current certificate until the controller \
                    makes a new one"
            ),
            WatchedObjectState::Unknown => (),
        }
        ControlFlow::<Infallible>::Continue(())
    };
    follow_object(secrets, TLS_SECRET, WATCH_RETRY_DELAY, observe).await;
}

fn serving_tls_config(
    secret: &Secret,
    clients: Option<&ClientCertificateVerifier>,
    metrics: &WebhookMetrics,
) -> Result<ServerConfig, ServingCertificateError> {
    let data = |key: &'static str| {
        secret
            .data
            .as_ref()
            .and_then(|data| data.get(key))
            .map(|bytes| bytes.0.as_slice())
            .ok_or(ServingCertificateError::MissingKey(key))
    };
    let chain = CertificateDer::pem_slice_iter(data("tls.crt")?).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(data("tls.key")?)?;
    let config = ReloadableTlsConfig::build_server_config(chain, key, clients)?;
    if let Some(ends) = certificate_not_after(secret) {
        metrics.set_certificate_expiry(ends.as_second());
    }
    Ok(config)
}
