//! What people do with a `PackedBundle` day by day: hold it, ask for it again, change it, mend it,
//! and watch it.

use std::time::Duration;

use packgate::core::digest::Digest;
use serde_json::{Value, json};

use crate::support::{
    Test,
    bundle::{PACKED, packed_bundle},
    installation::NAMESPACE,
    namespace::kubectl,
    progress::{SOON, children, condition, history, text, uid},
    server::FileServer,
    wait::wait_for,
};

const FILES: [(&str, &str); 1] = [("opt/hello.txt", "hello\n")];
const OTHER: [(&str, &str); 2] = [
    ("opt/hello.txt", "hello again\n"),
    ("opt/more.txt", "more\n"),
];
const READY: &str = "True Succeeded";

/// Applies a `PackedBundle` with this spec beside source and destination, of a lock with these
/// files. Returns its repository.
fn apply(test: &Test, name: &str, spec: &Value) -> String {
    let registry = &test.cluster.registry;
    test.namespace
        .apply(&test.lock(registry, name, &FILES).config_map(name));
    let repository = test.repository(registry, name);
    let mut bundle = packed_bundle(name, name, &repository);
    for (key, value) in spec.as_object().expect("fields") {
        bundle["spec"][key] = value.clone();
    }
    test.namespace.apply(&bundle.to_string());
    repository
}

#[test]
fn a_suspended_bundle_waits() {
    let Some(test) = Test::start("a_suspended_bundle_waits") else {
        return;
    };
    test.installation();
    let repository = apply(&test, "held", &json!({"suspend": true}));
    let bundle = test.not_ready("held", "Suspended", SOON);
    test.nothing_came_of(&bundle, &repository);
    assert!(
        children("jobs,configmaps,secrets", uid(&bundle)).is_empty(),
        "something was begun"
    );
    test.change("held", &json!({"suspend": false}));
    test.ready("held");

    test.change(
        "held",
        &json!({"suspend": true, "destination": {"tag": "v2"}}),
    );
    let held = test.until("held", "the change is seen", SOON, |bundle| {
        bundle["status"]["observedGeneration"] == 3
    });
    assert_eq!(
        condition(&held, "Ready"),
        READY,
        "what is known stays known"
    );
    assert_eq!(history(&held), ["Succeeded"], "a run of a suspended object");
    assert!(!test.tags(&repository).iter().any(|tag| tag == "v2"));
}

#[test]
fn a_request_makes_nothing_anew_that_is_good() {
    let Some(test) = Test::start("a_request_makes_nothing_anew_that_is_good") else {
        return;
    };
    test.installation();
    let repository = apply(&test, "asked", &json!({}));
    let before = test.ready("asked");
    let jobs = children("jobs", uid(&before));
    assert_eq!(jobs.len(), 2, "{jobs:?}");
    let log = test.requests();
    test.request("asked");
    if let Some(log) = &log {
        wait_for("the registry is asked for the bundle", SOON, || {
            (!log.done(&repository, "GET").is_empty()).then_some(())
        });
        assert!(
            log.done(&repository, "PUT").is_empty(),
            "something was pushed"
        );
    }
    let after = test.ready("asked");
    assert_eq!(children("jobs", uid(&after)), jobs);
    assert_eq!(
        after["status"]["conditions"], before["status"]["conditions"],
        "it was never not ready"
    );
    assert_eq!(history(&after), ["Succeeded"]);
}

#[test]
fn a_failed_run_is_made_anew_when_its_fault_is_mended() {
    let Some(test) = Test::start("a_failed_run_is_made_anew_when_its_fault_is_mended") else {
        return;
    };
    let Some(ip) = &test.cluster.node_ip else {
        return println!("not run: pods do not reach this machine");
    };
    test.installation();
    let (good, bad) = ("good", "evil");
    let server = FileServer::start(ip, &[("/file", bad)]);
    let artifact = json!({"name": "file", "type": "http", "origin": server.url("/file"),
        "target": "opt/file", "size": good.len(),
        "checksum": Digest::of_bytes(good.as_bytes()).to_string()});
    let lock = json!({
        "apiVersion": "packgate.dev/v1alpha1",
        "kind": "Lockfile",
        "name": "mended",
        "version": "1.0.0",
        "artifacts": [artifact],
    });
    let repository = test.repository(&test.cluster.registry, "mended");
    let mut bundle = packed_bundle("mended", "", &repository);
    bundle["spec"]["source"] = json!({"inline": lock.to_string()});
    test.namespace.apply(&bundle.to_string());
    let failed = test.not_ready("mended", "ChecksumMismatch", PACKED);
    assert_eq!(condition(&failed, "Stalled"), "True ChecksumMismatch");
    test.nothing_came_of(&failed, &repository);
    let first = children("jobs", uid(&failed));
    assert_eq!(first.len(), 1, "{first:?}");
    let asked = server.asked().len();
    assert_eq!(asked, 1, "a wrong checksum is not fetched again");

    server.put("/file", good);
    test.request("mended");
    let mended = test.ready("mended");
    assert_eq!(condition(&mended, "Stalled"), "");
    assert_eq!(history(&mended), ["Succeeded", "ChecksumMismatch"]);
    assert!(
        children("jobs", uid(&mended)).is_disjoint(&first),
        "the failed Job is still there"
    );
}

#[test]
fn changes_give_new_runs_and_old_ones_go() {
    let Some(test) = Test::start("changes_give_new_runs_and_old_ones_go") else {
        return;
    };
    test.installation();
    let repository = apply(
        &test,
        "changing",
        &json!({"history": {"succeeded": 1, "failed": 1}}),
    );
    let first = test.ready("changing");
    let digest = text(&first["status"]["bundle"]["digest"]).to_owned();
    let oldest = children("jobs", uid(&first));

    // The same lock under another name is another run, with the same bytes.
    test.change("changing", &json!({"destination": {"tag": "v1"}}));
    let second = test.until("changing", "the new tag", PACKED, |bundle| {
        bundle["status"]["bundle"]["tag"] == "v1"
    });
    assert_eq!(second["status"]["bundle"]["digest"], digest.as_str());
    assert_eq!(history(&second), ["Succeeded", "Succeeded"]);
    let jobs = wait_for("old and new Jobs", SOON, || {
        Some(children("jobs", uid(&first))).filter(|jobs| jobs.len() == 4)
    });
    assert!(oldest.is_subset(&jobs), "the run before is kept: {jobs:?}");

    // Another lock in the ConfigMap counts when somebody asks. The tag may not move, so it gets
    // none.
    let other = test.lock(&test.cluster.registry, "changing", &OTHER);
    test.namespace.apply(&other.config_map("changing"));
    test.request("changing");
    let refused = test.not_ready("changing", "TagConflict", PACKED);
    assert_eq!(condition(&refused, "Stalled"), "True TagConflict");
    assert_eq!(
        test.tool("crane", &format!("digest --insecure {repository}:v1"))
            .ok(),
        digest,
        "the tag was moved"
    );
    assert_eq!(history(&refused), ["TagConflict", "Succeeded", "Succeeded"]);

    test.change("changing", &json!({"destination": {"tag": null}}));
    let last = test.until("changing", "the new lock", PACKED, |bundle| {
        condition(bundle, "Ready") == READY && bundle["status"]["lock"]["artifacts"] == OTHER.len()
    });
    assert_ne!(last["status"]["bundle"]["digest"], digest.as_str());
    assert_eq!(
        history(&last),
        ["Succeeded", "TagConflict", "Succeeded", "Succeeded"]
    );
    // Kept are the current run, one that succeeded before and one that failed: two Jobs each, and
    // three snapshots.
    wait_for("the oldest run goes", SOON, || {
        let jobs = children("jobs", uid(&last));
        (jobs.len() == 6 && jobs.is_disjoint(&oldest)).then_some(())
    });
    let snapshots = kubectl([
        "--namespace",
        NAMESPACE,
        "get",
        "configmaps",
        "-o",
        "name",
        "-l",
        &format!("packgate.dev/bundle-uid={}", uid(&last)),
    ]);
    assert_eq!(snapshots.run().ok().lines().count(), 3);
}

#[test]
fn what_is_lost_is_packed_again_and_what_was_moved_is_told() {
    let Some(test) = Test::start("what_is_lost_is_packed_again_and_what_was_moved_is_told") else {
        return;
    };
    let installation = test.installation();
    let repository = apply(&test, "kept", &json!({}));
    let first = test.ready("kept");
    let (digest, tag) = (
        text(&first["status"]["bundle"]["digest"]).to_owned(),
        text(&first["status"]["bundle"]["tag"]).to_owned(),
    );
    let jobs = children("jobs", uid(&first));

    test.tool("crane", &format!("delete --insecure {repository}:{tag}"))
        .ok();
    test.tool("crane", &format!("delete --insecure {repository}@{digest}"))
        .ok();
    test.tool(
        "crane",
        &format!("manifest --insecure {repository}@{digest}"),
    )
    .refused("");
    test.request("kept");
    let again = test.until("kept", "packed again", PACKED, |bundle| {
        condition(bundle, "Ready") == READY && history(bundle).len() == 3
    });
    assert_eq!(
        history(&again),
        ["Succeeded", "SourceNotFound", "Succeeded"]
    );
    let anew = children("jobs", uid(&again));
    assert!(
        anew.len() == 2 && anew.is_disjoint(&jobs),
        "the same Jobs: {anew:?}"
    );
    assert_eq!(again["status"]["bundle"], first["status"]["bundle"]);
    installation.vouches_for(&test, &format!("{repository}@{digest}"));

    let other = test.lock(&test.cluster.registry, "other", &OTHER);
    test.packgate(&format!(
        "pack {} --to {repository}:other {}",
        other.path.display(),
        test.cluster.http_flag()
    ))
    .ok();
    let moved = test
        .tool("crane", &format!("digest --insecure {repository}:other"))
        .ok()
        .to_owned();
    test.tool(
        "crane",
        &format!("tag --insecure {repository}@{moved} {tag}"),
    )
    .ok();
    test.request("kept");
    let told = test.not_ready("kept", "TagConflict", SOON);
    assert_eq!(condition(&told, "Stalled"), "True TagConflict");
    assert_eq!(
        test.tool("crane", &format!("digest --insecure {repository}:{tag}"))
            .ok(),
        moved,
        "a tag that somebody moved is not moved back"
    );
    assert_eq!(children("jobs", uid(&told)), children("jobs", uid(&again)));
}

#[test]
fn bundles_are_verified_again_without_a_word() {
    let Some(test) = Test::start("bundles_are_verified_again_without_a_word") else {
        return;
    };
    test.installation();
    let Some(_) = test.requests() else { return };
    let repository = apply(&test, "watched", &json!({"interval": "10s"}));
    let ready = test.ready("watched");
    let version = |bundle: &Value| text(&bundle["metadata"]["resourceVersion"]).to_owned();
    for _ in 0..2 {
        let log = test.requests().expect("as before");
        wait_for("it is verified again", Duration::from_secs(30), || {
            (!log.done(&repository, "GET").is_empty()).then_some(())
        });
        std::thread::sleep(Duration::from_secs(1)); // whatever would be written, is
        assert_eq!(
            version(&test.bundle("watched")),
            version(&ready),
            "nothing changed, and something was written"
        );
    }
    let digest = text(&ready["status"]["bundle"]["digest"]);
    test.tool("crane", &format!("delete --insecure {repository}@{digest}"))
        .ok();
    test.until("watched", "packed again, unasked", PACKED, |bundle| {
        condition(bundle, "Ready") == READY && history(bundle).len() == 3
    });
}

#[test]
fn people_can_watch() {
    let Some(test) = Test::start("people_can_watch") else {
        return;
    };
    test.installation();
    let repository = apply(&test, "watched", &json!({}));
    let bundle = test.ready("watched");
    let digest = text(&bundle["status"]["bundle"]["digest"]);

    let events = [
        "get",
        "events",
        "--field-selector",
        "involvedObject.name=watched,involvedObject.kind=PackedBundle",
        "-o",
    ];
    let reasons = ["jsonpath={range .items[*]}{.type}/{.reason}{\"\\n\"}{end}"];
    wait_for("the events", SOON, || {
        let run = test
            .namespace
            .kubectl(events.iter().chain(&reasons).copied())
            .run();
        let mut told: Vec<_> = run.ok().lines().map(str::to_owned).collect();
        told.sort();
        (told
            == [
                "Normal/LockFrozen",
                "Normal/Packed",
                "Normal/Ready",
                "Normal/Signed",
            ])
        .then_some(())
    });

    let columns = |flags: &[&str]| -> Vec<Vec<String>> {
        let run = test
            .namespace
            .kubectl(
                ["get", "pb", "watched"]
                    .into_iter()
                    .chain(flags.iter().copied()),
            )
            .run();
        run.ok()
            .lines()
            .map(|line| line.split_whitespace().map(str::to_owned).collect())
            .collect()
    };
    let narrow = columns(&[]);
    assert_eq!(
        narrow[0],
        ["NAME", "READY", "REASON", "VERIFIED", "TAG", "AGE"]
    );
    let tag = text(&bundle["status"]["bundle"]["tag"]);
    assert_eq!(
        narrow[1][..5],
        ["watched", "True", "Succeeded", "True", tag]
    );
    let wide = columns(&["-o", "wide"]);
    assert_eq!(wide[0][6..], ["REPOSITORY", "DIGEST", "MESSAGE"]);
    assert_eq!(wide[1][6..8], [repository.as_str(), digest]);
    test.namespace.kubectl(["get", "packgate"]).run().ok();

    let explained = kubectl(["explain", "packedbundle.spec.destination"]).run();
    for expected in [
        "It cannot be changed",
        "tagPolicy",
        "Default: `Immutable`",
        "secretRef",
        "-required-",
    ] {
        assert!(
            explained.ok().contains(expected),
            "{expected} is not explained: {explained}"
        );
    }

    let metrics = leaders_metrics();
    let value = |metric: &str| -> f64 {
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix(metric))
            .unwrap_or_else(|| panic!("no {metric} in:\n{metrics}"));
        line.trim().parse().expect("a number")
    };
    assert!(value("packgate_packedbundles{ready=\"True\",reason=\"Succeeded\"}") >= 1.0);
    for step in ["pack", "sign"] {
        assert!(
            value(&format!(
                "packgate_job_duration_seconds_count{{step=\"{step}\",result=\"Succeeded\"}}"
            )) >= 1.0
        );
        assert!(
            value(&format!(
                "packgate_job_duration_seconds_sum{{step=\"{step}\",result=\"Succeeded\"}}"
            )) > 0.0
        );
    }
}

/// Only the replica that leads knows anything.
fn leaders_metrics() -> String {
    let lease = kubectl([
        "--namespace",
        NAMESPACE,
        "get",
        "lease",
        "packgate-controller",
        "-o",
        "jsonpath={.spec.holderIdentity}",
    ])
    .run();
    let path = format!(
        "/api/v1/namespaces/{NAMESPACE}/pods/{}:8080/proxy/metrics",
        lease.ok()
    );
    kubectl(["get", "--raw", &path]).run().ok().to_owned()
}
