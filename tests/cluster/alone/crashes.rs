//! The leading controller dies at every point of a `PackedBundle`'s life, and the end is the same:
//! one pack Job, one sign Job, one bundle.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

use packgate::core::job::JobRunKey;
use serde_json::{Value, json};

use super::{
    gate::Gate,
    leader::{self, TAKEN_OVER},
    processes::{Process, stop_each},
};
use crate::support::{
    Test,
    bundle::{PACKED, packed_bundle},
    installation::NAMESPACE,
    namespace::list_everywhere,
    program::Program,
    requests::Held,
    wait::wait_for,
};

/// How long all points may take to be reached, all at once.
const REACHED: Duration = Duration::from_mins(2);

/// Where the controller is when it dies.
struct Point {
    /// The bundle that is there.
    bundle: &'static str,
    stop: Stop,
    /// What was made for it by then.
    made: &'static [&'static str],
}

enum Stop {
    /// It is about to send this write, which the gate holds.
    Before(&'static str),
    /// The same, while a Pod of this component runs.
    While(&'static str, &'static str),
    /// It waits for a Pod of this component, which runs.
    Running(&'static str),
    /// It has nothing to do.
    Ready,
}

impl Stop {
    const fn write(&self) -> Option<&'static str> {
        match self {
            Self::Before(write) | Self::While(_, write) => Some(write),
            Self::Running(_) | Self::Ready => None,
        }
    }

    /// The component of the Pod that stands still.
    const fn pod(&self) -> Option<&'static str> {
        match self {
            Self::While(component, _) | Self::Running(component) => Some(component),
            Self::Before(_) | Self::Ready => None,
        }
    }
}

const LOCK: &str = "ConfigMap lock";
const INPUTS: &str = "ConfigMap pack";
const PACK: &str = "Job pack";
const CREDENTIAL: &str = "Secret sign";
const SIGN: &str = "Job sign";

/// In the order of a life.
const POINTS: [Point; 13] = [
    Point {
        bundle: "applied",
        stop: Stop::Before("create ConfigMap lock"),
        made: &[],
    },
    Point {
        bundle: "frozen",
        stop: Stop::Before("status -"),
        made: &[LOCK],
    },
    Point {
        bundle: "told",
        stop: Stop::Before("create ConfigMap pack"),
        made: &[LOCK],
    },
    Point {
        bundle: "inputs",
        stop: Stop::Before("create Job pack"),
        made: &[LOCK, INPUTS],
    },
    Point {
        bundle: "pack-job",
        stop: Stop::While("pack", "status Packing"),
        made: &[LOCK, INPUTS, PACK],
    },
    Point {
        bundle: "pack-running",
        stop: Stop::Running("pack"),
        made: &[LOCK, INPUTS, PACK],
    },
    Point {
        bundle: "packed",
        stop: Stop::Before("create Secret sign"),
        made: &[LOCK, INPUTS, PACK],
    },
    Point {
        bundle: "credential",
        stop: Stop::Before("create Job sign"),
        made: &[LOCK, INPUTS, PACK, CREDENTIAL],
    },
    Point {
        bundle: "sign-job",
        stop: Stop::While("sign", "status Signing"),
        made: &[LOCK, INPUTS, PACK, CREDENTIAL, SIGN],
    },
    Point {
        bundle: "sign-running",
        stop: Stop::Running("sign"),
        made: &[LOCK, INPUTS, PACK, CREDENTIAL, SIGN],
    },
    Point {
        bundle: "signed",
        stop: Stop::Before("delete Secret sign"),
        made: &[LOCK, INPUTS, PACK, CREDENTIAL, SIGN],
    },
    Point {
        bundle: "verified",
        stop: Stop::Before("status Succeeded"),
        made: &[LOCK, INPUTS, PACK, SIGN],
    },
    Point {
        bundle: "ready",
        stop: Stop::Ready,
        made: &[LOCK, INPUTS, PACK, SIGN],
    },
];

/// The Pod is gone with its node: the other replica takes over when the Lease runs out.
#[test]
fn the_leader_is_lost_at_every_point() {
    let Some(test) = start("the_leader_is_lost_at_every_point") else {
        return;
    };
    let lose = |lost: &str| {
        leader::process(lost).kill();
        leader::remove(lost);
    };
    die_at_every_point(&test, lose, |lost, begun| {
        let now = wait_for("another leader", TAKEN_OVER, || {
            Some(leader::holder()).filter(|holder| holder != lost)
        });
        println!(
            "the Lease went from {lost} to {now} after {:?}",
            begun.elapsed()
        );
    });
    leader::settled();
}

/// The process dies, and is started again in its Pod: it is the leader still, and goes on at once.
#[test]
fn the_leader_is_started_again_at_every_point() {
    let Some(test) = start("the_leader_is_started_again_at_every_point") else {
        return;
    };
    die_at_every_point(
        &test,
        |killed| leader::process(killed).kill(),
        |killed, _| assert_eq!(leader::holder(), killed),
    );
    leader::settled();
}

/// `None`, and why, where no process can be killed.
pub(super) fn start(name: &'static str) -> Option<Test> {
    let test = Test::start(name)?;
    if !test.cluster.own {
        println!("{name}: not run, the processes of an existing cluster are out of reach");
        return None;
    }
    test.installation();
    Some(test)
}

/// Brings one bundle to each point, all at once, and calls `kill`, then `after` with the time of
/// death. The end is what it always is.
fn die_at_every_point(test: &Test, kill: impl FnOnce(&str), after: impl FnOnce(&str, Instant)) {
    leader::settled();
    let gate = Gate::before(
        test,
        POINTS
            .iter()
            .filter_map(|point| Some((point.bundle, point.stop.write()?))),
    );
    let objects = Objects::prepare(test);
    let jobs = JobWatch::start(test);
    let begun = Instant::now();
    // Their Pods live for some hundredths of a second; held at the registry, they live until they
    // were stopped.
    let held_there = hold(test);
    test.namespace.apply(&Objects::bundles(
        test,
        POINTS.iter().map(|point| point.bundle),
    ));
    let frozen = freeze(test, &objects);
    drop(held_there);
    let held = wait_for("every bundle at its point", REACHED, || {
        let round = gate.rounds();
        is_everywhere(test, &gate).then_some(())?;
        let made = made(test);
        // Sent back meanwhile? They will all be there again.
        (round == gate.rounds()).then_some((round, made))
    });
    println!("every point was reached after {:?}", begun.elapsed());
    let (round, made) = held;
    for point in &POINTS {
        assert_eq!(
            made.get(point.bundle).cloned().unwrap_or_default(),
            point.made.iter().copied().collect(),
            "{}: not where it should be",
            point.bundle
        );
    }
    let leader = leader::holder();
    kill(&leader);
    let killed = Instant::now();
    assert_eq!(
        round,
        gate.rounds(),
        "the writes were sent back before the kill; the machine is too slow for this test"
    );
    gate.open();
    for process in frozen {
        process.signal("CONT");
    }
    after(&leader, killed);
    all_ready(test);
    println!("all are ready {:?} after the kill", killed.elapsed());
    jobs.saw_each_once(test);
    let thrown_away = gate
        .seen()
        .into_iter()
        .filter(|write| write.what.starts_with("delete Job"))
        .collect::<Vec<_>>();
    assert_eq!(thrown_away, [], "a Job was thrown away");
    objects.digest_of_all(test);
    the_end_is_the_same(test);
}

fn is_everywhere(test: &Test, gate: &Gate) -> bool {
    let labels = format!("packgate.dev/bundle-namespace={}", test.namespace.name);
    let pods = list_everywhere("pods", &labels);
    let runs = |bundle: &str, component: &str| {
        let labels = |pod: &Value| {
            pod["metadata"]["labels"]["packgate.dev/bundle"] == bundle
                && pod["metadata"]["labels"]["app.kubernetes.io/component"] == component
        };
        pods.iter()
            .any(|pod| labels(pod) && pod["status"]["phase"] == "Running")
    };
    let bundles = test
        .namespace
        .kubectl(["get", "packedbundles", "-o", "json"])
        .run()
        .json();
    let ready = |name: &str| {
        bundles["items"]
            .as_array()
            .expect("a list")
            .iter()
            .any(|bundle| leader::name(bundle) == name && is_ready(bundle))
    };
    let held = gate.held();
    let missing: Vec<&str> = POINTS
        .iter()
        .filter(|point| {
            let held = point
                .stop
                .write()
                .is_none_or(|_| held.iter().any(|bundle| bundle == point.bundle));
            let running = point
                .stop
                .pod()
                .is_none_or(|component| runs(point.bundle, component));
            let done = !matches!(point.stop, Stop::Ready) || ready(point.bundle);
            !(held && running && done)
        })
        .map(|point| point.bundle)
        .collect();
    if !missing.is_empty() {
        println!("not there yet: {}", missing.join(" "));
        thread::sleep(Duration::from_millis(500));
    }
    missing.is_empty()
}

fn is_ready(bundle: &Value) -> bool {
    let conditions = bundle["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Keeps the Pods that are to be running when the controller dies waiting for the registry: a pack
/// Job's with its first upload, a sign Job's with its look at what is there.
fn hold(test: &Test) -> Held {
    let wait = |point: &Point| {
        let path = format!("/v2/{}/{}", test.namespace.name, point.bundle);
        Some(if point.stop.pod()? == "pack" {
            format!("POST {path}/blobs/uploads/")
        } else {
            format!("GET {path}/referrers/")
        })
    };
    let requests: Vec<String> = POINTS.iter().filter_map(wait).collect();
    test.requests()
        .expect("the cluster is ours")
        .hold(&requests)
}

/// Stops the Pods that are to be running when the controller dies, as soon as their processes are
/// there.
fn freeze(test: &Test, objects: &Objects) -> Vec<Process> {
    let running = POINTS
        .iter()
        .filter_map(|point| Some((point.bundle, point.stop.pod()?)));
    let hosts: Vec<String> = running
        .map(|(bundle, component)| format!("packgate-{}-{component}-", objects.run(test, bundle)))
        .collect();
    stop_each(&hosts, REACHED)
}

/// Of what the controller makes for each bundle, what is there.
fn made(test: &Test) -> BTreeMap<String, BTreeSet<&'static str>> {
    let there = list_everywhere(
        "configmaps,jobs.batch,secrets",
        &format!(
            "packgate.dev/bundle-namespace={},packgate.dev/run",
            test.namespace.name
        ),
    );
    let mut made = BTreeMap::<String, BTreeSet<&'static str>>::new();
    for object in there {
        let label = |name: &str| {
            object["metadata"]["labels"][name]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let name = format!(
            "{} {}",
            object["kind"].as_str().unwrap_or_default(),
            label("app.kubernetes.io/component")
        );
        let known = [LOCK, INPUTS, PACK, CREDENTIAL, SIGN]
            .into_iter()
            .find(|known| *known == name);
        made.entry(label("packgate.dev/bundle"))
            .or_default()
            .insert(known.unwrap_or_else(|| panic!("{name} is nothing that the controller makes")));
    }
    made
}

pub(super) fn all_ready(test: &Test) {
    let seconds = format!("--timeout={}s", PACKED.as_secs());
    let wait = [
        "wait",
        "packedbundle",
        "--all",
        "--for=condition=Ready",
        &seconds,
    ];
    test.namespace
        .kubectl(wait)
        .timeout(PACKED + Duration::from_secs(10))
        .run()
        .ok();
}

/// What the bundles are made of: a lock, and a credential that the registry does not ask for.
pub(super) struct Objects {
    digest: String,
    lock_digest: String,
}

impl Objects {
    pub(super) fn prepare(test: &Test) -> Self {
        let lock = test.lock(
            &test.cluster.registry,
            "crashed",
            &[("a.txt", "one\n"), ("b/c.txt", "two\n")],
        );
        let plan = test
            .packgate(&format!("plan {} -o json", lock.path.display()))
            .json();
        let digest = |value: &Value| value.as_str().expect("a digest").to_owned();
        test.namespace.apply(&lock.config_map("lock"));
        test.grant();
        let login = json!({
            "auths": {&test.cluster.registry: {"username": "anybody", "password": "secret"}},
        })
        .to_string();
        let push = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "push"},
            "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": login},
        });
        test.namespace.apply(&push.to_string());
        Self {
            digest: digest(&plan["digest"]),
            lock_digest: digest(&plan["lockDigest"]),
        }
    }

    /// The bundles of these names, each with a repository of its own.
    pub(super) fn bundles<'a>(test: &Test, names: impl IntoIterator<Item = &'a str>) -> String {
        let bundle = |name: &str| {
            let mut bundle =
                packed_bundle(name, "lock", &test.repository(&test.cluster.registry, name));
            bundle["spec"]["destination"]["secretRef"] = json!({"name": "push"});
            bundle
        };
        json!({
            "apiVersion": "v1",
            "kind": "List",
            "items": names.into_iter().map(bundle).collect::<Vec<_>>(),
        })
        .to_string()
    }

    fn run(&self, test: &Test, bundle: &str) -> JobRunKey {
        let object = test
            .namespace
            .get("packedbundle", bundle)
            .expect("a PackedBundle");
        let uid = object["metadata"]["uid"].as_str().expect("a UID");
        JobRunKey::new(uid, 1, &self.lock_digest.parse().expect("a digest"))
    }

    /// Every bundle is what `plan` says, tagged, and vouched for once.
    pub(super) fn digest_of_all(&self, test: &Test) {
        let tag = format!("lock-{}", &self.lock_digest["sha256:".len()..][..12]);
        for bundle in test
            .namespace
            .kubectl(["get", "packedbundles", "-o", "json"])
            .run()
            .json()["items"]
            .as_array()
            .expect("a list")
        {
            let name = leader::name(bundle);
            let repository = test.repository(&test.cluster.registry, &name);
            assert_eq!(
                bundle["status"]["bundle"]["reference"],
                format!("{repository}:{tag}@{}", self.digest),
                "{bundle:#}"
            );
            let history = bundle["status"]["history"].as_array().expect("a history");
            assert_eq!(
                history
                    .iter()
                    .map(|entry| entry["reason"].as_str())
                    .collect::<Vec<_>>(),
                [Some("Succeeded")],
                "{name}: {history:#?}"
            );
            assert_eq!(
                test.tool("crane", &format!("digest --insecure {repository}:{tag}"))
                    .ok(),
                self.digest,
                "{name}: the tag"
            );
            assert_eq!(
                referrers(&repository, &self.digest),
                BTreeMap::from([("provenance", 1), ("signature", 1)]),
                "{name}"
            );
        }
    }
}

/// How many there are of each kind.
fn referrers(repository: &str, digest: &str) -> BTreeMap<&'static str, usize> {
    let (host, path) = repository.split_once('/').expect("a repository");
    let index = Program::new("curl")
        .args([
            "-sf",
            &format!("http://{host}/v2/{path}/referrers/{digest}"),
        ])
        .run()
        .json();
    let mut counts = BTreeMap::new();
    for referrer in index["manifests"].as_array().expect("referrers") {
        let kind = if referrer.to_string().contains("slsa.dev/provenance") {
            "provenance"
        } else {
            "signature"
        };
        *counts.entry(kind).or_default() += 1;
    }
    counts
}

fn the_end_is_the_same(test: &Test) {
    let made = made(test);
    assert_eq!(made.len(), POINTS.len(), "{made:#?}");
    assert!(
        made.values()
            .all(|made| *made == BTreeSet::from([LOCK, INPUTS, PACK, SIGN])),
        "{made:#?}"
    );
    let first = test
        .namespace
        .get("packedbundle", "sign-running")
        .expect("a PackedBundle");
    let digest = first["status"]["bundle"]["digest"]
        .as_str()
        .expect("a digest");
    let repository = test.repository(&test.cluster.registry, "sign-running");
    test.installation()
        .vouches_for(test, &format!("{repository}@{digest}"));
    nothing_comes_of_the_same_again(test);
}

/// Applying what is there already changes nothing.
fn nothing_comes_of_the_same_again(test: &Test) {
    let versions = || {
        let all = list_everywhere(
            "jobs.batch,configmaps",
            &format!("packgate.dev/bundle-namespace={}", test.namespace.name),
        );
        let bundles = test
            .namespace
            .kubectl(["get", "packedbundles", "-o", "json"])
            .run()
            .json();
        let all = all
            .into_iter()
            .chain(bundles["items"].as_array().expect("a list").clone());
        all.map(|object| {
            (
                object["metadata"]["uid"].to_string(),
                object["metadata"]["resourceVersion"].to_string(),
            )
        })
        .collect::<BTreeMap<_, _>>()
    };
    // The cluster's own controllers may still note that the last Jobs are complete.
    let before = wait_for("a time without changes", Duration::from_secs(30), || {
        let first = versions();
        thread::sleep(Duration::from_secs(2));
        (versions() == first).then_some(first)
    });
    let objects = test
        .namespace
        .kubectl(["get", "packedbundles", "-o", "json"])
        .run();
    let mut again = objects.json();
    for item in again["items"].as_array_mut().expect("a list") {
        let applied =
            item["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
                .as_str()
                .expect("an annotation");
        *item = serde_json::from_str(applied).expect("an object");
    }
    let said = test.namespace.try_apply(&again.to_string());
    assert_eq!(
        said.ok().matches("unchanged").count(),
        POINTS.len(),
        "{said}"
    );
    thread::sleep(Duration::from_secs(3));
    assert_eq!(versions(), before, "something changed");
}

/// Every Job that ever was, by name and UID: `kubectl get --watch` into a file.
pub(super) struct JobWatch {
    process: std::process::Child,
    file: std::path::PathBuf,
}

impl JobWatch {
    pub(super) fn start(test: &Test) -> Self {
        let file = test.write("jobs", "");
        let labels = format!("packgate.dev/bundle-namespace={}", test.namespace.name);
        let columns = "custom-columns=NAME:.metadata.name,UID:.metadata.uid";
        let process = std::process::Command::new("kubectl")
            .args([
                "get",
                "jobs.batch",
                "--all-namespaces",
                "-l",
                &labels,
                "--watch",
                "--no-headers",
                "-o",
                columns,
            ])
            .stdout(std::fs::File::create(&file).expect("a file"))
            .spawn()
            .expect("kubectl");
        Self { process, file }
    }

    /// One pack Job and one sign Job for each bundle; none was made twice.
    #[track_caller]
    pub(super) fn saw_each_once(&self, test: &Test) {
        let watched = std::fs::read_to_string(&self.file).expect("a file");
        let mut uids = BTreeMap::<&str, BTreeSet<&str>>::new();
        for (name, uid) in watched
            .lines()
            .filter_map(|line| line.split_once(char::is_whitespace))
        {
            uids.entry(name).or_default().insert(uid.trim());
        }
        let bundles = test
            .namespace
            .kubectl(["get", "packedbundles", "-o", "name"])
            .run()
            .ok()
            .lines()
            .count();
        assert_eq!(
            uids.len(),
            bundles * 2,
            "a pack Job and a sign Job each: {uids:#?}"
        );
        assert!(
            uids.values().all(|uids| uids.len() == 1),
            "a Job was made twice: {uids:#?}"
        );
        let sign = list_everywhere(
            "jobs.batch",
            &format!(
                "packgate.dev/bundle-namespace={},app.kubernetes.io/component=sign",
                test.namespace.name
            ),
        );
        assert!(
            sign.iter()
                .all(|job| job["metadata"]["namespace"] == NAMESPACE),
            "{sign:#?}"
        );
        assert_eq!(sign.len(), bundles);
    }
}

impl Drop for JobWatch {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
