//! Threats 15 to 19: lists of evidence that are poisoned, endless, oversized or replaced.

use std::{sync::Arc, time::Duration};

use packgate::{
    core::{
        digest::Digest, limits::InputLimits, media_type, oci::Descriptor, reason::ClassifiedError,
    },
    http::{HttpClient, HttpOptions, HttpProxy, HttpRetryPolicy},
    oci::{
        ContentSource,
        credentials::AnonymousCredentials,
        remote::{RegistryOptions, RegistryTarget},
    },
};
use serde_json::{Value, json};

use super::{Outcome, Scene, TEAM, expect, index, reasons, referrer, requests};
use crate::support::{
    registry::{Fault, Settings},
    threats::threat,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_good_signature_holds_among_poisoned_referrers() {
    let scene = Scene::start().await;
    scene.sign();
    for bad in [
        "",
        "{",
        "{}",
        "[]",
        "null",
        "{\"mediaType\":\"application/vnd.dev.sigstore.bundle.v0.3+json\"}",
    ] {
        scene.attach_bytes(bad.as_bytes().to_vec());
    }
    let outcome = scene.judge();
    let rejected = outcome.report["rejected"]
        .as_array()
        .expect("a list")
        .clone();
    assert_eq!(
        rejected.len(),
        6,
        "the bad ones are told: {:#}",
        outcome.report
    );
    let bad = rejected
        .iter()
        .map(|rejected| rejected["reason"].as_str().expect("a reason"));
    let outcomes = expect([("one good among six", outcome, "Admitted")]);
    threat(15)
        .reasons(bad.chain(["Admitted"]))
        .requests(requests(&outcomes));
}

/// The registry's own lists, with a client with short timeouts: the command line waits for minutes.
fn impatient(scene: &Scene) -> RegistryTarget {
    packgate::install_crypto_provider();
    let retries = HttpRetryPolicy {
        attempts: 1,
        ..HttpRetryPolicy::default()
    };
    let (idle, answer) = (Duration::from_millis(200), Duration::from_millis(600));
    let options = HttpOptions {
        proxy: HttpProxy::Direct,
        idle_timeout: idle,
        response_timeout: answer,
        retries,
        ..HttpOptions::default()
    };
    let repository = format!("{}/{TEAM}", scene.registry.host())
        .parse()
        .expect("a repository");
    let http = HttpClient::new(&options).expect("a client");
    RegistryTarget::new(
        repository,
        &http,
        Arc::new(AnonymousCredentials),
        RegistryOptions {
            plain_http: true,
            ..RegistryOptions::default()
        },
    )
    .expect("a target")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_of_referrers_without_an_end_end() {
    let scene = Scene::start().await;
    let listed = |count: usize| {
        let entry = |n: usize| {
            json!({
                "mediaType": media_type::MANIFEST,
                "digest": format!("sha256:{n:064x}"),
                "size": 500,
            })
        };
        index(&(0..count).map(entry).collect::<Vec<_>>())
    };
    let judged = |fault: Fault| {
        scene.registry.heal();
        scene
            .registry
            .fault(fault.header("content-type", media_type::INDEX));
        scene.judge()
    };
    let list = || Fault::on("GET", "/referrers/").status(200);
    let next = format!("</v2/{TEAM}/referrers/{}?n=1>; rel=\"next\"", scene.image);
    let mut outcomes = expect([
        (
            "100,000 descriptors",
            judged(list().body(listed(100_000))),
            "LimitExceeded",
        ),
        (
            "as many descriptors as fit",
            judged(list().body(listed(25_000))),
            "TooManyReferrers",
        ),
        (
            "pages without an end",
            judged(list().header("link", next).body(listed(10))),
            "TooManyReferrers",
        ),
        (
            "a page without an end",
            judged(list().endless()),
            "LimitExceeded",
        ),
    ]);
    scene.registry.heal();
    scene.registry.fault(list().drip(Duration::from_millis(20)));
    let before = scene.registry.requests().len();
    let subject = Descriptor::new(media_type::INDEX, scene.image, 1);
    let asked = tokio::time::timeout(Duration::from_secs(30), async {
        impatient(&scene)
            .list_referrers(&subject, &InputLimits::DEFAULT)
            .await
    });
    let reason = asked
        .await
        .expect("it ends by itself")
        .expect_err("a list that never comes")
        .reason();
    let drip = Outcome {
        reason: reason.to_string(),
        requests: scene.registry.requests().len() - before + 1,
        report: Value::Null,
    };
    outcomes.extend(expect([(
        "a page a byte at a time",
        drip,
        "DeadlineExceeded",
    )]));
    threat(16)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_refused_before_it_is_read() {
    let judged = |part: &'static str, fault: fn(Fault) -> Fault| async move {
        let scene = Scene::start().await;
        scene.sign();
        scene.registry.fault(fault(Fault::on("GET", part)));
        let outcome = scene.judge();
        assert!(
            scene.registry.endless_bytes() < 32 << 20,
            "{} bytes were taken",
            scene.registry.endless_bytes()
        );
        outcome
    };
    let claimed = Scene::start().await;
    let layer = Digest::of_bytes(b"1 GiB");
    claimed.registry.put_manifest(
        TEAM,
        None,
        media_type::MANIFEST,
        referrer(&claimed.image, &layer, 1 << 30).to_string(),
    );
    claimed
        .registry
        .fault(Fault::on("GET", format!("/blobs/{layer}")).endless());
    let bundle = claimed.judge();
    assert_eq!(
        claimed.registry.count("GET", "/blobs/"),
        0,
        "it is not even asked for"
    );
    // Ten kilobytes of gzip that would be ten gigabytes: a response with an unrequested encoding is
    // not decoded.
    let bomb = |fault: Fault| {
        fault
            .status(200)
            .header("content-encoding", "gzip")
            .body(vec![0x1f; 10 << 10])
    };
    let outcomes = expect([
        (
            "a manifest without an end",
            judged("/manifests/sha256:", Fault::endless).await,
            "LimitExceeded",
        ),
        ("a bundle that says it has 1 GiB", bundle, "LimitExceeded"),
        (
            "a manifest that is encoded",
            judged("/manifests/sha256:", bomb).await,
            "DigestMismatch",
        ),
    ]);
    threat(17)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fallback_tag_that_was_tampered_with_proves_nothing_more() {
    let scene = Scene::with(Settings {
        referrers_api: false,
        ..Settings::default()
    })
    .await;
    let signature = scene
        .signed(&scene.key, &scene.signature())
        .to_string()
        .into_bytes();
    let good = scene.attach_bytes(signature.clone());
    let foreign = super::attach(
        &scene.registry,
        TEAM,
        &Digest::of_bytes(b"another"),
        signature,
    );
    let tag = format!("sha256-{}", scene.image.hex_digits());
    let entry = |digest: &Digest, artifact_type: &str| {
        let size = scene
            .registry
            .manifest(TEAM, &digest.to_string())
            .expect("stored")
            .len();
        json!({
            "mediaType": media_type::MANIFEST,
            "artifactType": artifact_type,
            "digest": digest,
            "size": size,
        })
    };
    let with_list = |entries: &[Value]| {
        scene
            .registry
            .put_manifest(TEAM, Some(&tag), media_type::INDEX, index(entries));
        scene.judge()
    };
    let deleted = scene.judge();
    let outcomes = expect([
        ("the tag is deleted", deleted, "NoSignatures"),
        ("the tag lists nothing", with_list(&[]), "NoSignatures"),
        (
            "the tag lists a referrer of something else",
            with_list(&[entry(&foreign, media_type::SIGSTORE_BUNDLE_V03)]),
            "SubjectMismatch",
        ),
        (
            "the tag calls the signature something else",
            with_list(&[entry(&good, media_type::EMPTY)]),
            "Admitted",
        ),
    ]);
    threat(18)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_form_that_is_left_behind_stands_in_for_nothing() {
    let scene = Scene::start().await;
    scene.workspace.run("keys generate --out-dir retired").ok();
    let pem = scene.workspace.read("retired/packgate.pub");
    let reference = scene.reference();
    let line = format!(
        "sign {reference} --plain-http --key retired/packgate.key --signature-format Legacy"
    );
    scene.workspace.run(&line).ok();
    let by = |formats: Value, authorities: Value, more: Value| {
        let mut policy = json!({"signatureFormats": formats, "authorities": authorities});
        policy
            .as_object_mut()
            .expect("fields")
            .extend(more.as_object().expect("fields").clone());
        scene.judge_by(&reference, &[scene.policy(&policy)], "")
    };
    let keys = |pem: &str| json!([{"name": "team", "key": {"pem": pem}}]);
    let (current, both) = (scene.key.pem(), json!(["Bundle", "Legacy"]));
    let key_hash = packgate::core::verify::VerificationKey::from_pem(&pem)
        .expect("a key")
        .fingerprint();
    let revoked = json!({"revocations": [{"keyHash": key_hash, "reason": "retired"}]});
    let outcomes = expect([
        (
            "the old key is known, its form is not listed",
            by(json!(["Bundle"]), keys(&pem), json!({})),
            "NoSignatures",
        ),
        (
            "its form is listed, the old key is unknown",
            by(both.clone(), keys(&current), json!({})),
            "NoMatchingAuthority",
        ),
        (
            "its form is listed, the old key is revoked",
            by(both.clone(), keys(&pem), revoked),
            "Revoked",
        ),
        (
            "its form is listed, the old key is known",
            by(both, keys(&pem), json!({})),
            "Admitted",
        ),
    ]);
    threat(19)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}
