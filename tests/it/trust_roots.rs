//! `packgate verify` with trust roots from a TUF repository, through the real binary and over real
//! HTTP.

use serde_json::json;
use sigstore_trust_root::SIGSTORE_PRODUCTION_TRUSTED_ROOT;

use crate::support::{
    cli::{BINARY, Run, Workspace},
    data::shared,
    tuf::{TufRepository, TufServer},
};

const LATER: &str = "2999-01-01T00:00:00Z";
const IDENTITY: &str =
    "--certificate-identity a@example.com --certificate-oidc-issuer https://i.example.com";

/// A bundle signed by a key, a repository with its first root in `root.json`, and its server.
fn scene(expires: &str) -> (Workspace, TufRepository, TufServer) {
    let workspace = Workspace::with_lock();
    workspace
        .keys()
        .run("pack lock.yaml --to oci:out:v1 --key packgate.key")
        .ok();
    let repository = TufRepository::new(SIGSTORE_PRODUCTION_TRUSTED_ROOT, expires);
    workspace.write("root.json", repository.root(1));
    let server = TufServer::start(&repository.files);
    (workspace, repository, server)
}

#[test]
fn a_repository_is_asked_once_a_day_and_then_kept() {
    let (workspace, _, server) = scene(LATER);
    let verify = format!(
        "verify oci:out:v1 {IDENTITY} --tuf-url {} --tuf-root root.json",
        server.url()
    );
    workspace
        .run(&format!("{verify} --offline"))
        .refused(3, "TrustRootUnavailable");
    assert_eq!(server.requests(), 0);
    // The trust root exists; the bundle has no certificate.
    let report = workspace.run(&verify);
    assert_eq!(report.code, 1, "{report:#?}");
    assert!(
        report.stdout.contains("--tuf-url") && report.stdout.contains("--tuf-root root.json"),
        "it can be reproduced: {report:#?}"
    );
    let asked = server.requests();
    assert!(asked >= 4, "{asked}");
    drop(server);
    for offline in ["", " --offline"] {
        assert_eq!(workspace.run(&format!("{verify}{offline}")).code, 1, "kept");
    }
    assert!(workspace.file(".cache/packgate/tuf").is_dir());
    let elsewhere = workspace.run(&format!("{verify} --offline --cache-dir other"));
    elsewhere.refused(3, "TrustRootUnavailable");
}

#[test]
fn a_repository_that_is_down_or_over_is_named_and_keys_go_on() {
    let (workspace, repository, server) = scene("2020-01-01T00:00:00Z");
    let verify = format!(
        "verify oci:out:v1 {IDENTITY} --tuf-url {} --tuf-root root.json",
        server.url()
    );
    workspace.run(&verify).refused(1, "TrustRootExpired");
    repository.files.lock().expect("no panic").clear();
    workspace.run(&verify).refused(3, "TrustRootUnavailable");
    workspace.run("verify oci:out:v1 --key packgate.pub").ok();
    // Sigstore's own root is only fetched if an identity is verified.
    workspace
        .run(&format!("verify oci:out:v1 {IDENTITY} --offline"))
        .refused(3, "tuf-repo-cdn.sigstore.dev");
    workspace.write("trusted_root.json", SIGSTORE_PRODUCTION_TRUSTED_ROOT);
    assert_eq!(
        workspace
            .run(&format!(
                "verify oci:out:v1 {IDENTITY} --trusted-root trusted_root.json"
            ))
            .code,
        1,
        "and not with a file"
    );
    assert!(!workspace.file(".cache").exists(), "nothing was kept");
}

#[test]
fn rotated_keys_are_followed_from_the_first_root_on() {
    let (workspace, mut repository, server) = scene(LATER);
    let verify = format!(
        "verify oci:out:v1 {IDENTITY} --tuf-url {} --tuf-root root.json --cache-dir",
        server.url()
    );
    repository.rotate();
    repository.publish(SIGSTORE_PRODUCTION_TRUSTED_ROOT, LATER);
    assert_eq!(
        workspace.run(&format!("{verify} one")).code,
        1,
        "the trust root is there"
    );
    repository.usurp();
    repository.publish(SIGSTORE_PRODUCTION_TRUSTED_ROOT, LATER);
    workspace
        .run(&format!("{verify} two"))
        .refused(3, "TrustRootUnavailable");
    assert_eq!(
        workspace.run(&format!("{verify} one")).code,
        1,
        "and what is kept is used"
    );
}

/// Sigstore's own instances are unreachable through a proxy that does not exist.
#[test]
fn signers_and_verifiers_of_a_file_ask_the_instance_that_they_name() {
    let workspace = Workspace::with_lock();
    let unreachable = |line: &str, host: &str| {
        let output = workspace
            .command(BINARY)
            .args(line.split(' '))
            .env("HTTPS_PROXY", "http://127.0.0.1:9")
            .output();
        Run::from(output.expect("the binary runs"))
            .refused(3, "TrustRootUnavailable")
            .refused(3, host);
    };
    let sign = "sigstore sign-bundle --identity-token e30.e30.x --bundle bundle.json lock.yaml";
    unreachable(sign, "tuf-repo-cdn.sigstore.dev");
    unreachable(&format!("{sign} --staging"), "tuf-repo-cdn.sigstage.dev");
    workspace
        .run(&format!("{sign} --signing-config signing_config.json"))
        .refused(2, "--trusted-root");
    workspace.write("bundle.json", "{}");
    let verify = format!("sigstore verify-bundle --bundle bundle.json {IDENTITY} lock.yaml");
    unreachable(&verify, "tuf-repo-cdn.sigstore.dev");
    unreachable(&format!("{verify} --staging"), "tuf-repo-cdn.sigstage.dev");
    workspace.write("trusted_root.json", SIGSTORE_PRODUCTION_TRUSTED_ROOT);
    workspace
        .run(&format!(
            "{verify} --staging --trusted-root trusted_root.json"
        ))
        .refused(1, "MalformedEvidence");
}

#[test]
fn a_genuine_bundle_is_judged_by_the_root_that_the_repository_gives() {
    let Some(data) = shared("a_genuine_bundle_is_judged_by_the_root_that_the_repository_gives")
    else {
        return;
    };
    let text = |path: &str| std::fs::read_to_string(data.join(path)).expect(path);
    let (good, other) = (
        text("trust/prod_trusted_root.json"),
        text("sigstore-conformance/invalid-ct-key_fail/trusted_root.json"),
    );
    let bundle = data.join("sigstore-conformance/happy-path-v0.2/bundle.sigstore.json");
    let identity = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";
    for (root, code) in [(&good, 0), (&other, 1)] {
        let workspace = Workspace::new();
        let repository = TufRepository::new(root, LATER);
        let server = TufServer::start(&repository.files);
        workspace.write("root.json", repository.root(1));
        let (bundle, artifact) = (
            bundle.display().to_string(),
            data.join("sigstore-conformance/a.txt")
                .display()
                .to_string(),
        );
        let (identity, issuer) = (
            ["--certificate-identity", identity],
            [
                "--certificate-oidc-issuer",
                "https://token.actions.githubusercontent.com",
            ],
        );
        let verify = [
            "sigstore",
            "verify-bundle",
            "--bundle",
            &bundle,
            "--tuf-url",
            &server.url(),
            "--tuf-root",
            "root.json",
            &artifact,
        ];
        let run = workspace.packgate(verify.iter().chain(&identity).chain(&issuer));
        assert_eq!(run.code, code, "{run:#?}");
    }
}

#[test]
fn policies_in_files_name_repositories_too() {
    let (workspace, repository, server) = scene(LATER);
    let key = workspace.read("packgate.pub");
    let root = String::from_utf8(repository.root(1)).expect("text");
    let keyless = json!({
        "trustRootRef": {"name": "corp"},
        "issuer": "https://i.example.com",
        "subject": {"exact": "a@example.com"},
    });
    let policy = |authorities: serde_json::Value| {
        json!({"apiVersion": "packgate.dev/v1alpha1", "kind": "ClusterBundlePolicy",
        "metadata": {"name": "p"},
        "spec": {
            "match": {"references": ["**"]},
            "requireDigest": false,
            "authorities": authorities,
        }})
    };
    let rooted = policy(
        json!([{"name": "platform", "key": {"pem": key}}, {"name": "ci", "keyless": keyless}]),
    );
    let tuf = json!({"url": server.url(), "root": {"configMapRef": {"name": "first"}}});
    let trust_root = json!({
        "apiVersion": "packgate.dev/v1alpha1",
        "kind": "TrustRoot",
        "metadata": {"name": "corp"},
        "spec": {"tuf": tuf},
    });
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "first"},
        "data": {"root.json": root},
    });
    let write = |documents: &[&serde_json::Value]| {
        workspace.write(
            "policy.yaml",
            documents
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n---\n"),
        );
    };
    write(&[&rooted, &trust_root]);
    workspace
        .run("verify oci:out:v1 --policy policy.yaml")
        .refused(2, "no ConfigMap first with the key root.json was given");
    write(&[&rooted, &trust_root, &map]);
    workspace.run("policy check policy.yaml").ok();
    assert_eq!(server.requests(), 0, "a check asks nobody");
    workspace
        .run("verify oci:out:v1 --policy policy.yaml --offline")
        .refused(3, "TrustRootUnavailable");
    assert!(
        workspace
            .run("verify oci:out:v1 --policy policy.yaml")
            .ok()
            .starts_with("admitted")
    );
    assert!(
        workspace
            .run("verify oci:out:v1 --policy policy.yaml --offline")
            .ok()
            .starts_with("admitted"),
        "kept"
    );
    write(&[
        &policy(json!([{"name": "platform", "key": {"pem": key}}])),
        &trust_root,
        &map,
    ]);
    drop(server);
    workspace
        .run("verify oci:out:v1 --policy policy.yaml --cache-dir nowhere")
        .ok();
}
