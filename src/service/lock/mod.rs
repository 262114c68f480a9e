//! Makes, checks and refreshes lockfiles: fetches the artifacts, and computes digests, sizes and
//! the layers.

mod layers;

use std::{io::Write, sync::Arc};

use tokio::task::spawn_blocking;

use super::{
    progress::Progress,
    transfer::{ExpectedContent, TransferError, shown_name, transfer_artifact},
};
use crate::{
    core::{
        digest::Digest,
        limits::InputLimits,
        lockfile::{
            DraftArtifact, DraftEntrypoint, LockManifest, LockedArtifact, LockedEntrypoint,
            Lockfile, LockfileError, LockfileGeneration, OriginType, pin_origin,
        },
        pack::{PackError, PackOptions, PackPlan},
        reason::{ClassifiedError, Reason},
    },
    fetch::{ArtifactOrigin, FetchRequest},
    oci::{BlobWriter, LocalContentStore, OciError},
};

/// Why a lock could not be made or does not match.
#[derive(Debug, thiserror::Error)]
pub enum LockServiceError {
    /// The lock or manifest is invalid.
    #[error(transparent)]
    Lock(#[from] LockfileError),
    /// Its recorded layers are invalid.
    #[error(transparent)]
    Plan(#[from] PackError),
    /// An artifact could not be read, or differs from the lock.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The scratch store failed.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// The lock has no recorded layers, so a check would be incomplete.
    #[error("the lock has no layers recorded; record them: packgate lock LOCK")]
    NotRecorded,
    /// A layer differs from the recorded one.
    #[error(
        "layer {number} became {actual}, the lock has recorded {recorded}; record it again: \
            packgate lock LOCK"
    )]
    Recorded {
        /// Its number among the layers with files, from 1.
        number: usize,
        /// The diffID in the lock.
        recorded: Digest,
        /// The actual diffID.
        actual: Digest,
    },
}

impl ClassifiedError for LockServiceError {
    fn reason(&self) -> Reason {
        match self {
            Self::Lock(error) => error.reason(),
            Self::Plan(error) => error.reason(),
            Self::Transfer(error) => error.reason(),
            Self::Oci(error) => error.reason(),
            Self::NotRecorded => Reason::InvalidLock,
            Self::Recorded { .. } => Reason::DigestMismatch,
        }
    }
}

/// Makes and checks locks.
#[doc(alias = "LockfileService")]
pub struct LockService {
    scratch: Arc<dyn LocalContentStore>,
    origin: Arc<dyn ArtifactOrigin>,
    progress: Arc<dyn Progress>,
    allow_outside: bool,
}

impl LockService {
    /// Stores downloads in `scratch` while it works. Local files are read in place.
    pub fn new(
        scratch: Arc<dyn LocalContentStore>,
        origin: Arc<dyn ArtifactOrigin>,
        progress: Arc<dyn Progress>,
        allow_outside: bool,
    ) -> Self {
        Self {
            scratch,
            origin,
            progress,
            allow_outside,
        }
    }

    /// Makes a lock: fetches everything, locks the fetched content, and records the layers.
    pub async fn create_lock(
        &self,
        manifest: LockManifest,
        limits: &InputLimits,
    ) -> Result<Lockfile, LockServiceError> {
        self.progress.begin_task("locking", None);
        let LockManifest {
            name,
            version,
            entrypoint,
            artifacts,
        } = manifest;
        let mut completed = Vec::with_capacity(artifacts.len());
        for draft in artifacts {
            completed.push(self.lock_artifact(draft).await?);
        }
        let entrypoint = match entrypoint {
            Some(draft) => Some(self.lock_entrypoint(draft).await?),
            None => None,
        };
        let lock = Lockfile {
            generation: LockfileGeneration::Packgate,
            name,
            version,
            entrypoint,
            artifacts: completed,
            layers: Vec::new(),
        }
        .into_checked(limits)?;
        let lock = self.with_recorded_layers(lock).await?;
        self.progress.end_task();
        Ok(lock)
    }

    /// Fetches everything, compares it with the lock and records the layers. Nothing else changes.
    pub async fn record_layers(&self, lock: &Lockfile) -> Result<Lockfile, LockServiceError> {
        lock.check_packable(self.allow_outside)?;
        self.progress.begin_task("locking", None);
        self.verify_artifacts(lock).await?;
        let lock = self
            .with_recorded_layers(Lockfile {
                generation: LockfileGeneration::Packgate,
                layers: Vec::new(),
                ..lock.clone()
            })
            .await?;
        self.progress.end_task();
        Ok(lock)
    }

    /// Fetches everything and compares it with the lock, including its recorded layers.
    pub async fn check_lock(&self, lock: &Lockfile) -> Result<(), LockServiceError> {
        if lock.layers.is_empty() {
            return Err(LockServiceError::NotRecorded);
        }
        let plan = PackPlan::new(lock, PackOptions::default())?;
        let found = self.record_layers(lock).await?;
        // In the plan's order, because the lock may list its platforms in any order.
        let recorded = plan
            .manifest_plans()
            .flat_map(|manifest| manifest.layers)
            .map(|layer| layer.recorded);
        for (number, (recorded, actual)) in recorded.zip(&found.layers).enumerate() {
            match recorded {
                Some(recorded) if recorded == actual.diff_id => {}
                Some(recorded) => {
                    return Err(LockServiceError::Recorded {
                        number: number + 1,
                        recorded,
                        actual: actual.diff_id,
                    });
                }
                None => return Err(LockServiceError::NotRecorded),
            }
        }
        Ok(())
    }

    async fn lock_artifact(
        &self,
        draft: DraftArtifact,
    ) -> Result<LockedArtifact, LockServiceError> {
        let pinned = self.pin_image(&draft).await?;
        let origin = pinned
            .clone()
            .unwrap_or_else(|| draft.fetch_origin().to_owned());
        let request = FetchRequest {
            origin_type: draft.origin_type,
            origin: &origin,
            oci: draft.oci.as_ref(),
            expected_size: None,
        };
        let (checksum, size) = self.fetch_artifact(&draft.name, request, None).await?;
        Ok(draft.into_locked(checksum, size, pinned)?)
    }

    /// The origin of an image with its current digest.
    async fn pin_image(&self, draft: &DraftArtifact) -> Result<Option<String>, LockServiceError> {
        let request = FetchRequest {
            origin_type: draft.origin_type,
            origin: &draft.origin,
            oci: draft.oci.as_ref(),
            expected_size: None,
        };
        let digest = self
            .origin
            .resolve_oci_digest(request)
            .await
            .map_err(|source| TransferError::Fetch {
                name: draft.name.clone(),
                source: Box::new(source),
            })?;
        Ok(digest.map(|digest| pin_origin(&draft.origin, &digest)))
    }

    async fn lock_entrypoint(
        &self,
        draft: DraftEntrypoint,
    ) -> Result<LockedEntrypoint, LockServiceError> {
        let request = FetchRequest {
            origin_type: OriginType::File,
            origin: &draft.script,
            oci: None,
            expected_size: None,
        };
        let (checksum, size) = self.fetch_artifact("entrypoint", request, None).await?;
        Ok(draft.into_locked(checksum, size)?)
    }

    async fn verify_artifacts(&self, lock: &Lockfile) -> Result<(), LockServiceError> {
        for artifact in &lock.artifacts {
            let request = FetchRequest {
                origin_type: artifact.origin_type,
                origin: artifact.fetch_origin(),
                oci: artifact.oci.as_ref(),
                expected_size: Some(artifact.size),
            };
            self.fetch_artifact(
                &artifact.name,
                request,
                Some(ExpectedContent {
                    checksum: artifact.checksum,
                    size: artifact.size,
                }),
            )
            .await?;
        }
        if let Some(entrypoint) = &lock.entrypoint {
            let request = FetchRequest {
                origin_type: OriginType::File,
                origin: &entrypoint.script,
                oci: None,
                expected_size: Some(entrypoint.size),
            };
            self.fetch_artifact(
                "entrypoint",
                request,
                Some(ExpectedContent {
                    checksum: entrypoint.checksum,
                    size: entrypoint.size,
                }),
            )
            .await?;
        }
        Ok(())
    }

    /// Reads an artifact completely. Content that is not local is kept in the scratch store.
    async fn fetch_artifact(
        &self,
        name: &str,
        request: FetchRequest<'_>,
        expected: Option<ExpectedContent>,
    ) -> Result<(Digest, u64), LockServiceError> {
        let opened =
            self.origin
                .open_artifact(request)
                .await
                .map_err(|source| TransferError::Fetch {
                    name: name.into(),
                    source: Box::new(source),
                })?;
        let shown = shown_name(name, opened.download_location.as_deref());
        let writer = if request.origin_type == OriginType::File {
            None
        } else {
            Some(self.scratch.new_blob_writer()?)
        };
        let progress = Arc::clone(&self.progress);
        let sink = writer.map_or(ScratchSink::Nowhere, ScratchSink::InScratch);
        let (sink, digest, size) =
            transfer_artifact(&shown, opened.content, expected, sink, move |bytes| {
                progress.advance_bytes(bytes);
            })
            .await?;
        if let ScratchSink::InScratch(writer) = sink {
            spawn_blocking(move || writer.commit_blob())
                .await
                .map_err(|e| TransferError::Worker(e.to_string()))??;
        }
        Ok((digest, size))
    }
}

/// The destination of a fetched artifact.
enum ScratchSink {
    /// The content is local already.
    Nowhere,
    /// The scratch store, so that it is downloaded once.
    InScratch(Box<dyn BlobWriter>),
}

impl Write for ScratchSink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Nowhere => Ok(bytes.len()),
            Self::InScratch(writer) => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
