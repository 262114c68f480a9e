//! A private certificate authority, made by openssl, through the real binary: signing, verifying,
//! and every refusal.

use std::path::Path;

use serde_json::json;

use crate::support::{cli::Workspace, tools::wanted};

const NAME: &str = "spiffe://corp.example.com/release";
const BUILDER: &str = "https://ci.example.com/builder";

/// A packed bundle, and `pki/` with the company's CA and an unrelated one. `None` without openssl.
fn company(test: &str) -> Option<Workspace> {
    let workspace = Workspace::with_lock();
    if workspace.tool("sh", ["-c", "command -v openssl"]).code != 0 {
        assert!(!wanted(test), "{test}: openssl is required");
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/company.sh");
    workspace
        .tool("sh", [script.as_os_str(), "pki".as_ref()])
        .ok();
    workspace.run("pack lock.yaml --to oci:out:v1").ok();
    Some(workspace)
}

fn signed(test: &str) -> Option<Workspace> {
    let workspace = company(test)?;
    workspace
        .run("sign oci:out:v1 --key pki/release.key --certificate pki/release.crt")
        .ok();
    Some(workspace)
}

fn by(authority: &str, more: &str) -> String {
    format!(
        "verify oci:out:v1 --certificate-authority {authority} --certificate-identity {NAME} {more}"
    )
}

#[test]
fn what_a_companys_certificate_signed_is_admitted_by_its_authority() {
    let Some(workspace) = signed("what_a_companys_certificate_signed_is_admitted_by_its_authority")
    else {
        return;
    };
    let report = workspace
        .run(&by(
            "pki/ca.crt",
            "--certificate-revocation-list pki/ca.crl -o json",
        ))
        .json();
    assert_eq!(
        (&report["outcome"], &report["admitted"]),
        (&json!("Admitted"), &json!(true))
    );
    let signer = report["policies"][0]["authorities"][0]["signer"]
        .as_str()
        .expect("a signer");
    assert!(
        signer.starts_with(&format!("{NAME} (certificate authority sha256:")),
        "{signer}"
    );
    // The line that reproduces it does.
    let line = report["reproduce"].as_str().expect("a line");
    assert!(
        line.contains(
            "--certificate-authority pki/ca.crt --certificate-revocation-list pki/ca.crl"
        ),
        "{line}"
    );
    workspace
        .run(line.strip_prefix("packgate ").expect("packgate"))
        .ok();
    workspace
        .run(
            "verify oci:out:v1 --certificate-authority pki/ca.crt \
        --certificate-identity-regexp spiffe://corp[.]example[.]com/[a-z]+",
        )
        .ok();
}

#[test]
fn what_the_company_did_not_certify_is_refused() {
    let Some(workspace) = signed("what_the_company_did_not_certify_is_refused") else {
        return;
    };
    workspace
        .run(&by("pki/stranger/ca.crt", ""))
        .refused(1, "UntrustedChain");
    // The root alone: the intermediate is missing.
    workspace
        .run(&by("pki/root/ca.pem", ""))
        .refused(1, "UntrustedChain");
    workspace
        .run(&by(
            "pki/ca.crt",
            "--certificate-revocation-list pki/stranger/ca.crl",
        ))
        .refused(1, "UntrustedChain");
    workspace
        .run(&by(
            "pki/ca.crt",
            "--certificate-revocation-list pki/root/ca.crl",
        ))
        .refused(1, "UntrustedChain");
    let other = "verify oci:out:v1 --certificate-authority pki/ca.crt --certificate-identity \
        spiffe://corp.example.com/other";
    workspace.run(other).refused(1, "IdentityMismatch");
    workspace
        .keys()
        .run("verify oci:out:v1 --key packgate.pub")
        .refused(1, "NoMatchingAuthority");
}

#[test]
fn a_certificate_that_was_revoked_is_refused() {
    let Some(workspace) = company("a_certificate_that_was_revoked_is_refused") else {
        return;
    };
    workspace
        .run("sign oci:out:v1 --key pki/revoked.key --certificate pki/revoked.crt")
        .ok();
    workspace.run(&by("pki/ca.crt", "")).ok();
    workspace
        .run(&by(
            "pki/ca.crt",
            "--certificate-revocation-list pki/none.crl",
        ))
        .ok();
    workspace
        .run(&by(
            "pki/ca.crt",
            "--certificate-revocation-list pki/ca.crl",
        ))
        .refused(1, "Revoked");
}

#[test]
fn a_companys_certificate_attests_too() {
    let Some(workspace) = signed("a_companys_certificate_attests_too") else {
        return;
    };
    let build = json!({"buildType": "https://example.com/t", "externalParameters": {}});
    workspace.write(
        "provenance.json",
        json!({"buildDefinition": build, "runDetails": {"builder": {"id": BUILDER}}}).to_string(),
    );
    let with_builder = by("pki/ca.crt", &format!("--builder-id {BUILDER}"));
    workspace.run(&with_builder).refused(1, "NoProvenance");
    let attest = "attest oci:out:v1 --predicate provenance.json --type slsaprovenance1 --key";
    workspace
        .run(&format!(
            "{attest} pki/release.key --certificate pki/release.crt"
        ))
        .ok();
    workspace.run(&with_builder).ok();
}

#[test]
fn a_policy_takes_the_authority_from_config_maps() {
    let Some(workspace) = signed("a_policy_takes_the_authority_from_config_maps") else {
        return;
    };
    let map = |name: &str, key: &str, file: &str| {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name},
            "data": {key: workspace.read(file)},
        })
        .to_string()
    };
    let policy = |kind: &str| {
        let certificate = json!({
            "caRef": {"kind": kind, "name": "corp-ca"},
            "crlRef": {"kind": "ConfigMap", "name": "corp-crl"},
            "subject": {"exact": NAME},
        });
        let spec = json!({
            "match": {"references": ["**"]},
            "requireDigest": false,
            "authorities": [{"name": "pki", "certificate": certificate}],
        });
        json!({
            "apiVersion": "packgate.dev/v1alpha1",
            "kind": "ClusterBundlePolicy",
            "metadata": {"name": "corp"},
            "spec": spec,
        })
        .to_string()
    };
    let write = |name: &str, kind: &str, ca: &str, crl: &str| {
        let documents = [
            policy(kind),
            map("corp-ca", "ca.crt", ca),
            map("corp-crl", "ca.crl", crl),
        ];
        workspace.write(name, documents.join("\n---\n"));
    };
    write("good.yaml", "ConfigMap", "pki/ca.crt", "pki/ca.crl");
    workspace.run("policy check good.yaml").ok();
    workspace.run("verify oci:out:v1 --policy good.yaml").ok();
    write(
        "stranger.yaml",
        "ConfigMap",
        "pki/stranger/ca.crt",
        "pki/stranger/ca.crl",
    );
    workspace
        .run("verify oci:out:v1 --policy stranger.yaml")
        .refused(1, "UntrustedChain");
    write("secret.yaml", "Secret", "pki/ca.crt", "pki/ca.crl");
    workspace
        .run("policy check secret.yaml")
        .refused(2, "the webhook reads no Secrets");
    write("key.yaml", "ConfigMap", "pki/release.key", "pki/ca.crl");
    workspace
        .run("policy check key.yaml")
        .refused(2, "is a PRIVATE KEY, not a CERTIFICATE");
}

#[test]
fn what_makes_no_sense_about_certificates_is_invalid() {
    let Some(workspace) = company("what_makes_no_sense_about_certificates_is_invalid") else {
        return;
    };
    for line in [
        format!("verify oci:out:v1 --certificate-identity {NAME}"),
        "verify oci:out:v1 --certificate-authority pki/ca.crt".into(),
        "verify oci:out:v1 --key pki/x --certificate-revocation-list pki/ca.crl".into(),
        by(
            "pki/ca.crt",
            "--certificate-oidc-issuer https://oidc.example.com",
        ),
        by("pki/release.crt", ""),
        by("pki/ca.crt", "--certificate-revocation-list pki/ca.crt"),
        "sign oci:out:v1 --certificate pki/release.crt".into(),
        "sign oci:out:v1 --key pki/release.key --certificate pki/revoked.crt".into(),
        "sign oci:out:v1 --key pki/release.key --certificate pki/release.key".into(),
    ] {
        let run = workspace.run(&line);
        assert_eq!(run.code, 2, "{line}: {run:#?}");
    }
    workspace
        .run(&by("pki/ca.crt", ""))
        .refused(1, "NoSignatures");
}
