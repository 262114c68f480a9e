//! The minimum transfer rate of bodies.

use std::time::Duration;

/// The minimum transfer rate of a body. A server that sends single bytes never runs into an idle
/// timeout, and could otherwise delay a reader for as long as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinTransferRate {
    /// Bytes per second, averaged over a window.
    pub bytes_per_second: u64,
    /// The window: time spent waiting for data. The reader's own processing does not count.
    pub window: Duration,
}

impl MinTransferRate {
    /// 8 KiB a second over a minute: less than any link that artifacts are packed over.
    pub const DEFAULT: Self = Self {
        bytes_per_second: 8 << 10,
        window: Duration::from_mins(1),
    };
}

/// A window with too few bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TransferTooSlow {
    pub bytes: u64,
    pub seconds: u64,
    /// The required bytes per second.
    pub least: u64,
}

/// The bytes in the current window.
#[derive(Debug)]
pub(super) struct TransferRateMonitor {
    least: MinTransferRate,
    waited: Duration,
    bytes: u64,
}

impl TransferRateMonitor {
    pub(super) const fn new(least: MinTransferRate) -> Self {
        Self {
            least,
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    /// Counts a received chunk. An error if a window has ended with too few bytes.
    pub(super) fn record_chunk(
        &mut self,
        waited: Duration,
        bytes: usize,
    ) -> Result<(), TransferTooSlow> {
        self.waited += waited;
        self.bytes += bytes as u64;
        if self.waited < self.least.window {
            return Ok(());
        }
        let milliseconds = u64::try_from(self.waited.as_millis()).unwrap_or(u64::MAX);
        let enough = self.least.bytes_per_second.saturating_mul(milliseconds) / 1_000;
        let slow = TransferTooSlow {
            bytes: self.bytes,
            seconds: self.waited.as_secs(),
            least: self.least.bytes_per_second,
        };
        *self = Self::new(self.least);
        if slow.bytes < enough {
            Err(slow)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: MinTransferRate = MinTransferRate {
        bytes_per_second: 100,
        window: Duration::from_secs(10),
    };

    #[test]
    fn a_drip_ends_with_its_window_and_a_stream_does_not() {
        let mut drip = TransferRateMonitor::new(LEAST);
        assert_eq!(drip.record_chunk(Duration::from_secs(9), 1), Ok(()));
        assert_eq!(
            drip.record_chunk(Duration::from_secs(9), 1),
            Err(TransferTooSlow {
                bytes: 2,
                seconds: 18,
                least: 100
            })
        );
        let mut stream = TransferRateMonitor::new(LEAST);
        for _ in 0..100 {
            assert_eq!(stream.record_chunk(Duration::from_secs(1), 100), Ok(()));
        }
        // An earlier surplus does not count for later windows.
        assert!(stream.record_chunk(Duration::from_secs(10), 999).is_err());
    }
}
