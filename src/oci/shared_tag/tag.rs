//! What the writers of a shared tag need to know about it.

use async_trait::async_trait;

use crate::{http::RateLimitBackoff, oci::OciError};

/// A tag whose manifest or index is a list of entries.
#[async_trait]
pub(crate) trait SharedTag: Sync {
    /// One entry.
    type Entry: Clone + Send + Sync + 'static;
    /// What the tag names; also if it does not exist.
    type Content: Send;

    /// The tag and its repository. Equal for all writers of one tag.
    fn name(&self) -> String;

    /// False for content on this machine, which nobody else writes.
    fn has_other_writers(&self) -> bool;

    /// The entries of the list.
    fn entries(content: &Self::Content) -> &[Self::Entry];

    /// True if a list needs only one of both.
    fn is_same_entry(one: &Self::Entry, other: &Self::Entry) -> bool;

    /// Refuses a list of more entries than the limit.
    fn check_entry_count(&self, count: usize) -> Result<(), OciError>;

    /// Reads the list.
    async fn read_content(&self) -> Result<Self::Content, OciError>;

    /// Writes `found` with the `missing` entries behind its own. Only once: a second attempt could
    /// overwrite a newer list.
    async fn write_content(
        &self,
        found: Self::Content,
        missing: Vec<Self::Entry>,
    ) -> Result<(), OciError>;

    /// The waits when the registry limits the rate of requests; `None` if writing waits by itself.
    fn rate_limit_backoff(&self) -> Option<RateLimitBackoff> {
        None
    }

    /// The error when it cannot be ensured that the entries are kept.
    fn not_kept_error(&self, cause: String) -> OciError;
}
