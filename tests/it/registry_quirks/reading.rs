//! Registries without the referrers API, and what they answer in its place.

use packgate::core::media_type;
use serde_json::json;

use super::{EMPTY_INDEX, REPOSITORY, Scene};
use crate::support::registry::{Fault, Registry, Settings};

/// Answers that mean "there is no such API here", in reading and in writing.
fn no_api_answers(elsewhere: &Registry) -> Vec<(&'static str, Fault)> {
    let on = || Fault::on("GET", "/referrers/");
    let typed = |body: &'static str, content_type: &str| {
        on().body(body).header("content-type", content_type)
    };
    let html = "<!doctype html><html>sign in</html>";
    let away = |path: &str| on().redirect(303, format!("{}{path}", elsewhere.origin()));
    let mut answers: Vec<(&'static str, Fault)> = vec![
        ("a page of HTML", typed(html, "text/html; charset=utf-8")),
        (
            "HTML that calls itself a list",
            typed(html, media_type::INDEX),
        ),
        ("HTML without a type", on().body(html)),
        ("a text", typed("404 page not found", "text/plain")),
        ("nothing", typed("", media_type::INDEX)),
        ("an object", typed("{}", "application/json")),
        (
            "an object that calls itself a list",
            typed("{}", media_type::INDEX),
        ),
        (
            "another object",
            typed(r#"{"referrers":[]}"#, media_type::INDEX),
        ),
        (
            "null in place of a list",
            typed(r#"{"schemaVersion":2,"manifests":null}"#, media_type::INDEX),
        ),
        (
            "an empty list of another type",
            typed(EMPTY_INDEX, "application/json"),
        ),
        ("a redirect to a page", away("/login")),
        ("a redirect to a refusal", away("/refused")),
        ("a redirect to a limit", away("/limited")),
        ("a redirect to a fault", away("/broken")),
    ];
    for status in [400, 404, 405, 406, 501] {
        answers.push(("a status", on().status(status).body(html)));
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_list_means_that_there_is_no_api() {
    let elsewhere = Registry::start().await;
    for (path, status) in [("/refused", 403), ("/limited", 429), ("/broken", 503)] {
        elsewhere.fault(Fault::on("GET", path).status(status));
    }
    elsewhere.fault(
        Fault::on("GET", "/login")
            .body("<html>")
            .header("content-type", "text/html"),
    );
    for (name, answer) in no_api_answers(&elsewhere) {
        println!("{name}: {answer:?}");
        let scene = Scene::without_api().await;
        scene.registry.fault(answer);
        let packed = scene.pack_signed();
        let reference = packed.ok();
        scene.verify(reference).ok();
        scene.run(&format!("inspect {reference}")).ok();
        assert_eq!(
            scene.registry.count("PUT", "/manifests/sha256-"),
            1,
            "{name}: signature and provenance are listed at once"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_and_faults_of_the_api_are_told_and_name_what_was_asked() {
    for (status, code, reason) in [
        (401, 3, "RegistryDenied"),
        (403, 3, "RegistryDenied"),
        (429, 3, "RateLimited"),
        (500, 3, "RegistryUnavailable"),
        (503, 3, "RegistryUnavailable"),
    ] {
        let scene = Scene::without_api().await;
        let reference = scene.pack();
        scene
            .registry
            .fault(Fault::on("GET", "/referrers/").status(status));
        let run = scene.verify(&reference);
        run.refused(code, reason);
        assert!(run.stdout.contains(&scene.registry.host()), "{run:?}");
    }
    let scene = Scene::start(Settings::default()).await;
    let reference = scene.pack();
    let cut = Fault::on("GET", "/referrers/")
        .body(r#"{"schemaVersion":2,"manifests":[{"medi"#)
        .header("content-type", media_type::INDEX);
    scene.registry.fault(cut);
    let run = scene.verify(&reference);
    run.refused(4, "MalformedManifest");
    assert!(
        run.stdout.contains(&scene.registry.host()) && run.stdout.contains("list of referrers"),
        "{run:?}"
    );
}

/// `cosign copy` sets the tag `sha256-<hex>` to the image itself; GitLab resolves it so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fallback_tag_that_names_the_image_itself_lists_nothing() {
    for digest_tags in [false, true] {
        let scene = Scene::start(Settings {
            referrers_api: false,
            digest_tags,
            ..Settings::default()
        })
        .await;
        let reference = scene.pack();
        let tag = Scene::fallback_tag(&reference);
        let bytes = scene.registry.manifest(REPOSITORY, "v1").expect("packed");
        if !digest_tags {
            scene
                .registry
                .put_manifest(REPOSITORY, Some(&tag), media_type::MANIFEST, bytes);
        }
        scene.verify(&reference).refused(1, "NoSignatures");
        scene.run(&format!("inspect {reference}")).ok();
        scene.sign(&reference).ok();
        scene.verify(&reference).ok();
        let list = scene.registry.manifest(REPOSITORY, &tag).expect("a list");
        let list: serde_json::Value = serde_json::from_slice(&list).expect("JSON");
        assert_eq!(
            list["manifests"].as_array().expect("entries").len(),
            1,
            "{list}"
        );
        let to = format!("{}/other/hello:v1", scene.registry.host());
        scene.run(&format!("copy {reference} {to}")).ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manifests_of_an_image_are_not_its_referrers() {
    let scene = Scene::without_api().await;
    scene.workspace.write("a", "a");
    scene.workspace.write(
        "manifest.yaml",
        "apiVersion: packgate.dev/v1alpha1\nkind: LockManifest\nname: p\nartifacts:\n\
         - {name: a, origin: a, target: a, platforms: [linux/amd64, linux/arm64]}\n",
    );
    scene.workspace.run("lock manifest.yaml").ok();
    let line = format!("pack p.lock.yaml --to {}", scene.tagged());
    let reference = scene.run(&line).ok().to_owned();
    let tag = Scene::fallback_tag(&reference);
    let bytes = scene.registry.manifest(REPOSITORY, "v1").expect("an index");
    scene
        .registry
        .put_manifest(REPOSITORY, Some(&tag), media_type::INDEX, bytes.clone());
    let inspected = || scene.run(&format!("inspect {reference} -o json")).json();
    assert_eq!(inspected()["referrers"], json!([]));
    // An older version added a signature to a copy of the index.
    let mut copied: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
    copied["annotations"] = json!({"x": "y"});
    scene.registry.put_manifest(
        REPOSITORY,
        Some(&tag),
        media_type::INDEX,
        copied.to_string(),
    );
    assert_eq!(inspected()["referrers"], json!([]));
    let run = scene.verify(&reference);
    run.refused(1, "NoSignatures");
    assert!(!run.stdout.contains("SubjectMismatch"), "{run:?}");
    scene
        .registry
        .put_manifest(REPOSITORY, Some(&tag), media_type::INDEX, bytes);
    scene.sign(&reference).ok();
    scene.verify(&reference).ok();
    let list = scene.registry.manifest(REPOSITORY, &tag).expect("a list");
    let list: serde_json::Value = serde_json::from_slice(&list).expect("JSON");
    assert_eq!(
        list["manifests"].as_array().expect("entries").len(),
        1,
        "{list}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_of_another_content_type_is_what_its_bytes_say() {
    for content_type in [
        "application/json",
        "application/octet-stream",
        "text/plain; charset=utf-8",
        media_type::DOCKER_MANIFEST,
    ] {
        println!("{content_type}");
        let scene = Scene::start(Settings::default()).await;
        let reference = scene.pack_signed().ok().to_owned();
        let answer = Fault::on("GET", "/manifests/").header("content-type", content_type);
        scene.registry.fault(answer);
        scene.verify(&reference).ok();
        scene.run(&format!("inspect {reference}")).ok();
        scene.sign(&reference).ok();
        scene
            .run(&format!("unpack {reference} --to got --key packgate.pub"))
            .ok();
        scene.run(&format!("copy {reference} oci:copied:v1")).ok();
        let to = format!("{}/other/hello:v1", scene.registry.host());
        scene.run(&format!("copy {reference} {to}")).ok();
    }
}
