use serde_json::{Value, json};

use super::*;
use crate::core::{reason::ClassifiedError, reason::Reason};

fn minimal() -> Value {
    json!({
        "source": {"configMapRef": {"name": "siem-lock"}},
        "destination": {"repository": "registry.example.com/team-a/siem"},
    })
}

fn digest() -> String {
    format!("sha256:{}", "0".repeat(64))
}

fn validate(spec: Value) -> Result<ValidatedPackedBundle, String> {
    let spec: PackedBundleSpec = serde_json::from_value(spec).map_err(|e| e.to_string())?;
    ValidatedPackedBundle::try_from(&spec).map_err(|error| {
        assert_eq!(error.reason(), Reason::InvalidSpec);
        error.to_string()
    })
}

fn with(pointer: &str, value: Value) -> Value {
    let mut spec = minimal();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    for step in parent.split('/').skip(1).scan(String::new(), |path, part| {
        path.push('/');
        path.push_str(part);
        Some(path.clone())
    }) {
        if spec.pointer(&step).is_none() {
            let (above, name) = step.rsplit_once('/').expect("a pointer");
            spec.pointer_mut(above).expect("made before")[name] = json!({});
        }
    }
    spec.pointer_mut(parent).expect("there")[key] = value;
    spec
}

#[test]
fn three_lines_are_enough() {
    let validated = validate(minimal()).expect("valid");
    let PackedBundleWork::Pack(packing) = validated.work else {
        panic!("no packing")
    };
    assert_eq!(
        packing.source,
        LockSource::ConfigMap {
            name: "siem-lock".into(),
            key: "lock.yaml".into()
        }
    );
    assert_eq!(validated.interval, Some(std::time::Duration::from_hours(1)));
    assert_eq!(packing.timeout, std::time::Duration::from_mins(15));
    assert_eq!(
        (packing.signing, packing.tag_policy, packing.tag),
        (SigningParty::Platform, TagPolicySpec::Immutable, None)
    );
    assert_eq!(
        packing.history_limits,
        HistoryLimits {
            succeeded: 3,
            failed: 3
        }
    );
}

#[test]
fn everything_that_is_supported_is_taken_over() {
    let spec = json!({
        "suspend": true, "interval": "0s", "timeout": "90s",
        "source": {"ociRef": {"repository": "registry.example.com/team-a/ctx", "digest": digest(),
            "path": "siem/lock.yaml",
            "secretRef": {"name": "pull"}, "verify": true}},
        "fetch": {"caRef": {"kind": "ConfigMap", "name": "corp-ca"}},
        "destination": {
            "repository": "registry.example.com/team-a/siem",
            "tag": "v1.4.0",
            "tagPolicy": "Mutable",
            "secretRef": {"name": "push"},
        },
        "output": {
            "format": "Image",
            "compression": "Zstd",
            "sourceDateEpoch": 0,
            "annotations": {"a": "b"},
        },
        "signing": {"mode": "Namespace", "keySecretRef": {"name": "key"}},
        "evidence": {"provenance": true, "sbom": "CycloneDX"},
        "history": {"succeeded": 0, "failed": 1},
        "packPod": {
            "resources": {},
            "nodeSelector": {"a": "b"},
            "tolerations": [],
            "serviceAccountName": "packer",
        }
    });
    let validated = validate(spec).expect("valid");
    assert!(validated.suspend && validated.interval.is_none());
    let PackedBundleWork::Pack(packing) = validated.work else {
        panic!("no packing")
    };
    assert_eq!(
        packing.signing,
        SigningParty::Namespace(TenantSigner {
            identity: TenantSigningIdentity::Key("key".into()),
            services: None
        })
    );
    assert_eq!(packing.output.source_date_epoch, Some(0));
    assert_eq!(
        (
            packing.tag.expect("a tag").as_str(),
            packing.push_secret.as_deref()
        ),
        ("v1.4.0", Some("push"))
    );
    assert!(matches!(
        packing.source,
        LockSource::Context { verify: true, .. }
    ));
    assert_eq!(packing.sbom, Some(crate::core::sbom::SbomFormat::CycloneDX));
    let adopted = validate(json!({
        "source": {"bundle": {"reference": format!("registry.example.com/x/siem@{}", digest())}},
    }))
    .expect("valid");
    assert!(matches!(adopted.work, PackedBundleWork::Adopt(_)));
}

#[test]
fn tenants_sign_with_a_key_or_as_their_service_account() {
    let services = Some("sigstore".to_owned());
    for (signing, identity) in [
        (
            json!({"mode": "Namespace", "keyless": {}, "signingConfigRef": {"name": "sigstore"}}),
            TenantSigningIdentity::ServiceAccount,
        ),
        (
            json!({
                "mode": "Namespace",
                "keySecretRef": {"name": "key"},
                "signingConfigRef": {"name": "sigstore"},
            }),
            TenantSigningIdentity::Key("key".into()),
        ),
    ] {
        let PackedBundleWork::Pack(packing) =
            validate(with("/signing", signing)).expect("valid").work
        else {
            panic!("no packing")
        };
        assert_eq!(
            packing.signing,
            SigningParty::Namespace(TenantSigner {
                identity,
                services: services.clone()
            })
        );
    }
    assert_eq!(
        TenantSigner::service_account_identity("team-a"),
        "https://kubernetes.io/namespaces/team-a/serviceaccounts/default"
    );
}

#[test]
fn what_cannot_be_acted_on_is_refused_with_its_field() {
    let bundle = json!({"bundle": {"reference": format!("r.example.com/x@{}", digest())}});
    let mut unsigned = with("/evidence/sbom", json!("SPDX"));
    unsigned["signing"] = json!({"mode": "None"});
    for (spec, field) in [
        (with("/source/inline", json!("x")), "spec.source:"),
        (
            json!({"source": {}, "destination": {"repository": "r.example.com/x"}}),
            "spec.source:",
        ),
        (json!({"source": {"inline": "x"}}), "spec.destination:"),
        (with("/source", bundle.clone()), "spec.destination:"),
        (
            json!({"source": {"bundle": {"reference": "r.example.com/x:v1"}}}),
            "spec.source.bundle.reference:",
        ),
        (
            with("/destination/repository", json!("r.example.com/x:v1")),
            "spec.destination.repository:",
        ),
        (
            with("/destination/repository", json!("https://r.example.com/x")),
            "spec.destination.repository:",
        ),
        (
            with("/destination/tag", json!("a b")),
            "spec.destination.tag:",
        ),
        (with("/interval", json!("1d")), "spec.interval:"),
        (with("/interval", json!("1s")), "spec.interval:"),
        (with("/timeout", json!("0s")), "spec.timeout:"),
        (with("/timeout", json!("25h")), "spec.timeout:"),
        (with("/output/sourceDateEpoch", json!(-1)), "spec.output:"),
        (
            with("/output/annotations", json!({"dev.packgate.x": "y"})),
            "spec.output:",
        ),
        (
            with(
                "/output",
                json!({"format": "Artifact", "compression": "Zstd"}),
            ),
            "spec.output:",
        ),
        (
            with("/signing", json!({"mode": "Namespace"})),
            "spec.signing:",
        ),
        (
            with("/signing", json!({"keySecretRef": {"name": "k"}})),
            "spec.signing.keySecretRef:",
        ),
        (unsigned, "spec.evidence.sbom:"),
        (
            json!({"source": bundle, "evidence": {"sbom": "SPDX"}}),
            "spec.evidence.sbom:",
        ),
        (with("/evidence/sbom", json!("spdx")), "unknown variant"),
        (
            with("/signing", json!({"keyless": {}})),
            "spec.signing.keyless:",
        ),
        (
            with("/signing/signingConfigRef", json!({"name": "sc"})),
            "spec.signing.signingConfigRef:",
        ),
        (
            with("/signing", json!({"mode": "Namespace", "keyless": {}})),
            "spec.signing.signingConfigRef:",
        ),
        (
            with(
                "/signing",
                json!({"mode": "Namespace", "keyless": {}, "keySecretRef": {"name": "k"}}),
            ),
            "spec.signing:",
        ),
    ] {
        let error = validate(spec.clone()).expect_err(&spec.to_string());
        assert!(error.starts_with(field), "{spec}: {error}");
    }
}

#[test]
fn downloads_have_credentials_a_proxy_and_mirrors() {
    let spec = with(
        "/fetch",
        json!({
            "credentials": [
                {"host": "f.example.com", "secretRef": {"name": "files"}},
                {"host": "g.example.com:8080", "path": "/a/", "plainHTTP": true, "secretRef": {"name": "s"}},
            ],
            "proxySecretRef": {"name": "proxy"},
            "mirrors": [{"from": "up.example.org", "to": "http://m.example.com/up"}],
        }),
    );
    let PackedBundleWork::Pack(packing) = validate(spec).expect("valid").work else {
        panic!("no packing")
    };
    let fetch = serde_json::to_value(&packing.fetch).expect("JSON");
    assert_eq!(
        fetch,
        json!({
            "credentials": [
                {"host": "f.example.com", "secret": "files"},
                {"host": "g.example.com:8080", "path": "/a/", "plainHTTP": true, "secret": "s"},
            ],
            "proxySecret": "proxy",
            "mirrors": [{"from": "up.example.org", "to": "http://m.example.com/up"}],
        })
    );
    for (fetch, field) in [
        (
            json!({"credentials": [{"host": "https://f.example.com", "secretRef": {"name": "s"}}]}),
            "spec.fetch.credentials[0]: \"https://f.example.com\" must be HOST",
        ),
        (
            json!({"credentials": [{"host": "f.example.com", "path": "a", "secretRef": {"name": "s"}}]}),
            "spec.fetch.credentials[0]: \"a\" must be a path",
        ),
        (
            json!({"mirrors": [
                {"from": "a.example.com", "to": "b.example.com"},
                {"from": "a.example.com", "to": "ftp://b.example.com"},
            ]}),
            "spec.fetch.mirrors[1]: \"ftp://b.example.com\" must be",
        ),
    ] {
        let error = validate(with("/fetch", fetch)).expect_err(field);
        assert!(error.starts_with(field), "{error}");
    }
}

#[test]
fn what_comes_later_is_refused_and_not_ignored() {
    let spec = with("/evidence/provenance", json!(false));
    let error = validate(spec).expect_err("not supported");
    assert!(
        error.starts_with("spec.evidence.provenance:") && error.contains("not supported yet"),
        "{error}"
    );
    assert!(
        validate(with("/signing/unknown", json!(1)))
            .expect_err("unknown")
            .contains("unknown field")
    );
}

#[test]
fn long_names_are_refused() {
    let object = |length: usize| {
        PackedBundle::new(
            &"a".repeat(length),
            serde_json::from_value(minimal()).expect("a spec"),
        )
    };
    assert!(ValidatedPackedBundle::try_from(&object(63)).is_ok());
    let error = ValidatedPackedBundle::try_from(&object(64)).expect_err("too long");
    assert_eq!(error.field, "metadata.name");
}
