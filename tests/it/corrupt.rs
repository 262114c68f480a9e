//! One changed byte anywhere in a layout: exit 4, and nothing is written.

use std::{fs, path::Path};

use crate::support::{
    cli::{HELLO, NOTES, Workspace},
    tools,
};

const VERIFY: &str = "--key packgate.pub --builder-id https://packgate.dev/builder/cli";

fn signed(options: &str) -> Workspace {
    let workspace = Workspace::with_lock();
    workspace
        .keys()
        .run(&format!(
            "pack lock.yaml --to oci:out:v1 --key packgate.key {options}"
        ))
        .ok();
    workspace
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("a blob");
    bytes[at] ^= 1;
    fs::write(path, bytes).expect("written");
}

#[test]
fn a_changed_byte_in_any_blob_is_found() {
    for options in ["", "--format Artifact", "--compression Zstd"] {
        let workspace = signed(options);
        workspace
            .run(&format!("unpack oci:out:v1 --to whole {VERIFY}"))
            .ok();
        let blobs = tools::tree(&workspace.file("out/blobs/sha256"));
        assert!(blobs.len() >= 8, "{} blobs", blobs.len());
        for (name, content, _) in &blobs {
            let path = workspace.file("out/blobs/sha256").join(name);
            for at in [0, content.len() / 2, content.len() - 1] {
                flip(&path, at);
                let run = workspace.run(&format!("unpack oci:out:v1 --to got {VERIFY}"));
                run.refused(4, "DigestMismatch");
                assert!(
                    !workspace.file("got").exists(),
                    "{options} {name} {at}: half-written"
                );
                flip(&path, at);
            }
        }
        workspace
            .run(&format!("unpack oci:out:v1 --to got {VERIFY}"))
            .ok();
    }
}

#[test]
fn a_missing_or_longer_blob_is_found() {
    let workspace = signed("");
    let blobs = tools::tree(&workspace.file("out/blobs/sha256"));
    let (name, content, _) = blobs
        .iter()
        .find(|(_, content, _)| content.windows(5).any(|w| w == b"ustar"))
        .expect("a layer");
    let path = workspace.file("out/blobs/sha256").join(name);
    fs::write(&path, [content.as_slice(), b"x"].concat()).expect("written");
    workspace
        .run(&format!("unpack oci:out:v1 --to got {VERIFY}"))
        .refused(4, "SizeMismatch");
    fs::remove_file(&path).expect("removed");
    workspace
        .run(&format!("unpack oci:out:v1 --to got {VERIFY}"))
        .refused(3, "SourceNotFound");
    assert!(!workspace.file("got").exists());
}

#[test]
fn what_is_unpacked_is_what_was_packed() {
    for options in ["", "--format Artifact", "--compression Zstd"] {
        let workspace = signed(options);
        workspace
            .run(&format!("unpack oci:out:v1 --to got {VERIFY}"))
            .ok();
        let files = tools::tree(&workspace.file("got"));
        let expected = [
            (
                "opt/hello/hello.sh".to_owned(),
                HELLO.as_bytes().to_vec(),
                true,
            ),
            (
                "opt/hello/notes.txt".to_owned(),
                NOTES.as_bytes().to_vec(),
                false,
            ),
        ];
        assert_eq!(files, expected, "{options}");
    }
}

#[test]
fn unpacking_never_writes_into_what_is_there() {
    let workspace = signed("");
    workspace.write("got/mine", "keep me");
    workspace
        .run(&format!("unpack oci:out:v1 --to got {VERIFY}"))
        .refused(2, "InvalidSpec");
    assert_eq!(tools::tree(&workspace.file("got")).len(), 1);
}

#[test]
fn a_selection_writes_only_what_matches() {
    let workspace = signed("");
    workspace
        .run(&format!(
            "unpack oci:out:v1 --to one --select opt/*.sh {VERIFY}"
        ))
        .refused(2, "InvalidSpec");
    workspace
        .run(&format!(
            "unpack oci:out:v1 --to one --select opt/*/*.sh {VERIFY}"
        ))
        .ok();
    assert_eq!(tools::tree(&workspace.file("one")).len(), 1);
}

#[test]
fn unpacking_asks_whom_to_trust() {
    let workspace = signed("");
    workspace
        .run("unpack oci:out:v1 --to got")
        .refused(2, "InvalidSpec");
    workspace.run("keys generate --out-dir other").ok();
    workspace
        .run("unpack oci:out:v1 --to got --key other/packgate.pub")
        .refused(1, "NoMatchingAuthority");
    assert!(!workspace.file("got").exists());
    workspace
        .run("unpack oci:out:v1 --to got --insecure-skip-verify")
        .ok();
}
