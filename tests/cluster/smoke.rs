//! Does the harness itself work, before packgate is installed?

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Test,
    namespace::{kubectl, random_name},
    program::Program,
    server::FileServer,
};

/// A Job that keeps every rule of the `restricted` pod security standard.
fn job(name: &str, image: &str, command: &Value) -> String {
    let security = json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true,
        "runAsUser": 65532,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    });
    let container =
        json!({"name": "main", "image": image, "command": command, "securityContext": security});
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {
            "backoffLimit": 0,
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": false,
                    "containers": [container],
                },
            },
        },
    })
    .to_string()
}

#[test]
fn a_job_runs_packgates_image() {
    let Some(test) = Test::start("a_job_runs_packgates_image") else {
        return;
    };
    test.namespace.apply(&job(
        "version",
        &test.cluster.packgate,
        &json!(["/packgate", "version"]),
    ));
    test.namespace
        .wait("job/version", "condition=Complete", Duration::from_secs(90));
    let printed = test.namespace.logs("job/version");
    assert!(
        printed.starts_with(concat!("packgate ", env!("CARGO_PKG_VERSION"))),
        "{printed}"
    );
}

/// The static binary resolves names and reaches registries: what a Job of packgate's does first.
#[test]
fn packgate_in_a_pod_reaches_the_registry() {
    let Some(test) = Test::start("packgate_in_a_pod_reaches_the_registry") else {
        return;
    };
    let lock = test.lock(&test.cluster.registry, "seen", &[("a.txt", "one\n")]);
    let origin = lock
        .text
        .lines()
        .find_map(|line| line.trim().strip_prefix("origin: oci://"))
        .expect("an origin")
        .trim_matches('"')
        .to_owned();
    let mut command = vec!["/packgate", "inspect", &origin];
    command.extend(test.cluster.http_flag().split_whitespace());
    test.namespace
        .apply(&job("inspect", &test.cluster.packgate, &json!(command)));
    test.namespace
        .wait("job/inspect", "condition=Complete", Duration::from_secs(90));
    let printed = test.namespace.logs("job/inspect");
    assert!(printed.contains("a.txt"), "{printed}");
}

#[test]
fn pods_reach_the_servers_of_tests() {
    let Some(test) = Test::start("pods_reach_the_servers_of_tests") else {
        return;
    };
    let Some(ip) = &test.cluster.node_ip else {
        return println!("not run: pods do not reach this machine");
    };
    let server = FileServer::start(ip, &[("/file", "from a test\n")]);
    test.namespace.apply(&job(
        "get",
        &test.cluster.busybox,
        &json!(["wget", "-q", "-O", "-", server.url("/file")]),
    ));
    test.namespace
        .wait("job/get", "condition=Complete", Duration::from_mins(1));
    assert_eq!(test.namespace.logs("job/get"), "from a test");
    assert_eq!(server.asked(), ["/file"]);
}

#[test]
fn requests_are_seen_from_a_mark_on() {
    let Some(test) = Test::start("requests_are_seen_from_a_mark_on") else {
        return;
    };
    let repository = test.repository(&test.cluster.registry, "marked-files");
    let Some(before) = test.requests() else {
        return;
    };
    test.lock(&test.cluster.registry, "marked", &[("a.txt", "two\n")]);
    let after = test.requests().expect("as before");
    assert!(
        before
            .done(&repository, "PUT")
            .iter()
            .any(|request| request.path.ends_with("/manifests/v1"))
    );
    assert!(after.done(&repository, "PUT").is_empty());
}

#[test]
fn a_namespace_ends_with_its_test() {
    let Some(test) = Test::start("a_namespace_ends_with_its_test") else {
        return;
    };
    let name = test.namespace.name.clone();
    let phase = || {
        kubectl([
            "get",
            "namespace",
            &name,
            "--ignore-not-found",
            "-o",
            "jsonpath={.status.phase}",
        ])
        .run()
        .ok()
        .to_owned()
    };
    assert_eq!(phase(), "Active");
    drop(test);
    assert_ne!(phase(), "Active");
    assert_ne!(random_name(), random_name());
}

#[test]
fn a_program_that_takes_too_long_is_ended() {
    let run = Program::new("sleep")
        .arg("60")
        .timeout(Duration::from_millis(50))
        .run();
    assert_eq!(run.code, -1, "{run}");
    run.refused("after 50ms");
    Program::new("sh")
        .args(["-c", "cat; echo problem >&2; exit 3"])
        .stdin("text")
        .run()
        .refused("problem")
        .refused("text");
}
