//! A trust root of a TUF repository: not there yet, rotated, rolled back, expired, and well again.
//! Policies with keys alone go on throughout.

#[path = "../../it/support/tuf.rs"]
#[allow(dead_code, reason = "the file belongs to the integration tests")]
mod tuf;

use std::{sync::atomic::Ordering, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::leader::{self, TAKEN_OVER};
use crate::{
    admission::{
        root::{Root, document, keyless_policy},
        scene::{CLI_BUILDER, Scene},
        timely::{becomes, becomes_within},
    },
    support::{api::Api, installation::NAMESPACE, namespace::kubectl, wait::wait_for},
};
use tuf::{TufRepository, TufServer};

/// The repository is asked every ten seconds.
const ASKED: Duration = Duration::from_secs(40);
/// How long a root that expired is still used here.
const GRACE: SignedDuration = SignedDuration::from_secs(20);

fn later(seconds: i64) -> Timestamp {
    let now = Timestamp::from_second(Timestamp::now().as_second()).expect("a time");
    now.checked_add(SignedDuration::from_secs(seconds))
        .expect("a time")
}

fn hash(status: &Value) -> String {
    status["contentHash"].as_str().expect("a hash").to_owned()
}

/// Does this replica tell this of the root?
fn is_told(root: &Root, by: &str, says: &str) -> bool {
    let selector = format!(
        "involvedObject.kind=TrustRoot,involvedObject.name={}",
        root.name
    );
    let events = kubectl([
        "get",
        "events",
        "--all-namespaces",
        "--field-selector",
        &selector,
        "-o",
        "json",
    ])
    .run()
    .json();
    events["items"]
        .as_array()
        .expect("a list")
        .iter()
        .any(|event| {
            let text = event["message"].as_str().or_else(|| event["note"].as_str());
            event["type"] == "Warning"
                && event["reportingInstance"] == by
                && text.is_some_and(|text| text.contains(says))
        })
}

/// When the leader says that the root ends, in seconds of Unix time.
fn told_end(root: &Root) -> i64 {
    let path = format!(
        "/api/v1/namespaces/{NAMESPACE}/pods/{}:8080/proxy/metrics",
        leader::holder()
    );
    let metrics = kubectl(["get", "--raw", &path]).run().ok().to_owned();
    let name = format!("name=\"{}\"", root.name);
    let line = metrics.lines().find(|line| {
        line.starts_with("packgate_expiry_timestamp_seconds{") && line.contains(&name)
    });
    let line = line.unwrap_or_else(|| panic!("nothing of {} in:\n{metrics}", root.name));
    line.rsplit_once(' ')
        .expect("a value")
        .1
        .split('.')
        .next()
        .and_then(|seconds| seconds.parse().ok())
        .expect("seconds")
}

#[test]
fn a_repositorys_root_is_rotated_rolled_back_and_expires() {
    let Some(scene) = Scene::start("a_repositorys_root_is_rotated_rolled_back_and_expires") else {
        return;
    };
    let test = &scene.test;
    let (Some(sigstore), Some(ip)) = (test.sigstore(), test.cluster.node_ip.clone()) else {
        return println!("not run: needs its own cluster");
    };
    let api = Api::new();
    leader::settled();
    let (signed, keyed) = (
        scene.pack_keyless("account/x", &sigstore),
        scene.pack("keyed/x", Some("a")),
    );
    let good = document(&sigstore);
    let mut other = good.clone();
    other["certificateAuthorities"] = other["timestampAuthorities"].clone();
    let (good, other) = (good.to_string(), other.to_string());
    let far = later(3_600).to_string();
    let mut repository = TufRepository::new(&good, &far);
    let server = TufServer::start_at(&ip, &repository.files);
    let is_admitted_by_key = || becomes(&scene, &api, &keyed, None);

    // Nobody answers.
    server.behaviour.fails.store(true, Ordering::SeqCst);
    let root = Root::fetched(
        test,
        &server.url(),
        &repository.root(1),
        &format!("{}s", GRACE.as_secs()),
    );
    let policies = [
        keyless_policy(&scene, "account", "account/**", &root, "default"),
        scene.policy(
            "keyed",
            &scene.repository("keyed/**"),
            &["a"],
            CLI_BUILDER,
            "a",
        ),
    ];
    scene.enforce(&policies);
    root.becomes("False", "TrustRootUnavailable", "");
    becomes(&scene, &api, &signed, Some("TrustRootUnavailable"));
    is_admitted_by_key();
    server.behaviour.fails.store(false, Ordering::SeqCst);
    println!(
        "a root: admitted after {:?}",
        becomes_within(ASKED, &scene, &api, &signed, None)
    );
    let first = hash(&root.becomes("True", "Succeeded", "it is valid and ready for use"));

    // Other keys, and another root: judged anew.
    repository.rotate();
    repository.publish(&other, &far);
    println!(
        "rotated: refused after {:?}",
        becomes_within(ASKED, &scene, &api, &signed, Some("UntrustedChain"))
    );
    wait_for("another hash", ASKED, || {
        (hash(&root.status()) != first).then_some(())
    });
    let old = repository.files.lock().expect("no panic").clone();
    repository.publish(&good, &far);
    println!(
        "rotated again: admitted after {:?}",
        becomes_within(ASKED, &scene, &api, &signed, None)
    );
    wait_for("the first hash", ASKED, || {
        (hash(&root.status()) == first).then_some(())
    });

    // Yesterday's metadata, though its signatures and its time are good. What was kept outlives the
    // controller that knew it.
    let new = std::mem::replace(&mut *repository.files.lock().expect("no panic"), old);
    let status = root.becomes("True", "Succeeded", "rollback");
    println!("rolled back: {}", status["conditions"][0]["message"]);
    assert_eq!(hash(&status), first);
    wait_for("an event", ASKED, || {
        is_told(&root, &leader::holder(), "rollback").then_some(())
    });
    becomes(&scene, &api, &signed, None);
    let (before, _) = leader::settled();
    leader::remove(&before);
    wait_for("another leader", TAKEN_OVER, || {
        (leader::holder() != before).then_some(())
    });
    wait_for("the new leader knows it too", ASKED, || {
        is_told(&root, &leader::holder(), "rollback").then_some(())
    });
    assert_eq!(hash(&root.becomes("True", "Succeeded", "rollback")), first);
    becomes(&scene, &api, &signed, None);
    is_admitted_by_key();
    *repository.files.lock().expect("no panic") = new;

    // It expires while nobody answers: used for the grace, and no longer.
    let expires = later(35);
    repository.publish(&good, &expires.to_string());
    wait_for("a root that ends soon", ASKED, || {
        (root.status()["notAfter"] == expires.to_string()).then_some(())
    });
    server.behaviour.fails.store(true, Ordering::SeqCst);
    assert_eq!(told_end(&root), expires.as_second());
    root.becomes("True", "Succeeded", "the last good root is used until");
    wait_for("its end", ASKED, || {
        (Timestamp::now() > expires).then_some(())
    });
    becomes(&scene, &api, &signed, None);
    let end = expires.checked_add(GRACE).expect("a time");
    assert!(
        Timestamp::now() < end,
        "this machine is too slow to see the grace"
    );
    becomes_within(ASKED, &scene, &api, &signed, Some("TrustRootExpired"));
    let late = Timestamp::now().duration_since(end);
    println!("expired: refused {late:?} after its grace");
    assert!(late.is_positive(), "refused while the grace lasts");
    root.becomes("False", "TrustRootExpired", "expired");
    is_admitted_by_key();

    // Well again.
    server.behaviour.fails.store(false, Ordering::SeqCst);
    repository.publish(&good, &far);
    println!(
        "renewed: admitted after {:?}",
        becomes_within(ASKED, &scene, &api, &signed, None)
    );
    root.becomes("True", "Succeeded", "it is valid and ready for use");
}
