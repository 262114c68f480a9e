//! The webhook is replaced, is not there at all, and changes its certificate: nothing unproved gets
//! in, and nothing proved is kept out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use packgate::api::webhook::{ROTATE_REQUESTED_ANNOTATION, TLS_SECRET, WEBHOOK_CONFIGURATION_NAME};
use serde_json::{Value, json};

use crate::{
    admission::scene::{As, CLI_BUILDER, Scene, object},
    support::{
        Test,
        api::{self, Api, Store},
        installation::{NAMESPACE, helm},
        namespace::{Namespace, kubectl},
        program::Program,
        wait::wait_for,
    },
};

/// A Deployment is there, or gone.
const SETTLED: Duration = Duration::from_mins(2);
/// Requests a second while the certificate changes.
const RATE: u32 = 50;

fn system(line: &str) -> String {
    kubectl(
        ["--namespace", NAMESPACE]
            .into_iter()
            .chain(line.split(' ')),
    )
    .timeout(SETTLED)
    .run()
    .ok()
    .to_owned()
}

/// A Pod that no node takes: it is only there to be admitted.
fn pod(test: &Test, reference: &str) -> Value {
    let mut pod = object(test, "Pod", "ignored", reference, As::Volume);
    pod["metadata"] = json!({"generateName": "tried-"});
    pod["spec"]["nodeSelector"] = json!({"packgate.dev/nowhere": "true"});
    pod
}

fn scene(name: &'static str) -> Option<(Scene, String, String)> {
    let scene = Scene::start(name)?;
    scene.enforce(&[scene.policy("p", &scene.repository("**"), &["a"], CLI_BUILDER, "a")]);
    let (signed, unsigned) = (
        scene.pack("signed", Some("a")),
        scene.pack("unsigned", None),
    );
    Some((scene, signed, unsigned))
}

/// Creates one signed and one unsigned Pod every second, until it is stopped.
struct Attempts {
    stop: Arc<AtomicBool>,
    running: thread::JoinHandle<(usize, Vec<String>)>,
}

impl Attempts {
    fn start(scene: &Scene, signed: &str, unsigned: &str) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let (ends, namespace) = (Arc::clone(&stop), scene.test.namespace.name.clone());
        let (signed, unsigned) = (pod(&scene.test, signed), pod(&scene.test, unsigned));
        let running = thread::spawn(move || {
            let (api, mut made, mut faults) = (Api::new(), 0, Vec::new());
            while !ends.load(Ordering::SeqCst) {
                if let Err(status) = api.create(&namespace, &signed, Store::Yes) {
                    faults.push(format!("signed, and refused: {status:?}"));
                }
                if api.create(&namespace, &unsigned, Store::Yes).is_ok() {
                    faults.push("unsigned, and admitted".to_owned());
                }
                made += 1;
                thread::sleep(Duration::from_secs(1));
            }
            (made, faults)
        });
        Self { stop, running }
    }

    /// How many pairs there were, and what went wrong.
    fn end(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::SeqCst);
        self.running.join().expect("no panic")
    }
}

#[test]
fn upgrades_let_nothing_unsigned_in_and_keep_nothing_signed_out() {
    let Some((scene, signed, unsigned)) =
        scene("upgrades_let_nothing_unsigned_in_and_keep_nothing_signed_out")
    else {
        return;
    };
    let revision = || {
        let list = Program::new("helm")
            .args(["list", "--namespace", NAMESPACE, "-o", "json"])
            .run()
            .json();
        list[0]["revision"].as_str().expect("a revision").to_owned()
    };
    let first = revision();
    let attempts = Attempts::start(&scene, &signed, &unsigned);
    // A value that every Pod reads at its start: all of them are replaced.
    let run = helm(
        &scene.test.cluster,
        &["upgrade", "--wait"],
        &json!({"signing": {"allowNone": true}}),
    );
    assert_eq!(run.code, 0, "{run}");
    let args = [
        "rollback",
        "packgate",
        &first,
        "--namespace",
        NAMESPACE,
        "--wait",
        "--timeout",
        "120s",
    ];
    Program::new("helm")
        .args(args)
        .timeout(SETTLED + SETTLED)
        .run()
        .ok();
    // Replicas that are to end still answer for a while.
    thread::sleep(Duration::from_secs(5));
    let (made, faults) = attempts.end();
    println!(
        "{made} pairs during upgrade and rollback, {} faults",
        faults.len()
    );
    assert!(made > 5 && faults.is_empty(), "{made} pairs: {faults:#?}");
}

#[test]
fn without_the_webhook_only_what_is_governed_waits() {
    let Some((scene, signed, unsigned)) = scene("without_the_webhook_only_what_is_governed_waits")
    else {
        return;
    };
    let (api, namespace) = (Api::new(), scene.test.namespace.name.clone());
    system("scale deployment packgate-webhook packgate-controller --replicas=0");
    for component in ["webhook", "controller"] {
        system(&format!(
            "wait pods -l app.kubernetes.io/component={component} --for=delete --timeout=60s"
        ));
    }
    for reference in [&signed, &unsigned] {
        let status = api
            .create(&namespace, &pod(&scene.test, reference), Store::Yes)
            .expect_err("nobody can say that it is proved");
        assert!(status.message.contains("uses.packgate.dev"), "{status:?}");
    }
    // Where the cluster and packgate itself start.
    let mut plain = pod(&scene.test, &unsigned);
    for system_namespace in ["kube-system", NAMESPACE] {
        plain["metadata"] = json!({"name": "test-starts"});
        api.create(system_namespace, &plain, Store::No)
            .unwrap_or_else(|status| panic!("{system_namespace}: {status:?}"));
    }
    // What no policy governs: containers are Allow, image volumes Warn.
    let busybox = object(
        &scene.test,
        "Pod",
        "plain",
        &scene.test.cluster.busybox,
        As::Container,
    );
    api.create(&namespace, &busybox, Store::Yes)
        .expect("no policy governs it");
    let elsewhere = pod(
        &scene.test,
        &format!("plain.test:5001/elsewhere@sha256:{}", "0".repeat(64)),
    );
    api.create(&namespace, &elsewhere, Store::Yes)
        .expect("no policy governs it");
    // What only this namespace's policy governs, in another namespace: as an image volume and in a
    // container.
    let other = Namespace::create();
    for reference in [&signed, &unsigned] {
        for used in [As::Volume, As::Container] {
            let mut pod = object(&scene.test, "Pod", "other", reference, used);
            pod["metadata"] = json!({"generateName": "other-"});
            api.create(&other.name, &pod, Store::Yes)
                .unwrap_or_else(|status| panic!("{}: {status:?}", other.name));
        }
    }
    // What is there can be scaled and deleted.
    let deployment = object(
        &scene.test,
        "Deployment",
        "scaled",
        &scene.test.cluster.busybox,
        As::Container,
    );
    api.create(&namespace, &deployment, Store::Yes)
        .expect("no policy governs it");
    scene
        .test
        .namespace
        .kubectl(["scale", "deployment", "scaled", "--replicas=2"])
        .run()
        .ok();
    scene
        .test
        .namespace
        .kubectl(["delete", "deployment", "scaled"])
        .run()
        .ok();
    scene
        .test
        .namespace
        .kubectl(["delete", "pod", "plain", "--wait=false"])
        .run()
        .ok();
    system("scale deployment packgate-webhook packgate-controller --replicas=2");
    let begun = Instant::now();
    wait_for("the webhook to answer again", SETTLED, || {
        api.create(&namespace, &pod(&scene.test, &signed), Store::No)
            .ok()
    });
    println!("back after {:?}", begun.elapsed());
    assert!(
        api.create(&namespace, &pod(&scene.test, &unsigned), Store::No)
            .is_err(),
        "and it judges"
    );
    for deployment in ["packgate-webhook", "packgate-controller"] {
        system(&format!(
            "rollout status deployment/{deployment} --timeout=90s"
        ));
    }
}

#[test]
fn a_bundle_policy_for_everything_widens_its_own_namespace_only() {
    let Some(scene) = Scene::start("a_bundle_policy_for_everything_widens_its_own_namespace_only")
    else {
        return;
    };
    let host = |n: usize| format!("r{n}.example.com/**");
    let mut many = scene.policy("many", &host(0), &["a"], CLI_BUILDER, "a");
    many["spec"]["match"]["references"] = json!((0..33).map(host).collect::<Vec<_>>());
    let expression = |name: &str| {
        let configuration = kubectl([
            "get",
            "validatingwebhookconfiguration",
            WEBHOOK_CONFIGURATION_NAME,
            "-o",
            "json",
        ])
        .run()
        .json();
        let entry = configuration["webhooks"]
            .as_array()
            .expect("entries")
            .iter()
            .find(|entry| entry["name"] == name)?;
        Some(
            entry["matchConditions"][0]["expression"]
                .as_str()
                .expect("an expression")
                .to_owned(),
        )
    };
    let before = expression("uses.packgate.dev");
    scene.enforce(&[scene.policy("all", "**", &["a"], CLI_BUILDER, "a"), many]);
    assert_eq!(
        expression("uses.packgate.dev"),
        before,
        "what everybody waits for"
    );
    let own = expression("namespaced-uses.packgate.dev").expect("an entry");
    assert!(
        own.contains(&format!(
            "request.namespace in ['{}']",
            scene.test.namespace.name
        )),
        "{own}"
    );
    // The API server asks here, and nowhere else.
    let (api, other) = (Api::new(), Namespace::create());
    let busybox = object(
        &scene.test,
        "Pod",
        "plain",
        &scene.test.cluster.busybox,
        As::Container,
    );
    let status = api
        .create(&scene.test.namespace.name, &busybox, Store::No)
        .expect_err("it is governed here");
    assert!(
        status.message.contains("namespaced-uses.packgate.dev"),
        "{status:?}"
    );
    api.create(&other.name, &busybox, Store::No)
        .expect("it is not governed there");
}

#[test]
fn a_certificate_changes_without_a_failed_review() {
    let Some((scene, signed, _)) = scene("a_certificate_changes_without_a_failed_review") else {
        return;
    };
    let api = Api::new();
    let shown = || {
        system(&format!(
            "get secret {TLS_SECRET} -o jsonpath={{.data.tls\\.crt}}"
        ))
    };
    let before = shown();
    let (asked, failed) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let (stop, client) = (Arc::<AtomicBool>::default(), api.client());
    let (namespace, tried) = (scene.test.namespace.name.clone(), pod(&scene.test, &signed));
    let load = thread::spawn({
        let (asked, failed, stop) = (Arc::clone(&asked), Arc::clone(&failed), Arc::clone(&stop));
        move || {
            api.block_on(async {
                let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
                let mut tasks = tokio::task::JoinSet::new();
                // It ends by itself, whatever becomes of the test.
                let end = Instant::now() + Duration::from_mins(3);
                while !stop.load(Ordering::SeqCst) && Instant::now() < end {
                    ticks.tick().await;
                    let (client, namespace, tried) =
                        (client.clone(), namespace.clone(), tried.clone());
                    let (asked, failed) = (Arc::clone(&asked), Arc::clone(&failed));
                    tasks.spawn(async move {
                        asked.fetch_add(1, Ordering::SeqCst);
                        if let Err(status) =
                            api::create(&client, &namespace, &tried, Store::No).await
                        {
                            println!("refused: {status:?}");
                            failed.fetch_add(1, Ordering::SeqCst);
                        }
                    });
                }
                tasks.join_all().await;
            });
        }
    });
    thread::sleep(Duration::from_secs(3));
    for round in ["one", "two"] {
        let known = shown();
        system(&format!(
            "annotate secret {TLS_SECRET} {ROTATE_REQUESTED_ANNOTATION}={}-{round} --overwrite",
            scene.test.namespace.name
        ));
        wait_for("another certificate", Duration::from_mins(1), || {
            (shown() != known).then_some(())
        });
        thread::sleep(Duration::from_secs(5));
    }
    stop.store(true, Ordering::SeqCst);
    load.join().expect("no panic");
    let (asked, failed) = (asked.load(Ordering::SeqCst), failed.load(Ordering::SeqCst));
    println!("{asked} reviews while the certificate changed twice, {failed} failed");
    assert_ne!(shown(), before);
    assert!(asked > 500 && failed == 0, "{failed} of {asked} failed");
}
