//! The rules in the definitions, as the API server applies them: every bad object is refused with a
//! message that says what to do.

use serde_json::{Value, json};

use crate::support::{Test, bundle::packed_bundle, namespace::kubectl, progress::text};

const DIGEST: &str = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

/// Changes of an object, by a JSON pointer to what is put there; `null` takes it away.
type Changes<'a> = &'a [(&'a str, Value)];

fn changed(mut object: Value, changes: Changes<'_>) -> Value {
    for (path, value) in changes {
        let (parent, key) = path.rsplit_once('/').expect("a path");
        let parent = object
            .pointer_mut(parent)
            .unwrap_or_else(|| panic!("no {parent}"));
        match (parent, value) {
            (Value::Object(fields), Value::Null) => drop(fields.remove(key)),
            (parent, value) => parent[key] = value.clone(),
        }
    }
    object
}

/// The API server would take `good`, and refuses it with each of these changes.
fn refused(test: &Test, kinds: &str, good: &Value, table: &[(Changes<'_>, &str)]) {
    let namespace = match good["kind"].as_str() {
        Some("ClusterBundlePolicy") => String::new(),
        _ => format!("namespaces/{}/", test.namespace.name),
    };
    let path =
        format!("/apis/packgate.dev/v1alpha1/{namespace}{kinds}?dryRun=All&fieldValidation=Strict");
    // Without discovery, which would take longer than all the rest.
    let dry = |object: &Value| {
        kubectl(["create", "--raw", &path, "-f", "-"])
            .stdin(object.to_string())
            .run()
    };
    dry(good).ok();
    for (changes, message) in table {
        let object = changed(good.clone(), changes);
        let run = dry(&object);
        assert_ne!(run.code, 0, "{changes:?} is not refused");
        assert!(
            run.stderr.contains(message),
            "{changes:?}: {message:?} is not said, but {}",
            run.stderr
        );
    }
}

#[test]
fn bad_bundles_are_refused() {
    let Some(test) = Test::start("bad_bundles_are_refused") else {
        return;
    };
    test.installation();
    let good = packed_bundle("good", "lock", "registry.example.com/team-a/siem");
    let key = json!({"name": "key"});
    let none = || Value::Null;
    let one_source = "exactly one of inline, configMapRef, ociRef and bundle";
    let adopts =
        "source.bundle adopts a bundle as it is: destination, output and signing must be left out";
    let bundle = json!({"bundle": {"reference": format!("registry.example.com/x/siem@{DIGEST}")}});
    let context = |repository: &str, digest: &str| {
        json!({
            "ociRef": {"repository": repository, "digest": digest},
        })
    };
    refused(
        &test,
        "packedbundles",
        &good,
        &[
            (&[("/spec/source/inline", json!("x"))], one_source),
            (&[("/spec/source", json!({}))], one_source),
            (&[("/spec/source", none())], "spec.source: Required value"),
            (
                &[("/spec/source", json!({"inline": ""}))],
                "spec.source.inline",
            ),
            (
                &[("/spec/destination", none())],
                "destination must say where the bundle goes",
            ),
            (&[("/spec/source", bundle.clone())], adopts),
            (
                &[
                    ("/spec/source", bundle.clone()),
                    ("/spec/destination", none()),
                    ("/spec/output", json!({})),
                ],
                adopts,
            ),
            (
                &[
                    ("/spec/source", bundle),
                    ("/spec/destination", none()),
                    ("/spec/signing", json!({})),
                ],
                adopts,
            ),
            (
                &[
                    (
                        "/spec/source",
                        json!({"bundle": {"reference": "registry.example.com/x/siem:v1"}}),
                    ),
                    ("/spec/destination", none()),
                ],
                "reference must end in @sha256: and 64 hexadecimal digits",
            ),
            (
                &[(
                    "/spec/source",
                    context("https://registry.example.com/ctx", DIGEST),
                )],
                "repository must not have a scheme, tag or digest",
            ),
            (
                &[(
                    "/spec/source",
                    context("registry.example.com/ctx", "sha256:abc"),
                )],
                "spec.source.ociRef.digest",
            ),
            (
                &[(
                    "/spec/destination/repository",
                    json!("registry.example.com/a:v1"),
                )],
                "spec.destination.repository in body should match",
            ),
            (
                &[(
                    "/spec/destination/repository",
                    json!("https://registry.example.com/a"),
                )],
                "spec.destination.repository in body should match",
            ),
            (
                &[(
                    "/spec/destination/repository",
                    json!(format!("registry.example.com/a@{DIGEST}")),
                )],
                "spec.destination.repository in body should match",
            ),
            (
                &[("/spec/destination/repository", json!("siem"))],
                "spec.destination.repository in body should match",
            ),
            (
                &[("/spec/destination/tag", json!("a/b"))],
                "spec.destination.tag in body should match",
            ),
            (
                &[("/spec/destination/tagPolicy", json!("mutable"))],
                "Unsupported value: \"mutable\"",
            ),
            (
                &[("/spec/signing", json!({"mode": "Namespace"}))],
                "mode Namespace needs exactly one of keySecretRef and keyless",
            ),
            (
                &[("/spec/signing", json!({"keySecretRef": key}))],
                "keySecretRef and keyless are for mode Namespace",
            ),
            (
                &[(
                    "/spec/signing",
                    json!({"mode": "None", "keySecretRef": key}),
                )],
                "keySecretRef and keyless are for mode Namespace",
            ),
            (
                &[("/spec/signing", json!({"mode": "Namespace", "keyless": {}}))],
                "keyless needs signingConfigRef",
            ),
            (
                &[("/spec/signing", json!({"signingConfigRef": key}))],
                "signingConfigRef is for mode Namespace",
            ),
            (
                &[("/spec/evidence", json!({"sbom": "spdx"}))],
                "Unsupported value: \"spdx\"",
            ),
            (
                &[
                    ("/spec/evidence", json!({"sbom": "SPDX"})),
                    ("/spec/signing", json!({"mode": "None"})),
                ],
                "evidence.sbom must be None where nobody signs",
            ),
            (
                &[("/spec/evidence", json!({"provenance": false}))],
                "evidence.provenance: false is not supported yet",
            ),
            (
                &[(
                    "/spec/fetch",
                    json!({"credentials": [{"host": "https://h", "secretRef": key}]}),
                )],
                "spec.fetch.credentials[0]: \"https://h\" must be HOST",
            ),
            (
                &[("/spec/fetch", json!({"credentials": [{"host": "h"}]}))],
                "spec.fetch.credentials[0].secretRef: Required value",
            ),
            (
                &[(
                    "/spec/fetch",
                    json!({"mirrors": [{"from": "a", "to": "ftp://b"}]}),
                )],
                "spec.fetch.mirrors[0]: \"ftp://b\" must be",
            ),
            (
                &[(
                    "/spec/output",
                    json!({"format": "Artifact", "compression": "Zstd"}),
                )],
                "an Artifact is not compressed",
            ),
            (
                &[("/spec/interval", json!("1 hour"))],
                "spec.interval in body should match",
            ),
            (
                &[("/spec/timeout", json!("15"))],
                "spec.timeout in body should match",
            ),
            (
                &[("/spec/history", json!({"succeeded": 101}))],
                "should be less than or equal to 100",
            ),
            (
                &[("/spec/sauce", json!("x"))],
                "unknown field \"spec.sauce\"",
            ),
            (
                &[("/spec/source/configMapRef/keyy", json!("x"))],
                "unknown field \"spec.source.configMapRef.keyy\"",
            ),
            (
                &[("/metadata/name", json!("n".repeat(64)))],
                "metadata.name must have at most 63 characters",
            ),
        ],
    );
    the_repository_stays(&test, &good);
}

/// A rule about a change needs an object that is stored. Suspended, it does nothing.
fn the_repository_stays(test: &Test, good: &Value) {
    let stored = changed(good.clone(), &[("/spec/suspend", json!(true))]);
    test.namespace.apply(&stored.to_string());
    let moved = changed(
        stored.clone(),
        &[(
            "/spec/destination/repository",
            json!("registry.example.com/team-a/other"),
        )],
    );
    test.namespace
        .try_apply(&moved.to_string())
        .refused("destination.repository cannot be changed, make a new PackedBundle");
    test.namespace
        .apply(&changed(stored, &[("/spec/destination/tag", json!("v2"))]).to_string());
    let kept = test.bundle("good");
    assert_eq!(
        text(&kept["spec"]["destination"]["repository"]),
        "registry.example.com/team-a/siem"
    );
}

#[test]
fn bad_policies_are_refused() {
    let Some(test) = Test::start("bad_policies_are_refused") else {
        return;
    };
    let installation = test.installation();
    let platform = json!({"name": "platform", "key": {"pem": installation.public_key}});
    let builder = json!({"id": "https://ci.example.com/b", "authority": "platform", "level": 3});
    let spec = json!({
        "match": {"references": ["registry.example.com/team-a/**"]},
        "authorities": [platform],
        "slsa": {"minimumLevel": 2, "builders": [builder]},
        "revocations": [{"digest": DIGEST, "reason": "leak-7", "since": "2026-11-01T00:00:00Z"}],
    });
    let one_means = "exactly one of key, keyless and certificate";
    let root = json!({
        "trustRootRef": {"name": "corp"},
        "issuer": "https://oidc.example.com",
        "subject": {"exact": "a", "prefix": "b/"},
    });
    let host = "a reference starts with a registry host";
    let table: &[(Changes<'_>, &str)] = &[
        (
            &[("/spec/mode", json!("enforce"))],
            "Unsupported value: \"enforce\"",
        ),
        (&[("/spec/authorities", json!([]))], "spec.authorities"),
        (
            &[("/spec/authorities", json!([platform, platform]))],
            "Duplicate value",
        ),
        (
            &[("/spec/authorities", json!([{"name": "platform"}]))],
            one_means,
        ),
        (
            &[(
                "/spec/authorities",
                json!([{"name": "platform", "key": platform["key"], "keyless": root}]),
            )],
            one_means,
        ),
        (
            &[(
                "/spec/authorities",
                json!([{"name": "platform", "key": {}}]),
            )],
            "exactly one of pem and configMapRef",
        ),
        (
            &[(
                "/spec/authorities",
                json!([{"name": "platform", "key": {"pem": "x", "configMapRef": {"name": "y"}}}]),
            )],
            "exactly one of pem and configMapRef",
        ),
        (
            &[(
                "/spec/authorities",
                json!([{"name": "platform", "keyless": root}]),
            )],
            "exactly one of exact, prefix and regexp",
        ),
        (
            &[("/spec/threshold", json!(2))],
            "threshold must be at most the number of authorities",
        ),
        (&[("/spec/threshold", json!(0))], "spec.threshold"),
        (
            &[("/spec/slsa/builders/0/authority", json!("ci"))],
            "slsa.builders[].authority must name one of the authorities",
        ),
        (&[("/spec/slsa/builders", json!([]))], "spec.slsa.builders"),
        (
            &[("/spec/slsa/minimumLevel", json!(4))],
            "spec.slsa.minimumLevel",
        ),
        (
            &[("/spec/slsa/maxAge", json!("90d"))],
            "spec.slsa.maxAge in body should match",
        ),
        (
            &[("/spec/match/references", json!([]))],
            "spec.match.references",
        ),
        (&[("/spec/match/references", json!(["nginx"]))], host),
        (&[("/spec/match/references", json!(["*/siem"]))], host),
        (
            &[("/spec/match/references", json!(["*"]))],
            "spec.match.references[0]",
        ),
        (
            &[("/spec/match/except", json!(["**"]))],
            "except must not be **",
        ),
        (
            &[("/spec/match/uses", json!(["Pod"]))],
            "Unsupported value: \"Pod\"",
        ),
        (
            &[("/spec/match/refs", json!(["a"]))],
            "unknown field \"spec.match.refs\"",
        ),
        (
            &[("/spec/revocations/0/keyHash", json!(DIGEST))],
            "exactly one of digest, keyHash and builder",
        ),
        (
            &[("/spec/revocations/0/digest", json!("sha256:abc"))],
            "spec.revocations[0].digest",
        ),
        (
            &[("/spec/revocations/0/since", json!("yesterday"))],
            "spec.revocations[0].since",
        ),
        (
            &[("/spec/revocations/0/reason", Value::Null)],
            "spec.revocations[0].reason: Required value",
        ),
    ];
    let policy = |kind: &str| {
        json!({
            "apiVersion": "packgate.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": test.namespace.name},
            "spec": spec,
        })
    };
    let exemptions = |expires: &Value| {
        changed(
            json!([{"digest": DIGEST, "reason": "INC-42"}]),
            &[("/0/expires", expires.clone())],
        )
    };
    refused(&test, "bundlepolicies", &policy("BundlePolicy"), table);
    let exempt = exemptions(&json!("2027-01-01T00:00:00Z"));
    refused(
        &test,
        "bundlepolicies",
        &policy("BundlePolicy"),
        &[(
            &[("/spec/exemptions", exempt.clone())],
            "unknown field \"spec.exemptions\"",
        )],
    );
    let cluster = changed(
        policy("ClusterBundlePolicy"),
        &[("/spec/exemptions", exempt)],
    );
    refused(&test, "clusterbundlepolicies", &cluster, table);
    refused(
        &test,
        "clusterbundlepolicies",
        &cluster,
        &[
            (
                &[("/spec/exemptions", exemptions(&Value::Null))],
                "spec.exemptions[0].expires: Required value",
            ),
            (
                &[("/spec/exemptions", exemptions(&json!("soon")))],
                "spec.exemptions[0].expires",
            ),
        ],
    );
}
