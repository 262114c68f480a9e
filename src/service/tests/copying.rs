//! A copy is complete, or an error says what is missing.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::*;
use crate::{
    core::{
        media_type,
        oci::{Annotations, Descriptor, ImageIndex, ImageManifest, ManifestOrIndex},
    },
    oci::{ContentReader, ContentTarget, OciError, PushContent, fetch_document},
    service::copy::{CopyError, ReferrerCopying, copy_bundle},
};

/// Omits one digest, and lists a foreign referrer for everything.
struct Hostile {
    inner: MemoryTarget,
    missing: Option<Digest>,
    claimed: Vec<Descriptor>,
}

#[async_trait]
impl ContentSource for Hostile {
    fn location(&self) -> String {
        "hostile".into()
    }

    async fn resolve_manifest(
        &self,
        selector: &TagOrDigest,
        limits: &InputLimits,
    ) -> Result<ResolvedManifest, OciError> {
        self.inner.resolve_manifest(selector, limits).await
    }

    async fn open_content(&self, descriptor: &Descriptor) -> Result<ContentReader, OciError> {
        if self.missing == Some(descriptor.digest) {
            return Err(OciError::NotFound {
                what: descriptor.digest.to_string(),
                location: self.location(),
            });
        }
        self.inner.open_content(descriptor).await
    }

    async fn list_referrers(
        &self,
        subject: &Descriptor,
        limits: &InputLimits,
    ) -> Result<Vec<Descriptor>, OciError> {
        let mut found = self.inner.list_referrers(subject, limits).await?;
        found.extend(self.claimed.clone());
        Ok(found)
    }
}

async fn push(target: &MemoryTarget, media_type: &str, content: Vec<u8>) -> Descriptor {
    let bytes = Bytes::from(content);
    let descriptor = Descriptor::of_bytes(media_type, &bytes);
    target
        .push_content(&descriptor, PushContent::Bytes(&bytes))
        .await
        .expect("pushed");
    descriptor
}

async fn manifest(
    target: &MemoryTarget,
    name: &str,
    layers: Vec<Descriptor>,
    subject: Option<&Descriptor>,
) -> Descriptor {
    let config = push(target, media_type::EMPTY, b"{}".to_vec()).await;
    let manifest = ImageManifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.into()),
        artifact_type: Some("x/y".into()),
        config,
        layers,
        subject: subject.cloned(),
        annotations: Annotations::from([("name".to_owned(), name.to_owned())]),
    };
    push(
        target,
        media_type::MANIFEST,
        serde_json::to_vec(&manifest).expect("JSON"),
    )
    .await
}

struct Bundle {
    target: MemoryTarget,
    root: Descriptor,
}

/// An index with two manifests; the index, one of the manifests, and one of the referrers have
/// referrers.
async fn bundle() -> Bundle {
    let target = MemoryTarget::new();
    let blob = push(&target, media_type::OCTET_STREAM, b"content".to_vec()).await;
    let first = manifest(&target, "first", vec![blob.clone(), blob.clone()], None).await;
    let second = manifest(&target, "second", vec![blob], None).await;
    let index = serde_json::to_vec(&ImageIndex::new(vec![first.clone(), second])).expect("JSON");
    let root = push(&target, media_type::INDEX, index).await;
    let signed = push(
        &target,
        media_type::SIGSTORE_BUNDLE_V03,
        b"signature".to_vec(),
    )
    .await;
    let signature = manifest(&target, "signature", vec![signed.clone()], Some(&root)).await;
    manifest(
        &target,
        "signature of a child",
        vec![signed.clone()],
        Some(&first),
    )
    .await;
    manifest(
        &target,
        "signature of the signature",
        vec![signed],
        Some(&signature),
    )
    .await;
    Bundle { target, root }
}

async fn copied(
    from: &dyn ContentSource,
    root: &Descriptor,
    referrers: ReferrerCopying,
) -> (MemoryTarget, Result<(), CopyError>) {
    let to = MemoryTarget::new();
    let root = from
        .resolve_manifest(&TagOrDigest::Digest(root.digest), &InputLimits::DEFAULT)
        .await
        .expect("there");
    let outcome = copy_bundle(
        from,
        &to,
        &root,
        referrers,
        &InputLimits::DEFAULT,
        &SilentProgress,
    )
    .await;
    (to, outcome)
}

/// Every document that can be reached from `descriptor`, with complete and valid blobs.
fn walk<'a>(
    source: &'a MemoryTarget,
    descriptor: Descriptor,
    found: &'a mut BTreeSet<Digest>,
) -> BoxFuture<'a, ()> {
    Box::pin(async move {
        if !found.insert(descriptor.digest) {
            return;
        }
        let (_, document) = fetch_document(source, &descriptor, &InputLimits::DEFAULT)
            .await
            .expect("there");
        for child in document.children() {
            if child.is_manifest_or_index() {
                walk(source, child.clone(), found).await;
            } else {
                crate::oci::fetch_content(source, child, 1 << 20)
                    .await
                    .expect("complete");
            }
        }
        for referrer in source
            .list_referrers(&descriptor, &InputLimits::DEFAULT)
            .await
            .expect("listed")
        {
            walk(source, referrer, found).await;
        }
    })
}

async fn reached(source: &MemoryTarget, root: &Descriptor) -> BTreeSet<Digest> {
    let mut found = BTreeSet::new();
    walk(source, root.clone(), &mut found).await;
    found
}

#[tokio::test]
async fn everything_that_belongs_to_it_is_copied() {
    let Bundle { target, root } = bundle().await;
    let (to, outcome) = copied(&target, &root, ReferrerCopying::Included).await;
    outcome.expect("copied");
    assert_eq!(reached(&target, &root).await.len(), 6);
    assert_eq!(reached(&to, &root).await, reached(&target, &root).await);
    let (to, outcome) = copied(&target, &root, ReferrerCopying::Excluded).await;
    outcome.expect("copied");
    assert_eq!(reached(&to, &root).await.len(), 3);
}

#[tokio::test]
async fn anything_that_is_missing_is_an_error_that_names_it() {
    let Bundle { target, root } = bundle().await;
    let mut all = BTreeSet::new();
    for document in reached(&target, &root).await {
        let resolved = target
            .resolve_manifest(&TagOrDigest::Digest(document), &InputLimits::DEFAULT)
            .await
            .expect("there");
        all.extend(
            resolved
                .parse_document(&InputLimits::DEFAULT)
                .expect("a document")
                .children()
                .into_iter()
                .map(|child| child.digest),
        );
        all.insert(document);
    }
    all.remove(&root.digest);
    assert_eq!(all.len(), 8);
    for missing in all {
        let from = Hostile {
            inner: target.clone(),
            missing: Some(missing),
            claimed: Vec::new(),
        };
        let (to, outcome) = copied(&from, &root, ReferrerCopying::Included).await;
        let error = outcome.expect_err("incomplete");
        assert!(
            matches!(error, CopyError::Incomplete { .. })
                && error.to_string().contains(&missing.to_string()),
            "{error}"
        );
        assert_eq!(error.reason(), Reason::SourceNotFound);
        // Either there is no root, or everything exists.
        if to
            .resolve_manifest(&TagOrDigest::Digest(root.digest), &InputLimits::DEFAULT)
            .await
            .is_ok()
        {
            let children = to
                .resolve_manifest(&TagOrDigest::Digest(root.digest), &InputLimits::DEFAULT)
                .await
                .expect("there");
            let ManifestOrIndex::Index(index) = children
                .parse_document(&InputLimits::DEFAULT)
                .expect("a document")
            else {
                panic!("no index")
            };
            for child in index.manifests {
                fetch_document(&to, &child, &InputLimits::DEFAULT)
                    .await
                    .expect("there");
            }
        }
    }
}

#[tokio::test]
async fn claims_are_opened_before_they_are_believed() {
    let Bundle { target, root } = bundle().await;
    let blob = push(
        &target,
        media_type::OCTET_STREAM,
        b"foreign content".to_vec(),
    )
    .await;
    let foreign = manifest(&target, "foreign", vec![blob.clone()], None).await;
    let from = Hostile {
        inner: target.clone(),
        missing: None,
        claimed: vec![foreign.clone()],
    };
    let (to, outcome) = copied(&from, &root, ReferrerCopying::Included).await;
    outcome.expect("copied");
    assert_eq!(reached(&to, &root).await, reached(&target, &root).await);
    for extra in [foreign, blob] {
        assert!(
            !to.content_exists(&extra).await.expect("known"),
            "what refers to something else came along"
        );
    }
    let lie = Descriptor {
        media_type: "text/plain".into(),
        ..root.clone()
    };
    let from = Hostile {
        inner: target,
        missing: None,
        claimed: vec![Descriptor::of_bytes("text/plain", b"x"), lie],
    };
    assert!(
        copied(&from, &root, ReferrerCopying::Included)
            .await
            .1
            .is_err()
    );
}

#[tokio::test]
async fn what_one_document_calls_a_blob_is_still_copied_as_a_referrer() {
    let Bundle { target, root } = bundle().await;
    let signature = target
        .list_referrers(&root, &InputLimits::DEFAULT)
        .await
        .expect("listed")
        .remove(0);
    let disguised = Descriptor {
        media_type: media_type::OCTET_STREAM.into(),
        ..signature.clone()
    };
    // In either order.
    for name in ["a", "b", "c", "d"] {
        manifest(&target, name, vec![disguised.clone()], Some(&root)).await;
    }
    let (to, outcome) = copied(&target, &root, ReferrerCopying::Included).await;
    outcome.expect("copied");
    assert_eq!(
        to.list_referrers(&root, &InputLimits::DEFAULT)
            .await
            .expect("listed")
            .len(),
        5
    );
}

#[tokio::test]
async fn a_long_chain_of_referrers_is_an_error_and_not_cut_off() {
    let Bundle { target, root } = bundle().await;
    let mut subject = root.clone();
    for number in 0..12 {
        subject = manifest(&target, &number.to_string(), Vec::new(), Some(&subject)).await;
    }
    let error = copied(&target, &root, ReferrerCopying::Included)
        .await
        .1
        .expect_err("too deep");
    assert_eq!(error.reason(), Reason::LimitExceeded);
}
