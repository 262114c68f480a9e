//! Writing blobs, manifests and tags.

use packgate::{
    core::{digest::Digest, limits::InputLimits, media_type, oci::Descriptor, reason::Reason},
    oci::{ContentSource, ContentTarget, MemoryTarget, PushContent, ResolvedManifest},
};

use super::{REPOSITORY, SECRET, blob_of, by_tag, manifest, read, reason, signed_in, tag, target};
use crate::support::registry::{Auth, Fault, Registry, Settings};

#[tokio::test]
async fn what_is_pushed_comes_back() {
    for absolute_location in [false, true] {
        let registry = Registry::with(Settings {
            auth: Auth::Token("alice", SECRET),
            ..Settings::default()
        })
        .await;
        registry.set(|s| s.upload_origin = absolute_location.then(|| registry.origin()));
        let target = signed_in(&registry);
        let (blob, bytes) = blob_of(1_000_000);
        let memory = MemoryTarget::new();
        memory
            .push_content(&blob, PushContent::Bytes(&bytes))
            .await
            .expect("in memory");
        target
            .push_content(&blob, PushContent::StoredIn(&memory))
            .await
            .expect("pushed");
        target
            .push_content(&blob, PushContent::StoredIn(&memory))
            .await
            .expect("there already");
        assert_eq!(registry.count("PUT", "/blobs/"), 1);
        assert_eq!(read(&target, &blob).await.expect("read"), bytes);
        let (document, bytes) = manifest("x", None);
        target
            .push_content(&document, PushContent::Bytes(&bytes))
            .await
            .expect("pushed");
        assert_eq!(registry.tag(REPOSITORY, "v9"), None, "pushed by digest");
        target
            .tag_manifest(&document, &tag("v9"))
            .await
            .expect("tagged");
        assert_eq!(
            registry.count("GET", "/manifests/"),
            0,
            "the bytes were remembered"
        );
        let resolved: ResolvedManifest = target
            .resolve_manifest(&by_tag("v9"), &InputLimits::DEFAULT)
            .await
            .expect("resolved");
        assert_eq!(
            (resolved.descriptor, resolved.bytes),
            (document.clone(), bytes)
        );
        signed_in(&registry)
            .tag_manifest(&document, &tag("v10"))
            .await
            .expect("read, then tagged");
        assert_eq!(
            registry.tag(REPOSITORY, "v10"),
            Some(document.digest.to_string())
        );
    }
}

#[tokio::test]
async fn empty_blobs_are_pushed() {
    let registry = Registry::start().await;
    let (blob, bytes) = blob_of(0);
    target(&registry)
        .push_content(&blob, PushContent::Bytes(&bytes))
        .await
        .expect("pushed");
    assert_eq!(read(&target(&registry), &blob).await.expect("read"), bytes);
}

#[tokio::test]
async fn wrong_content_is_never_sent_in_full() {
    let registry = Registry::start().await;
    let (_, bytes) = blob_of(500_000);
    let lie = Descriptor {
        digest: Digest::of_bytes(b"else"),
        ..Descriptor::of_bytes(media_type::OCTET_STREAM, &bytes)
    };
    for max_body in [usize::MAX, 1_000] {
        registry.set(|s| s.max_body = max_body);
        assert_eq!(
            reason(
                target(&registry)
                    .push_content(&lie, PushContent::Bytes(&bytes))
                    .await
            ),
            Reason::DigestMismatch
        );
    }
    assert!(
        registry
            .requests()
            .iter()
            .all(|r| r.body.len() < bytes.len()),
        "the last piece was held back"
    );
}

#[tokio::test]
async fn a_body_that_is_too_large_goes_in_chunks() {
    let registry = Registry::with(Settings {
        max_body: 5 << 20,
        ..Settings::default()
    })
    .await;
    let (blob, bytes) = blob_of(9 << 20);
    target(&registry)
        .push_content(&blob, PushContent::Bytes(&bytes))
        .await
        .expect("pushed");
    assert_eq!(registry.count("PATCH", "/blobs/uploads/"), 2);
    let ranges: Vec<_> = registry
        .requests()
        .iter()
        .filter_map(|r| r.headers.get("content-range").cloned())
        .collect();
    assert_eq!(ranges, ["0-5242879", "5242880-9437183"]);
    assert_eq!(registry.blob(REPOSITORY, &blob.digest), Some(bytes));
}

#[tokio::test]
async fn a_broken_upload_is_tried_again() {
    let registry = Registry::start().await;
    let (blob, bytes) = blob_of(300_000);
    registry.fault(
        Fault::on("PUT", "/blobs/uploads/")
            .drop_connection()
            .times(1),
    );
    registry.fault(Fault::on("PUT", "/blobs/uploads/").status(503).times(1));
    target(&registry)
        .push_content(&blob, PushContent::Bytes(&bytes))
        .await
        .expect("pushed");
    assert_eq!(registry.blob(REPOSITORY, &blob.digest), Some(bytes));
}

#[tokio::test]
async fn a_refused_upload_says_so() {
    let registry = Registry::start().await;
    let (blob, bytes) = blob_of(1_000);
    for (method, status, expected) in [
        ("POST", 403, Reason::RegistryDenied),
        ("PUT", 403, Reason::RegistryDenied),
        ("PUT", 400, Reason::RegistryRefused),
        ("POST", 404, Reason::RegistryRefused),
        ("POST", 405, Reason::RegistryRefused),
        ("POST", 429, Reason::RateLimited),
    ] {
        registry.heal();
        registry.fault(Fault::on(method, "/blobs/uploads/").status(status));
        assert_eq!(
            reason(
                target(&registry)
                    .push_content(&blob, PushContent::Bytes(&bytes))
                    .await
            ),
            expected,
            "{method} {status}"
        );
    }
    registry.heal();
    registry.fault(Fault::on("POST", "/blobs/uploads/").status(202));
    assert_eq!(
        reason(
            target(&registry)
                .push_content(&blob, PushContent::Bytes(&bytes))
                .await
        ),
        Reason::RegistryUnavailable,
        "no Location"
    );
}

#[tokio::test]
async fn blobs_are_mounted_from_a_neighbour() {
    let registry = Registry::with(Settings {
        auth: Auth::Token("alice", SECRET),
        ..Settings::default()
    })
    .await;
    let (blob, bytes) = blob_of(1_000);
    registry.put_blob("other/repo", bytes.clone());
    let from = format!("{}/other/repo", registry.host())
        .parse()
        .expect("a repository");
    let target = signed_in(&registry);
    assert!(target.mount_blob(&blob, &from).await.expect("answered"));
    assert_eq!(registry.blob(REPOSITORY, &blob.digest), Some(bytes));
    let (missing, _) = blob_of(1_001);
    assert!(!target.mount_blob(&missing, &from).await.expect("answered"));
    assert!(
        !target
            .mount_blob(&blob, &"r.example.com/x".parse().expect("a repository"))
            .await
            .expect("another registry")
    );
}

#[tokio::test]
async fn a_tag_whose_digest_is_a_lie_is_written() {
    let registry = Registry::start().await;
    let target = target(&registry);
    let ((old, old_bytes), (new, new_bytes)) = (manifest("old", None), manifest("new", None));
    for (document, bytes) in [(&old, &old_bytes), (&new, &new_bytes)] {
        target
            .push_content(document, PushContent::Bytes(bytes))
            .await
            .expect("pushed");
    }
    target.tag_manifest(&old, &tag("v1")).await.expect("tagged");
    registry.fault(
        Fault::on("HEAD", "/manifests/v1").header("docker-content-digest", new.digest.to_string()),
    );
    target.tag_manifest(&new, &tag("v1")).await.expect("tagged");
    assert_eq!(registry.tag(REPOSITORY, "v1"), Some(new.digest.to_string()));
    target.tag_manifest(&new, &tag("v1")).await.expect("tagged");
    assert_eq!(registry.count("PUT", "/manifests/v1"), 2, "it is right now");
}
