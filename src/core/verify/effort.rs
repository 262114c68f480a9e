//! What judging the evidence about one digest may cost: a number of signature checks, and only
//! while somebody waits for the answer.
//!
//! Who may attach evidence chooses how much of it there is, and who writes policies how many keys
//! it is held against. Their product is what is bounded here. The first check of every candidate is
//! free, so that no number of bad candidates spoils a good one that names its key.

use std::cell::Cell;

use super::EvidenceError;

/// Bytes that are hashed anew for a check and cost about as much as the check itself.
const BYTES_PER_CHECK: usize = 256 << 10;

/// The signature checks that one question has left.
#[derive(Debug)]
pub(super) struct Checks {
    limit: usize,
    left: Cell<usize>,
    made: Cell<usize>,
}

/// What judging one candidate may cost.
pub(super) struct Effort<'a> {
    checks: &'a Checks,
    stopped: &'a dyn Fn() -> bool,
    is_first: Cell<bool>,
    is_exceeded: Cell<bool>,
}

impl Checks {
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            limit,
            left: Cell::new(limit),
            made: Cell::new(0),
        }
    }

    /// Checks that were made so far, those that were free too.
    pub(super) const fn made(&self) -> usize {
        self.made.get()
    }
}

impl<'a> Effort<'a> {
    /// For one candidate. `stopped` is true when nobody waits any more.
    pub(super) const fn new(checks: &'a Checks, stopped: &'a dyn Fn() -> bool) -> Self {
        Self {
            checks,
            stopped,
            is_first: Cell::new(true),
            is_exceeded: Cell::new(false),
        }
    }

    /// Takes one check of a signature, or refuses it.
    pub(super) fn check(&self) -> Result<(), EvidenceError> {
        self.checks_of(1)
    }

    /// The same where the check itself hashes `bytes`.
    pub(super) fn check_of(&self, bytes: usize) -> Result<(), EvidenceError> {
        self.checks_of(1 + bytes / BYTES_PER_CHECK)
    }

    fn checks_of(&self, weight: usize) -> Result<(), EvidenceError> {
        let Checks { limit, left, made } = self.checks;
        if (self.stopped)() {
            self.is_exceeded.set(true);
            return Err(EvidenceError::NobodyWaits);
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

    /// Was a check refused?
    pub(super) const fn is_exceeded(&self) -> bool {
        self.is_exceeded.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::class::{Classified, Reason};

    #[test]
    fn the_first_check_of_each_candidate_is_free_and_the_others_are_counted() {
        let checks = Checks::new(3);
        let reasons = |count: usize| {
            let effort = Effort::new(&checks, &|| false);
            (0..count)
                .filter_map(|_| effort.check().err())
                .map(|error| error.reason())
                .collect::<Vec<_>>()
        };
        assert_eq!(reasons(3), []);
        assert_eq!(reasons(4), [Reason::LimitExceeded; 2]);
        assert_eq!(reasons(1), [], "nothing is left, and this one is free");
        assert_eq!(checks.made(), 6);
    }

    #[test]
    fn what_is_hashed_anew_counts_and_nobody_who_waits_ends_it() {
        let checks = Checks::new(20);
        let effort = Effort::new(&checks, &|| false);
        effort.check().expect("free");
        effort.check_of(4 << 20).expect("17 checks");
        assert!(effort.check_of(4 << 20).is_err() && effort.is_exceeded());
        assert_eq!(
            Effort::new(&checks, &|| true)
                .check()
                .expect_err("stopped")
                .reason(),
            Reason::DeadlineExceeded
        );
    }
}
