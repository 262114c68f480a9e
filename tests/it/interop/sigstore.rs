//! Keyless signatures and transparency logs, with a private Sigstore of real servers: cosign's
//! signatures, and what both tools refuse.

use std::{
    fs,
    path::Path,
    str::FromStr,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{each, pack, pinned};
use crate::support::{
    cli::{Run, Workspace},
    sigstore::{
        Identity, REKORS, Rekor, Sigstore, cosign, cosign_2, sigstore, start, verify, verify_with,
    },
    tools::{self, Kind, Server},
};

pub(super) const BUILDER: &str = "https://ci.example.com/b";
pub(super) const PROVENANCE: &str = r#"{"buildDefinition":{"buildType":"https://ci.example.com/t","externalParameters":{},"resolvedDependencies":[]},"runDetails":{"builder":{"id":"https://ci.example.com/b"}}}"#;

/// A new, unsigned image.
pub(super) fn image(workspace: &Workspace, server: &Server, name: &str) -> String {
    pinned(&pack(
        workspace,
        server,
        "Image",
        &format!("--annotation name={name}"),
    ))
}

/// Signs an image with cosign, and attests that [`BUILDER`] made it.
fn sign_and_attest(workspace: &Workspace, who: &Identity, rekor: Rekor, image: &str) {
    workspace.write("slsa.json", PROVENANCE);
    cosign(workspace, "sign", &who.with_cosign(workspace, rekor), image).ok();
    cosign(
        workspace,
        "attest --type slsaprovenance1 --predicate slsa.json",
        &who.with_cosign(workspace, rekor),
        image,
    )
    .ok();
}

/// cosign's verdict on an image with only this identity as signer.
pub(super) fn cosign_verify(workspace: &Workspace, verb: &str, who: &Identity, image: &str) -> Run {
    let root = sigstore().trusted_root();
    cosign(
        workspace,
        verb,
        &[&["--trusted-root", &root], &who.expected()[..]].concat(),
        image,
    )
}

#[track_caller]
pub(super) fn refused_by_cosign(run: &Run) {
    assert_ne!(run.code, 0, "{run:?}");
}

#[test]
fn what_cosign_signs_keyless_is_accepted() {
    each(
        "what_cosign_signs_keyless_is_accepted",
        |_, workspace, server| {
            for rekor in REKORS {
                let image = image(workspace, server, &format!("{rekor:?}"));
                let who = Identity::email("dev@example.com");
                verify(workspace, &image, &who, &[]).refused(1, "NoSignatures");
                sign_and_attest(workspace, &who, rekor, &image);
                cosign_verify(workspace, "verify", &who, &image).ok();
                verify(workspace, &image, &who, &[]).ok();
                verify(workspace, &image, &who, &["--builder-id", BUILDER]).ok();
                verify(
                    workspace,
                    &image,
                    &who,
                    &["--builder-id", "https://ci.example.com/x"],
                )
                .refused(1, "BuilderNotTrusted");
            }
        },
    );
}

#[test]
fn another_identity_or_issuer_is_refused_by_both() {
    each(
        "another_identity_or_issuer_is_refused_by_both",
        |_, workspace, server| {
            for rekor in REKORS {
                let image = image(workspace, server, &format!("{rekor:?}"));
                let who = Identity::email("dev@example.com");
                sign_and_attest(workspace, &who, rekor, &image);
                let others = [
                    who.named("dev@example.org"),
                    who.named("Dev@example.com"),
                    who.issued_by(&sigstore().issuer("uri")),
                    who.issued_by(&format!("{}/", who.issuer)),
                ];
                for other in others {
                    refused_by_cosign(&cosign_verify(workspace, "verify", &other, &image));
                    verify(workspace, &image, &other, &[]).refused(1, "IdentityMismatch");
                }
            }
        },
    );
}

#[test]
fn an_attestation_of_another_type_is_refused_by_both() {
    each(
        "an_attestation_of_another_type_is_refused_by_both",
        |_, workspace, server| {
            let image = image(workspace, server, "sbom");
            let who = Identity::email("dev@example.com");
            workspace.write("sbom.json", r#"{"spdxVersion":"SPDX-2.3"}"#);
            cosign(
                workspace,
                "attest --type spdxjson --predicate sbom.json",
                &who.with_cosign(workspace, Rekor::V2),
                &image,
            )
            .ok();
            cosign_verify(
                workspace,
                "verify-attestation --type spdxjson",
                &who,
                &image,
            )
            .ok();
            refused_by_cosign(&cosign_verify(
                workspace,
                "verify-attestation --type slsaprovenance1",
                &who,
                &image,
            ));
            verify(workspace, &image, &who, &[]).refused(1, "PredicateTypeMismatch");
            cosign(
                workspace,
                "sign",
                &who.with_cosign(workspace, Rekor::V2),
                &image,
            )
            .ok();
            verify(workspace, &image, &who, &["--builder-id", BUILDER])
                .refused(1, "PredicateTypeMismatch");
        },
    );
}

#[test]
fn a_signature_of_another_image_is_refused_by_both() {
    each(
        "a_signature_of_another_image_is_refused_by_both",
        |_, workspace, server| {
            let (signed, other) = (
                image(workspace, server, "signed"),
                image(workspace, server, "other"),
            );
            let who = Identity::email("dev@example.com");
            cosign(
                workspace,
                "sign",
                &who.with_cosign(workspace, Rekor::V2),
                &signed,
            )
            .ok();
            refused_by_cosign(&cosign_verify(workspace, "verify", &who, &other));
            verify(workspace, &other, &who, &[]).refused(1, "NoSignatures");
        },
    );
}

#[test]
fn identities_of_every_kind_are_accepted_as_they_stand_in_the_certificate() {
    const WORKFLOW: &str = "org/siem/.github/workflows/release.yml@refs/heads/main";
    const COMMIT: &str = "438cd31d2c34e779160f3ffc22d3642012be09e0";
    const CLAIMS: [(&str, &str); 16] = [
        ("sub", "repo:org/siem:ref:refs/heads/main"),
        ("job_workflow_ref", WORKFLOW),
        ("job_workflow_sha", COMMIT),
        ("workflow", "release"),
        ("workflow_ref", WORKFLOW),
        ("workflow_sha", COMMIT),
        ("sha", COMMIT),
        ("ref", "refs/heads/main"),
        ("event_name", "push"),
        ("repository", "org/siem"),
        ("repository_id", "1"),
        ("repository_owner", "org"),
        ("repository_owner_id", "2"),
        ("repository_visibility", "public"),
        ("run_id", "3"),
        ("run_attempt", "1"),
    ];
    if !tools::wanted("identities_of_every_kind_are_accepted_as_they_stand_in_the_certificate") {
        return;
    }
    let workspace = Workspace::with_lock();
    let server = Server::start(Kind::Referrers, &workspace);
    let url = format!("{}/team/a", sigstore().url("ct-log"));
    let workflow = format!("https://github.com/{WORKFLOW}");
    let runner = [
        CLAIMS.as_slice(),
        &[("runner_environment", "github-hosted")],
    ]
    .concat();
    let identities = [
        Identity::new("uri", &url, &[("sub", &url)]),
        Identity::new("username", "dev!127.0.0.1", &[("sub", "dev")]),
        Identity::new(
            "spiffe",
            "spiffe://sigstore.test/team/a",
            &[("sub", "spiffe://sigstore.test/team/a")],
        ),
        Identity::new("github-workflow", &workflow, &runner),
    ];
    for who in identities {
        let image = image(
            &workspace,
            &server,
            who.issuer.rsplit_once('/').expect("a name").1,
        );
        sign_and_attest(&workspace, &who, Rekor::V2, &image);
        cosign_verify(&workspace, "verify", &who, &image).ok();
        verify(&workspace, &image, &who, &["--builder-id", BUILDER]).ok();
        let other = who.named(&format!("{}x", who.name));
        refused_by_cosign(&cosign_verify(&workspace, "verify", &other, &image));
        verify(&workspace, &image, &other, &[]).refused(1, "IdentityMismatch");
    }
}

#[test]
fn each_part_of_the_trusted_root_is_needed() {
    // Without the timestamp authority cosign accepts the time of a Rekor v1; packgate refuses an
    // unverified timestamp.
    const PARTS: [(&str, Rekor, &str, bool); 8] = [
        ("certificateAuthorities", Rekor::V2, "UntrustedChain", true),
        ("certificateAuthorities", Rekor::V1, "UntrustedChain", true),
        ("ctlogs", Rekor::V2, "UntrustedChain", true),
        ("ctlogs", Rekor::V1, "UntrustedChain", true),
        ("tlogs", Rekor::V2, "InvalidInclusionProof", true),
        ("tlogs", Rekor::V1, "InvalidTimestamp", true),
        ("timestampAuthorities", Rekor::V2, "InvalidTimestamp", true),
        ("timestampAuthorities", Rekor::V1, "InvalidTimestamp", false),
    ];
    if !tools::wanted("each_part_of_the_trusted_root_is_needed") {
        return;
    }
    let workspace = Workspace::with_lock();
    let server = Server::start(Kind::Referrers, &workspace);
    let who = Identity::email("dev@example.com");
    let whole = Value::from_str(&fs::read_to_string(sigstore().trusted_root()).expect("a file"))
        .expect("JSON");
    let images = REKORS.map(|rekor| {
        let image = image(&workspace, &server, &format!("{rekor:?}"));
        cosign(
            &workspace,
            "sign",
            &who.with_cosign(&workspace, rekor),
            &image,
        )
        .ok();
        (rekor, image)
    });
    for (part, rekor, reason, by_cosign) in PARTS {
        println!("{rekor:?} without {part}");
        let mut root = whole.clone();
        root.as_object_mut()
            .and_then(|root| root.remove(part))
            .expect("the part");
        workspace.write("root.json", root.to_string());
        let image = &images
            .iter()
            .find(|(kind, _)| *kind == rekor)
            .expect("an image")
            .1;
        verify_with(&workspace, image, &who, "root.json", &[]).refused(1, reason);
        let other = cosign(
            &workspace,
            "verify",
            &[&["--trusted-root", "root.json"], &who.expected()[..]].concat(),
            image,
        );
        assert_eq!(other.code != 0, by_cosign, "{other:?}");
    }
}

#[test]
fn what_cosign_signs_with_a_key_and_logs_is_accepted() {
    each(
        "what_cosign_signs_with_a_key_and_logs_is_accepted",
        |_, workspace, server| {
            workspace.tool("cosign", ["generate-key-pair"]).ok();
            workspace.keys().write("slsa.json", PROVENANCE);
            let root = sigstore().trusted_root();
            for rekor in REKORS {
                let image = image(workspace, server, &format!("{rekor:?}"));
                let config = sigstore().signing_config(rekor);
                let signing = [
                    "--key",
                    "cosign.key",
                    "--signing-config",
                    &config,
                    "--trusted-root",
                    &root,
                ];
                cosign(workspace, "sign", &signing, &image).ok();
                cosign(
                    workspace,
                    "attest --type slsaprovenance1 --predicate slsa.json",
                    &signing,
                    &image,
                )
                .ok();
                cosign(
                    workspace,
                    "verify --key cosign.pub",
                    &["--trusted-root", &root],
                    &image,
                )
                .ok();
                let verify =
                    |flags: &str| workspace.run(&format!("verify --plain-http {image} {flags}"));
                verify(&format!("--key cosign.pub --builder-id {BUILDER}")).ok();
                verify(&format!(
                    "--key cosign.pub --builder-id {BUILDER} --trusted-root {root} \
                    --transparency Required"
                ))
                .ok();
                verify("--key packgate.pub").refused(1, "NoMatchingAuthority");
                verify(&format!("--key packgate.pub --trusted-root {root}"))
                    .refused(1, "NoMatchingAuthority");
            }
        },
    );
}

#[test]
fn cosign_accepts_our_attestations_as_files() {
    each(
        "cosign_accepts_our_attestations_as_files",
        |_, workspace, server| {
            workspace.keys().write("slsa.json", PROVENANCE);
            let image = image(workspace, server, "files");
            let attest = format!(
                "attest {image} --plain-http --predicate slsa.json --type slsaprovenance1 --key \
                    packgate.key"
            );
            bundle_file(workspace, &image, workspace.run(&attest).ok());
            let digest = image.split_once("@sha256:").expect("a digest").1;
            let other = "0".repeat(64);
            for (kind, hex, accepted) in [
                ("slsaprovenance1", digest, true),
                ("spdxjson", digest, false),
                ("slsaprovenance1", &other, false),
            ] {
                let run = verify_file(
                    workspace,
                    &["--key", "packgate.pub", "--insecure-ignore-tlog"],
                    kind,
                    hex,
                );
                assert_eq!(run.code == 0, accepted, "{kind} {hex}: {run:?}");
            }
        },
    );
}

/// Fetches the Sigstore bundle of a referrer into `bundle.json`.
pub(super) fn bundle_file(workspace: &Workspace, image: &str, referrer: &str) {
    let repository = image.split_once('@').expect("a digest").0;
    let manifest = workspace
        .tool("crane", ["manifest", &format!("{repository}@{referrer}")])
        .json();
    let blob = manifest["layers"][0]["digest"]
        .as_str()
        .expect("a digest")
        .to_owned();
    workspace.write(
        "bundle.json",
        workspace
            .tool("crane", ["blob", &format!("{repository}@{blob}")])
            .ok(),
    );
}

/// cosign's verdict on `bundle.json` as an attestation of this type about this digest.
pub(super) fn verify_file(workspace: &Workspace, flags: &[&str], kind: &str, hex: &str) -> Run {
    let about = [
        "verify-blob-attestation",
        "--bundle",
        "bundle.json",
        "--type",
        kind,
        "--digest",
        hex,
        "--digestAlg",
        "sha256",
    ];
    workspace.tool("cosign", about.iter().chain(flags))
}

#[test]
fn a_key_s_log_entries_count_only_with_their_trusted_root() {
    if !tools::wanted("a_key_s_log_entries_count_only_with_their_trusted_root") {
        return;
    }
    let workspace = Workspace::with_lock();
    let server = Server::start(Kind::Referrers, &workspace);
    workspace.keys();
    workspace
        .tool("cosign", ["trusted-root", "create", "--out", "nobody.json"])
        .ok();
    let root = sigstore().trusted_root();
    let verify = |image: &str, flags: &str| {
        workspace.run(&format!(
            "verify --plain-http {image} --key packgate.pub {flags}"
        ))
    };

    let unlogged = image(&workspace, &server, "unlogged");
    workspace
        .run(&format!("sign --plain-http {unlogged} --key packgate.key"))
        .ok();
    verify(&unlogged, &format!("--trusted-root {root}")).ok();
    verify(
        &unlogged,
        &format!("--trusted-root {root} --transparency Required"),
    )
    .refused(1, "NoTrustedTime");

    for rekor in REKORS {
        let image = image(&workspace, &server, &format!("{rekor:?}"));
        let config = sigstore().signing_config(rekor);
        cosign(
            &workspace,
            "sign --key packgate.key",
            &["--signing-config", &config, "--trusted-root", &root],
            &image,
        )
        .ok();
        verify(
            &image,
            &format!("--trusted-root {root} --transparency Required"),
        )
        .ok();
        verify(&image, "").ok();
        verify(&image, "--trusted-root nobody.json").refused(1, "InvalidInclusionProof");
    }
}

#[test]
fn cosign_2_accepts_attestations_with_a_rekor_v1() {
    each(
        "cosign_2_accepts_attestations_with_a_rekor_v1",
        |_, workspace, server| {
            let image = image(workspace, server, "old");
            let who = Identity::email("dev@example.com");
            sign_and_attest(workspace, &who, Rekor::V1, &image);
            cosign_2_verify(workspace, &who, &image).ok();
            let other = who.named("dev@example.org");
            refused_by_cosign(&cosign_2_verify(workspace, &other, &image));
        },
    );
}

/// cosign 2.5's verdict on the provenance of an image.
pub(super) fn cosign_2_verify(workspace: &Workspace, who: &Identity, image: &str) -> Run {
    let root = sigstore().trusted_root();
    let flags = [&["--trusted-root", &root], &who.expected()[..]].concat();
    cosign_2(
        workspace,
        "verify-attestation --new-bundle-format --type slsaprovenance1",
        &flags,
        image,
    )
}

#[test]
fn legacy_signatures_count_for_nothing_when_nothing_lists_them() {
    each(
        "legacy_signatures_count_for_nothing_when_nothing_lists_them",
        |_, workspace, server| {
            workspace.tool("cosign", ["generate-key-pair"]).ok();
            let who = Identity::email("dev@example.com");

            let keyless = image(workspace, server, "keyless");
            legacy(workspace, &who.with_cosign_2(workspace), &keyless);
            cosign_2(workspace, "verify", &who.expected(), &keyless).ok();
            cosign_2(
                workspace,
                "verify-attestation --type slsaprovenance1",
                &who.expected(),
                &keyless,
            )
            .ok();
            verify(workspace, &keyless, &who, &[]).refused(1, "NoSignatures");

            let keyed = image(workspace, server, "keyed");
            legacy(
                workspace,
                &[
                    "--key",
                    "cosign.key",
                    "--rekor-url",
                    sigstore().url("rekor-v1"),
                ],
                &keyed,
            );
            cosign_2(workspace, "verify --key cosign.pub", &[""; 0], &keyed).ok();
            cosign_2(
                workspace,
                "verify-attestation --type slsaprovenance1 --key cosign.pub",
                &[""; 0],
                &keyed,
            )
            .ok();
            workspace
                .run(&format!("verify --plain-http {keyed} --key cosign.pub"))
                .refused(1, "NoSignatures");
        },
    );
}

/// Signs an image and attests its provenance as cosign 2 does: in the tags `sha256-HEX.sig` and
/// `.att`, with an entry of a Rekor v1.
fn legacy(workspace: &Workspace, signing: &[impl AsRef<str>], image: &str) {
    workspace.write("slsa.json", PROVENANCE);
    cosign_2(workspace, "sign", signing, image).ok();
    cosign_2(
        workspace,
        "attest --type slsaprovenance1 --predicate slsa.json",
        signing,
        image,
    )
    .ok();
}

#[test]
fn a_private_sigstore_ends_with_whoever_started_it() {
    if !tools::wanted("a_private_sigstore_ends_with_whoever_started_it") {
        return;
    }
    let (services, mut script) = start();
    let (folder, processes) = (services.file(""), processes(&services));
    drop(script.stdin.take());
    assert!(script.wait().expect("a child").success());
    assert!(
        !processes.iter().any(|process| runs(process)),
        "{processes:?}"
    );
    assert!(!Path::new(&folder).exists(), "{folder} is left");
}

#[test]
fn a_private_sigstore_ends_when_its_script_is_killed() {
    if !tools::wanted("a_private_sigstore_ends_when_its_script_is_killed") {
        return;
    }
    let (services, mut script) = start();
    let (folder, processes) = (services.file(""), processes(&services));
    script.kill().and_then(|()| script.wait()).expect("a child");
    let deadline = Instant::now() + Duration::from_secs(10);
    while processes.iter().any(|process| runs(process)) {
        assert!(Instant::now() < deadline, "{processes:?}");
        thread::sleep(Duration::from_millis(10));
    }
    fs::remove_dir_all(folder).expect("a folder");
}

/// The servers' processes.
fn processes(services: &Sigstore) -> Vec<String> {
    let files = fs::read_dir(services.file("pid")).expect("a folder");
    let processes: Vec<_> = files
        .map(|file| {
            fs::read_to_string(file.expect("a file").path())
                .expect("a number")
                .trim()
                .to_owned()
        })
        .collect();
    assert!(
        processes.len() >= 6 && processes.iter().all(|process| runs(process)),
        "{processes:?}"
    );
    processes
}

/// True if the process exists and is not a zombie.
fn runs(process: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}
