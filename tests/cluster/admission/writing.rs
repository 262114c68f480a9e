//! What is written: PackedBundles with Secrets, policies, and uses that no policy governs.

use serde_json::json;

use super::{
    refused::cause,
    scene::{As, CLI_BUILDER, Scene, adopting, object},
};
use crate::support::api::{Api, Store};

#[test]
fn who_names_a_secret_must_be_allowed_to_read_it() {
    let Some(scene) = Scene::start("who_names_a_secret_must_be_allowed_to_read_it") else {
        return;
    };
    let namespace = &scene.test.namespace;
    namespace
        .kubectl(["create", "serviceaccount", "tenant"])
        .run()
        .ok();
    let subject = format!("--serviceaccount={}:tenant", namespace.name);
    namespace
        .kubectl([
            "create",
            "role",
            "bundles",
            "--verb=create,update,patch,get",
            "--resource=packedbundles.packgate.dev",
        ])
        .run()
        .ok();
    namespace
        .kubectl([
            "create",
            "rolebinding",
            "bundles",
            "--role=bundles",
            &subject,
        ])
        .run()
        .ok();
    let token = namespace
        .kubectl(["create", "token", "tenant"])
        .run()
        .ok()
        .to_owned();
    let tenant = Api::with_token(&token);
    let packs = |secret: Option<&str>| {
        let mut destination = json!({"repository": scene.repository("x")});
        if let Some(secret) = secret {
            destination["secretRef"] = json!({"name": secret});
        }
        let spec = json!({
            "suspend": true,
            "source": {"configMapRef": {"name": "lock"}},
            "destination": destination,
        });
        json!({
            "apiVersion": "packgate.dev/v1alpha1",
            "kind": "PackedBundle",
            "metadata": {"generateName": "x-"},
            "spec": spec,
        })
    };
    tenant
        .create(&namespace.name, &packs(None), Store::Yes)
        .expect("no Secret is named");
    let status = tenant
        .create(&namespace.name, &packs(Some("push")), Store::Yes)
        .expect_err("a Secret that the tenant may not read");
    assert_eq!(
        (status.code, cause(&status)),
        (
            403,
            (
                "SecretAccessDenied".to_owned(),
                "spec.destination.secretRef".to_owned()
            )
        ),
        "{status:?}"
    );
    namespace
        .kubectl([
            "create",
            "role",
            "secrets",
            "--verb=get",
            "--resource=secrets",
            "--resource-name=push",
        ])
        .run()
        .ok();
    namespace
        .kubectl([
            "create",
            "rolebinding",
            "secrets",
            "--role=secrets",
            &subject,
        ])
        .run()
        .ok();
    crate::support::wait::wait_for(
        "the right to count",
        std::time::Duration::from_secs(10),
        || {
            tenant
                .create(&namespace.name, &packs(Some("push")), Store::No)
                .ok()
        },
    );
    let status = tenant
        .create(&namespace.name, &packs(Some("other")), Store::No)
        .expect_err("another Secret");
    assert_eq!(cause(&status).0, "SecretAccessDenied", "{status:?}");
}

#[test]
fn a_wrong_shape_is_422_with_its_field() {
    let Some(scene) = Scene::start("a_wrong_shape_is_422_with_its_field") else {
        return;
    };
    let api = Api::new();
    let destination = json!({"repository": scene.repository("x")});
    let bundle = |spec| {
        json!({
            "apiVersion": "packgate.dev/v1alpha1",
            "kind": "PackedBundle",
            "metadata": {"name": "x"},
            "spec": spec,
        })
    };
    let policy = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut policy = scene.policy("p", &scene.repository("**"), &["a"], CLI_BUILDER, "a");
        change(&mut policy["spec"]);
        policy
    };
    for (object, field) in [
        (
            bundle(json!({"source": {"inline": "no: lock"}, "destination": destination})),
            "spec.source.inline",
        ),
        (
            bundle(json!({
                "timeout": "1s",
                "source": {"configMapRef": {"name": "a"}},
                "destination": destination,
            })),
            "spec.timeout",
        ),
        (
            policy(&|spec| spec["authorities"][0]["key"] = json!({"pem": "no key"})),
            "spec.authorities[0].key",
        ),
        (
            policy(&|spec| spec["match"]["references"] = json!(["r.example.com/a**"])),
            "spec.match.references[0]",
        ),
        (
            policy(&|spec| spec["slsa"]["maxAge"] = "0s".into()),
            "spec.slsa.maxAge",
        ),
    ] {
        let status = api
            .create(&scene.test.namespace.name, &object, Store::Yes)
            .expect_err(field);
        assert_eq!(
            (status.code, status.reason.as_str()),
            (422, "Invalid"),
            "{field}: {status:?}"
        );
        assert_eq!(
            cause(&status),
            ("InvalidSpec".to_owned(), field.to_owned()),
            "{status:?}"
        );
    }
}

#[test]
fn the_installation_says_what_becomes_of_what_no_policy_governs() {
    let Some(scene) = Scene::start("the_installation_says_what_becomes_of_what_no_policy_governs")
    else {
        return;
    };
    let unsigned = scene.pack("unsigned", None);
    let namespace = &scene.test.namespace;
    // imageVolume: Warn
    let run = namespace
        .try_apply(&object(&scene.test, "Pod", "volume", &unsigned, As::Volume).to_string());
    assert!(
        run.code == 0
            && run.stderr.contains("Warning: packgate: ")
            && run.stderr.contains("Ungoverned"),
        "{run}"
    );
    // container: Allow, and such a Pod is never sent to the webhook at all.
    let run = namespace.try_apply(
        &object(
            &scene.test,
            "Pod",
            "container",
            &scene.test.cluster.busybox,
            As::Container,
        )
        .to_string(),
    );
    assert!(
        run.code == 0 && !run.stderr.contains("Warning: packgate"),
        "{run}"
    );
    // packedBundle: Deny
    let status = Api::new()
        .create(&namespace.name, &adopting("adopts", &unsigned), Store::Yes)
        .expect_err("nobody says whom to trust");
    assert_eq!(
        cause(&status),
        (
            "Ungoverned".to_owned(),
            "spec.source.bundle.reference".to_owned()
        ),
        "{status:?}"
    );
}

#[test]
fn policies_that_warn_or_audit_let_pass() {
    let Some(scene) = Scene::start("policies_that_warn_or_audit_let_pass") else {
        return;
    };
    let unsigned = scene.pack("unsigned", None);
    let pod = object(&scene.test, "Pod", "tried", &unsigned, As::Volume).to_string();
    for (mode, warns) in [("Warn", true), ("Audit", false)] {
        let mut policy = scene.policy("p", &scene.repository("**"), &["a"], CLI_BUILDER, "a");
        policy["spec"]["mode"] = mode.into();
        scene.enforce(&[policy]);
        let run = scene
            .test
            .namespace
            .kubectl(["create", "--dry-run=server", "-f", "-"])
            .stdin(pod.clone())
            .run();
        assert!(
            run.code == 0 && run.stderr.contains("NoSignatures") == warns,
            "{mode}: {run}"
        );
    }
}
