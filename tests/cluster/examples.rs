//! Every example under `examples/` that is meant for a cluster does what its README says.

use std::{fs, path::Path, time::Duration};

use crate::support::{
    Test,
    bundle::PACKED,
    cluster::ROOT,
    namespace::{Namespace, kubectl},
    server::FileServer,
};

const NOTES: &str = include_str!("../../examples/hello/notes.txt");
/// The hosts that examples name.
const REGISTRY: &str = "registry.example.com";
const FILES: &str = "https://files.example.com";

/// The objects of an example, as `kubectl apply -f FOLDER` takes them.
fn objects(folder: &str) -> String {
    let folder = Path::new(ROOT).join("examples").join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    paths.sort();
    let texts: Vec<_> = paths
        .iter()
        .map(|path| fs::read_to_string(path).expect("text"))
        .collect();
    texts.join("---\n")
}

/// An example with this cluster's hosts in place of its own.
fn here(test: &Test, server: &FileServer, folder: &str) -> String {
    let registry = test.repository(&test.cluster.registry, "examples");
    objects(folder)
        .replace(&format!("{REGISTRY}/team-a"), &registry)
        .replace(REGISTRY, &test.cluster.registry)
        .replace(FILES, &server.url(""))
}

fn files(test: &Test) -> Option<FileServer> {
    let ip = test.cluster.node_ip.as_deref();
    if ip.is_none() {
        println!("not run: pods do not reach this machine");
    }
    Some(FileServer::start(ip?, &[("/notes.txt", NOTES)]))
}

#[test]
fn minimal() {
    let Some(test) = Test::start("minimal") else {
        return;
    };
    let Some(server) = files(&test) else { return };
    let installation = test.installation();
    test.namespace.apply(&here(&test, &server, "minimal"));
    let bundle = test.ready("hello");
    installation.vouches_for(&test, &pinned(&bundle));
    assert_eq!(
        server.asked(),
        ["/notes.txt"],
        "the signer reads the bundle, not the origin"
    );
}

#[test]
fn inline() {
    let Some(test) = Test::start("inline") else {
        return;
    };
    let Some(server) = files(&test) else { return };
    let installation = test.installation();
    test.namespace.apply(&here(&test, &server, "inline"));
    // Until it may read the Secret it says so.
    test.namespace.wait(
        "packedbundle/hello-inline",
        "jsonpath={.status.conditions[?(@.type==\"Ready\")].reason}=SecretAccessDenied",
        Duration::from_mins(1),
    );
    test.grant();
    test.namespace
        .kubectl([
            "annotate",
            "packedbundle",
            "hello-inline",
            "packgate.dev/reconcile-requested-at=now",
        ])
        .run()
        .ok();
    let bundle = test.ready("hello-inline");
    let tag = bundle["status"]["bundle"]["reference"]
        .as_str()
        .expect("a reference")
        .split_once("/hello-inline:")
        .expect("a tag")
        .1;
    assert!(tag.starts_with("latest@sha256:"), "{tag}");
    installation.vouches_for(&test, &pinned(&bundle));
}

#[test]
fn sbom() {
    let Some(test) = Test::start("sbom") else {
        return;
    };
    let Some(server) = files(&test) else { return };
    let installation = test.installation();
    let key = serde_json::Value::from(installation.public_key.as_str()).to_string();
    let example = here(&test, &server, "sbom")
        .replace("PLATFORM_PUBLIC_KEY", &key)
        .replace("k8s://team-a/", &format!("k8s://{}/", test.namespace.name));
    test.namespace.apply(&example.replace(
        "https://packgate.dev/builder/CLUSTER/platform",
        &installation.builder_id,
    ));
    let bundle = test.ready("hello-sbom");
    installation.vouches_for(&test, &pinned(&bundle));
    let types: Vec<_> = bundle["status"]["evidence"]
        .as_array()
        .expect("evidence")
        .iter()
        .map(|found| found["predicateType"].clone())
        .collect();
    assert!(
        types.contains(&"https://spdx.dev/Document".into()),
        "{types:?}"
    );
}

/// As `make quickstart` applies it, without a change: the digest in the Pod is what the lock gives
/// on every machine.
#[test]
fn quickstart() {
    let Some(test) = Test::start("quickstart") else {
        return;
    };
    if !test.cluster.own {
        return println!("not run: the example names the registries of our own cluster");
    }
    let installation = test.installation();
    let hello = format!("{ROOT}/examples/hello/lock.yaml");
    test.packgate(&format!(
        "pack {hello} --format Artifact --to registry.test:5000/quickstart/files:v1 --plain-http"
    ))
    .ok();
    test.packgate(&format!(
        "pack {hello} --to registry.test:5000/quickstart/unsigned:v1 --plain-http"
    ))
    .ok();
    let namespace = Namespace {
        name: "quickstart".into(),
    };
    let try_it = |file: &str| {
        let yaml =
            fs::read_to_string(format!("{ROOT}/examples/quickstart/{file}")).expect("an example");
        let yaml = yaml.replace(
            "https://packgate.dev/builder/CLUSTER/platform",
            &installation.builder_id,
        );
        kubectl(["apply", "-f", "-"]).stdin(yaml).run()
    };
    for file in [
        "1-namespace.yaml",
        "2-lock.yaml",
        "3-packedbundle.yaml",
        "4-policy.yaml",
    ] {
        try_it(file).ok();
    }
    namespace.wait("packedbundle/hello", "condition=Ready", PACKED);
    kubectl([
        "wait",
        "--for=condition=Enforced",
        "clusterbundlepolicy/quickstart",
        "--timeout=60s",
    ])
    .run()
    .ok();
    try_it("5-reader.yaml").ok();
    for (file, told) in [
        (
            "denied/unsigned.yaml",
            "spec.volumes[0].image.reference: NoSignatures",
        ),
        (
            "denied/tag-only.yaml",
            "spec.volumes[0].image.reference: DigestRequired",
        ),
        (
            "denied/adopt-unsigned.yaml",
            "spec.source.bundle.reference: NoSignatures",
        ),
    ] {
        let refused = try_it(file);
        assert!(
            refused.code != 0 && refused.stderr.contains(told),
            "{file}: {refused}"
        );
    }
    kubectl(["delete", "clusterbundlepolicy", "quickstart"])
        .run()
        .ok();
    namespace.wait(
        "pod/reader",
        "jsonpath={.status.phase}=Succeeded",
        Duration::from_mins(2),
    );
    assert_eq!(namespace.logs("pod/reader"), NOTES.trim_end());
    let bundle = namespace
        .get("packedbundle", "hello")
        .expect("a PackedBundle");
    assert!(
        objects("quickstart").contains(&pinned(&bundle)),
        "{} is not what the Pod mounts",
        pinned(&bundle)
    );
    installation.vouches_for(&test, &pinned(&bundle));
}

/// `REPOSITORY@DIGEST` of a bundle that is ready.
fn pinned(bundle: &serde_json::Value) -> String {
    let reference = bundle["status"]["bundle"]["reference"]
        .as_str()
        .unwrap_or_else(|| panic!("no reference: {bundle:#}"));
    let (name, digest) = reference.split_once('@').expect("a digest");
    let (repository, _) = name.rsplit_once(':').expect("a tag");
    format!("{repository}@{digest}")
}

/// An example that no test applies is one that nobody knows to work.
#[test]
fn every_example_is_tested() {
    let entries = fs::read_dir(Path::new(ROOT).join("examples")).expect("examples");
    let mut folders: Vec<_> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    folders.sort();
    // tests/it has the other two: README.md's commands pack hello, and the chart is compared with
    // install.
    assert_eq!(
        folders,
        [
            "hello",
            "inline",
            "install",
            "minimal",
            "quickstart",
            "sbom"
        ],
        "write a test for it here"
    );
}
