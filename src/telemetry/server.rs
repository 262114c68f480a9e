//! The endpoints of a running process for the cluster: `/livez` and `/readyz` on one port,
//! `/metrics` on another. Plain HTTP, no secrets.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::listener::{self, ListenerLimits};

/// The text format's media type (OpenMetrics 1.0).
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The limits of connections: clients are a kubelet, a few scrapers, and any other host that
/// reaches the port.
pub const TELEMETRY_LISTENER_LIMITS: ListenerLimits = ListenerLimits {
    connections: 64,
    connections_per_address: 16,
    idle: Duration::from_secs(30),
    last_requests: Duration::ZERO,
    ..ListenerLimits::DEFAULT
};

/// Whether this process is ready.
#[derive(Clone, Debug, Default)]
pub struct ReadinessFlag(Arc<AtomicBool>);

impl ReadinessFlag {
    /// Marks the process as ready.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Marks the process as not ready.
    pub fn unset(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Serves `/livez` and `/readyz`, until it fails.
///
/// Errors: it cannot listen on the address.
pub async fn serve_health(address: SocketAddr, ready: ReadinessFlag) -> std::io::Result<()> {
    serve_router(address, health_router(ready)).await
}

/// Serves `/metrics`, until it fails.
///
/// Errors: it cannot listen on the address.
pub async fn serve_metrics(address: SocketAddr, registry: Arc<Registry>) -> std::io::Result<()> {
    serve_router(
        address,
        Router::new()
            .route("/metrics", get(handle_metrics))
            .with_state(registry),
    )
    .await
}

async fn serve_router(address: SocketAddr, app: Router) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    listener::serve_connections(
        listener,
        None,
        app,
        TELEMETRY_LISTENER_LIMITS,
        CancellationToken::new(),
    )
    .await;
    Ok(())
}

fn health_router(ready: ReadinessFlag) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(handle_readyz))
        .with_state(ready)
}

async fn handle_readyz(State(ready): State<ReadinessFlag>) -> Response {
    if ready.is_set() {
        "ok".into_response()
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: waiting for the first data from the API server",
        )
            .into_response()
    }
}

async fn handle_metrics(State(registry): State<Arc<Registry>>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_is_ready_once_it_says_so() {
        let ready = ReadinessFlag::default();
        assert_eq!(
            handle_readyz(State(ready.clone())).await.status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
        ready.set();
        assert_eq!(
            handle_readyz(State(ready.clone())).await.status(),
            StatusCode::OK
        );
        ready.unset();
        assert_eq!(
            handle_readyz(State(ready)).await.status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
    }

    #[tokio::test]
    async fn metrics_are_open_metrics() {
        let answer = handle_metrics(State(Arc::new(Registry::default()))).await;
        assert_eq!(answer.headers()[CONTENT_TYPE], OPEN_METRICS);
    }
}
