//! Our keyless signatures, verified by cosign 3.1 and 2.5, with a private Sigstore of real servers.

use std::fs;

use serde_json::Value;

use super::{
    each, pack, pinned,
    sigstore::{
        BUILDER, PROVENANCE, bundle_file, cosign_2_verify, cosign_verify, image, refused_by_cosign,
        verify_file,
    },
};
use crate::support::{
    cli::{Run, Workspace},
    sigstore::{Identity, REKORS, Rekor, cosign, sigstore, verify},
    tools::{self, Kind, Server},
};

/// Signs an image, and attests that [`BUILDER`] made it; the referrer of the attestation.
fn sign_and_attest(workspace: &Workspace, who: &Identity, rekor: Rekor, image: &str) -> String {
    workspace.write("slsa.json", PROVENANCE);
    ours(workspace, "sign --plain-http", who, rekor, image).ok();
    ours(
        workspace,
        "attest --plain-http --predicate slsa.json --type slsaprovenance1",
        who,
        rekor,
        image,
    )
    .ok()
    .to_owned()
}

/// Runs packgate, split at spaces, as a signer.
fn ours(workspace: &Workspace, line: &str, who: &Identity, rekor: Rekor, last: &str) -> Run {
    let (config, root) = (sigstore().signing_config(rekor), sigstore().trusted_root());
    let flags = [
        "--identity-token",
        &who.token,
        "--signing-config",
        &config,
        "--trusted-root",
        &root,
        last,
    ];
    workspace.packgate(line.split_whitespace().chain(flags))
}

#[test]
fn cosign_accepts_what_we_sign_keyless() {
    each(
        "cosign_accepts_what_we_sign_keyless",
        |_, workspace, server| {
            for rekor in REKORS {
                let image = image(workspace, server, &format!("{rekor:?}"));
                let who = Identity::email("dev@example.com");
                sign_and_attest(workspace, &who, rekor, &image);
                cosign_verify(workspace, "verify", &who, &image).ok();
                cosign_verify(
                    workspace,
                    "verify-attestation --type slsaprovenance1",
                    &who,
                    &image,
                )
                .ok();
                verify(
                    workspace,
                    &image,
                    &who,
                    &["--builder-id", BUILDER, "--transparency", "Required"],
                )
                .ok();

                refused_by_cosign(&cosign_verify(
                    workspace,
                    "verify-attestation --type spdxjson",
                    &who,
                    &image,
                ));
                for other in [
                    who.named("dev@example.org"),
                    who.issued_by(&sigstore().issuer("uri")),
                ] {
                    refused_by_cosign(&cosign_verify(workspace, "verify", &other, &image));
                    refused_by_cosign(&cosign_verify(
                        workspace,
                        "verify-attestation --type slsaprovenance1",
                        &other,
                        &image,
                    ));
                    verify(workspace, &image, &other, &[]).refused(1, "IdentityMismatch");
                }
            }
        },
    );
}

#[test]
fn cosign_accepts_our_keyless_attestations_as_files() {
    each(
        "cosign_accepts_our_keyless_attestations_as_files",
        |_, workspace, server| {
            for rekor in REKORS {
                let image = image(workspace, server, &format!("{rekor:?}"));
                let who = Identity::email("dev@example.com");
                let referrer = sign_and_attest(workspace, &who, rekor, &image);
                bundle_file(workspace, &image, &referrer);
                let digest = image.split_once("@sha256:").expect("a digest").1;
                let (root, other, stranger) = (
                    sigstore().trusted_root(),
                    "0".repeat(64),
                    who.named("dev@example.org"),
                );
                let cases = [
                    (&who, "slsaprovenance1", digest, true),
                    (&stranger, "slsaprovenance1", digest, false),
                    (&who, "spdxjson", digest, false),
                    (&who, "slsaprovenance1", &other, false),
                ];
                for (who, kind, hex, accepted) in cases {
                    let flags = [&["--trusted-root", &root], &who.expected()[..]].concat();
                    let run = verify_file(workspace, &flags, kind, hex);
                    assert_eq!(run.code == 0, accepted, "{who:?} {kind} {hex}: {run:?}");
                }
            }
        },
    );
}

#[test]
fn cosign_2_accepts_our_keyless_attestations_with_a_rekor_v1() {
    each(
        "cosign_2_accepts_our_keyless_attestations_with_a_rekor_v1",
        |_, workspace, server| {
            let image = image(workspace, server, "old");
            let who = Identity::email("dev@example.com");
            sign_and_attest(workspace, &who, Rekor::V1, &image);
            cosign_2_verify(workspace, &who, &image).ok();
            refused_by_cosign(&cosign_2_verify(
                workspace,
                &who.named("dev@example.org"),
                &image,
            ));
            refused_by_cosign(&cosign_2_verify(
                workspace,
                &who.issued_by(&sigstore().issuer("uri")),
                &image,
            ));
        },
    );
}

#[test]
fn a_pack_signs_keyless_and_with_witnesses() {
    each(
        "a_pack_signs_keyless_and_with_witnesses",
        |_, workspace, server| {
            workspace.keys();
            let (root, config) = (
                sigstore().trusted_root(),
                sigstore().signing_config(Rekor::V2),
            );
            let services = format!("--signing-config {config} --trusted-root {root}");
            let who = Identity::email("dev@example.com");
            let keyless = pinned(&pack(
                workspace,
                server,
                "Image",
                &format!("--identity-token {} {services}", who.token),
            ));
            cosign_verify(workspace, "verify", &who, &keyless).ok();
            cosign_verify(
                workspace,
                "verify-attestation --type slsaprovenance1",
                &who,
                &keyless,
            )
            .ok();
            verify(
                workspace,
                &keyless,
                &who,
                &["--builder-id", "https://packgate.dev/builder/cli"],
            )
            .ok();

            let keyed = pinned(&pack(
                workspace,
                server,
                "Artifact",
                &format!("--key packgate.key {services}"),
            ));
            cosign(
                workspace,
                "verify --key packgate.pub",
                &["--trusted-root", &root],
                &keyed,
            )
            .ok();
            let line = format!(
                "verify --plain-http {keyed} --key packgate.pub --trusted-root {root} \
                    --transparency Required"
            );
            workspace.run(&line).ok();
        },
    );
}

#[test]
fn tokens_come_from_files_and_the_environment_too() {
    if !tools::wanted("tokens_come_from_files_and_the_environment_too") {
        return;
    }
    let workspace = Workspace::with_lock();
    let server = Server::start(Kind::Referrers, &workspace);
    let (root, config) = (
        sigstore().trusted_root(),
        sigstore().signing_config(Rekor::V2),
    );
    let who = Identity::email("dev@example.com");
    workspace.write("token", &who.token);
    let services = [
        "--plain-http",
        "--signing-config",
        &config,
        "--trusted-root",
        &root,
    ];

    let image = image(&workspace, &server, "file");
    workspace
        .packgate(
            ["sign", &image, "--identity-token-file", "token"]
                .iter()
                .chain(&services),
        )
        .ok();
    verify(&workspace, &image, &who, &[]).ok();

    let image = super::sigstore::image(&workspace, &server, "environment");
    let mut command = workspace.command(crate::support::cli::BINARY);
    command
        .args(["sign", &image])
        .args(services)
        .env("SIGSTORE_ID_TOKEN", &who.token);
    let run = Run::from(command.output().expect("the binary runs"));
    run.ok();
    verify(&workspace, &image, &who, &[]).ok();

    for (run, why) in [
        (run, "signed"),
        (
            workspace.packgate(["sign", &image].iter().chain(&services)),
            "no token",
        ),
    ] {
        assert!(
            !run.stderr.contains(&who.token) && !run.stdout.contains(&who.token),
            "{why}: {run:?}"
        );
    }
}

#[test]
fn what_fulcio_refuses_is_not_signed() {
    if !tools::wanted("what_fulcio_refuses_is_not_signed") {
        return;
    }
    let workspace = Workspace::with_lock();
    let server = Server::start(Kind::Referrers, &workspace);
    let claims: [(&str, &[(&str, &str)]); 3] = [
        (
            "another audience",
            &[("email", "dev@example.com"), ("aud", "registry")],
        ),
        (
            "expired",
            &[("email", "dev@example.com"), ("exp", "1700000000")],
        ),
        (
            "not verified",
            &[("email", "dev@example.com"), ("email_verified", "false")],
        ),
    ];
    for (why, claims) in claims {
        println!("{why}");
        let image = image(&workspace, &server, &why.replace(' ', "-"));
        let who = Identity::new("email", "dev@example.com", claims);
        let run = ours(&workspace, "sign --plain-http", &who, Rekor::V2, &image);
        assert_ne!(run.code, 0, "{run:?}");
        assert!(!run.stderr.contains(&who.token), "{why}: the token is told");
        verify(&workspace, &image, &who, &[]).refused(1, "NoSignatures");
    }
}

#[test]
fn cosign_accepts_what_sign_bundle_signs() {
    if !tools::wanted("cosign_accepts_what_sign_bundle_signs") {
        return;
    }
    let workspace = Workspace::with_lock();
    let who = Identity::email("dev@example.com");
    let root = sigstore().trusted_root();
    let flags = [&["--trusted-root", &root], &who.expected()[..]].concat();
    for rekor in REKORS {
        ours(
            &workspace,
            "sigstore sign-bundle --bundle bundle.json",
            &who,
            rekor,
            "lock.yaml",
        )
        .ok();
        cosign(
            &workspace,
            "verify-blob --bundle bundle.json",
            &flags,
            "lock.yaml",
        )
        .ok();
        refused_by_cosign(&cosign(
            &workspace,
            "verify-blob --bundle bundle.json",
            &flags,
            "files/notes.txt",
        ));

        let hex = "1".repeat(64);
        let statement = serde_json::json!({
            "_type": "https://in-toto.io/Statement/v1", "subject": [
                {"name": "a", "digest": {"sha256": hex}},
            ],
            "predicateType": "https://example.com/tested/v1", "predicate": {"passed": true},
        });
        workspace.write("statement.json", statement.to_string());
        ours(
            &workspace,
            "sigstore sign-bundle --in-toto --bundle bundle.json",
            &who,
            rekor,
            "statement.json",
        )
        .ok();
        verify_file(&workspace, &flags, "https://example.com/tested/v1", &hex).ok();
        refused_by_cosign(&verify_file(
            &workspace,
            &flags,
            "https://example.com/tested/v1",
            &"2".repeat(64),
        ));
    }
}

#[test]
fn nothing_is_stored_that_the_trusted_root_does_not_vouch_for() {
    const PARTS: [(&str, &str); 4] = [
        ("certificateAuthorities", "UntrustedChain"),
        ("ctlogs", "UntrustedChain"),
        ("tlogs", "InvalidInclusionProof"),
        ("timestampAuthorities", "InvalidTimestamp"),
    ];
    if !tools::wanted("nothing_is_stored_that_the_trusted_root_does_not_vouch_for") {
        return;
    }
    let workspace = Workspace::with_lock();
    let server = Server::start(Kind::Referrers, &workspace);
    let who = Identity::email("dev@example.com");
    let config = sigstore().signing_config(Rekor::V2);
    let whole: Value =
        serde_json::from_str(&fs::read_to_string(sigstore().trusted_root()).expect("a file"))
            .expect("JSON");
    for (part, reason) in PARTS {
        let image = image(&workspace, &server, part);
        let mut root = whole.clone();
        root.as_object_mut()
            .and_then(|root| root.remove(part))
            .expect("the part");
        workspace.write("root.json", root.to_string());
        let flags = [
            "sign",
            "--plain-http",
            &image,
            "--identity-token",
            &who.token,
            "--signing-config",
            &config,
            "--trusted-root",
            "root.json",
        ];
        workspace.packgate(flags).refused(1, reason);
        verify(&workspace, &image, &who, &[]).refused(1, "NoSignatures");
    }
}
