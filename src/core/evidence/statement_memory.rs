//! The memory that verified statements may use.

use crate::core::json;

use super::EvidenceError;

/// The memory for verified statements.
#[derive(Debug)]
pub(crate) struct StatementMemoryBudget {
    limit: usize,
    left: usize,
    /// The bytes that are not available yet.
    withheld: usize,
}

impl StatementMemoryBudget {
    /// All statements together may need `limit` bytes.
    pub(crate) const fn new(limit: usize) -> Self {
        Self {
            limit,
            left: limit,
            withheld: 0,
        }
    }

    /// The bytes that are left.
    pub(crate) const fn bytes_left(&self) -> usize {
        self.left
    }

    /// Undoes the use of memory: `left` bytes are left again.
    pub(crate) const fn restore_to(&mut self, left: usize) {
        self.left = left;
    }

    /// True if some of the memory is not available yet.
    pub(crate) const fn is_withheld(&self) -> bool {
        self.withheld > 0
    }

    /// Makes all of the memory available.
    pub(crate) const fn release_withheld(&mut self) {
        self.left += self.withheld;
        self.withheld = 0;
    }

    /// Leaves at most this many bytes, until [`Self::release_withheld`].
    pub(crate) const fn withhold_above(&mut self, bytes: usize) {
        let withheld = self.left.saturating_sub(bytes);
        self.left -= withheld;
        self.withheld += withheld;
    }

    /// Parses a statement if there is memory for it.
    pub(crate) fn read_within_budget<T>(
        &mut self,
        payload: &[u8],
        read: impl FnOnce() -> Result<T, EvidenceError>,
    ) -> Result<T, EvidenceError> {
        let size = json::estimate_memory(payload);
        let left = self
            .left
            .checked_sub(size)
            .ok_or(EvidenceError::StatementMemoryExceeded {
                size,
                limit: self.limit,
            })?;
        let statement = read()?;
        self.left = left;
        Ok(statement)
    }
}
