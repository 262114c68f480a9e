//! Why a log entry is invalid.

use std::fmt;

/// Why a log entry is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogEntryError {
    MissingInclusionProof,
    UnknownLog,
    CheckpointLogMismatch,
    TreeMismatch,
    IndexMismatch,
    LogNotInUse,
    UnsignedIntegratedTime,
}

impl fmt::Display for LogEntryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MissingInclusionProof => "it has no log entry, or one without an inclusion proof",
            Self::UnknownLog => "its log entry names a log that the trust root does not know",
            Self::CheckpointLogMismatch => {
                "its log entry names one log, and its checkpoint is of another"
            }
            Self::TreeMismatch => "its inclusion proof is for another tree than the checkpoint's",
            Self::IndexMismatch => {
                "its inclusion proof is for another index in the tree than its log \
                entry's"
            }
            Self::UnsignedIntegratedTime => {
                "its log entry of Rekor v2 has an integratedTime, which \
                Rekor v2 never sets: it is not signed"
            }
            Self::LogNotInUse => "its log was not in use at any verified signing time",
        })
    }
}
