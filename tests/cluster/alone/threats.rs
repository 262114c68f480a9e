//! 38 and 39 of docs/threat-model.md: the registry hangs, and all of packgate is lost at once.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    admission::scene::{As, CLI_BUILDER, Scene, object},
    support::{
        Test,
        api::{Api, Store},
        installation::NAMESPACE,
        namespace::kubectl,
        threats::{Attempts, answered},
        wait::wait_for,
    },
};

/// The API server gives up after ten seconds.
const IN_TIME: Duration = Duration::from_secs(10);

/// A Pod that no node takes.
fn pod(test: &Test, reference: &str) -> Value {
    let mut pod = object(test, "Pod", "ignored", reference, As::Volume);
    pod["metadata"] = json!({"generateName": "tried-"});
    pod["spec"]["nodeSelector"] = json!({"packgate.dev/nowhere": "true"});
    pod
}

fn governed(name: &'static str) -> Option<(Scene, String)> {
    let scene = Scene::start(name)?;
    scene.enforce(&[scene.policy("p", &scene.repository("**"), &["a"], CLI_BUILDER, "a")]);
    let unsigned = scene.pack("unsigned", None);
    Some((scene, unsigned))
}

#[test]
fn a_registry_that_hangs_is_a_denial_before_the_api_server_gives_up() {
    let Some((scene, unsigned)) =
        governed("a_registry_that_hangs_is_a_denial_before_the_api_server_gives_up")
    else {
        return;
    };
    let (api, test) = (Api::new(), &scene.test);
    let Some(log) = test.requests() else { return };
    let mut attempts = Attempts::new(test);
    attempts.make("it hangs", "DeadlineExceeded", || {
        let held = log.hold(&[format!("GET /v2/{}/", test.namespace.name)]);
        let begun = Instant::now();
        let answer = answered(&api.create(&test.namespace.name, &pod(test, &unsigned), Store::Yes));
        assert!(begun.elapsed() < IN_TIME, "{:?}", begun.elapsed());
        drop(held);
        // A request is noted when it is answered, or its client is gone.
        wait_for("the request", Duration::from_secs(20), || {
            (!log
                .below(&format!("/v2/{}/", test.namespace.name))
                .is_empty())
            .then_some(())
        });
        answer
    });
    attempts.are(38);
}

#[test]
fn packgate_comes_back_by_itself_when_all_of_it_was_lost() {
    let Some((scene, unsigned)) = governed("packgate_comes_back_by_itself_when_all_of_it_was_lost")
    else {
        return;
    };
    let signed = scene.pack("signed", Some("a"));
    let (api, test) = (Api::new(), &scene.test);
    let namespace = &test.namespace.name;
    let all = [
        "--namespace",
        NAMESPACE,
        "delete",
        "pods",
        "--all",
        "--grace-period=0",
        "--force",
    ];
    kubectl(all).timeout(Duration::from_mins(1)).run().ok();
    // Where the cluster itself starts, nobody waits for packgate; its own Pods start in its own
    // namespace.
    let mut plain = pod(test, &unsigned);
    plain["metadata"] = json!({"name": "test-starts"});
    api.create("kube-system", &plain, Store::No)
        .expect("the control plane starts");
    wait_for("packgate to answer again", Duration::from_mins(2), || {
        api.create(namespace, &pod(test, &signed), Store::No).ok()
    });
    for deployment in ["packgate-webhook", "packgate-controller"] {
        let rollout = [
            "--namespace",
            NAMESPACE,
            "rollout",
            "status",
            &format!("deployment/{deployment}"),
            "--timeout=120s",
        ];
        kubectl(rollout)
            .timeout(Duration::from_secs(130))
            .run()
            .ok();
    }
    let mut attempts = Attempts::new(test);
    attempts.make("unsigned, afterwards", "NoSignatures", || {
        answered(&api.create(namespace, &pod(test, &unsigned), Store::Yes))
    });
    attempts.are(39);
}
