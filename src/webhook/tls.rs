//! The certificate that the webhook shows: it comes from a Secret that the controller makes and
//! renews, and is taken over without a pause.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, runtime::watcher};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::metrics::Metrics;
use crate::{
    api::webhook::{TLS_SECRET, not_after},
    listener::{ClientAuthentication, Tls},
};

/// Why a certificate cannot be shown.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    /// Something is not there.
    #[error("Secret {TLS_SECRET} has no {0}")]
    Lacks(&'static str),
    /// It is no PEM.
    #[error("Secret {TLS_SECRET}: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// Certificate and key do not fit, or cannot be used.
    #[error("Secret {TLS_SECRET}: {0}")]
    Rustls(#[from] rustls::Error),
}

/// Waits for the first certificate.
pub(super) async fn first(
    client: &Client,
    namespace: &str,
    clients: Option<&ClientAuthentication>,
    metrics: &Metrics,
) -> Tls {
    let mut secrets = std::pin::pin!(watcher::watch_object(
        Api::<Secret>::namespaced(client.clone(), namespace),
        TLS_SECRET
    ));
    loop {
        match secrets.next().await {
            Some(Ok(Some(secret))) => match config(&secret, clients, metrics) {
                Ok(config) => return Tls::new(config),
                Err(error) => tracing::warn!(%error, "waiting for a certificate"),
            },
            Some(Ok(None)) => {
                tracing::info!("waiting for the controller to make Secret {TLS_SECRET}")
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "the Secret of the certificate cannot be watched");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            None => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

/// Takes over each new certificate. New connections get it, those that are open live on.
pub(super) async fn follow(
    client: &Client,
    namespace: &str,
    clients: Option<&ClientAuthentication>,
    shown: &Tls,
    metrics: &Metrics,
) {
    let mut secrets = std::pin::pin!(watcher::watch_object(
        Api::<Secret>::namespaced(client.clone(), namespace),
        TLS_SECRET
    ));
    while let Some(event) = secrets.next().await {
        match event.map(|secret| secret.map(|secret| config(&secret, clients, metrics))) {
            Ok(Some(Ok(config))) => shown.replace(config),
            Ok(Some(Err(error))) => tracing::error!(%error, "the certificate stays as it was"),
            Ok(None) => tracing::warn!(
                "Secret {TLS_SECRET} is gone; the certificate stays as it was until the controller \
                    makes a new one"
            ),
            Err(error) => {
                tracing::warn!(%error, "the watch of the certificate failed, it begins again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

fn config(
    secret: &Secret,
    clients: Option<&ClientAuthentication>,
    metrics: &Metrics,
) -> Result<ServerConfig, TlsError> {
    let data = |key: &'static str| {
        secret
            .data
            .as_ref()
            .and_then(|data| data.get(key))
            .map(|bytes| bytes.0.as_slice())
            .ok_or(TlsError::Lacks(key))
    };
    let chain = CertificateDer::pem_slice_iter(data("tls.crt")?).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(data("tls.key")?)?;
    let config = Tls::config(chain, key, clients)?;
    if let Some(ends) = not_after(secret) {
        metrics.certificate_ends(ends.as_second());
    }
    Ok(config)
}
