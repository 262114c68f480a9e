//! Lists of referrers: complete, bounded, or an error.

use std::time::Duration;

use futures::future::join_all;
use packgate::{
    core::{digest::Digest, limits::InputLimits, media_type, oci::Descriptor, reason::Reason},
    oci::{ContentSource, ContentTarget, PushContent},
};

use super::{REPOSITORY, manifest, reason, target, with_subject};
use crate::support::{
    cli::Workspace,
    registry::{Fault, Registry, Settings},
};

const KEY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/data/keys/p256-pkcs8.pem"
);

#[tokio::test]
async fn lists_of_referrers_end_at_the_limit() {
    let (registry, subject) = with_subject(Settings {
        page_size: 7,
        ..Settings::default()
    })
    .await;
    for n in 0..20 {
        registry.put_manifest(
            REPOSITORY,
            None,
            media_type::MANIFEST,
            manifest(&n.to_string(), Some(&subject)).1,
        );
    }
    let target = target(&registry);
    assert_eq!(
        target
            .list_referrers(
                &subject,
                &InputLimits {
                    referrers_listed: 20,
                    ..InputLimits::DEFAULT
                }
            )
            .await
            .expect("within")
            .len(),
        20
    );
    let outcome = target
        .list_referrers(
            &subject,
            &InputLimits {
                referrers_listed: 19,
                ..InputLimits::DEFAULT
            },
        )
        .await;
    assert_eq!(reason(outcome), Reason::TooManyReferrers);
}

#[tokio::test]
async fn endless_pages_of_referrers_end() {
    let (registry, subject) = with_subject(Settings::default()).await;
    let empty = r#"{"schemaVersion":2,"manifests":[]}"#;
    let link = format!(
        "</v2/{REPOSITORY}/referrers/{}?again>; rel=\"next\"",
        subject.digest
    );
    registry.fault(
        Fault::on("GET", "/referrers/")
            .body(empty)
            .header("link", link),
    );
    let target = target(&registry);
    assert_eq!(
        reason(target.list_referrers(&subject, &InputLimits::DEFAULT).await),
        Reason::TooManyReferrers
    );
    assert!(
        target.request_count() <= 100,
        "{} requests",
        target.request_count()
    );
}

#[tokio::test]
async fn pages_of_referrers_stay_with_the_registry() {
    let (registry, subject) = with_subject(Settings::default()).await;
    let other = Registry::start().await;
    let link = format!("<{}/v2/x>; rel=\"next\"", other.origin());
    registry.fault(
        Fault::on("GET", "/referrers/")
            .body(r#"{"schemaVersion":2,"manifests":[]}"#)
            .header("link", link),
    );
    assert_eq!(
        reason(
            target(&registry)
                .list_referrers(&subject, &InputLimits::DEFAULT)
                .await
        ),
        Reason::RegistryUnavailable
    );
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn a_descriptor_that_cannot_be_read_hides_no_other() {
    let (registry, subject) = with_subject(Settings::default()).await;
    let (good, _) = manifest("good", Some(&subject));
    let list = serde_json::json!({"schemaVersion": 2, "manifests": [
        {"mediaType": "x", "digest": "sha512:00", "size": 1}, 7, good, {"size": -1}]});
    registry.fault(Fault::on("GET", "/referrers/").body(list.to_string()));
    assert_eq!(
        target(&registry)
            .list_referrers(&subject, &InputLimits::DEFAULT)
            .await
            .expect("listed"),
        vec![good]
    );
}

#[tokio::test]
async fn referrers_are_found_with_and_without_the_api() {
    for referrers_api in [true, false] {
        let (registry, subject) = with_subject(Settings {
            referrers_api,
            ..Settings::default()
        })
        .await;
        let target = target(&registry);
        let (first, bytes) = manifest("first", Some(&subject));
        target
            .push_content(&first, PushContent::Bytes(&bytes))
            .await
            .expect("pushed");
        target
            .push_content(&first, PushContent::Bytes(&bytes))
            .await
            .expect("pushed again");
        let (second, bytes) = manifest("second", Some(&subject));
        target
            .push_content(&second, PushContent::Bytes(&bytes))
            .await
            .expect("pushed");
        let listed = target
            .list_referrers(&subject, &InputLimits::DEFAULT)
            .await
            .expect("listed");
        let mut found: Vec<_> = listed
            .iter()
            .map(|d| {
                (
                    d.digest,
                    d.artifact_type.clone(),
                    d.annotations["note"].clone(),
                )
            })
            .collect();
        found.sort_by(|a, b| a.2.cmp(&b.2));
        let typed = Some("application/vnd.example+json".to_owned());
        assert_eq!(
            found,
            vec![
                (first.digest, typed.clone(), "first".into()),
                (second.digest, typed, "second".into())
            ],
            "api {referrers_api}"
        );
        let fallback = registry.tag(REPOSITORY, &subject.digest.referrers_fallback_tag());
        assert_eq!(
            fallback.is_some(),
            !referrers_api,
            "the tag is for registries without the API"
        );
    }
}

#[tokio::test]
async fn parallel_writers_of_the_fallback_tag_lose_nothing() {
    let (registry, subject) = with_subject(Settings {
        referrers_api: false,
        ..Settings::default()
    })
    .await;
    let writers = (0..20).map(|n| {
        // Each with a target of its own, as in parallel `sign` and `attest` calls.
        let (target, (descriptor, bytes)) =
            (target(&registry), manifest(&n.to_string(), Some(&subject)));
        tokio::spawn(async move {
            target
                .push_content(&descriptor, PushContent::Bytes(&bytes))
                .await
                .map(|()| descriptor.digest)
        })
    });
    let pushed: Vec<Digest> = join_all(writers)
        .await
        .into_iter()
        .map(|push| push.expect("no panic").expect("pushed"))
        .collect();
    let listed = target(&registry)
        .list_referrers(&subject, &InputLimits::DEFAULT)
        .await
        .expect("listed");
    assert_eq!(listed.len(), 20, "no duplicates");
    assert!(
        pushed
            .iter()
            .all(|digest| listed.iter().any(|d| d.digest == *digest))
    );
}

#[tokio::test]
async fn an_entry_that_another_process_overwrote_is_written_again() {
    let (registry, subject) = with_subject(Settings {
        referrers_api: false,
        ..Settings::default()
    })
    .await;
    // The first write of the list gets a success and is lost.
    registry.fault(Fault::on("PUT", "/manifests/sha256-").status(201).times(2));
    let (descriptor, bytes) = manifest("x", Some(&subject));
    target(&registry)
        .push_content(&descriptor, PushContent::Bytes(&bytes))
        .await
        .expect("pushed");
    assert_eq!(
        target(&registry)
            .list_referrers(&subject, &InputLimits::DEFAULT)
            .await
            .expect("listed")
            .len(),
        1
    );
    registry.fault(Fault::on("PUT", "/manifests/sha256-").status(201));
    let (descriptor, bytes) = manifest("y", Some(&subject));
    assert_eq!(
        reason(
            target(&registry)
                .push_content(&descriptor, PushContent::Bytes(&bytes))
                .await
        ),
        Reason::RegistryUnavailable,
        "lost every time"
    );
}

#[tokio::test]
async fn a_fallback_list_that_cannot_be_read_is_not_overwritten() {
    let (registry, subject) = with_subject(Settings {
        referrers_api: false,
        ..Settings::default()
    })
    .await;
    registry.fault(Fault::on("GET", "/manifests/sha256-").status(403));
    let (descriptor, bytes) = manifest("x", Some(&subject));
    assert_eq!(
        reason(
            target(&registry)
                .push_content(&descriptor, PushContent::Bytes(&bytes))
                .await
        ),
        Reason::RegistryDenied
    );
    assert_eq!(registry.count("PUT", "/manifests/sha256-"), 0);
}

#[tokio::test]
async fn an_entry_of_others_that_vanished_is_put_back() {
    let (registry, subject) = with_subject(Settings {
        referrers_api: false,
        ..Settings::default()
    })
    .await;
    let fallback = subject.digest.referrers_fallback_tag();
    let list = |entries: &[&Descriptor]| {
        serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media_type::INDEX,
            "manifests": entries,
        })
        .to_string()
    };
    let (theirs, _) = manifest("theirs", Some(&subject));
    registry.put_manifest(
        REPOSITORY,
        Some(&fallback),
        media_type::INDEX,
        list(&[&theirs]),
    );
    let (ours, bytes) = manifest("ours", Some(&subject));
    let ours_digest = ours.digest;
    let writer = {
        let target = target(&registry);
        tokio::spawn(async move { target.push_content(&ours, PushContent::Bytes(&bytes)).await })
    };
    // Another writer has read the list before both, and writes only its own entry.
    let is_listed = || {
        registry
            .manifest(REPOSITORY, &fallback)
            .is_some_and(|list| String::from_utf8_lossy(&list).contains(&ours_digest.to_string()))
    };
    while !is_listed() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let (third, _) = manifest("third", Some(&subject));
    registry.put_manifest(
        REPOSITORY,
        Some(&fallback),
        media_type::INDEX,
        list(&[&third]),
    );
    writer.await.expect("no panic").expect("pushed");
    let listed = target(&registry)
        .list_referrers(&subject, &InputLimits::DEFAULT)
        .await
        .expect("listed");
    let mut found: Vec<Digest> = listed.iter().map(|descriptor| descriptor.digest).collect();
    let mut expected = vec![theirs.digest, ours_digest, third.digest];
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_referrer_that_is_listed_twice_is_read_once() {
    for referrers_api in [true, false] {
        let (registry, subject) = with_subject(Settings {
            referrers_api,
            ..Settings::default()
        })
        .await;
        let (good, _) = manifest("good", Some(&subject));
        let wrong = Descriptor {
            size: good.size + 1,
            ..good.clone()
        };
        let list = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media_type::INDEX,
            "manifests": [wrong, good, good, wrong, good],
        })
        .to_string();
        if referrers_api {
            registry.fault(Fault::on("GET", "/referrers/").body(list));
        } else {
            registry.put_manifest(
                REPOSITORY,
                Some(&subject.digest.referrers_fallback_tag()),
                media_type::INDEX,
                list,
            );
        }
        assert_eq!(
            target(&registry)
                .list_referrers(&subject, &InputLimits::DEFAULT)
                .await
                .expect("listed"),
            vec![wrong, good]
        );
    }
}

#[tokio::test]
async fn a_write_that_fails_is_made_anew_from_a_fresh_list() {
    let (registry, subject) = with_subject(Settings {
        referrers_api: false,
        ..Settings::default()
    })
    .await;
    registry.fault(Fault::on("PUT", "/manifests/sha256-").status(503).times(2));
    let (descriptor, bytes) = manifest("x", Some(&subject));
    target(&registry)
        .push_content(&descriptor, PushContent::Bytes(&bytes))
        .await
        .expect("pushed");
    let before_puts = registry
        .requests()
        .windows(2)
        .filter(|pair| pair[1].method == "PUT" && pair[1].path.contains("/manifests/sha256-"))
        .count();
    let after_reads = registry
        .requests()
        .windows(2)
        .filter(|pair| {
            pair[1].method == "PUT"
                && pair[1].path.contains("/manifests/sha256-")
                && pair[0].method == "GET"
        })
        .count();
    assert_eq!(
        (before_puts, after_reads),
        (3, 3),
        "each write follows a read"
    );
    registry.fault(Fault::on("PUT", "/manifests/sha256-").status(429));
    let (descriptor, bytes) = manifest("y", Some(&subject));
    assert_eq!(
        reason(
            target(&registry)
                .push_content(&descriptor, PushContent::Bytes(&bytes))
                .await
        ),
        Reason::RateLimited
    );
    registry.heal();
    registry.fault(Fault::on("PUT", "/manifests/sha256-").status(403));
    assert_eq!(
        reason(
            target(&registry)
                .push_content(&descriptor, PushContent::Bytes(&bytes))
                .await
        ),
        Reason::RegistryDenied
    );
}

/// Some writes take long enough to overwrite entries that others consider safe.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_with_slow_writes_lose_nothing() {
    let (registry, subject) = with_subject(Settings {
        referrers_api: false,
        ..Settings::default()
    })
    .await;
    for (after, milliseconds) in [(1, 150), (1, 40), (2, 90), (3, 200), (2, 10)] {
        registry.fault(
            Fault::on("PUT", "/manifests/sha256-")
                .delay(Duration::from_millis(milliseconds))
                .after(after)
                .times(1),
        );
    }
    let workspace = Workspace::new();
    let line = format!(
        "sign --plain-http {}/{REPOSITORY}@{} --key {KEY} --force",
        registry.host(),
        subject.digest
    );
    let runs = workspace.at_once(std::iter::repeat_n(line, 12));
    let mut added: Vec<String> = runs.iter().map(|run| run.ok().to_owned()).collect();
    let listed = target(&registry)
        .list_referrers(&subject, &InputLimits::DEFAULT)
        .await
        .expect("listed");
    let mut found: Vec<String> = listed
        .iter()
        .map(|descriptor| descriptor.digest.to_string())
        .collect();
    added.sort();
    found.sort();
    assert_eq!(found, added);
}
