//! Keys of every type, on the command line alone.

use std::{fs, os::unix::fs::PermissionsExt};

use crate::support::cli::Workspace;

/// The values of `--algorithm`, and the key's own description.
pub(crate) const ALGORITHMS: [(&str, &str); 7] = [
    ("ECDSA-P256", "ECDSA P-256 SHA-256"),
    ("ECDSA-P384", "ECDSA P-384 SHA-384"),
    ("ECDSA-P521", "ECDSA P-521 SHA-512"),
    ("RSA-2048", "RSA PKCS#1 SHA-256"),
    ("RSA-3072", "RSA PKCS#1 SHA-256"),
    ("RSA-4096", "RSA PKCS#1 SHA-256"),
    ("Ed25519", "Ed25519"),
];

fn fixture(name: &str) -> String {
    format!("{}/tests/data/keys/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn keys_of_every_algorithm_sign_attest_and_verify() {
    let workspace = Workspace::with_lock();
    workspace.run("pack lock.yaml --to oci:out:v1").ok();
    for (algorithm, name) in ALGORITHMS {
        workspace
            .run(&format!(
                "keys generate --algorithm {algorithm} --out-dir {algorithm}"
            ))
            .ok();
        let public = workspace
            .run(&format!("keys public {algorithm}/packgate.key -o json"))
            .json();
        assert_eq!(public["algorithm"], name);
        assert_eq!(
            public["publicKey"],
            workspace.read(&format!("{algorithm}/packgate.pub"))
        );
        workspace
            .run(&format!("verify oci:out:v1 --key {algorithm}/packgate.pub"))
            .refused(1, "No");
        workspace
            .run(&format!(
                "pack lock.yaml --to oci:out:v1 --key {algorithm}/packgate.key"
            ))
            .ok();
        let verify = format!(
            "verify oci:out:v1 --key {algorithm}/packgate.pub --builder-id \
                https://packgate.dev/builder/cli"
        );
        workspace.run(&verify).ok();
    }
}

#[test]
fn algorithms_have_sigstores_names_too() {
    let workspace = Workspace::new();
    for (name, expected) in [
        ("rsa-sign-pkcs1-2048-sha256", "RSA PKCS#1 SHA-256"),
        ("ecdsa-sha2-384-nistp384", "ECDSA P-384 SHA-384"),
    ] {
        workspace
            .run(&format!(
                "keys generate --algorithm {name} --out-dir {name}"
            ))
            .ok();
        assert_eq!(
            workspace
                .run(&format!("keys public {name}/packgate.key -o json"))
                .json()["algorithm"],
            expected
        );
        let mode = fs::metadata(workspace.file(&format!("{name}/packgate.key")))
            .expect("a file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    workspace
        .run("keys generate --algorithm dsa")
        .refused(2, "ECDSA-P256");
}

#[test]
fn keys_that_nobody_signs_or_verifies_with_are_refused() {
    let workspace = Workspace::with_lock();
    workspace.run("pack lock.yaml --to oci:out:v1").ok();
    for (key, part) in [
        ("rsa-1024.pem", "of a kind that signs"),
        ("rsa-pss.pem", "RSASSA-PSS"),
        ("secp256k1.pem", "of a kind that signs"),
    ] {
        workspace
            .run(&format!("sign oci:out:v1 --key {}", fixture(key)))
            .refused(2, part);
    }
    for (key, part) in [
        ("rsa-1024.pub", "2048 to 4096"),
        ("rsa-5120.pub", "2048 to 4096"),
        ("rsa-pss-open.pub", "must name SHA-256"),
    ] {
        workspace
            .run(&format!("verify oci:out:v1 --key {}", fixture(key)))
            .refused(2, part);
    }
    workspace
        .run(&format!(
            "verify oci:out:v1 --key {} --key {}",
            fixture("rsa.pub"),
            fixture("rsa-as-pss.pub")
        ))
        .refused(2, "the same RSA key");
    workspace
        .run(&format!(
            "verify oci:out:v1 --key {}",
            fixture("rsa-pss.pub")
        ))
        .refused(1, "NoSignatures");
}

/// docs/threat-model.md, row 28: PSS is for keys that declare it; the same key for PKCS#1 does not
/// verify it.
#[test]
fn a_signature_with_another_padding_than_the_key_declares_is_refused() {
    let workspace = Workspace::with_lock();
    workspace
        .run(&format!(
            "pack lock.yaml --to oci:out:v1 --key {}",
            fixture("rsa.pem")
        ))
        .ok();
    workspace
        .run(&format!("verify oci:out:v1 --key {}", fixture("rsa.pub")))
        .ok();
    workspace
        .run(&format!(
            "verify oci:out:v1 --key {}",
            fixture("rsa-as-pss.pub")
        ))
        .refused(1, "NoMatchingAuthority");
}

#[test]
fn a_key_of_a_kms_without_its_program_is_no_signer() {
    let workspace = Workspace::with_lock();
    workspace.run("pack lock.yaml --to oci:out:v1").ok();
    workspace.write("predicate.json", "{}");
    for line in [
        "sign oci:out:v1 --key awskms:///alias/x",
        "attest oci:out:v1 --predicate predicate.json --type custom --key awskms:///alias/x",
        "pack lock.yaml --to oci:out:v2 --key awskms:///alias/x",
        "keys public awskms:///alias/x",
        "verify oci:out:v1 --key awskms:///alias/x",
    ] {
        workspace
            .run(line)
            .refused(2, "program sigstore-kms-awskms is not on the PATH");
    }
    workspace
        .run("sign oci:out:v1 --key https://keys.example.com/cosign.key")
        .refused(2, "keys are not read from https://");
    workspace
        .run("sign oci:out:v1 --key a/b://x")
        .refused(2, "neither a file nor NAME://KEY");
}
