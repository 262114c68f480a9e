use std::{fs, os::unix::fs::symlink};

use bytes::Bytes;

use super::*;
use crate::core::{
    media_type,
    oci::{
        Annotations, ImageManifest,
        layout::{REF_NAME, blob_path},
    },
    reason::{ClassifiedError, Reason},
};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self) -> String {
        self.0.path().join("in/layout").display().to_string()
    }

    fn create(&self) -> OciLayoutTarget {
        OciLayoutTarget::open_or_create(&self.path()).expect("a layout")
    }

    fn open(&self) -> OciLayoutTarget {
        OciLayoutTarget::open_layout(&self.path()).expect("a layout")
    }

    fn at(&self, path: &str) -> PathBuf {
        PathBuf::from(self.path()).join(path)
    }

    /// A layout that names one manifest `v1`.
    async fn with_root() -> (Self, Descriptor) {
        let folder = Self::new();
        let layout = folder.create();
        let root = push(&layout, &manifest("root", None)).await;
        layout
            .tag_manifest(&root, &tag("v1"))
            .await
            .expect("tagged");
        layout.commit_changes().await.expect("finished");
        (folder, root)
    }
}

fn tag(text: &str) -> ImageTag {
    text.parse().expect("a tag")
}

fn manifest(name: &str, subject: Option<&Descriptor>) -> Bytes {
    let manifest = ImageManifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.into()),
        artifact_type: Some("x/y".into()),
        config: Descriptor::empty(),
        layers: Vec::new(),
        subject: subject.cloned(),
        annotations: Annotations::from([("name".to_owned(), name.to_owned())]),
    };
    serde_json::to_vec(&manifest).expect("JSON").into()
}

async fn push(layout: &OciLayoutTarget, bytes: &Bytes) -> Descriptor {
    let descriptor = Descriptor::of_bytes(media_type::MANIFEST, bytes);
    layout
        .push_content(&descriptor, PushContent::Bytes(bytes))
        .await
        .expect("pushed");
    descriptor
}

async fn referrers(layout: &OciLayoutTarget, subject: &Descriptor) -> Result<Vec<Digest>, Reason> {
    let found = layout
        .list_referrers(subject, &InputLimits::DEFAULT)
        .await
        .map_err(|e| e.reason())?;
    Ok(found
        .into_iter()
        .map(|descriptor| descriptor.digest)
        .collect())
}

async fn resolve(layout: &OciLayoutTarget, selector: TagOrDigest) -> Result<Digest, Reason> {
    layout
        .resolve_manifest(&selector, &InputLimits::DEFAULT)
        .await
        .map(|found| found.descriptor.digest)
        .map_err(|e| e.reason())
}

#[tokio::test]
async fn what_a_run_writes_is_its_own_until_it_finishes() {
    let (folder, root) = Folder::with_root().await;
    let (writer, reader) = (folder.open(), folder.open());
    let referrer = push(&writer, &manifest("r", Some(&root))).await;
    writer
        .tag_manifest(&referrer, &tag("v1"))
        .await
        .expect("tagged");
    assert_eq!(
        resolve(&writer, TagOrDigest::Tag(tag("v1"))).await,
        Ok(referrer.digest)
    );
    assert_eq!(referrers(&writer, &root).await, Ok(vec![referrer.digest]));
    assert_eq!(
        resolve(&reader, TagOrDigest::Tag(tag("v1"))).await,
        Ok(root.digest)
    );
    assert_eq!(referrers(&reader, &root).await, Ok(Vec::new()));
    writer.commit_changes().await.expect("finished");
    for layout in [&writer, &reader] {
        assert_eq!(
            resolve(layout, TagOrDigest::Tag(tag("v1"))).await,
            Ok(referrer.digest)
        );
        assert_eq!(referrers(layout, &root).await, Ok(vec![referrer.digest]));
    }
}

#[tokio::test]
async fn a_run_that_does_not_finish_leaves_nothing_behind() {
    let folder = Folder::new();
    push(&folder.create(), &manifest("a", None)).await;
    assert_eq!(fs::read_dir(folder.0.path()).expect("a folder").count(), 0);
    // Existing folders are kept.
    fs::create_dir_all(folder.path()).expect("a folder");
    push(&folder.create(), &manifest("a", None)).await;
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[tokio::test]
async fn a_run_that_fails_takes_nothing_away_from_another() {
    let (folder, root) = Folder::with_root().await;
    let shared = manifest("shared", Some(&root));
    let (fails, succeeds) = (folder.open(), folder.open());
    let referrer = push(&fails, &shared).await;
    fails
        .tag_manifest(&root, &tag("fails"))
        .await
        .expect("tagged");
    push(&succeeds, &shared).await;
    succeeds
        .tag_manifest(&root, &tag("succeeds"))
        .await
        .expect("tagged");
    succeeds.commit_changes().await.expect("finished");
    drop(fails);
    let layout = folder.open();
    assert_eq!(referrers(&layout, &root).await, Ok(vec![referrer.digest]));
    assert!(layout.content_exists(&referrer).await.expect("readable"));
    assert_eq!(
        resolve(&layout, TagOrDigest::Tag(tag("succeeds"))).await,
        Ok(root.digest)
    );
    assert_eq!(
        resolve(&layout, TagOrDigest::Tag(tag("fails"))).await,
        Err(Reason::SourceNotFound)
    );
}

#[test]
fn runs_at_the_same_time_lose_nothing() {
    let folder = Folder::new();
    let root = Descriptor::of_bytes(media_type::MANIFEST, &manifest("root", None));
    let run = |number: usize| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            // The layout does not exist yet: its creation is concurrent too.
            let layout = folder.create();
            push(&layout, &manifest("root", None)).await;
            layout
                .tag_manifest(&root, &tag(&format!("t{number}")))
                .await
                .expect("tagged");
            push(&layout, &manifest(&number.to_string(), Some(&root))).await;
            if number.is_multiple_of(2) {
                layout.commit_changes().await.expect("finished");
            }
        });
    };
    std::thread::scope(|scope| (0..40).for_each(|number| drop(scope.spawn(move || run(number)))));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let layout = folder.open();
        assert_eq!(referrers(&layout, &root).await.expect("listed").len(), 20);
        for number in 0..40 {
            let found = resolve(&layout, TagOrDigest::Tag(tag(&format!("t{number}")))).await;
            assert_eq!(found.is_ok(), number % 2 == 0, "{number}");
        }
    });
    assert_eq!(
        fs::read_dir(folder.at("blobs/sha256"))
            .expect("blobs")
            .count(),
        21,
        "something unfinished stayed"
    );
}

#[tokio::test]
async fn only_a_layout_or_nothing_is_written_to() {
    let folder = Folder::new();
    fs::create_dir_all(folder.path()).expect("a folder");
    fs::write(folder.at("mine"), "x").expect("a file");
    let refused = |folder: &Folder| {
        OciLayoutTarget::open_or_create(&folder.path())
            .err()
            .map(|e| e.reason())
    };
    assert_eq!(refused(&folder), Some(Reason::InvalidSpec));
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    fs::remove_file(folder.at("mine")).expect("removed");
    fs::write(folder.at("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).expect("a file");
    assert_eq!(refused(&folder), Some(Reason::MalformedManifest));
    fs::remove_dir_all(folder.path()).expect("removed");
    fs::write(folder.path(), "x").expect("a file");
    assert_eq!(refused(&folder), Some(Reason::InvalidSpec));
    assert_eq!(
        OciLayoutTarget::open_layout(&folder.path())
            .err()
            .map(|e| e.reason()),
        Some(Reason::SourceNotFound)
    );
}

#[tokio::test]
async fn files_without_an_end_are_not_read_to_it() {
    for name in ["oci-layout", "index.json"] {
        let (folder, root) = Folder::with_root().await;
        fs::remove_file(folder.at(name)).expect("removed");
        symlink("/dev/zero", folder.at(name)).expect("a link");
        let outcome = match OciLayoutTarget::open_layout(&folder.path()) {
            Ok(layout) => resolve(&layout, TagOrDigest::Digest(root.digest)).await,
            Err(error) => Err(error.reason()),
        };
        assert_eq!(outcome, Err(Reason::MalformedManifest), "{name}");
    }
    let (folder, _) = Folder::with_root().await;
    fs::write(folder.at("oci-layout"), " ".repeat(5 << 10)).expect("written");
    assert_eq!(
        OciLayoutTarget::open_layout(&folder.path())
            .err()
            .map(|e| e.reason()),
        Some(Reason::LimitExceeded)
    );
}

#[tokio::test]
async fn blobs_that_are_no_files_are_refused_and_links_followed() {
    let (folder, root) = Folder::with_root().await;
    let blob = folder.at(&blob_path(&root.digest));
    let aside = folder.at("aside");
    fs::rename(&blob, &aside).expect("moved");
    symlink(&aside, &blob).expect("a link");
    assert_eq!(
        resolve(&folder.open(), TagOrDigest::Digest(root.digest)).await,
        Ok(root.digest)
    );
    fs::remove_file(&blob).expect("removed");
    let made = std::process::Command::new("mkfifo")
        .arg(&blob)
        .status()
        .expect("mkfifo runs");
    assert!(made.success());
    assert_eq!(
        resolve(&folder.open(), TagOrDigest::Digest(root.digest)).await,
        Err(Reason::MalformedManifest)
    );
}

#[tokio::test]
async fn a_damaged_blob_is_replaced() {
    let (folder, root) = Folder::with_root().await;
    fs::write(
        folder.at(&blob_path(&root.digest)),
        vec![b'x'; usize::try_from(root.size).expect("small")],
    )
    .expect("written");
    let layout = folder.open();
    assert!(!layout.content_exists(&root).await.expect("readable"));
    push(&layout, &manifest("root", None)).await;
    layout.commit_changes().await.expect("finished");
    assert!(folder.open().content_exists(&root).await.expect("readable"));
}

#[tokio::test]
async fn a_tag_with_two_meanings_is_refused() {
    let (folder, root) = Folder::with_root().await;
    let entry = |digest: Digest| {
        format!(
            r#"{{"mediaType":"{}","digest":"{digest}","size":{},"annotations":{{"{REF_NAME}":"v1"}}}}"#,
            media_type::MANIFEST,
            root.size
        )
    };
    let (first, second) = (entry(root.digest), entry(Digest::of_bytes(b"other")));
    for (entries, expected) in [
        (format!("{first},{first}"), Ok(root.digest)),
        (format!("{first},{second}"), Err(Reason::MalformedManifest)),
    ] {
        fs::write(
            folder.at("index.json"),
            format!(r#"{{"schemaVersion":2,"manifests":[{entries}]}}"#),
        )
        .expect("written");
        assert_eq!(
            resolve(&folder.open(), TagOrDigest::Tag(tag("v1"))).await,
            expected
        );
    }
}

#[tokio::test]
async fn a_referrer_that_cannot_be_read_is_listed_and_hides_no_other() {
    let (folder, root) = Folder::with_root().await;
    let layout = folder.open();
    let good = push(&layout, &manifest("good", Some(&root))).await;
    let missing = push(&layout, &manifest("missing", Some(&root))).await;
    let unrelated = push(&layout, &manifest("unrelated", Some(&good))).await;
    layout.commit_changes().await.expect("finished");
    fs::remove_file(folder.at(&blob_path(&missing.digest))).expect("removed");
    let mut expected = vec![good.digest, missing.digest];
    expected.sort();
    assert_eq!(referrers(&folder.open(), &root).await, Ok(expected));
    // The digest of this file does not match, and the cause is unknown, so no claim is made.
    fs::write(
        folder.at(&blob_path(&unrelated.digest)),
        manifest("unrelatex", Some(&good)),
    )
    .expect("written");
    assert_eq!(
        referrers(&folder.open(), &root).await,
        Err(Reason::DigestMismatch)
    );
}

#[tokio::test]
async fn the_index_under_the_fallback_tag_is_read_too() {
    let (folder, root) = Folder::with_root().await;
    let layout = folder.open();
    let good = push(&layout, &manifest("good", Some(&root))).await;
    // It has a wrong media type for known content, and lists something else.
    let lie = Descriptor {
        media_type: "text/plain".into(),
        ..good.clone()
    };
    let other = Descriptor::of_bytes(media_type::MANIFEST, b"elsewhere");
    let list =
        Bytes::from(serde_json::to_vec(&ImageIndex::new(vec![lie, other.clone()])).expect("JSON"));
    let descriptor = Descriptor::of_bytes(media_type::INDEX, &list);
    layout
        .push_content(&descriptor, PushContent::Bytes(&list))
        .await
        .expect("pushed");
    layout
        .tag_manifest(&descriptor, &tag(&root.digest.referrers_fallback_tag()))
        .await
        .expect("tagged");
    let found = layout
        .list_referrers(&root, &InputLimits::DEFAULT)
        .await
        .expect("listed");
    assert_eq!(found.len(), 2);
    assert!(
        found
            .iter()
            .any(|d| d.digest == good.digest && d.media_type == media_type::MANIFEST),
        "{found:?}"
    );
    assert!(found.iter().any(|d| d.digest == other.digest));
}

#[tokio::test]
async fn a_digest_is_found_in_an_index_below_an_index() {
    let (folder, _) = Folder::with_root().await;
    let layout = folder.open();
    let deep = push(&layout, &manifest("deep", None)).await;
    let mut inner = deep.clone();
    for _ in 0..3 {
        let bytes = Bytes::from(
            serde_json::to_vec(&ImageIndex::new(vec![
                Descriptor::of_bytes(media_type::INDEX, b"missing"),
                inner,
            ]))
            .expect("JSON"),
        );
        inner = Descriptor::of_bytes(media_type::INDEX, &bytes);
        layout
            .push_content(&inner, PushContent::Bytes(&bytes))
            .await
            .expect("pushed");
    }
    layout
        .tag_manifest(&inner, &tag("deep"))
        .await
        .expect("tagged");
    layout.commit_changes().await.expect("finished");
    assert_eq!(
        resolve(&folder.open(), TagOrDigest::Digest(deep.digest)).await,
        Ok(deep.digest)
    );
    assert_eq!(
        resolve(
            &folder.open(),
            TagOrDigest::Digest(Digest::of_bytes(b"none"))
        )
        .await,
        Err(Reason::SourceNotFound)
    );
}

#[tokio::test]
async fn annotations_that_no_index_can_hold_are_refused_and_nothing_is_changed() {
    let (folder, root) = Folder::with_root().await;
    let before = fs::read(folder.at("index.json")).expect("an index");
    let layout = folder.open();
    for number in 0..6 {
        push(
            &layout,
            &manifest(&format!("{number}{}", "x".repeat(3 << 20)), Some(&root)),
        )
        .await;
    }
    assert_eq!(
        layout.commit_changes().await.err().map(|e| e.reason()),
        Some(Reason::LimitExceeded)
    );
    drop(layout);
    assert_eq!(fs::read(folder.at("index.json")).expect("an index"), before);
    assert_eq!(
        fs::read_dir(folder.at("blobs/sha256"))
            .expect("blobs")
            .count(),
        1
    );
}
