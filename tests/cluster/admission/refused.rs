//! A signed bundle is mounted and read. Everything else is refused, with the reason, the field, and
//! a command that says the same.

use std::time::{Duration, Instant};

use kube::core::Status;
use serde_json::json;

use super::scene::{As, CONTENT, KINDS, Scene, adopting, field, object, silence};
use crate::support::api::{Api, Store};

/// How long a refusal may take, whatever the registry does: then the API server gives up.
const IN_TIME: Duration = Duration::from_secs(10);

/// The reason and the field of the first cause.
#[track_caller]
pub(super) fn cause(status: &Status) -> (String, String) {
    let cause = status
        .details
        .as_ref()
        .and_then(|details| details.causes.first())
        .unwrap_or_else(|| panic!("no cause: {status:?}"));
    (cause.reason.clone(), cause.field.clone())
}

/// The command in a refusal.
#[track_caller]
pub(super) fn reproduce(status: &Status) -> String {
    let line = status
        .message
        .split("to see the same verdict: packgate ")
        .nth(1)
        .unwrap_or_else(|| panic!("no command: {}", status.message));
    line.to_owned()
}

#[test]
fn what_is_proved_runs_and_what_is_not_is_refused() {
    let Some(scene) = Scene::start("what_is_proved_runs_and_what_is_not_is_refused") else {
        return;
    };
    if !silence(&scene.test) {
        return println!("not run: registries of the test's own need its own cluster");
    }
    let (api, namespace) = (Api::new(), scene.test.namespace.name.clone());
    let cases = scene.cases();
    for case in &cases {
        for (kind, prefix) in KINDS {
            let name = format!("{}-{}", case.name.replace(' ', "-"), kind.to_lowercase());
            let begun = Instant::now();
            let answer = api.create(
                &namespace,
                &object(&scene.test, kind, &name, &case.reference, As::Volume),
                Store::Yes,
            );
            assert!(begun.elapsed() < IN_TIME, "{name}: {:?}", begun.elapsed());
            let Some(reason) = case.reason else {
                assert!(answer.is_ok(), "{name}: {answer:?}");
                continue;
            };
            let status = answer.expect_err(&name);
            assert_eq!(
                (status.code, status.reason.as_str()),
                (403, "Forbidden"),
                "{name}: {status:?}"
            );
            assert_eq!(
                cause(&status),
                (reason.to_owned(), field(prefix, As::Volume)),
                "{name}: {status:?}"
            );
            assert!(
                status.message.contains(&format!(
                    "{}: {reason}: BundlePolicy {namespace}/",
                    field(prefix, As::Volume)
                )),
                "{name}: {}",
                status.message
            );
        }
        if case.reason.is_some() && case.name != "tag only" {
            let status = api
                .create(&namespace, &adopting("adopts", &case.reference), Store::Yes)
                .expect_err(case.name);
            let (reason, field) = cause(&status);
            assert_eq!(
                (Some(reason.as_str()), field.as_str()),
                (case.reason, "spec.source.bundle.reference"),
                "{}: {status:?}",
                case.name
            );
        }
    }
    scene.test.namespace.wait(
        "pod/signed-pod",
        "jsonpath={.status.phase}=Succeeded",
        Duration::from_mins(2),
    );
    assert_eq!(
        scene.test.namespace.logs("pod/signed-pod"),
        CONTENT.trim_end()
    );
    let events = scene
        .test
        .namespace
        .kubectl([
            "get",
            "events",
            "--field-selector",
            "reason=NoSignatures",
            "-o",
            "name",
        ])
        .run();
    assert!(!events.ok().is_empty(), "a denial is told as an event");
}

#[test]
fn nothing_that_a_tenant_can_write_counts() {
    let Some(scene) = Scene::start("nothing_that_a_tenant_can_write_counts") else {
        return;
    };
    let (api, namespace) = (Api::new(), scene.test.namespace.name.clone());
    let policy = scene.policy(
        "p",
        &scene.repository("**"),
        &["a"],
        super::scene::CLI_BUILDER,
        "a",
    );
    scene.enforce(&[policy]);
    let unsigned = scene.pack("unsigned", None);
    let digest = unsigned.rsplit_once('@').expect("a digest").1;
    // A PackedBundle whose status says that it was verified.
    let forged = json!({
        "observedGeneration": 1,
        "bundle": {
            "reference": unsigned,
            "digest": digest,
            "size": 1,
            "layers": 1,
            "packFormat": "1",
        },
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "Succeeded",
                "message": "",
                "lastTransitionTime": "2026-11-21T12:00:00Z",
            },
            {
                "type": "Verified",
                "status": "True",
                "reason": "Succeeded",
                "message": "",
                "lastTransitionTime": "2026-11-21T12:00:00Z",
            },
        ],
    });
    let packs = json!({
        "apiVersion": "packgate.dev/v1alpha1", "kind": "PackedBundle",
        "metadata": {"name": "forged"},
        "spec": {
            "suspend": true,
            "source": {"configMapRef": {"name": "none"}},
            "destination": {"repository": scene.repository("unsigned")},
        },
    });
    scene.test.namespace.apply(&packs.to_string());
    let patch = json!({"status": forged}).to_string();
    scene
        .test
        .namespace
        .kubectl([
            "patch",
            "packedbundle",
            "forged",
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ])
        .run()
        .ok();
    let mut pod = object(&scene.test, "Pod", "forged", &unsigned, As::Volume);
    pod["metadata"]["labels"] = json!({
        "packgate.dev/bundle": "forged",
        "app.kubernetes.io/managed-by": "packgate-controller",
    });
    pod["metadata"]["annotations"] = json!({
        "packgate.dev/verified": "true", "uses.packgate.dev/outcome": "Admitted",
        "uses.packgate.dev/digest": digest, "packgate.dev/digest": digest,
    });
    let owner = scene
        .test
        .namespace
        .get("packedbundle", "forged")
        .expect("an object");
    pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "packgate.dev/v1alpha1", "kind": "PackedBundle", "name": "forged",
        "uid": owner["metadata"]["uid"], "controller": true,
    }]);
    let status = api
        .create(&namespace, &pod, Store::Yes)
        .expect_err("an unsigned bundle");
    assert_eq!(cause(&status).0, "NoSignatures", "{status:?}");
    // Labels of the namespace that other webhooks are switched off with.
    let labels = [
        "packgate.dev/exclude=true",
        "admission.packgate.dev/ignore=true",
        "control-plane=controller-manager",
        "name=kube-system",
    ];
    crate::support::namespace::kubectl(
        ["label", "namespace", &namespace].into_iter().chain(labels),
    )
    .run()
    .ok();
    let status = api
        .create(
            &namespace,
            &object(&scene.test, "Pod", "labelled", &unsigned, As::Volume),
            Store::Yes,
        )
        .expect_err("an unsigned bundle");
    assert_eq!(cause(&status).0, "NoSignatures", "{status:?}");
}

#[test]
fn an_image_that_is_added_to_a_running_pod_is_judged() {
    let Some(scene) = Scene::start("an_image_that_is_added_to_a_running_pod_is_judged") else {
        return;
    };
    let policy = scene.policy(
        "p",
        &scene.repository("**"),
        &["a"],
        super::scene::CLI_BUILDER,
        "a",
    );
    scene.enforce(&[policy]);
    let unsigned = scene.pack("unsigned", None);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
        "spec": {
            "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
            "containers": [
                {"name": "main", "image": scene.test.cluster.busybox, "command": ["sleep", "600"]},
            ],
        },
    });
    scene.test.namespace.apply(&pod.to_string());
    scene
        .test
        .namespace
        .wait("pod/web", "condition=Ready", Duration::from_mins(1));
    let run = scene
        .test
        .namespace
        .kubectl([
            "debug",
            "web",
            &format!("--image={unsigned}"),
            "--profile=general",
        ])
        .run();
    assert!(
        run.code != 0
            && run
                .stderr
                .contains("spec.ephemeralContainers[0].image: NoSignatures"),
        "{run}"
    );
    let patch = json!({"spec": {"containers": [{"name": "main", "image": unsigned}]}}).to_string();
    let run = scene
        .test
        .namespace
        .kubectl(["patch", "pod", "web", "-p", &patch])
        .run();
    assert!(
        run.code != 0
            && run
                .stderr
                .contains("spec.containers[0].image: NoSignatures"),
        "{run}"
    );
    // What does not change an image is nobody's business, and asks no registry.
    scene
        .test
        .namespace
        .kubectl(["label", "pod", "web", "tier=front"])
        .run()
        .ok();
}

#[test]
fn what_runs_already_can_be_changed_when_it_would_be_refused_today() {
    let Some(scene) =
        Scene::start("what_runs_already_can_be_changed_when_it_would_be_refused_today")
    else {
        return;
    };
    let unsigned = scene.pack("unsigned", None);
    scene
        .test
        .namespace
        .apply(&object(&scene.test, "Deployment", "web", &unsigned, As::Volume).to_string());
    scene.enforce(&[scene.policy(
        "p",
        &scene.repository("**"),
        &["a"],
        super::scene::CLI_BUILDER,
        "a",
    )]);
    let requests = scene.test.requests();
    scene
        .test
        .namespace
        .kubectl(["label", "deployment", "web", "tier=front"])
        .run()
        .ok();
    scene
        .test
        .namespace
        .kubectl([
            "patch",
            "deployment",
            "web",
            "-p",
            "{\"spec\":{\"paused\":true}}",
        ])
        .run()
        .ok();
    if let Some(requests) = requests {
        assert_eq!(
            requests
                .below(&format!("/v2/{}/", scene.test.namespace.name))
                .len(),
            0,
            "no registry is asked"
        );
    }
    let mut changed = object(
        &scene.test,
        "Deployment",
        "web",
        &scene.pack("another", None),
        As::Volume,
    );
    changed["spec"]["replicas"] = json!(0);
    let run = scene.test.namespace.try_apply(&changed.to_string());
    assert!(
        run.code != 0 && run.stderr.contains("NoSignatures"),
        "{run}"
    );
    scene
        .test
        .namespace
        .kubectl(["delete", "deployment", "web"])
        .run()
        .ok();
}
