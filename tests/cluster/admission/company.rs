//! A company's own certificate authority, made by openssl: what it certified runs, what it revoked
//! does not, and both at once.

use std::{fs, time::Duration};

use serde_json::{Value, json};

use super::{
    scene::{As, CONTENT, Scene, object},
    timely::becomes,
};
use crate::support::{
    api::{Api, Store},
    cluster::ROOT,
};

const NAME: &str = "spiffe://corp.example.com/release";

/// A `ConfigMap` with one of the files that `company.sh` made.
fn map(scene: &Scene, name: &str, key: &str, file: &str) -> String {
    let text = fs::read_to_string(scene.test.file(&format!("pki/{file}"))).expect(file);
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {key: text},
    })
    .to_string()
}

fn policy(scene: &Scene, kind: &str) -> Value {
    let certificate = json!({
        "caRef": {"kind": kind, "name": "corp-ca"}, "crlRef": {
            "kind": "ConfigMap",
            "name": "corp-crl",
        }, "subject": {"exact": NAME},
    });
    json!({
        "apiVersion": "packgate.dev/v1alpha1", "kind": "BundlePolicy", "metadata": {"name": "corp"},
        "spec": {
            "match": {"references": [scene.repository("**")]},
            "authorities": [{"name": "pki", "certificate": certificate}],
        },
    })
}

/// A bundle that this certificate signed.
fn signed(scene: &Scene, name: &str, by: &str) -> String {
    let reference = scene.pack(name, None);
    let line = format!(
        "sign {reference} --key pki/{by}.key --certificate pki/{by}.crt {}",
        scene.test.cluster.http_flag()
    );
    scene.test.packgate(&line).ok();
    reference
}

#[test]
fn a_companys_own_authority_admits_what_it_certified() {
    let Some(scene) = Scene::start("a_companys_own_authority_admits_what_it_certified") else {
        return;
    };
    let api = Api::new();
    scene
        .test
        .tool("sh", &format!("{ROOT}/tests/tools/company.sh pki"))
        .ok();
    let release = signed(&scene, "release", "release");
    let revoked = signed(&scene, "revoked", "revoked");
    let stranger = signed(&scene, "stranger", "stranger/release");
    let keyed = scene.pack("keyed", Some("a"));

    // Without its certificates the policy refuses all that it governs.
    let refused = scene
        .test
        .namespace
        .try_apply(&policy(&scene, "Secret").to_string());
    refused.refused("the webhook reads no Secrets");
    scene.enforce(&[policy(&scene, "ConfigMap")]);
    becomes(&scene, &api, &release, Some("InvalidSpec"));

    scene
        .test
        .namespace
        .apply(&map(&scene, "corp-ca", "ca.crt", "ca.crt"));
    scene
        .test
        .namespace
        .apply(&map(&scene, "corp-crl", "ca.crl", "none.crl"));
    println!(
        "with its certificates: admitted after {:?}",
        becomes(&scene, &api, &release, None)
    );
    becomes(&scene, &api, &revoked, None);
    becomes(&scene, &api, &stranger, Some("UntrustedChain"));
    becomes(&scene, &api, &keyed, Some("NoMatchingAuthority"));

    // What was admitted is remembered, and a new list ends that.
    scene
        .test
        .namespace
        .apply(&map(&scene, "corp-crl", "ca.crl", "ca.crl"));
    println!(
        "with a new list: refused after {:?}",
        becomes(&scene, &api, &revoked, Some("Revoked"))
    );
    becomes(&scene, &api, &release, None);
    let says = |reference: &str| {
        let line = format!(
            "verify {reference} --use ImageVolume --namespace {} --cluster -o json",
            scene.test.namespace.name
        );
        let report: Value =
            serde_json::from_str(&scene.test.packgate(&line).stdout).expect("a report");
        report["denials"]
            .as_array()
            .expect("denials")
            .first()
            .map(|denial| denial["reason"].clone())
    };
    assert_eq!(
        [&release, &revoked, &stranger, &keyed].map(|reference| says(reference)),
        [
            None,
            Some("Revoked".into()),
            Some("UntrustedChain".into()),
            Some("NoMatchingAuthority".into()),
        ]
    );

    // What is admitted runs.
    api.create(
        &scene.test.namespace.name,
        &object(&scene.test, "Pod", "reader", &release, As::Volume),
        Store::Yes,
    )
    .expect("admitted");
    scene.test.namespace.wait(
        "pod/reader",
        "jsonpath={.status.phase}=Succeeded",
        Duration::from_mins(2),
    );
    assert_eq!(scene.test.namespace.logs("pod/reader"), CONTENT.trim_end());

    // Another authority with the same names is another authority, at once.
    scene
        .test
        .namespace
        .apply(&map(&scene, "corp-ca", "ca.crt", "stranger/ca.crt"));
    scene
        .test
        .namespace
        .apply(&map(&scene, "corp-crl", "ca.crl", "stranger/ca.crl"));
    becomes(&scene, &api, &stranger, None);
    becomes(&scene, &api, &release, Some("UntrustedChain"));
}
