//! Where a lock comes from, or the bundle itself: inline, a context artifact that `oras` made, and
//! bundles that were there before.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Test,
    bundle::{PACKED, packed_bundle},
    namespace::kubectl,
    progress::{SOON, children, condition, text, uid},
    registry::{LOCKED, PASSWORD, locked},
};

const FILES: [(&str, &str); 2] = [("opt/one.txt", "one\n"), ("opt/two.txt", "two\n")];
const CONTEXT: &str = "application/vnd.packgate.context.v1+json";

fn with_source(name: &str, repository: &str, source: Value) -> Value {
    let mut bundle = packed_bundle(name, "", repository);
    bundle["spec"]["source"] = source;
    bundle
}

/// What `packgate plan` says in this folder of the test's.
fn planned(test: &Test, folder: &str) -> String {
    let plan = test
        .program(env!("CARGO_BIN_EXE_packgate"), "plan lock.yaml -o json")
        .folder(&test.file(folder))
        .run();
    text(&plan.json()["digest"]).to_owned()
}

#[test]
fn a_lock_in_the_object() {
    let Some(test) = Test::start("a_lock_in_the_object") else {
        return;
    };
    let installation = test.installation();
    let registry = &test.cluster.registry;
    let lock = test.lock(registry, "inline", &FILES);
    let repository = test.repository(registry, "inline");
    test.namespace
        .apply(&with_source("inline", &repository, json!({"inline": lock.text})).to_string());
    let bundle = test.ready("inline");
    let digest = test
        .packgate(&format!("plan {} -o json", lock.path.display()))
        .json()["digest"]
        .clone();
    assert_eq!(bundle["status"]["bundle"]["digest"], digest);
    installation.vouches_for(&test, &format!("{repository}@{}", text(&digest)));
}

#[test]
fn a_file_has_no_place_to_come_from_in_an_inline_lock() {
    let Some(test) = Test::start("a_file_has_no_place_to_come_from_in_an_inline_lock") else {
        return;
    };
    test.installation();
    let (lock, _) = siem(&test);
    let repository = test.repository(&test.cluster.registry, "files");
    let run = test
        .namespace
        .try_apply(&with_source("files", &repository, json!({"inline": lock})).to_string());
    run.refused("spec.source.inline: artifacts[0].origin");
    run.refused("oras push");
    // A ConfigMap may change after the object was admitted: the controller says it then.
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "files"},
        "data": {"lock.yaml": lock},
    });
    test.namespace.apply(&map.to_string());
    test.namespace.apply(
        &with_source(
            "files",
            &repository,
            json!({"configMapRef": {"name": "files"}}),
        )
        .to_string(),
    );
    let bundle = test.not_ready("files", "InvalidLock", SOON);
    assert_eq!(condition(&bundle, "Stalled"), "True InvalidLock");
    assert!(
        bundle["status"]["conditions"][0]["message"]
            .as_str()
            .expect("text")
            .contains("oras push"),
        "{:#}",
        bundle["status"]
    );
    test.nothing_came_of(&bundle, &repository);
}

/// Writes a lock, a file and a folder below `ctx/siem`. Returns the lock and the paths that `oras
/// push` is given.
fn siem(test: &Test) -> (String, String) {
    test.write("ctx/siem/files/hello.txt", "hello\n");
    test.write("ctx/siem/files/conf/a.conf", "a = 1\n");
    test.write("ctx/siem/files/conf/deep/b.conf", "b = 2\n");
    let artifacts = json!([
        {"name": "hello", "origin": "files/hello.txt", "target": "opt/hello.txt"},
        {"name": "conf", "origin": "files/conf/", "target": "opt/conf.tar"},
    ]);
    let manifest = json!({
        "apiVersion": "packgate.dev/v1alpha1",
        "kind": "LockManifest",
        "name": "siem",
        "artifacts": artifacts,
    });
    test.write("ctx/siem/manifest.json", manifest.to_string());
    let packgate = test.program(
        env!("CARGO_BIN_EXE_packgate"),
        "lock manifest.json -f lock.yaml",
    );
    packgate.folder(&test.file("ctx/siem")).run().ok();
    let lock = std::fs::read_to_string(test.file("ctx/siem/lock.yaml")).expect("a lock");
    (
        lock,
        "siem/lock.yaml siem/files/hello.txt siem/files/conf/a.conf siem/files/conf/deep/b.conf"
            .into(),
    )
}

/// Pushes it with `oras`, and returns its digest.
fn push(test: &Test, flags: &str, repository: &str) -> String {
    let (_, paths) = siem(test);
    let line =
        format!("push {flags} --artifact-type {CONTEXT} --format json {repository}:v1 {paths}");
    text(
        &test
            .program("oras", &line)
            .folder(&test.file("ctx"))
            .run()
            .json()["digest"],
    )
    .to_owned()
}

const fn plain(test: &Test) -> &'static str {
    if test.cluster.plain_http {
        "--plain-http"
    } else {
        ""
    }
}

fn of_context(repository: &str, digest: &str) -> Value {
    json!({"ociRef": {"repository": repository, "digest": digest, "path": "siem/lock.yaml"}})
}

#[test]
fn a_context_artifact_brings_lock_and_files() {
    let Some(test) = Test::start("a_context_artifact_brings_lock_and_files") else {
        return;
    };
    let installation = test.installation();
    let registry = &test.cluster.registry;
    let context = test.repository(registry, "ctx");
    let digest = push(&test, plain(&test), &context);
    let repository = test.repository(registry, "siem");
    test.namespace
        .apply(&with_source("siem", &repository, of_context(&context, &digest)).to_string());
    let bundle = test.ready("siem");
    assert_eq!(bundle["status"]["lock"]["artifacts"], 2);
    let packed = text(&bundle["status"]["bundle"]["digest"]);
    assert_eq!(
        packed,
        planned(&test, "ctx/siem"),
        "not what the same folder on disk gives"
    );
    installation.vouches_for(&test, &format!("{repository}@{packed}"));

    let absent = test.repository(registry, "absent");
    let mut elsewhere = with_source("absent", &absent, of_context(&context, &digest));
    elsewhere["spec"]["source"]["ociRef"]["path"] = json!("lock.yaml");
    test.namespace.apply(&elsewhere.to_string());
    let bundle = test.not_ready("absent", "SourceNotFound", SOON);
    test.nothing_came_of(&bundle, &absent);
}

#[test]
fn a_context_artifact_behind_a_password() {
    let Some(test) = Test::start("a_context_artifact_behind_a_password") else {
        return;
    };
    let Some(guarded) = locked(&test.cluster) else {
        return println!("not run: this cluster lets tests start no registry");
    };
    test.installation();
    test.log_in();
    let context = test.repository(LOCKED, "ctx");
    let ca = test
        .cluster
        .pki
        .as_ref()
        .expect("it is there")
        .join("ca.crt");
    let flags = format!(
        "--ca-file {} --registry-config {}",
        ca.display(),
        test.file(".docker/config.json").display()
    );
    let digest = push(&test, &flags, &context);
    let repository = test.repository(&test.cluster.registry, "siem");
    let log = test.requests();
    let mut wish = with_source("siem", &repository, of_context(&context, &digest));
    test.namespace.apply(&wish.to_string());
    let bundle = test.not_ready("siem", "RegistryDenied", SOON);
    test.nothing_came_of(&bundle, &repository);

    wish["spec"]["source"]["ociRef"]["secretRef"] = json!({"name": "pull"});
    test.docker_secret("pull", LOCKED, PASSWORD);
    test.namespace.apply(&wish.to_string());
    let bundle = test.not_ready("siem", "SecretAccessDenied", SOON);
    test.nothing_came_of(&bundle, &repository);

    test.grant();
    test.request("siem");
    test.ready("siem");
    let pulls = guarded.requests(&context);
    assert!(
        pulls
            .iter()
            .any(|request| request.method == "GET" && request.authorization && request.succeeded()),
        "{pulls:?}"
    );
    let pushes = log
        .map(|log| log.done(&repository, "PUT"))
        .unwrap_or_default();
    assert!(
        pushes.iter().all(|request| !request.authorization),
        "the password for one registry was shown to another: {pushes:?}"
    );
}

/// A policy of the whole cluster, which ends with this value.
struct ClusterPolicy(String);

impl ClusterPolicy {
    fn apply(policy: &Value) -> Self {
        let applied = Self(text(&policy["metadata"]["name"]).to_owned());
        applied.change(policy);
        applied
    }

    /// Applies it again, and waits until it is in force.
    fn change(&self, policy: &Value) {
        let stored = kubectl(["apply", "-o", "json", "-f", "-"])
            .stdin(policy.to_string())
            .run()
            .json();
        let observed = format!(
            "jsonpath={{.status.conditions[?(@.type==\"Enforced\")].observedGeneration}}={}",
            stored["metadata"]["generation"]
        );
        let name = format!("clusterbundlepolicy/{}", self.0);
        for condition in [observed.as_str(), "condition=Enforced"] {
            kubectl([
                "wait",
                &name,
                &format!("--for={condition}"),
                "--timeout=20s",
            ])
            .run()
            .ok();
        }
    }
}

impl Drop for ClusterPolicy {
    fn drop(&mut self) {
        kubectl([
            "delete",
            "clusterbundlepolicy",
            &self.0,
            "--ignore-not-found",
        ])
        .run();
    }
}

fn policy(kind: &str, name: &str, repository: &str, key: &str) -> Value {
    json!({
        "apiVersion": "packgate.dev/v1alpha1", "kind": kind, "metadata": {"name": name},
        "spec": {
            "match": {"references": [repository]},
            "authorities": [{"name": "signer", "key": {"pem": key}}],
        },
    })
}

#[test]
fn a_context_artifact_that_must_be_verified() {
    let Some(test) = Test::start("a_context_artifact_that_must_be_verified") else {
        return;
    };
    test.installation();
    let registry = &test.cluster.registry;
    let context = test.repository(registry, "ctx");
    let digest = push(&test, plain(&test), &context);
    let repository = test.repository(registry, "siem");
    let mut wish = with_source("siem", &repository, of_context(&context, &digest));
    wish["spec"]["source"]["ociRef"]["verify"] = json!(true);
    test.namespace
        .try_apply(&wish.to_string())
        .refused("spec.source.ociRef.digest: Ungoverned");

    test.tool("cosign", "generate-key-pair").ok();
    let key = std::fs::read_to_string(test.file("cosign.pub")).expect("a key");
    let mut rule = policy("ClusterBundlePolicy", &test.namespace.name, &context, &key);
    let in_force = ClusterPolicy::apply(&rule);
    test.namespace
        .try_apply(&wish.to_string())
        .refused("spec.source.ociRef.digest: NoSignatures");
    // It comes in while the policy only audits, and waits. The controller asks again before
    // anything starts.
    rule["spec"]["mode"] = json!("Audit");
    in_force.change(&rule);
    wish["spec"]["suspend"] = json!(true);
    test.namespace.apply(&wish.to_string());
    rule["spec"]["mode"] = json!("Enforce");
    in_force.change(&rule);
    wish["spec"]["suspend"] = json!(false);
    test.namespace.apply(&wish.to_string());
    let bundle = test.not_ready("siem", "NoSignatures", SOON);
    assert_eq!(condition(&bundle, "Stalled"), "True NoSignatures");
    test.nothing_came_of(&bundle, &repository);

    for line in [
        "signing-config create --out sc.json",
        "trusted-root create --out tr.json",
    ] {
        test.tool("cosign", line).ok();
    }
    let http = if test.cluster.plain_http {
        "--allow-http-registry"
    } else {
        ""
    };
    test.tool(
        "cosign",
        &format!(
            "sign --key cosign.key --signing-config sc.json --trusted-root \
        tr.json -y {http} {context}@{digest}"
        ),
    )
    .ok();
    test.request("siem");
    test.ready("siem");
    assert_eq!(children("jobs", uid(&bundle)).len(), 2);
}

fn adoption(name: &str, reference: &str) -> String {
    let source = json!({"bundle": {"reference": reference}});
    json!({
        "apiVersion": "packgate.dev/v1alpha1", "kind": "PackedBundle", "metadata": {"name": name},
        "spec": {"source": source},
    })
    .to_string()
}

/// Applies a policy of the test's namespace, and waits until it is in force.
fn enforce(test: &Test, policy: &Value) {
    test.namespace.apply(&policy.to_string());
    let generation =
        test.namespace.get("bundlepolicy", "own").expect("a policy")["metadata"]["generation"]
            .clone();
    let observed = "jsonpath={.status.conditions[?(@.type==\"Enforced\")].observedGeneration}";
    test.namespace.wait(
        "bundlepolicy/own",
        &format!("{observed}={generation}"),
        SOON,
    );
    test.namespace
        .wait("bundlepolicy/own", "condition=Enforced", SOON);
}

#[test]
fn bundles_that_were_there_before() {
    let Some(test) = Test::start("bundles_that_were_there_before") else {
        return;
    };
    let installation = test.installation();
    let registry = &test.cluster.registry;
    let lock = test.lock(registry, "packed", &FILES);
    let signed = test.repository(registry, "packed");
    test.namespace.apply(&lock.config_map("packed"));
    test.namespace
        .apply(&packed_bundle("packed", "packed", &signed).to_string());
    let unsigned = test.repository(registry, "unsigned");
    let pack = format!(
        "pack {} --to {unsigned}:v1 {}",
        lock.path.display(),
        test.cluster.http_flag()
    );
    let digest = test
        .packgate(&pack)
        .ok()
        .rsplit_once('@')
        .expect("a digest")
        .1
        .to_owned();
    let packed = test.ready("packed");
    assert_eq!(
        packed["status"]["bundle"]["digest"],
        digest.as_str(),
        "packing twice gives the same"
    );

    let none = test.repository(registry, "ungoverned");
    test.tool(
        "crane",
        &format!("copy --insecure {unsigned}@{digest} {none}:v1"),
    )
    .ok();
    let mut own = policy("BundlePolicy", "own", &signed, &installation.public_key);
    own["spec"]["match"]["references"] = json!([signed, unsigned]);
    own["spec"]["slsa"] = json!({
        "minimumLevel": 3, "builders": [
            {"id": installation.builder_id, "authority": "signer", "level": 3},
        ], "lock": "Exact",
    });
    // They come in while the policy only audits.
    own["spec"]["mode"] = json!("Audit");
    own["spec"]["match"]["references"] = json!([signed, unsigned, none]);
    enforce(&test, &own);
    for (name, repository) in [
        ("good", &signed),
        ("unsigned", &unsigned),
        ("ungoverned", &none),
    ] {
        test.namespace
            .apply(&adoption(name, &format!("{repository}@{digest}")));
        test.ready(name);
    }
    // Another reference is verified at once, whenever the old one was.
    for repository in [&unsigned, &signed] {
        let reference = format!("{repository}@{digest}");
        test.namespace.apply(&adoption("good", &reference));
        let observed = format!("jsonpath={{.status.bundle.reference}}={reference}");
        test.namespace.wait("packedbundle/good", &observed, SOON);
    }
    own["spec"]["mode"] = json!("Enforce");
    own["spec"]["match"]["references"] = json!([signed, unsigned]);
    enforce(&test, &own);
    for (name, repository, reason) in [
        ("again", &unsigned, "NoSignatures"),
        ("elsewhere", &none, "Ungoverned"),
    ] {
        test.namespace
            .try_apply(&adoption(name, &format!("{repository}@{digest}")))
            .refused(&format!("spec.source.bundle.reference: {reason}"));
    }
    let good = test.ready("good");
    assert_eq!(condition(&good, "Verified"), "True Succeeded");
    assert_eq!(good["status"]["bundle"]["digest"], digest.as_str());
    let types: Vec<_> = good["status"]["evidence"]
        .as_array()
        .expect("evidence")
        .iter()
        .map(|found| text(&found["predicateType"]))
        .collect();
    assert!(
        types.contains(&"https://slsa.dev/provenance/v1"),
        "{types:?}"
    );
    for (name, reason) in [("unsigned", "NoSignatures"), ("ungoverned", "Ungoverned")] {
        test.request(name);
        let bundle = test.not_ready(name, reason, SOON);
        assert_eq!(condition(&bundle, "Verified"), format!("False {reason}"));
        assert_eq!(condition(&bundle, "Stalled"), format!("True {reason}"));
        assert!(children("jobs,configmaps,secrets", uid(&bundle)).is_empty());
    }
    assert!(
        children("jobs,configmaps,secrets", uid(&good)).is_empty(),
        "something was made for a bundle that is adopted"
    );

    // Who loses the evidence loses the verdict, when somebody asks.
    own["spec"]["slsa"]["builders"][0]["id"] = json!("https://ci.example.com/other");
    enforce(&test, &own);
    test.request("good");
    let refused = test.not_ready(
        "good",
        "BuilderNotTrusted",
        Duration::from_secs(20).min(PACKED),
    );
    assert_eq!(condition(&refused, "Verified"), "False BuilderNotTrusted");
}
