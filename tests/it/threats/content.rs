//! Threats 1 to 7: the verified content is the requested one.

use packgate::core::{digest::Digest, media_type};
use serde_json::{Value, json};

use super::{Outcome, Scene, TEAM, attach, expect, index, reasons, requests};
use crate::support::{registry::Fault, threats::threat};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_that_moves_while_it_is_judged_is_judged_once() {
    let scene = Scene::start().await;
    scene.sign();
    let other = index(&[]) + " ";
    let moved = Fault::on("GET", "/manifests/v1")
        .after(1)
        .status(200)
        .header("content-type", media_type::INDEX)
        .body(other);
    scene.registry.fault(moved);
    let tagged = format!("{}/{TEAM}:v1", scene.registry.host());
    let by_tag = scene.policy(&json!({"requireDigest": false}));
    let admitted = scene.judge_by(&tagged, &[by_tag], "");
    assert_eq!(
        admitted.report["digest"],
        scene.image.to_string(),
        "{:#}",
        admitted.report
    );
    assert_eq!(scene.registry.count("GET", "/manifests/v1"), 1);
    scene.registry.heal();
    let pinned = scene.judge_by(&tagged, &[scene.policy(&json!({}))], "");
    let outcomes = expect([
        ("by tag, where that is allowed", admitted, "Admitted"),
        ("by tag", pinned, "DigestRequired"),
    ]);
    threat(1)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_of_another_digest_are_refused_whatever_the_header_says() {
    let scene = Scene::start().await;
    scene.sign();
    let judged = |fault: Fault| {
        scene.registry.heal();
        scene.registry.fault(fault);
        scene.judge()
    };
    let flipped = judged(Fault::on("GET", "/manifests/sha256:").flip(3));
    let claimed = judged(
        Fault::on("GET", "/manifests/sha256:")
            .flip(3)
            .header("docker-content-digest", scene.image.to_string()),
    );
    let outcomes = expect([
        ("another byte", flipped, "DigestMismatch"),
        ("another byte, in the right name", claimed, "DigestMismatch"),
    ]);
    threat(3)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_digest_is_judged_and_its_tag_is_not_asked_for() {
    let scene = Scene::start().await;
    scene.sign();
    let unsigned = scene
        .registry
        .put_manifest(TEAM, None, media_type::INDEX, index(&[]) + " ");
    let reference = format!("{}/{TEAM}:v1@{unsigned}", scene.registry.host());
    let outcomes = expect([(
        "the tag is signed, the digest is not",
        scene.judge_by(&reference, &[scene.policy(&json!({}))], ""),
        "NoSignatures",
    )]);
    assert_eq!(scene.registry.count("GET", "/manifests/v1"), 0);
    threat(4)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_two_readers_could_read_differently_is_refused() {
    let scene = Scene::start().await;
    let empty =
        json!({"mediaType": media_type::EMPTY, "digest": Digest::of_bytes(b"{}"), "size": 2});
    let image = json!({
        "schemaVersion": 2,
        "mediaType": media_type::MANIFEST,
        "config": empty,
        "layers": [],
    });
    let both = json!({
        "schemaVersion": 2,
        "mediaType": media_type::MANIFEST,
        "config": empty,
        "layers": [],
        "manifests": [],
    });
    let unnamed = json!({"schemaVersion": 2, "config": empty, "layers": [], "manifests": []});
    let judged = |media_type: &str, document: &Value| {
        let digest = scene
            .registry
            .put_manifest(TEAM, None, media_type, document.to_string());
        attach(
            &scene.registry,
            TEAM,
            &digest,
            scene
                .signed(
                    &scene.key,
                    &super::statement(&digest, super::SIGNATURE, &json!({})),
                )
                .to_string()
                .into(),
        );
        scene.judge_by(&scene.pinned(&digest), &[scene.policy(&json!({}))], "")
    };
    let outcomes = expect([
        (
            "layers and manifests",
            judged(media_type::MANIFEST, &both),
            "MalformedManifest",
        ),
        (
            "layers and manifests, served as an index",
            judged(media_type::INDEX, &unnamed),
            "MalformedManifest",
        ),
        (
            "an image that is served as an index",
            judged(media_type::INDEX, &image),
            "MalformedManifest",
        ),
    ]);
    threat(5)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_is_about_the_exact_bytes_of_index_or_child() {
    let scene = Scene::start().await;
    let child = json!({"schemaVersion": 2, "mediaType": media_type::MANIFEST,
        "config": {"mediaType": media_type::EMPTY,
        "digest": Digest::of_bytes(b"{}"), "size": 2}, "layers": []})
    .to_string();
    let size = child.len();
    let child = scene
        .registry
        .put_manifest(TEAM, None, media_type::MANIFEST, child);
    let listed = |digest: &Digest| {
        index(&[json!({"mediaType": media_type::MANIFEST, "digest": digest, "size": size})])
    };
    let list = scene
        .registry
        .put_manifest(TEAM, None, media_type::INDEX, listed(&child));
    let swapped = scene.registry.put_manifest(
        TEAM,
        None,
        media_type::INDEX,
        listed(&Digest::of_bytes(b"another child")),
    );
    let sign = |digest: &Digest| {
        let bundle = scene.signed(
            &scene.key,
            &super::statement(digest, super::SIGNATURE, &json!({})),
        );
        attach(
            &scene.registry,
            TEAM,
            digest,
            bundle.to_string().into_bytes(),
        );
    };
    let judged =
        |digest: &Digest| scene.judge_by(&scene.pinned(digest), &[scene.policy(&json!({}))], "");
    sign(&child);
    let only_child = judged(&list);
    let the_child = judged(&child);
    sign(&list);
    let outcomes = expect([
        (
            "an index, and only its child is signed",
            only_child,
            "NoSignatures",
        ),
        ("the child that is signed", the_child, "Admitted"),
        ("the index that is signed", judged(&list), "Admitted"),
        (
            "a signed index whose child was swapped",
            judged(&swapped),
            "NoSignatures",
        ),
    ]);
    threat(6)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}

/// A policy may require that the signed name is the repository in use: `bindRepository`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_that_was_copied_to_another_repository() {
    let scene = Scene::start().await;
    let copied = |repository: &str, more: &Value| -> Outcome {
        let digest = scene
            .registry
            .put_manifest(repository, None, media_type::INDEX, index(&[]));
        attach(
            &scene.registry,
            repository,
            &digest,
            scene
                .signed(&scene.key, &scene.signature())
                .to_string()
                .into_bytes(),
        );
        scene.judge_by(
            &format!("{}/{repository}@{digest}", scene.registry.host()),
            &[scene.policy(more)],
            "",
        )
    };
    let outcomes = expect([
        (
            "a copy that nothing binds to its repository",
            copied("other/app", &json!({})),
            "Admitted",
        ),
        (
            "a copy that does not say what it is a copy of",
            copied("another/app", &json!({"bindRepository": true})),
            "RepositoryMismatch",
        ),
    ]);
    threat(7)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}
