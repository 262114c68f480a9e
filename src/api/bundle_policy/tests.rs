use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::crd_manifests,
    core::{
        policy::{
            AuthorityKind, LockRule, Policy, PolicyError, PolicyMatcher, PolicyOrigin,
            ReferenceUseScope,
        },
        reason::{ClassifiedError, Reason},
        verify::{
            testing::{TestKey, shared_data},
            testing_pki::{self, Pki, list},
        },
    },
};

const MINIMAL: &str = r#"
apiVersion: packgate.dev/v1alpha1
kind: ClusterBundlePolicy
metadata: {name: minimal}
spec:
  match: {references: ["registry.example.com/team-a/**"]}
  authorities:
  - {name: platform, key: {configMapRef: {name: packgate-platform-key}}}
  slsa:
    minimumLevel: 2
    builders: [{id: "https://ci.example.com/packgate/platform@v1", authority: platform, level: 3}]
"#;

const FULL: &str = r#"
apiVersion: packgate.dev/v1alpha1
kind: ClusterBundlePolicy
metadata: {name: full, generation: 7}
spec:
  mode: Enforce
  match: {references: ["registry.example.com/**"], except: ["registry.example.com/dev/**"], uses: [PackedBundle, ImageVolume], namespaceSelector: {}}
  authorities:
  - {name: platform, key: {pem: "-----BEGIN PUBLIC KEY-----..."}}
  - name: ci
    keyless: {trustRootRef: {name: corp}, issuer: https://oidc.example.com, subject: {prefix: "https://git.example.com/org/"},
      claims: {sourceRepository: "https://git.example.com/org/siem", ref: refs/heads/main, workflow: w, trigger: t, runner: r}}
  - {name: pki, certificate: {caRef: {kind: ConfigMap, name: corp-ca}, crlRef: {kind: ConfigMap, name: corp-crl}, subject: {exact: "spiffe://corp/release"}}}
  threshold: 1
  signatureFormats: [Bundle]
  requireDigest: true
  bindRepository: false
  mirrors: [{from: registry.example.com, to: mirror.example.com/r}]
  transparency: Optional
  slsa:
    minimumLevel: 3
    builders: [{id: "https://ci.example.com/packgate/platform@v1", authority: platform, level: 3}]
    sources: ["https://git.example.com/org/siem"]
    maxAge: 2160h
    lock: Exact
  attestations: [{predicateType: https://spdx.dev/Document, authority: ci, cel: "predicate.spdxVersion == 'SPDX-2.3'"}]
  revocations: [{digest: "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", reason: leak-7, since: "2026-11-01T00:00:00Z"}]
  exemptions: [{digest: "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", reason: INC-42, expires: "2027-01-01T00:00:00Z"}]
"#;

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("YAML")
}

fn sources() -> ResolvedPolicyReferences {
    let data = [("cosign.pub".to_owned(), TestKey::new().pem())].into();
    ResolvedPolicyReferences {
        config_maps: [("packgate-platform-key".to_owned(), data)].into(),
        ..ResolvedPolicyReferences::default()
    }
}

fn compile(object: Value) -> Result<Policy, PolicyError> {
    PolicyObject::from_json(object)
        .expect("a policy")
        .compile_policy(&sources())
}

/// The full example without the fields that are not supported yet.
fn supported() -> Value {
    let mut object = yaml(FULL);
    let spec = &mut object["spec"];
    spec["authorities"] =
        json!([{"name": "platform", "key": {"configMapRef": {"name": "packgate-platform-key"}}}]);
    spec["attestations"] =
        json!([{"predicateType": "https://spdx.dev/Document", "authority": "platform"}]);
    object
}

#[test]
fn the_contracts_examples_are_read() {
    for text in [MINIMAL, FULL] {
        let PolicyObject::Cluster(policy) = PolicyObject::from_json(yaml(text)).expect("a policy")
        else {
            panic!("of the cluster")
        };
        assert_eq!(policy.spec.mode, PolicyModeSpec::Enforce);
        let written = serde_json::to_value(&*policy).expect("JSON");
        assert_eq!(
            PolicyObject::from_json(written).expect("what we wrote"),
            PolicyObject::Cluster(policy)
        );
    }
}

#[test]
fn the_minimal_example_compiles_with_the_documented_defaults() {
    let policy = compile(yaml(MINIMAL)).expect("it compiles");
    let rules = policy.rules();
    let PolicyMatcher::Names { uses, except, .. } = &rules.matcher else {
        panic!("names")
    };
    assert_eq!(
        (
            uses.len(),
            except.len(),
            rules.threshold,
            rules.require_digest,
            &rules.kind
        ),
        (2, 0, 1, true, &PolicyOrigin::Cluster)
    );
    assert!(matches!(
        rules.authorities[0].kind,
        AuthorityKind::Key { .. }
    ));
    assert_eq!(
        rules
            .slsa
            .as_ref()
            .map(|slsa| (slsa.minimum_level, slsa.lock, slsa.max_age)),
        Some((2, LockRule::Unchecked, None))
    );
}

#[test]
fn what_is_supported_of_the_full_example_compiles() {
    let policy = compile(supported()).expect("it compiles");
    let rules = policy.rules();
    assert_eq!(
        (
            rules.generation,
            rules.exemptions.len(),
            rules.revocations.len(),
            rules.attestations.len()
        ),
        (7, 1, 1, 1)
    );
    let slsa = rules.slsa.as_ref().expect("slsa");
    assert_eq!(
        (slsa.lock, slsa.max_age.map(|age| age.as_secs())),
        (LockRule::Exact, Some(2_160 * 3_600))
    );
}

/// A policy with one private CA authority.
fn of_company(certificate: &Value) -> PolicyObject {
    let mut object = yaml(MINIMAL);
    object["spec"]["authorities"] = json!([{"name": "platform", "certificate": certificate}]);
    PolicyObject::from_json(object).expect("a policy")
}

#[test]
fn a_companys_authority_comes_from_config_maps() {
    let pki = Pki::new();
    let lists = format!("{}{}", list(&pki.root, &[]), list(&pki.intermediate, &[]));
    let map = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    let sources = ResolvedPolicyReferences {
        config_maps: [
            ("corp-ca".to_owned(), map("ca.crt", &pki.pem())),
            ("corp-crl".to_owned(), map("ca.crl", &lists)),
        ]
        .into(),
        ..ResolvedPolicyReferences::default()
    };
    let (ca, crl) = (
        json!({"kind": "ConfigMap", "name": "corp-ca"}),
        json!({"kind": "ConfigMap", "name": "corp-crl"}),
    );
    let subject = json!({"exact": "spiffe://corp/release"});
    let object = of_company(&json!({"caRef": ca, "crlRef": crl, "subject": subject}));
    let needs = object.referenced_names();
    assert_eq!(
        needs.config_maps,
        ["corp-ca".to_owned(), "corp-crl".to_owned()].into()
    );
    let policy = object.compile_policy(&sources).expect("it compiles");
    let AuthorityKind::Certificate {
        authority, root, ..
    } = &policy.rules().authorities[0].kind
    else {
        panic!("{policy:?}")
    };
    assert_eq!(
        (authority.digest(), root.is_none()),
        (
            testing_pki::authority(&pki.pem(), Some(&lists)).digest(),
            true
        )
    );

    let rooted =
        of_company(&json!({"caRef": ca, "subject": subject, "trustRootRef": {"name": "corp"}}));
    assert_eq!(
        rooted.referenced_names().trust_roots,
        ["corp".to_owned()].into()
    );
    let secret = json!({"kind": "Secret", "name": "corp-ca"});
    assert!(
        of_company(&json!({"caRef": secret, "subject": subject}))
            .referenced_names()
            .config_maps
            .is_empty()
    );
    let absent = json!({"kind": "ConfigMap", "name": "absent"});
    for (field, missing, certificate) in [
        (
            "spec.authorities[0].certificate.trustRootRef",
            true,
            json!({"caRef": ca, "subject": subject, "trustRootRef": {"name": "corp"}}),
        ),
        (
            "spec.authorities[0].certificate.caRef",
            true,
            json!({"caRef": absent, "subject": subject}),
        ),
        (
            "spec.authorities[0].certificate.crlRef",
            true,
            json!({"caRef": ca, "crlRef": absent, "subject": subject}),
        ),
        (
            "spec.authorities[0].certificate.crlRef",
            true,
            json!({"caRef": ca, "crlRef": ca, "subject": subject}),
        ),
        (
            "spec.authorities[0].certificate.caRef.kind",
            false,
            json!({"caRef": secret, "subject": subject}),
        ),
        (
            "spec.authorities[0].certificate.crlRef.kind",
            false,
            json!({"caRef": ca, "crlRef": secret, "subject": subject}),
        ),
        (
            "spec.authorities[0].certificate.subject.regexp",
            false,
            json!({"caRef": ca, "subject": {"regexp": ".*"}}),
        ),
    ] {
        let error = of_company(&certificate)
            .compile_policy(&sources)
            .expect_err(field);
        assert_eq!(
            (error.field.as_str(), error.is_missing_object()),
            (field, missing),
            "{error}"
        );
    }
    let broken = ResolvedPolicyReferences {
        config_maps: [("corp-ca".to_owned(), map("ca.crt", "x"))].into(),
        ..ResolvedPolicyReferences::default()
    };
    let error = of_company(&json!({"caRef": ca, "subject": subject}))
        .compile_policy(&broken)
        .expect_err("no certificates");
    assert!(
        error
            .to_string()
            .contains("none of the 0 certificates is a root")
            && !error.is_missing_object(),
        "{error}"
    );
}

#[test]
fn new_certificates_and_lists_make_another_policy() {
    let (pki, other) = (Pki::new(), Pki::new());
    let object = of_company(&json!({
        "caRef": {"kind": "ConfigMap", "name": "ca"}, "crlRef": {
            "kind": "ConfigMap",
            "name": "crl",
        }, "subject": {"exact": "spiffe://corp/release"},
    }));
    let scope = ReferenceUseScope {
        name: crate::core::policy::ReferenceTarget::Unreadable,
        used_as: crate::core::policy::ReferenceUse::PackedBundle,
        namespace: None,
    };
    let print = |ca: &str, crl: &str| {
        let map = |name: &str, key: &str, value: &str| {
            (
                ("packgate-system".to_owned(), name.to_owned()),
                Some([(key.to_owned(), value.to_owned())].into()),
            )
        };
        let gathered = PolicyInputs {
            policies: vec![object.clone()],
            config_maps: [map("ca", "ca.crt", ca), map("crl", "ca.crl", crl)].into(),
            ..PolicyInputs::default()
        };
        let needed = gathered.needed_config_maps("packgate-system");
        assert_eq!(needed, gathered.config_maps.keys().cloned().collect());
        let snapshot = gathered.compile_snapshot("packgate-system", Timestamp::UNIX_EPOCH);
        assert!(
            snapshot.policies()[0].fault_message().is_none(),
            "{:?}",
            snapshot.policies()[0].fault_message()
        );
        snapshot.governing_fingerprints(&scope)
    };
    let lists = |serials: &[u8]| {
        format!(
            "{}{}",
            list(&pki.root, &[]),
            list(&pki.intermediate, serials)
        )
    };
    let fresh = lists(&[]);
    assert_eq!(print(&pki.pem(), &fresh), print(&pki.pem(), &fresh));
    assert_ne!(print(&pki.pem(), &fresh), print(&other.pem(), &fresh));
    assert_ne!(print(&pki.pem(), &fresh), print(&pki.pem(), &lists(&[7])));
}

#[test]
fn what_comes_later_is_refused_and_never_ignored() {
    for (field, pointer, value) in [
        (
            "spec.attestations[0].cel",
            "/attestations",
            json!([{"predicateType": "x", "cel": "true"}]),
        ),
        (
            "spec.match.namespaceSelector",
            "/match/namespaceSelector",
            json!({"matchLabels": {"a": "b"}}),
        ),
        (
            "spec.match.namespaceSelector",
            "/match/namespaceSelector",
            json!({"matchExpressions": [{"key": "a", "operator": "Exists"}]}),
        ),
    ] {
        let mut object = supported();
        *object["spec"].pointer_mut(pointer).expect(pointer) = value;
        assert_eq!(
            compile(object).expect_err(field),
            PolicyError::unsupported_field(field)
        );
    }
}

#[test]
fn names_that_ask_for_nothing_and_logs_without_a_root_are_refused() {
    let keyless = |subject: Value| {
        json!([
            {
                "name": "platform",
                "keyless": {
                    "trustRootRef": {"name": "corp"},
                    "issuer": "https://i.example.com",
                    "subject": subject,
                },
            },
        ])
    };
    for (field, pointer, value) in [
        (
            "spec.authorities[0].keyless.subject.prefix",
            "/authorities",
            keyless(json!({"prefix": "https://git.example.com"})),
        ),
        (
            "spec.authorities[0].keyless.subject.regexp",
            "/authorities",
            keyless(json!({"regexp": ".*"})),
        ),
        (
            "spec.authorities[0].keyless.subject.exact",
            "/authorities",
            keyless(json!({"exact": ""})),
        ),
        (
            "spec.authorities[0].keyless.trustRootRef",
            "/authorities",
            keyless(json!({"prefix": "https://git.example.com/org/"})),
        ),
        (
            "spec.authorities[0].key.trustRootRef",
            "/transparency",
            json!("Required"),
        ),
    ] {
        let mut object = supported();
        *object["spec"].pointer_mut(pointer).expect(pointer) = value;
        assert_eq!(compile(object).expect_err(field).field, field);
    }
}

#[test]
fn what_is_wrong_is_refused_with_its_field() {
    let hex = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for (field, pointer, value) in [
        (
            "spec.match.references[0]",
            "/match/references",
            json!(["team-a/*"]),
        ),
        (
            "spec.match.except[1]",
            "/match/except",
            json!(["r.example.com/x", "*"]),
        ),
        ("spec.match.uses", "/match/uses", json!([])),
        (
            "spec.mirrors[0].from",
            "/mirrors",
            json!([{"from": "team-a", "to": "b.example.com"}]),
        ),
        (
            "spec.mirrors[1].to",
            "/mirrors",
            json!([
                {"from": "a.example.com", "to": "b.example.com"},
                {"from": "a.example.com", "to": "**"},
            ]),
        ),
        (
            "spec.mirrors",
            "/mirrors",
            json!(vec![
                json!({"from": "a.example.com", "to": "b.example.com"});
                17
            ]),
        ),
        ("spec.authorities", "/authorities", json!([])),
        (
            "spec.authorities[0]",
            "/authorities",
            json!([{"name": "a"}]),
        ),
        (
            "spec.authorities[0].key",
            "/authorities",
            json!([{"name": "a", "key": {}}]),
        ),
        (
            "spec.authorities[0].key",
            "/authorities",
            json!([{"name": "a", "key": {"pem": "x"}}]),
        ),
        (
            "spec.authorities[0].key.configMapRef",
            "/authorities",
            json!([{"name": "a", "key": {"configMapRef": {"name": "other"}}}]),
        ),
        (
            "spec.authorities[0].keyless.trustRootRef",
            "/authorities",
            json!([
                {
                    "name": "a",
                    "keyless": {
                        "trustRootRef": {"name": "x"},
                        "issuer": "i",
                        "subject": {"exact": "x"},
                    },
                },
            ]),
        ),
        (
            "spec.authorities[0].keyless.subject",
            "/authorities",
            json!([
                {
                    "name": "a",
                    "keyless": {
                        "trustRootRef": {"name": "x"},
                        "issuer": "i",
                        "subject": {"exact": "x", "regexp": "x"},
                    },
                },
            ]),
        ),
        ("spec.threshold", "/threshold", json!(2)),
        ("spec.threshold", "/threshold", json!(-1)),
        ("spec.signatureFormats", "/signatureFormats", json!([])),
        ("spec.slsa.minimumLevel", "/slsa/minimumLevel", json!(-1)),
        ("spec.slsa.minimumLevel", "/slsa/minimumLevel", json!(4)),
        (
            "spec.slsa.builders[0].level",
            "/slsa/builders/0/level",
            json!(256),
        ),
        (
            "spec.slsa.builders[0].authority",
            "/slsa/builders/0/authority",
            json!("ci"),
        ),
        ("spec.slsa.maxAge", "/slsa/maxAge", json!("90 days")),
        ("spec.slsa.maxAge", "/slsa/maxAge", json!("-1h")),
        ("spec.slsa.maxAge", "/slsa/maxAge", json!("0h")),
        ("spec.slsa.maxAge", "/slsa/maxAge", json!("")),
        (
            "spec.revocations[0]",
            "/revocations",
            json!([{"reason": "x"}]),
        ),
        (
            "spec.revocations[0]",
            "/revocations",
            json!([{"digest": hex, "builder": "x", "reason": "x"}]),
        ),
        (
            "spec.revocations[0].keyHash",
            "/revocations",
            json!([{"keyHash": "x", "reason": "x"}]),
        ),
        (
            "spec.revocations[0].since",
            "/revocations",
            json!([{"digest": hex, "reason": "x", "since": "soon"}]),
        ),
        (
            "spec.exemptions[0].digest",
            "/exemptions",
            json!([
                {"digest": hex.to_uppercase(), "reason": "x", "expires": "2027-01-01T00:00:00Z"},
            ]),
        ),
        (
            "spec.exemptions[0].expires",
            "/exemptions",
            json!([{"digest": hex, "reason": "x", "expires": "never"}]),
        ),
    ] {
        let mut object = supported();
        *object["spec"].pointer_mut(pointer).expect(pointer) = value.clone();
        let error = compile(object).expect_err(&value.to_string());
        assert_eq!(
            (error.field.as_str(), error.reason()),
            (field, Reason::InvalidSpec),
            "{value}: {error}"
        );
    }
}

#[test]
fn unknown_fields_are_refused_wherever_they_are() {
    for pointer in [
        "",
        "/spec",
        "/spec/match",
        "/spec/authorities/0",
        "/spec/authorities/1/keyless",
        "/spec/authorities/1/keyless/subject",
        "/spec/slsa",
        "/spec/slsa/builders/0",
        "/spec/revocations/0",
        "/spec/exemptions/0",
    ] {
        let mut object = yaml(FULL);
        object.pointer_mut(pointer).expect(pointer)["thresold"] = json!(2);
        let error = PolicyObject::from_json(object).expect_err(pointer);
        assert!(
            error.to_string().contains("unknown field `thresold`"),
            "{pointer}: {error}"
        );
    }
    let mut missing = yaml(FULL);
    missing["spec"]["exemptions"][0]
        .as_object_mut()
        .expect("an exemption")
        .remove("expires");
    assert!(
        PolicyObject::from_json(missing)
            .expect_err("no end")
            .to_string()
            .contains("expires")
    );
    for (key, value) in [
        ("kind", "Pod"),
        ("apiVersion", "v1"),
        ("apiVersion", "packgate.dev/v2"),
    ] {
        let mut object = yaml(FULL);
        object[key] = value.into();
        assert!(matches!(
            PolicyObject::from_json(object),
            Err(PolicyObjectError::Kind { .. })
        ));
    }
}

#[test]
fn a_bundle_policy_is_for_its_namespace_and_exempts_nothing() {
    let mut object = supported();
    object["kind"] = "BundlePolicy".into();
    assert!(
        PolicyObject::from_json(object.clone())
            .expect_err("exemptions")
            .to_string()
            .contains("unknown field `exemptions`")
    );
    object["spec"]
        .as_object_mut()
        .expect("a spec")
        .remove("exemptions");
    assert_eq!(
        compile(object.clone()).expect_err("no namespace").field,
        "metadata.namespace"
    );
    object["metadata"]["namespace"] = "team-a".into();
    assert_eq!(
        compile(object.clone()).expect("it compiles").rules().kind,
        PolicyOrigin::Namespaced("team-a".into())
    );
    object["metadata"]
        .as_object_mut()
        .expect("metadata")
        .remove("name");
    assert_eq!(compile(object).expect_err("no name").field, "metadata.name");
}

#[test]
fn keyless_authorities_are_bound_to_their_trust_root() {
    let Some(data) = shared_data("keyless_authorities_are_bound_to_their_trust_root") else {
        return;
    };
    let root = std::fs::read(data.join("trust/prod_trusted_root.json")).expect("a trust root");
    let root =
        crate::core::verify::TrustRoot::parse(&root, &crate::core::limits::InputLimits::DEFAULT)
            .expect("a trust root");
    let digest = root.digest();
    let sources = ResolvedPolicyReferences {
        trust_roots: [("corp".to_owned(), root.into())].into(),
        ..ResolvedPolicyReferences::default()
    };
    let mut object = supported();
    object["spec"]["authorities"] = json!([
        {
            "name": "platform",
            "keyless": {
                "trustRootRef": {"name": "corp"},
                "issuer": "https://i.example.com",
                "subject": {"exact": "a@example.com"},
            },
        },
    ]);
    let policy = PolicyObject::from_json(object)
        .expect("a policy")
        .compile_policy(&sources)
        .expect("it compiles");
    assert!(
        matches!(&policy.rules().authorities[0].kind, AuthorityKind::Keyless { root, .. } if root.digest() == digest)
    );
}

#[test]
fn the_definitions_are_what_kubernetes_takes() {
    let crds = crd_manifests().expect("YAML");
    let names: Vec<_> = crds.iter().map(|(name, _)| name.as_str()).collect();
    let kinds = [
        "packedbundles",
        "bundlepolicies",
        "clusterbundlepolicies",
        "trustroots",
    ];
    assert_eq!(names, kinds.map(|kind| format!("packgate.dev_{kind}.yaml")));
    for (name, text) in &crds {
        let crd = yaml(text);
        walk(&crd, &mut |key, value| match key {
            "default" => assert!(!value.is_null(), "{name}: a default of null"),
            "format" if value.is_string() => assert!(
                ["int32", "int64", "date-time"]
                    .iter()
                    .any(|known| value == known),
                "{name}: format {value}"
            ),
            "additionalProperties" => assert!(
                value.is_object(),
                "{name}: additionalProperties beside properties"
            ),
            _ => {}
        });
        let version = &crd["spec"]["versions"][0];
        let spec = &version["schema"]["openAPIV3Schema"]["properties"]["spec"];
        assert!(version["subresources"]["status"].is_object());
        undocumented(&spec["properties"], "spec");
        if !name.contains("policies") {
            continue;
        }
        assert_eq!(spec["required"], json!(["authorities", "match"]));
        assert_eq!(
            spec["x-kubernetes-validations"].as_array().map(Vec::len),
            Some(2)
        );
        assert_eq!(
            spec["properties"]["authorities"]["x-kubernetes-list-map-keys"],
            json!(["name"])
        );
        assert_eq!(
            spec["properties"]["exemptions"].is_object(),
            name.contains("cluster")
        );
        let columns: Vec<_> = version["additionalPrinterColumns"]
            .as_array()
            .expect("columns")
            .iter()
            .map(|column| column["name"].clone())
            .collect();
        assert_eq!(columns, ["Mode", "Enforced", "Ready", "Age"]);
    }
}

fn walk(value: &Value, check: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            check(key, value);
            walk(value, check);
        }),
        Value::Array(items) => items.iter().for_each(|item| walk(item, check)),
        _ => {}
    }
}

fn undocumented(properties: &Value, path: &str) {
    for (name, schema) in properties.as_object().into_iter().flatten() {
        assert!(
            schema["description"].is_string(),
            "{path}.{name} has no description"
        );
        undocumented(&schema["properties"], &format!("{path}.{name}"));
        undocumented(&schema["items"]["properties"], &format!("{path}.{name}[]"));
    }
}
