//! What a registry answers is an answer: it is not tried again, and its words are told.

use super::{REPOSITORY, Scene};
use crate::support::registry::{Fault, Settings, TagRule};

fn problem(code: &str, message: &str) -> String {
    format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definite_refusal_is_told_once() {
    for (part, status, code, message) in [
        (
            "/manifests/sha256:",
            400,
            "MANIFEST_INVALID",
            "too many layers",
        ),
        (
            "/manifests/sha256:",
            413,
            "MANIFEST_INVALID",
            "manifest too large",
        ),
        (
            "/manifests/sha256:",
            415,
            "UNSUPPORTED",
            "unsupported media type",
        ),
        (
            "/manifests/v1",
            412,
            "PRECONDITION",
            "configured as immutable",
        ),
        ("/manifests/v1", 409, "TAG_INVALID", "the tag is immutable"),
        ("/manifests/v1", 402, "PAYMENT", "the plan is used up"),
        (
            "/blobs/uploads/",
            405,
            "UNSUPPORTED",
            "the repository is a mirror",
        ),
        (
            "/blobs/uploads/",
            404,
            "NAME_UNKNOWN",
            "The repository with name 'team/hello' does not exist",
        ),
        ("/blobs/uploads/", 507, "STORAGE", "no space left"),
    ] {
        println!("{part} {status}");
        let scene = Scene::start(Settings::default()).await;
        let method = if part == "/blobs/uploads/" {
            "POST"
        } else {
            "PUT"
        };
        let answer = Fault::on(method, part)
            .status(status)
            .body(problem(code, message));
        scene.registry.fault(answer);
        let run = scene.run(&format!("pack lock.yaml --to {}", scene.tagged()));
        run.refused(2, "RegistryRefused");
        assert!(
            run.stderr.contains(code) && run.stderr.contains(message),
            "{run:?}"
        );
        assert!(
            !run.stderr.contains("unavailable") && !run.stderr.contains("credentials"),
            "{run:?}"
        );
        assert!(!run.stderr.contains("is not complete"), "{run:?}");
        if part != "/blobs/uploads/" {
            assert_eq!(scene.registry.count("PUT", part), 1, "not tried again");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_is_no_question_of_credentials() {
    for (message, advice, blames_credentials) in [
        (
            "adding 12.0 MiB of storage resource will exceed the configured upper limit of 10.0 MiB",
            "quota",
            false,
        ),
        ("the system is in read only mode", "no changes now", false),
        ("requested access to the resource is denied", "log in", true),
    ] {
        let scene = Scene::start(Settings::default()).await;
        let answer = Fault::on("POST", "/blobs/uploads/")
            .status(403)
            .body(problem("DENIED", message));
        scene.registry.fault(answer);
        let run = scene.run(&format!("pack lock.yaml --to {}", scene.tagged()));
        run.refused(3, "RegistryDenied");
        assert!(
            run.stderr.contains(message) && run.stderr.contains(advice),
            "{run:?}"
        );
        assert_eq!(
            run.stderr.contains("credentials"),
            blames_credentials,
            "{run:?}"
        );
    }
}

/// Answers to HEAD have no body.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_words_of_a_refused_head_are_asked_for_with_get() {
    let scene = Scene::start(Settings::default()).await;
    scene
        .registry
        .fault(Fault::on("HEAD", "/blobs/").status(403));
    let words = r#"{"code":"DENIED","message":"token has expired"}"#;
    scene
        .registry
        .fault(Fault::on("GET", "/blobs/").status(403).body(words));
    let run = scene.run(&format!("pack lock.yaml --to {}", scene.tagged()));
    run.refused(3, "RegistryDenied");
    assert!(run.stderr.contains("DENIED token has expired"), "{run:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_refuses_head_is_asked_with_get() {
    for status in [405, 403, 400, 501] {
        let scene = Scene::start(Settings::default()).await;
        scene
            .registry
            .fault(Fault::on("HEAD", "/v2/").status(status));
        let reference = scene.pack_signed().ok().to_owned();
        scene.verify(&reference).ok();
        let to = format!("{}/other/hello:v1", scene.registry.host());
        scene.run(&format!("copy {reference} {to}")).ok();
        assert_eq!(scene.registry.tags("other/hello"), ["v1"], "{status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_that_is_right_already_is_not_written_again() {
    for tags in [TagRule::Immutable, TagRule::WriteOnce] {
        let scene = Scene::start(Settings {
            tags,
            ..Settings::default()
        })
        .await;
        let reference = scene.pack_signed().ok().to_owned();
        assert_eq!(scene.pack_signed().ok(), reference);
        let to = format!("{}/other/hello:v1", scene.registry.host());
        for _ in 0..2 {
            scene.run(&format!("copy {reference} {to}")).ok();
        }
        assert_eq!(
            scene.registry.count("PUT", "/manifests/v1"),
            2,
            "once in each repository"
        );
        scene.workspace.write("files/notes.txt", "other");
        let other = scene
            .workspace
            .read("lock.yaml")
            .replace("version: 1.0.0", "version: 2.0.0");
        scene.workspace.write("lock.yaml", other);
        scene
            .workspace
            .write("files/notes.txt", crate::support::cli::NOTES);
        let moved = scene.pack_signed();
        assert_ne!(moved.code, 0, "{moved:?}");
        let named = scene.registry.tag(REPOSITORY, "v1").expect("a tag");
        assert!(reference.ends_with(&named), "the tag stays");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_trust_is_explained() {
    let scene = Scene::start(Settings::default()).await;
    let reference = scene.pack();
    let answer = Fault::on("GET", "/manifests/").status(412).body(problem(
        "PROJECTPOLICYVIOLATION",
        "The image is not signed by cosign.",
    ));
    scene.registry.fault(answer);
    let run = scene.sign(&reference);
    run.refused(2, "RegistryRefused");
    assert!(
        run.stderr.contains("PROJECTPOLICYVIOLATION") && run.stderr.contains("pack with --key"),
        "{run:?}"
    );
}
