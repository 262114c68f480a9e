//! Serves reviews over TLS, and finishes those that it has begun before it ends.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State as Shared},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use axum_server::{Handle, accept::NoDelayAcceptor, tls_rustls::RustlsConfig};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    State, packed_bundle, policy,
    respond::{Answer, respond},
    review::{MAX_REVIEW, Request},
    trust_root, workload,
};
use crate::{
    api::webhook::{PACKED_BUNDLES, POLICIES, USES},
    core::class::Reason,
};

/// How long reviews that were begun may still take when the process is to end. Longer than the API server waits.
const LAST_REVIEWS: Duration = Duration::from_secs(15);
/// How long the process still takes new connections after it was told to end: the API server hears of it a moment later.
const STILL_TAKING: Duration = Duration::from_secs(5);

/// A verdict that has run into its own deadline must still be told.
const GRACE: Duration = Duration::from_millis(500);

/// Serves until `stop`.
///
/// Errors: the address cannot be listened on.
pub(super) async fn serve(address: SocketAddr, tls: RustlsConfig, state: Arc<State>, stop: CancellationToken) -> std::io::Result<()> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let handle = Handle::new();
    let ending = handle.clone();
    tokio::spawn(async move {
        stop.cancelled().await;
        tokio::time::sleep(STILL_TAKING).await;
        ending.graceful_shutdown(Some(LAST_REVIEWS));
    });
    // Without NoDelay the first answer of each connection waits for an acknowledgement, some 40 ms.
    let server = axum_server::from_tcp_rustls(listener, tls)?.map(|acceptor| acceptor.acceptor(NoDelayAcceptor::new()));
    server.handle(handle).serve(routes(state).into_make_service()).await
}

/// The paths that the webhook's configuration names.
pub(super) fn routes(state: Arc<State>) -> Router {
    Router::new()
        .route(PACKED_BUNDLES, post(packed_bundles))
        .route(POLICIES, post(policies))
        .route(USES, post(uses))
        .layer(DefaultBodyLimit::max(MAX_REVIEW))
        .with_state(state)
}

async fn packed_bundles(Shared(state): Shared<Arc<State>>, body: Bytes) -> Response {
    review(&state, &body, async |request, object, begun| packed_bundle::judge(&state, request, object, begun).await).await
}

async fn policies(Shared(state): Shared<Arc<State>>, body: Bytes) -> Response {
    review(&state, &body, async |request, object, _| {
        if trust_root::is_one(&object) { trust_root::judge(&state, request, object).await } else { policy::judge(object, &state.policies.current()) }
    })
    .await
}

async fn uses(Shared(state): Shared<Arc<State>>, body: Bytes) -> Response {
    review(&state, &body, async |request, object, begun| workload::judge(&state, request, &object, begun).await).await
}

async fn review(state: &State, body: &[u8], judge: impl AsyncFnOnce(&Request, Value, Instant) -> Answer) -> Response {
    let begun = Instant::now();
    let request = match Request::parse(body) {
        Ok(request) => request,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let answer = match request.object() {
        _ if request.removes_trust_root() => trust_root::judge_removal(&state.policies.current(), &request.name()),
        _ if !request.brings_something() => Answer::Nothing,
        Some(object) => in_time(state, judge(&request, object, begun)).await,
        None => Answer::Shape { field: "object".into(), message: "is not there, so nobody can judge it".into() },
    };
    state.tell(&request, &answer, begun);
    Json(respond(request.inner(), &answer).into_review()).into_response()
}

/// Verdicts end by themselves in time; this ends whatever else a review waits for, such as an API server that does not answer.
async fn in_time(state: &State, judging: impl Future<Output = Answer>) -> Answer {
    let limit = state.deadline + GRACE;
    tokio::time::timeout(limit, judging).await.unwrap_or_else(|_| Answer::Forbidden {
        reason: Reason::DeadlineExceeded,
        field: String::new(),
        message: format!("no verdict within {} s: the API server does not answer packgate; try again", limit.as_secs_f32()),
    })
}

#[cfg(test)]
mod tests;
