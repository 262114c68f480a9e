//! Errors of reading evidence: which of them reject one item, and which end the request because it
//! is unknown then what is missing.

use crate::{
    core::reason::{ClassifiedError, Reason},
    oci::OciError,
};

/// The result of reading an item; an error is one that only the item itself caused.
pub(super) type EvidenceRead<T, B> = (T, Result<B, OciError>);

/// True if only whoever attached the referrer can have caused this error.
pub(in crate::service) const fn is_caused_by_evidence(error: &OciError) -> bool {
    matches!(
        error,
        OciError::NotFound { .. }
            | OciError::SizeMismatch { .. }
            | OciError::LimitExceeded { .. }
            | OciError::Manifest(_)
    )
}

/// The first error that the registry caused, if there is one.
pub(super) fn fail_on_registry_error<T, B>(
    all: Vec<EvidenceRead<T, B>>,
) -> Result<Vec<EvidenceRead<T, B>>, OciError> {
    let mut kept = Vec::with_capacity(all.len());
    for (item, read) in all {
        match read {
            Err(error) if !is_caused_by_evidence(&error) => return Err(error),
            read => kept.push((item, read)),
        }
    }
    Ok(kept)
}

/// An item was not read.
#[derive(Debug, thiserror::Error)]
#[error(
    "it was not read: it has {size} bytes, and of the budget of {limit} bytes of signatures and attestations for \
        one digest {left} are left; delete those that are not needed"
)]
pub(super) struct EvidenceBudgetExceeded {
    pub(super) size: u64,
    pub(super) left: u64,
    pub(super) limit: u64,
}

impl ClassifiedError for EvidenceBudgetExceeded {
    fn reason(&self) -> Reason {
        Reason::LimitExceeded
    }
}
