//! 30 to 37 and 43 of docs/threat-model.md: ways around the webhook, against the real API server.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    scene::{As, CLI_BUILDER, KINDS, Scene, object},
    timely::ClusterPolicy,
};
use crate::support::{
    Test,
    api::{Api, Store},
    namespace::kubectl,
    threats::{Attempts, answered, told},
    wait::wait_for,
};

const MERGE: &str = "application/merge-patch+json";

/// A scene whose every repository is governed, and an unsigned bundle in it.
fn governed(name: &'static str) -> Option<(Scene, String)> {
    let scene = Scene::start(name)?;
    scene.enforce(&[scene.policy("p", &scene.repository("**"), &["a"], CLI_BUILDER, "a")]);
    let unsigned = scene.pack("unsigned", None);
    Some((scene, unsigned))
}

/// Where an object of this kind lies.
fn path(test: &Test, kind: &str, name: &str) -> String {
    let group = if kind == "pods" {
        "/api/v1"
    } else {
        "/apis/apps/v1"
    };
    format!("{group}/namespaces/{}/{kind}/{name}", test.namespace.name)
}

/// A Pod that runs until it is deleted, of an image that no policy governs.
fn running(test: &Test) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
        "spec": {
            "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
            "containers": [
                {"name": "main", "image": test.cluster.busybox, "command": ["sleep", "600"]},
            ],
        },
    });
    test.namespace.apply(&pod.to_string());
    test.namespace
        .wait("pod/web", "condition=Ready", Duration::from_mins(1));
}

#[test]
fn image_volumes_are_judged_wherever_they_are_declared() {
    let Some((scene, unsigned)) = governed("image_volumes_are_judged_wherever_they_are_declared")
    else {
        return;
    };
    let (api, test) = (Api::new(), &scene.test);
    let create = |object: &Value| answered(&api.create(&test.namespace.name, object, Store::Yes));
    let mut attempts = Attempts::new(test);
    for (kind, _) in KINDS {
        attempts.make(kind, "NoSignatures", || {
            create(&object(test, kind, "unsigned", &unsigned, As::Volume))
        });
    }
    let tagged = format!("{}:v1", scene.repository("unsigned"));
    attempts.make("a tag", "DigestRequired", || {
        create(&object(test, "Pod", "tagged", &tagged, As::Volume))
    });
    attempts.make("a template that leaves it out", "Admitted", || {
        create(&object(test, "Deployment", "empty", "", As::Volume))
    });
    let status = api
        .create(
            &test.namespace.name,
            &object(test, "Pod", "empty", "", As::Volume),
            Store::Yes,
        )
        .expect_err("a Pod needs one");
    assert_eq!(status.code, 422, "{status:?}");
    attempts.are(30);
}

#[test]
fn an_ephemeral_container_is_judged() {
    let Some((scene, unsigned)) = governed("an_ephemeral_container_is_judged") else {
        return;
    };
    running(&scene.test);
    let mut attempts = Attempts::new(&scene.test);
    attempts.make("kubectl debug", "NoSignatures", || {
        told(
            &scene
                .test
                .namespace
                .kubectl([
                    "debug",
                    "web",
                    &format!("--image={unsigned}"),
                    "--profile=general",
                ])
                .run(),
        )
    });
    attempts.are(31);
}

#[test]
fn an_update_is_judged_for_what_it_adds() {
    let Some(scene) = Scene::start("an_update_is_judged_for_what_it_adds") else {
        return;
    };
    let (api, test) = (Api::new(), &scene.test);
    let (before, added) = (scene.pack("before", None), scene.pack("added", None));
    let mut web = object(test, "Deployment", "web", &before, As::Volume);
    web["metadata"]["finalizers"] = json!(["packgate.dev/test"]);
    test.namespace.apply(&web.to_string());
    scene.enforce(&[scene.policy("p", &scene.repository("**"), &["a"], CLI_BUILDER, "a")]);
    let patch = |sub: &str, change: &Value| {
        answered(&api.send(
            "PATCH",
            &format!("{}{sub}", path(test, "deployments", "web")),
            MERGE,
            change.to_string(),
        ))
    };
    let image = |replicas: u32| {
        let pod = object(test, "Deployment", "web", &added, As::Volume)["spec"]["template"]["spec"]
            .clone();
        json!({"spec": {"replicas": replicas, "template": {"spec": pod}}})
    };
    let mut attempts = Attempts::new(test);
    attempts.make("another image", "NoSignatures", || patch("", &image(0)));
    attempts.make("another image, and scaled", "NoSignatures", || {
        patch("", &image(1))
    });
    attempts.make("no other image", "Admitted", || {
        patch("", &json!({"metadata": {"labels": {"tier": "front"}}}))
    });
    attempts.make("scaled by the subresource", "Admitted", || {
        patch("/scale", &json!({"spec": {"replicas": 0}}))
    });
    attempts.make("the status", "Admitted", || {
        patch("/status", &json!({"status": {"observedGeneration": 1}}))
    });
    test.namespace
        .kubectl(["delete", "deployment", "web", "--wait=false"])
        .run()
        .ok();
    assert!(
        !test
            .namespace
            .get("deployment", "web")
            .expect("its finalizer holds it")["metadata"]["deletionTimestamp"]
            .is_null()
    );
    attempts.make("another image while it is deleted", "NoSignatures", || {
        patch("", &image(0))
    });
    attempts.make("its end", "Admitted", || {
        patch("", &json!({"metadata": {"finalizers": null}}))
    });
    attempts.are(32);
}

#[test]
fn a_forged_owner_counts_for_nothing() {
    let Some((scene, unsigned)) = governed("a_forged_owner_counts_for_nothing") else {
        return;
    };
    let (api, test) = (Api::new(), &scene.test);
    let mut attempts = Attempts::new(test);
    for (version, kind) in [
        ("apps/v1", "ReplicaSet"),
        ("apps/v1", "DaemonSet"),
        ("packgate.dev/v1alpha1", "PackedBundle"),
    ] {
        attempts.make(kind, "NoSignatures", || {
            let mut pod = object(test, "Pod", "owned", &unsigned, As::Volume);
            let owner = json!({
                "apiVersion": version,
                "kind": kind,
                "name": "x",
                "uid": "00000000-0000-4000-8000-000000000000",
                "controller": true,
            });
            pod["metadata"]["ownerReferences"] = json!([owner]);
            answered(&api.create(&test.namespace.name, &pod, Store::Yes))
        });
    }
    attempts.are(33);
}

#[test]
fn a_forged_verdict_counts_for_nothing() {
    let Some((scene, unsigned)) = governed("a_forged_verdict_counts_for_nothing") else {
        return;
    };
    let (api, test) = (Api::new(), &scene.test);
    let digest = unsigned.rsplit_once('@').expect("a digest").1;
    let mut attempts = Attempts::new(test);
    attempts.make("annotations and labels of ours", "NoSignatures", || {
        let mut pod = object(test, "Pod", "forged", &unsigned, As::Volume);
        pod["metadata"]["labels"] = json!({
            "packgate.dev/bundle": "forged",
            "app.kubernetes.io/managed-by": "packgate-controller",
        });
        pod["metadata"]["annotations"] = json!({
            "packgate.dev/verified": "true", "packgate.dev/digest": digest,
            "uses.packgate.dev/outcome": "Admitted", "uses.packgate.dev/digest": digest,
            "uses.packgate.dev/policies": "p",
        });
        answered(&api.create(&test.namespace.name, &pod, Store::Yes))
    });
    attempts.are(34);
}

#[test]
fn a_label_of_the_namespace_switches_nothing_off() {
    let Some((scene, unsigned)) = governed("a_label_of_the_namespace_switches_nothing_off") else {
        return;
    };
    let (api, test) = (Api::new(), &scene.test);
    let mut attempts = Attempts::new(test);
    for label in [
        "packgate.dev/exclude=true",
        "admission.packgate.dev/ignore=true",
        "control-plane=controller-manager",
        "kubernetes.io/metadata.name=kube-system",
    ] {
        // The API server does not let go of the name; it may say so, or put it back.
        kubectl([
            "label",
            "namespace",
            &test.namespace.name,
            label,
            "--overwrite",
        ])
        .run();
        attempts.make(label, "NoSignatures", || {
            answered(&api.create(
                &test.namespace.name,
                &object(test, "Pod", "labelled", &unsigned, As::Volume),
                Store::Yes,
            ))
        });
    }
    attempts.are(35);
}

#[test]
fn an_exemption_opens_what_it_names_and_nothing_else() {
    let Some(scene) = Scene::start("an_exemption_opens_what_it_names_and_nothing_else") else {
        return;
    };
    let (api, test) = (Api::new(), &scene.test);
    let unsigned = scene.pack("unsigned", None);
    let digest = unsigned.rsplit_once('@').expect("a digest").1;
    let policy = |name: &str, exemption: Value| {
        let mut policy = scene.policy("ignored", &scene.repository("**"), &["a"], CLI_BUILDER, "a");
        policy["kind"] = "ClusterBundlePolicy".into();
        policy["metadata"]["name"] = format!("{}-{name}", test.namespace.name).into();
        policy["spec"]["exemptions"] = json!([exemption]);
        policy
    };
    let apply = |policy: &Value| {
        ClusterPolicy::apply(policy["metadata"]["name"].as_str().expect("a name"), policy)
    };
    let exempts = |digest: &str, expires: &str| {
        json!({
            "digest": digest,
            "reason": "INC-42",
            "expires": expires,
        })
    };
    let attempt = |store: Store| {
        answered(&api.create(
            &test.namespace.name,
            &object(test, "Pod", "exempt", &unsigned, As::Volume),
            store,
        ))
    };
    let later = "2999-01-01T00:00:00Z";
    let mut attempts = Attempts::new(test);
    // In a namespace's own policy there is no such field, and a pattern is no digest.
    let mut own = scene.policy("own", &scene.repository("**"), &["a"], CLI_BUILDER, "a");
    own["spec"]["exemptions"] = json!([exempts(digest, later)]);
    test.namespace
        .try_apply(&own.to_string())
        .refused("unknown field");
    kubectl(["apply", "-f", "-"])
        .stdin(policy("any", exempts("*", later)).to_string())
        .run()
        .refused("spec.exemptions[0].digest");
    let expired = apply(&policy("expired", exempts(digest, "2026-01-01T00:00:00Z")));
    attempts.make("it has expired", "NoSignatures", || attempt(Store::Yes));
    wait_for("an event", Duration::from_secs(20), || {
        let events = test
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
        (!events.ok().is_empty()).then_some(())
    });
    drop(expired);
    let other = apply(&policy(
        "other",
        exempts(&format!("sha256:{}", "0".repeat(64)), later),
    ));
    attempts.make("it is for another digest", "NoSignatures", || {
        attempt(Store::No)
    });
    let exempt = apply(&policy("exempt", exempts(digest, later)));
    attempts.make(
        "one policy exempts, another does not",
        "NoSignatures",
        || attempt(Store::No),
    );
    drop(other);
    wait_for("one policy to be left", Duration::from_secs(20), || {
        (attempt(Store::No) == "Admitted").then_some(())
    });
    drop(exempt);
    attempts.are(36);
}

#[test]
fn a_dry_run_has_the_same_verdict_and_writes_nothing() {
    let Some((scene, unsigned)) = governed("a_dry_run_has_the_same_verdict_and_writes_nothing")
    else {
        return;
    };
    let (api, test) = (Api::new(), &scene.test);
    let mut attempts = Attempts::new(test);
    attempts.make("tried", "NoSignatures", || {
        answered(&api.create(
            &test.namespace.name,
            &object(test, "Pod", "tried", &unsigned, As::Volume),
            Store::No,
        ))
    });
    attempts.make("meant", "NoSignatures", || {
        answered(&api.create(
            &test.namespace.name,
            &object(test, "Pod", "meant", &unsigned, As::Volume),
            Store::Yes,
        ))
    });
    let events = || {
        test.namespace
            .kubectl(["get", "events", "-o", "json"])
            .run()
            .json()["items"]
            .clone()
    };
    let about = |name: &str| {
        events()
            .as_array()
            .expect("a list")
            .iter()
            .filter(|event| event["involvedObject"]["name"] == name)
            .count()
    };
    wait_for(
        "the event of what was meant",
        Duration::from_secs(20),
        || (about("meant") > 0).then_some(()),
    );
    assert_eq!(about("tried"), 0, "{:#}", events());
    attempts.are(37);
}

#[test]
fn every_way_to_write_an_object_has_the_same_verdict() {
    let Some((scene, unsigned)) = governed("every_way_to_write_an_object_has_the_same_verdict")
    else {
        return;
    };
    let (api, test) = (Api::new(), &scene.test);
    running(test);
    let pod = |name: &str| object(test, "Pod", name, &unsigned, As::Volume);
    let namespace = &test.namespace;
    let mut attempts = Attempts::new(test);
    attempts.make("server-side apply", "NoSignatures", || {
        told(
            &namespace
                .kubectl(["apply", "--server-side", "-f", "-"])
                .stdin(pod("applied").to_string())
                .run(),
        )
    });
    attempts.make("a name that the server gives", "NoSignatures", || {
        let mut pod = pod("ignored");
        pod["metadata"] = json!({"generateName": "tried-"});
        answered(&api.create(&namespace.name, &pod, Store::Yes))
    });
    attempts.make("a large object", "NoSignatures", || {
        let mut pod = pod("large");
        let words: Vec<Value> = (0..290)
            .map(|n| json!({"name": format!("E{n}"), "value": "x".repeat(10_000)}))
            .collect();
        pod["spec"]["containers"][0]["env"] = words.into();
        answered(&api.create(&namespace.name, &pod, Store::No))
    });
    attempts.make("YAML in the request", "NoSignatures", || {
        let path = format!("/api/v1/namespaces/{}/pods", namespace.name);
        answered(&api.send("POST", &path, "application/yaml", pod("yaml").to_string()))
    });
    attempts.make("a JSON patch", "NoSignatures", || {
        let change =
            json!([{"op": "replace", "path": "/spec/containers/0/image", "value": unsigned}]);
        answered(&api.send(
            "PATCH",
            &path(test, "pods", "web"),
            "application/json-patch+json",
            change.to_string(),
        ))
    });
    attempts.make("a command in a running Pod", "Admitted", || {
        told(&namespace.kubectl(["exec", "web", "--", "true"]).run())
    });
    attempts.make("its end", "Admitted", || {
        told(&namespace.kubectl(["delete", "pod", "web"]).run())
    });
    attempts.are(43);
}
