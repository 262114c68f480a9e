//! Private origins, proxies and mirrors through the real binary, with real servers: TLS, basic and
//! bearer credentials, client certificates, `CONNECT`. Each also without what it needs.

mod pack_job;
mod signed_urls;

use packgate::core::digest::Digest;
use rcgen::ExtendedKeyUsagePurpose;
use serde_json::{Value, json};

use crate::support::{
    cli::{BINARY, Workspace},
    origin::{Demand, Origin, Pki, Proxy, RULES, fields},
    registry::{Fault, Registry},
};

const BASIC: Demand = Demand::Authorization("Basic dXNlcjpodW50ZXIy");
const BEARER: Demand = Demand::Authorization("Bearer hunter2");

/// A workspace with `ca.pem` and a manifest with one artifact from `url`.
fn workspace(pki: &Pki, url: &str) -> Workspace {
    let workspace = Workspace::new();
    workspace.write("ca.pem", &pki.ca);
    write_manifest(&workspace, url);
    workspace
}

fn write_manifest(workspace: &Workspace, url: &str) {
    let artifact = json!({"name": "rules", "origin": url, "target": "opt/rules.txt"});
    let manifest = json!({
        "apiVersion": "packgate.dev/v1alpha1",
        "kind": "LockManifest",
        "name": "test",
        "artifacts": [artifact],
    });
    workspace.write("manifest.yaml", manifest.to_string());
}

fn credentials(workspace: &Workspace, host: &str, secret: &Value) {
    let file = json!({"credentials": [{"host": host, "secret": secret}]});
    workspace.write("credentials.yaml", file.to_string());
}

/// `lock`, `lock --check` and `pack` with these options, all of which succeed.
fn works(workspace: &Workspace, options: &str) {
    let options = format!("--ca-file ca.pem {options}");
    workspace.run(&format!("lock manifest.yaml {options}")).ok();
    workspace
        .run(&format!("lock test.lock.yaml --check {options}"))
        .ok();
    workspace
        .run(&format!("pack test.lock.yaml --to oci:out {options}"))
        .ok();
}

/// `pack` and `lock` with these options fail, and say this.
fn fails(workspace: &Workspace, options: &str, named: &str) {
    for verb in ["lock manifest.yaml", "pack test.lock.yaml --to oci:failed"] {
        let run = workspace.run(&format!("{verb} --ca-file ca.pem {options}"));
        run.refused(3, "FetchFailed");
        assert!(run.stderr.contains(named), "{named}: {run:#?}");
        assert!(!run.stderr.contains("hunter2"), "a secret: {run:#?}");
    }
}

#[test]
fn an_origin_that_asks_for_a_password() {
    let pki = Pki::new();
    let origin = Origin::start(Some(&pki), BASIC);
    let workspace = workspace(&pki, &origin.url("/rules.txt"));
    workspace.write("password", "hunter2\n");
    let secret = json!({"username": {"value": "user"}, "password": {"file": "password"}});
    credentials(&workspace, &origin.host(), &secret);
    works(&workspace, "--fetch-credentials credentials.yaml");

    let netrc = "machine 127.0.0.1 login user password hunter2\n";
    workspace.write(".netrc", netrc);
    workspace.write("other", netrc);
    for option in ["--netrc", "--netrc other", "--netrc=other"] {
        works(&workspace, option);
    }

    let hint = "HTTP 401; if it wants credentials, give those for 127.0.0.1 in --netrc or \
        --fetch-credentials";
    fails(&workspace, "", hint);
    workspace.write(
        "other",
        "machine elsewhere.example.com password hunter2\ndefault password hunter2",
    );
    fails(&workspace, "--netrc other", hint);
    workspace.write("other", "machine 127.0.0.1 login user password wrong");
    fails(
        &workspace,
        "--netrc other",
        "HTTP 401 to the credentials of machine 127.0.0.1 of other; correct them",
    );
    credentials(
        &workspace,
        &origin.host(),
        &json!({"token": {"value": "hunter2"}}),
    );
    fails(
        &workspace,
        "--fetch-credentials credentials.yaml",
        "to the credentials of credentials.yaml: credentials[0]",
    );
}

#[test]
fn an_origin_that_asks_for_a_token() {
    let pki = Pki::new();
    let origin = Origin::start(Some(&pki), BEARER);
    let workspace = workspace(&pki, &origin.url("/rules.txt"));
    credentials(
        &workspace,
        &origin.host(),
        &json!({"token": {"env": "FILES_TOKEN"}}),
    );
    let line = "lock manifest.yaml --ca-file ca.pem --fetch-credentials credentials.yaml";
    let run = workspace
        .command(BINARY)
        .args(line.split(' '))
        .env("FILES_TOKEN", "hunter2")
        .output()
        .expect("the binary runs");
    assert!(run.status.success(), "{run:?}");
    workspace
        .run(line)
        .refused(2, "the variable \"FILES_TOKEN\" is not set");
    fails(&workspace, "", "--fetch-credentials");
}

/// Over http a credential is in clear text: only where the host is listed as such.
#[test]
fn credentials_are_not_sent_without_tls() {
    let pki = Pki::new();
    let origin = Origin::start(None, BEARER);
    let workspace = workspace(&pki, &origin.url("/rules.txt"));
    let secret = json!({"token": {"value": "hunter2"}});
    let allowed = json!({"credentials": [
        {"host": origin.host(), "plainHTTP": true, "secret": secret},
    ]});
    workspace.write("credentials.yaml", allowed.to_string());
    works(&workspace, "--fetch-credentials credentials.yaml");
    let before = origin.heads().len();
    credentials(&workspace, &origin.host(), &secret);
    fails(
        &workspace,
        "--fetch-credentials credentials.yaml",
        "credentials[0] was not sent, because http://127.0.0.1:",
    );
    workspace.write("netrc", "machine 127.0.0.1 password hunter2");
    fails(&workspace, "--netrc netrc", "of netrc was not sent");
    for head in origin.heads().split_off(before) {
        assert!(!fields(&head).contains_key("authorization"), "{head}");
    }
}

#[test]
fn an_origin_that_asks_for_a_client_certificate() {
    let pki = Pki::new();
    let origin = Origin::start(Some(&pki), Demand::ClientCertificate);
    let workspace = workspace(&pki, &origin.url("/rules.txt"));
    let (certificate, key) = pki.certificate("client", ExtendedKeyUsagePurpose::ClientAuth);
    workspace.write("client.crt", certificate);
    workspace.write("client.key", key);
    let secret = json!({"tls.crt": {"file": "client.crt"}, "tls.key": {"file": "client.key"}});
    credentials(&workspace, &origin.host(), &secret);
    works(&workspace, "--fetch-credentials credentials.yaml");
    fails(
        &workspace,
        "",
        "asks for a client certificate: give tls.crt and tls.key in --netrc or --fetch-credentials",
    );
    let half = json!({"tls.crt": {"file": "client.crt"}});
    credentials(&workspace, &origin.host(), &half);
    workspace
        .run("lock manifest.yaml --fetch-credentials credentials.yaml")
        .refused(2, "credentials[0] has tls.crt and no tls.key");
}

#[test]
fn downloads_go_through_a_proxy() {
    let pki = Pki::new();
    let proxy = Proxy::start(Some("Basic cHJveHk6aHVudGVyMg=="));
    let through = format!("--proxy http://proxy:hunter2@{}", proxy.host());
    for origin in [
        Origin::start(Some(&pki), Demand::Nothing),
        Origin::start(None, Demand::Nothing),
    ] {
        let workspace = workspace(&pki, &origin.url("/rules.txt"));
        let before = proxy.heads().len();
        works(&workspace, &through);
        let heads = proxy.heads().split_off(before);
        assert_eq!(heads.len(), 3, "{heads:#?}");
        let first = if origin.url("").starts_with("https") {
            format!("CONNECT {} ", origin.host())
        } else {
            format!("GET {} ", origin.url("/rules.txt"))
        };
        assert!(
            heads.iter().all(|head| head.starts_with(&first)),
            "{heads:#?}"
        );
        for head in origin.heads() {
            assert!(
                !head.to_lowercase().contains("proxy-authorization"),
                "{head}"
            );
        }
        let label = format!("the proxy {}/ of --proxy", proxy.url());
        fails(
            &workspace,
            &format!("--proxy {}", proxy.url()),
            &format!("{label} asks for a user name and password"),
        );
        let asked = proxy.heads().len();
        works(&workspace, &format!("{through} --no-proxy 127.0.0.1"));
        assert_eq!(proxy.heads().len(), asked, "no proxy is needed");
    }
    let workspace = workspace(&pki, "https://127.0.0.1:1/rules.txt");
    workspace
        .run("lock manifest.yaml --proxy http://user:hunter2@127.0.0.1:1")
        .refused(
            3,
            "it is reached through the proxy http://127.0.0.1:1/ of --proxy",
        );
    workspace
        .run("lock manifest.yaml --proxy socks5://127.0.0.1:1")
        .refused(2, "--proxy must have the URL of a proxy");
}

/// As curl and others read them.
#[test]
fn the_environment_names_a_proxy() {
    let pki = Pki::new();
    let proxy = Proxy::start(None);
    let origin = Origin::start(Some(&pki), Demand::Nothing);
    let workspace = workspace(&pki, &origin.url("/rules.txt"));
    for (variables, requests) in [
        (&[("HTTPS_PROXY", proxy.url())][..], 1),
        (&[("https_proxy", proxy.url())][..], 1),
        (&[("ALL_PROXY", proxy.url())][..], 1),
        (
            &[
                ("HTTPS_PROXY", proxy.url()),
                ("NO_PROXY", "a.example.com,127.0.0.1".to_owned()),
            ][..],
            0,
        ),
        (
            &[
                ("HTTPS_PROXY", proxy.url()),
                ("no_proxy", "127.0.0.0/8".to_owned()),
            ][..],
            0,
        ),
        (&[("HTTP_PROXY", proxy.url())][..], 0),
    ] {
        let before = proxy.heads().len();
        let run = workspace
            .command(BINARY)
            .args(["lock", "manifest.yaml", "--ca-file", "ca.pem"])
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .output()
            .expect("the binary runs");
        assert!(run.status.success(), "{variables:?}: {run:?}");
        assert_eq!(proxy.heads().len(), before + requests, "{variables:?}");
    }
}

#[test]
fn a_mirror_is_asked_first() {
    let pki = Pki::new();
    let mirror = Origin::start(Some(&pki), BEARER);
    let workspace = workspace(
        &pki,
        "https://up.example.invalid/v1/rules.txt?X-Amz-Signature=hunter2",
    );
    credentials(
        &workspace,
        &mirror.host(),
        &json!({"token": {"value": "hunter2"}}),
    );
    let option = format!(
        "--mirror up.example.invalid/v1={}/up --fetch-credentials credentials.yaml",
        mirror.host()
    );
    works(&workspace, &option);
    for head in mirror.heads() {
        assert!(head.starts_with("GET /up/rules.txt HTTP/1.1"), "{head}");
    }
    // Without it there is no such host; without the credential it is told that both failed.
    let run = workspace.run("pack test.lock.yaml --to oci:failed --ca-file ca.pem");
    run.refused(3, "FetchFailed");
    let option = format!("--mirror up.example.invalid/v1={}/up", mirror.host());
    let run = workspace.run(&format!(
        "pack test.lock.yaml --to oci:failed --ca-file ca.pem {option}"
    ));
    run.refused(3, "FetchFailed");
    let told = "its mirrors failed before: https://127.0.0.1:";
    assert!(
        run.stderr.contains(told) && run.stderr.contains("HTTP 401"),
        "{run:#?}"
    );
    // Whatever a mirror has: the checksum decides.
    let lock = workspace.read("test.lock.yaml");
    let digest = Digest::of_bytes(RULES.as_bytes()).to_string();
    assert!(lock.contains(&digest), "{lock}");
    workspace.write(
        "other.lock.yaml",
        lock.replace(&digest, &format!("sha256:{}", "0".repeat(64)))
            .split("layers:")
            .next()
            .expect("artifacts"),
    );
    let run = workspace.run(&format!(
        "pack other.lock.yaml --to oci:failed --ca-file ca.pem {option} --fetch-credentials \
        credentials.yaml"
    ));
    run.refused(4, "ChecksumMismatch");
    assert!(
        run.stderr.contains("rules from https://127.0.0.1:"),
        "the mirror is not named: {run:#?}"
    );
    workspace
        .run("lock manifest.yaml --mirror up.example.invalid")
        .refused(2, "must be FROM=TO");
}

#[test]
fn names_that_no_file_system_takes_are_refused_before_anything_is_packed() {
    let workspace = Workspace::with_lock();
    let long = format!("opt/{}/x", "a".repeat(256));
    let lock = workspace
        .read("lock.yaml")
        .replace("opt/hello/notes.txt", &long);
    workspace.write("long.yaml", &lock);
    let told = "artifacts[1].target: must have at most 255 bytes between slashes";
    for verb in [
        "pack long.yaml --to oci:out",
        "plan long.yaml",
        "lock long.yaml",
        "lock long.yaml --check",
        "inspect long.yaml",
    ] {
        let run = workspace.run(verb);
        run.refused(2, "InvalidLock");
        assert!(run.stderr.contains(told), "{run:#?}");
    }
    write_manifest(&workspace, "files/notes.txt");
    let manifest = workspace
        .read("manifest.yaml")
        .replace("opt/rules.txt", &long);
    workspace.write("manifest.yaml", manifest);
    workspace
        .run("lock manifest.yaml")
        .refused(2, "must have at most 255 bytes between slashes");
}

/// A server that says when to come back is waited for, in seconds or until a date, and that is
/// told; not for longer than the budget.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_limits_requests_is_waited_for() {
    let server = Registry::start().await;
    let busy = |status: u16, value: &str| {
        Fault::on("GET", "/rules.txt")
            .times(1)
            .status(status)
            .header("retry-after", value)
    };
    let workspace = Workspace::new();
    write_manifest(&workspace, &format!("{}/rules.txt", server.origin()));
    let found = || Fault::on("GET", "/rules.txt").status(200).body(RULES);
    for (status, value) in [(429, "3"), (503, "3")] {
        server.heal();
        server.fault(busy(status, value));
        server.fault(found());
        let run = workspace.run("lock manifest.yaml --rate-limit-wait 60");
        run.ok();
        assert!(
            run.stderr
                .contains("limits the rate of requests; waiting 3 s"),
            "{run:#?}"
        );
    }
    server.heal();
    server.fault(busy(429, "3600"));
    server.fault(found());
    let run = workspace.run("lock manifest.yaml --rate-limit-wait 60");
    run.refused(3, "FetchFailed");
    assert!(run.stderr.contains("HTTP 429"), "{run:#?}");
}
