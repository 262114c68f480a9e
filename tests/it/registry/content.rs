//! Content that does not match its digest, and endless content.

use packgate::{
    core::{
        limits::InputLimits,
        media_type,
        oci::Descriptor,
        reason::{ClassifiedError, Reason},
        reference::TagOrDigest,
    },
    oci::{ContentSource, ContentTarget, PushContent},
};

use super::{REPOSITORY, blob_of, by_tag, manifest, read, reason, target, with_subject};
use crate::support::registry::{Auth, Fault, Registry, Settings};

#[tokio::test]
async fn a_changed_byte_is_a_digest_mismatch() {
    let (registry, subject) = with_subject(Settings::default()).await;
    let (blob, bytes) = blob_of(100_000);
    registry.put_blob(REPOSITORY, bytes);
    registry.fault(Fault::on("GET", "/blobs/").flip(99_999));
    registry.fault(Fault::on("GET", "/manifests/").flip(20));
    let target = target(&registry);
    assert_eq!(reason(read(&target, &blob).await), Reason::DigestMismatch);
    assert_eq!(
        reason(
            target
                .resolve_manifest(&TagOrDigest::Digest(subject.digest), &InputLimits::DEFAULT)
                .await
        ),
        Reason::DigestMismatch
    );
    assert_eq!(
        reason(read(&target, &subject).await),
        Reason::DigestMismatch
    );
}

#[tokio::test]
async fn the_digest_header_is_not_believed() {
    let (registry, subject) = with_subject(Settings::default()).await;
    let resolve = async || {
        target(&registry)
            .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
            .await
    };
    // The header never makes content valid, and a mismatch refuses it. Either the header is wrong,
    // or a byte of the document is: the two cannot be distinguished.
    for fault in [
        Fault::on("GET", "/manifests/v1").lying_digest(),
        Fault::on("GET", "/manifests/v1").header(
            "docker-content-digest",
            format!("sha512:{}", "0".repeat(128)),
        ),
        Fault::on("GET", "/manifests/v1").flip(5),
    ] {
        registry.heal();
        registry.fault(fault.clone());
        let asked = registry.count("GET", "/manifests/v1");
        assert_eq!(reason(resolve().await), Reason::DigestMismatch);
        assert_eq!(
            registry.count("GET", "/manifests/v1") - asked,
            2,
            "one more try"
        );
        // Once is a transient error.
        registry.heal();
        registry.fault(fault.times(1));
        assert_eq!(resolve().await.expect("resolved").descriptor, subject);
    }
    // No header counts against the requested digest, and none of these says anything about the
    // bytes.
    registry.heal();
    registry.fault(Fault::on("GET", "/manifests/").lying_digest());
    let by_digest = target(&registry)
        .resolve_manifest(&TagOrDigest::Digest(subject.digest), &InputLimits::DEFAULT)
        .await;
    assert_eq!(by_digest.expect("resolved").descriptor, subject);
    for told in ["", "sha512:00", "sha256:short", "md5", "sha256"] {
        registry.heal();
        registry.fault(Fault::on("GET", "/manifests/v1").header("docker-content-digest", told));
        assert_eq!(resolve().await.expect(told).descriptor, subject, "{told}");
    }
}

#[tokio::test]
async fn a_list_of_referrers_that_contradicts_its_digest_is_refused() {
    let (registry, subject) = with_subject(Settings {
        referrers_api: false,
        ..Settings::default()
    })
    .await;
    let (descriptor, bytes) = manifest("referrer", Some(&subject));
    target(&registry)
        .push_content(&descriptor, PushContent::Bytes(&bytes))
        .await
        .expect("pushed");
    let listed = || async {
        target(&registry)
            .list_referrers(&subject, &InputLimits::DEFAULT)
            .await
    };
    assert_eq!(listed().await.expect("listed").len(), 1);
    registry.fault(Fault::on("GET", "/manifests/sha256-").lying_digest());
    assert_eq!(reason(listed().await), Reason::DigestMismatch);
    registry.heal();
    registry.fault(
        Fault::on("GET", "/manifests/sha256-")
            .lying_digest()
            .times(1),
    );
    assert_eq!(listed().await.expect("listed").len(), 1);
}

#[tokio::test]
async fn sizes_are_checked_before_and_while_reading() {
    let registry = Registry::start().await;
    let (blob, bytes) = blob_of(1_000);
    registry.put_blob(REPOSITORY, bytes);
    let target = target(&registry);
    for size in [10, 999, 1_001] {
        let wrong = Descriptor {
            size,
            ..blob.clone()
        };
        assert_eq!(
            target.open_content(&wrong).await.err().map(|e| e.reason()),
            Some(Reason::SizeMismatch),
            "{size}"
        );
    }
    registry.fault(Fault::on("GET", "/blobs/").endless());
    assert_eq!(reason(read(&target, &blob).await), Reason::SizeMismatch);
    assert!(
        registry.endless_bytes() < 16 << 20,
        "{} bytes left the registry",
        registry.endless_bytes()
    );
}

#[tokio::test]
async fn endless_documents_are_cut_off() {
    let (registry, subject) = with_subject(Settings {
        auth: Auth::AnonymousToken,
        ..Settings::default()
    })
    .await;
    for part in ["/manifests/v1", "/referrers/", "/token"] {
        registry.heal();
        registry.fault(Fault::on("GET", part).endless());
        let before = registry.endless_bytes();
        let target = target(&registry);
        let outcome = match part {
            "/referrers/" => target
                .list_referrers(&subject, &InputLimits::DEFAULT)
                .await
                .map(|_| ()),
            _ => target
                .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
                .await
                .map(|_| ()),
        };
        assert_eq!(reason(outcome), Reason::LimitExceeded, "{part}");
        let taken = registry.endless_bytes() - before;
        assert!(taken < 24 << 20, "{part}: {taken} bytes left the registry");
    }
}

#[tokio::test]
async fn a_declared_size_over_the_cap_is_refused_unread() {
    let (registry, _) = with_subject(Settings::default()).await;
    let limits = InputLimits {
        manifest_bytes: 100,
        ..InputLimits::DEFAULT
    };
    assert_eq!(
        reason(
            target(&registry)
                .resolve_manifest(&by_tag("v1"), &limits)
                .await
        ),
        Reason::LimitExceeded
    );
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_broke_or_fails() {
    let registry = Registry::start().await;
    let (blob, bytes) = blob_of(200_000);
    registry.put_blob(REPOSITORY, bytes.clone());
    registry.fault(Fault::on("GET", "/blobs/").cut(70_000).times(1));
    let rest = Fault::on("GET", "/blobs/")
        .status(206)
        .header("content-range", "bytes 70000-199999/200000");
    registry.fault(rest.body(bytes.slice(70_000..)).times(1));
    assert_eq!(
        read(&target(&registry), &blob).await.expect("resumed"),
        bytes
    );
    assert_eq!(
        registry.requests().last().expect("some").headers["range"],
        "bytes=70000-"
    );

    registry.heal();
    registry.fault(Fault::on("GET", "/blobs/").cut(70_000).times(1));
    assert_eq!(
        reason(read(&target(&registry), &blob).await),
        Reason::RegistryUnavailable,
        "the registry ignores ranges"
    );
}

#[tokio::test]
async fn the_media_type_is_the_registrys_or_the_documents_own() {
    let (registry, subject) = with_subject(Settings::default()).await;
    registry.fault(Fault::on("GET", "/manifests/").header(
        "content-type",
        format!("{}; charset=utf-8", media_type::MANIFEST),
    ));
    let found = target(&registry)
        .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
        .await
        .expect("resolved");
    assert_eq!(found.descriptor, subject);
    registry.heal();
    registry.fault(Fault::on("GET", "/manifests/").header("content-type", media_type::INDEX));
    let found = target(&registry)
        .resolve_manifest(&by_tag("v1"), &InputLimits::DEFAULT)
        .await
        .expect("resolved");
    assert_eq!(
        reason(found.parse_document(&InputLimits::DEFAULT)),
        Reason::MalformedManifest,
        "two media types"
    );
}
