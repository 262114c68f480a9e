//! Threat 45: the trust root is expired, unavailable, or never existed.

use serde_json::json;
use sigstore_trust_root::SIGSTORE_PRODUCTION_TRUSTED_ROOT;

use super::{Scene, expect, reasons, requests};
use crate::support::{
    threats::threat,
    tuf::{TufRepository, TufServer},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trust_root_that_cannot_be_had_refuses_names_and_never_keys() {
    let scene = Scene::start().await;
    scene.sign();
    let repository = TufRepository::new(SIGSTORE_PRODUCTION_TRUSTED_ROOT, "2020-01-01T00:00:00Z");
    let server = TufServer::start(&repository.files);
    let first = String::from_utf8(repository.root(1)).expect("text");
    let tuf = json!({"url": server.url(), "root": {"configMapRef": {"name": "first"}}});
    let root = json!({
        "apiVersion": "packgate.dev/v1alpha1",
        "kind": "TrustRoot",
        "metadata": {"name": "corp"},
        "spec": {"tuf": tuf},
    });
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "first"},
        "data": {"root.json": first},
    });
    let keyless = json!({
        "trustRootRef": {"name": "corp"},
        "issuer": "https://i.example.com",
        "subject": {"exact": "a@example.com"},
    });
    let by_name = [
        scene.policy(&json!({"authorities": [{"name": "ci", "keyless": keyless}]})),
        root.clone(),
        map.clone(),
    ];
    let expired = scene.judge_by(&scene.reference(), &by_name, "");
    repository.files.lock().expect("no panic").clear();
    let away = scene.judge_by(&scene.reference(), &by_name, "");
    let never = scene.judge_by(&scene.reference(), &by_name, "--offline");
    let by_key = scene.judge_by(
        &scene.reference(),
        &[scene.policy(&json!({})), root, map],
        "",
    );
    let outcomes = expect([
        ("its metadata is over", expired, "TrustRootExpired"),
        ("its mirror is down", away, "TrustRootUnavailable"),
        ("it was never fetched", never, "TrustRootUnavailable"),
        ("a key, while it is down", by_key, "Admitted"),
    ]);
    threat(45)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}
