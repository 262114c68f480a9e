//! Recorded layers of a lock, which its canonical form has not.

use serde::{Deserialize, Serialize};

use crate::core::{digest::Digest, lockfile::RecordedLayer, oci::Platform};

/// One recorded layer of the lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobRecordedLayer {
    /// The number of artifacts in it.
    pub artifacts: usize,
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// The size of the bundle in bytes.
    pub size: u64,
    /// The platform's bundle that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

impl From<JobRecordedLayer> for RecordedLayer {
    fn from(
        JobRecordedLayer {
            artifacts,
            diff_id,
            size,
            platform,
        }: JobRecordedLayer,
    ) -> Self {
        Self {
            artifacts,
            diff_id,
            size,
            platform,
        }
    }
}

impl From<RecordedLayer> for JobRecordedLayer {
    fn from(
        RecordedLayer {
            artifacts,
            diff_id,
            size,
            platform,
        }: RecordedLayer,
    ) -> Self {
        Self {
            artifacts,
            diff_id,
            size,
            platform,
        }
    }
}
