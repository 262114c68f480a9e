//! Computes the layers that packing a lock gives, from artifacts that were fetched before.

use std::io::Write;

use super::{LockService, LockServiceError};
use crate::{
    core::{
        digest::DigestHasher,
        lockfile::{Lockfile, OriginType, RecordedLayer},
        media_type,
        oci::{Descriptor, Platform},
        pack::{LayerPlan, PackOptions, PackPlan, PackedFile, TarSegment, total_segment_bytes},
    },
    fetch::ArtifactStream,
    service::transfer::{
        ExpectedContent, TransferError, artifact_name, fetch_request, transfer_artifact,
    },
};

impl LockService {
    /// The lock with its layers recorded.
    pub(super) async fn with_recorded_layers(
        &self,
        lock: Lockfile,
    ) -> Result<Lockfile, LockServiceError> {
        let plan = PackPlan::new(&lock, PackOptions::default())?;
        let mut layers = Vec::new();
        for manifest in plan.manifest_plans() {
            for layer in &manifest.layers {
                layers.push(
                    self.hash_layer(&lock, layer, manifest.platform.clone())
                        .await?,
                );
            }
        }
        Ok(Lockfile { layers, ..lock })
    }

    async fn hash_layer(
        &self,
        lock: &Lockfile,
        layer: &LayerPlan,
        platform: Option<Platform>,
    ) -> Result<RecordedLayer, LockServiceError> {
        let mut sink = HashSink(DigestHasher::new());
        let segments = layer.tar_segments();
        let size = total_segment_bytes(&segments);
        for segment in segments {
            match segment {
                TarSegment::Literal(bytes) => sink.0.update(&bytes),
                TarSegment::Content { content, .. } => {
                    sink = self.hash_file(lock, &content, sink).await?;
                }
            }
        }
        Ok(RecordedLayer {
            artifacts: layer.files.len(),
            diff_id: sink.0.finish(),
            size,
            platform,
        })
    }

    async fn hash_file(
        &self,
        lock: &Lockfile,
        file: &PackedFile,
        sink: HashSink,
    ) -> Result<HashSink, LockServiceError> {
        let name = artifact_name(lock, file);
        let Some(request) = fetch_request(lock, file) else {
            return Err(TransferError::Worker("a file that is not in the lock".into()).into());
        };
        let content = if request.origin_type == OriginType::File {
            self.origin
                .open_artifact(request)
                .await
                .map_err(|source| TransferError::Fetch {
                    name: name.clone(),
                    source: Box::new(source),
                })?
                .content
        } else {
            ArtifactStream::Stream(
                self.scratch
                    .open_content(&Descriptor::new(
                        media_type::OCTET_STREAM,
                        file.checksum,
                        file.size,
                    ))
                    .await?,
            )
        };
        let expected = ExpectedContent {
            checksum: file.checksum,
            size: file.size,
        };
        Ok(
            transfer_artifact(&name, content, Some(expected), sink, |_| {})
                .await?
                .0,
        )
    }
}

struct HashSink(DigestHasher);

impl Write for HashSink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
