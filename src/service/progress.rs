//! How far long work has come, for a person who waits.

/// Receives progress of a service. All methods do nothing by default.
pub trait Progress: Send + Sync {
    /// Work begins. `total` is its length in bytes, if known.
    fn begin_task(&self, _what: &str, _total: Option<u64>) {}

    /// So many bytes more are done.
    fn advance_bytes(&self, _bytes: u64) {}

    /// The work that was begun last has ended.
    fn end_task(&self) {}
}

/// Discards all progress.
#[derive(Clone, Copy, Debug, Default)]
pub struct SilentProgress;

impl Progress for SilentProgress {}
