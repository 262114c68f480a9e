//! The transparency logs of a trust root.

use sigstore_trust_root::TrustedRoot;
use sigstore_types::TimeRange;

/// The logs of a trust root: their ids and periods of use.
pub(crate) struct TrustedLogs(pub(in crate::core) Vec<TrustedLog>);

/// A log of a trust root.
pub(crate) struct TrustedLog {
    /// The log's id: for Rekor the hash of its key, for a checkpoint also of its name.
    pub(crate) id: Vec<u8>,
    /// When its key is in use; always if absent.
    pub(crate) window: Option<TimeRange>,
}

impl TrustedLogs {
    pub(crate) fn from_trusted_root(root: &TrustedRoot) -> Self {
        let logs = root.tlogs.iter().map(|log| TrustedLog {
            id: log.log_id.key_id.as_bytes().to_vec(),
            window: log.public_key.valid_for,
        });
        Self(logs.collect())
    }
}
