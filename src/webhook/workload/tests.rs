//! A use without a signature is only admitted by digest, in every kind, field and operation.

use std::sync::Arc;

use jiff::Timestamp;
use kube::{Client, client::Body};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::{
        bundle_policy::{PolicyInputs, PolicyObject},
        installation::InstallationConfig,
    },
    clock::Clock,
    core::{digest::Digest, media_type, oci::Descriptor, reference::ImageRepository},
    oci::{ContentTarget, MemoryTarget, PushContent},
    service::registries::{
        OpenedRepository, RepositoryOpenError, RepositoryRequester, TenantRepositoryOpener,
    },
    webhook::{
        WebhookMetrics, WebhookOptions, active_policies::ActivePolicies, packed_bundle,
        review_response::build_admission_response,
    },
};

const REPOSITORY: &str = "r.example.com/team-a/siem";
const UNSIGNED: &[u8] = br#"{"schemaVersion":2,"manifests":[]}"#;

struct One(Arc<MemoryTarget>);

#[async_trait::async_trait]
impl TenantRepositoryOpener for One {
    async fn open_repository(
        &self,
        _: &ImageRepository,
        _: &RepositoryRequester<'_>,
    ) -> Result<OpenedRepository, RepositoryOpenError> {
        Ok(OpenedRepository::anonymous(Arc::<MemoryTarget>::clone(
            &self.0,
        )))
    }
}

struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        "2026-11-21T12:00:00Z".parse().expect("a time")
    }
}

/// A registry with an unsigned image under the tag `v1`, and one policy that exempts its digest for
/// every use.
async fn state(require_digest: bool) -> WebhookState {
    let content = MemoryTarget::new();
    let root = Descriptor::of_bytes(media_type::INDEX, UNSIGNED);
    content
        .push_content(
            &root,
            PushContent::Bytes(&bytes::Bytes::from_static(UNSIGNED)),
        )
        .await
        .expect("pushed");
    content
        .tag_manifest(&root, &"v1".parse().expect("a tag"))
        .await
        .expect("tagged");
    let key = crate::signing::generate_default_key(&crate::signing::Password::new(""))
        .expect("a key")
        .public_pem;
    let policy = json!({
        "apiVersion": "packgate.dev/v1alpha1", "kind": "ClusterBundlePolicy", "metadata": {
            "name": "p",
            "uid": "u",
            "generation": 1,
        },
        "spec": {
            "match": {
                "references": ["r.example.com/**"],
                "uses": ["PackedBundle", "ImageVolume", "Container"],
            },
            "authorities": [{"name": "a", "key": {"pem": key}}],
            "requireDigest": require_digest,
            "exemptions": [
                {"digest": root.digest, "reason": "INC-42", "expires": "2027-01-01T00:00:00Z"},
            ],
        },
    });
    let policies = ActivePolicies::default();
    let gathered = PolicyInputs {
        policies: vec![PolicyObject::from_json(policy).expect("a policy")],
        ..PolicyInputs::default()
    };
    policies.set(gathered.compile_snapshot("packgate-system", Noon.now()));
    let nobody = tower::service_fn(|_: http::Request<Body>| async {
        Ok::<_, std::convert::Infallible>(http::Response::new(Body::from(Vec::new())))
    });
    let options = WebhookOptions {
        namespace: "packgate-system".into(),
        identity: "one".into(),
        address: "127.0.0.1:0".parse().expect("an address"),
        installation: InstallationConfig::default(),
        clock: Arc::new(Noon),
        registries: Arc::new(One(Arc::new(content))),
    };
    WebhookState::new(
        Client::new(nobody, "default"),
        &options,
        policies,
        WebhookMetrics::new(&mut Registry::default()),
    )
}

fn request(
    kind: [&str; 3],
    operation: &str,
    object: &Value,
    old: &Value,
) -> (ReviewRequest, Value, Option<Value>) {
    let [group, version, kind] = kind;
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u", "kind": {"group": group, "version": version, "kind": kind}, "resource": {
                "group": group,
                "version": version,
                "resource": "x",
            },
            "name": "x", "namespace": "team-a", "operation": operation,
            "userInfo": {"username": "alice"}, "object": object, "oldObject": old,
        },
    });
    let (request, objects) = ReviewRequest::parse(review.to_string().as_bytes()).expect("a review");
    (request, objects.new.expect("an object"), objects.old)
}

/// The reason of the first cause, or empty if it is admitted.
fn reason(request: &ReviewRequest, answer: ReviewResponse) -> Option<String> {
    let response = build_admission_response(request.admission_request(), answer);
    (!response.allowed).then(|| {
        response.result.details.expect("details").causes[0]
            .reason
            .clone()
    })
}

/// A gated Pod with an image in one of the fields for images.
fn pod(place: &str, reference: &str) -> Value {
    let mut spec = json!({
        "schedulingGates": [{"name": "example.com/wait"}],
        "containers": [{"name": "main", "image": "other.example.com/main"}],
    });
    match place {
        "volumes" => spec["volumes"] = json!([{"name": "b", "image": {"reference": reference}}]),
        list => spec[list] = json!([{"name": "x", "image": reference}]),
    }
    spec
}

fn wrapped(kind: &str, pod: Value) -> ([&'static str; 3], Value) {
    let object = |api, kind: &str, spec: Value| {
        json!({
            "apiVersion": api,
            "kind": kind,
            "metadata": {"name": "x"},
            "spec": spec,
        })
    };
    match kind {
        "Deployment" => (
            ["apps", "v1", "Deployment"],
            object("apps/v1", kind, json!({"template": {"spec": pod}})),
        ),
        "CronJob" => (
            ["batch", "v1", "CronJob"],
            object(
                "batch/v1",
                kind,
                json!({"jobTemplate": {"spec": {"template": {"spec": pod}}}}),
            ),
        ),
        kind => (["", "v1", "Pod"], object("v1", kind, pod)),
    }
}

/// The spelling of the image, and the reason of the denial where the policy requires a digest.
fn spellings() -> [(String, Option<&'static str>); 4] {
    let digest = Digest::of_bytes(UNSIGNED);
    [
        (format!("{REPOSITORY}:v1"), Some("DigestRequired")),
        (
            format!("{}:443/team-a/siem:v1", "R.example.com."),
            Some("DigestRequired"),
        ),
        (format!("{REPOSITORY}@{digest}"), None),
        (format!("{REPOSITORY}:v1@{digest}"), None),
    ]
}

#[tokio::test]
async fn an_exempted_digest_admits_no_tag_wherever_it_stands() {
    for require_digest in [true, false] {
        let state = state(require_digest).await;
        for (reference, expected) in spellings() {
            let expected = expected.filter(|_| require_digest);
            for place in [
                "volumes",
                "initContainers",
                "containers",
                "ephemeralContainers",
            ] {
                for kind in ["Pod", "Deployment", "CronJob"] {
                    let (known, object) = wrapped(kind, pod(place, &reference));
                    let (_, old) = wrapped(kind, pod(place, "other.example.com/before"));
                    for (operation, old) in [("CREATE", &Value::Null), ("UPDATE", &old)] {
                        let (request, object, old) = request(known, operation, &object, old);
                        let answer =
                            evaluate_workload(&state, &request, object, old, Instant::now()).await;
                        assert_eq!(
                            reason(&request, answer).as_deref(),
                            expected,
                            "{operation} {kind} {place} {reference}"
                        );
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn what_was_let_through_by_its_digest_does_not_admit_its_tag() {
    let state = state(true).await;
    for (reference, expected) in [
        &spellings()[2],
        &spellings()[0],
        &spellings()[2],
        &spellings()[3],
        &spellings()[0],
    ] {
        let (known, object) = wrapped("Pod", pod("volumes", reference));
        let (request, object, old) = request(known, "CREATE", &object, &Value::Null);
        let answer = evaluate_workload(&state, &request, object, old, Instant::now()).await;
        assert_eq!(
            reason(&request, answer).as_deref(),
            *expected,
            "{reference}"
        );
    }
}

#[tokio::test]
async fn a_packed_bundle_adopts_an_exempted_digest_and_no_tag() {
    let state = state(true).await;
    let bundle = |reference: &str| {
        json!({
            "apiVersion": "packgate.dev/v1alpha1", "kind": "PackedBundle", "metadata": {
                "name": "x",
                "namespace": "team-a",
            },
            "spec": {"source": {"bundle": {"reference": reference}}},
        })
    };
    let old = bundle(&format!("{REPOSITORY}@{}", Digest::of_bytes(b"another")));
    for (reference, expected) in spellings() {
        // A bundle is adopted by its digest: the schema rejects it before any policy is evaluated.
        let expected = expected.map(|_| "InvalidSpec");
        for (operation, old) in [("CREATE", &Value::Null), ("UPDATE", &old)] {
            let object = bundle(&reference);
            let (request, object, old) = request(
                ["packgate.dev", "v1alpha1", "PackedBundle"],
                operation,
                &object,
                old,
            );
            let answer = packed_bundle::evaluate_packed_bundle(
                &state,
                &request,
                object,
                old,
                Instant::now(),
            )
            .await;
            assert_eq!(
                reason(&request, answer).as_deref(),
                expected,
                "{operation} {reference}"
            );
        }
    }
}
