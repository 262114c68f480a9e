//! Registries that are down, refuse or lie: the real binary reports the cause, and never mistakes
//! it for "no signatures".

use bytes::Bytes;
use packgate::core::{digest::Digest, media_type};
use serde_json::json;

use crate::support::{
    cli::{Run, Workspace},
    peak_memory::run_with_peak_memory,
    registry::{Fault, Registry, Settings},
};

async fn signed(settings: Settings) -> (Workspace, Registry, String) {
    let registry = Registry::with(settings).await;
    let workspace = Workspace::with_lock();
    let line = format!(
        "pack lock.yaml --plain-http --to {}/team/hello:v1 --key packgate.key",
        registry.host()
    );
    let reference = workspace.keys().run(&line).ok().to_owned();
    (workspace, registry, reference)
}

fn verify(workspace: &Workspace, reference: &str) -> Run {
    workspace.run(&format!(
        "verify --plain-http {reference} --key packgate.pub"
    ))
}

fn without_api() -> Settings {
    Settings {
        referrers_api: false,
        ..Settings::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_down_is_unavailable() {
    let (workspace, registry, reference) = signed(Settings::default()).await;
    verify(&workspace, &reference).ok();
    drop(registry);
    verify(&workspace, &reference).refused(3, "RegistryUnavailable");
    workspace
        .run(&format!(
            "unpack --plain-http {reference} --to got --key packgate.pub"
        ))
        .refused(3, "RegistryUnavailable");
    workspace
        .run(&format!(
            "pack lock.yaml --plain-http --to {}",
            reference.split('@').next().expect("a name")
        ))
        .refused(3, "RegistryUnavailable");
    assert!(!workspace.file("got").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_no_absence_of_signatures() {
    for (settings, part, status, reason) in [
        (Settings::default(), "/manifests/", 403, "RegistryDenied"),
        (Settings::default(), "/referrers/", 403, "RegistryDenied"),
        (Settings::default(), "/referrers/", 429, "RateLimited"),
        (
            Settings::default(),
            "/referrers/",
            500,
            "RegistryUnavailable",
        ),
        (without_api(), "/manifests/sha256-", 403, "RegistryDenied"),
        (without_api(), "/manifests/sha256-", 429, "RateLimited"),
        (
            without_api(),
            "/manifests/sha256-",
            503,
            "RegistryUnavailable",
        ),
    ] {
        let (workspace, registry, reference) = signed(settings).await;
        registry.fault(Fault::on("GET", part).status(status));
        println!("{part} {status}");
        let run = verify(&workspace, &reference);
        run.refused(3, reason);
        assert!(!run.stdout.contains("NoSignatures"), "{run:?}");
        registry.heal();
        verify(&workspace, &reference).ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_of_blobs_is_no_empty_bundle() {
    let (workspace, registry, reference) = signed(Settings::default()).await;
    registry.fault(Fault::on("GET", "/blobs/").status(403));
    workspace
        .run(&format!(
            "unpack --plain-http {reference} --to got --key packgate.pub"
        ))
        .refused(3, "RegistryDenied");
    assert!(!workspace.file("got").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_fallback_tag_is_an_absence_of_signatures() {
    let (workspace, registry, reference) = signed(without_api()).await;
    registry.fault(Fault::on("GET", "/manifests/sha256-").status(404));
    verify(&workspace, &reference).refused(1, "NoSignatures");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_not_the_digests_are_corrupt() {
    for part in ["/manifests/sha256:", "/blobs/"] {
        let (workspace, registry, reference) = signed(Settings::default()).await;
        registry.fault(Fault::on("GET", part).flip(5));
        let run = workspace.run(&format!(
            "unpack --plain-http {reference} --to got --key packgate.pub"
        ));
        run.refused(4, "DigestMismatch");
        assert!(!workspace.file("got").exists());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_is_resolved_once() {
    let (workspace, registry, reference) = signed(Settings::default()).await;
    let before = registry.requests().len();
    let tagged = reference.split('@').next().expect("a name");
    verify(&workspace, tagged).ok();
    let asked = registry.requests().split_off(before);
    assert_eq!(
        asked
            .iter()
            .filter(|request| request.path.ends_with("/manifests/v1"))
            .count(),
        1,
        "{asked:?}"
    );
    // Resolve, list, and for the signature and the provenance a manifest each, which holds its
    // blob.
    assert_eq!(asked.len(), 4, "{asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_good_signature_admits_among_malformed_ones() {
    let (workspace, registry, reference) = signed(Settings::default()).await;
    let digest = reference.split_once('@').expect("a digest").1;
    let size = registry
        .manifest("team/hello", digest)
        .expect("pushed")
        .len();
    let empty = Digest::of_bytes(b"{}");
    for bad in [
        "",
        "{",
        "{}",
        "[]",
        "{\"mediaType\":\"application/vnd.dev.sigstore.bundle.v0.3+json\"}",
    ] {
        let blob = registry.put_blob("team/hello", bad.as_bytes());
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "config": {
                "mediaType": "application/vnd.oci.empty.v1+json",
                "digest": empty,
                "size": 2,
            },
            "layers": [
                {
                    "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
                    "digest": blob,
                    "size": bad.len(),
                },
            ],
            "subject": {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": digest,
                "size": size,
            },
        });
        registry.put_manifest(
            "team/hello",
            None,
            "application/vnd.oci.image.manifest.v1+json",
            manifest.to_string(),
        );
    }
    let report = workspace
        .run(&format!(
            "verify --plain-http {reference} --key packgate.pub -o json"
        ))
        .json();
    assert_eq!(report["outcome"], "Admitted");
    assert_eq!(
        report["rejected"].as_array().expect("a list").len(),
        5,
        "{report}"
    );
}

/// The peak memory of a run, in KiB, as the kernel counts it.
fn verify_measured(workspace: &Workspace, reference: &str, key: &str) -> (Run, u64) {
    let arguments = ["verify", "--plain-http", reference, "--key", key];
    run_with_peak_memory(workspace, &arguments)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_lists_of_referrers_cost_little_memory() {
    const MORE: u64 = 16 << 10;
    let index = |entries: &[String]| {
        Bytes::from(format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
            media_type::INDEX,
            entries.join(",")
        ))
    };
    let descriptor = |n: usize| {
        format!(
            r#"{{"mediaType":"{}","digest":"sha256:{n:064x}","size":500}}"#,
            media_type::MANIFEST
        )
    };
    let listed = |count: usize| index(&(0..count).map(descriptor).collect::<Vec<_>>());
    let pairs = (0..460)
        .map(|n| format!(r#""{n:03}":"""#))
        .collect::<Vec<_>>()
        .join(",");
    let wordy = |n: usize| {
        format!(
            r#"{{"mediaType":"m","digest":"sha256:{n:064x}","size":1,"annotations":{{{pairs}}}}}"#
        )
    };
    let keys = (0..400_000)
        .map(|n| format!("\"{n:x}\":0"))
        .collect::<Vec<_>>()
        .join(",");
    let lists = [
        ("100,000 descriptors", listed(100_000), 1, "LimitExceeded"),
        (
            "as many descriptors as fit",
            listed(25_000),
            1,
            "TooManyReferrers",
        ),
        (
            "a million empty entries",
            index(&vec!["{}".to_owned(); 1_000_000]),
            1,
            "TooManyReferrers",
        ),
        (
            "400,000 keys",
            index(&[format!("{{{keys}}}")]),
            4,
            "MalformedManifest",
        ),
        (
            "entries in entries",
            index(&[format!("[{}]", vec!["[]"; 1_300_000].join(","))]),
            1,
            "NoSignatures",
        ),
        (
            "as many words as fit",
            index(&(0..900).map(wordy).collect::<Vec<_>>()),
            1,
            "TooManyReferrers",
        ),
    ];
    for (referrers_api, part) in [(true, "/referrers/"), (false, "/manifests/sha256-")] {
        let (workspace, registry, reference) = signed(Settings {
            referrers_api,
            ..Settings::default()
        })
        .await;
        let (ordinary, usual) = verify_measured(&workspace, &reference, "packgate.pub");
        ordinary.ok();
        let judged = |what: &str, fault: Fault, code: i32, reason: &str| {
            registry.heal();
            registry.fault(fault);
            let (run, peak) = verify_measured(&workspace, &reference, "packgate.pub");
            println!(
                "{part} {what}: {} KiB more, exit {}",
                peak.saturating_sub(usual),
                run.code
            );
            run.refused(code, reason);
            assert!(peak < usual + MORE, "{what}: {peak} KiB, {usual} usually");
        };
        judged(
            "a body without an end",
            Fault::on("GET", part).endless(),
            1,
            "LimitExceeded",
        );
        assert!(
            registry.endless_bytes() < 64 << 20,
            "{} bytes of an endless body were taken",
            registry.endless_bytes()
        );
        // One list of each kind on either side: the same code reads them.
        let mine = lists.iter().skip(usize::from(referrers_api)).step_by(2);
        mine.for_each(|(what, list, code, reason)| {
            judged(
                what,
                Fault::on("GET", part).body(list.clone()),
                *code,
                reason,
            );
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sigstore_bundle_without_an_end_costs_little_memory() {
    let (workspace, registry, reference) = signed(Settings::default()).await;
    let (ordinary, usual) = verify_measured(&workspace, &reference, "packgate.pub");
    ordinary.ok();
    let digest = reference.split_once('@').expect("a digest").1;
    let size = registry
        .manifest("team/hello", digest)
        .expect("pushed")
        .len();
    let empty = Digest::of_bytes(b"{}");
    for (declared, note) in [(1_u64 << 30, "says so"), (1 << 20, "does not say so")] {
        let blob = Digest::of_bytes(note.as_bytes());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type::MANIFEST,
            "artifactType": media_type::SIGSTORE_BUNDLE_V03,
            "config": {"mediaType": media_type::EMPTY, "digest": empty, "size": 2},
            "layers": [
                {"mediaType": media_type::SIGSTORE_BUNDLE_V03, "digest": blob, "size": declared},
            ],
            "subject": {"mediaType": media_type::MANIFEST, "digest": digest, "size": size},
        });
        registry.put_manifest(
            "team/hello",
            None,
            media_type::MANIFEST,
            manifest.to_string(),
        );
        registry.fault(Fault::on("GET", format!("/blobs/{blob}")).endless());
        let (run, peak) = verify_measured(&workspace, &reference, "packgate.pub");
        println!("1 GiB that {note}: {} KiB more", peak.saturating_sub(usual));
        run.ok();
        assert!(peak < usual + (16 << 10), "{peak} KiB, {usual} usually");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_bundles_cost_little_memory_and_hide_no_signature() {
    const MORE: u64 = 24 << 10;
    let (workspace, registry, reference) = signed(Settings::default()).await;
    let (ordinary, usual) = verify_measured(&workspace, &reference, "packgate.pub");
    ordinary.ok();
    let digest = reference.split_once('@').expect("a digest").1;
    let size = registry
        .manifest("team/hello", digest)
        .expect("pushed")
        .len();
    // One blob that each of them reads: its location makes no difference to the reader.
    let payload = "A".repeat((4 << 20) - 400);
    let bundle = json!({
        "mediaType": media_type::SIGSTORE_BUNDLE_V03, "verificationMaterial": {
            "publicKey": {"hint": ""},
        },
        "dsseEnvelope": {
            "payload": payload,
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [{"sig": "AAAA"}],
        },
    });
    let bundle = bundle.to_string();
    assert!(bundle.len() <= 4 << 20);
    let blob = registry.put_blob("team/hello", bundle.clone());
    for number in 0..250 {
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type::MANIFEST,
            "artifactType": media_type::SIGSTORE_BUNDLE_V03,
            "config": {"mediaType": media_type::EMPTY, "digest": Digest::of_bytes(b"{}"), "size": 2},
            "layers": [
                {
                    "mediaType": media_type::SIGSTORE_BUNDLE_V03,
                    "digest": blob,
                    "size": bundle.len(),
                },
            ],
            "subject": {
                "mediaType": media_type::MANIFEST,
                "digest": digest,
                "size": size,
            }, "annotations": {"n": number.to_string()},
        });
        registry.put_manifest(
            "team/hello",
            None,
            media_type::MANIFEST,
            manifest.to_string(),
        );
    }
    workspace.run("keys generate --out-dir other").ok();
    for (key, admitted) in [("packgate.pub", true), ("other/packgate.pub", false)] {
        let (run, peak) = verify_measured(&workspace, &reference, key);
        println!("{key}: {} KiB more", peak.saturating_sub(usual));
        if admitted {
            run.ok();
        } else {
            run.refused(1, "LimitExceeded");
        }
        assert!(peak < usual + MORE, "{peak} KiB, {usual} usually");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_commands_that_sign_name_a_client_that_signs() {
    let (workspace, registry, reference) = signed(Settings::default()).await;
    let named = || {
        let requests = registry.requests();
        let signs = requests
            .iter()
            .map(|r| r.headers["user-agent"].contains("cosign"));
        signs.collect::<Vec<_>>()
    };
    assert!(named().iter().all(|signs| *signs), "pack with a key");
    let before = named().len();
    verify(&workspace, &reference).ok();
    workspace
        .run(&format!("inspect --plain-http {reference}"))
        .ok();
    assert!(
        named()[before..].iter().all(|signs| !signs),
        "verify, inspect"
    );
    let before = named().len();
    assert!(before > 0);
    workspace
        .run(&format!("sign --plain-http {reference} --key packgate.key"))
        .ok();
    assert!(named().len() > before, "it was asked");
    assert!(named()[before..].iter().all(|signs| *signs), "sign");
}
