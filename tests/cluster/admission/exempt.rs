//! An exemption is for a digest: no tag that happens to name it is admitted, because the tag may be
//! moved before the image is pulled.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    refused::cause,
    scene::{As, CLI_BUILDER, Scene, field, object},
    timely::ClusterPolicy,
};
use crate::support::api::{Api, Store};

/// A Pod that is not scheduled before somebody takes its gate away.
fn gated(scene: &Scene, name: &str, reference: &str, used: As) -> Value {
    let mut pod = object(&scene.test, "Pod", name, reference, used);
    pod["spec"]["schedulingGates"] = json!([{"name": "packgate.dev/wait"}]);
    pod
}

#[test]
fn a_gated_pod_cannot_wait_until_an_exempted_tag_has_moved() {
    let Some(scene) = Scene::start("a_gated_pod_cannot_wait_until_an_exempted_tag_has_moved")
    else {
        return;
    };
    let (api, namespace) = (Api::new(), scene.test.namespace.name.clone());
    let by_digest = scene.pack("exempt", None);
    let (repository, digest) = by_digest.rsplit_once('@').expect("a digest");
    let by_tag = format!("{repository}:v1");
    let expires = jiff::Timestamp::now()
        .checked_add(jiff::SignedDuration::from_hours(1))
        .expect("a time");
    let name = format!("{namespace}-exempt");
    let mut policy = scene.policy("ignored", &scene.repository("**"), &["a"], CLI_BUILDER, "a");
    policy["kind"] = "ClusterBundlePolicy".into();
    policy["metadata"]["name"] = name.as_str().into();
    policy["spec"]["exemptions"] =
        json!([{"digest": digest, "reason": "INC-42", "expires": expires.to_string()}]);
    let _policy = ClusterPolicy::apply(&name, &policy);

    for used in [As::Volume, As::Container] {
        let status = api
            .create(
                &namespace,
                &gated(&scene, "by-tag", &by_tag, used),
                Store::Yes,
            )
            .expect_err("the tag of an exempted digest");
        assert_eq!(
            cause(&status),
            ("DigestRequired".to_owned(), field("spec", used)),
            "{status:?}"
        );
    }
    api.create(
        &namespace,
        &gated(&scene, "by-digest", &by_digest, As::Volume),
        Store::Yes,
    )
    .expect("the exempted digest");
    // The tag moves, the gate goes, and what runs is what was judged.
    let moved = scene.test.lock(
        &scene.test.cluster.registry,
        "moved",
        &[("a.txt", "another content\n")],
    );
    let http = scene.test.cluster.http_flag();
    scene
        .test
        .packgate(&format!(
            "pack {} --to {by_tag} {http}",
            moved.path.display()
        ))
        .ok();
    scene
        .test
        .namespace
        .kubectl([
            "patch",
            "pod",
            "by-digest",
            "--type=json",
            "-p",
            r#"[{"op": "remove", "path": "/spec/schedulingGates"}]"#,
        ])
        .run()
        .ok();
    scene.test.namespace.wait(
        "pod/by-digest",
        "jsonpath={.status.phase}=Succeeded",
        Duration::from_mins(2),
    );
    assert_eq!(
        scene.test.namespace.logs("pod/by-digest"),
        super::scene::CONTENT.trim_end()
    );
    // Nor does an update bring the tag: a waiting Pod's images may be changed.
    scene
        .test
        .namespace
        .apply(&gated(&scene, "waiting", &by_digest, As::Container).to_string());
    let patch = json!({"spec": {"containers": [{"name": "main", "image": by_tag}]}}).to_string();
    let run = scene
        .test
        .namespace
        .kubectl(["patch", "pod", "waiting", "-p", &patch])
        .run();
    assert!(
        run.code != 0
            && run
                .stderr
                .contains("spec.containers[0].image: DigestRequired"),
        "{run}"
    );
}
