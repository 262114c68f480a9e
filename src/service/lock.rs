//! Makes, checks and refreshes lockfiles: fetches what they name, and finds out digests, sizes and
//! what the layers will be.

use std::{io::Write, sync::Arc};

use tokio::task::spawn_blocking;

use super::{
    progress::Progress,
    transfer::{Expected, TransferError, name_of, pump, request_of},
};
use crate::{
    core::{
        class::{Classified, Reason},
        digest::{Digest, Hasher},
        limits::Limits,
        lockfile::{
            Artifact, DraftArtifact, DraftEntrypoint, Entrypoint, Generation, LockError,
            LockManifest, Lockfile, OriginType, RecordedLayer, pin_origin,
        },
        media_type,
        oci::{Descriptor, Platform},
        pack::{LayerPlan, Output, PackError, PackPlan, PackedFile, Segment, total},
    },
    fetch::{OpenContent, Origin, Request},
    oci::{BlobWriter, OciError, Store},
};

/// Why a lock could not be made or does not hold.
#[derive(Debug, thiserror::Error)]
pub enum LockServiceError {
    /// The lock or manifest is wrong.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Its recorded layers are wrong.
    #[error(transparent)]
    Plan(#[from] PackError),
    /// An artifact could not be read, or is not what the lock says.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The scratch store failed.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// The lock has no layers recorded, so a check would say less than it seems to.
    #[error("the lock has no layers recorded; record them: packgate lock LOCK")]
    NotRecorded,
    /// A layer is not what the lock has recorded.
    #[error(
        "layer {number} became {actual}, the lock has recorded {recorded}; record it again: \
            packgate lock LOCK"
    )]
    Recorded {
        /// Its number among the layers with files, from 1 on.
        number: usize,
        /// The lock's diffID.
        recorded: Digest,
        /// What it became.
        actual: Digest,
    },
}

impl Classified for LockServiceError {
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
    scratch: Arc<dyn Store>,
    origin: Arc<dyn Origin>,
    progress: Arc<dyn Progress>,
    allow_outside: bool,
}

impl LockService {
    /// Keeps downloads in `scratch` while it looks at them. Files next to the lock are read where
    /// they are.
    pub fn new(
        scratch: Arc<dyn Store>,
        origin: Arc<dyn Origin>,
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

    /// Makes a lock: fetches everything, takes what comes as what is meant, and records the layers.
    pub async fn make(
        &self,
        manifest: LockManifest,
        limits: &Limits,
    ) -> Result<Lockfile, LockServiceError> {
        self.progress.begin("locking", None);
        let LockManifest {
            name,
            version,
            entrypoint,
            artifacts,
        } = manifest;
        let mut completed = Vec::with_capacity(artifacts.len());
        for draft in artifacts {
            completed.push(self.artifact(draft).await?);
        }
        let entrypoint = match entrypoint {
            Some(draft) => Some(self.entrypoint(draft).await?),
            None => None,
        };
        let lock = Lockfile {
            generation: Generation::Packgate,
            name,
            version,
            entrypoint,
            artifacts: completed,
            layers: Vec::new(),
        }
        .checked(limits)?;
        let lock = self.with_layers(lock).await?;
        self.progress.end();
        Ok(lock)
    }

    /// Fetches everything against the lock and records the layers. Nothing else changes.
    pub async fn record(&self, lock: &Lockfile) -> Result<Lockfile, LockServiceError> {
        lock.check_packable(self.allow_outside)?;
        self.progress.begin("locking", None);
        self.verify(lock).await?;
        let lock = self
            .with_layers(Lockfile {
                generation: Generation::Packgate,
                layers: Vec::new(),
                ..lock.clone()
            })
            .await?;
        self.progress.end();
        Ok(lock)
    }

    /// Fetches everything against the lock, its recorded layers included.
    pub async fn check(&self, lock: &Lockfile) -> Result<(), LockServiceError> {
        if lock.layers.is_empty() {
            return Err(LockServiceError::NotRecorded);
        }
        let plan = PackPlan::new(lock, Output::default())?;
        let found = self.record(lock).await?;
        // By the plan, because the lock may list its platforms in any order.
        let recorded = plan
            .manifests()
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

    async fn artifact(&self, draft: DraftArtifact) -> Result<Artifact, LockServiceError> {
        let pinned = self.pin(&draft).await?;
        let origin = pinned.clone().unwrap_or_else(|| draft.origin.clone());
        let request = Request {
            origin_type: draft.origin_type,
            origin: &origin,
            oci: draft.oci.as_ref(),
        };
        let (checksum, size) = self.fetch(&draft.name, request, None).await?;
        Ok(draft.complete(checksum, size, pinned)?)
    }

    /// The origin of an image with the digest that it names now.
    async fn pin(&self, draft: &DraftArtifact) -> Result<Option<String>, LockServiceError> {
        let request = Request {
            origin_type: draft.origin_type,
            origin: &draft.origin,
            oci: draft.oci.as_ref(),
        };
        let digest = self
            .origin
            .pin(request)
            .await
            .map_err(|source| TransferError::Fetch {
                name: draft.name.clone(),
                source: Box::new(source),
            })?;
        Ok(digest.map(|digest| pin_origin(&draft.origin, &digest)))
    }

    async fn entrypoint(&self, draft: DraftEntrypoint) -> Result<Entrypoint, LockServiceError> {
        let request = Request {
            origin_type: OriginType::File,
            origin: &draft.script,
            oci: None,
        };
        let (checksum, size) = self.fetch("entrypoint", request, None).await?;
        Ok(draft.complete(checksum, size)?)
    }

    async fn verify(&self, lock: &Lockfile) -> Result<(), LockServiceError> {
        for artifact in &lock.artifacts {
            let request = Request {
                origin_type: artifact.origin_type,
                origin: &artifact.origin,
                oci: artifact.oci.as_ref(),
            };
            self.fetch(
                &artifact.name,
                request,
                Some(Expected {
                    checksum: artifact.checksum,
                    size: artifact.size,
                }),
            )
            .await?;
        }
        if let Some(entrypoint) = &lock.entrypoint {
            let request = Request {
                origin_type: OriginType::File,
                origin: &entrypoint.script,
                oci: None,
            };
            self.fetch(
                "entrypoint",
                request,
                Some(Expected {
                    checksum: entrypoint.checksum,
                    size: entrypoint.size,
                }),
            )
            .await?;
        }
        Ok(())
    }

    /// Reads an artifact to its end. What does not lie on this machine already is kept in the
    /// scratch store.
    async fn fetch(
        &self,
        name: &str,
        request: Request<'_>,
        expected: Option<Expected>,
    ) -> Result<(Digest, u64), LockServiceError> {
        let opened = self
            .origin
            .open(request)
            .await
            .map_err(|source| TransferError::Fetch {
                name: name.into(),
                source: Box::new(source),
            })?;
        let writer = if request.origin_type == OriginType::File {
            None
        } else {
            Some(self.scratch.writer()?)
        };
        let progress = Arc::clone(&self.progress);
        let sink = writer.map_or(Kept::Nowhere, Kept::InScratch);
        let (sink, digest, size) = pump(name, opened.content, expected, sink, move |bytes| {
            progress.advance(bytes)
        })
        .await?;
        if let Kept::InScratch(writer) = sink {
            spawn_blocking(move || writer.commit())
                .await
                .map_err(|e| TransferError::Worker(e.to_string()))??;
        }
        Ok((digest, size))
    }

    async fn with_layers(&self, lock: Lockfile) -> Result<Lockfile, LockServiceError> {
        let plan = PackPlan::new(&lock, Output::default())?;
        let mut layers = Vec::new();
        for manifest in plan.manifests() {
            for layer in &manifest.layers {
                layers.push(self.layer(&lock, layer, manifest.platform.clone()).await?);
            }
        }
        Ok(Lockfile { layers, ..lock })
    }

    async fn layer(
        &self,
        lock: &Lockfile,
        layer: &LayerPlan,
        platform: Option<Platform>,
    ) -> Result<RecordedLayer, LockServiceError> {
        let mut sink = HashSink(Hasher::new());
        let segments = layer.segments();
        let size = total(&segments);
        for segment in segments {
            match segment {
                Segment::Literal(bytes) => sink.0.update(&bytes),
                Segment::Content { content, .. } => sink = self.hash(lock, &content, sink).await?,
            }
        }
        Ok(RecordedLayer {
            artifacts: layer.files.len(),
            diff_id: sink.0.finish(),
            size,
            platform,
        })
    }

    async fn hash(
        &self,
        lock: &Lockfile,
        file: &PackedFile,
        sink: HashSink,
    ) -> Result<HashSink, LockServiceError> {
        let name = name_of(lock, file);
        let Some(request) = request_of(lock, file) else {
            return Err(TransferError::Worker("a file that is not in the lock".into()).into());
        };
        let content = if request.origin_type == OriginType::File {
            self.origin
                .open(request)
                .await
                .map_err(|source| TransferError::Fetch {
                    name: name.clone(),
                    source: Box::new(source),
                })?
                .content
        } else {
            OpenContent::Stream(
                self.scratch
                    .open(&Descriptor::new(
                        media_type::OCTET_STREAM,
                        file.checksum,
                        file.size,
                    ))
                    .await?,
            )
        };
        let expected = Expected {
            checksum: file.checksum,
            size: file.size,
        };
        Ok(pump(&name, content, Some(expected), sink, |_| {}).await?.0)
    }
}

/// Where a fetched artifact goes.
enum Kept {
    /// It lies on this machine already.
    Nowhere,
    /// Into the scratch store, so that it is downloaded once.
    InScratch(Box<dyn BlobWriter>),
}

impl Write for Kept {
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

struct HashSink(Hasher);

impl Write for HashSink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
