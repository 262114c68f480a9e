//! Registries that are down, refuse or lie: the real binary says what it was, and never takes silence for "no signatures".

use crate::support::{
    cli::{Run, Workspace},
    registry::{Fault, Registry, Settings},
};

async fn signed(settings: Settings) -> (Workspace, Registry, String) {
    let registry = Registry::with(settings).await;
    let workspace = Workspace::with_lock();
    let line = format!("pack lock.yaml --plain-http --to {}/team/hello:v1 --key packgate.key", registry.host());
    let reference = workspace.keys().run(&line).ok().to_owned();
    (workspace, registry, reference)
}

fn verify(workspace: &Workspace, reference: &str) -> Run {
    workspace.run(&format!("verify --plain-http {reference} --key packgate.pub"))
}

fn without_api() -> Settings {
    Settings { referrers_api: false, ..Settings::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_down_is_unavailable() {
    let (workspace, registry, reference) = signed(Settings::default()).await;
    verify(&workspace, &reference).ok();
    drop(registry);
    verify(&workspace, &reference).refused(3, "RegistryUnavailable");
    workspace.run(&format!("unpack --plain-http {reference} --to got --key packgate.pub")).refused(3, "RegistryUnavailable");
    workspace.run(&format!("pack lock.yaml --plain-http --to {}", reference.split('@').next().expect("a name"))).refused(3, "RegistryUnavailable");
    assert!(!workspace.file("got").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_no_absence_of_signatures() {
    for (settings, part, status, reason) in [
        (Settings::default(), "/manifests/", 403, "RegistryDenied"),
        (Settings::default(), "/referrers/", 403, "RegistryDenied"),
        (Settings::default(), "/referrers/", 429, "RateLimited"),
        (Settings::default(), "/referrers/", 500, "RegistryUnavailable"),
        (without_api(), "/manifests/sha256-", 403, "RegistryDenied"),
        (without_api(), "/manifests/sha256-", 429, "RateLimited"),
        (without_api(), "/manifests/sha256-", 503, "RegistryUnavailable"),
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
    workspace.run(&format!("unpack --plain-http {reference} --to got --key packgate.pub")).refused(3, "RegistryDenied");
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
        let run = workspace.run(&format!("unpack --plain-http {reference} --to got --key packgate.pub"));
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
    assert_eq!(asked.iter().filter(|request| request.path.ends_with("/manifests/v1")).count(), 1, "{asked:?}");
    // Resolve, list, and for the signature and the provenance a manifest each, which holds its blob.
    assert_eq!(asked.len(), 4, "{asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_good_signature_admits_among_malformed_ones() {
    let (workspace, registry, reference) = signed(Settings::default()).await;
    let digest = reference.split_once('@').expect("a digest").1;
    let size = registry.manifest("team/hello", digest).expect("pushed").len();
    let empty = packgate::core::digest::Digest::of(b"{}");
    for bad in ["", "{", "{}", "[]", "{\"mediaType\":\"application/vnd.dev.sigstore.bundle.v0.3+json\"}"] {
        let blob = registry.put_blob("team/hello", bad.as_bytes());
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2},
            "layers": [{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "digest": blob, "size": bad.len()}],
            "subject": {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size},
        });
        registry.put_manifest("team/hello", None, "application/vnd.oci.image.manifest.v1+json", manifest.to_string());
    }
    let report = workspace.run(&format!("verify --plain-http {reference} --key packgate.pub -o json")).json();
    assert_eq!(report["outcome"], "Admitted");
    assert_eq!(report["rejected"].as_array().expect("a list").len(), 5, "{report}");
}
