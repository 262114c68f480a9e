//! `copy` with what registries have in common with nobody.

use packgate::core::media_type;
use serde_json::json;

use super::{REPOSITORY, Scene};
use crate::support::registry::{Registry, Settings};

/// A referrer of the image in `reference`, for each number.
fn add_referrers(registry: &Registry, reference: &str, count: usize) {
    let (_, digest) = reference.split_once('@').expect("a digest");
    let subject = registry.manifest(REPOSITORY, digest).expect("packed");
    registry.put_blob(REPOSITORY, "{}");
    for n in 0..count {
        let blob = registry.put_blob(REPOSITORY, format!("content {n}"));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::MANIFEST,
            "artifactType": "application/vnd.example+json",
            "config": {
                "mediaType": media_type::EMPTY,
                "digest": packgate::core::digest::Digest::of_bytes(b"{}"),
                "size": 2,
            },
            "layers": [{
                "mediaType": media_type::OCTET_STREAM,
                "digest": blob,
                "size": format!("content {n}").len(),
            }],
            "subject": {
                "mediaType": media_type::MANIFEST,
                "digest": digest,
                "size": subject.len(),
            },
        });
        registry.put_manifest(REPOSITORY, None, media_type::MANIFEST, manifest.to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_referrers_are_listed_with_one_write() {
    const COUNT: usize = 264;
    let scene = Scene::start(Settings::default()).await;
    let reference = scene.pack();
    add_referrers(&scene.registry, &reference, COUNT);
    let mut requests = Vec::new();
    for referrers_api in [true, false] {
        let to = Registry::with(Settings {
            referrers_api,
            ..Settings::default()
        })
        .await;
        let line = format!(
            "copy {reference} {}/{REPOSITORY}:v1 --plain-http={},{}",
            to.host(),
            scene.registry.host(),
            to.host()
        );
        let copied = scene.workspace.run(&line).ok().to_owned();
        let lists = to.count("PUT", "/manifests/sha256-");
        assert_eq!(lists, usize::from(!referrers_api), "writes of the list");
        let inspect = format!("inspect {copied} --plain-http -o json");
        let listed = scene.workspace.run(&inspect).json();
        assert_eq!(listed["referrers"].as_array().expect("a list").len(), COUNT);
        requests.push(to.requests().len());
    }
    assert!(
        requests[1] <= requests[0] + 60,
        "with and without the API: {requests:?} requests"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_platform_leaves_behind_is_told() {
    let scene = Scene::start(Settings::default()).await;
    scene.workspace.write("a", "a");
    scene.workspace.write(
        "manifest.yaml",
        "apiVersion: packgate.dev/v1alpha1\nkind: LockManifest\nname: p\nartifacts:\n\
         - {name: a, origin: a, target: a, platforms: [linux/amd64, linux/arm64]}\n",
    );
    scene.workspace.run("lock manifest.yaml").ok();
    let line = format!(
        "pack p.lock.yaml --to {} --key packgate.key",
        scene.tagged()
    );
    let reference = scene.run(&line).ok().to_owned();
    // arm64 and arm64/v8 are one platform.
    let line = format!("copy {reference} oci:one:v1 --platform linux/arm64/v8 -o json");
    let run = scene.run(&line);
    assert_eq!(
        run.json()["leftBehind"].as_array().expect("a list").len(),
        2
    );
    assert!(run.stderr.contains("are not copied"), "{run:?}");
    let whole = scene.run(&format!("copy {reference} oci:all:v1 -o json"));
    assert_eq!(whole.json()["leftBehind"], json!([]));
    let missing = scene.run(&format!(
        "copy {reference} oci:two:v1 --platform linux/s390x"
    ));
    missing.refused(2, "InvalidSpec");
    assert!(
        missing.stderr.contains("linux/amd64, linux/arm64"),
        "{missing:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_that_reproduces_a_verdict_works_as_it_is() {
    let scene = Scene::start(Settings::default()).await;
    let reference = scene.pack_signed().ok().to_owned();
    scene.workspace.write("auth file.json", "{}");
    let run = scene.workspace.packgate([
        "verify",
        &reference,
        "--key",
        "packgate.pub",
        "--plain-http",
        "--registry-config",
        "auth file.json",
        "--token-service",
        "registry.example.com=https://auth.example.org/a token",
        "--registry-mirror",
        "registry.example.com=https://mirror.example.org/a",
        "-o",
        "json",
    ]);
    let report = run.json();
    let line = report["reproduce"].as_str().expect("a line");
    for option in [
        "--plain-http",
        "--registry-config 'auth file.json'",
        "--token-service 'registry.example.com=https://auth.example.org/a token'",
        "--registry-mirror registry.example.com=https://mirror.example.org/a",
    ] {
        assert!(line.contains(option), "{line}");
    }
    let script = line.replacen("packgate", crate::support::cli::BINARY, 1);
    scene.workspace.tool("sh", ["-c", script.as_str()]).ok();
}
