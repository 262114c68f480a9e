//! Limits on concurrent reads. Objects and locks may be large, and after a start all of them are
//! read.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::core::limits::InputLimits;

/// Whole objects read concurrently. Each may have over a megabyte, and is in memory three times
/// while it is parsed.
const MAX_CONCURRENT_OBJECTS: usize = 2;
/// Bytes of locks in memory, as written: the size of the largest lock. A lock takes some ten times
/// its size while it is resolved.
const LOCK_BYTES: usize = InputLimits::DEFAULT.lock_bytes;
/// The minimum weight of a lock.
const MIN_LOCK_WEIGHT: usize = 16 << 10;

/// Limits on concurrent reads.
#[derive(Debug)]
pub(super) struct ReadLimiter {
    objects: Semaphore,
    locks: Arc<Semaphore>,
}

/// A reservation in the memory budget for locks, until it is dropped.
pub(super) struct LockMemoryPermit(
    #[expect(dead_code, reason = "it counts while it is there")] Option<OwnedSemaphorePermit>,
);

impl Default for ReadLimiter {
    fn default() -> Self {
        Self {
            objects: Semaphore::new(MAX_CONCURRENT_OBJECTS),
            locks: Arc::new(Semaphore::new(LOCK_BYTES)),
        }
    }
}

impl ReadLimiter {
    /// Waits until a whole object may be read from the API server. The permit must not be held
    /// while waiting for anything else.
    pub(super) async fn acquire_object_permit(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        self.objects.acquire().await.ok()
    }

    /// Waits until a lock of this many bytes may be resolved. Small ones hardly ever wait; the
    /// largest are resolved alone.
    pub(super) async fn acquire_lock_permit(&self, bytes: usize) -> LockMemoryPermit {
        let weight = u32::try_from(bytes.clamp(MIN_LOCK_WEIGHT, LOCK_BYTES)).unwrap_or(u32::MAX);
        LockMemoryPermit(
            Arc::clone(&self.locks)
                .acquire_many_owned(weight)
                .await
                .ok(),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use futures::FutureExt;

    use super::*;

    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        future.now_or_never()
    }

    #[test]
    fn large_locks_are_resolved_one_after_the_other() {
        let reading = ReadLimiter::default();
        let largest = now(reading.acquire_lock_permit(LOCK_BYTES)).expect("the first");
        assert!(
            now(reading.acquire_lock_permit(LOCK_BYTES)).is_none()
                && now(reading.acquire_lock_permit(10)).is_none(),
            "the others wait"
        );
        drop(largest);
        let small: Vec<LockMemoryPermit> = (0..100)
            .map(|_| now(reading.acquire_lock_permit(3_000)).expect("small ones do not wait"))
            .collect();
        assert!(
            now(reading.acquire_lock_permit(LOCK_BYTES - (1 << 20))).is_none(),
            "a large one waits for some of them"
        );
        drop(small);
        assert!(now(reading.acquire_lock_permit(usize::MAX)).is_some());
    }

    #[test]
    fn few_whole_objects_are_read_at_once() {
        let reading = ReadLimiter::default();
        let all: Vec<_> = (0..MAX_CONCURRENT_OBJECTS)
            .map(|_| {
                now(reading.acquire_object_permit())
                    .flatten()
                    .expect("a place")
            })
            .collect();
        assert!(now(reading.acquire_object_permit()).is_none());
        drop(all);
        assert!(now(reading.acquire_object_permit()).is_some());
    }
}
