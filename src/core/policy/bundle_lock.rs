//! The lock that the bundle must have been packed from.

use crate::core::reason::Reason;

use super::{Denial, PolicyEvaluation};

/// The lock in the bundle must be the one that the policy expects, if it expects one.
pub(super) fn check_bundle_lock(evaluation: &PolicyEvaluation<'_>) -> Result<(), Denial> {
    let Some(expected) = evaluation.rules.lock else {
        return Ok(());
    };
    let message = match evaluation.subject.lock {
        Some(lock) if lock.digest == expected => return Ok(()),
        Some(lock) => format!(
            "the bundle was packed from the lock {}, not from {expected}",
            lock.digest
        ),
        None => "the bundle carries no lock".to_owned(),
    };
    Err(evaluation.new_denial(Reason::LockMismatch, message))
}
