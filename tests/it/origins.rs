//! Origins of artifacts: downloads and images, locked, packed and refused through the real binary.

use serde_json::json;

use crate::support::{
    cli::Workspace,
    registry::{Fault, Registry},
    tools,
};

fn manifest(workspace: &Workspace, artifacts: &serde_json::Value) {
    let document = json!({
        "apiVersion": "packgate.dev/v1alpha1",
        "kind": "LockManifest",
        "name": "test",
        "artifacts": artifacts,
    });
    workspace.write("manifest.yaml", document.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_is_locked_packed_and_unpacked() {
    let server = Registry::start().await;
    server.fault(
        Fault::on("GET", "/files/rules.txt")
            .status(200)
            .body("rules"),
    );
    let workspace = Workspace::new();
    manifest(
        &workspace,
        &json!([
            {
                "name": "rules",
                "origin": format!("http://{}/files/rules.txt", server.host()),
                "target": "opt/rules.txt",
            },
        ]),
    );
    assert_eq!(workspace.run("lock manifest.yaml").ok(), "test.lock.yaml");
    let planned = workspace.run("plan test.lock.yaml").ok().to_owned();
    assert!(
        workspace
            .run("pack test.lock.yaml --to oci:out")
            .ok()
            .ends_with(&planned)
    );
    workspace
        .run("unpack oci:out --to got --insecure-skip-verify")
        .ok();
    assert_eq!(
        tools::tree(&workspace.file("got")),
        [("opt/rules.txt".to_owned(), b"rules".to_vec(), false)]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_that_changed_or_fails_is_refused() {
    let server = Registry::start().await;
    server.fault(
        Fault::on("GET", "/files/rules.txt")
            .status(200)
            .body("rules"),
    );
    let workspace = Workspace::new();
    manifest(
        &workspace,
        &json!([
            {
                "name": "rules",
                "origin": format!("http://{}/files/rules.txt?token=hunter2", server.host()),
                "target": "opt/rules.txt",
            },
        ]),
    );
    workspace.run("lock manifest.yaml").ok();
    for (fault, code, reason) in [
        (
            Fault::on("GET", "/files/").status(200).body("RULES"),
            4,
            "ChecksumMismatch",
        ),
        (
            Fault::on("GET", "/files/")
                .status(200)
                .body("rules and more"),
            4,
            "SizeMismatch",
        ),
        (
            Fault::on("GET", "/files/").status(200).body("rule"),
            4,
            "SizeMismatch",
        ),
        (Fault::on("GET", "/files/").status(404), 3, "SourceNotFound"),
        (Fault::on("GET", "/files/").status(403), 3, "FetchFailed"),
        (Fault::on("GET", "/files/").endless(), 4, "SizeMismatch"),
    ] {
        server.heal();
        server.fault(fault);
        let run = workspace.run("pack test.lock.yaml --to oci:out");
        run.refused(code, reason);
        assert!(!run.stderr.contains("hunter2"), "a secret: {run:?}");
        assert!(!workspace.file("out").exists(), "half-written");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_locked_by_digest_and_packed_as_an_archive() {
    let registry = Registry::start().await;
    let workspace = Workspace::with_lock();
    workspace
        .run(&format!(
            "pack lock.yaml --plain-http --to {}/team/image:v1",
            registry.host()
        ))
        .ok();
    manifest(
        &workspace,
        &json!([
            {
                "name": "image",
                "origin": format!("oci://{}/team/image:v1", registry.host()),
                "target": "images/image.tar",
            },
        ]),
    );
    workspace.run("lock --plain-http manifest.yaml").ok();
    let lock = workspace.read("test.lock.yaml");
    assert!(lock.contains("/team/image:v1@sha256:"), "{lock}");

    let planned = workspace.run("plan test.lock.yaml").ok().to_owned();
    assert!(
        workspace
            .run("pack --plain-http test.lock.yaml --to oci:out")
            .ok()
            .ends_with(&planned)
    );
    workspace
        .run("unpack oci:out --to got --insecure-skip-verify")
        .ok();
    // The artifact is itself an archive of a layout, which packgate can read.
    let digest = lock
        .split("/team/image:v1@")
        .nth(1)
        .expect("a digest")
        .get(..71)
        .expect("a digest")
        .to_owned();
    let found = workspace
        .run(&format!(
            "inspect oci-archive:got/images/image.tar@{digest} -o json"
        ))
        .json();
    assert_eq!(found["lock"]["name"], "hello");

    // The tag moves, the lock does not.
    workspace.write(
        "other.yaml",
        workspace
            .read("lock.yaml")
            .replace("version: 1.0.0", "version: 2.0.0"),
    );
    workspace
        .run(&format!(
            "pack other.yaml --plain-http --to {}/team/image:v1",
            registry.host()
        ))
        .ok();
    assert!(
        workspace
            .run("pack --plain-http test.lock.yaml --to oci:again")
            .ok()
            .ends_with(&planned)
    );
    workspace
        .run("lock --plain-http --check test.lock.yaml")
        .ok();
    workspace
        .run("lock --plain-http --update test.lock.yaml")
        .ok();
    assert_ne!(workspace.run("plan test.lock.yaml").ok(), planned);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_by_tag_is_unverifiable() {
    let workspace = Workspace::new();
    let lock = json!({"apiVersion": "packgate.dev/v1alpha1", "kind": "Lockfile", "artifacts": [
    {
        "name": "a",
        "type": "oci",
        "origin": "oci://r.example.com/a:v1",
        "target": "a.tar",
        "checksum": format!("sha256:{}", "0".repeat(64)),
        "size": 1,
    }]});
    workspace.write("lock.yaml", lock.to_string());
    workspace.run("inspect lock.yaml").ok();
    workspace
        .run("pack lock.yaml --to oci:out")
        .refused(2, "UnverifiableOci");
}

#[test]
fn archives_are_extracted_where_the_lock_says() {
    let workspace = Workspace::new();
    workspace.write("in/a/rules.conf", "x");
    workspace
        .tool("tar", ["-C", "in", "-czf", "rules.tgz", "a"])
        .ok();
    manifest(
        &workspace,
        &json!([
            {
                "name": "rules",
                "origin": "rules.tgz",
                "target": "opt/rules.tgz",
                "unpack": true,
                "compression": "gzip",
                "unpackedPath": "opt/rules",
            },
        ]),
    );
    workspace.run("lock manifest.yaml").ok();
    workspace.run("pack test.lock.yaml --to oci:out").ok();
    workspace
        .run("unpack oci:out --to got --insecure-skip-verify")
        .ok();
    let names: Vec<String> = tools::tree(&workspace.file("got"))
        .into_iter()
        .map(|(name, ..)| name)
        .collect();
    assert_eq!(names, ["opt/rules.tgz", "opt/rules/a/rules.conf"]);
}

#[test]
fn a_lock_with_platforms_becomes_an_index() {
    let workspace = Workspace::new();
    for name in ["all", "amd", "arm"] {
        workspace.write(name, name);
    }
    manifest(
        &workspace,
        &json!([
            {"name": "all", "origin": "all", "target": "all"},
            {"name": "amd", "origin": "amd", "target": "own", "platforms": ["linux/amd64"]},
            {"name": "arm", "origin": "arm", "target": "arm", "platforms": ["linux/arm64"]},
        ]),
    );
    workspace.keys().run("lock manifest.yaml").ok();
    let planned = workspace.run("plan test.lock.yaml").ok().to_owned();
    assert!(
        workspace
            .run("pack test.lock.yaml --to oci:out:v1 --key packgate.key")
            .ok()
            .ends_with(&planned)
    );
    let found = workspace.run("inspect oci:out:v1 -o json").json();
    assert_eq!(found["platforms"], json!(["linux/amd64", "linux/arm64"]));
    for (platform, files) in [
        ("linux/amd64", ["all", "own"]),
        ("linux/arm64", ["all", "arm"]),
    ] {
        let folder = platform.replace('/', "-");
        workspace
            .run(&format!(
                "unpack oci:out:v1 --to {folder} --platform {platform} --key packgate.pub"
            ))
            .ok();
        let names: Vec<String> = tools::tree(&workspace.file(&folder))
            .into_iter()
            .map(|(name, ..)| name)
            .collect();
        assert_eq!(names, {
            let mut files = files.map(ToOwned::to_owned);
            files.sort();
            files
        });
    }
    workspace
        .run("unpack oci:out:v1 --to x --platform linux/s390x --key packgate.pub")
        .refused(2, "InvalidSpec");
    workspace
        .run("pack test.lock.yaml --to oci:art --format Artifact")
        .refused(2, "InvalidLock");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_work_is_told_in_plain_lines_and_not_when_quiet() {
    let server = Registry::start().await;
    // One byte at a time, until the declared size is exceeded.
    server.fault(Fault::on("GET", "/files/").drip(std::time::Duration::from_millis(250)));
    let workspace = Workspace::new();
    let lock = json!({"apiVersion": "packgate.dev/v1alpha1", "kind": "Lockfile", "artifacts": [
    {
        "name": "slow",
        "type": "http",
        "origin": format!("http://{}/files/slow", server.host()),
        "target": "slow",
        "checksum": format!("sha256:{}", "0".repeat(64)),
        "size": 6,
    }]});
    workspace.write("lock.yaml", lock.to_string());
    let told = workspace.run("pack lock.yaml --to oci:out");
    assert!(
        told.refused(4, "SizeMismatch")
            .stderr
            .starts_with("packing: "),
        "{told:?}"
    );
    assert!(
        !told.stderr.contains('\u{1b}'),
        "escapes without a terminal: {told:?}"
    );
    let quiet = workspace.run("pack lock.yaml --to oci:out --quiet");
    assert!(
        quiet
            .refused(4, "SizeMismatch")
            .stderr
            .starts_with("error: "),
        "{quiet:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_that_breaks_starts_again() {
    let server = Registry::start().await;
    let workspace = Workspace::new();
    let origin = format!("http://{}/files/rules.txt", server.host());
    manifest(
        &workspace,
        &json!([{"name": "rules", "origin": origin, "target": "opt/rules.txt"}]),
    );
    let whole = || {
        Fault::on("GET", "/files/rules.txt")
            .status(200)
            .body("rules")
    };
    for verb in ["lock manifest.yaml", "pack test.lock.yaml --to oci:out"] {
        server.heal();
        server.fault(whole().cut(3).times(2));
        server.fault(whole());
        let before = server.count("GET", "/files/");
        workspace.run(verb).ok();
        assert_eq!(server.count("GET", "/files/"), before + 3, "{verb}");
    }
    // Another file than the one that the download began with is none of its halves.
    server.heal();
    server.fault(whole().cut(3).times(1));
    server.fault(
        Fault::on("GET", "/files/rules.txt")
            .status(200)
            .body("RULES"),
    );
    let run = workspace.run("lock manifest.yaml");
    run.refused(3, "FetchFailed");
    assert!(
        run.stderr.contains("the file is another one now"),
        "{run:#?}"
    );
    // It is no loop.
    server.heal();
    server.fault(whole().cut(3));
    let before = server.count("GET", "/files/");
    let run = workspace.run("pack test.lock.yaml --to oci:other");
    run.refused(3, "FetchFailed");
    assert!(
        run.stderr.contains("gave up after 5 further requests"),
        "{run:#?}"
    );
    assert_eq!(server.count("GET", "/files/"), before + 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_asked_for_as_it_is() {
    let server = Registry::start().await;
    let workspace = Workspace::new();
    for (path, media_type, coding, is_file) in [
        ("rules.txt", "text/plain", "gzip", false),
        ("rules.txt", "text/plain", "br", false),
        ("rules.tar.gz", "application/x-tar", "x-gzip", true),
        ("rules", "application/gzip", "gzip", true),
        ("rules.txt", "text/plain", "identity", true),
    ] {
        server.heal();
        server.fault(
            Fault::on("GET", "/files/")
                .status(200)
                .header("content-type", media_type)
                .header("content-encoding", coding)
                .body("rules"),
        );
        let origin = format!("http://{}/files/{path}", server.host());
        manifest(
            &workspace,
            &json!([{"name": "rules", "origin": origin, "target": "opt/rules.txt"}]),
        );
        let run = workspace.run("lock manifest.yaml");
        if is_file {
            run.ok();
        } else {
            run.refused(3, "FetchFailed");
            let named = format!("(Content-Encoding: {coding})");
            assert!(run.stderr.contains(&named), "{run:#?}");
        }
    }
    for request in server.requests() {
        assert_eq!(
            request.headers.get("accept-encoding").map(String::as_str),
            Some("identity")
        );
    }
}
