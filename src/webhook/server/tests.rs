//! Reviews in, responses out. The API server is a function.

mod hostile;

use std::sync::Mutex;

use axum::{
    body::{Body, to_bytes},
    http::StatusCode,
};
use http::Request as HttpRequest;
use http_body_util::BodyExt;
use jiff::Timestamp;
use kube::Client;
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::{
    api::{
        bundle_policy::{PolicyInputs, PolicyObject},
        installation::{InstallationConfig, WebhookConfig},
    },
    clock::{Clock, SystemClock},
    core::reference::ImageRepository,
    oci::{MemoryTarget, credentials::RegistryCredentialError},
    service::registries::{
        OpenedRepository, RepositoryOpenError, RepositoryRequester, TenantRepositoryOpener,
    },
    webhook::{
        WebhookMetrics, WebhookOptions,
        active_policies::ActivePolicies,
        request_body::{BodyLimits, BodyReader},
        review_request::MAX_REVIEW,
    },
};

/// Registries that are empty, or cannot be opened.
struct Empty;

#[async_trait::async_trait]
impl TenantRepositoryOpener for Empty {
    async fn open_repository(
        &self,
        repository: &ImageRepository,
        _: &RepositoryRequester<'_>,
    ) -> Result<OpenedRepository, RepositoryOpenError> {
        if repository.host() == "broken.example.com" {
            let error = RegistryCredentialError::Malformed {
                source_name: "Secret team-a/pull".into(),
                line: 1,
                column: 1,
            };
            return Err(error.into());
        }
        Ok(OpenedRepository::anonymous(Arc::new(MemoryTarget::new())))
    }
}

struct Fixed(Timestamp);

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// The requests that the API server got, and its response to SubjectAccessReviews.
#[derive(Clone, Default)]
struct ApiServer {
    allows: bool,
    /// It accepts every request and never responds.
    silent: bool,
    /// The response to every other request: a status and an object.
    says: Option<(u16, Value)>,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl ApiServer {
    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: HttpRequest<kube::client::Body>| {
            let server = server.clone();
            async move {
                if server.silent {
                    std::future::pending::<()>().await;
                }
                let (head, body) = request.into_parts();
                let bytes = body.collect().await.expect("a body").to_bytes();
                let mut asked: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                server
                    .asked
                    .lock()
                    .expect("no panic")
                    .push((head.uri.path().to_owned(), asked.clone()));
                if let Some((status, object)) = &server.says {
                    let answer = http::Response::builder()
                        .status(*status)
                        .body(Body::from(object.to_string()));
                    return Ok(answer.expect("an answer"));
                }
                asked["status"] = json!({"allowed": server.allows});
                Ok::<_, std::convert::Infallible>(http::Response::new(Body::from(
                    asked.to_string(),
                )))
            }
        });
        Client::new(service, "default")
    }
}

struct Webhook {
    router: Router,
    registry: Registry,
    api: ApiServer,
}

fn webhook(allows: bool) -> Webhook {
    webhook_of(ApiServer {
        allows,
        ..ApiServer::default()
    })
}

fn webhook_of(api: ApiServer) -> Webhook {
    webhook_with(api, BodyLimits::DEFAULT)
}

fn webhook_with(api: ApiServer, bounds: BodyLimits) -> Webhook {
    let mut registry = Registry::default();
    let metrics = WebhookMetrics::new(&mut registry);
    let options = WebhookOptions {
        namespace: "packgate-system".into(),
        identity: "one".into(),
        address: "127.0.0.1:0".parse().expect("an address"),
        // Responds within a second.
        installation: InstallationConfig {
            webhook: WebhookConfig {
                timeout_seconds: 2,
                ..WebhookConfig::default()
            },
            ..InstallationConfig::default()
        },
        clock: Arc::new(Fixed(SystemClock.now())),
        registries: Arc::new(Empty),
    };
    let policy = json!({
        "apiVersion": "packgate.dev/v1alpha1", "kind": "ClusterBundlePolicy", "metadata": {
            "name": "p",
            "uid": "u",
            "generation": 1,
        },
        "spec": {
            "match": {"references": ["r.example.com/**", "broken.example.com/**"]},
            "authorities": [{"name": "a", "key": {"configMapRef": {"name": "k"}}}],
        },
    });
    let policies = ActivePolicies::default();
    let keyless = json!({
        "trustRootRef": {"name": "corp"},
        "issuer": "https://i.example.com",
        "subject": {"exact": "a@example.com"},
    });
    let rooted = json!({
        "apiVersion": "packgate.dev/v1alpha1", "kind": "BundlePolicy", "metadata": {
            "name": "keyless",
            "namespace": "team-a",
            "uid": "v",
            "generation": 1,
        },
        "spec": {
            "match": {"references": ["rooted.example.com/**"]},
            "authorities": [{"name": "ci", "keyless": keyless}],
        },
    });
    let policies_there = [policy, rooted]
        .map(|object| PolicyObject::from_json(object).expect("a policy"))
        .to_vec();
    let gathered = PolicyInputs {
        policies: policies_there,
        ..PolicyInputs::default()
    };
    policies.set(gathered.compile_snapshot("packgate-system", SystemClock.now()));
    let mut state = WebhookState::new(api.client(), &options, policies, metrics);
    state.bodies = BodyReader::new(bounds);
    Webhook {
        router: review_routes(Arc::new(state)),
        registry,
        api,
    }
}

fn review(kind: &[&str; 3], operation: &str, object: &Value, old: &Value) -> Value {
    let [group, version, kind] = kind;
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u", "kind": {"group": group, "version": version, "kind": kind}, "resource": {
                "group": group,
                "version": version,
                "resource": "x",
            },
            "name": "x", "namespace": "team-a", "operation": operation,
            "userInfo": {"username": "alice"}, "object": object, "oldObject": old,
            "dryRun": true,
        },
    })
}

async fn post(webhook: &Webhook, path: &str, body: String) -> (StatusCode, Value) {
    let request = HttpRequest::post(path)
        .header("content-type", "application/json")
        .body(Body::from(body))
        .expect("a request");
    let answer = webhook
        .router
        .clone()
        .oneshot(request)
        .await
        .expect("an answer");
    let status = answer.status();
    let bytes = to_bytes(answer.into_body(), 1 << 20).await.expect("a body");
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

const POD: [&str; 3] = ["", "v1", "Pod"];
const BUNDLE: [&str; 3] = ["packgate.dev", "v1alpha1", "PackedBundle"];

fn pod(reference: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x"},
        "spec": {"volumes": [{"name": "b", "image": {"reference": reference}}]},
    })
}

fn reason(answer: &Value) -> &Value {
    &answer["response"]["status"]["details"]["causes"][0]["reason"]
}

#[tokio::test]
async fn uses_are_judged_and_counted() {
    let webhook = webhook(true);
    let digest = format!("sha256:{}", "a".repeat(64));
    for (reference, allowed, told) in [
        (
            format!("r.example.com/a@{digest}"),
            false,
            json!("SourceNotFound"),
        ),
        (
            format!("broken.example.com/a@{digest}"),
            false,
            json!("InvalidSpec"),
        ),
        (format!("other.example.com/a@{digest}"), true, Value::Null),
    ] {
        let (status, answer) = post(
            &webhook,
            IMAGE_USES_PATH,
            review(&POD, "CREATE", &pod(&reference), &Value::Null).to_string(),
        )
        .await;
        assert_eq!(
            (
                status,
                &answer["response"]["allowed"],
                &answer["response"]["uid"]
            ),
            (StatusCode::OK, &json!(allowed), &json!("u")),
            "{answer}"
        );
        assert_eq!(*reason(&answer), told, "{answer}");
    }
    let mut text = String::new();
    encode(&mut text, &webhook.registry).expect("encoded");
    for line in [
        "packgate_admission_reviews_total{use=\"ImageVolume\",outcome=\"Denied\",reason=\"SourceNotFound\"} 1",
        "packgate_admission_reviews_total{use=\"ImageVolume\",outcome=\"Ungoverned\",reason=\"\"} \
            1",
        "packgate_cache_requests_total{cache=\"verdict\",result=\"miss\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
}

#[tokio::test]
async fn what_goes_and_what_stays_the_same_is_let_go() {
    let webhook = webhook(true);
    let pod = pod("r.example.com/a:v1");
    let (_, answer) = post(
        &webhook,
        IMAGE_USES_PATH,
        review(&POD, "UPDATE", &pod, &pod).to_string(),
    )
    .await;
    assert_eq!(answer["response"]["allowed"], true, "{answer}");
    for path in [IMAGE_USES_PATH, PACKED_BUNDLES_PATH, POLICIES_PATH] {
        let (_, answer) = post(
            &webhook,
            path,
            review(&POD, "DELETE", &Value::Null, &pod).to_string(),
        )
        .await;
        assert_eq!(answer["response"]["allowed"], true, "{path}: {answer}");
    }
}

#[tokio::test]
async fn what_is_no_review_is_a_failure_and_no_answer() {
    let webhook = webhook(true);
    assert_eq!(
        post(&webhook, IMAGE_USES_PATH, "{}".into()).await.0,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        post(&webhook, "/elsewhere", "{}".into()).await.0,
        StatusCode::NOT_FOUND
    );
    let large = review(
        &POD,
        "CREATE",
        &json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "x"},
            "x": "y".repeat(MAX_REVIEW),
        }),
        &Value::Null,
    );
    assert_eq!(
        post(&webhook, IMAGE_USES_PATH, large.to_string()).await.0,
        StatusCode::PAYLOAD_TOO_LARGE
    );
}

#[tokio::test]
async fn too_many_images_are_refused() {
    let webhook = webhook(true);
    let volumes: Vec<Value> = (0..=workload::MAX_USES)
        .map(|n| {
            json!({
                "name": n.to_string(),
                "image": {"reference": format!("o.example.com/{n}")},
            })
        })
        .collect();
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x"},
        "spec": {"volumes": volumes},
    });
    let (_, answer) = post(
        &webhook,
        IMAGE_USES_PATH,
        review(&POD, "CREATE", &pod, &Value::Null).to_string(),
    )
    .await;
    assert_eq!(
        (&answer["response"]["allowed"], reason(&answer)),
        (&json!(false), &json!("LimitExceeded"))
    );
}

fn bundle(spec: &Value) -> Value {
    json!({
        "apiVersion": "packgate.dev/v1alpha1",
        "kind": "PackedBundle",
        "metadata": {"name": "x", "namespace": "team-a"},
        "spec": spec,
    })
}

#[tokio::test]
async fn a_secret_is_named_by_whom_may_read_it() {
    let packs = bundle(&json!({
        "source": {"configMapRef": {"name": "lock"}}, "destination": {
            "repository": "r.example.com/a",
            "secretRef": {"name": "push"},
        },
    }));
    for allows in [true, false] {
        let webhook = webhook(allows);
        let (_, answer) = post(
            &webhook,
            PACKED_BUNDLES_PATH,
            review(&BUNDLE, "CREATE", &packs, &Value::Null).to_string(),
        )
        .await;
        assert_eq!(answer["response"]["allowed"], allows, "{answer}");
        let asked = webhook.api.asked.lock().expect("no panic").clone();
        assert_eq!(asked.len(), 1);
        assert!(asked[0].0.ends_with("/subjectaccessreviews"), "{asked:?}");
        assert_eq!(
            (
                &asked[0].1["spec"]["user"],
                &asked[0].1["spec"]["resourceAttributes"]["name"]
            ),
            (&json!("alice"), &json!("push"))
        );
        if !allows {
            assert_eq!(
                (&answer["response"]["status"]["code"], reason(&answer)),
                (&json!(403), &json!("SecretAccessDenied"))
            );
        }
        let (_, answer) = post(
            &webhook,
            PACKED_BUNDLES_PATH,
            review(&BUNDLE, "UPDATE", &packs, &packs).to_string(),
        )
        .await;
        assert_eq!(
            (
                &answer["response"]["allowed"],
                webhook.api.asked.lock().expect("no panic").len()
            ),
            (&json!(true), 1),
            "nothing changed"
        );
    }
}

#[tokio::test]
async fn keyless_signing_is_for_whom_may_make_tokens_of_the_account() {
    let keyless = |services: &str| {
        bundle(&json!({
            "source": {
                "configMapRef": {"name": "lock"},
            }, "destination": {"repository": "r.example.com/a"},
            "signing": {"mode": "Namespace", "keyless": {}, "signingConfigRef": {"name": services}},
        }))
    };
    let platform = bundle(&json!({
        "source": {"configMapRef": {"name": "lock"}},
        "destination": {"repository": "r.example.com/a"},
    }));
    for (operation, old) in [
        ("CREATE", Value::Null),
        ("UPDATE", platform),
        ("UPDATE", keyless("own")),
    ] {
        for allows in [true, false] {
            let webhook = webhook(allows);
            let (_, answer) = post(
                &webhook,
                PACKED_BUNDLES_PATH,
                review(&BUNDLE, operation, &keyless("theirs"), &old).to_string(),
            )
            .await;
            assert_eq!(
                answer["response"]["allowed"], allows,
                "{operation}: {answer}"
            );
            let asked = webhook.api.asked.lock().expect("no panic").clone();
            assert_eq!(asked.len(), 1, "{asked:?}");
            let attributes = &asked[0].1["spec"]["resourceAttributes"];
            let words = ["verb", "resource", "subresource", "namespace", "name"]
                .map(|word| attributes[word].as_str().unwrap_or_default());
            assert_eq!(
                words,
                ["create", "serviceaccounts", "token", "team-a", "default"]
            );
            if !allows {
                assert_eq!(
                    (&answer["response"]["status"]["code"], reason(&answer)),
                    (&json!(403), &json!("SecretAccessDenied"))
                );
            }
        }
    }
    let webhook = webhook(false);
    let (_, answer) = post(
        &webhook,
        PACKED_BUNDLES_PATH,
        review(&BUNDLE, "UPDATE", &keyless("own"), &keyless("own")).to_string(),
    )
    .await;
    assert_eq!(
        (
            &answer["response"]["allowed"],
            webhook.api.asked.lock().expect("no panic").len()
        ),
        (&json!(true), 0),
        "nothing changed"
    );
}

#[tokio::test]
async fn an_api_server_that_does_not_answer_is_a_denial_in_time() {
    let webhook = webhook_of(ApiServer {
        allows: true,
        silent: true,
        ..ApiServer::default()
    });
    let packs = bundle(&json!({
        "source": {"configMapRef": {"name": "lock"}}, "destination": {
            "repository": "r.example.com/a",
            "secretRef": {"name": "push"},
        },
    }));
    let begun = Instant::now();
    let (_, answer) = post(
        &webhook,
        PACKED_BUNDLES_PATH,
        review(&BUNDLE, "CREATE", &packs, &Value::Null).to_string(),
    )
    .await;
    assert_eq!(
        (&answer["response"]["allowed"], reason(&answer)),
        (&json!(false), &json!("DeadlineExceeded")),
        "{answer}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "the API server has given up by then"
    );
}

#[tokio::test]
async fn a_review_without_its_object_admits_nothing() {
    let webhook = webhook(true);
    for path in [IMAGE_USES_PATH, PACKED_BUNDLES_PATH, POLICIES_PATH] {
        let (_, answer) = post(
            &webhook,
            path,
            review(&POD, "CREATE", &Value::Null, &Value::Null).to_string(),
        )
        .await;
        assert_eq!(
            (
                &answer["response"]["allowed"],
                &answer["response"]["status"]["code"]
            ),
            (&json!(false), &json!(422)),
            "{path}: {answer}"
        );
    }
}

const TRUST_ROOT: [&str; 3] = ["packgate.dev", "v1alpha1", "TrustRoot"];

fn trust_root(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "packgate.dev/v1alpha1",
        "kind": "TrustRoot",
        "metadata": {"name": name},
        "spec": spec,
    })
}

#[tokio::test]
async fn a_trust_root_that_a_policy_names_stays() {
    let webhook = webhook(true);
    for (name, allowed) in [("corp", false), ("other", true)] {
        let old = trust_root(name, &json!({"publicGood": {}}));
        for asked in [name, ""] {
            let mut review = review(&TRUST_ROOT, "DELETE", &Value::Null, &old);
            review["request"]["name"] = asked.into();
            let (_, answer) = post(&webhook, POLICIES_PATH, review.to_string()).await;
            assert_eq!(answer["response"]["allowed"], allowed, "{answer}");
            if !allowed {
                let message = answer["response"]["status"]["message"]
                    .as_str()
                    .expect("a message");
                assert_eq!(
                    (
                        reason(&answer),
                        message.contains("BundlePolicy team-a/keyless references")
                    ),
                    (&json!("InvalidSpec"), true),
                    "{message}"
                );
            }
        }
    }
    let (_, answer) = post(
        &webhook,
        POLICIES_PATH,
        review(
            &["packgate.dev", "v1alpha1", "BundlePolicy"],
            "DELETE",
            &Value::Null,
            &json!({}),
        )
        .to_string(),
    )
    .await;
    assert_eq!(
        answer["response"]["allowed"], true,
        "whatever else goes, may go"
    );
}

#[tokio::test]
async fn a_trust_root_must_be_readable_if_it_is_there() {
    let map = |key: &str, text: &str| {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "m"},
            "data": {key: text},
        })
    };
    let nothing = json!({
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "reason": "NotFound",
        "message": "no",
        "code": 404,
    });
    let broken = json!({
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "reason": "InternalError",
        "message": "no",
        "code": 500,
    });
    let given = json!({"trustedRoot": {"configMapRef": {"name": "m"}}});
    let tuf =
        json!({"tuf": {"url": "https://t.example.com", "root": {"configMapRef": {"name": "m"}}}});
    let wrong = json!({
        "tuf": {
            "url": "https://t.example.com",
            "root": {"configMapRef": {"name": "m"}},
            "interval": "1s",
        },
    });
    let real = sigstore_trust_root::SIGSTORE_PRODUCTION_TRUSTED_ROOT;
    for (spec, status, object, refused) in [
        (&given, 200, map("trusted_root.json", real), None),
        (
            &given,
            200,
            map("trusted_root.json", "{}"),
            Some((422, "InvalidSpec")),
        ),
        (&given, 200, map("elsewhere", "{}"), None),
        (&given, 404, nothing.clone(), None),
        (&given, 500, broken, Some((403, "TrustRootUnavailable"))),
        (
            &tuf,
            200,
            map("root.json", "{}"),
            Some((422, "InvalidSpec")),
        ),
        (&tuf, 404, nothing.clone(), None),
        (&wrong, 404, nothing.clone(), Some((422, "InvalidSpec"))),
        (&json!({}), 404, nothing.clone(), Some((422, "InvalidSpec"))),
        (
            &json!({"surprise": 1}),
            404,
            nothing.clone(),
            Some((422, "InvalidSpec")),
        ),
        (&json!({"publicGood": {}}), 404, nothing.clone(), None),
    ] {
        let webhook = webhook_of(ApiServer {
            says: Some((status, object)),
            ..ApiServer::default()
        });
        let root = trust_root("corp", spec);
        for operation in ["CREATE", "UPDATE"] {
            let old = if operation == "UPDATE" {
                trust_root(
                    "corp",
                    &json!({"trustedRoot": {"configMapRef": {"name": "before"}}}),
                )
            } else {
                Value::Null
            };
            let (_, answer) = post(
                &webhook,
                POLICIES_PATH,
                review(&TRUST_ROOT, operation, &root, &old).to_string(),
            )
            .await;
            assert_eq!(
                answer["response"]["allowed"],
                refused.is_none(),
                "{spec} {status}: {answer}"
            );
            if let Some((code, told)) = refused {
                assert_eq!(
                    (&answer["response"]["status"]["code"], reason(&answer)),
                    (&json!(code), &json!(told)),
                    "{spec}: {answer}"
                );
            }
        }
        if serde_json::from_value::<crate::api::trust_root::TrustRoot>(root.clone()).is_ok() {
            let (_, answer) = post(
                &webhook,
                POLICIES_PATH,
                review(&TRUST_ROOT, "UPDATE", &root, &root).to_string(),
            )
            .await;
            assert_eq!(
                answer["response"]["allowed"], true,
                "nothing of it changes: {answer}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_adopted_is_verified_and_shapes_are_checked() {
    let webhook = webhook(true);
    let digest = format!("sha256:{}", "a".repeat(64));
    let adopts = |host: &str| {
        bundle(&json!({"source": {"bundle": {"reference": format!("{host}/a@{digest}")}}}))
    };
    for (object, code, told) in [
        (adopts("r.example.com"), 403, "SourceNotFound"),
        (adopts("other.example.com"), 403, "Ungoverned"),
        (bundle(&json!({"source": {}})), 422, "InvalidSpec"),
        (bundle(&json!({"surprise": true})), 422, "InvalidSpec"),
    ] {
        let (_, answer) = post(
            &webhook,
            PACKED_BUNDLES_PATH,
            review(&BUNDLE, "CREATE", &object, &Value::Null).to_string(),
        )
        .await;
        assert_eq!(
            (&answer["response"]["status"]["code"], reason(&answer)),
            (&json!(code), &json!(told)),
            "{answer}"
        );
    }
    let policy = json!({
        "apiVersion": "packgate.dev/v1alpha1",
        "kind": "ClusterBundlePolicy",
        "metadata": {"name": "p"},
        "spec": {},
    });
    let kind = ["packgate.dev", "v1alpha1", "ClusterBundlePolicy"];
    let (_, answer) = post(
        &webhook,
        POLICIES_PATH,
        review(&kind, "CREATE", &policy, &Value::Null).to_string(),
    )
    .await;
    assert_eq!(
        (&answer["response"]["status"]["code"], reason(&answer)),
        (&json!(422), &json!("InvalidSpec")),
        "{answer}"
    );
}
