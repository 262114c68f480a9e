//! Errors while packing and locking.

use std::time::Duration;

use tokio::io::AsyncRead;

use super::*;
use crate::{
    core::{
        lockfile::RecordedLayer,
        oci::Annotations,
        pack::{BundleFormat, PackPlan},
    },
    service::lock::LockService,
};

/// One artifact that differs from the lock, and others that never end.
struct Stuck;

#[async_trait]
impl ArtifactOrigin for Stuck {
    async fn open_artifact(&self, request: FetchRequest<'_>) -> Result<OpenedArtifact, FetchError> {
        let content = match request.origin {
            "in/bad" => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                ArtifactStream::Blocking(Box::new(Cursor::new(b"other")))
            }
            "in/network" => ArtifactStream::Stream(Box::new(Never)),
            _ => ArtifactStream::Blocking(Box::new(Slow)),
        };
        Ok(OpenedArtifact {
            content,
            download_location: None,
        })
    }

    async fn resolve_oci_digest(&self, _: FetchRequest<'_>) -> Result<Option<Digest>, FetchError> {
        Ok(None)
    }
}

/// A connection on which nothing arrives any more.
struct Never;

impl AsyncRead for Never {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Pending
    }
}

/// A disk that returns single bytes slowly.
struct Slow;

impl std::io::Read for Slow {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        std::thread::sleep(Duration::from_millis(5));
        Ok(buffer.len().min(1))
    }
}

#[test]
fn a_failed_artifact_does_not_wait_for_the_others() {
    for other in ["network", "disk"] {
        let (done, outcome) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let (mut lock, _) = lock(&[File::new("bad", b"right"), File::new(other, b"")], None);
            lock.artifacts[1].size = 1 << 40;
            let service = PackService::new(
                Arc::new(MemoryTarget::new()),
                Arc::new(Stuck),
                Arc::new(SilentProgress),
            );
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .expect("a runtime");
            let reason = runtime
                .block_on(service.pack_lock(&lock, PackOptions::default(), false))
                .map(drop)
                .map_err(|e| e.reason());
            // Waits for every thread that still reads.
            drop(runtime);
            done.send(reason).expect("sent");
        });
        let outcome = outcome
            .recv_timeout(Duration::from_secs(20))
            .expect("still waiting");
        assert_eq!(outcome, Err(Reason::ChecksumMismatch), "{other}");
    }
}

#[tokio::test]
async fn what_differs_from_the_lock_is_refused() {
    let (lock, origin) = lock(
        &[File::new("a", b"right"), File::new("b", b"")],
        Some(b"run"),
    );
    for (origin_name, content, reason) in [
        ("in/a", Some(b"wrong".as_slice()), Reason::ChecksumMismatch),
        ("in/a", Some(b"righ"), Reason::SizeMismatch),
        ("in/a", Some(b"right!"), Reason::SizeMismatch),
        ("in/b", Some(b"!"), Reason::SizeMismatch),
        ("scripts/run.sh", Some(b"RUN"), Reason::ChecksumMismatch),
        ("scripts/run.sh", None, Reason::SourceNotFound),
    ] {
        let mut changed = origin.clone();
        changed.0.remove(origin_name);
        changed
            .0
            .extend(content.map(|content| (origin_name.to_owned(), content.to_vec())));
        for format in [BundleFormat::Image, BundleFormat::Artifact] {
            let error = pack(
                &lock,
                changed.clone(),
                PackOptions {
                    format,
                    ..PackOptions::default()
                },
            )
            .await
            .map(drop)
            .expect_err("refused");
            assert_eq!(
                error.reason(),
                reason,
                "{origin_name} {content:?} {format:?}"
            );
        }
    }
}

#[tokio::test]
async fn what_no_registry_takes_is_refused_before_anything_is_fetched() {
    let (lock, _) = lock(&[File::new("a", b"")], None);
    let annotations = Annotations::from([("a".to_owned(), "x".repeat(4 << 20))]);
    let output = PackOptions {
        format: BundleFormat::Artifact,
        annotations,
        ..PackOptions::default()
    };
    assert_eq!(
        pack(&lock, Files::default(), output)
            .await
            .map(drop)
            .expect_err("refused")
            .reason(),
        Reason::InvalidSpec
    );
}

#[tokio::test]
async fn recorded_layers_are_compared_by_platform() {
    let files = [
        File::new("all", b"1"),
        File::new("arm", b"2").on("linux/arm64"),
        File::new("amd", b"3").on("linux/amd64"),
    ];
    let (lock, origin) = lock(&files, None);
    let service = LockService::new(
        Arc::new(MemoryTarget::new()),
        Arc::new(origin.clone()),
        Arc::new(SilentProgress),
        false,
    );
    let recorded = service.record_layers(&lock).await.expect("recorded");
    service.check_lock(&recorded).await.expect("the same");
    // Platforms in another order, each platform's layers in their own.
    let mut layers = recorded.layers.clone();
    layers.sort_by_key(|layer| std::cmp::Reverse(layer.platform.clone()));
    assert_ne!(layers, recorded.layers);
    let shuffled = Lockfile {
        layers,
        ..recorded.clone()
    };
    service.check_lock(&shuffled).await.expect("the same");
    let predicted = PackPlan::new(&shuffled, PackOptions::default())
        .expect("a plan")
        .predict_digest()
        .expect("predicted");
    assert_eq!(
        predicted,
        pack(&shuffled, origin, PackOptions::default())
            .await
            .expect("packed")
            .1
            .root
            .digest
    );

    assert_eq!(
        service
            .check_lock(&lock)
            .await
            .expect_err("nothing recorded")
            .reason(),
        Reason::InvalidLock
    );
    for change in [
        (|layers: &mut Vec<RecordedLayer>| layers[3].diff_id = Digest::of_bytes(b""))
            as fn(&mut Vec<RecordedLayer>),
        |layers| layers.swap(0, 1),
    ] {
        let mut changed = recorded.clone();
        change(&mut changed.layers);
        assert_eq!(
            service
                .check_lock(&changed)
                .await
                .expect_err("changed")
                .reason(),
            Reason::DigestMismatch
        );
    }
    let mut changed = recorded;
    changed.layers[0].size += 512;
    assert_eq!(
        service
            .check_lock(&changed)
            .await
            .expect_err("changed")
            .reason(),
        Reason::InvalidLock
    );
}
