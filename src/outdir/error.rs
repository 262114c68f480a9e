//! Errors of unpacking a bundle.

use std::fmt::Display;

use crate::core::{
    bundle_path::BundlePath,
    reason::{ClassifiedError, Reason},
    unpack::ArchiveUnpackError,
};

/// Why nothing was unpacked. The destination is always unchanged.
#[derive(Debug, thiserror::Error)]
pub enum OutDirError {
    /// The destination cannot be used.
    #[error(
        "destination {path} {why}; give a folder that does not exist yet, next to ones that do"
    )]
    Destination {
        /// The path as given.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Two files have the same name.
    #[error(
        "{0} would be written twice: two targets or archive entries have this name (where the file \
            system folds case, also in other case)"
    )]
    Collision(BundlePath),
    /// A file or link exists where a folder is needed.
    #[error("{path} cannot be written, because {above} is not a folder")]
    NoFolder {
        /// The path to write.
        path: BundlePath,
        /// The conflicting path.
        above: String,
    },
    /// The file system does not accept the name.
    #[error("{0} has a name that this file system does not accept")]
    Name(BundlePath),
    /// The archive cannot be extracted.
    #[error("{archive} cannot be unpacked: {cause}")]
    Archive {
        /// The archive.
        archive: BundlePath,
        /// The error.
        cause: ArchiveUnpackError,
    },
    /// A limit of unpacking is exceeded.
    #[error("{archive} contains more than {limit} {unit}")]
    Limit {
        /// The archive.
        archive: BundlePath,
        /// The limit.
        limit: u64,
        /// The unit of the limit: entries or bytes.
        unit: &'static str,
    },
    /// The disk failed.
    #[error("{path}: {cause}")]
    Storage {
        /// The path that was read or written.
        path: String,
        /// The system's error.
        cause: String,
    },
}

impl OutDirError {
    /// The error of the disk at `path`.
    pub fn storage_error(path: impl Display, cause: &std::io::Error) -> Self {
        Self::Storage {
            path: path.to_string(),
            cause: cause.to_string(),
        }
    }
}

impl ClassifiedError for OutDirError {
    fn reason(&self) -> Reason {
        match self {
            Self::Destination { .. } => Reason::InvalidSpec,
            Self::Collision(_) | Self::NoFolder { .. } | Self::Name(_) => Reason::InvalidLock,
            Self::Archive { cause, .. } => cause.reason(),
            Self::Limit { .. } => Reason::LimitExceeded,
            Self::Storage { .. } => Reason::StorageFailed,
        }
    }
}
