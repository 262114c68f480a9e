//! Installed, upgraded, rolled back, stopped, removed and installed again: what is ready stays so,
//! and what packgate made goes with it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    Test,
    bundle::packed_bundle,
    installation::{Installation, NAMESPACE, PLATFORM_KEY, TEST_OBJECTS, helm, published},
    namespace::kubectl,
    program::{Program, Run},
    progress::{children, condition, text, uid},
    wait::wait_for,
};

const FILES: [(&str, &str); 1] = [("opt/hello.txt", "hello\n")];
/// How soon another replica leads, the garbage collector has collected, or the sweep has swept.
const SETTLED: Duration = Duration::from_mins(2);

fn system(line: &str) -> Run {
    kubectl(
        ["--namespace", NAMESPACE]
            .into_iter()
            .chain(line.split(' ')),
    )
    .timeout(SETTLED)
    .run()
}

fn holder() -> String {
    system("get lease packgate-controller -o jsonpath={.spec.holderIdentity}")
        .ok()
        .to_owned()
}

/// Waits until a Pod that is there leads.
fn is_led() {
    wait_for("a Pod that is there leads", SETTLED, || {
        let holder = holder();
        (!holder.is_empty()
            && system(&format!("get pod {holder} --ignore-not-found -o name")).ok() != "")
            .then_some(())
    });
}

/// What the Secret with the platform's key holds.
fn key() -> String {
    system(&format!(
        "get secret {PLATFORM_KEY} -o jsonpath={{.data}}{{.metadata.uid}}"
    ))
    .ok()
    .to_owned()
}

fn same_platform(installation: &Installation, private: &str) {
    assert_eq!(published("cosign.pub"), installation.public_key);
    assert_eq!(published("builder.id"), installation.builder_id);
    assert!(
        key() == private,
        "the Secret with the platform's key is another"
    ); // never printed
}

fn revision() -> u64 {
    let list = Program::new("helm")
        .args(["list", "--namespace", NAMESPACE, "-o", "json"])
        .run()
        .json();
    text(&list[0]["revision"]).parse().expect("a number")
}

fn rollback(to: u64, flag: &str) {
    let to = to.to_string();
    let args = [
        "rollback",
        "packgate",
        &to,
        "--namespace",
        NAMESPACE,
        "--wait",
        "--timeout",
        "120s",
        flag,
    ];
    Program::new("helm")
        .args(args)
        .timeout(SETTLED + SETTLED)
        .run()
        .ok();
}

fn pack(test: &Test, name: &str) {
    test.namespace.apply(
        &packed_bundle(name, "lock", &test.repository(&test.cluster.registry, name)).to_string(),
    );
}

/// A bundle that was ready once, and all that must not change after that.
struct Steady {
    ready: Value,
    jobs: Vec<String>,
}

impl Steady {
    fn new(test: &Test, name: &str) -> Self {
        pack(test, name);
        let ready = test.ready(name);
        let jobs = children("jobs", uid(&ready)).into_iter().collect();
        Self { ready, jobs }
    }

    /// The time in a condition tells whether it ever was otherwise.
    fn still(&self, test: &Test) {
        let now = test.bundle(text(&self.ready["metadata"]["name"]));
        assert_eq!(uid(&now), uid(&self.ready));
        assert_eq!(
            now["status"]["conditions"],
            self.ready["status"]["conditions"]
        );
        assert_eq!(now["status"]["history"], self.ready["status"]["history"]);
    }

    fn same_jobs(&self) {
        assert_eq!(
            children("jobs", uid(&self.ready))
                .into_iter()
                .collect::<Vec<_>>(),
            self.jobs
        );
    }
}

#[test]
fn upgraded_rolled_back_stopped_removed_and_installed_again() {
    let Some(test) = Test::start("upgraded_rolled_back_stopped_removed_and_installed_again") else {
        return;
    };
    let installation = test.installation();
    is_led();
    let private = key();
    test.namespace.apply(
        &test
            .lock(&test.cluster.registry, "lock", &FILES)
            .config_map("lock"),
    );
    let steady = Steady::new(&test, "steady");
    assert!(
        left(&test)
            .iter()
            .any(|name| name.starts_with("Deployment ")),
        "this test cannot see what is installed"
    );

    upgraded(&test);
    same_platform(installation, &private);
    steady.still(&test);
    steady.same_jobs();
    pack(&test, "after-upgrade");
    test.ready("after-upgrade");

    stopped(&test, &steady);
    removed(&test);
    same_platform(installation, &private);
    steady.still(&test);

    let again = helm(
        &test.cluster,
        &["upgrade", "--install", "--wait"],
        &json!({}),
    );
    assert_eq!(again.code, 0, "{again}");
    is_led();
    same_platform(installation, &private);
    // The lock is frozen again, which shows that the controller has looked; the bundle is there, so
    // nobody packs.
    wait_for("the lock is frozen", SETTLED, || {
        (!children("configmaps", uid(&steady.ready))
            .iter()
            .all(|name| !name.starts_with(NAMESPACE)))
        .then_some(())
    });
    test.request("steady");
    steady.still(&test);
    let pack_jobs: Vec<_> = steady
        .jobs
        .iter()
        .filter(|job| !job.starts_with(NAMESPACE))
        .cloned()
        .collect();
    assert_eq!(
        children("jobs", uid(&steady.ready))
            .into_iter()
            .collect::<Vec<_>>(),
        pack_jobs,
        "its sign Job went with the installation"
    );
    pack(&test, "after-all");
    test.ready("after-all");
}

/// Another value, the same values, the same by helm's older way, and back by both ways.
fn upgraded(test: &Test) {
    let first = revision();
    let (holder_before, tenants) = (
        holder(),
        json!({"tenants": [test.namespace.name], "controller": {"replicas": 3}}),
    );
    for flags in [
        &["upgrade", "--wait"][..],
        &["upgrade", "--wait"],
        &["upgrade", "--wait", "--server-side=false"],
    ] {
        let run = helm(&test.cluster, flags, &tenants);
        assert_eq!(run.code, 0, "{run}");
        assert_eq!(
            holder(),
            holder_before,
            "{flags:?} took the lease from its holder"
        );
    }
    assert!(
        test.namespace
            .get("rolebinding", "packgate-controller")
            .is_some(),
        "a value that was changed has no effect"
    );
    assert_eq!(
        system("get deployment packgate-controller -o jsonpath={.status.readyReplicas}").ok(),
        "3"
    );
    // A value that every Pod reads at its start: all of them are replaced, the leader too.
    let run = helm(
        &test.cluster,
        &["upgrade", "--wait"],
        &json!({"signing": {"allowNone": true}}),
    );
    assert_eq!(run.code, 0, "{run}");
    is_led();
    rollback(first, "--server-side=false");
    is_led();
    rollback(first + 1, "--server-side=true");
    is_led();
    rollback(first, "--server-side=true");
    is_led();
    assert!(
        test.namespace
            .get("rolebinding", "packgate-controller")
            .is_none(),
        "rollback leaves what the upgrade brought"
    );
}

/// While no controller runs, objects go at once; what they leave behind goes when one runs again.
fn stopped(test: &Test, steady: &Steady) {
    let gone = test.bundle("after-upgrade");
    assert!(gone["metadata"]["finalizers"].is_null());
    system("scale deployment packgate-controller --replicas=0").ok();
    system("wait pods -l app.kubernetes.io/component=controller --for=delete --timeout=60s").ok();
    // As an interrupted run leaves it.
    let labels = json!({
        "app.kubernetes.io/managed-by": "packgate-controller",
        "packgate.dev/bundle-uid": uid(&gone), "packgate.dev/bundle": "after-upgrade",
        "packgate.dev/bundle-namespace": test.namespace.name,
    });
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "test-left-behind", "namespace": NAMESPACE, "labels": labels},
    });
    kubectl(["apply", "-f", "-"])
        .stdin(secret.to_string())
        .run()
        .ok();

    let began = Instant::now();
    test.namespace
        .kubectl(["delete", "packedbundle", "after-upgrade", "--timeout=20s"])
        .run()
        .ok();
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "it took {:?}",
        began.elapsed()
    );
    let orphans = children("jobs,configmaps,secrets", uid(&gone))
        .into_iter()
        .filter(|name| name.starts_with(NAMESPACE))
        .count();
    assert_eq!(orphans, 3, "a lock, a sign Job and a Secret");

    system("scale deployment packgate-controller --replicas=2").ok();
    wait_for("nothing of it is left", SETTLED, || {
        children("jobs,configmaps,secrets,pods", uid(&gone))
            .is_empty()
            .then_some(())
    });
    steady.same_jobs();
    steady.still(test);
}

fn removed(test: &Test) {
    Program::new("helm")
        .args([
            "uninstall",
            "packgate",
            "--namespace",
            NAMESPACE,
            "--wait",
            "--timeout",
            "120s",
        ])
        .timeout(SETTLED)
        .run()
        .ok();
    let expected = expected();
    let mut last = Vec::new();
    let deadline = Instant::now() + SETTLED;
    // What has an owner goes a moment after it.
    while Instant::now() < deadline {
        last = left(test)
            .into_iter()
            .filter(|name| !expected.contains(name))
            .collect();
        if last.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(last.is_empty(), "uninstall leaves {last:#?}");
    let configuration = kubectl([
        "get",
        "validatingwebhookconfiguration",
        "packgate",
        "--ignore-not-found",
        "-o",
        "name",
    ])
    .run();
    assert_eq!(
        configuration.ok(),
        "",
        "an API server that asks a webhook that is gone refuses everything"
    );
    let found = left(test);
    for name in &expected {
        assert!(found.contains(name), "uninstall takes {name} with it");
    }
    assert_eq!(condition(&test.bundle("steady"), "Ready"), "True Succeeded");
}

/// What uninstall leaves, on purpose: the definitions, with all objects of users, and the
/// platform's key, without which nothing that it signed could be verified by its name. The
/// namespace is helm's, and not part of the release.
fn expected() -> Vec<String> {
    let mut names = vec![
        format!("ConfigMap {NAMESPACE}/{PLATFORM_KEY}"),
        format!("Secret {NAMESPACE}/{PLATFORM_KEY}"),
        format!("Namespace /{NAMESPACE}"),
        "APIService /v1alpha1.packgate.dev".to_owned(),
    ];
    let kinds = [
        "bundlepolicies",
        "clusterbundlepolicies",
        "packedbundles",
        "trustroots",
    ];
    names.extend(kinds.map(|kind| format!("CustomResourceDefinition /{kind}.packgate.dev")));
    names
}

/// `KIND NAMESPACE/NAME` of every object in the cluster that has to do with packgate: whose name,
/// labels, owner, content or writer says so. Left out: events, which end by themselves, and nodes,
/// which list images; users' objects of our kinds, and in their namespaces what belongs to those,
/// the pack Jobs and their `ConfigMap`s, which go with them; and the tests' own objects.
fn left(test: &Test) -> Vec<String> {
    let kinds = kubectl(["api-resources", "--verbs=list", "-o", "name"]).run();
    let without = [
        "events",
        "events.events.k8s.io",
        "nodes",
        "packedbundles.packgate.dev",
        "bundlepolicies.packgate.dev",
    ];
    let kinds: Vec<_> = kinds
        .ok()
        .lines()
        .filter(|kind| !without.contains(kind))
        .collect();
    assert!(kinds.len() > 30, "{kinds:?}");
    let list = kubectl([
        "get",
        &kinds.join(","),
        "--all-namespaces",
        "--show-managed-fields",
        "-o",
        "json",
    ])
    .timeout(SETTLED)
    .run()
    .json();
    let items = list["items"].as_array().expect("a list");
    items
        .iter()
        .filter(|object| is_ours(test, object))
        .map(name)
        .collect()
}

fn is_ours(test: &Test, object: &Value) -> bool {
    let metadata = &object["metadata"];
    let namespace = metadata["namespace"].as_str().unwrap_or_default();
    // Namespaces of other tests, which may be on their way out.
    let is_others = [namespace, text(&metadata["name"])].iter().any(|name| {
        (name.starts_with("test-") || *name == "quickstart") && *name != test.namespace.name
    });
    let is_childs = namespace == test.namespace.name
        && !metadata["labels"]["packgate.dev/bundle-uid"].is_null();
    let is_lock = namespace == test.namespace.name
        && object["kind"] == "ConfigMap"
        && metadata["name"] == "lock";
    let is_tests = TEST_OBJECTS.contains(&text(&metadata["name"]));
    if is_others && namespace != NAMESPACE || is_childs || is_lock || is_tests {
        return false;
    }
    // The namespace of an object says nothing: Kubernetes itself puts an account and its
    // certificates into each.
    let mut said = object.clone();
    said["metadata"]["namespace"] = Value::Null;
    said.to_string().contains("packgate")
}

fn name(object: &Value) -> String {
    let metadata = &object["metadata"];
    format!(
        "{} {}/{}",
        text(&object["kind"]),
        metadata["namespace"].as_str().unwrap_or_default(),
        text(&metadata["name"])
    )
}
