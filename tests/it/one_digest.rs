//! One lock, one digest: for every user, place and time of packing.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::Command,
    time::{Duration, SystemTime},
};

use crate::support::cli::{BINARY, HELLO, LOCK, NOTES, Run, Workspace};

/// Frozen with `packFormat: "1"`: the bundles of `support::cli::LOCK`.
const GOLDEN_IMAGE: &str =
    "sha256:c08bbe14c2aad178373cec765d121a80c703c04b84f76481926f49e3cd62ebb0";
const GOLDEN_ARTIFACT: &str =
    "sha256:34f13d25885c9dab957df17f5bb882286c3bdf419e8d0ba26d45cf2c57f9270e";

fn pack(workspace: &Workspace, lock: &str, format: &str) -> String {
    let printed = workspace
        .run(&format!("pack {lock} --to oci:out:v1 --format {format}"))
        .ok()
        .to_owned();
    printed.split_once('@').expect("a digest").1.to_owned()
}

#[test]
fn the_digests_of_pack_format_1_are_frozen() {
    let workspace = Workspace::with_lock();
    assert_eq!(pack(&workspace, "lock.yaml", "Image"), GOLDEN_IMAGE);
    assert_eq!(pack(&workspace, "lock.yaml", "Artifact"), GOLDEN_ARTIFACT);
}

#[test]
fn a_renamed_lock_and_shuffled_keys_change_nothing() {
    let workspace = Workspace::with_lock();
    fs::rename(
        workspace.file("lock.yaml"),
        workspace.file("other name.yml"),
    )
    .expect("renamed");
    let run = workspace.packgate(["pack", "other name.yml", "--to", "oci:renamed"]);
    assert!(run.ok().ends_with(GOLDEN_IMAGE), "{run:?}");

    let shuffled = serde_json::json!({
        "artifacts": [
            {"size": 37, "mode": "0755", "target": "/opt//hello/./hello.sh",
                "origin": "files/hello.sh", "type": "file", "name": "hello",
             "checksum": "sha256:438CD31D2C34E779160F3FFC22D3642012BE09E0F903FCB92E5193B59822FE31"},
            {"checksum": "sha256:75e67071a45f0cc4b076cdbaee827706613a727bc2a900c03b05b78f4ee405c3",
                "name": "notes", "origin": "files/notes.txt",
             "size": 20, "target": "opt/hello/notes.txt", "type": "file", "mode": "0644"},
        ],
        "version": "1.0.0", "packFormat": "1", "name": "hello", "kind": "Lockfile",
        "apiVersion": "packgate.dev/v1alpha1",
    });
    workspace.write("shuffled.json", shuffled.to_string());
    assert_eq!(pack(&workspace, "shuffled.json", "Image"), GOLDEN_IMAGE);
}

#[test]
fn user_folder_umask_time_zone_language_and_file_times_change_nothing() {
    let workspace = Workspace::new();
    // Written in another order, with other modes and times.
    workspace.write("deep/er/lock.yaml", LOCK);
    workspace.write("deep/er/files/zzz", "not in the lock");
    workspace.write("deep/er/files/notes.txt", NOTES);
    workspace.write("deep/er/files/hello.sh", HELLO);
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    let hello = fs::File::options()
        .write(true)
        .open(workspace.file("deep/er/files/hello.sh"))
        .expect("open");
    hello.set_modified(long_ago).expect("a time");
    fs::set_permissions(
        workspace.file("deep/er/files/hello.sh"),
        fs::Permissions::from_mode(0o604),
    )
    .expect("a mode");
    fs::set_permissions(workspace.path(), fs::Permissions::from_mode(0o777)).expect("a mode");
    fs::set_permissions(workspace.file("deep/er"), fs::Permissions::from_mode(0o777))
        .expect("a mode");

    let script = format!(
        "umask 077; cd deep/er && exec {} pack lock.yaml --to oci:out",
        other_user(&workspace)
    );
    let output = Command::new("sh")
        .args(["-c", &script])
        .current_dir(workspace.path())
        .env_clear()
        .envs([
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            ("TZ", "Asia/Kathmandu"),
            ("LC_ALL", "tr_TR.UTF-8"),
            ("LANG", "tr_TR.UTF-8"),
            ("SOURCE_DATE_EPOCH", "1234567890"),
        ])
        .output()
        .expect("sh runs");
    let run = Run::from(output);
    assert!(run.ok().ends_with(GOLDEN_IMAGE), "{run:?}");
}

/// The binary as another user if that is possible, else as this one.
fn other_user(workspace: &Workspace) -> String {
    let root =
        fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    // A copy, because the other user may not have access to the build folder.
    let copy = workspace.file("packgate");
    if !root || fs::copy(BINARY, &copy).is_err() {
        return BINARY.into();
    }
    let _ = fs::set_permissions(&copy, fs::Permissions::from_mode(0o755));
    format!(
        "setpriv --reuid 65534 --regid 65534 --clear-groups {}",
        copy.display()
    )
}

#[test]
fn a_plan_predicts_the_digest() {
    let workspace = Workspace::with_lock();
    assert_eq!(
        workspace.run("plan lock.yaml --format Artifact").ok(),
        GOLDEN_ARTIFACT
    );
    workspace.run("plan lock.yaml").refused(2, "NotPredictable");
    workspace.run("lock lock.yaml -f recorded.yaml").ok();
    assert!(workspace.read("recorded.yaml").contains("diffID"));
    assert_eq!(workspace.run("plan recorded.yaml").ok(), GOLDEN_IMAGE);
    assert_eq!(pack(&workspace, "recorded.yaml", "Image"), GOLDEN_IMAGE);
    workspace
        .run("plan recorded.yaml --compression Zstd")
        .refused(2, "NotPredictable");
}

#[test]
fn a_plan_predicts_epochs_and_annotations_too() {
    let workspace = Workspace::with_lock();
    workspace.run("lock lock.yaml").ok();
    for options in [
        "",
        "--source-date-epoch 0",
        "--source-date-epoch 1700000000 --annotation a=b",
        "--format Artifact --source-date-epoch 0",
        "--annotation org.opencontainers.image.title=x",
    ] {
        let target = options.len();
        let packed = workspace
            .run(&format!("pack lock.yaml --to oci:out:t{target} {options}"))
            .ok()
            .to_owned();
        let planned = workspace
            .run(&format!("plan lock.yaml {options}"))
            .ok()
            .to_owned();
        assert!(packed.ends_with(&planned), "{options}: {packed} {planned}");
    }
}
