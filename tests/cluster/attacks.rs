//! What a tenant, a registry or a forged object can try between the two Jobs: nothing but the
//! frozen lock's own bundle is signed.

use std::{path::Path, time::Duration};

use packgate::core::{digest::Digest, job::JobRunKey};
use serde_json::{Value, json};

use crate::support::{
    Test,
    bundle::{Lock, PACKED, packed_bundle},
    refusal::{Tenant, condition},
    server::FileServer,
    wait::wait_for,
};

const HONEST: &str = "what the lock names\n";
/// Of the same size, so that only the bytes differ.
const PLANTED: &str = "what a thief likes!\n";

/// A lock of one file that a server has. Its text is written here: `packgate lock` would correct
/// what is to be wrong.
fn lock_of_url(test: &Test, name: &str, url: &str, content: &str) -> Lock {
    let checksum = Digest::of_bytes(content.as_bytes()).to_string();
    let artifact = json!({
        "name": "file",
        "type": "http",
        "origin": url,
        "target": "opt/file.txt",
        "checksum": checksum,
        "size": content.len(),
    });
    lock_of_artifact(test, name, &artifact)
}

fn lock_of_artifact(test: &Test, name: &str, artifact: &Value) -> Lock {
    let lock = json!({
        "apiVersion": "packgate.dev/v1alpha1",
        "kind": "Lockfile",
        "name": name,
        "artifacts": [artifact],
    })
    .to_string();
    Lock {
        path: test.write(&format!("{name}.lock.yaml"), &lock),
        text: lock,
    }
}

/// A `PackedBundle` whose pack Job cannot end before the server lets it, and a tenant beside it.
struct Scene<'a> {
    test: &'a Test,
    server: FileServer,
    tenant: Tenant,
    lock: Lock,
    lock_digest: String,
    /// What packing the lock gives.
    honest: String,
    repository: String,
}

impl<'a> Scene<'a> {
    fn start(test: &'a Test) -> Option<Self> {
        let Some(ip) = &test.cluster.node_ip else {
            println!("not run: pods do not reach this machine");
            return None;
        };
        test.installation();
        let server = FileServer::start(ip, &[("/file", HONEST), ("/planted", PLANTED)]);
        let lock = lock_of_url(test, "honest", &server.url("/file"), HONEST);
        let packed = test
            .packgate("pack honest.lock.yaml --to oci:honest -o json")
            .json();
        let said = |key: &str| {
            packed[key]
                .as_str()
                .unwrap_or_else(|| panic!("no {key}: {packed}"))
                .to_owned()
        };
        let (honest, lock_digest) = (said("digest"), said("lockDigest"));
        Some(Self {
            test,
            server,
            tenant: test.tenant("admin"),
            lock,
            lock_digest,
            honest,
            repository: test.repository(&test.cluster.registry, "victim"),
        })
    }

    /// Applies it, and waits until its pack Job waits for the server. The Job is returned.
    fn pack(&self) -> Value {
        self.server.hold();
        let asked = self.server.asked().len();
        self.test.namespace.apply(&self.lock.config_map("lock"));
        self.test
            .namespace
            .apply(&packed_bundle("victim", "lock", &self.repository).to_string());
        wait_for("the pack Pod to fetch", PACKED, || {
            (self.server.asked().len() > asked).then_some(())
        });
        let mut jobs = self.test.namespace.list(
            "jobs",
            "app.kubernetes.io/component=pack,packgate.dev/bundle=victim",
        );
        assert_eq!(jobs.len(), 1, "{jobs:#?}");
        jobs.remove(0)
    }

    /// Pushes the manifest of the honest bundle with the layer of another, by digest. All is
    /// well-formed, only the bytes are not the lock's.
    fn push_planted(&self) -> String {
        lock_of_url(self.test, "planted", &self.server.url("/planted"), PLANTED);
        self.test
            .packgate("pack planted.lock.yaml --to oci:planted")
            .ok();
        let digest = mix(
            &self.test.file("honest"),
            &self.test.file("planted"),
            &self.test.file("mixed"),
        );
        let pushed = self.test.packgate(&format!(
            "copy oci:mixed@{digest} {} {}",
            self.repository,
            self.test.cluster.http_flag()
        ));
        assert!(pushed.ok().ends_with(&digest), "{pushed}");
        digest
    }

    /// A Pod of the tenant that looks as if the Job had made it, and reports this bundle. Without
    /// the labels of the Job's selector: the Job controller would take it for its own, and may end
    /// it as one too many.
    fn plant(&self, job: &Value, digest: &str) {
        let mut labels = job["spec"]["template"]["metadata"]["labels"].clone();
        labels
            .as_object_mut()
            .expect("labels")
            .retain(|key, _| !key.ends_with("controller-uid"));
        let report = json!({"v": 1, "step": "pack", "result": "Succeeded",
            "lockDigest": self.lock_digest, "digest": digest,
            "size": 4096, "layers": 2, "artifacts": 1});
        let owner = json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": job["metadata"]["name"],
            "uid": job["metadata"]["uid"],
        });
        let command = ["sh", "-c", "printf %s \"$REPORT\" > /dev/termination-log"];
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "planted", "labels": labels, "ownerReferences": [owner]},
            "spec": {"restartPolicy": "Never", "automountServiceAccountToken": false,
                "containers": [{
                "name": "packgate", "image": self.test.cluster.busybox, "command": command, "env": [
                    {"name": "REPORT", "value": report.to_string()},
                ],
            }]},
        });
        self.tenant.create(&pod).ok();
    }

    fn nothing_is_signed(&self, planted: &str) {
        self.test
            .nothing_is_signed(&self.repository, &[planted, &self.honest]);
    }
}

/// A layout with the first bundle's lock and the second's layer. Its manifest's digest is returned.
fn mix(honest: &Path, planted: &Path, to: &Path) -> String {
    let (mut manifest, other) = (manifest(honest), manifest(planted));
    let (mut config, other_config) = (config(honest, &manifest), config(planted, &other));
    config["rootfs"]["diff_ids"][1] = other_config["rootfs"]["diff_ids"][1].clone();
    manifest["layers"][1] = other["layers"][1].clone();
    let config = config.to_string();
    manifest["config"]["digest"] = json!(Digest::of_bytes(config.as_bytes()).to_string());
    let blobs = to.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).expect("folders");
    let put = |bytes: &[u8]| {
        std::fs::write(blobs.join(Digest::of_bytes(bytes).hex_digits()), bytes).expect("a file");
    };
    put(config.as_bytes());
    put(&blob(honest, &manifest["layers"][0]));
    put(&blob(planted, &manifest["layers"][1]));
    let text = manifest.to_string();
    put(text.as_bytes());
    let digest = Digest::of_bytes(text.as_bytes()).to_string();
    let root = json!({"mediaType": manifest["mediaType"], "digest": digest, "size": text.len()});
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [root],
    });
    std::fs::write(to.join("index.json"), index.to_string()).expect("a file");
    std::fs::write(to.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("a file");
    digest
}

fn manifest(layout: &Path) -> Value {
    let index = std::fs::read(layout.join("index.json")).expect("an index");
    let index: Value = serde_json::from_slice(&index).expect("JSON");
    serde_json::from_slice(&blob(layout, &index["manifests"][0])).expect("JSON")
}

fn config(layout: &Path, manifest: &Value) -> Value {
    serde_json::from_slice(&blob(layout, &manifest["config"])).expect("JSON")
}

fn blob(layout: &Path, descriptor: &Value) -> Vec<u8> {
    let digest = descriptor["digest"].as_str().expect("a digest");
    std::fs::read(layout.join("blobs/sha256").join(&digest["sha256:".len()..])).expect("a blob")
}

/// The real Pod waits, and only the planted one reports.
#[test]
fn a_planted_pod_does_not_choose_what_is_signed() {
    let Some(test) = Test::start("a_planted_pod_does_not_choose_what_is_signed") else {
        return;
    };
    let Some(scene) = Scene::start(&test) else {
        return;
    };
    let planted = scene.push_planted();
    let job = scene.pack();
    scene.plant(&job, &planted);
    let refused = test.stalled("victim", "LockMismatch");
    scene.nothing_is_signed(&planted);
    assert!(refused["status"]["bundle"].is_null(), "{refused:#}");

    // Who asked for the right thing gets it.
    scene.server.release();
    test.request("victim");
    let bundle = test.ready("victim");
    assert_eq!(
        bundle["status"]["bundle"]["digest"],
        scene.honest.as_str(),
        "{bundle:#}"
    );
    assert!(test.referrers(&scene.repository, &planted).is_empty());
}

#[test]
fn an_honest_and_a_planted_pod_that_both_report() {
    let Some(test) = Test::start("an_honest_and_a_planted_pod_that_both_report") else {
        return;
    };
    let Some(scene) = Scene::start(&test) else {
        return;
    };
    let planted = scene.push_planted();
    let job = scene.pack();
    scene.plant(&job, &planted);
    test.namespace.wait(
        "pod/planted",
        "jsonpath={.status.phase}=Succeeded",
        Duration::from_mins(1),
    );
    scene.server.release();
    test.stalled("victim", "LockMismatch");
    let job = format!("job/{}", job["metadata"]["name"].as_str().expect("a name"));
    test.namespace
        .wait(&job, "condition=Complete", Duration::from_mins(1));
    test.request("victim");
    let bundle = test.ready("victim");
    assert_eq!(
        bundle["status"]["bundle"]["digest"],
        scene.honest.as_str(),
        "{bundle:#}"
    );
    assert!(
        test.referrers(&scene.repository, &planted).is_empty(),
        "the planted bundle is signed"
    );
    let tag = format!("lock-{}", &scene.lock_digest["sha256:".len()..][..12]);
    assert_eq!(
        test.tags(&scene.repository),
        [tag],
        "the planted bundle was never tagged"
    );
}

#[test]
fn a_bundle_of_another_lock_is_not_signed() {
    let Some(test) = Test::start("a_bundle_of_another_lock_is_not_signed") else {
        return;
    };
    let Some(scene) = Scene::start(&test) else {
        return;
    };
    lock_of_url(&test, "planted", &scene.server.url("/planted"), PLANTED);
    let pack = format!(
        "pack planted.lock.yaml --to {} {} -o json",
        scene.repository,
        test.cluster.http_flag()
    );
    let planted = test.packgate(&pack).json()["digest"]
        .as_str()
        .expect("a digest")
        .to_owned();
    let job = scene.pack();
    scene.plant(&job, &planted);
    test.stalled("victim", "LockMismatch");
    scene.nothing_is_signed(&planted);
    scene.server.release();
}

/// The pack Job finds the layer in the registry and does not send it again; whoever reads it must
/// notice.
#[test]
fn a_byte_changed_in_the_registry_before_signing() {
    let Some(test) = Test::start("a_byte_changed_in_the_registry_before_signing") else {
        return;
    };
    let Some(store) = store(&test) else { return };
    test.installation();
    let content = format!("only in {}\n", test.namespace.name);
    let lock = test.lock(
        &test.cluster.registry,
        "tampered",
        &[("opt/file.txt", &content)],
    );
    let repository = test.repository(&test.cluster.registry, "tampered");
    let digest = test
        .packgate(&format!(
            "pack {} --to {repository} --plain-http -o json",
            lock.path.display()
        ))
        .json();
    let digest = digest["digest"].as_str().expect("a digest").to_owned();
    flip(&store, &layer(&test, &repository, &digest, 1));
    test.namespace.apply(&lock.config_map("lock"));
    test.namespace
        .apply(&packed_bundle("tampered", "lock", &repository).to_string());
    test.stalled("tampered", "DigestMismatch");
    test.nothing_is_signed(&repository, &[&digest]);
}

#[test]
fn a_byte_changed_in_the_registry_later() {
    let Some(test) = Test::start("a_byte_changed_in_the_registry_later") else {
        return;
    };
    let Some(store) = store(&test) else { return };
    test.installation();
    let content = format!("only in {}\n", test.namespace.name);
    let lock = test.lock(
        &test.cluster.registry,
        "later",
        &[("opt/file.txt", &content)],
    );
    let repository = test.repository(&test.cluster.registry, "later");
    test.namespace.apply(&lock.config_map("lock"));
    test.namespace
        .apply(&packed_bundle("later", "lock", &repository).to_string());
    let bundle = test.ready("later");
    let digest = bundle["status"]["bundle"]["digest"]
        .as_str()
        .expect("a digest");
    flip(&store, &layer(&test, &repository, digest, 0));
    test.request("later");
    let bundle = test.stalled("later", "DigestMismatch");
    assert_eq!(
        condition(&bundle, "Verified")["status"],
        "False",
        "{bundle:#}"
    );
}

/// Where the registry's blobs lie.
fn store(test: &Test) -> Option<std::path::PathBuf> {
    let state = std::env::var("PACKGATE_CLUSTER_STATE")
        .ok()
        .filter(|_| test.cluster.own);
    if state.is_none() {
        println!("not run: nobody reaches the registry's blobs");
    }
    state.map(|state| Path::new(&state).join("registry"))
}

fn layer(test: &Test, repository: &str, digest: &str, number: usize) -> String {
    let manifest = test
        .tool(
            "crane",
            &format!("manifest --insecure {repository}@{digest}"),
        )
        .json();
    manifest["layers"][number]["digest"]
        .as_str()
        .expect("a layer")
        .to_owned()
}

/// Changes one byte of a blob, in the middle.
fn flip(store: &Path, digest: &str) {
    let path = store.join(digest.replace(':', "-"));
    let mut bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).expect("a file");
}

#[test]
fn a_source_that_changes_while_it_is_packed() {
    let Some(test) = Test::start("a_source_that_changes_while_it_is_packed") else {
        return;
    };
    let Some(scene) = Scene::start(&test) else {
        return;
    };
    scene.pack();
    let other = lock_of_url(&test, "planted", &scene.server.url("/planted"), PLANTED);
    test.namespace.apply(&other.config_map("lock"));
    scene.server.release();
    let bundle = test.ready("victim");
    assert_eq!(
        bundle["status"]["lock"]["digest"],
        scene.lock_digest.as_str(),
        "{bundle:#}"
    );
    assert_eq!(
        bundle["status"]["bundle"]["digest"],
        scene.honest.as_str(),
        "{bundle:#}"
    );

    // What changed is packed when the source is looked at again.
    test.request("victim");
    wait_for("the other bundle", PACKED, || {
        let bundle = test.namespace.get("packedbundle", "victim")?;
        let is_new = bundle["status"]["lock"]["digest"] != scene.lock_digest.as_str()
            && condition(&bundle, "Ready")["status"] == "True";
        (is_new && bundle["status"]["bundle"]["digest"] != scene.honest.as_str()).then_some(())
    });
}

/// The names in a run follow from what everybody can know, so a tenant can be there first.
#[test]
fn a_pack_config_map_that_a_tenant_made_first() {
    let Some(test) = Test::start("a_pack_config_map_that_a_tenant_made_first") else {
        return;
    };
    let Some(scene) = Scene::start(&test) else {
        return;
    };
    let planted = lock_of_url(&test, "planted", &scene.server.url("/planted"), PLANTED);
    let planted_repository = test.repository(&test.cluster.registry, "planted");
    test.namespace.apply(&planted.config_map("planted-lock"));
    test.namespace
        .apply(&packed_bundle("planted", "planted-lock", &planted_repository).to_string());
    let planted = test.ready("planted")["status"]["bundle"]["digest"]
        .as_str()
        .expect("a digest")
        .to_owned();
    let config = test
        .namespace
        .list("configmaps", "packgate.dev/bundle=planted")
        .remove(0)["data"]
        .clone();

    for (name, lies_about_the_lock) in [("first", false), ("second", true)] {
        let repository = test.repository(&test.cluster.registry, name);
        let mut inputs: Value =
            serde_json::from_str(config["inputs.json"].as_str().expect("text")).expect("JSON");
        inputs["destination"]["repository"] = json!(repository);
        if lies_about_the_lock {
            inputs["lockDigest"] = json!(scene.lock_digest);
        }
        test.namespace.apply(&scene.lock.config_map("lock"));
        let mut object = packed_bundle(name, "lock", &repository);
        object["spec"]["suspend"] = json!(true);
        scene.tenant.create(&object).ok();
        let uid = test.namespace.get("packedbundle", name).expect("it")["metadata"]["uid"]
            .as_str()
            .expect("a uid")
            .to_owned();
        let run = JobRunKey::new(&uid, 2, &scene.lock_digest.parse().expect("a digest"));
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
            "name": run.pack_job_name(),
        },
            "data": {"lock.json": config["lock.json"], "inputs.json": inputs.to_string()}});
        scene.tenant.create(&map).ok();
        scene
            .tenant
            .kubectl([
                "patch",
                "packedbundle",
                name,
                "--type=merge",
                "-p",
                r#"{"spec":{"suspend":false}}"#,
            ])
            .run()
            .ok();
        let refused = test.stalled(name, "LockMismatch");
        assert_eq!(
            refused["metadata"]["generation"], 2,
            "the tenant's ConfigMap was not in the way: {refused:#}"
        );
        test.nothing_is_signed(&repository, &[&planted, &scene.honest]);
    }
}

/// A status is nobody's evidence: neither for a run that is over, nor for one that never was.
#[test]
fn a_forged_status_changes_nothing() {
    let Some(test) = Test::start("a_forged_status_changes_nothing") else {
        return;
    };
    let Some(scene) = Scene::start(&test) else {
        return;
    };
    let planted = scene.push_planted();
    test.namespace.apply(&scene.lock.config_map("lock"));
    test.namespace
        .apply(&packed_bundle("victim", "lock", &scene.repository).to_string());
    let bundle = test.ready("victim");
    let tags = test.tags(&scene.repository);
    forge(&test, "victim", &bundle, &planted);
    test.request("victim");
    wait_for("the truth in the status", PACKED, || {
        let status = test.namespace.get("packedbundle", "victim")?["status"].clone();
        let is_true = |value: &Value| value["digest"] == scene.honest.as_str();
        (is_true(&status["bundle"])
            && is_true(&status["history"][0])
            && !status.to_string().contains(&planted))
        .then_some(())
    });
    let corrected = test.ready("victim");
    assert_eq!(
        corrected["status"]["bundle"], bundle["status"]["bundle"],
        "{corrected:#}"
    );
    assert!(test.referrers(&scene.repository, &planted).is_empty());
    assert_eq!(test.tags(&scene.repository), tags);
}

/// As an administrator, or one of their tools, could.
fn forge(test: &Test, name: &str, bundle: &Value, digest: &str) {
    let honest = bundle["status"]["bundle"]["digest"]
        .as_str()
        .expect("a digest");
    let status: Value =
        serde_json::from_str(&bundle["status"].to_string().replace(honest, digest)).expect("JSON");
    let patch = json!({"status": status}).to_string();
    test.namespace
        .kubectl([
            "patch",
            "packedbundle",
            name,
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ])
        .run()
        .ok();
}

/// A status that says that a run is over which has only begun, or failed.
#[test]
fn a_forged_success_is_not_believed() {
    let Some(test) = Test::start("a_forged_success_is_not_believed") else {
        return;
    };
    let Some(scene) = Scene::start(&test) else {
        return;
    };
    let planted = scene.push_planted();
    scene.pack();
    let bundle = test.namespace.get("packedbundle", "victim").expect("it");
    let uid = bundle["metadata"]["uid"].as_str().expect("a uid");
    let run = JobRunKey::new(uid, 1, &scene.lock_digest.parse().expect("a digest"));
    let entry = json!({"run": run.as_str(), "digest": planted, "lockDigest": scene.lock_digest,
        "reason": "Succeeded",
        "started": "2026-11-21T12:00:00Z", "finished": "2026-11-21T12:00:01Z"});
    let ready = json!({"type": "Ready", "status": "True", "reason": "Succeeded", "message": "",
        "lastTransitionTime": "2026-11-21T12:00:01Z",
        "observedGeneration": 1});
    let status = json!({"status": {"history": [entry], "conditions": [ready],
        "bundle": {"reference": format!("{}@{planted}", scene.repository),
        "digest": planted}}});
    let patch = [
        "patch",
        "packedbundle",
        "victim",
        "--subresource=status",
        "--type=merge",
        "-p",
        &status.to_string(),
    ]
    .map(str::to_owned);
    test.namespace
        .kubectl(patch.iter().map(String::as_str))
        .run()
        .ok();
    test.namespace
        .kubectl([
            "annotate",
            "packedbundle",
            "victim",
            "packgate.dev/reconcile-requested-at=now",
        ])
        .run()
        .ok();
    wait_for(
        "the forged success to be void",
        Duration::from_mins(1),
        || {
            let bundle = test.namespace.get("packedbundle", "victim")?;
            (condition(&bundle, "Ready")["status"] == "False").then_some(())
        },
    );
    scene.nothing_is_signed(&planted);
    scene.server.release();
    let bundle = test.ready("victim");
    assert_eq!(
        bundle["status"]["bundle"]["digest"],
        scene.honest.as_str(),
        "{bundle:#}"
    );
    assert!(test.referrers(&scene.repository, &planted).is_empty());
}

#[test]
fn a_tag_that_names_something_else() {
    let Some(test) = Test::start("a_tag_that_names_something_else") else {
        return;
    };
    let installation = test.installation();
    let repository = test.repository(&test.cluster.registry, "tagged");
    let (one, two) = (
        test.lock(&test.cluster.registry, "one", &[("a", "one\n")]),
        test.lock(&test.cluster.registry, "two", &[("a", "two\n")]),
    );
    let pack = format!(
        "pack {} --to {repository}:v1 {} -o json",
        one.path.display(),
        test.cluster.http_flag()
    );
    let taken = test.packgate(&pack).json()["digest"].clone();
    let tagged = || {
        json!(
            test.tool("crane", &format!("digest --insecure {repository}:v1"))
                .ok()
        )
    };
    let bundle = |policy: &str| {
        let mut bundle = packed_bundle("tagged", "two", &repository);
        bundle["spec"]["destination"]["tag"] = json!("v1");
        bundle["spec"]["destination"]["tagPolicy"] = json!(policy);
        bundle.to_string()
    };
    test.namespace.apply(&two.config_map("two"));
    test.namespace.apply(&bundle("Immutable"));
    test.stalled("tagged", "TagConflict");
    assert_eq!(tagged(), taken, "the tag was moved");

    test.namespace.apply(&bundle("Mutable"));
    wait_for("the tag to be moved", PACKED, || {
        (tagged() != taken).then_some(())
    });
    let bundle = test.ready("tagged");
    assert_eq!(bundle["status"]["bundle"]["digest"], tagged());
    installation.vouches_for(
        &test,
        &format!("{repository}@{}", tagged().as_str().expect("a digest")),
    );
}

#[test]
fn two_objects_with_one_tag() {
    let Some(test) = Test::start("two_objects_with_one_tag") else {
        return;
    };
    test.installation();
    let repository = test.repository(&test.cluster.registry, "shared");
    for name in ["older", "younger"] {
        let lock = test.lock(&test.cluster.registry, name, &[("a", name)]);
        test.namespace.apply(&lock.config_map(name));
        let mut bundle = packed_bundle(name, name, &repository);
        bundle["spec"]["destination"]["tag"] = json!("v1");
        bundle["spec"]["destination"]["tagPolicy"] = json!("Mutable");
        test.namespace.apply(&bundle.to_string());
        // The age in a cluster has whole seconds.
        std::thread::sleep(Duration::from_millis(1_100));
    }
    let message = test.refusal("younger", "TagConflict");
    assert!(message.contains("PackedBundle older is older"), "{message}");
    let bundle = test.ready("older");
    assert_eq!(
        test.tool("crane", &format!("digest --insecure {repository}:v1"))
            .ok(),
        bundle["status"]["bundle"]["digest"]
    );
    assert!(
        test.namespace
            .list("jobs", "packgate.dev/bundle=younger")
            .is_empty(),
        "the younger one packs"
    );
    test.namespace
        .kubectl(["delete", "packedbundle", "older"])
        .run()
        .ok();
    test.request("younger");
    let bundle = test.ready("younger");
    assert_eq!(
        test.tool("crane", &format!("digest --insecure {repository}:v1"))
            .ok(),
        bundle["status"]["bundle"]["digest"]
    );
}

/// Every lock that is not to be packed, and what is said of it.
#[test]
fn locks_that_are_refused() {
    let Some(test) = Test::start("locks_that_are_refused") else {
        return;
    };
    let Some(ip) = &test.cluster.node_ip else {
        return println!("not run: pods do not reach this machine");
    };
    test.installation();
    let server = FileServer::start(ip, &[("/file", PLANTED)]);
    let http = |name: &'static str, url: &str| (name, lock_of_url(&test, name, url, HONEST));
    let file = json!({
        "name": "file",
        "type": "file",
        "origin": "a.txt",
        "target": "a.txt",
        "checksum": Digest::of_bytes(b"a").to_string(),
        "size": 1,
    });
    let cases = [
        (
            http("checksum", &server.url("/file")),
            "ChecksumMismatch",
            "",
        ),
        (
            ("file", lock_of_artifact(&test, "file", &file)),
            "InvalidLock",
            "spec.source.ociRef",
        ),
        (
            http("loopback", "http://127.0.0.1:6443/file"),
            "AddressNotAllowed",
            "127.0.0.1",
        ),
        (
            http("loopback-v6", "http://[::1]:6443/file"),
            "AddressNotAllowed",
            "::1",
        ),
        (
            http("localhost", "http://localhost:6443/file"),
            "AddressNotAllowed",
            "",
        ),
        (
            http("metadata", "http://169.254.169.254/latest/meta-data"),
            "AddressNotAllowed",
            "169.254.169.254",
        ),
        (
            http("private", "http://10.99.0.1/file"),
            "AddressNotAllowed",
            "10.99.0.1",
        ),
    ];
    for ((name, lock), ..) in &cases {
        test.namespace.apply(&lock.config_map(name));
        test.namespace.apply(
            &packed_bundle(name, name, &test.repository(&test.cluster.registry, name)).to_string(),
        );
    }
    for ((name, _), reason, text) in &cases {
        let message = test.refusal(name, reason);
        assert!(message.contains(text), "{name}: {message}");
        assert_eq!(
            test.tags(&test.repository(&test.cluster.registry, name)),
            [""; 0],
            "{name}"
        );
    }
}

#[test]
fn a_source_that_comes_later() {
    let Some(test) = Test::start("a_source_that_comes_later") else {
        return;
    };
    test.installation();
    let lock = test.lock(&test.cluster.registry, "late", &[("a", "late\n")]);
    test.namespace.apply(
        &packed_bundle(
            "late",
            "late",
            &test.repository(&test.cluster.registry, "late"),
        )
        .to_string(),
    );
    let message = test.refusal("late", "SourceNotFound");
    assert!(
        message.contains(&format!("ConfigMap {}/late", test.namespace.name)),
        "{message}"
    );
    test.namespace.apply(&lock.config_map("late"));
    test.ready("late");
}
