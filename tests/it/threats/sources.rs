//! Threats 49 and 50: unpacked files stay in their folder, and fetched content is the lock's.

use std::fs;

use packgate::core::digest::Digest;
use serde_json::{Value, json};

use super::{Outcome, expect, reason, reasons, requests};
use crate::support::{
    cli::Workspace,
    registry::{Fault, Registry},
    threats::threat,
};

/// The result of an attempt to unpack, of which nothing may be left.
fn unpacked(workspace: &Workspace) -> Outcome {
    workspace.write("canary", "canary");
    let run = workspace.run("unpack oci:out --to got --insecure-skip-verify -o json");
    assert!(!workspace.file("got").exists(), "half-written");
    assert_eq!(workspace.read("canary"), "canary");
    let left: Vec<_> = fs::read_dir(workspace.path())
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert!(
        !left
            .iter()
            .any(|name| name.to_string_lossy().contains("evil")),
        "{left:?}"
    );
    Outcome {
        reason: reason(&run),
        requests: 0,
        report: Value::Null,
    }
}

/// A bundle with one archive that is extracted, of these entries: name, type and link.
fn with_archive(entries: &[(&str, tar::EntryType, &str)]) -> Workspace {
    let workspace = Workspace::new();
    let mut archive = tar::Builder::new(Vec::new());
    for (name, kind, link) in entries {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(0);
        header.set_cksum();
        archive.append(&header, std::io::empty()).expect("an entry");
    }
    workspace.write("evil.tar", archive.into_inner().expect("an archive"));
    let artifact = json!({
        "name": "a",
        "origin": "evil.tar",
        "target": "opt/a.tar",
        "unpack": true,
        "unpackedPath": "opt/a",
    });
    let manifest = json!({
        "apiVersion": "packgate.dev/v1alpha1",
        "kind": "LockManifest",
        "name": "a",
        "artifacts": [artifact],
    });
    workspace.write("manifest.yaml", manifest.to_string());
    workspace.run("lock manifest.yaml -f lock.yaml").ok();
    workspace.run("pack lock.yaml --to oci:out").ok();
    fs::remove_file(workspace.file("evil.tar")).expect("a file");
    workspace
}

#[test]
fn nothing_is_unpacked_outside_of_its_folder_or_by_half() {
    use tar::EntryType as Kind;
    let extracted = |entries: &[(&str, Kind, &str)]| unpacked(&with_archive(entries));
    let escaping = Workspace::with_lock();
    escaping.write(
        "lock.yaml",
        escaping
            .read("lock.yaml")
            .replace("opt/hello/notes.txt", "../evil"),
    );
    let target = escaping.run("pack lock.yaml --to oci:out -o json");
    let target = Outcome {
        reason: reason(&target),
        requests: 0,
        report: Value::Null,
    };
    let changed = Workspace::with_lock();
    changed.run("pack lock.yaml --to oci:out").ok();
    let blobs = fs::read_dir(changed.file("out/blobs/sha256"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path());
    let largest = blobs
        .max_by_key(|path| fs::metadata(path).expect("a file").len())
        .expect("blobs");
    let mut bytes = fs::read(&largest).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&largest, bytes).expect("a file");
    let outcomes = expect([
        (
            "an absolute path",
            extracted(&[("/tmp/evil", Kind::Regular, "")]),
            "InvalidLock",
        ),
        (
            "a path that leads out",
            extracted(&[("a/../../../evil", Kind::Regular, "")]),
            "InvalidLock",
        ),
        (
            "a link that leads out",
            extracted(&[("l", Kind::Symlink, "../../../canary")]),
            "InvalidLock",
        ),
        (
            "a file through a link",
            extracted(&[("l", Kind::Symlink, "."), ("l/evil", Kind::Regular, "")]),
            "InvalidLock",
        ),
        (
            "a hard link",
            extracted(&[("l", Kind::Link, "../../canary")]),
            "InvalidLock",
        ),
        (
            "a device",
            extracted(&[("d", Kind::Char, "")]),
            "InvalidLock",
        ),
        (
            "one name twice",
            extracted(&[("a", Kind::Regular, ""), ("./a", Kind::Regular, "")]),
            "InvalidLock",
        ),
        ("a target of the lock that leads out", target, "InvalidLock"),
        (
            "a byte that was changed",
            unpacked(&changed),
            "DigestMismatch",
        ),
    ]);
    threat(49).reasons(reasons(&outcomes)).requests([]);
}

/// Packs one download, whose server changed since the lock was written.
async fn fetched(fault: Fault) -> Outcome {
    let server = Registry::start().await;
    server.fault(fault);
    packed(
        &server,
        &format!("{}/files/rules.txt?token=hunter2", server.origin()),
    )
}

fn packed(server: &Registry, origin: &str) -> Outcome {
    let workspace = Workspace::new();
    let artifact = json!({
        "name": "rules",
        "type": "http",
        "origin": origin,
        "target": "rules.txt",
        "checksum": Digest::of_bytes(b"rules"),
        "size": 5,
    });
    let lock = json!({
        "apiVersion": "packgate.dev/v1alpha1",
        "kind": "Lockfile",
        "name": "rules",
        "artifacts": [artifact],
    });
    workspace.write("lock.yaml", lock.to_string());
    let run = workspace.run("pack lock.yaml --to oci:out -o json");
    assert!(
        !workspace.file("out").exists() && !workspace.file(".cache").exists(),
        "something is left: {run:#?}"
    );
    assert!(
        !format!("{run:?}").contains("hunter2"),
        "a secret: {run:#?}"
    );
    Outcome {
        reason: reason(&run),
        requests: server.requests().len(),
        report: Value::Null,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_fetched_is_what_the_lock_says_or_nothing() {
    let file = || Fault::on("GET", "/files/");
    let server = Registry::start().await;
    let encrypted = packed(
        &server,
        &format!("https://{}/files/rules.txt", server.host()),
    );
    let credentials = packed(
        &server,
        &format!("http://alice:hunter2@{}/files/rules.txt", server.host()),
    );
    let outcomes = expect([
        (
            "other bytes",
            fetched(file().status(200).body("RULES")).await,
            "ChecksumMismatch",
        ),
        (
            "more bytes",
            fetched(file().status(200).body("rules and more")).await,
            "SizeMismatch",
        ),
        (
            "fewer bytes",
            fetched(file().status(200).body("rule")).await,
            "SizeMismatch",
        ),
        (
            "bytes without an end",
            fetched(file().endless()).await,
            "SizeMismatch",
        ),
        (
            "a refusal",
            fetched(file().status(403)).await,
            "FetchFailed",
        ),
        (
            "a redirect without an end",
            fetched(file().redirect(302, "/files/rules.txt")).await,
            "FetchFailed",
        ),
        ("no TLS where it was promised", encrypted, "FetchFailed"),
        ("credentials in the URL", credentials, "InvalidLock"),
    ]);
    threat(50)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}
