//! Progress of long work, for users.

/// Receives progress of a service. All methods do nothing by default.
pub trait Progress: Send + Sync {
    /// A task begins. `total` is its length in bytes, if known.
    fn begin_task(&self, _what: &str, _total: Option<u64>) {}

    /// This many more bytes are done.
    fn advance_bytes(&self, _bytes: u64) {}

    /// The last task has ended.
    fn end_task(&self) {}
}

/// Discards all progress.
#[derive(Clone, Copy, Debug, Default)]
pub struct SilentProgress;

impl Progress for SilentProgress {}
