//! Registries as companies have them: with their own certificates and passwords, and not always
//! there.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Test,
    bundle::{PACKED, packed_bundle},
    installation::NAMESPACE,
    namespace::kubectl,
    progress::{SOON, children, condition, history, text, uid},
    registry::{AWAY, LOCKED, OwnRegistry, PASSWORD, locked},
    wait::wait_for,
};

const FILES: [(&str, &str); 1] = [("opt/hello.txt", "hello\n")];
/// A Job gives up after its Pod was tried four times, 10, 20 and 40 seconds after each other.
const GIVEN_UP: Duration = Duration::from_mins(5);
const NOT_HERE: &str = "not run: this cluster lets tests start no registry";

fn apply(test: &Test, repository: &str, destination: &Value) {
    test.namespace.apply(
        &test
            .lock(&test.cluster.registry, "hello", &FILES)
            .config_map("hello"),
    );
    let mut bundle = packed_bundle("hello", "hello", repository);
    for (key, value) in destination.as_object().expect("fields") {
        bundle["spec"]["destination"][key] = value.clone();
    }
    test.namespace.apply(&bundle.to_string());
}

#[test]
fn a_password_is_shown_to_its_registry_only() {
    let Some(test) = Test::start("a_password_is_shown_to_its_registry_only") else {
        return;
    };
    let Some(guarded) = locked(&test.cluster) else {
        return println!("{NOT_HERE}");
    };
    let installation = test.installation();
    let elsewhere = test.requests().expect("this cluster is ours");
    test.grant();
    test.log_in();
    test.docker_secret("push", LOCKED, PASSWORD);
    let repository = test.repository(LOCKED, "hello");
    apply(
        &test,
        &repository,
        &json!({"tag": "v1", "secretRef": {"name": "push"}}),
    );
    let bundle = test.ready("hello");
    let digest = text(&bundle["status"]["bundle"]["digest"]);
    let reference = format!("{repository}@{digest}");
    test.write("platform.pub", &installation.public_key);
    for verb in ["verify", "verify-attestation --type slsaprovenance1"] {
        test.tool(
            "cosign",
            &format!("{verb} --key platform.pub --insecure-ignore-tlog {reference}"),
        )
        .ok();
    }
    assert_eq!(
        test.tool("crane", &format!("digest {repository}:v1")).ok(),
        digest,
        "the tag"
    );

    let requests = guarded.requests(&repository);
    assert!(
        requests
            .iter()
            .all(|request| !request.succeeded() || request.authorization),
        "without a password: {requests:?}"
    );
    assert!(
        requests
            .iter()
            .any(|request| request.method == "PUT" && request.succeeded()),
        "{requests:?}"
    );
    let files = format!("/v2/{}/", test.namespace.name);
    let others = elsewhere.below(&files);
    assert!(!others.is_empty(), "the files come from the other registry");
    assert!(
        others.iter().all(|request| !request.authorization),
        "the password went to the other registry: {others:?}"
    );
    assert!(
        children("secrets", uid(&bundle)).is_empty(),
        "the copy of the password is still there"
    );
    for namespace in [NAMESPACE, &test.namespace.name] {
        let said = kubectl([
            "--namespace",
            namespace,
            "get",
            "configmaps,jobs,pods,events",
            "-o",
            "yaml",
        ])
        .run();
        assert!(
            !said.ok().contains(PASSWORD),
            "the password stands in an object of {namespace}"
        );
    }
}

#[test]
fn a_wrong_password_is_told_and_a_right_one_helps() {
    let Some(test) = Test::start("a_wrong_password_is_told_and_a_right_one_helps") else {
        return;
    };
    let Some(guarded) = locked(&test.cluster) else {
        return println!("{NOT_HERE}");
    };
    test.installation();
    test.grant();
    test.log_in();
    test.docker_secret("push", LOCKED, "wrong");
    let repository = test.repository(LOCKED, "hello");
    apply(&test, &repository, &json!({"secretRef": {"name": "push"}}));
    let denied = test.not_ready("hello", "RegistryDenied", GIVEN_UP);
    assert_eq!(
        condition(&denied, "Reconciling"),
        "True RegistryDenied",
        "it is tried again"
    );
    assert_eq!(condition(&denied, "Stalled"), "");
    test.nothing_came_of(&denied, &repository);
    let failed = children("jobs", uid(&denied));
    // Seconds later the run begins again by itself, with the same password.
    wait_for("another Job", SOON, || {
        let jobs = children("jobs", uid(&denied));
        (!jobs.is_empty() && jobs.is_disjoint(&failed)).then_some(())
    });
    let requests = guarded.requests(&repository);
    assert!(
        !requests.is_empty() && requests.iter().all(|request| !request.succeeded()),
        "{requests:?}"
    );

    test.docker_secret("push", LOCKED, PASSWORD);
    test.namespace
        .kubectl([
            "annotate",
            "packedbundle",
            "hello",
            "packgate.dev/reconcile-requested-at=now",
        ])
        .run()
        .ok();
    let ready = test.ready("hello");
    assert_eq!(history(&ready), ["Succeeded", "RegistryDenied"]);
}

#[test]
fn a_registry_that_is_away_is_waited_for() {
    let Some(test) = Test::start("a_registry_that_is_away_is_waited_for") else {
        return;
    };
    if test.cluster.pki.is_none() {
        return println!("{NOT_HERE}");
    }
    let installation = test.installation();
    let repository = test.repository(AWAY, "hello");
    apply(&test, &repository, &json!({}));
    wait_for("a Pod that failed", PACKED, || {
        let pods = test
            .namespace
            .list("pods", "app.kubernetes.io/component=pack");
        pods.iter()
            .any(|pod| pod["status"]["phase"] == "Failed")
            .then_some(())
    });
    let waiting = test.bundle("hello");
    assert!(
        condition(&waiting, "Reconciling").starts_with("True "),
        "{:#}",
        waiting["status"]
    );
    assert_eq!(condition(&waiting, "Stalled"), "");

    let registry = OwnRegistry::start(&test.cluster, AWAY, &[]).expect("the cluster is ours");
    let ready = test.ready("hello");
    assert_eq!(history(&ready), ["Succeeded"], "one Job was enough");
    installation.vouches_for(
        &test,
        &format!(
            "{repository}@{}",
            text(&ready["status"]["bundle"]["digest"])
        ),
    );
    assert!(!registry.requests(&repository).is_empty());

    // Away again, a bundle that was good is still good. That nobody answers is told.
    drop(registry);
    test.request("hello");
    let away = test.until("hello", "the registry is away", SOON, |bundle| {
        condition(bundle, "Reconciling") == "True RegistryUnavailable"
    });
    assert_eq!(condition(&away, "Ready"), "True Succeeded");
    assert_eq!(condition(&away, "Verified"), "True Succeeded");
}
