//! Serves reviews over TLS, and finishes those that it has begun before it ends.

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
    State,
    body::Taken,
    packed_bundle, policy,
    respond::{Answer, respond},
    review::{MAX_VALUES, Objects, Request, ReviewError},
    trust_root, workload,
};
use crate::{
    api::webhook::{PACKED_BUNDLES, POLICIES, USES},
    core::class::Reason,
    listener::{self, Bounds, Tls},
};

/// How long reviews that were begun may still take when the process is to end. Longer than the API
/// server waits.
const LAST_REVIEWS: Duration = Duration::from_secs(15);
/// How long the process still takes new connections after it was told to end: the API server hears
/// of it a moment later.
const STILL_TAKING: Duration = Duration::from_secs(5);

/// A verdict that has run into its own deadline must still be told.
const GRACE: Duration = Duration::from_millis(500);

/// Bytes of a review that is parsed where it arrived; a larger one would keep others waiting.
const PARSED_AT_ONCE: usize = 32 << 10;

/// Serves until `stop`.
///
/// Errors: the address cannot be listened on.
pub(super) async fn serve(
    address: SocketAddr,
    tls: Tls,
    state: Arc<State>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let ending = CancellationToken::new();
    let told = ending.clone();
    tokio::spawn(async move {
        stop.cancelled().await;
        tokio::time::sleep(STILL_TAKING).await;
        told.cancel();
    });
    listener::serve(listener, Some(tls), routes(state), BOUNDS, ending).await;
    Ok(())
}

/// What connections may take.
pub(super) const BOUNDS: Bounds = Bounds {
    last_requests: LAST_REVIEWS,
    ..Bounds::DEFAULT
};

/// The paths that the webhook's configuration names.
pub(super) fn routes(state: Arc<State>) -> Router {
    Router::new()
        .route(PACKED_BUNDLES, post(packed_bundles))
        .route(POLICIES, post(policies))
        .route(USES, post(uses))
        .with_state(state)
}

/// What an object must be to be judged at a path.
#[derive(Clone, Copy)]
enum Subject {
    PackedBundle,
    Policy,
    Workload,
}

async fn packed_bundles(Shared(state): Shared<Arc<State>>, request: HttpRequest) -> Response {
    review(&state, Subject::PackedBundle, request).await
}

async fn policies(Shared(state): Shared<Arc<State>>, request: HttpRequest) -> Response {
    review(&state, Subject::Policy, request).await
}

async fn uses(Shared(state): Shared<Arc<State>>, request: HttpRequest) -> Response {
    review(&state, Subject::Workload, request).await
}

async fn review(state: &State, subject: Subject, request: HttpRequest) -> Response {
    let begun = Instant::now();
    let taken = match state.bodies.take(request).await {
        Ok(taken) => taken,
        Err(refusal) => return refusal.into_response(),
    };
    let Taken {
        bytes,
        weight,
        review: _review,
    } = taken;
    let (request, objects) = match parse(state, bytes).await {
        Ok(parsed) => parsed,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    // A PackedBundle keeps its lock until it is judged; of a workload only the images stay.
    let _weight = (!matches!(subject, Subject::Workload)).then_some(weight);
    let answer = answer(state, subject, &request, objects, begun).await;
    state.tell(&request, &answer, begun);
    Json(respond(request.inner(), &answer).into_review()).into_response()
}

/// Reads the review; a large one on a thread for such work, one after the other.
async fn parse(state: &State, bytes: axum::body::Bytes) -> Result<(Request, Objects), ReviewError> {
    if bytes.len() <= PARSED_AT_ONCE {
        return Request::parse(&bytes);
    }
    let parsing = Arc::clone(&state.parsing).acquire_owned().await;
    let parsed = tokio::task::spawn_blocking(move || {
        let _parsing = parsing;
        Request::parse(&bytes)
    });
    parsed.await.unwrap_or_else(|_| Err(ReviewError::unread()))
}

async fn answer(
    state: &State,
    subject: Subject,
    request: &Request,
    objects: Objects,
    begun: Instant,
) -> Answer {
    if request.removes_trust_root() {
        return trust_root::judge_removal(&state.policies.current(), &request.name());
    }
    if request.removes() {
        return Answer::Nothing;
    }
    if !request.brings_something() {
        return Answer::Shape {
            field: "operation".into(),
            message: "is neither CREATE nor UPDATE, so nobody can judge it".into(),
        };
    }
    if let Some(values) = objects.excess {
        let message = format!("has {values} values, the limit is {MAX_VALUES}; split it");
        return Answer::Forbidden {
            reason: Reason::LimitExceeded,
            field: "spec".into(),
            message,
        };
    }
    match objects.new {
        Some(object) => {
            in_time(
                state,
                judge(state, subject, request, object, objects.old, begun),
            )
            .await
        }
        None => Answer::Shape {
            field: "object".into(),
            message: "is not there, so nobody can judge it".into(),
        },
    }
}

async fn judge(
    state: &State,
    subject: Subject,
    request: &Request,
    object: Value,
    old: Option<Value>,
    begun: Instant,
) -> Answer {
    match subject {
        Subject::Workload => workload::judge(state, request, object, old, begun).await,
        Subject::PackedBundle => packed_bundle::judge(state, request, object, old, begun).await,
        Subject::Policy if trust_root::is_one(&object) => {
            trust_root::judge(state, request, object, old).await
        }
        Subject::Policy => policy::judge(object, &state.policies.current()),
    }
}

/// Verdicts end by themselves in time; this ends whatever else a review waits for, such as an API
/// server that does not answer.
async fn in_time(state: &State, judging: impl Future<Output = Answer>) -> Answer {
    let limit = state.deadline + GRACE;
    tokio::time::timeout(limit, judging)
        .await
        .unwrap_or_else(|_| Answer::Forbidden {
            reason: Reason::DeadlineExceeded,
            field: String::new(),
            message: format!(
                "no verdict within {} s: the API server does not answer packgate; try again",
                limit.as_secs_f32()
            ),
        })
}

#[cfg(test)]
mod tests;
