//! Many `PackedBundles` at once: they all come to their end, then nothing is written, and the
//! controller stays small.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    crashes::{Objects, start},
    gate::{Gate, Write},
    leader,
};
use crate::support::{
    Test,
    bundle::packed_bundle,
    installation::NAMESPACE,
    namespace::{kubectl, list_everywhere},
    program::Program,
    wait::wait_for,
};

/// Bundles that are packed at once.
const MANY: usize = 50;
/// How long that may take where two cores run the cluster and a hundred Pods.
const ALL_READY: Duration = Duration::from_mins(6);
/// How long nothing may change then.
const IDLE: Duration = Duration::from_secs(30);
/// Objects that are there and want nothing.
const IDLING: usize = 1_000;
/// What the controller may keep in memory with them, in KiB.
const MEMORY: u64 = 64 << 10;
/// Objects with a large lock in them.
const INLINE: usize = 70;
/// Artifacts of such a lock: it stays just below the 900,000 bytes that an inline lock may have.
const LARGE_LOCK: usize = 5_000;
/// What the controller may have in memory whatever tenants do, in KiB.
const UNDER_ATTACK: u64 = 80 << 10;
/// From the start of its process until it is ready, in seconds.
const STARTED: f64 = 1.0;

#[test]
fn fifty_become_ready_then_nothing_is_written() {
    let Some(test) = start("fifty_become_ready_then_nothing_is_written") else {
        return;
    };
    leader::settled();
    let objects = Objects::prepare(&test);
    let names: Vec<String> = (0..MANY).map(|i| format!("bundle-{i:02}")).collect();
    let begun = Instant::now();
    let mut bundles: Value =
        serde_json::from_str(&Objects::bundles(&test, names.iter().map(String::as_str)))
            .expect("a list");
    for bundle in bundles["items"]
        .as_array_mut()
        .expect("a list")
        .iter_mut()
        .step_by(10)
    {
        // looked at and verified again and again while nothing changes
        bundle["spec"]["interval"] = "10s".into();
    }
    test.namespace.apply(&bundles.to_string());
    let seconds = format!("--timeout={}s", ALL_READY.as_secs());
    let wait = [
        "wait",
        "packedbundle",
        "--all",
        "--for=condition=Ready",
        &seconds,
    ];
    test.namespace
        .kubectl(wait)
        .timeout(ALL_READY + Duration::from_secs(10))
        .run()
        .ok();
    println!("{MANY} PackedBundles are ready after {:?}", begun.elapsed());
    objects.digest_of_all(&test);
    nothing_is_written(&test);
}

/// By the controller nothing is written but the Lease, though it looks again at some bundles, and
/// no object changes by anybody's hand.
fn nothing_is_written(test: &Test) {
    let gate = Gate::watching(test);
    let before = wait_for("a time without changes", Duration::from_mins(2), || {
        let first = versions(test);
        thread::sleep(Duration::from_secs(3));
        (versions(test) == first).then_some(first)
    });
    let (seen, begun) = (gate.seen().len(), Instant::now());
    thread::sleep(IDLE);
    let writes = gate.seen().split_off(seen);
    let (renewals, others): (Vec<Write>, Vec<Write>) = writes
        .into_iter()
        .partition(|write| write.what.starts_with("update Lease"));
    println!(
        "in {:?}: {} renewals of the Lease, {} other writes",
        begun.elapsed(),
        renewals.len(),
        others.len()
    );
    assert!(
        others.is_empty(),
        "written while nothing changed: {others:#?}"
    );
    assert!(renewals.len() > 5, "the gate sees no writes: {renewals:?}");
    assert_eq!(versions(test), before, "something changed");
}

/// The versions of all that is there for this test's bundles, by UID.
fn versions(test: &Test) -> BTreeMap<String, String> {
    let labels = format!("packgate.dev/bundle-namespace={}", test.namespace.name);
    let mut all = list_everywhere("jobs.batch,configmaps,secrets,pods", &labels);
    all.extend(bundles(test));
    all.iter()
        .map(|object| {
            (
                object["metadata"]["uid"].to_string(),
                object["metadata"]["resourceVersion"].to_string(),
            )
        })
        .collect()
}

fn bundles(test: &Test) -> Vec<Value> {
    let run = test
        .namespace
        .kubectl(["get", "packedbundles", "-o", "json"])
        .run();
    run.json()["items"].as_array().expect("a list").clone()
}

#[test]
fn a_thousand_idle_bundles_need_little_memory() {
    let Some(test) = start("a_thousand_idle_bundles_need_little_memory") else {
        return;
    };
    let (leader, _) = leader::settled();
    println!("with none: {} KiB", leader::process(&leader).resident());
    let suspended = |i: usize| {
        let name = format!("idle-{i:04}");
        let mut bundle = packed_bundle(
            &name,
            "lock",
            &test.repository(&test.cluster.registry, &name),
        );
        bundle["spec"]["suspend"] = true.into();
        bundle
    };
    let list = json!({
        "apiVersion": "v1",
        "kind": "List",
        "items": (0..IDLING).map(suspended).collect::<Vec<_>>(),
    })
    .to_string();
    test.namespace
        .kubectl(["create", "-f", "-"])
        .stdin(list)
        .timeout(Duration::from_mins(3))
        .run()
        .ok();
    let begun = Instant::now();
    wait_for("a word on each of them", Duration::from_mins(2), || {
        let told = bundles(&test)
            .iter()
            .filter(|bundle| bundle["status"]["conditions"][0]["reason"] == "Suspended")
            .count();
        (told == IDLING).then_some(())
    });
    println!(
        "the last of {IDLING} was noticed {:?} after it was there",
        begun.elapsed()
    );
    thread::sleep(Duration::from_secs(2));
    let (leader, standby) = leader::settled();
    let grown = leader::process(&leader).resident();
    println!(
        "with {IDLING} idle PackedBundles: {grown} KiB; the standby: {} KiB",
        leader::process(&standby).resident()
    );

    // A leader that begins with all of them is the other case.
    leader::process(&leader).kill();
    let started = start_to_ready(&leader);
    println!("ready {started:.2} s after the start of its process");
    thread::sleep(Duration::from_secs(5));
    let (leader, _) = leader::settled();
    let fresh = leader::process(&leader).resident();
    println!("started with {IDLING} idle PackedBundles: {fresh} KiB");
    test.namespace
        .kubectl(["delete", "packedbundles", "--all", "--wait=false"])
        .timeout(Duration::from_mins(3))
        .run()
        .ok();
    assert!(
        grown < MEMORY && fresh < MEMORY,
        "{grown} and {fresh} KiB, promised are {MEMORY}"
    );
    assert!(
        started < STARTED,
        "{started} s to be ready, promised is {STARTED}"
    );
}

/// Suspended objects with a large lock in them. Kept as they are they would take more than the
/// controller may have.
#[test]
fn seventy_inline_locks_need_little_memory() {
    let Some(test) = start("seventy_inline_locks_need_little_memory") else {
        return;
    };
    let artifact = |i: usize| {
        let digest = "a".repeat(64);
        format!(
            "- {{name: n{i}, type: http, origin: \"https://files.example.com/{i}\", target: f/{i}, \
                checksum: \"sha256:{digest}\", size: 1}}\n"
        )
    };
    let artifacts: String = (0..LARGE_LOCK).map(artifact).collect();
    let lock =
        format!("apiVersion: packgate.dev/v1alpha1\nkind: Lockfile\nartifacts:\n{artifacts}");
    println!("a lock of {} bytes in each of {INLINE} objects", lock.len());
    for i in 0..INLINE {
        let name = format!("inline-{i:02}");
        let mut bundle = packed_bundle(
            &name,
            "lock",
            &test.repository(&test.cluster.registry, &name),
        );
        bundle["spec"]["suspend"] = true.into();
        bundle["spec"]["source"] = json!({"inline": lock});
        test.namespace
            .kubectl(["create", "-f", "-"])
            .stdin(bundle.to_string())
            .timeout(Duration::from_mins(1))
            .run()
            .ok();
    }
    wait_for("a word on each of them", Duration::from_mins(2), || {
        let reasons = [
            "get",
            "packedbundles",
            "-o",
            "jsonpath={.items[*].status.conditions[0].reason}",
        ];
        let told = test
            .namespace
            .kubectl(reasons)
            .timeout(Duration::from_mins(1))
            .run();
        (told
            .ok()
            .split_whitespace()
            .filter(|reason| *reason == "Suspended")
            .count()
            == INLINE)
            .then_some(())
    });
    let (leader, _) = leader::settled();
    let grown = leader::process(&leader).resident();
    leader::process(&leader).kill();
    start_to_ready(&leader);
    thread::sleep(Duration::from_secs(10));
    let (leader, _) = leader::settled();
    let fresh = leader::process(&leader).resident();
    println!("with {INLINE} large inline locks: {grown} KiB; started with them: {fresh} KiB");
    test.namespace
        .kubectl(["delete", "packedbundles", "--all", "--wait=false"])
        .timeout(Duration::from_mins(3))
        .run()
        .ok();
    assert!(
        grown < UNDER_ATTACK && fresh < UNDER_ATTACK,
        "{grown} and {fresh} KiB, promised are {UNDER_ATTACK}"
    );
}

/// How old the process of this Pod is, which was killed, when it is ready again.
fn start_to_ready(pod: &str) -> f64 {
    let address = kubectl([
        "--namespace",
        NAMESPACE,
        "get",
        "pod",
        pod,
        "-o",
        "jsonpath={.status.podIP}",
    ])
    .run();
    let url = format!("http://{}:8081/readyz", address.ok());
    let deadline = Instant::now() + Duration::from_mins(1);
    while Instant::now() < deadline {
        if Program::new("curl")
            .args(["-sf", "--max-time", "1", &url])
            .run()
            .code
            == 0
        {
            return leader::process(pod).age();
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("{url}: not ready within a minute");
}
