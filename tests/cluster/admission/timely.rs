//! A policy that changes is in force at once, whatever was admitted before.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    refused::cause,
    scene::{As, CLI_BUILDER, Scene, object},
};
use crate::support::{
    api::{Api, Store},
    namespace::kubectl,
};

/// How soon a change must hold, on a machine that has other things to do too. It takes some tenths
/// of a second, which each test prints.
const IN_FORCE: Duration = Duration::from_secs(20);

/// Tries until the answer is this; fails if that takes too long. Returns how long it took.
#[track_caller]
pub(crate) fn becomes(
    scene: &Scene,
    api: &Api,
    reference: &str,
    expected: Option<&str>,
) -> Duration {
    becomes_within(IN_FORCE, scene, api, reference, expected)
}

/// The same, where something else has to happen first.
#[track_caller]
pub(crate) fn becomes_within(
    limit: Duration,
    scene: &Scene,
    api: &Api,
    reference: &str,
    expected: Option<&str>,
) -> Duration {
    let begun = Instant::now();
    loop {
        let answer = api.create(
            &scene.test.namespace.name,
            &object(&scene.test, "Pod", "tried", reference, As::Volume),
            Store::No,
        );
        let reason = answer.err().map(|status| cause(&status).0);
        if reason.as_deref() == expected {
            return begun.elapsed();
        }
        assert!(
            begun.elapsed() < limit,
            "still {reason:?}, and not {expected:?}"
        );
        thread::sleep(Duration::from_millis(50));
    }
}

/// After so many verdicts every replica has given one. A slow one's requests may still be counted
/// with the next.
const WARM_WITHIN: usize = 32;

/// Does another verdict cost no request? Also where there is no request log to look at.
fn is_warm(scene: &Scene, api: &Api, reference: &str) -> bool {
    let requests = scene.test.requests();
    becomes(scene, api, reference, None);
    requests.is_none_or(|requests| {
        requests
            .below(&format!("/v2/{}/", scene.test.namespace.name))
            .is_empty()
    })
}

fn patch(scene: &Scene, kind: &str, spec: &Value) {
    let patch = json!({"spec": spec}).to_string();
    scene
        .test
        .namespace
        .kubectl(["patch", kind, "p", "--type=merge", "-p", &patch])
        .run()
        .ok();
}

#[test]
fn a_change_of_a_policy_ends_what_was_remembered() {
    let Some(scene) = Scene::start("a_change_of_a_policy_ends_what_was_remembered") else {
        return;
    };
    let api = Api::new();
    let signed = scene.pack("x", Some("a"));
    let digest = signed.rsplit_once('@').expect("a digest").1;
    let policy = scene.policy("p", &scene.repository("**"), &["a", "b"], CLI_BUILDER, "a");
    scene.enforce(std::slice::from_ref(&policy));
    becomes(&scene, &api, &signed, None);
    assert!(
        (0..WARM_WITHIN).any(|_| is_warm(&scene, &api, &signed)),
        "a verdict that was given {WARM_WITHIN} times still asks the registry"
    );
    for (what, change, back, reason) in [
        (
            "tightened",
            json!({"threshold": 2}),
            json!({"threshold": 1}),
            "ThresholdNotMet",
        ),
        (
            "builder",
            json!({"slsa": {"minimumLevel": 3}}),
            json!({"slsa": {"minimumLevel": 1}}),
            "LevelTooLow",
        ),
        (
            "revoked",
            json!({"revocations": [{"digest": digest, "reason": "leak"}]}),
            json!({"revocations": null}),
            "Revoked",
        ),
        (
            "authority removed",
            json!({"authorities": [policy["spec"]["authorities"][1]], "slsa": null}),
            json!({"authorities": policy["spec"]["authorities"], "slsa": policy["spec"]["slsa"]}),
            "NoMatchingAuthority",
        ),
    ] {
        patch(&scene, "bundlepolicy", &change);
        println!(
            "{what}: in force after {:?}",
            becomes(&scene, &api, &signed, Some(reason))
        );
        scene.enforced("p");
        patch(&scene, "bundlepolicy", &back);
        println!(
            "{what}: taken back after {:?}",
            becomes(&scene, &api, &signed, None)
        );
    }
}

#[test]
fn a_key_that_changes_and_an_exemption_that_ends_count_at_once() {
    let Some(scene) = Scene::start("a_key_that_changes_and_an_exemption_that_ends_count_at_once")
    else {
        return;
    };
    let api = Api::new();
    let name = format!("{}-policy", scene.test.namespace.name);
    let unsigned = scene.pack("y", None);
    let digest = unsigned.rsplit_once('@').expect("a digest").1;
    let expires = jiff::Timestamp::now()
        .checked_add(jiff::SignedDuration::from_secs(25))
        .expect("a time");
    let mut policy = scene.policy("ignored", &scene.repository("**"), &["a"], CLI_BUILDER, "a");
    policy["kind"] = "ClusterBundlePolicy".into();
    policy["metadata"]["name"] = name.as_str().into();
    policy["spec"]["exemptions"] =
        json!([{"digest": digest, "reason": "INC-42", "expires": expires.to_string()}]);
    let cluster = ClusterPolicy::apply(&name, &policy);
    becomes(&scene, &api, &unsigned, None);
    while jiff::Timestamp::now() < expires {
        thread::sleep(Duration::from_millis(200));
    }
    println!(
        "exemption: over after {:?}",
        becomes(&scene, &api, &unsigned, Some("NoSignatures"))
    );
    drop(cluster);
    // A key that lies in a ConfigMap.
    let signed = scene.pack("z", Some("a"));
    let key = |key: &str| {
        let pem = std::fs::read_to_string(scene.test.file(&format!("keys-{key}/packgate.pub")))
            .expect("a key");
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "key"},
            "data": {"cosign.pub": pem},
        })
        .to_string()
    };
    let mut policy = scene.policy("p", &scene.repository("**"), &["a"], CLI_BUILDER, "a");
    policy["spec"]["authorities"][0]["key"] = json!({"configMapRef": {"name": "key"}});
    scene.enforce(&[policy]);
    println!(
        "without its key: refused after {:?}",
        becomes(&scene, &api, &signed, Some("InvalidSpec"))
    );
    scene.test.namespace.apply(&key("a"));
    println!(
        "with its key: admitted after {:?}",
        becomes(&scene, &api, &signed, None)
    );
    scene.test.namespace.apply(&key("b"));
    println!(
        "with another key: refused after {:?}",
        becomes(&scene, &api, &signed, Some("NoMatchingAuthority"))
    );
}

/// A policy of the cluster, which goes with this value.
pub(super) struct ClusterPolicy(String);

impl ClusterPolicy {
    pub(super) fn apply(name: &str, policy: &Value) -> Self {
        kubectl(["apply", "-f", "-"])
            .stdin(policy.to_string())
            .run()
            .ok();
        let policy = format!("clusterbundlepolicy/{name}");
        kubectl([
            "wait",
            "--for=condition=Enforced",
            policy.as_str(),
            "--timeout=20s",
        ])
        .run()
        .ok();
        Self(name.to_owned())
    }
}

impl Drop for ClusterPolicy {
    fn drop(&mut self) {
        kubectl(["delete", "clusterbundlepolicy", &self.0]).run();
    }
}
