//! The ephemeral storage that a pack Job needs, computed from the frozen lock.

use crate::core::lockfile::Lockfile;

/// Overhead of a tar and a layout for one file: headers, padding, a blob's disk block.
const BYTES_PER_FILE: u64 = 8 << 10;
/// Space for manifests, the lock and other files that exist once.
const BASE_BYTES: u64 = 64 << 20;

/// Ephemeral storage of a pack Job, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScratchStorage {
    /// The size of the bundle, which must be free on the node.
    pub needed: u64,
    /// The limit: twice the bundle, because fetched content and packed content exist at the same
    /// time.
    pub limit: u64,
}

impl ScratchStorage {
    /// The storage for this lock. Its sizes are those of the content of the bundle, and the Job
    /// reads no byte more from any origin.
    pub fn for_lock(lock: &Lockfile) -> Self {
        let platforms: u64 = lock
            .artifacts
            .iter()
            .flat_map(|artifact| &artifact.platforms)
            .collect::<std::collections::BTreeSet<_>>()
            .len() as u64;
        let times = |own: usize| {
            if own == 0 {
                platforms.max(1)
            } else {
                own as u64
            }
        };
        let artifacts = lock
            .artifacts
            .iter()
            .map(|artifact| (artifact.size, times(artifact.platforms.len())));
        let entrypoint = lock
            .entrypoint
            .iter()
            .map(|entrypoint| (entrypoint.size, times(0)));
        let bytes = artifacts
            .chain(entrypoint)
            .map(|(size, times)| size.saturating_add(BYTES_PER_FILE).saturating_mul(times));
        let needed = bytes.fold(BASE_BYTES, u64::saturating_add);
        Self {
            needed,
            limit: needed.saturating_mul(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::limits::InputLimits;

    fn lock(artifacts: &str) -> Lockfile {
        let text = format!(
            "apiVersion: packgate.dev/v1alpha1\nkind: Lockfile\nname: a\nartifacts:\n{}",
            artifacts.replace("SUM", &format!("sha256:{}", "a".repeat(64)))
        );
        Lockfile::parse(text.as_bytes(), &InputLimits::DEFAULT).expect("a lock")
    }

    #[test]
    fn the_room_follows_from_the_locks_sizes() {
        let one = lock(
            "- {name: a, type: file, origin: a, target: a, checksum: SUM, size: 1000000000}\n",
        );
        let needed = 1_000_000_000 + BYTES_PER_FILE + BASE_BYTES;
        assert_eq!(
            ScratchStorage::for_lock(&one),
            ScratchStorage {
                needed,
                limit: 2 * needed
            }
        );
        let largest = lock(
            "- {name: a, type: file, origin: a, target: a, checksum: SUM, size: 1099511627776}\n",
        );
        assert!(
            ScratchStorage::for_lock(&largest).limit < 3 << 40,
            "a limit, however large"
        );
    }

    #[test]
    fn what_is_in_several_platforms_counts_for_each() {
        let both = "- {name: a, type: file, origin: a, target: a, checksum: SUM, size: 1000000, \
            platforms: [linux/amd64, linux/arm64]}\n";
        let all = "- {name: b, type: file, origin: b, target: b, checksum: SUM, size: 1000000}\n";
        assert_eq!(
            ScratchStorage::for_lock(&lock(&format!("{both}{all}"))).needed,
            4 * (1_000_000 + BYTES_PER_FILE) + BASE_BYTES
        );
    }
}
