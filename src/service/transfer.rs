//! Transfers an artifact's bytes from its origin to a destination, and verifies them.

use std::io::{Read, Write};

use tokio::{io::AsyncReadExt, runtime::Handle, task::spawn_blocking};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    core::{
        digest::{Digest, DigestHasher},
        limits::InputLimits,
        lockfile::{Lockfile, OriginType},
        pack::{LockItem, PackedFile},
        reason::{ClassifiedError, Reason},
    },
    fetch::{ArtifactStream, FetchError, FetchRequest},
    oci::{ContentReader, OciError},
};

const BUFFER: usize = 256 << 10;

/// The expected bytes of an artifact.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedContent {
    /// The digest of the bytes.
    pub checksum: Digest,
    /// The length in bytes.
    pub size: u64,
}

/// Why the bytes of an artifact could not be transferred.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The bytes differ from the lock's.
    #[error(
        "artifact {name:?}: checksum is {actual}, the lock says {expected}; if the change is \
            wanted: packgate lock --update"
    )]
    Checksum {
        /// The artifact's name.
        name: String,
        /// The lock's checksum.
        expected: Digest,
        /// The actual digest.
        actual: Digest,
    },
    /// The number of bytes differs from the lock's.
    #[error(
        "artifact {name:?}: has {actual} bytes, the lock says {expected}; if the change is wanted: \
            packgate lock --update"
    )]
    Size {
        /// The artifact's name.
        name: String,
        /// The lock's size in bytes.
        expected: u64,
        /// The actual size: a number, or "more".
        actual: String,
    },
    /// More bytes than the limit of artifacts.
    #[error("artifact {name:?}: has more than {limit} bytes, the most that an artifact may have")]
    TooLarge {
        /// The artifact's name.
        name: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The origin failed.
    #[error("artifact {name:?}: {source}")]
    Fetch {
        /// The artifact's name.
        name: String,
        /// The error of the origin.
        source: Box<FetchError>,
    },
    /// The connection or the disk failed while reading.
    #[error("artifact {name:?}: could not be read to its end: {cause}")]
    Broken {
        /// The artifact's name.
        name: String,
        /// The error.
        cause: String,
    },
    /// The destination failed.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// Writing to the destination failed.
    #[error("writing failed: {0}")]
    Write(std::io::Error),
    /// The worker thread panicked or was cancelled.
    #[error("internal: the worker thread ended early: {0}")]
    Worker(String),
}

impl ClassifiedError for TransferError {
    fn reason(&self) -> Reason {
        match self {
            Self::Checksum { .. } => Reason::ChecksumMismatch,
            Self::Size { .. } => Reason::SizeMismatch,
            Self::TooLarge { .. } => Reason::InvalidLock,
            Self::Fetch { source, .. } => source.reason(),
            Self::Broken { .. } => Reason::FetchFailed,
            Self::Oci(error) => error.reason(),
            Self::Write(_) => Reason::StorageFailed,
            Self::Worker(_) => Reason::Internal,
        }
    }
}

/// The name of a lock's file in messages.
pub fn artifact_name(lock: &Lockfile, file: &PackedFile) -> String {
    match file.item {
        LockItem::Artifact(index) => lock
            .artifacts
            .get(index)
            .map_or_else(String::new, |artifact| artifact.name.clone()),
        LockItem::Entrypoint => "entrypoint".into(),
    }
}

/// The name of an artifact in messages about its bytes, with the mirror that they came from.
pub fn shown_name(name: &str, download_location: Option<&str>) -> String {
    match download_location {
        Some(location) => format!("{name} from {location}"),
        None => name.to_owned(),
    }
}

/// The fetch request to an origin for a file of a lock.
pub fn fetch_request<'a>(lock: &'a Lockfile, file: &PackedFile) -> Option<FetchRequest<'a>> {
    match file.item {
        LockItem::Artifact(index) => lock.artifacts.get(index).map(|artifact| FetchRequest {
            origin_type: artifact.origin_type,
            origin: artifact.fetch_origin(),
            oci: artifact.oci.as_ref(),
            expected_size: Some(artifact.size),
        }),
        LockItem::Entrypoint => lock.entrypoint.as_ref().map(|entrypoint| FetchRequest {
            origin_type: OriginType::File,
            origin: &entrypoint.script,
            oci: None,
            expected_size: Some(entrypoint.size),
        }),
    }
}

/// Reads an artifact completely on a blocking thread, writes every byte to `sink`, and returns its
/// digest and size.
///
/// With `expected`, anything else is an error, and not a byte more than expected is read. When the
/// future is dropped, the thread ends too: an artifact that fails does not have to wait for another
/// that is in transfer.
pub async fn transfer_artifact<S: Write + Send + 'static>(
    name: &str,
    content: ArtifactStream,
    expected: Option<ExpectedContent>,
    mut sink: S,
    advance: impl Fn(u64) + Send + 'static,
) -> Result<(S, Digest, u64), TransferError> {
    let (mut reader, _guard) = InterruptibleReader::new(content);
    let name = name.to_owned();
    let work = move || {
        let (digest, size) = transfer_bytes(&name, &mut reader, expected, &mut sink, &advance)?;
        Ok((sink, digest, size))
    };
    spawn_blocking(work)
        .await
        .map_err(|e| TransferError::Worker(e.to_string()))?
}

/// Content as a blocking reader that ends with an error once it is cancelled.
pub(super) struct InterruptibleReader {
    content: ArtifactStream,
    handle: Handle,
    token: CancellationToken,
}

impl InterruptibleReader {
    /// A reader for a blocking thread, and a guard that stops it on drop.
    pub(super) fn new(content: ArtifactStream) -> (Self, DropGuard) {
        let token = CancellationToken::new();
        let guard = token.clone().drop_guard();
        (
            Self {
                content,
                handle: Handle::current(),
                token,
            },
            guard,
        )
    }
}

impl Read for InterruptibleReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let stopped = || std::io::Error::other("no longer wanted");
        match &mut self.content {
            ArtifactStream::Blocking(_) if self.token.is_cancelled() => Err(stopped()),
            ArtifactStream::Blocking(reader) => reader.read(buffer),
            ArtifactStream::Stream(stream) => {
                let read = |stream: &mut ContentReader, buffer: &mut [u8]| {
                    self.handle
                        .block_on(self.token.run_until_cancelled(stream.read(buffer)))
                };
                read(stream, buffer).unwrap_or_else(|| Err(stopped()))
            }
        }
    }
}

fn transfer_bytes(
    name: &str,
    reader: &mut dyn Read,
    expected: Option<ExpectedContent>,
    sink: &mut dyn Write,
    advance: &dyn Fn(u64),
) -> Result<(Digest, u64), TransferError> {
    let limit = expected.map_or(InputLimits::DEFAULT.artifact_bytes, |expected| {
        expected.size
    });
    let (mut hasher, mut size) = (DigestHasher::new(), 0_u64);
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = read_some(reader, &mut buffer, name)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        size += count as u64;
        if size > limit {
            return Err(size_error(name, expected, limit));
        }
        hasher.update(bytes);
        sink.write_all(bytes).map_err(TransferError::Write)?;
        advance(count as u64);
    }
    let digest = hasher.finish();
    check_content(name, digest, size, expected)?;
    Ok((digest, size))
}

fn read_some(reader: &mut dyn Read, buffer: &mut [u8], name: &str) -> Result<usize, TransferError> {
    loop {
        match reader.read(buffer) {
            Ok(count) => return Ok(count),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(read_error(name, error)),
        }
    }
}

fn read_error(name: &str, error: std::io::Error) -> TransferError {
    match error.downcast::<OciError>() {
        Ok(inner) => TransferError::Oci(inner),
        Err(cause) => TransferError::Broken {
            name: name.into(),
            cause: cause.to_string(),
        },
    }
}

fn size_error(name: &str, expected: Option<ExpectedContent>, limit: u64) -> TransferError {
    match expected {
        Some(expected) => TransferError::Size {
            name: name.into(),
            expected: expected.size,
            actual: "more".into(),
        },
        None => TransferError::TooLarge {
            name: name.into(),
            limit,
        },
    }
}

fn check_content(
    name: &str,
    digest: Digest,
    size: u64,
    expected: Option<ExpectedContent>,
) -> Result<(), TransferError> {
    let Some(expected) = expected else {
        return Ok(());
    };
    if size != expected.size {
        return Err(TransferError::Size {
            name: name.into(),
            expected: expected.size,
            actual: size.to_string(),
        });
    }
    if digest == expected.checksum {
        Ok(())
    } else {
        Err(TransferError::Checksum {
            name: name.into(),
            expected: expected.checksum,
            actual: digest,
        })
    }
}
