//! Locks that are refused, through the real binary: exit code, reason, and nothing left behind.

use crate::support::cli::{LOCK, Workspace};

fn refused(lock: &str, code: i32, reason: &str) {
    let workspace = Workspace::with_lock();
    workspace.write("lock.yaml", lock);
    workspace
        .run("pack lock.yaml --to oci:out:v1")
        .refused(code, reason);
    assert!(!workspace.file("out").exists(), "half-written: {lock}");
}

#[test]
fn malformed_locks_are_refused() {
    let second = "- name: notes";
    for (what, lock) in [
        (
            "unknown field",
            LOCK.replace("version: 1.0.0", "version: 1.0.0\nsurprise: 1"),
        ),
        (
            "unknown field of an artifact",
            LOCK.replace("  size: 20", "  size: 20\n  owner: root"),
        ),
        (
            "duplicate key",
            LOCK.replace("  size: 20", "  size: 20\n  size: 21"),
        ),
        ("duplicate name", LOCK.replace(second, "- name: hello")),
        (
            "duplicate target",
            LOCK.replace("opt/hello/notes.txt", "./opt//hello/hello.sh"),
        ),
        (
            "target inside of another",
            LOCK.replace("opt/hello/notes.txt", "opt/hello/hello.sh/x"),
        ),
        (
            "target that escapes",
            LOCK.replace("opt/hello/notes.txt", "opt/../../etc/passwd"),
        ),
        (
            "reserved target",
            LOCK.replace("opt/hello/notes.txt", ".packgate/lock.json"),
        ),
        (
            "target that reads as another",
            LOCK.replace("opt/hello/notes.txt", "opt/hello/\u{202e}txt.exe"),
        ),
        (
            "target with what nobody sees",
            LOCK.replace("opt/hello/notes.txt", "opt/hello/notes\u{200b}.txt"),
        ),
        (
            "target with a hidden tag",
            LOCK.replace("opt/hello/notes.txt", "opt/hello/notes\u{e0041}.txt"),
        ),
        (
            "origin that reads as another",
            LOCK.replace("files/notes.txt", "files/\u{2067}notes.txt"),
        ),
        (
            "origin with what nobody sees",
            LOCK.replace("files/notes.txt", "files/notes\u{feff}.txt"),
        ),
        (
            "origin that escapes",
            LOCK.replace("files/notes.txt", "../notes.txt"),
        ),
        (
            "another pack format",
            LOCK.replace("version: 1.0.0", "packFormat: \"2\""),
        ),
        ("two documents", format!("{LOCK}---\n{LOCK}")),
        (
            "an anchor",
            LOCK.replace("name: hello\nversion", "name: &a hello\nversion"),
        ),
        (
            "a tag",
            LOCK.replace("version: 1.0.0", "version: !!str 1.0.0"),
        ),
        ("short checksum", LOCK.replace("75e67071a45f", "75e6")),
        ("negative size", LOCK.replace("size: 20", "size: -20")),
        ("mode", LOCK.replace("\"0755\"", "\"0777\"")),
        (
            "no artifacts",
            LOCK.split("artifacts:").next().expect("a head").to_owned() + "artifacts: []\n",
        ),
        ("nothing", String::new()),
    ] {
        println!("{what}");
        refused(&lock, 2, "InvalidLock");
    }
}

#[test]
fn what_nobody_sees_is_written_out() {
    let workspace = Workspace::with_lock();
    workspace.write(
        "lock.yaml",
        LOCK.replace("version: 1.0.0", "\"\u{202e}surprise\u{200b}\": 1"),
    );
    for line in [
        "inspect lock.yaml",
        "inspect lock.yaml -o json",
        "plan lock.yaml",
        "plan \u{202e}none.yaml -o json",
    ] {
        let run = workspace.run(line);
        let raw = |text: &str| text.chars().any(|c| matches!(c, '\u{202e}' | '\u{200b}'));
        assert!(
            run.code != 0 && !raw(&run.stdout) && !raw(&run.stderr),
            "{line}: {run:?}"
        );
    }
    assert!(
        workspace
            .run("plan \u{202e}none.yaml")
            .stderr
            .contains("\\u{202e}none.yaml"),
        "it can still be found"
    );
}

#[test]
fn bytes_that_are_not_the_locks_are_refused() {
    refused(
        &LOCK.replace("75e67071a45f", "85e67071a45f"),
        4,
        "ChecksumMismatch",
    );
    refused(&LOCK.replace("size: 20", "size: 21"), 4, "SizeMismatch");
    refused(&LOCK.replace("size: 20", "size: 19"), 4, "SizeMismatch");
    refused(
        &LOCK.replace("files/notes.txt", "files/none.txt"),
        3,
        "SourceNotFound",
    );
}

#[test]
fn recorded_layers_are_checked_while_packing() {
    let workspace = Workspace::with_lock();
    workspace.run("lock lock.yaml").ok();
    let lock = workspace.read("lock.yaml");
    let diff_id = lock
        .split("diffID: sha256:")
        .nth(1)
        .expect("a layer")
        .get(..64)
        .expect("hex")
        .to_owned();
    workspace.write("lock.yaml", lock.replace(&diff_id, &"0".repeat(64)));
    workspace
        .run("pack lock.yaml --to oci:out")
        .refused(4, "DigestMismatch");
    workspace
        .run("lock --check lock.yaml")
        .refused(4, "DigestMismatch");
    assert!(!workspace.file("out").exists());
}

#[test]
fn locks_over_the_caps_are_refused() {
    refused(
        &format!("{LOCK}# {}\n", "x".repeat(3 << 20)),
        2,
        "InvalidLock",
    );
    let artifacts: Vec<String> = (0..10_001)
        .map(|n| {
            format!(
                "- {{name: n{n}, type: file, origin: f, target: t{n}, checksum: \
            'sha256:{}', size: 0}}\n",
                "0".repeat(64)
            )
        })
        .collect();
    refused(
        &format!(
            "apiVersion: packgate.dev/v1alpha1\nkind: Lockfile\nartifacts:\n{}",
            artifacts.concat()
        ),
        2,
        "InvalidLock",
    );
    refused(
        &LOCK.replace("size: 20", &format!("size: {}", (1_u64 << 40) + 1)),
        2,
        "InvalidLock",
    );
}

#[test]
fn a_failed_pack_leaves_an_existing_layout_as_it_was() {
    let workspace = Workspace::with_lock();
    workspace.run("pack lock.yaml --to oci:out:v1").ok();
    let before = listing(&workspace);
    workspace.write(
        "bad.yaml",
        LOCK.replace("75e67071a45f", "85e67071a45f")
            .replace("name: hello\nversion", "name: other\nversion"),
    );
    workspace
        .run("pack bad.yaml --to oci:out:v2")
        .refused(4, "ChecksumMismatch");
    assert_eq!(listing(&workspace), before);
}

fn listing(workspace: &Workspace) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = ["out/index.json", "out/oci-layout"]
        .iter()
        .map(|name| ((*name).to_owned(), workspace.read(name).into_bytes()))
        .collect();
    for entry in std::fs::read_dir(workspace.file("out/blobs/sha256")).expect("blobs") {
        let path = entry.expect("an entry").path();
        files.push((
            path.display().to_string(),
            std::fs::read(&path).expect("a blob"),
        ));
    }
    files.sort();
    files
}
