//! Periods of validity of certificates and revocation lists.

use jiff::Timestamp;

/// A period of validity. `until` is the first moment outside of it. An absent end is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ValidityPeriod {
    /// The first moment of validity.
    pub from: Option<Timestamp>,
    /// The first moment after it.
    pub until: Option<Timestamp>,
}

impl ValidityPeriod {
    /// The period from `from` up to, but excluding, `until`.
    pub const fn between(from: Timestamp, until: Timestamp) -> Self {
        Self {
            from: Some(from),
            until: Some(until),
        }
    }

    /// The period in which both are valid.
    #[must_use]
    pub fn intersect_with(self, other: Self) -> Self {
        let until = [self.until, other.until].into_iter().flatten().min();
        Self {
            from: self.from.max(other.from),
            until,
        }
    }

    /// True if `now` is in the period.
    pub fn contains_time(self, now: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now < until)
    }
}
