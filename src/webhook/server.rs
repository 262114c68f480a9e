//! Serves reviews over TLS, and finishes those in progress before it ends.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{Request as HttpRequest, State as Shared},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    packed_bundle, policy,
    request_body::ReceivedBody,
    review_request::{MAX_VALUES, ReviewObjects, ReviewParseError, ReviewRequest},
    review_response::{ReviewResponse, build_admission_response},
    trust_root,
    webhook_state::WebhookState,
    workload,
};
use crate::{
    api::webhook::{IMAGE_USES_PATH, PACKED_BUNDLES_PATH, POLICIES_PATH},
    core::reason::Reason,
    listener::{self, ListenerLimits, ReloadableTlsConfig},
    service::cpu_work::{CpuMeter, run_cpu_work},
};

/// How long reviews in progress may still take when the process ends. Longer than the API server
/// waits.
const SHUTDOWN_REVIEW_TIME: Duration = Duration::from_secs(15);
/// How long the process still accepts connections after SIGTERM: the API server learns of it a
/// moment later.
const SHUTDOWN_ACCEPT_TIME: Duration = Duration::from_secs(5);

/// A verdict that reached its own deadline must still be sent.
const DEADLINE_GRACE: Duration = Duration::from_millis(500);

/// The maximum size in bytes of a review that is parsed on the async thread; a larger one would
/// delay others.
const MAX_INLINE_PARSE_BYTES: usize = 32 << 10;

/// Serves until `stop`.
///
/// Errors: it cannot listen on the address.
pub(super) async fn serve_reviews(
    address: SocketAddr,
    tls: ReloadableTlsConfig,
    state: Arc<WebhookState>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let ending = CancellationToken::new();
    let draining = ending.clone();
    tokio::spawn(async move {
        stop.cancelled().await;
        tokio::time::sleep(SHUTDOWN_ACCEPT_TIME).await;
        draining.cancel();
    });
    listener::serve_connections(
        listener,
        Some(tls),
        review_routes(state),
        WEBHOOK_LISTENER_LIMITS,
        ending,
    )
    .await;
    Ok(())
}

/// The limits of connections to the webhook.
pub(super) const WEBHOOK_LISTENER_LIMITS: ListenerLimits = ListenerLimits {
    last_requests: SHUTDOWN_REVIEW_TIME,
    ..ListenerLimits::DEFAULT
};

/// The paths in the webhook's configuration.
pub(super) fn review_routes(state: Arc<WebhookState>) -> Router {
    Router::new()
        .route(PACKED_BUNDLES_PATH, post(review_packed_bundle))
        .route(POLICIES_PATH, post(review_policy))
        .route(IMAGE_USES_PATH, post(review_workload))
        .with_state(state)
}

/// The kind of object that a path accepts.
#[derive(Clone, Copy)]
enum ReviewSubject {
    PackedBundle,
    Policy,
    Workload,
}

async fn review_packed_bundle(
    Shared(state): Shared<Arc<WebhookState>>,
    request: HttpRequest,
) -> Response {
    handle_review(&state, ReviewSubject::PackedBundle, request).await
}

async fn review_policy(Shared(state): Shared<Arc<WebhookState>>, request: HttpRequest) -> Response {
    handle_review(&state, ReviewSubject::Policy, request).await
}

async fn review_workload(
    Shared(state): Shared<Arc<WebhookState>>,
    request: HttpRequest,
) -> Response {
    handle_review(&state, ReviewSubject::Workload, request).await
}

async fn handle_review(
    state: &WebhookState,
    subject: ReviewSubject,
    request: HttpRequest,
) -> Response {
    let begun = Instant::now();
    let taken = match state.bodies.receive_body(request).await {
        Ok(taken) => taken,
        Err(refusal) => return refusal.into_response(),
    };
    let ReceivedBody {
        bytes,
        weight,
        review: _review,
    } = taken;
    let (request, objects) = match parse_review(state, bytes).await {
        Ok(parsed) => parsed,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    // The lock of a `PackedBundle` is kept until it was evaluated; of a workload only the images
    // are.
    let _weight = (!matches!(subject, ReviewSubject::Workload)).then_some(weight);
    let response = evaluate_request(state, subject, &request, objects, begun).await;
    state.record_verdicts(&request, &response, begun);
    Json(build_admission_response(request.admission_request(), response).into_review())
        .into_response()
}

/// Parses the review; a large one on a blocking thread, one at a time.
async fn parse_review(
    state: &WebhookState,
    bytes: axum::body::Bytes,
) -> Result<(ReviewRequest, ReviewObjects), ReviewParseError> {
    if bytes.len() <= MAX_INLINE_PARSE_BYTES {
        return ReviewRequest::parse(&bytes);
    }
    let parsing = Arc::clone(&state.parsing).acquire_owned().await;
    let parsed = run_cpu_work(move || {
        let _parsing = parsing;
        let meter = CpuMeter::start();
        let parsed = ReviewRequest::parse(&bytes);
        if let Ok((request, _)) = &parsed {
            meter.charge(request.namespace());
        }
        parsed
    });
    parsed
        .await
        .unwrap_or_else(|_| Err(ReviewParseError::not_fully_read()))
}

async fn evaluate_request(
    state: &WebhookState,
    subject: ReviewSubject,
    request: &ReviewRequest,
    objects: ReviewObjects,
    begun: Instant,
) -> ReviewResponse {
    if request.deletes_trust_root() {
        return trust_root::evaluate_trust_root_deletion(
            &state.policies.current(),
            &request.name(),
        );
    }
    if request.is_delete() {
        return ReviewResponse::NothingToEvaluate;
    }
    if !request.is_create_or_update() {
        return ReviewResponse::Invalid {
            field: "operation".into(),
            message: "is neither CREATE nor UPDATE, so it cannot be evaluated".into(),
        };
    }
    if let Some(values) = objects.excess {
        let message = format!("has {values} values, the limit is {MAX_VALUES}; split it");
        return ReviewResponse::Forbidden {
            reason: Reason::LimitExceeded,
            field: "spec".into(),
            message,
        };
    }
    match objects.new {
        Some(object) => {
            with_deadline(
                state,
                evaluate_object(state, subject, request, object, objects.old, begun),
            )
            .await
        }
        None => ReviewResponse::Invalid {
            field: "object".into(),
            message: "is missing, so it cannot be evaluated".into(),
        },
    }
}

async fn evaluate_object(
    state: &WebhookState,
    subject: ReviewSubject,
    request: &ReviewRequest,
    object: Value,
    old: Option<Value>,
    begun: Instant,
) -> ReviewResponse {
    match subject {
        ReviewSubject::Workload => {
            workload::evaluate_workload(state, request, object, old, begun).await
        }
        ReviewSubject::PackedBundle => {
            packed_bundle::evaluate_packed_bundle(state, request, object, old, begun).await
        }
        ReviewSubject::Policy if trust_root::is_trust_root(&object) => {
            trust_root::evaluate_trust_root(state, request, object, old).await
        }
        ReviewSubject::Policy => policy::evaluate_policy_object(object, &state.policies.current()),
    }
}

/// Evaluations have their own deadline; this one ends all other waiting of a review, such as for an
/// API server that does not respond.
async fn with_deadline(
    state: &WebhookState,
    judging: impl Future<Output = ReviewResponse>,
) -> ReviewResponse {
    let limit = state.deadline + DEADLINE_GRACE;
    tokio::time::timeout(limit, judging)
        .await
        .unwrap_or_else(|_| ReviewResponse::Forbidden {
            reason: Reason::DeadlineExceeded,
            field: String::new(),
            message: format!(
                "no verdict within {} s: the API server does not respond to packgate; try again",
                limit.as_secs_f32()
            ),
        })
}

#[cfg(test)]
mod tests;
