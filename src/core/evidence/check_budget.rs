//! The cost of verifying the evidence about one digest: a limited number of signature checks, and
//! none after the request is cancelled.
//!
//! Whoever can attach evidence chooses how much of it there is; policies set the number of keys
//! that it is checked against. The product of both is bounded here. The first check of every
//! candidate is free, so that no number of bad candidates can prevent the verification of a good
//! one that names its key.

use std::cell::Cell;

use super::EvidenceError;

/// Bytes whose hashing costs about as much as a signature check.
const BYTES_PER_CHECK: usize = 256 << 10;

/// The remaining signature checks of one request.
#[derive(Debug)]
pub(crate) struct SignatureCheckCounter {
    limit: usize,
    left: Cell<usize>,
    made: Cell<usize>,
}

/// The limit on signature checks for one candidate.
pub(crate) struct CheckBudget<'a> {
    checks: &'a SignatureCheckCounter,
    stopped: &'a dyn Fn() -> bool,
    is_first: Cell<bool>,
    is_exceeded: Cell<bool>,
}

impl SignatureCheckCounter {
    pub(crate) const fn new(limit: usize) -> Self {
        Self {
            limit,
            left: Cell::new(limit),
            made: Cell::new(0),
        }
    }

    /// The checks made so far, including free ones.
    pub(crate) const fn checks_made(&self) -> usize {
        self.made.get()
    }
}

impl<'a> CheckBudget<'a> {
    /// The budget of one candidate. `stopped` is true once the request is cancelled.
    pub(crate) const fn new(
        checks: &'a SignatureCheckCounter,
        stopped: &'a dyn Fn() -> bool,
    ) -> Self {
        Self {
            checks,
            stopped,
            is_first: Cell::new(true),
            is_exceeded: Cell::new(false),
        }
    }

    /// Counts one signature check, or refuses it.
    pub(crate) fn spend_check(&self) -> Result<(), EvidenceError> {
        self.spend_weighted_check(1)
    }

    /// The same for a check that hashes `bytes` itself.
    pub(crate) fn spend_check_for_bytes(&self, bytes: usize) -> Result<(), EvidenceError> {
        self.spend_weighted_check(1 + bytes / BYTES_PER_CHECK)
    }

    fn spend_weighted_check(&self, weight: usize) -> Result<(), EvidenceError> {
        let SignatureCheckCounter { limit, left, made } = self.checks;
        if (self.stopped)() {
            self.is_exceeded.set(true);
            return Err(EvidenceError::DeadlineExceeded);
        }
        if !self.is_first.replace(false) {
            let Some(rest) = left.get().checked_sub(weight) else {
                self.is_exceeded.set(true);
                return Err(EvidenceError::TooManyChecks { limit: *limit });
            };
            left.set(rest);
        }
        made.set(made.get() + weight);
        Ok(())
    }

    /// True if a check was refused.
    pub(crate) const fn is_exceeded(&self) -> bool {
        self.is_exceeded.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::reason::{ClassifiedError, Reason};

    #[test]
    fn the_first_check_of_each_candidate_is_free_and_the_others_are_counted() {
        let checks = SignatureCheckCounter::new(3);
        let reasons = |count: usize| {
            let effort = CheckBudget::new(&checks, &|| false);
            (0..count)
                .filter_map(|_| effort.spend_check().err())
                .map(|error| error.reason())
                .collect::<Vec<_>>()
        };
        assert_eq!(reasons(3), []);
        assert_eq!(reasons(4), [Reason::LimitExceeded; 2]);
        assert_eq!(reasons(1), [], "nothing is left, and this one is free");
        assert_eq!(checks.checks_made(), 6);
    }

    #[test]
    fn what_is_hashed_anew_counts_and_nobody_who_waits_ends_it() {
        let checks = SignatureCheckCounter::new(20);
        let effort = CheckBudget::new(&checks, &|| false);
        effort.spend_check().expect("free");
        effort.spend_check_for_bytes(4 << 20).expect("17 checks");
        assert!(effort.spend_check_for_bytes(4 << 20).is_err() && effort.is_exceeded());
        assert_eq!(
            CheckBudget::new(&checks, &|| true)
                .spend_check()
                .expect_err("stopped")
                .reason(),
            Reason::DeadlineExceeded
        );
    }
}
