//! The status after each exit of a reconcile, with an API server that is a function.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError, Weak},
    time::Duration,
};

use axum::body::Body;
use futures::FutureExt;
use http_body_util::BodyExt;
use kube::Client;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::packed_bundle::PackedBundle,
    clock::FixedClock,
    controller::{
        bundle_tracker::{BundleGeneration, TrackedBundle},
        testing,
    },
    core::digest::Digest,
};

const OBJECT: &str = "/apis/packgate.dev/v1alpha1/namespaces/team-a/packedbundles/siem";
const JOBS: &str = "/apis/batch/v1/namespaces/team-a/jobs";
const SNAPSHOTS: &str = "/api/v1/namespaces/packgate-system/configmaps";
const SOURCE: &str = "/api/v1/namespaces/team-a/configmaps/lock";
const POLICIES: &str = "/apis/packgate.dev/v1alpha1/clusterbundlepolicies";

/// Objects by path, the requests that fail, and those that were made.
#[derive(Clone, Default)]
struct ApiServer(Arc<Mutex<ApiServerState>>);

#[derive(Default)]
struct ApiServerState {
    objects: BTreeMap<String, Value>,
    failing: Option<(&'static str, String)>,
    statuses: Vec<Value>,
    events: Vec<String>,
    /// Whose permits for whole objects must all be free while a status is written.
    limiter: Weak<ReconcileContext>,
}

impl ApiServer {
    /// One with a `PackedBundle` and the lock that it names.
    fn with_object(spec: &Value) -> Self {
        let server = Self::default();
        server.put(
            OBJECT,
            json!({
                "apiVersion": "packgate.dev/v1alpha1",
                "kind": "PackedBundle",
                "metadata": {"name": "siem", "namespace": "team-a", "uid": "u", "generation": 1},
                "spec": spec,
            }),
        );
        let lock = json!({
            "apiVersion": "packgate.dev/v1alpha1",
            "kind": "Lockfile",
            "artifacts": [{
                "name": "rules",
                "type": "http",
                "origin": "https://f.example.com/rules.tgz",
                "target": "opt/rules.tgz",
                "checksum": Digest::of_bytes(b"rules"),
                "size": 5,
            }],
        });
        server.put(
            SOURCE,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "lock"},
                "data": {"lock.yaml": lock.to_string()}}),
        );
        server
    }

    fn failing(self, method: &'static str, path: impl Into<String>) -> Self {
        self.lock().failing = Some((method, path.into()));
        self
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ApiServerState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, path: &str, object: Value) {
        self.lock().objects.insert(path.to_owned(), object);
    }

    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let bytes = body.collect().await.expect("a body").to_bytes();
                let sent = serde_json::from_slice(&bytes).unwrap_or_default();
                let (status, body) = server.respond(&head.method, head.uri.path(), sent);
                let response = http::Response::builder()
                    .status(status)
                    .body(Body::from(body.to_string()));
                Ok::<_, std::convert::Infallible>(response.expect("a response"))
            }
        });
        Client::new(service, "default")
    }

    fn respond(&self, method: &http::Method, path: &str, sent: Value) -> (u16, Value) {
        let mut state = self.lock();
        let status_path = format!("{OBJECT}/status");
        if path == status_path {
            state.statuses.push(sent["status"].clone());
        }
        let fails = |(failing, at): &(&str, String)| method.as_str() == *failing && path == at;
        if state.failing.as_ref().is_some_and(fails) {
            return (500, failure("InternalError", 500));
        }
        match method.as_str() {
            _ if path.contains("events.k8s.io") => {
                let reason = sent["reason"].as_str().unwrap_or_default().to_owned();
                state.events.push(reason);
                (201, sent)
            }
            "PATCH" if path == status_path => {
                if let Some(context) = state.limiter.upgrade() {
                    let take = || context.read_limiter.acquire_object_permit().now_or_never();
                    let (first, second) = (take(), take());
                    assert!(first.is_some() && second.is_some(), "a permit is held");
                }
                let object = state.objects.get_mut(OBJECT).expect("the object");
                object["status"] = sent["status"].clone();
                (200, object.clone())
            }
            "POST" => {
                let name = sent["metadata"]["name"].as_str().unwrap_or_default();
                state.objects.insert(format!("{path}/{name}"), sent.clone());
                (201, sent)
            }
            "GET" => match state.objects.get(path) {
                Some(object) => (200, object.clone()),
                None if is_list(path) => (200, json!({"metadata": {}, "items": []})),
                None => (404, failure("NotFound", 404)),
            },
            _ => (404, failure("NotFound", 404)),
        }
    }

    /// Reconciles once.
    async fn reconcile(&self, context: &ReconcileContext) -> Result<Action, ReconcileError> {
        reconcile_named_bundle("team-a", "siem", context).await
    }

    fn context(&self) -> ReconcileContext {
        let clock = FixedClock("2026-11-21T12:00:00Z".parse().expect("a time"));
        let mut context = testing::context(self.client(), Arc::new(clock));
        context.installation.signing.allow_none = true;
        context
    }

    fn bundle(&self) -> PackedBundle {
        serde_json::from_value(self.lock().objects[OBJECT].clone()).expect("a PackedBundle")
    }

    /// Every status that was sent.
    fn statuses(&self) -> Vec<Value> {
        self.lock().statuses.clone()
    }

    fn ready(&self) -> (String, String) {
        let state = self.lock();
        let conditions = state.objects[OBJECT]["status"]["conditions"].clone();
        let ready = conditions
            .as_array()
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == "Ready")
            .cloned()
            .unwrap_or_default();
        let text = |key: &str| ready[key].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"))
    }
}

fn is_list(path: &str) -> bool {
    ["jobs", "pods", "events", "configmaps", "policies"]
        .iter()
        .any(|kind| path.ends_with(kind))
}

fn failure(reason: &str, code: u16) -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": reason,
        "message": "", "code": code})
}

fn packing() -> Value {
    json!({
        "source": {"configMapRef": {"name": "lock", "key": "lock.yaml"}},
        "destination": {"repository": "r.example.com/team-a/siem"},
        "signing": {"mode": "None"},
    })
}

fn adopting() -> Value {
    let reference = format!("r.example.com/team-a/siem@{}", Digest::of_bytes(b"bundle"));
    json!({"source": {"bundle": {"reference": reference}}})
}

fn assert_no_repetition(statuses: &[Value], what: &str) {
    let repeated = statuses.windows(2).any(|two| two[0] == two[1]);
    assert!(!repeated, "{what}: {statuses:#?}");
}

#[tokio::test]
async fn every_failure_is_in_the_status() {
    let invalid = json!({"source": {}, "destination": {"repository": "r.example.com/a"}});
    let denied = json!({
        "source": {"configMapRef": {"name": "absent", "key": "lock.yaml"}},
        "destination": {"repository": "r.example.com/team-a/siem"},
        "signing": {"mode": "None"},
    });
    for (what, server, is_error, reason) in [
        (
            "validation",
            ApiServer::with_object(&invalid),
            false,
            "InvalidSpec",
        ),
        (
            "resolve",
            ApiServer::with_object(&denied),
            false,
            "SourceNotFound",
        ),
        (
            "resolve, API server",
            ApiServer::with_object(&packing()).failing("GET", SOURCE),
            true,
            "DeadlineExceeded",
        ),
        (
            "freeze",
            ApiServer::with_object(&packing()).failing("POST", SNAPSHOTS),
            true,
            "DeadlineExceeded",
        ),
        (
            "start the pack Job",
            ApiServer::with_object(&packing()).failing("POST", JOBS),
            true,
            "DeadlineExceeded",
        ),
        (
            "read the policies",
            ApiServer::with_object(&adopting()).failing("GET", POLICIES),
            true,
            "DeadlineExceeded",
        ),
        (
            "verify",
            ApiServer::with_object(&adopting()),
            false,
            "InvalidSpec",
        ),
    ] {
        let result = server.reconcile(&server.context()).await;
        assert_eq!(result.is_err(), is_error, "{what}: {result:?}");
        assert_eq!(
            server.ready(),
            ("False".to_owned(), reason.to_owned()),
            "{what}"
        );
        assert_no_repetition(&server.statuses(), what);
    }
}

#[tokio::test]
async fn an_error_while_observing_is_in_the_status_too() {
    let server = ApiServer::with_object(&packing());
    let context = server.context();
    server.reconcile(&context).await.expect("a Job is started");
    assert_eq!(server.ready(), ("False".to_owned(), "Packing".to_owned()));
    let written = server.statuses().len();
    let snapshot = server
        .lock()
        .objects
        .keys()
        .find(|path| path.starts_with(SNAPSHOTS))
        .cloned()
        .expect("a snapshot");
    let server = server.failing("GET", snapshot);
    server.reconcile(&context).await.expect_err("not observed");
    assert_eq!(
        server.ready(),
        ("False".to_owned(), "DeadlineExceeded".to_owned())
    );
    assert_eq!(server.statuses().len(), written + 1);
    server.lock().failing = None;
    server.reconcile(&context).await.expect("it goes on");
    assert_eq!(server.ready(), ("False".to_owned(), "Packing".to_owned()));
}

#[tokio::test]
async fn nothing_is_written_twice() {
    let server = ApiServer::with_object(&packing());
    let context = server.context();
    let wait = server.reconcile(&context).await.expect("a Job is started");
    assert_eq!(wait, Action::requeue(Duration::from_secs(3)));
    let statuses = server.statuses();
    assert_eq!(statuses.len(), 2, "the lock, and the Job: {statuses:#?}");
    assert_no_repetition(&statuses, "packing");
    server.reconcile(&context).await.expect("it waits");
    assert_eq!(server.statuses(), statuses, "nothing changed");
    assert_eq!(server.lock().events, ["LockFrozen"]);
}

#[tokio::test]
async fn a_status_that_is_not_taken_is_not_sent_again_and_nothing_is_remembered() {
    let server = ApiServer::with_object(&packing()).failing("PATCH", format!("{OBJECT}/status"));
    let context = server.context();
    server.reconcile(&context).await.expect_err("not written");
    assert_eq!(server.statuses().len(), 1);
    let of = BundleGeneration::of(&server.bundle());
    assert_eq!(context.bundle_tracker.get(&of).resolved_at, None);
    assert!(server.lock().events.is_empty(), "no event without a status");
    server.lock().failing = None;
    server.reconcile(&context).await.expect("it is done again");
    assert_eq!(server.ready(), ("False".to_owned(), "Packing".to_owned()));
}

#[tokio::test]
async fn an_object_that_cannot_be_read_has_no_status_to_write() {
    let server = ApiServer::with_object(&packing()).failing("GET", OBJECT);
    let context = server.context();
    server.reconcile(&context).await.expect_err("not read");
    assert!(server.statuses().is_empty());
}

#[tokio::test]
async fn a_slow_write_of_a_status_keeps_nobody_from_reading() {
    let server = ApiServer::with_object(&packing());
    let context = Arc::new(server.context());
    server.lock().limiter = Arc::downgrade(&context);
    server.reconcile(&context).await.expect("a Job is started");
    assert_eq!(server.statuses().len(), 2);
}

#[tokio::test]
async fn what_was_verified_says_nothing_about_another_specification() {
    let server = ApiServer::with_object(&adopting());
    let context = server.context();
    let verified = TrackedBundle {
        verified_at: Some(context.clock.now()),
        ..TrackedBundle::default()
    };
    let of = BundleGeneration::of(&server.bundle());
    context.bundle_tracker.set(&of, verified);
    let _ = server.reconcile(&context).await;
    assert_eq!(server.statuses(), Vec::<Value>::new(), "nothing is due");
    server.lock().objects.get_mut(OBJECT).expect("the object")["metadata"]["generation"] = 2.into();
    let _ = server.reconcile(&context).await;
    let status = server.statuses().pop().expect("it is verified again");
    assert_eq!(status["observedGeneration"], 2, "{status:#}");
}
