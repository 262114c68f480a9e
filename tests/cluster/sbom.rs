//! `evidence.sbom`: made from the frozen lock by the sign Job, found again by the controller, and
//! accepted by cosign.

use serde_json::{Value, json};

use crate::support::{
    Test,
    bundle::{Lock, packed_bundle},
};

const FILES: [(&str, &str); 2] = [
    ("opt/hello/hello.txt", "hello with a bill\n"),
    ("opt/hello/second.txt", "one more\n"),
];

/// A `PackedBundle` that asks for a bill of materials, once it is ready.
fn packed(test: &Test, registry: &str, name: &str, lock: &Lock, evidence: &Value) -> Value {
    let mut object = packed_bundle(name, "hello-lock", &test.repository(registry, name));
    object["spec"]["evidence"] = evidence.clone();
    test.namespace.apply(&lock.config_map("hello-lock"));
    test.namespace.apply(&object.to_string());
    test.ready(name)
}

fn evidence(bundle: &Value, predicate_type: &str) -> Option<Value> {
    let all = bundle["status"]["evidence"].as_array().expect("evidence");
    all.iter()
        .find(|found| found["predicateType"] == predicate_type)
        .cloned()
}

fn pinned(test: &Test, registry: &str, name: &str, bundle: &Value) -> String {
    format!(
        "{}@{}",
        test.repository(registry, name),
        bundle["status"]["bundle"]["digest"]
            .as_str()
            .expect("a digest")
    )
}

/// The predicate of the attestation that cosign accepts.
fn accepted(test: &Test, public_key: &str, kind: &str, image: &str) -> Value {
    test.write("platform.pub", public_key);
    let http = if test.cluster.plain_http {
        "--allow-http-registry"
    } else {
        ""
    };
    let printed = test.tool(
        "cosign",
        &format!(
            "verify-attestation --type {kind} --key \
        platform.pub --insecure-ignore-tlog {http} {image}"
        ),
    );
    let envelope: Value = printed
        .ok()
        .lines()
        .find_map(|line| serde_json::from_str(line).ok())
        .expect("an envelope");
    let payload = envelope["payload"].as_str().expect("a payload");
    let statement = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, payload)
        .expect("base64");
    serde_json::from_slice::<Value>(&statement).expect("a statement")["predicate"].clone()
}

fn attested_in(test: &Test, registry: &str) {
    let installation = test.installation();
    let lock = test.lock(registry, "hello", &FILES);
    for (name, format, predicate_type, kind, files) in [
        (
            "spdx",
            "SPDX",
            "https://spdx.dev/Document",
            "spdxjson",
            "files",
        ),
        (
            "cyclonedx",
            "CycloneDX",
            "https://cyclonedx.org/bom",
            "cyclonedx",
            "components",
        ),
    ] {
        let bundle = packed(test, registry, name, &lock, &json!({"sbom": format}));
        let image = pinned(test, registry, name, &bundle);
        installation.vouches_for(test, &image);
        let found = evidence(&bundle, predicate_type)
            .unwrap_or_else(|| panic!("no {format}: {:#}", bundle["status"]));
        assert_eq!(found["signer"], "platform");
        let document = accepted(test, &installation.public_key, kind, &image);
        assert_eq!(
            document[files].as_array().map(Vec::len),
            Some(FILES.len()),
            "{document:#}"
        );
        let provenance = accepted(test, &installation.public_key, "slsaprovenance1", &image);
        assert_eq!(
            provenance["runDetails"]["byproducts"][0]["name"], "sbom",
            "{provenance:#}"
        );
    }
}

#[test]
fn a_bill_of_materials_is_attested_and_found_again() {
    let Some(test) = Test::start("a_bill_of_materials_is_attested_and_found_again") else {
        return;
    };
    attested_in(&test, &test.cluster.registry);
}

#[test]
fn a_bill_of_materials_is_attested_without_the_referrers_api() {
    let Some(test) = Test::start("a_bill_of_materials_is_attested_without_the_referrers_api")
    else {
        return;
    };
    let Some(registry) = &test.cluster.plain else {
        return println!("not run: the cluster has no registry without the referrers API");
    };
    attested_in(&test, registry);
}

/// Another generation: the bundle is the same, its signature is not made again, and what was
/// missing is added.
#[test]
fn a_bill_of_materials_can_be_asked_for_later() {
    let Some(test) = Test::start("a_bill_of_materials_can_be_asked_for_later") else {
        return;
    };
    let registry = &test.cluster.registry;
    let lock = test.lock(registry, "hello", &FILES);
    let first = packed(&test, registry, "later", &lock, &json!({}));
    assert!(evidence(&first, "https://spdx.dev/Document").is_none());
    let patch = json!({"spec": {"evidence": {"sbom": "SPDX"}}}).to_string();
    test.namespace
        .kubectl([
            "patch",
            "packedbundle",
            "later",
            "--type=merge",
            "-p",
            &patch,
        ])
        .run()
        .ok();
    test.namespace.wait(
        "packedbundle/later",
        "jsonpath={.status.observedGeneration}=2",
        crate::support::bundle::PACKED,
    );
    let second = test.ready("later");
    assert!(
        evidence(&second, "https://spdx.dev/Document").is_some(),
        "{:#}",
        second["status"]
    );
    assert_eq!(
        second["status"]["bundle"]["digest"],
        first["status"]["bundle"]["digest"]
    );
}
