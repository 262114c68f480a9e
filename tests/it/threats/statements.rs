//! Threats 8 to 14: the content of a signature, and documents that are none.

use serde_json::{Value, json};

use super::{BUILDER, Outcome, Scene, TEAM, expect, reasons, referrer, requests};
use crate::support::{
    forging::{Recipe, Sigstore},
    registry::Settings,
    threats::threat,
};

/// A scene whose image has this statement, signed with the accepted key.
async fn said(edit: impl FnOnce(&Scene, &mut Value)) -> Outcome {
    let scene = Scene::start().await;
    let mut statement = scene.signature();
    edit(&scene, &mut statement);
    scene.attach(&scene.signed(&scene.key, &statement));
    scene.judge()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_about_another_artifact_does_not_count() {
    let outcomes = expect([(
        "another digest",
        said(|_, statement| statement["subject"][0]["digest"]["sha256"] = "0".repeat(64).into())
            .await,
        "SubjectMismatch",
    )]);
    threat(8)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_an_exact_sha256_among_the_subjects_counts() {
    let outcomes = expect([
        (
            "no subject",
            said(|_, statement| statement["subject"] = json!([])).await,
            "SubjectMismatch",
        ),
        (
            "null",
            said(|_, statement| statement["subject"] = Value::Null).await,
            "MalformedEvidence",
        ),
        (
            "sha512 only",
            said(|_, statement| {
                statement["subject"][0]["digest"] = json!({
                    "sha512": "0".repeat(128),
                });
            })
            .await,
            "SubjectMismatch",
        ),
        (
            "upper case",
            said(|scene, statement| {
                statement["subject"][0]["digest"]["sha256"] =
                    scene.image.hex_digits().to_uppercase().into();
            })
            .await,
            "SubjectMismatch",
        ),
        (
            "several, and the right one among them",
            said(|scene, statement| {
                statement["subject"] = json!([
                    {"digest": {"sha256": "0".repeat(64)}},
                    {"digest": {"sha256": scene.image.hex_digits()}},
                ]);
            })
            .await,
            "Admitted",
        ),
        (
            "the right one twice",
            said(|_, statement| {
                statement["subject"] = json!([statement["subject"][0], statement["subject"][0],]);
            })
            .await,
            "Admitted",
        ),
        (
            "too many",
            said(|_, statement| {
                statement["subject"] = json!(vec![statement["subject"][0].clone(); 65]);
            })
            .await,
            "LimitExceeded",
        ),
    ]);
    threat(9)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_type_of_the_payload_is_signed_and_fixed_in_a_registry_too() {
    let judged = |signed: &'static str, said: &'static str| async move {
        let scene = Scene::start().await;
        let recipe = Recipe {
            payload_type: signed.into(),
            ..Recipe::new(&scene.key, scene.signature().to_string())
        };
        let mut bundle = recipe.bundle(&Sigstore::new());
        bundle["dsseEnvelope"]["payloadType"] = said.into();
        scene.attach(&bundle);
        scene.judge()
    };
    let statement = "application/vnd.in-toto+json";
    let outcomes = expect([
        (
            "another type, signed",
            judged("text/plain", "text/plain").await,
            "MalformedEvidence",
        ),
        (
            "another type than was signed",
            judged(statement, "text/plain").await,
            "MalformedEvidence",
        ),
        (
            "the right type, and another was signed",
            judged("text/plain", statement).await,
            "InvalidSignature",
        ),
    ]);
    threat(10)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attestation_counts_as_what_it_is_only() {
    let scene = Scene::start().await;
    let bill = "https://spdx.dev/Document";
    scene.attach(&scene.signed(
        &scene.key,
        &scene.statement(bill, &json!({"spdxVersion": "SPDX-2.3"})),
    ));
    let for_a_signature = scene.judge();
    scene.sign();
    let slsa = json!({
        "slsa": {"minimumLevel": 1, "builders": [{"id": BUILDER, "authority": "team", "level": 1}]},
    });
    let for_provenance = scene.judge_by(&scene.reference(), &[scene.policy(&slsa)], "");
    let outcomes = expect([
        (
            "a bill of materials where a signature is asked for",
            for_a_signature,
            "PredicateTypeMismatch",
        ),
        (
            "a bill of materials where provenance is asked for",
            for_provenance,
            "PredicateTypeMismatch",
        ),
    ]);
    threat(11)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_never_enough() {
    let scene = Scene::start().await;
    let reference = scene.reference();
    let by = |more: Value| scene.judge_by(&reference, &[scene.policy(&more)], "");
    let nothing_attached = scene.judge();
    let no_policy = scene.run(&format!("verify --plain-http {reference}"));
    let no_authority = by(json!({"authorities": []}));
    let empty = by(json!({"match": {"references": []}, "authorities": []}));
    let no_builder = by(json!({"slsa": {"minimumLevel": 1, "builders": []}}));
    let slsa = json!({
        "slsa": {"minimumLevel": 1, "builders": [{"id": BUILDER, "authority": "team", "level": 1}]},
    });
    scene.sign();
    let outcomes = expect([
        ("no evidence", nothing_attached, "NoSignatures"),
        ("no provenance", by(slsa), "NoProvenance"),
        ("no policy", no_policy, "InvalidSpec"),
        ("no authority", no_authority, "InvalidSpec"),
        ("an empty policy", empty, "InvalidSpec"),
        ("no builder", no_builder, "InvalidSpec"),
    ]);
    threat(12)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_no_signature() {
    let judged = |edit: fn(String) -> Vec<u8>| async move {
        let scene = Scene::start().await;
        scene.attach_bytes(edit(
            scene.signed(&scene.key, &scene.signature()).to_string(),
        ));
        scene.judge()
    };
    let payload = |edit: fn(String) -> String| async move {
        let scene = Scene::start().await;
        scene.attach(
            &Recipe::new(&scene.key, edit(scene.signature().to_string())).bundle(&Sigstore::new()),
        );
        scene.judge()
    };
    let bad = "MalformedEvidence";
    let outcomes = expect([
        (
            "half a document",
            judged(|text| text.as_bytes()[..text.len() / 2].to_vec()).await,
            bad,
        ),
        (
            "half of the base64",
            judged(|text| {
                text.replacen("==\"", "=\"", 1)
                    .replacen("\"payload\":\"ey", "\"payload\":\"e", 1)
                    .into_bytes()
            })
            .await,
            bad,
        ),
        (
            "a byte order mark",
            judged(|text| format!("\u{feff}{text}").into_bytes()).await,
            bad,
        ),
        (
            "a key twice",
            judged(|text| text.replacen('{', "{\"mediaType\":\"x\",", 1).into_bytes()).await,
            bad,
        ),
        (
            "deep",
            judged(|text| {
                text.replacen(
                    '{',
                    &format!("{{\"x\":{}{},", "[".repeat(500), "]".repeat(500)),
                    1,
                )
                .into_bytes()
            })
            .await,
            bad,
        ),
        (
            "half a statement, signed",
            payload(|text| text[..text.len() / 2].to_owned()).await,
            bad,
        ),
        (
            "a statement behind a byte order mark, signed",
            payload(|text| format!("\u{feff}{text}")).await,
            bad,
        ),
        (
            "a statement with a key twice, signed",
            payload(|text| text.replacen('{', "{\"_type\":\"x\",", 1)).await,
            bad,
        ),
    ]);
    threat(13)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_referrer_without_a_signature_never_counts() {
    let scene = Scene::with(Settings::default()).await;
    let mut plain = referrer(
        &scene.image,
        &packgate::core::digest::Digest::of_bytes(b"{}"),
        2,
    );
    plain["artifactType"] = "application/spdx+json".into();
    plain["layers"][0]["mediaType"] = "application/spdx+json".into();
    scene.registry.put_manifest(
        TEAM,
        None,
        packgate::core::media_type::MANIFEST,
        plain.to_string(),
    );
    let foreign = scene.judge();
    let mut bundle = scene.signed(&scene.key, &scene.signature());
    bundle["dsseEnvelope"]["signatures"] = json!([]);
    scene.attach(&bundle);
    let outcomes = expect([
        ("a plain document", foreign, "NoSignatures"),
        (
            "an envelope that nobody signed",
            scene.judge(),
            "MalformedEvidence",
        ),
    ]);
    threat(14)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}
