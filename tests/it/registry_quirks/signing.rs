//! Signatures that cannot be stored or found as the specification says.

use std::time::{Duration, Instant};

use super::{EMPTY_INDEX, REPOSITORY, Scene};
use crate::support::registry::{Fault, Settings, TagRule};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn immutable_tags_take_the_first_list_of_referrers() {
    for tags in [TagRule::Immutable, TagRule::WriteOnce] {
        let scene = Scene::start(Settings {
            referrers_api: false,
            tags,
            ..Settings::default()
        })
        .await;
        let reference = scene.pack_signed().ok().to_owned();
        scene
            .run(&format!(
                "verify {reference} --key packgate.pub --builder-id https://packgate.dev/builder/cli"
            ))
            .ok();
        assert_eq!(scene.registry.count("PUT", "/manifests/sha256-"), 1);
        scene.workspace.run("keys generate --out-dir other").ok();
        let second = scene.run(&format!("sign {reference} --key other/packgate.key"));
        second.refused(2, "RegistryRefused");
        for words in ["TAG_INVALID", "sha256-*", "--signature-format Legacy"] {
            assert!(second.stderr.contains(words), "{second:?}");
        }
        assert!(!second.stderr.contains("unavailable"), "{second:?}");
        scene
            .run(&format!(
                "sign {reference} --key other/packgate.key --signature-format Legacy"
            ))
            .ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_listed_is_not_signed_in_part() {
    let scene = Scene::without_api().await;
    let refused = Fault::on("PUT", "/manifests/sha256-").status(403);
    scene.registry.fault(refused);
    let run = scene.pack_signed();
    run.refused(3, "RegistryDenied");
    assert!(run.stderr.contains("sha256-*"), "{run:?}");
    assert_eq!(scene.registry.tags(REPOSITORY), Vec::<String>::new());
}

/// The registry answers the API, does not say that it lists a referrer, and does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_that_nobody_can_find_is_an_error() {
    let scene = Scene::without_api().await;
    let answer = Fault::on("GET", "/referrers/")
        .body(EMPTY_INDEX)
        .header("content-type", "application/vnd.oci.image.index.v1+json");
    scene.registry.fault(answer);
    let reference = scene.pack();
    let run = scene.sign(&reference);
    run.refused(3, "RegistryUnavailable");
    assert!(
        run.stderr.contains("missing from its list of referrers"),
        "{run:?}"
    );
    let listed = scene
        .registry
        .manifest(REPOSITORY, &Scene::fallback_tag(&reference));
    assert!(listed.is_some(), "others may look there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_reads_are_read_again() {
    for referrers_api in [true, false] {
        let scene = Scene::start(Settings {
            referrers_api,
            stale_tags: Duration::from_secs(2),
            ..Settings::default()
        })
        .await;
        let reference = scene.pack_signed().ok().to_owned();
        tokio::time::sleep(Duration::from_secs(2)).await;
        scene.verify(&reference).ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_signer_signs_the_same_once() {
    let scene = Scene::start(Settings::default()).await;
    let reference = scene.pack();
    scene.workspace.write("predicate.json", r#"{"a":1}"#);
    for format in ["Bundle", "Legacy"] {
        let sign = format!("sign {reference} --key packgate.key --signature-format {format}");
        let attest = format!(
            "attest {reference} --predicate predicate.json --type https://example.com/t --key \
             packgate.key --signature-format {format}"
        );
        for line in [sign, attest] {
            let first = scene.run(&line).ok().to_owned();
            let before = scene.registry.requests().len();
            let again = scene.run(&line);
            assert_eq!(again.ok(), first, "{line}");
            assert!(again.stderr.contains("--force"), "{again:?}");
            let written = scene.registry.requests().split_off(before);
            assert!(written.iter().all(|r| r.method == "GET"), "{line}");
            let forced = scene.run(&format!("{line} --force"));
            assert_ne!(forced.ok(), first, "{line}");
        }
    }
    scene.workspace.write("predicate.json", r#"{"a":2}"#);
    let other = format!(
        "attest {reference} --predicate predicate.json --type https://example.com/t --key \
         packgate.key -o json"
    );
    assert_eq!(scene.run(&other).json()["existed"], false);
    scene.workspace.run("keys generate --out-dir other").ok();
    let line = format!("sign {reference} --key other/packgate.key -o json");
    assert_eq!(scene.run(&line).json()["existed"], false);
    assert_eq!(scene.run(&line).json()["existed"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_limit_is_waited_for_as_long_as_it_asks() {
    let scene = Scene::without_api().await;
    let reference = scene.pack();
    let limits = || {
        for (part, seconds) in [
            ("/manifests/sha256:", "2"),
            ("/manifests/sha256-", "1"),
            ("/blobs/uploads/", "1"),
        ] {
            let limit = Fault::on("PUT", part)
                .status(429)
                .header("retry-after", seconds);
            scene.registry.fault(limit.times(4));
        }
    };
    limits();
    scene.sign(&reference).refused(3, "RateLimited");
    scene.registry.heal();
    limits();
    let begun = Instant::now();
    let line = format!("sign {reference} --key packgate.key --rate-limit-wait 60");
    let run = scene.run(&line);
    run.ok();
    assert!(
        begun.elapsed() >= Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    assert!(
        run.stderr.contains("limits the rate of requests"),
        "{run:?}"
    );
    scene.verify(&reference).ok();
    scene.registry.heal();
    let long = Fault::on("GET", "/manifests/")
        .status(429)
        .header("retry-after", "3600");
    scene.registry.fault(long);
    scene.run(&line).refused(3, "RateLimited");
}

/// As with cosign's COSIGN_REPOSITORY: for images in registries that take no signatures.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signatures_can_be_in_another_repository() {
    for referrers_api in [true, false] {
        let scene = Scene::start(Settings {
            referrers_api,
            ..Settings::default()
        })
        .await;
        let reference = scene.pack();
        scene
            .registry
            .fault(Fault::on("PUT", format!("/{REPOSITORY}/")).status(403));
        let host = scene.registry.host();
        let apart = format!("--signature-repository {host}/team/signatures");
        scene.workspace.write("predicate.json", r#"{"a":1}"#);
        for format in ["Bundle", "Legacy"] {
            let form = format!("--signature-format {format}");
            scene
                .sign(&format!("{reference} {form}"))
                .refused(3, "RegistryDenied");
            scene.sign(&format!("{reference} {apart} {form}")).ok();
            let again = scene.sign(&format!("{reference} {apart} {form} -o json"));
            assert_eq!(again.json()["existed"], true);
            scene
                .run(&format!(
                    "attest {reference} {apart} {form} --predicate predicate.json --type \
                     https://example.com/t --key packgate.key"
                ))
                .ok();
            scene
                .verify(&format!("{reference} {form}"))
                .refused(1, "NoSignatures");
            let verified = scene.verify(&format!("{reference} {apart} {form} -o json"));
            let line = verified.json()["reproduce"].to_string();
            assert!(line.contains("--signature-repository"), "{line}");
        }
        let to = format!("{host}/other/hello:v1");
        let copied = scene
            .run(&format!("copy {reference} {to} {apart}"))
            .ok()
            .to_owned();
        scene.verify(&copied).ok();
        scene
            .verify(&format!("{copied} --signature-format Legacy"))
            .ok();
        scene
            .run(&format!(
                "unpack {reference} --to got --key packgate.pub {apart}"
            ))
            .ok();
    }
}
