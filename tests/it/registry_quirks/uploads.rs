//! Uploads whose answer is lost, late or no.

use packgate::{
    core::reason::{ClassifiedError, Reason},
    oci::{ContentTarget, OciError, PushContent, remote::RegistryTarget},
};

use super::Scene;
use crate::{
    registry::{blob_of, target},
    support::registry::{Fault, Registry, Settings},
};

async fn push(target: &RegistryTarget, size: usize) -> Result<(), OciError> {
    let (blob, bytes) = blob_of(size);
    target.push_content(&blob, PushContent::Bytes(&bytes)).await
}

/// The registry stores the blob, and something before it gives up.
#[tokio::test]
async fn after_a_lost_answer_the_blob_is_looked_for() {
    for fault in [
        Fault::on("PUT", "/blobs/uploads/")
            .stored()
            .drop_connection(),
        Fault::on("PUT", "/blobs/uploads/").stored().status(504),
        Fault::on("PUT", "/blobs/uploads/").stored().status(404),
    ] {
        let registry = Registry::start().await;
        registry.fault(fault);
        push(&target(&registry), 300_000)
            .await
            .expect("it is there");
        assert_eq!(registry.count("PUT", "/blobs/uploads/"), 1, "sent once");
    }
}

#[tokio::test]
async fn the_first_error_of_an_upload_is_told() {
    let registry = Registry::start().await;
    registry.fault(Fault::on("PUT", "/blobs/uploads/").status(503));
    registry.fault(
        Fault::on("PATCH", "/blobs/uploads/")
            .status(405)
            .body(r#"{"errors":[{"code":"UNSUPPORTED","message":"parts are too small"}]}"#),
    );
    let error = push(&target(&registry), 1_000).await.expect_err("refused");
    assert_eq!(error.reason(), Reason::RegistryUnavailable, "{error}");
    let text = error.to_string();
    assert!(
        text.contains("503") && text.contains("parts are too small"),
        "{text}"
    );
}

#[tokio::test]
async fn parts_are_no_smaller_than_storage_takes() {
    let registry = Registry::with(Settings {
        max_body: 6 << 20,
        ..Settings::default()
    })
    .await;
    push(&target(&registry), 12 << 20).await.expect("in parts");
    let parts: Vec<usize> = registry
        .requests()
        .iter()
        .filter(|request| request.method == "PATCH")
        .map(|request| request.body.len())
        .collect();
    assert!(
        parts.len() == 3 && parts[..2].iter().all(|size| *size >= 5 << 20),
        "{parts:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn within_one_registry_blobs_are_mounted_if_it_allows_that() {
    for (mounts, status, bytes_are_sent) in [
        (true, None, false),
        (false, None, true),
        (true, Some(403), true),
    ] {
        let scene = Scene::start(Settings {
            mount: mounts,
            ..Settings::default()
        })
        .await;
        let reference = scene.pack_signed().ok().to_owned();
        if let Some(status) = status {
            scene
                .registry
                .fault(Fault::on("POST", "mount=").status(status));
        }
        let before = scene.registry.count("PUT", "/blobs/uploads/");
        let to = format!("{}/other/hello:v1", scene.registry.host());
        let copied = scene.run(&format!("copy {reference} {to}")).ok().to_owned();
        let sent = scene.registry.count("PUT", "/blobs/uploads/") - before;
        assert_eq!(sent > 0, bytes_are_sent, "{sent} blobs were sent");
        scene.run(&format!("inspect {copied}")).ok();
    }
}
