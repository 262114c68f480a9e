//! `packgate copy`, through the real binary: everything is copied, or the missing part is named.

use std::fs;

use crate::support::{
    cli::Workspace,
    registry::{Auth, Registry, Settings},
};

const VERIFY: &str = "--key packgate.pub --builder-id https://packgate.dev/builder/cli";

fn signed() -> Workspace {
    let workspace = Workspace::with_lock();
    workspace
        .keys()
        .run("pack lock.yaml --to oci:out:v1 --key packgate.key")
        .ok();
    workspace
}

#[test]
fn a_copy_has_every_signature_and_attestation() {
    let workspace = signed();
    let from = workspace.run("inspect oci:out:v1 -o json").json();
    let copied = workspace
        .run("copy oci:out:v1 oci-archive:a.tar")
        .ok()
        .to_owned();
    assert_eq!(
        copied,
        format!(
            "oci-archive:a.tar@{}",
            from["digest"].as_str().expect("a digest")
        )
    );
    workspace.run("copy oci-archive:a.tar:v1 oci:again:v1").ok();
    let to = workspace.run("inspect oci:again:v1 -o json").json();
    assert_eq!(from["referrers"], to["referrers"]);
    workspace.run(&format!("verify oci:again:v1 {VERIFY}")).ok();
}

#[test]
fn archives_are_signed_in_place_and_deterministic() {
    let workspace = Workspace::with_lock();
    workspace
        .keys()
        .run("pack lock.yaml --to oci-archive:a.tar:v1")
        .ok();
    workspace
        .run("pack lock.yaml --to oci-archive:b.tar:v1")
        .ok();
    assert_eq!(
        fs::read(workspace.file("a.tar")).expect("an archive"),
        fs::read(workspace.file("b.tar")).expect("an archive")
    );
    workspace
        .run("sign oci-archive:a.tar:v1 --key packgate.key")
        .ok();
    workspace
        .run("verify oci-archive:a.tar:v1 --key packgate.pub")
        .ok();
    let rest: Vec<_> = fs::read_dir(workspace.path())
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name())
        .filter(|name| name.to_string_lossy().starts_with(".packgate"))
        .collect();
    assert!(rest.is_empty(), "left behind: {rest:?}");
}

#[test]
fn a_missing_part_is_named_and_nothing_is_tagged() {
    let workspace = signed();
    let blobs = crate::support::tools::tree(&workspace.file("out/blobs/sha256"));
    let (blob, ..) = blobs
        .iter()
        .find(|(_, content, _)| content.windows(5).any(|window| window == b"ustar"))
        .expect("a layer");
    fs::remove_file(workspace.file("out/blobs/sha256").join(blob)).expect("removed");
    let run = workspace.run("copy oci:out:v1 oci:again:v1");
    assert!(
        run.refused(3, "SourceNotFound")
            .stderr
            .contains(blob.as_str()),
        "{run:?}"
    );
    assert!(!workspace.file("again").exists(), "half-written");
}

#[test]
fn one_platform_can_be_copied() {
    let workspace = Workspace::new();
    workspace.write("a", "a");
    workspace.write(
        "manifest.yaml",
        "apiVersion: packgate.dev/v1alpha1\nkind: LockManifest\nname: \
        p\nartifacts:\n- {name: a, origin: a, target: a, platforms: [linux/amd64, linux/arm64]}\n",
    );
    workspace.run("lock manifest.yaml").ok();
    workspace.run("pack p.lock.yaml --to oci:out:v1").ok();
    workspace
        .run("copy oci:out:v1 oci:one:v1 --platform linux/arm64")
        .ok();
    assert_eq!(
        workspace.run("inspect oci:one:v1 -o json").json()["mediaType"],
        "application/vnd.oci.image.manifest.v1+json"
    );
    workspace
        .run("copy oci:out:v1 oci:two:v1 --platform linux/s390x")
        .refused(2, "InvalidSpec");
    workspace
        .run("copy oci:one:v1 oci:two:v1 --platform linux/arm64")
        .refused(2, "InvalidSpec");
    workspace
        .run(&format!(
            "copy oci:out:v1 oci:two@sha256:{}",
            "0".repeat(64)
        ))
        .refused(2, "InvalidSpec");
    assert!(!workspace.file("two").exists());
}

#[test]
fn what_is_no_layout_or_archive_is_refused() {
    let workspace = Workspace::new();
    workspace.write("folder/file", "x");
    workspace.write("file.tar", "x");
    workspace
        .run("inspect oci:nothing:v1")
        .refused(3, "SourceNotFound");
    workspace
        .run("inspect oci-archive:nothing.tar:v1")
        .refused(3, "SourceNotFound");
    workspace
        .run("inspect oci-archive:file.tar:v1")
        .refused(4, "MalformedManifest");
    workspace
        .run("copy oci:folder:v1 oci:x:v1")
        .refused(3, "SourceNotFound");
    workspace.write("lock.yaml", crate::support::cli::LOCK);
    workspace.write("files/hello.sh", crate::support::cli::HELLO);
    workspace.write("files/notes.txt", crate::support::cli::NOTES);
    workspace
        .run("pack lock.yaml --to oci:folder:v1")
        .refused(2, "InvalidSpec");
    assert_eq!(workspace.read("folder/file"), "x");
}

#[test]
fn archives_that_are_more_than_a_layout_are_refused() {
    let workspace = signed();
    workspace
        .run("copy oci:out:v1 oci-archive:good.tar:v1")
        .ok();
    workspace.write("more/evil", "x");
    workspace.tool("cp", ["good.tar", "bad.tar"]).ok();
    workspace
        .tool("tar", ["-C", "more", "-rf", "bad.tar", "evil"])
        .ok();
    workspace
        .run("verify oci-archive:bad.tar:v1 --key packgate.pub")
        .refused(4, "MalformedManifest");
    workspace
        .tool("ln", ["-s", "/etc/passwd", "more/index.json"])
        .ok();
    workspace
        .tool("tar", ["-C", "more", "-cf", "link.tar", "index.json"])
        .ok();
    workspace
        .run("verify oci-archive:link.tar:v1 --key packgate.pub")
        .refused(4, "MalformedManifest");
}

/// Credentials are sent in clear text over plain HTTP, so no registry is used that way unless it
/// was named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_is_for_the_registries_that_it_names() {
    let guarded = || {
        Registry::with(Settings {
            auth: Auth::Basic("alice", "hunter2"),
            ..Settings::default()
        })
    };
    let (from, to) = (guarded().await, guarded().await);
    let workspace = signed();
    let entry = |host: String| format!(r#""{host}":{{"username":"alice","password":"hunter2"}}"#);
    workspace.write(
        "auth.json",
        format!(
            r#"{{"auths":{{{},{}}}}}"#,
            entry(from.host()),
            entry(to.host())
        ),
    );
    let (a, b) = (
        format!("{}/team/app:v1", from.host()),
        format!("{}/team/app:v1", to.host()),
    );
    let run = |line: String| workspace.run(&format!("{line} --registry-config auth.json"));
    run(format!("copy oci:out:v1 {a} --plain-http")).ok();
    let asked = (from.requests().len(), to.requests().len());

    let refused = run(format!("copy {a} {b} --plain-http"));
    assert!(
        refused
            .refused(2, "InvalidSpec")
            .stderr
            .contains(&format!("--plain-http={}", from.host())),
        "{refused:?}"
    );
    assert_eq!(
        (from.requests().len(), to.requests().len()),
        asked,
        "nothing was sent"
    );

    run(format!("copy {a} {b} --plain-http={}", to.host())).refused(3, "RegistryUnavailable");
    assert_eq!(
        from.requests().len(),
        asked.0,
        "it was not named, so it was asked with TLS, which it does not speak"
    );
    run(format!("copy {a} {b} --plain-http={}", from.host())).refused(3, "RegistryUnavailable");
    assert!(to.authorizations().is_empty());
    run(format!(
        "copy {a} {b} --plain-http={},{}",
        from.host(),
        to.host()
    ))
    .ok();
    assert!(to.tag("team/app", "v1").is_some());
}
