//! Verdicts of `packgate verify`, through the real binary: each refusal has one reason and one exit
//! code.

use serde_json::{Value, json};

use crate::support::cli::Workspace;

const BUILDER: &str = "https://packgate.dev/builder/cli";
const PROVENANCE: &str = "slsaprovenance1";

fn packed() -> Workspace {
    let workspace = Workspace::with_lock();
    workspace.keys().run("pack lock.yaml --to oci:out:v1").ok();
    workspace
}

fn signed() -> Workspace {
    let workspace = Workspace::with_lock();
    workspace
        .keys()
        .run("pack lock.yaml --to oci:out:v1 --key packgate.key")
        .ok();
    workspace
}

fn provenance(builder: &str) -> String {
    json!({
        "buildDefinition": {"buildType": "https://example.com/t", "externalParameters": {}},
        "runDetails": {"builder": {"id": builder}},
    })
    .to_string()
}

#[test]
fn what_pack_signs_is_admitted() {
    let workspace = signed();
    let report = workspace
        .run(&format!(
            "verify oci:out:v1 --key packgate.pub --builder-id {BUILDER} --lock lock.yaml -o json"
        ))
        .json();
    assert_eq!(report["outcome"], "Admitted");
    assert_eq!(report["admitted"], true);
    assert_eq!(report["kind"], "Report");
    assert!(
        report["digest"]
            .as_str()
            .expect("a digest")
            .starts_with("sha256:")
    );
    let text = workspace.run("verify oci:out:v1 --key packgate.pub");
    assert!(text.ok().starts_with("admitted"), "{text:?}");
}

#[test]
fn nothing_to_trust_is_invalid() {
    packed().run("verify oci:out:v1").refused(2, "InvalidSpec");
}

#[test]
fn no_signature_is_refused() {
    packed()
        .run("verify oci:out:v1 --key packgate.pub")
        .refused(1, "NoSignatures");
}

#[test]
fn a_wrong_key_is_refused() {
    let workspace = signed();
    workspace.run("keys generate --out-dir other").ok();
    workspace
        .run("verify oci:out:v1 --key other/packgate.pub")
        .refused(1, "NoMatchingAuthority");
}

#[test]
fn no_provenance_is_refused() {
    let workspace = packed();
    workspace.run("sign oci:out:v1 --key packgate.key").ok();
    workspace.run("verify oci:out:v1 --key packgate.pub").ok();
    workspace
        .run(&format!(
            "verify oci:out:v1 --key packgate.pub --builder-id {BUILDER}"
        ))
        .refused(1, "NoProvenance");
}

#[test]
fn an_attestation_of_another_type_is_no_provenance_and_no_signature() {
    let workspace = packed();
    workspace.write("sbom.json", r#"{"spdxVersion":"SPDX-2.3"}"#);
    workspace
        .run("attest oci:out:v1 --predicate sbom.json --type spdxjson --key packgate.key")
        .ok();
    workspace
        .run("verify oci:out:v1 --key packgate.pub")
        .refused(1, "PredicateTypeMismatch");
    workspace.run("sign oci:out:v1 --key packgate.key").ok();
    workspace
        .run(&format!(
            "verify oci:out:v1 --key packgate.pub --builder-id {BUILDER}"
        ))
        .refused(1, "PredicateTypeMismatch");
}

#[test]
fn an_untrusted_builder_is_refused() {
    let workspace = signed();
    workspace
        .run("verify oci:out:v1 --key packgate.pub --builder-id https://ci.example.com/b")
        .refused(1, "BuilderNotTrusted");
}

#[test]
fn a_statement_about_another_digest_is_refused() {
    let workspace = signed();
    // The same signature, attached to another bundle by hand.
    workspace.write(
        "other.yaml",
        workspace
            .read("lock.yaml")
            .replace("version: 1.0.0", "version: 2.0.0"),
    );
    let other = workspace
        .run("pack other.yaml --to oci:out:v2")
        .ok()
        .to_owned();
    move_referrers(&workspace, other.split_once('@').expect("a digest").1);
    workspace
        .run("verify oci:out:v2 --key packgate.pub")
        .refused(1, "SubjectMismatch");
}

/// Rewrites the `subject` of every referrer in the layout to `digest`, as an attacker with push
/// rights could.
fn move_referrers(workspace: &Workspace, digest: &str) {
    use std::fs;
    let root = workspace.file("out");
    let index: Value = serde_json::from_str(&workspace.read("out/index.json")).expect("JSON");
    let mut manifests = index["manifests"].as_array().expect("a list").clone();
    for entry in &mut manifests {
        let path = root.join("blobs").join(
            entry["digest"]
                .as_str()
                .expect("a digest")
                .replace(':', "/"),
        );
        let mut manifest: Value =
            serde_json::from_slice(&fs::read(path).expect("a manifest")).expect("JSON");
        if manifest.get("subject").is_none() {
            continue;
        }
        manifest["subject"]["digest"] = digest.into();
        let bytes = manifest.to_string().into_bytes();
        let own = packgate::core::digest::Digest::of_bytes(&bytes);
        fs::write(root.join("blobs/sha256").join(own.hex_digits()), &bytes).expect("written");
        entry["digest"] = own.to_string().into();
        entry["size"] = bytes.len().into();
    }
    workspace.write(
        "out/index.json",
        json!({"schemaVersion": 2, "manifests": manifests}).to_string(),
    );
}

fn policy(workspace: &Workspace, slsa: &Value) {
    let key = |name: &str| workspace.read(&format!("{name}/packgate.pub"));
    let spec = json!({
        "match": {"references": ["**"]},
        "authorities": [
            {"name": "platform", "key": {"pem": key("platform")}},
            {"name": "tenant", "key": {"pem": key("tenant")}},
        ],
        "slsa": slsa,
    });
    workspace.write(
        "policy.yaml",
        json!({
            "apiVersion": "packgate.dev/v1alpha1",
            "kind": "ClusterBundlePolicy",
            "metadata": {"name": "p"},
            "spec": spec,
        })
        .to_string(),
    );
}

/// The command that evaluates `oci:out:v1` by the policy, with the digest that the policy requires.
fn verify(workspace: &Workspace) -> String {
    let found = workspace.run("inspect oci:out:v1 -o json").json();
    format!(
        "verify {} --policy policy.yaml",
        found["reference"].as_str().expect("a reference")
    )
}

fn with_two_keys() -> Workspace {
    let workspace = Workspace::with_lock();
    workspace.run("keys generate --out-dir platform").ok();
    workspace.run("keys generate --out-dir tenant").ok();
    workspace
}

#[test]
fn a_builder_that_its_authority_may_not_speak_for_is_refused() {
    let workspace = with_two_keys();
    let builder = "https://ci.example.com/platform";
    policy(
        &workspace,
        &json!({
            "minimumLevel": 2,
            "builders": [{"id": builder, "authority": "platform", "level": 3}],
        }),
    );
    workspace.write("predicate.json", provenance(builder));
    workspace.run("pack lock.yaml --to oci:out:v1").ok();
    workspace
        .run("sign oci:out:v1 --key platform/packgate.key")
        .ok();
    let verify = &verify(&workspace);
    workspace.run(verify).refused(1, "NoProvenance");
    workspace
        .run(&format!(
            "attest oci:out:v1 --predicate predicate.json --type {PROVENANCE} --key \
        tenant/packgate.key"
        ))
        .ok();
    workspace.run(verify).refused(1, "BuilderNotBoundToSigner");
    workspace
        .run(&format!(
            "attest oci:out:v1 --predicate predicate.json --type {PROVENANCE} --key \
        platform/packgate.key"
        ))
        .ok();
    workspace.run(verify).ok();
}

#[test]
fn a_policy_asks_for_a_digest_and_prints_it() {
    let workspace = with_two_keys();
    policy(
        &workspace,
        &json!({
            "minimumLevel": 1,
            "builders": [{"id": BUILDER, "authority": "platform", "level": 1}],
        }),
    );
    let packed = workspace
        .run("pack lock.yaml --to oci:out:v1 --key platform/packgate.key")
        .ok()
        .to_owned();
    let refused = workspace.run("verify oci:out:v1 --policy policy.yaml");
    assert!(
        refused
            .refused(1, "DigestRequired")
            .stdout
            .contains(&packed),
        "{refused:?}"
    );
    workspace
        .run(&format!("verify {packed} --policy policy.yaml"))
        .ok();
}

#[test]
fn an_exempted_digest_admits_no_tag() {
    let workspace = with_two_keys();
    let packed = workspace
        .run("pack lock.yaml --to oci:out:v1")
        .ok()
        .to_owned();
    let digest = packed.rsplit_once('@').expect("a digest").1;
    policy(
        &workspace,
        &json!({
            "minimumLevel": 1,
            "builders": [{"id": BUILDER, "authority": "platform", "level": 1}],
        }),
    );
    let exempting = format!(
        "\"exemptions\":[{{\"digest\":\"{digest}\",\"reason\":\"INC-42\",\"expires\":\"2999-01-01T00:00:00Z\"}}],\"match\""
    );
    let uses = "\"uses\":[\"PackedBundle\",\"ImageVolume\",\"Container\"],\"references\"";
    workspace.write(
        "policy.yaml",
        workspace
            .read("policy.yaml")
            .replacen("\"match\"", &exempting, 1)
            .replacen("\"references\"", uses, 1),
    );
    for used_as in ["PackedBundle", "ImageVolume", "Container"] {
        for (reference, refused) in [
            ("oci:out:v1", true),
            (packed.as_str(), false),
            (&format!("oci:out@{digest}"), false),
        ] {
            for verb in [
                format!("verify {reference} --policy policy.yaml --use {used_as}"),
                format!("policy test policy.yaml --reference {reference} --use {used_as}"),
            ] {
                let run = workspace.run(&verb);
                if refused {
                    run.refused(1, "DigestRequired");
                } else {
                    assert!(run.ok().starts_with("exempt"), "{verb}: {run:?}");
                }
            }
        }
    }
}

#[test]
fn a_lock_that_is_not_the_provenances_is_refused() {
    let workspace = with_two_keys();
    policy(
        &workspace,
        &json!({
            "minimumLevel": 1,
            "builders": [{"id": BUILDER, "authority": "platform", "level": 1}],
            "lock": "Exact",
        }),
    );
    workspace
        .run("pack lock.yaml --to oci:out:v1 --key platform/packgate.key")
        .ok();
    workspace.run(&verify(&workspace)).ok();

    workspace
        .run("pack lock.yaml --to oci:out:v1 --annotation a=b")
        .ok();
    workspace
        .run("sign oci:out:v1 --key platform/packgate.key")
        .ok();
    workspace.write("predicate.json", provenance(BUILDER));
    workspace
        .run(&format!(
            "attest oci:out:v1 --predicate predicate.json --type {PROVENANCE} --key \
        platform/packgate.key"
        ))
        .ok();
    workspace
        .run(&verify(&workspace))
        .refused(1, "LockMismatch");
}

#[test]
fn what_packgate_did_not_pack_has_no_lock_and_cannot_be_unpacked() {
    let workspace = signed();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [],
    })
    .to_string();
    let digest = packgate::core::digest::Digest::of_bytes(manifest.as_bytes());
    workspace.write(
        &format!("out/blobs/sha256/{}", digest.hex_digits()),
        &manifest,
    );
    let entry = json!({"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest,
        "size": manifest.len(),
        "annotations": {"org.opencontainers.image.ref.name": "foreign"}});
    workspace.write(
        "out/index.json",
        json!({"schemaVersion": 2, "manifests": [entry]}).to_string(),
    );
    workspace
        .run("sign oci:out:foreign --key packgate.key")
        .ok();
    workspace
        .run("verify oci:out:foreign --key packgate.pub")
        .ok();
    workspace
        .run("verify oci:out:foreign --key packgate.pub --lock lock.yaml")
        .refused(1, "LockMismatch");
    workspace
        .run("unpack oci:out:foreign --to got --key packgate.pub")
        .refused(2, "InvalidSpec");
}

#[test]
fn another_lock_is_refused() {
    let workspace = signed();
    workspace.write(
        "other.yaml",
        workspace
            .read("lock.yaml")
            .replace("version: 1.0.0", "version: 2.0.0"),
    );
    workspace
        .run("verify oci:out:v1 --key packgate.pub --lock other.yaml")
        .refused(1, "LockMismatch");
}

#[test]
fn what_no_policy_governs_is_ungoverned() {
    let workspace = with_two_keys();
    policy(
        &workspace,
        &json!({
            "minimumLevel": 1,
            "builders": [{"id": BUILDER, "authority": "platform", "level": 1}],
        }),
    );
    workspace.write(
        "policy.yaml",
        workspace
            .read("policy.yaml")
            .replace("\"**\"", "\"r.example.com/**\""),
    );
    workspace
        .run("verify oci:out:v1 --policy policy.yaml")
        .refused(1, "ungoverned");
    // There is no registry, and no request is sent.
    workspace
        .run(&format!(
            "verify other.example.com/x@sha256:{} --policy policy.yaml",
            "0".repeat(64)
        ))
        .refused(1, "ungoverned");
}

#[test]
fn a_policy_can_be_tried_out_and_explained() {
    let workspace = with_two_keys();
    policy(
        &workspace,
        &json!({
            "minimumLevel": 1,
            "builders": [{"id": BUILDER, "authority": "platform", "level": 1}],
        }),
    );
    workspace
        .run("pack lock.yaml --to oci:out:v1 --key platform/packgate.key")
        .ok();
    for verb in [
        "policy test policy.yaml --reference oci:out:v1",
        "verify oci:out:v1 --policy policy.yaml",
    ] {
        workspace.run(verb).refused(1, "DigestRequired");
    }
    workspace.write(
        "policy.yaml",
        workspace
            .read("policy.yaml")
            .replace("\"**\"", "\"r.example.com/**\""),
    );
    // There is no registry, and no request is sent.
    let explained = workspace
        .run("policy explain r.example.com/a --policy policy.yaml")
        .ok()
        .to_owned();
    for said in [
        "governs it, by r.example.com/**",
        "signatures of 1 of: platform",
        BUILDER,
    ] {
        assert!(explained.contains(said), "{said}: {explained}");
    }
    for (question, because) in [
        ("other.example.com/a", "none of its references matches"),
        ("r.example.com/a --use Container", "is not about this use"),
    ] {
        let explained = workspace
            .run(&format!(
                "policy explain {question} --policy policy.yaml -o json"
            ))
            .json();
        assert_eq!(
            (&explained["governed"], &explained["policies"][0]["because"]),
            (&json!(false), &json!(because)),
            "{explained}"
        );
    }
    workspace
        .run("policy explain r.example.com/a")
        .refused(2, "--policy");
}

#[test]
fn policies_that_cannot_mean_what_they_say_are_refused() {
    let workspace = with_two_keys();
    policy(
        &workspace,
        &json!({
            "minimumLevel": 1,
            "builders": [{"id": BUILDER, "authority": "platform", "level": 1}],
        }),
    );
    workspace.run("policy check policy.yaml").ok();
    let good = workspace.read("policy.yaml");
    for (from, to) in [
        ("\"**\"", "\"*\""),
        ("\"**\"", "\"nginx\""),
        ("\"authority\":\"platform\"", "\"authority\":\"nobody\""),
        ("\"minimumLevel\":1", "\"minimumLevel\":1,\"surprise\":true"),
        ("\"match\"", "\"threshold\":3,\"match\""),
        ("\"match\"", "\"signatureFormats\":[\"Older\"],\"match\""),
        ("ClusterBundlePolicy", "Surprise"),
    ] {
        assert!(good.contains(from), "{from}");
        workspace.write("policy.yaml", good.replacen(from, to, 1));
        workspace
            .run("policy check policy.yaml")
            .refused(2, "InvalidSpec");
    }
}
