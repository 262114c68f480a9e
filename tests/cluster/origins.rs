//! Private origins of downloads: behind a password and a proxy, behind a client certificate, and
//! from a mirror; and what is said where one of these is missing.

use std::net::IpAddr;

use packgate::core::digest::Digest;
use rcgen::ExtendedKeyUsagePurpose;
use serde_json::{Value, json};

use crate::support::{
    Test,
    bundle::{PACKED, packed_bundle},
    origin::{Demand, Origin, Pki, Proxy, RULES, fields},
    progress::text,
};

/// A name that only the proxy knows.
const HIDDEN: &str = "files.corp.invalid";
const USER: &str = "Basic dXNlcjpodW50ZXIy";
const PROXY_USER: &str = "Basic cHJveHk6aHVudGVyMg==";

/// The address of the node, where servers of tests listen.
fn node(test: &Test) -> Option<IpAddr> {
    let address = test.cluster.node_ip.as_deref().map(str::parse);
    if address.is_none() {
        println!("not run: this cluster lets tests start no server");
    }
    address.map(|address| address.expect("an address"))
}

/// A PackedBundle of one download, with this `spec.fetch`.
fn download(test: &Test, name: &str, url: &str, fetch: &Value) -> Value {
    let lock = json!({
        "apiVersion": "packgate.dev/v1alpha1",
        "kind": "Lockfile",
        "name": name,
        "artifacts": [{
            "name": "rules", "type": "http", "origin": url, "target": "opt/rules.txt",
            "checksum": Digest::of_bytes(RULES.as_bytes()), "size": RULES.len(),
        }],
    });
    let mut bundle = packed_bundle(name, "", &test.repository(&test.cluster.registry, name));
    bundle["spec"]["source"] = json!({"inline": lock.to_string()});
    bundle["spec"]["fetch"] = fetch.clone();
    bundle
}

fn secret(test: &Test, name: &str, keys: &[(&str, &str)]) {
    let keys: serde_json::Map<String, Value> = keys
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(value)))
        .collect();
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": keys,
    });
    test.namespace.apply(&secret.to_string());
}

/// Waits until it is not ready for this reason, with a message that says this and no secret.
fn fails(test: &Test, name: &str, reason: &str, named: &str) {
    let bundle = test.not_ready(name, reason, PACKED);
    let message = text(&bundle["status"]["conditions"][0]["message"]).to_owned();
    assert!(message.contains(named), "{named}: {message}");
    assert!(
        !bundle.to_string().contains("hunter2"),
        "a secret: {bundle:#}"
    );
    test.nothing_came_of(&bundle, &test.repository(&test.cluster.registry, name));
}

#[test]
fn a_private_origin_behind_a_proxy() {
    let Some(test) = Test::start("a_private_origin_behind_a_proxy") else {
        return;
    };
    test.installation();
    let Some(node) = node(&test) else { return };
    let origin = Origin::listening(node, None, Demand::Authorization(USER));
    let proxy = Proxy::in_front_of(node, Some(PROXY_USER), Some(&origin));
    let url = format!("http://{HIDDEN}/rules.txt");
    let credential = json!({"host": HIDDEN, "plainHTTP": true, "secretRef": {"name": "files"}});
    let with = |credentials: Value, proxy: bool| {
        let mut fetch = json!({"credentials": credentials});
        if proxy {
            fetch["proxySecretRef"] = json!({"name": "proxy"});
        }
        fetch
    };
    let wanted = with(json!([credential]), true);
    test.namespace
        .apply(&download(&test, "no-secret", &url, &wanted).to_string());
    fails(
        &test,
        "no-secret",
        "SourceNotFound",
        "spec.fetch.proxySecretRef (Secret",
    );
    let proxy_keys = [
        ("address", proxy.url()),
        ("username", "proxy".to_owned()),
        ("password", "hunter2".to_owned()),
    ];
    let proxy_keys = proxy_keys
        .each_ref()
        .map(|(key, value)| (*key, value.as_str()));
    secret(&test, "proxy", &proxy_keys);
    secret(
        &test,
        "files",
        &[("username", "user"), ("password", "hunter2")],
    );
    secret(&test, "wrong", &[("token", "hunter2")]);

    let wrong = json!({"host": HIDDEN, "plainHTTP": true, "secretRef": {"name": "wrong"}});
    let clear = json!({"host": HIDDEN, "secretRef": {"name": "files"}});
    for (name, fetch) in [
        ("good", &wanted),
        ("no-proxy", &with(json!([credential]), false)),
        ("no-credential", &with(json!([]), true)),
        ("wrong", &with(json!([wrong]), true)),
        ("clear", &with(json!([clear]), true)),
    ] {
        test.namespace
            .apply(&download(&test, name, &url, fetch).to_string());
    }
    test.ready("good");
    fails(&test, "no-proxy", "FetchFailed", HIDDEN);
    fails(
        &test,
        "no-credential",
        "FetchFailed",
        "in spec.fetch.credentials",
    );
    fails(
        &test,
        "wrong",
        "FetchFailed",
        "to the credentials of spec.fetch.credentials[0].secretRef (Secret",
    );
    fails(
        &test,
        "clear",
        "FetchFailed",
        "was not sent, because http://files.corp.invalid has no TLS",
    );
    // The Secret is there now: it is looked for again.
    test.request("no-secret");
    test.ready("no-secret");
    for head in origin.heads() {
        assert!(!fields(&head).contains_key("proxy-authorization"), "{head}");
    }
}

#[test]
fn an_origin_that_asks_for_a_client_certificate() {
    let Some(test) = Test::start("an_origin_that_asks_for_a_client_certificate") else {
        return;
    };
    test.installation();
    let Some(node) = node(&test) else { return };
    let pki = Pki::new();
    let origin = Origin::listening(node, Some(&pki), Demand::ClientCertificate);
    let (certificate, key) = pki.certificate("client", ExtendedKeyUsagePurpose::ClientAuth);
    secret(
        &test,
        "client",
        &[("tls.crt", &certificate), ("tls.key", &key)],
    );
    let ca = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "ca"},
        "data": {"ca.crt": pki.ca},
    });
    test.namespace.apply(&ca.to_string());
    let url = origin.url("/rules.txt");
    let ca = json!({"kind": "ConfigMap", "name": "ca"});
    let credential = json!({"host": origin.host(), "secretRef": {"name": "client"}});
    for (name, fetch) in [
        ("good", json!({"caRef": ca, "credentials": [credential]})),
        ("none", json!({"caRef": ca})),
        ("no-ca", json!({"credentials": [credential]})),
    ] {
        test.namespace
            .apply(&download(&test, name, &url, &fetch).to_string());
    }
    test.ready("good");
    fails(
        &test,
        "none",
        "FetchFailed",
        "asks for a client certificate: give tls.crt and tls.key in spec.fetch.credentials",
    );
    fails(&test, "no-ca", "FetchFailed", "fetch.caRef");
}

#[test]
fn a_mirror_stands_for_an_origin() {
    let Some(test) = Test::start("a_mirror_stands_for_an_origin") else {
        return;
    };
    let installation = test.installation();
    let Some(node) = node(&test) else { return };
    let mirror = Origin::listening(node, None, Demand::Nothing);
    let url = "https://up.example.invalid/v1/rules.txt?sig=hunter2";
    let mirrors = json!([
        {"from": "up.example.invalid/v1", "to": "http://absent.example.invalid"},
        {"from": "up.example.invalid/v1", "to": format!("{}/up", mirror.url(""))},
    ]);
    for (name, fetch) in [("good", json!({"mirrors": mirrors})), ("none", json!({}))] {
        test.namespace
            .apply(&download(&test, name, url, &fetch).to_string());
    }
    let bundle = test.ready("good");
    for head in mirror.heads() {
        assert!(head.starts_with("GET /up/rules.txt HTTP/1.1"), "{head}");
    }
    installation.vouches_for(&test, text(&bundle["status"]["bundle"]["reference"]));
    let bundle = test.not_ready("none", "FetchFailed", PACKED);
    let message = text(&bundle["status"]["conditions"][0]["message"]);
    assert!(message.contains("up.example.invalid"), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
}
