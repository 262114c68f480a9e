use bytes::Bytes;

use super::*;
use crate::core::{
    media_type,
    oci::{ImageIndex, layout::OCI_LAYOUT},
    reason::{ClassifiedError, Reason},
};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self) -> String {
        self.0.path().join("a.tar").display().to_string()
    }

    fn read(&self, bytes: &[u8]) -> Result<(), (Reason, String)> {
        fs::write(self.path(), bytes).expect("written");
        OciArchiveTarget::open_archive(&self.path())
            .map(drop)
            .map_err(|e| (e.reason(), e.to_string()))
    }

    fn entries(&self) -> usize {
        fs::read_dir(self.0.path()).expect("a folder").count()
    }
}

const INDEX: &[u8] = br#"{"schemaVersion":2,"manifests":[]}"#;

async fn push_and_tag(target: &OciArchiveTarget, name: &str) -> Descriptor {
    let annotations = std::iter::once(("name".to_owned(), name.to_owned())).collect();
    let bytes = Bytes::from(
        serde_json::to_vec(&ImageIndex {
            annotations,
            ..ImageIndex::new(Vec::new())
        })
        .expect("JSON"),
    );
    let descriptor = Descriptor::of_bytes(media_type::INDEX, &bytes);
    target
        .push_content(&descriptor, PushContent::Bytes(&bytes))
        .await
        .expect("pushed");
    target
        .tag_manifest(&descriptor, &name.parse().expect("a tag"))
        .await
        .expect("tagged");
    descriptor
}

/// A USTAR header with a valid checksum.
fn header(name: &str, kind: u8, size: u64) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    let mut entry = header(name, b'0', content.len() as u64);
    entry.extend(content);
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}

/// A layout with additional entries, and a valid end.
fn archive(more: &[Vec<u8>]) -> Vec<u8> {
    let start = [file("oci-layout", OCI_LAYOUT), file("index.json", INDEX)];
    [start.concat(), more.concat(), vec![0; 1_024]].concat()
}

fn blob(content: &[u8]) -> Vec<u8> {
    file(
        &format!("blobs/sha256/{}", Digest::of_bytes(content).hex_digits()),
        content,
    )
}

#[test]
fn layouts_of_other_tools_are_read() {
    let folder = Folder::new();
    for more in [
        vec![],
        vec![blob(b"x"), blob(b"")],
        vec![
            header("./", b'5', 0),
            header("./blobs/", b'5', 0),
            header("blobs/sha256", b'5', 0),
        ],
        vec![
            header("x", b'g', 18),
            b"18 comment=abcdef\n"
                .iter()
                .copied()
                .chain([0; 494])
                .collect(),
        ],
        vec![vec![0; 9 << 10]],
    ] {
        assert_eq!(folder.read(&archive(&more)), Ok(()));
    }
    assert_eq!(
        folder.read(
            &[
                file("./oci-layout", OCI_LAYOUT),
                file("./index.json", INDEX)
            ]
            .concat()
        ),
        Ok(()),
        "without an end"
    );
    assert_eq!(folder.entries(), 1, "a temporary folder stayed");
}

#[test]
fn what_is_no_layout_is_refused() {
    let folder = Folder::new();
    let whole = archive(&[blob(b"some content")]);
    for (bytes, part) in [
        (
            archive(&[file("../evil", b"x")]),
            "not part of an OCI layout",
        ),
        (
            archive(&[file("/etc/passwd", b"x")]),
            "not part of an OCI layout",
        ),
        (
            archive(&[file("blobs/sha256/../../evil", b"x")]),
            "not part of an OCI layout",
        ),
        (
            archive(&[file("blobs/sha256/00", b"x")]),
            "not part of an OCI layout",
        ),
        (
            archive(&[file("manifest.json", b"[]")]),
            "not part of an OCI layout",
        ),
        (archive(&[header("blobs", b'0', 0)]), "wrong entry type"),
        (
            archive(&[header("index.json", b'5', 0)]),
            "wrong entry type",
        ),
        (
            archive(&[header("index.json", b'2', 0)]),
            "wrong entry type",
        ),
        (archive(&[header("index.json", b'1', 0)]), "a hard link"),
        (archive(&[header("index.json", b'3', 0)]), "a device"),
        (archive(&[header("index.json", b'6', 0)]), "a FIFO"),
        (archive(&[header("index.json", b'S', 0)]), "a sparse file"),
        (
            archive(&[
                header("x", b'x', 22),
                b"22 GNU.sparse.major=1\n"
                    .iter()
                    .copied()
                    .chain([0; 490])
                    .collect(),
            ]),
            "sparse",
        ),
        (archive(&[file("index.json", INDEX)]), "twice"),
        (archive(&[blob(b"x"), blob(b"x")]), "twice"),
        (archive(&[header("x", b'L', 1 << 32)]), "over the limit"),
        (archive(&[header("x", b'x', 2 << 20)]), "over the limit"),
        (archive(&[header("x", b'L', 0)]), "after a metadata header"),
        ([archive(&[]), archive(&[])].concat(), "follows the end"),
        (whole[..512 * 6 + 3].to_vec(), "is truncated"),
        (whole[..512 * 5 + 3].to_vec(), "is truncated"),
        (whole[..512 * 4 + 3].to_vec(), "is truncated"),
        (vec![1; 512], "tar header"),
    ] {
        let (reason, message) = folder.read(&bytes).expect_err(part);
        assert_eq!(reason, Reason::MalformedManifest, "{message}");
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(
        folder.read(&[]).map_err(|e| e.0),
        Err(Reason::SourceNotFound),
        "nothing in it"
    );
    assert_eq!(folder.entries(), 1, "a temporary folder stayed");
    assert_eq!(
        OciArchiveTarget::open_archive("/dev/null")
            .err()
            .map(|e| e.reason()),
        Some(Reason::MalformedManifest)
    );
}

#[tokio::test]
async fn an_archive_is_deterministic_and_keeps_its_mode() {
    let folder = Folder::new();
    let mut versions = Vec::new();
    for _ in 0..2 {
        let target = OciArchiveTarget::open_or_create(&folder.path()).expect("an archive");
        push_and_tag(&target, "v1").await;
        target.commit_changes().await.expect("finished");
        versions.push(fs::read(folder.path()).expect("an archive"));
        fs::set_permissions(folder.path(), Permissions::from_mode(0o600)).expect("a mode");
    }
    assert_eq!(versions[0], versions[1]);
    let target = OciArchiveTarget::open_archive(&folder.path()).expect("an archive");
    push_and_tag(&target, "v2").await;
    target.commit_changes().await.expect("finished");
    drop(target);
    assert_eq!(
        fs::metadata(folder.path()).expect("an archive").mode() & 0o777,
        0o600
    );
    assert_eq!(folder.entries(), 1);
}

#[tokio::test]
async fn an_archive_that_was_changed_meanwhile_is_left_alone() {
    let folder = Folder::new();
    let (first, second) = (
        OciArchiveTarget::open_or_create(&folder.path()),
        OciArchiveTarget::open_or_create(&folder.path()),
    );
    let (first, second) = (first.expect("an archive"), second.expect("an archive"));
    let tagged = push_and_tag(&first, "v1").await;
    push_and_tag(&second, "v2").await;
    first.commit_changes().await.expect("finished");
    assert_eq!(
        second.commit_changes().await.err().map(|e| e.reason()),
        Some(Reason::StorageFailed)
    );
    assert!(second.commit_changes().await.is_err(), "still not written");
    push_and_tag(&first, "again").await;
    first.commit_changes().await.expect("finished once more");
    let third = OciArchiveTarget::open_archive(&folder.path()).expect("an archive");
    let found = third
        .resolve_manifest(
            &TagOrDigest::Tag("v1".parse().expect("a tag")),
            &InputLimits::DEFAULT,
        )
        .await
        .expect("found");
    assert_eq!(found.descriptor, tagged);
    fs::remove_file(folder.path()).expect("removed");
    push_and_tag(&third, "v3").await;
    assert_eq!(
        third.commit_changes().await.err().map(|e| e.reason()),
        Some(Reason::StorageFailed)
    );
}

#[tokio::test]
async fn a_run_that_does_not_finish_changes_nothing() {
    let folder = Folder::new();
    push_and_tag(
        &OciArchiveTarget::open_or_create(&folder.path()).expect("an archive"),
        "v1",
    )
    .await;
    assert_eq!(folder.entries(), 0);
    let reader = OciArchiveTarget::open_or_create(&folder.path()).expect("an archive");
    reader.commit_changes().await.expect("finished");
    let before = fs::read(folder.path()).expect("an archive");
    push_and_tag(
        &OciArchiveTarget::open_archive(&folder.path()).expect("an archive"),
        "v1",
    )
    .await;
    assert_eq!(fs::read(folder.path()).expect("an archive"), before);
    assert_eq!(reader.location(), format!("oci-archive:{}", folder.path()));
}
