//! cosign's older format, tags for the subject, through the real binary: it counts where it is
//! accepted, and nowhere else.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::{
    cli::{Run, Workspace},
    registry::{Fault, Registry, Settings},
};

const BUILDER: &str = "https://packgate.dev/builder/cli";

/// `oci:out:v1`, signed and with provenance in the older format only.
fn signed() -> Workspace {
    let workspace = Workspace::with_lock();
    workspace.keys().run("pack lock.yaml --to oci:out:v1").ok();
    sign(&workspace, "oci:out:v1", "packgate.key");
    workspace
}

fn sign(workspace: &Workspace, reference: &str, key: &str) {
    workspace.write(
        "predicate.json",
        json!({
            "buildDefinition": {"buildType": "https://example.com/t", "externalParameters": {}},
            "runDetails": {"builder": {"id": BUILDER}},
        })
        .to_string(),
    );
    workspace
        .run(&format!(
            "sign --plain-http {reference} --key {key} --signature-format Legacy"
        ))
        .ok();
    let attest = format!(
        "attest --plain-http {reference} --predicate predicate.json --type slsaprovenance1 --key \
            {key} --signature-format Legacy"
    );
    workspace.run(&attest).ok();
}

async fn in_registry() -> (Workspace, Registry, String) {
    let registry = Registry::with(Settings::default()).await;
    let workspace = Workspace::with_lock();
    let packed = workspace
        .keys()
        .run(&format!(
            "pack lock.yaml --plain-http --to {}/team/hello:v1",
            registry.host()
        ))
        .ok()
        .to_owned();
    (workspace, registry, packed)
}

fn verify(workspace: &Workspace, reference: &str, more: &str) -> Run {
    workspace.run(&format!(
        "verify --plain-http {reference} --key packgate.pub {more}"
    ))
}

fn policy(workspace: &Workspace, keys: &[&str], more: &serde_json::Value) {
    let authorities: Vec<_> = keys
        .iter()
        .map(|key| {
            json!({
                "name": key,
                "key": {"pem": workspace.read(&format!("{key}/packgate.pub"))},
            })
        })
        .collect();
    let mut spec = json!({
        "match": {"references": ["**"]},
        "requireDigest": false,
        "authorities": authorities,
    });
    more.as_object()
        .expect("fields")
        .iter()
        .for_each(|(field, value)| spec[field] = value.clone());
    let policy = json!({
        "apiVersion": "packgate.dev/v1alpha1",
        "kind": "ClusterBundlePolicy",
        "metadata": {"name": "p"},
        "spec": spec,
    });
    workspace.write("policy.yaml", policy.to_string());
}

#[test]
fn the_older_form_counts_only_where_it_is_listed() {
    let workspace = signed();
    verify(&workspace, "oci:out:v1", "").refused(1, "NoSignatures");
    verify(&workspace, "oci:out:v1", "--signature-format Bundle").refused(1, "NoSignatures");
    verify(&workspace, "oci:out:v1", "--signature-format LegacySetOnly")
        .refused(1, "NoMatchingAuthority");
    let report = verify(
        &workspace,
        "oci:out:v1",
        &format!("--signature-format Legacy --builder-id {BUILDER} -o json"),
    )
    .json();
    assert_eq!(
        report["policies"][0]["authorities"][0]["format"], "Legacy",
        "{report}"
    );
    assert!(
        report["reproduce"]
            .as_str()
            .expect("text")
            .contains("--signature-format Legacy"),
        "{report}"
    );
    let text = verify(
        &workspace,
        "oci:out:v1",
        "--signature-format Bundle --signature-format Legacy",
    )
    .ok()
    .to_owned();
    assert!(text.contains("at an unknown time, Legacy"), "{text}");
    workspace.run("keys generate --out-dir other").ok();
    workspace
        .run("verify oci:out:v1 --key other/packgate.pub --signature-format Legacy")
        .refused(1, "NoMatchingAuthority");
    workspace
        .run(&format!(
            "unpack oci:out:v1 --to got --key packgate.pub --builder-id {BUILDER}"
        ))
        .refused(1, "NoSignatures");
    workspace
        .run(&format!(
            "unpack oci:out:v1 --to got --key packgate.pub --builder-id {BUILDER} \
        --signature-format Legacy"
        ))
        .ok();
}

#[test]
fn several_sign_and_attest_in_the_older_form_and_nothing_is_lost() {
    let workspace = signed();
    workspace.run("keys generate --out-dir other").ok();
    sign(&workspace, "oci:out:v1", "other/packgate.key");
    for key in ["packgate.pub", "other/packgate.pub"] {
        workspace
            .run(&format!(
                "verify oci:out:v1 --key {key} --builder-id {BUILDER} --signature-format Legacy"
            ))
            .ok();
    }
    let tags = workspace.run("inspect oci:out:v1 -o json").json()["tags"].clone();
    assert_eq!(tags.as_array().map(Vec::len), Some(4), "{tags}");
    let text = workspace.run("inspect oci:out:v1").ok().to_owned();
    assert!(
        text.contains(".sig ")
            && text.contains(".att ")
            && text.contains("https://slsa.dev/provenance/v1"),
        "{text}"
    );
}

#[test]
fn a_changed_byte_under_a_tag_is_found() {
    use std::fs;
    let workspace = signed();
    let tags = workspace.run("inspect oci:out:v1 -o json").json()["tags"].clone();
    let manifest = tags[0]["digest"]
        .as_str()
        .expect("a digest")
        .replace(':', "/");
    let manifest: serde_json::Value =
        serde_json::from_str(&workspace.read(&format!("out/blobs/{manifest}"))).expect("JSON");
    for part in [&manifest["config"], &manifest["layers"][0]] {
        let path = workspace
            .file("out/blobs")
            .join(part["digest"].as_str().expect("a digest").replace(':', "/"));
        let good = fs::read(&path).expect("a blob");
        let mut bad = good.clone();
        bad[10] ^= 1;
        fs::write(&path, bad).expect("written");
        let run = workspace
            .run("unpack oci:out:v1 --to got --key packgate.pub --signature-format Legacy");
        run.refused(4, "DigestMismatch");
        fs::write(&path, good).expect("written");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_are_asked_for_only_where_they_count() {
    let (workspace, registry, reference) = in_registry().await;
    workspace
        .run(&format!("sign --plain-http {reference} --key packgate.key"))
        .ok();
    let asked = |more: &str| {
        let before = registry.requests().len();
        verify(&workspace, &reference, more).ok();
        registry
            .requests()
            .split_off(before)
            .into_iter()
            .map(|request| request.path)
            .collect::<Vec<_>>()
    };
    let default = asked("");
    assert!(
        default.len() == 3
            && !default
                .iter()
                .any(|path| path.contains(".sig") || path.contains(".att")),
        "{default:?}"
    );
    let legacy = asked("--signature-format Bundle --signature-format Legacy");
    assert_eq!(legacy.len(), 5, "one request more for each tag: {legacy:?}");
    sign(&workspace, &reference, "packgate.key");
    assert_eq!(
        asked("--signature-format Legacy").len(),
        7,
        "and one for each layer"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_under_a_tag_matters_where_the_rest_is_not_enough() {
    for (status, reason) in [
        (401, "RegistryDenied"),
        (403, "RegistryDenied"),
        (400, "RegistryRefused"),
    ] {
        for part in [".sig", ".att", "/referrers/"] {
            let (workspace, registry, reference) = in_registry().await;
            let both = "--signature-format Bundle --signature-format Legacy";
            registry.fault(Fault::on("GET", part).status(status));
            let no_signature = if part == "/referrers/" && status == 400 {
                "NoSignatures"
            } else {
                reason
            };
            let code = match no_signature {
                "NoSignatures" => 1,
                "RegistryRefused" => 2,
                _ => 3,
            };
            verify(&workspace, &reference, both).refused(code, no_signature);
            registry.heal();
            if part == "/referrers/" {
                sign(&workspace, &reference, "packgate.key");
            } else {
                workspace
                    .run(&format!("sign --plain-http {reference} --key packgate.key"))
                    .ok();
            }
            registry.fault(Fault::on("GET", part).status(status));
            verify(&workspace, &reference, both).ok();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_under_a_tag_is_no_absence_of_signatures() {
    for (status, reason) in [(429, "RateLimited"), (500, "RegistryUnavailable")] {
        for tag in [".sig", ".att"] {
            let (workspace, registry, reference) = in_registry().await;
            workspace
                .run(&format!("sign --plain-http {reference} --key packgate.key"))
                .ok();
            registry.fault(Fault::on("GET", tag).status(status));
            verify(
                &workspace,
                &reference,
                "--signature-format Bundle --signature-format Legacy",
            )
            .refused(3, reason);
            verify(&workspace, &reference, "").ok();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_malformed_under_a_tag_is_told_and_spoils_nothing() {
    let (workspace, registry, reference) = in_registry().await;
    let digest = reference.split_once('@').expect("a digest").1.to_owned();
    workspace
        .run(&format!("sign --plain-http {reference} --key packgate.key"))
        .ok();
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let index = "application/vnd.oci.image.index.v1+json";
    let layer = |size: usize| {
        json!({
            "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
            "digest": digest,
            "size": size,
        })
    };
    let with = |layers: &[serde_json::Value]| {
        json!({
            "schemaVersion": 2,
            "mediaType": manifest,
            "config": {"mediaType": "x", "digest": digest, "size": 2},
            "layers": layers,
        })
        .to_string()
    };
    for (media_type, body, reason) in [
        (manifest, "{".to_owned(), "MalformedManifest"),
        (
            index,
            json!({"schemaVersion": 2, "mediaType": index, "manifests": []}).to_string(),
            "MalformedEvidence",
        ),
        (
            manifest,
            format!("{{\"x\":\"{}\"}}", "x".repeat(5 << 20)),
            "LimitExceeded",
        ),
        (manifest, with(&[layer(5 << 20)]), "LimitExceeded"),
        (manifest, with(&[layer(7)]), "SourceNotFound"),
    ] {
        registry.put_manifest(
            "team/hello",
            Some(&format!("{}.sig", digest.replace(':', "-"))),
            media_type,
            body,
        );
        let report = verify(
            &workspace,
            &reference,
            "--signature-format Bundle --signature-format Legacy -o json",
        )
        .json();
        assert_eq!(
            (&report["outcome"], &report["rejected"][0]["reason"]),
            (&json!("Admitted"), &json!(reason)),
            "{report}"
        );
        assert!(
            report["rejected"][0]["message"]
                .as_str()
                .expect("text")
                .contains("its .sig tag: "),
            "{report}"
        );
    }
    // Over the limit: what was not read is not absent.
    let many: Vec<_> = (0..300).map(|_| layer(7)).collect();
    registry.put_manifest(
        "team/hello",
        Some(&format!("{}.sig", digest.replace(':', "-"))),
        manifest,
        with(&many),
    );
    workspace.run("keys generate --out-dir other").ok();
    let run = workspace.run(&format!(
        "verify --plain-http {reference} --key other/packgate.pub \
        --signature-format Bundle --signature-format Legacy"
    ));
    assert!(
        run.code != 0
            && verify(
                &workspace,
                &reference,
                "--signature-format Bundle --signature-format Legacy"
            )
            .code
                == 0,
        "{run:?}"
    );
}

/// docs/threat-model.md, row 19.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_signature_of_a_retired_key_does_not_stand_in_for_a_dropped_bundle() {
    let (workspace, registry, reference) = in_registry().await;
    let digest = reference.split_once('@').expect("a digest").1;
    workspace.run("keys generate --out-dir current").ok();
    workspace.run("keys generate --out-dir retired").ok();
    sign(&workspace, &reference, "retired/packgate.key");
    workspace
        .run(&format!(
            "sign --plain-http {reference} --key current/packgate.key"
        ))
        .ok();
    let judge = || {
        workspace.run(&format!(
            "verify --plain-http {reference} --policy policy.yaml"
        ))
    };
    let legacy = json!({"signatureFormats": ["Bundle", "Legacy"]});
    policy(&workspace, &["current"], &json!({}));
    judge().ok();
    // The attacker drops the bundle.
    registry.fault(
        Fault::on("GET", format!("/referrers/{digest}"))
            .body(r#"{"schemaVersion":2,"manifests":[]}"#),
    );
    judge().refused(1, "NoSignatures");
    policy(&workspace, &["current", "retired"], &json!({}));
    judge().refused(1, "NoSignatures");
    policy(&workspace, &["current"], &legacy);
    judge().refused(1, "NoMatchingAuthority");
    // Only a policy that accepts the format and still trusts the key admits it, and a revocation
    // undoes that.
    policy(&workspace, &["current", "retired"], &legacy);
    judge().ok();
    let pem = workspace.read("retired/packgate.pub");
    let der = pem
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect::<String>();
    let der =
        base64::Engine::decode(&base64::engine::general_purpose::STANDARD, der).expect("base64");
    let revoked = json!({
        "signatureFormats": ["Legacy"],
        "revocations": [{"keyHash": packgate::core::digest::Digest::of_bytes(&der), "reason": "retired"}],
    });
    policy(&workspace, &["current", "retired"], &revoked);
    judge().refused(1, "Revoked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_carry_what_lies_under_tags_and_keep_what_is_there() {
    let (workspace, registry, reference) = in_registry().await;
    workspace.run("keys generate --out-dir other").ok();
    sign(&workspace, &reference, "packgate.key");
    let digest = reference.split_once('@').expect("a digest").1.to_owned();
    let tag = |suffix: &str| digest.replace(':', "-") + suffix;
    let blob = registry.put_blob("team/hello", "an SBOM");
    let sbom = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "config": {"mediaType": "text/plain", "digest": blob, "size": 7}, "layers": [
        {"mediaType": "text/spdx", "digest": blob, "size": 7},
    ]});
    registry.put_manifest(
        "team/hello",
        Some(&tag(".sbom")),
        "application/vnd.oci.image.manifest.v1+json",
        sbom.to_string(),
    );

    workspace
        .run(&format!(
            "copy --plain-http {reference} oci-archive:bundle.tar:v1"
        ))
        .ok();
    let again = format!("{}/mirror/hello", registry.host());
    workspace
        .run(&format!(
            "copy --plain-http oci-archive:bundle.tar:v1 {again}:v1"
        ))
        .ok();
    for suffix in [".sig", ".att", ".sbom"] {
        assert_eq!(
            registry.tag("mirror/hello", &tag(suffix)),
            registry.tag("team/hello", &tag(suffix)),
            "{suffix}"
        );
    }
    verify(
        &workspace,
        &format!("{again}@{digest}"),
        &format!("--signature-format Legacy --builder-id {BUILDER}"),
    )
    .ok();

    // Another user signs at the target; a second copy removes nothing.
    workspace
        .run(&format!(
            "sign --plain-http {again}@{digest} --key other/packgate.key --signature-format Legacy"
        ))
        .ok();
    workspace
        .run(&format!("copy --plain-http {reference} {again}:v1"))
        .ok();
    for key in ["packgate.pub", "other/packgate.pub"] {
        workspace
            .run(&format!(
                "verify --plain-http {again}@{digest} --key {key} --signature-format Legacy"
            ))
            .ok();
    }
    let listed: BTreeSet<String> = workspace
        .run(&format!("inspect --plain-http {again}@{digest} -o json"))
        .json()["tags"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|tagged| tagged["tag"].to_string())
        .collect();
    assert_eq!(listed.len(), 3, "{listed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_signers_under_a_tag_lose_nothing() {
    let (workspace, registry, reference) = in_registry().await;
    let workspace = &workspace;
    for n in 0..6 {
        workspace.run(&format!("keys generate --out-dir k{n}")).ok();
    }
    std::thread::scope(|scope| {
        for n in 0..6 {
            let line = format!(
                "sign --plain-http {reference} --key k{n}/packgate.key --signature-format Legacy"
            );
            scope.spawn(move || workspace.run(&line).ok().len());
        }
    });
    for n in 0..6 {
        workspace
            .run(&format!(
                "verify --plain-http {reference} --key k{n}/packgate.pub --signature-format Legacy"
            ))
            .ok();
    }
    drop(registry);
}
