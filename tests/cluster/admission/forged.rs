//! Forged evidence in a real registry: each piece is refused for its own reason, and the command
//! line says the same as the webhook.

use serde_json::{Value, json};

use super::{
    agreement::agree,
    root::{self, Root, keyless_policy},
    scene::{Case, Scene},
};
use crate::support::{api::Api, sigstore::Sigstore};

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// Signs what is there, and returns the Sigstore bundle as it lies in the registry.
fn genuine(scene: &Scene, sigstore: &Sigstore, reference: &str) -> Value {
    scene.sign_keyless(reference, sigstore);
    let http = scene.test.cluster.http_flag();
    let oras = |line: &str| scene.test.tool("oras", &format!("{line} {http}")).json();
    let found = oras(&format!(
        "discover --format json --artifact-type {BUNDLE} {reference}"
    ));
    let referrers = found["referrers"]
        .as_array()
        .or_else(|| found["manifests"].as_array())
        .expect("referrers");
    let [referrer] = &referrers[..] else {
        panic!("one signature: {found}")
    };
    let repository = reference.split_once('@').expect("a digest").0;
    let manifest = oras(&format!(
        "manifest fetch {repository}@{}",
        referrer["digest"].as_str().expect("a digest")
    ));
    oras(&format!(
        "blob fetch --output - {repository}@{}",
        manifest["layers"][0]["digest"].as_str().expect("a digest")
    ))
}

/// The same artifact under another name, with this as its only evidence.
fn with_evidence(scene: &Scene, name: &str, bundle: &Value) -> String {
    let reference = scene.pack(name, None);
    scene.test.write("forged.json", bundle.to_string());
    let http = scene.test.cluster.http_flag();
    scene
        .test
        .tool(
            "oras",
            &format!("attach --artifact-type {BUNDLE} {reference} forged.json:{BUNDLE} {http}"),
        )
        .ok();
    reference
}

/// What is done to a bundle; the other one is genuine too, of the same signer, about another
/// artifact.
type Forge = fn(&mut Value, &Value);

/// A forgery, with the threat that it stands for (docs/threat-model.md), and the reason that
/// refuses it.
const FORGERIES: &[(&str, Forge, &str)] = &[
    (
        "20-entry-of-another",
        |bundle, other| entry(bundle).clone_from(&other["verificationMaterial"]["tlogEntries"][0]),
        "LogEntryMismatch",
    ),
    (
        "21-checkpoint",
        |bundle, _| change(&mut entry(bundle)["inclusionProof"]["checkpoint"]["envelope"]),
        "InvalidInclusionProof",
    ),
    (
        "21-root-hash",
        |bundle, _| entry(bundle)["inclusionProof"]["rootHash"] = zeros(),
        "InvalidInclusionProof",
    ),
    (
        "21-tree-size",
        |bundle, _| entry(bundle)["inclusionProof"]["treeSize"] = "9007199254740991".into(),
        "InvalidInclusionProof",
    ),
    (
        "21-log-id",
        |bundle, _| entry(bundle)["logId"]["keyId"] = zeros(),
        "InvalidInclusionProof",
    ),
    (
        "22-no-time",
        |bundle, _| bundle["verificationMaterial"]["timestampVerificationData"] = json!({}),
        "NoTrustedTime",
    ),
    (
        "23-time-of-another",
        |bundle, other| {
            let given = other["verificationMaterial"]["timestampVerificationData"].clone();
            bundle["verificationMaterial"]["timestampVerificationData"] = given;
        },
        "InvalidTimestamp",
    ),
    (
        "24-raw-key",
        |bundle, _| bundle["verificationMaterial"]["certificate"]["rawBytes"] = RAW_KEY.into(),
        "MalformedEvidence",
    ),
    (
        "24-key-and-certificate",
        |bundle, _| bundle["verificationMaterial"]["publicKey"] = json!({"hint": "x"}),
        "MalformedEvidence",
    ),
    (
        "signature-of-another",
        |bundle, other| {
            bundle["dsseEnvelope"]["signatures"] = other["dsseEnvelope"]["signatures"].clone();
        },
        "InvalidTimestamp",
    ),
    (
        "payload-of-another",
        |bundle, other| {
            bundle["dsseEnvelope"]["payload"] = other["dsseEnvelope"]["payload"].clone();
        },
        "InvalidSignature",
    ),
    (
        "statement-of-another",
        |bundle, other| bundle.clone_from(other),
        "SubjectMismatch",
    ),
];

/// A P-256 key of nobody, as DER.
const RAW_KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==";

/// A hash of nothing.
fn zeros() -> Value {
    format!("{}=", "A".repeat(43)).into()
}

fn entry(bundle: &mut Value) -> &mut Value {
    &mut bundle["verificationMaterial"]["tlogEntries"][0]
}

/// One character of a text that carries a signature.
fn change(text: &mut Value) {
    let mut bytes = text.as_str().expect("a text").as_bytes().to_vec();
    let at = bytes.iter().position(|byte| *byte == b'\n').expect("lines") + 1;
    bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
    *text = String::from_utf8(bytes).expect("text").into();
}

#[test]
fn webhook_and_command_line_say_the_same_of_forged_evidence() {
    let Some(scene) = Scene::start("webhook_and_command_line_say_the_same_of_forged_evidence")
    else {
        return;
    };
    let test = &scene.test;
    let Some(sigstore) = test.sigstore() else {
        return;
    };
    let (api, document) = (Api::new(), root::document(&sigstore));
    let bundle = genuine(&scene, &sigstore, &scene.pack("donor", None));
    let another = test.lock(&test.cluster.registry, "another", &[("a.txt", "two\n")]);
    let to = scene.repository("another");
    let packed = test.packgate(&format!(
        "pack {} --to {to}:v1 {}",
        another.path.display(),
        test.cluster.http_flag()
    ));
    let other = genuine(
        &scene,
        &sigstore,
        &format!("{to}@{}", packed.ok().split_once('@').expect("a digest").1),
    );

    let good = Root::given(test, "root", &document);
    let roots: Vec<(&str, Root, &str)> = roots(&document)
        .into_iter()
        .map(|(name, root, reason)| (name, Root::given(test, name, &root), reason))
        .collect();
    let mut policies = vec![
        keyless_policy(&scene, "good", "good/**", &good, "default"),
        keyless_policy(&scene, "else", "else/**", &good, "other"),
    ];
    policies.extend(roots.iter().map(|(name, root, _)| {
        keyless_policy(&scene, name, &format!("{name}/**"), root, "default")
    }));
    let mut legacy = keyless_policy(&scene, "legacy", "legacy/**", &good, "default");
    legacy["spec"]["authorities"] =
        scene.policy("x", "x", &["a"], "x", "a")["spec"]["authorities"].clone();
    legacy["spec"]["signatureFormats"] = json!(["Legacy"]);
    policies.push(legacy);
    scene.enforce(&policies);

    let case = |name, reference, reason| Case {
        name,
        reference,
        reason,
    };
    let mut cases = vec![
        case(
            "genuine",
            with_evidence(&scene, "good/genuine", &bundle),
            None,
        ),
        case(
            "of another account",
            with_evidence(&scene, "else/x", &bundle),
            Some("IdentityMismatch"),
        ),
    ];
    for &(name, forge, reason) in FORGERIES {
        let mut forged = bundle.clone();
        forge(&mut forged, &other);
        assert!(forged != bundle, "{name} changes nothing");
        cases.push(case(
            name,
            with_evidence(&scene, &format!("good/{name}"), &forged),
            Some(reason),
        ));
    }
    for (name, _, reason) in &roots {
        cases.push(case(
            name,
            with_evidence(&scene, &format!("{name}/x"), &bundle),
            Some(reason),
        ));
    }
    let legacy = |to: &str, flags: &str| {
        let reference = scene.pack(to, None);
        test.packgate(&format!(
            "sign {reference} --key keys-a/packgate.key {flags} {}",
            test.cluster.http_flag()
        ))
        .ok();
        reference
    };
    cases.push(case(
        "legacy",
        legacy("legacy/x", "--signature-format Legacy"),
        None,
    ));
    cases.push(case(
        "legacy, and not listed",
        legacy("good/legacy", "--signature-format Legacy"),
        Some("NoSignatures"),
    ));
    cases.push(case(
        "a bundle, and not listed",
        legacy("legacy/bundle", ""),
        Some("NoMatchingAuthority"),
    ));
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| agree(&scene, &api, case))
        .collect();
    println!("{} cases agree", cases.len());
    assert!(
        wrong.is_empty(),
        "for another reason:\n{}",
        wrong.join("\n")
    );
}

/// Roots that are almost the right one.
fn roots(document: &Value) -> Vec<(&'static str, Value, &'static str)> {
    let each = |list: &str, change: fn(&mut Value)| {
        let mut root = document.clone();
        root[list]
            .as_array_mut()
            .expect("a list")
            .iter_mut()
            .for_each(change);
        root
    };
    let without = |list: &str| {
        let mut root = document.clone();
        root[list] = json!([]);
        root
    };
    vec![
        ("no-log", without("tlogs"), "InvalidInclusionProof"),
        (
            "log-over",
            each("tlogs", |log| log["publicKey"]["validFor"] = over()),
            "InvalidInclusionProof",
        ),
        (
            "no-tsa",
            without("timestampAuthorities"),
            "InvalidTimestamp",
        ),
        (
            "tsa-over",
            each("timestampAuthorities", |authority| {
                authority["validFor"] = over();
            }),
            "InvalidTimestamp",
        ),
        (
            "ca-over",
            each("certificateAuthorities", |authority| {
                authority["validFor"] = over();
            }),
            "UntrustedChain",
        ),
    ]
}

/// A time that ended before anything was signed.
fn over() -> Value {
    json!({"start": "2020-01-01T00:00:00Z", "end": "2020-01-02T00:00:00Z"})
}
