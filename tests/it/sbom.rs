//! `pack --sbom`: what is attested, how it is shown, and how policies require it.

use packgate::core::{
    limits::InputLimits,
    lockfile::Lockfile,
    sbom::{SbomDocument, SbomFormat},
};
use serde_json::{Value, json};

use crate::support::cli::{LOCK, Workspace};

fn packed(options: &str) -> Workspace {
    let workspace = Workspace::with_lock();
    workspace
        .keys()
        .run(&format!(
            "pack lock.yaml --to oci:out:v1 --key packgate.key {options}"
        ))
        .ok();
    workspace
}

#[test]
fn a_bill_is_attested_and_shown() {
    for (format, option) in [
        (SbomFormat::Spdx, "spdx"),
        (SbomFormat::CycloneDX, "CycloneDX"),
    ] {
        let workspace = Workspace::with_lock();
        let line = format!(
            "pack lock.yaml --to oci:out:v1 --key packgate.key --sbom {option} --source-date-epoch \
                7 -o json"
        );
        let done = workspace.keys().run(&line).json();
        let shown = workspace.run("inspect oci:out:v1 -o json").json();
        let referrers = shown["referrers"].as_array().expect("a list");
        let listed = referrers
            .iter()
            .find(|referrer| referrer["predicateType"] == format.predicate_type())
            .expect("it is listed");
        assert_eq!((referrers.len(), &listed["digest"]), (3, &done["sbom"]));
        let text = workspace.run("inspect oci:out:v1");
        assert!(
            text.ok()
                .lines()
                .any(|line| line.starts_with("sbom ") && line.contains(format.as_str())),
            "{text:?}"
        );
        let lock = Lockfile::parse(LOCK.as_bytes(), &InputLimits::DEFAULT).expect("a lock");
        let bill = SbomDocument::new(format, &lock, Some(7)).expect("a bill");
        assert_eq!(
            byproduct(&workspace),
            json!({
                "name": "sbom",
                "digest": {"sha256": bill.digest().hex_digits()},
                "mediaType": format.media_type(),
            })
        );
    }
}

/// The by-product in the provenance of the layout.
fn byproduct(workspace: &Workspace) -> Value {
    let statements = crate::support::tools::tree(&workspace.file("out/blobs"))
        .into_iter()
        .filter_map(|(_, bytes, _)| {
            let bundle: Value = serde_json::from_slice(&bytes).ok()?;
            let payload = bundle["dsseEnvelope"]["payload"].as_str()?;
            let statement =
                base64::Engine::decode(&base64::engine::general_purpose::STANDARD, payload).ok()?;
            serde_json::from_slice::<Value>(&statement).ok()
        });
    let provenance = statements
        .into_iter()
        .find(|statement| statement["predicateType"] == "https://slsa.dev/provenance/v1")
        .expect("provenance");
    provenance["predicate"]["runDetails"]["byproducts"][0].clone()
}

#[test]
fn without_a_signer_there_is_none() {
    let workspace = Workspace::with_lock();
    workspace
        .run("pack lock.yaml --to oci:out:v1 --sbom SPDX")
        .refused(2, "--sbom needs --key");
    assert!(!workspace.file("out").exists());
    workspace
        .run("pack lock.yaml --to oci:out:v1 --sbom None")
        .ok();
    workspace
        .run("pack lock.yaml --to oci:out:v1 --sbom syft")
        .refused(2, "possible values: None, SPDX, CycloneDX");
}

#[test]
fn a_policy_can_ask_for_a_bill() {
    let policy = |workspace: &Workspace| {
        let key = workspace.read("packgate.pub");
        let spec = json!({"match": {"references": ["**"]}, "requireDigest": false, "authorities": [
            {"name": "ours", "key": {"pem": key}},
        ],
            "attestations": [{"predicateType": "https://spdx.dev/Document", "authority": "ours"}]});
        let document = json!({
            "apiVersion": "packgate.dev/v1alpha1",
            "kind": "ClusterBundlePolicy",
            "metadata": {"name": "bills"},
            "spec": spec,
        });
        workspace.write("policy.yaml", document.to_string());
        workspace.run("verify oci:out:v1 --policy policy.yaml")
    };
    policy(&packed("--sbom SPDX")).ok();
    for without in ["", "--sbom CycloneDX"] {
        policy(&packed(without)).refused(1, "PredicateTypeMismatch");
    }
}
