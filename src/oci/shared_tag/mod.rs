//! Keeps entries in a list under a tag that other writers replace: the referrers tag of registries
//! without the referrers API (distribution-spec 1.1, "Referrers Tag Schema"), and cosign's tags.
//!
//! An update reads, changes and writes the whole list, and the last writer wins: registries do not
//! support compare-and-set reliably. So each writer checks again, at growing intervals, until its
//! entries have stayed for longer than any other writer can take between reading and writing
//! ([`timing`]), and writes them again if they were lost. A writer also restores lost entries of
//! others that it has seen. Writers in this process share their state and take turns, so that one
//! write contains the entries of all of them ([`tracked_entries`]).

mod tag;
mod timing;
mod tracked_entries;

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};

pub(crate) use self::tag::SharedTag;
use self::{
    timing::{STABILITY_CHECKS, SharedTagTiming, visibility_wait},
    tracked_entries::TrackedTag,
};
use super::OciError;
use crate::http::{RateLimitBackoff, wait_before_retry};

/// The longest time that an entry is retried. Fifty concurrent writers need seconds, on an
/// overloaded machine a minute.
const WRITE_DEADLINE: Duration = Duration::from_mins(5);
/// Consecutive writes without any effect, after which the registry counts as unable to store the
/// list.
const MAX_INEFFECTIVE_WRITES: u32 = 8;
/// The number of reads after which a slow one is used anyway.
const MAX_FRESH_READS: u32 = 4;
/// Consecutive writes that fail with a temporary error.
const MAX_FAILED_WRITES: u32 = 4;

/// Adds the entries that are missing, once, and returns the list when they are safe from being
/// lost.
///
/// Errors: [`SharedTag::not_kept_error`] if that cannot be ensured; what the entries refer to is
/// stored then, and may be listed.
pub(crate) async fn add_entries<T: SharedTag>(
    tag: &T,
    entries: Vec<T::Entry>,
) -> Result<T::Content, OciError> {
    let list = if tag.has_other_writers() {
        TrackedTag::get_shared(&tag.name())
    } else {
        Arc::new(TrackedTag::default())
    };
    for entry in entries {
        list.add_own::<T>(entry);
    }
    let mut writer = SharedTagWriter {
        tag,
        list,
        timing: SharedTagTiming::default(),
        base: None,
        unseen: 0,
        failures: 0,
        rate_limit: tag.rate_limit_backoff(),
        rate_limit_wait: None,
        wrote: None,
        good: None,
    };
    timeout(WRITE_DEADLINE, Box::pin(writer.write_until_stable()))
        .await
        .unwrap_or_else(|_| {
            let seconds = WRITE_DEADLINE.as_secs();
            Err(tag.not_kept_error(format!("other writers overwrote it for {seconds} s")))
        })
}

/// Entries that are being added to a list.
struct SharedTagWriter<'a, T: SharedTag> {
    tag: &'a T,
    list: Arc<TrackedTag<T::Entry>>,
    timing: SharedTagTiming,
    /// The list before the last write.
    base: Option<Vec<T::Entry>>,
    /// Consecutive writes that left the list unchanged.
    unseen: u32,
    /// Consecutive writes that failed.
    failures: u32,
    /// The remaining waits for a registry that limits the rate of requests.
    rate_limit: Option<RateLimitBackoff>,
    /// The wait that it asked for.
    rate_limit_wait: Option<Duration>,
    /// The time of the last write.
    wrote: Option<Instant>,
    /// How long after that the entries were last seen.
    good: Option<Duration>,
}

/// The result of one check of the list.
enum SharedTagCheck<C> {
    /// All entries are present.
    Complete(C),
    /// Entries of this process are present, but one of another writer is missing, which may be
    /// about to restore it.
    OthersMissing,
    /// Entries of this process are missing.
    Missing,
    /// Missing entries were written.
    Rewritten,
}

impl<T: SharedTag> SharedTagWriter<'_, T> {
    async fn write_until_stable(&mut self) -> Result<T::Content, OciError> {
        let (mut looks, mut may_write) = (0, true);
        loop {
            let is_final = looks >= STABILITY_CHECKS;
            let look = self.check_and_write(may_write, is_final).await?;
            may_write = false;
            match look {
                SharedTagCheck::Complete(content) if is_final || self.is_safe() => {
                    return Ok(content);
                }
                SharedTagCheck::Rewritten => looks = 0,
                SharedTagCheck::Complete(_) => {}
                SharedTagCheck::OthersMissing if !is_final => {}
                SharedTagCheck::Missing | SharedTagCheck::OthersMissing => {
                    if matches!(look, SharedTagCheck::Missing) {
                        looks = 0;
                    }
                    match self.rate_limit_wait.take() {
                        Some(wait) => wait_before_retry(&self.tag.name(), wait).await,
                        None => sleep(self.wait_after_loss()?).await,
                    }
                    may_write = true;
                    continue;
                }
            }
            if self.tag.has_other_writers() {
                sleep(self.timing.wait_before_check(looks)).await;
            }
            looks += 1;
        }
    }

    /// True if no writer can overwrite what is there now: this process has written nothing that
    /// another could have missed, or there is no other.
    fn is_safe(&self) -> bool {
        !self.list.is_written() || !self.tag.has_other_writers()
    }

    /// Reads the list, and writes it if entries are missing and a write is allowed. Only one task
    /// of the process does so at a time.
    async fn check_and_write(
        &mut self,
        may_write: bool,
        is_final: bool,
    ) -> Result<SharedTagCheck<T::Content>, OciError> {
        let list = Arc::clone(&self.list);
        let _turn = list.take_turn().await;
        let (start, found) = self.read_fresh().await?;
        let entries = T::entries(&found);
        self.tag
            .check_entry_count(list.track_others::<T>(entries))?;
        let missing = list.missing_entries::<T>(entries);
        self.count_ineffective_writes(entries);
        if missing.own.is_empty() && (missing.others.is_empty() || !(may_write || is_final)) {
            self.good = self.wrote.map(|at| at.elapsed());
            return Ok(if missing.others.is_empty() {
                SharedTagCheck::Complete(found)
            } else {
                SharedTagCheck::OthersMissing
            });
        }
        if !may_write {
            return Ok(if missing.own.is_empty() {
                SharedTagCheck::OthersMissing
            } else {
                SharedTagCheck::Missing
            });
        }
        self.base = Some(entries.to_vec());
        list.set_written();
        let missing = [missing.own, missing.others].concat();
        let written = self.tag.write_content(found, missing).await;
        self.timing.record_write(start.elapsed());
        (self.wrote, self.good) = (Some(Instant::now()), None);
        self.classify_write(written)
    }

    /// The list, read within a short time.
    async fn read_fresh(&mut self) -> Result<(Instant, T::Content), OciError> {
        for _ in 1..MAX_FRESH_READS {
            let start = Instant::now();
            let found = self.tag.read_content().await?;
            if self.timing.is_fresh(start.elapsed()) {
                return Ok((start, found));
            }
        }
        Ok((Instant::now(), self.tag.read_content().await?))
    }

    /// A write with a temporary error is treated like a lost one: the list that it would have
    /// written is outdated by now.
    fn classify_write(
        &mut self,
        written: Result<(), OciError>,
    ) -> Result<SharedTagCheck<T::Content>, OciError> {
        match written {
            Ok(()) => {
                self.failures = 0;
                Ok(SharedTagCheck::Rewritten)
            }
            Err(OciError::RateLimited { retry_after, .. })
                if self.next_rate_limit_wait(retry_after) =>
            {
                Ok(SharedTagCheck::Missing)
            }
            Err(
                OciError::Unavailable { .. }
                | OciError::RateLimited { .. }
                | OciError::Deadline { .. },
            ) if self.failures + 1 < MAX_FAILED_WRITES => {
                self.failures += 1;
                Ok(SharedTagCheck::Missing)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether to wait for a registry that limits the rate of requests; sets the wait. Nothing was
    /// written.
    fn next_rate_limit_wait(&mut self, retry_after: Option<Duration>) -> bool {
        let backoff = self.rate_limit.as_mut().filter(|waits| waits.is_patient());
        self.rate_limit_wait = backoff.and_then(|waits| waits.next_wait(retry_after));
        if self.rate_limit_wait.is_some() {
            (self.base, self.wrote) = (None, None);
        }
        self.rate_limit_wait.is_some()
    }

    /// Counts writes without any effect.
    fn count_ineffective_writes(&mut self, found: &[T::Entry]) {
        if let Some(base) = self.base.take() {
            self.unseen = if self.failures == 0
                && base.len() == found.len()
                && base
                    .iter()
                    .zip(found)
                    .all(|(one, other)| T::is_same_entry(one, other))
            {
                self.unseen + 1
            } else {
                0
            };
        }
    }

    /// After a loss: how long to wait before the entries are written again.
    fn wait_after_loss(&mut self) -> Result<Duration, OciError> {
        if self.unseen >= MAX_INEFFECTIVE_WRITES {
            return Err(self.tag.not_kept_error(format!(
                "it was written {MAX_INEFFECTIVE_WRITES} times, but the list never contained it"
            )));
        }
        self.timing
            .record_loss(self.good.take().unwrap_or_default());
        self.wrote = None;
        let wait = self.timing.rewrite_backoff();
        let unseen = if self.unseen > 0 {
            visibility_wait(self.unseen)
        } else {
            Duration::ZERO
        };
        let failed = if self.failures > 0 {
            visibility_wait(self.failures + 1)
        } else {
            Duration::ZERO
        };
        Ok(wait.max(unseen).max(failed))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    };

    use async_trait::async_trait;

    use super::*;

    /// A list of numbers. After each of the first `losses` writes, another writer puts back what was
    /// there before, with an entry of its own.
    struct Numbers {
        name: &'static str,
        shared: bool,
        list: Mutex<Vec<u32>>,
        losses: AtomicU32,
        writes: AtomicU32,
    }

    impl Numbers {
        fn new(name: &'static str, shared: bool, losses: u32) -> Self {
            Self {
                name,
                shared,
                list: Mutex::new(vec![1]),
                losses: AtomicU32::new(losses),
                writes: AtomicU32::new(0),
            }
        }

        fn set_list(&self, list: Vec<u32>) {
            *self.list.lock().unwrap_or_else(PoisonError::into_inner) = list;
        }
    }

    #[async_trait]
    impl SharedTag for Numbers {
        type Entry = u32;
        type Content = Vec<u32>;

        fn name(&self) -> String {
            self.name.into()
        }

        fn has_other_writers(&self) -> bool {
            self.shared
        }

        fn entries(content: &Vec<u32>) -> &[u32] {
            content
        }

        fn is_same_entry(one: &u32, other: &u32) -> bool {
            one == other
        }

        fn check_entry_count(&self, _: usize) -> Result<(), OciError> {
            Ok(())
        }

        async fn read_content(&self) -> Result<Vec<u32>, OciError> {
            Ok(self
                .list
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone())
        }

        async fn write_content(&self, found: Vec<u32>, missing: Vec<u32>) -> Result<(), OciError> {
            self.writes.fetch_add(1, Ordering::Relaxed);
            let losses = self.losses.load(Ordering::Relaxed);
            self.losses
                .store(losses.saturating_sub(1), Ordering::Relaxed);
            self.set_list(if losses > 0 {
                [found, vec![100 + losses]].concat()
            } else {
                [found, missing].concat()
            });
            Ok(())
        }

        fn not_kept_error(&self, cause: String) -> OciError {
            OciError::Invalid(cause)
        }
    }

    #[tokio::test]
    async fn entries_that_are_overwritten_are_written_again() {
        let tag = Numbers::new("numbers:lost", true, 2);
        let content = add_entries(&tag, vec![2, 3, 1]).await.expect("kept");
        assert_eq!(content, [1, 102, 101, 2, 3]);
        assert_eq!(tag.writes.load(Ordering::Relaxed), 3);
        let again = add_entries(&tag, vec![3]).await.expect("kept");
        assert_eq!(again, content);
        assert_eq!(tag.writes.load(Ordering::Relaxed), 3, "nothing is new");
    }

    #[tokio::test]
    async fn what_nobody_else_writes_is_written_once_and_shared_with_nobody() {
        for _ in 0..2 {
            let tag = Numbers::new("numbers:local", false, 0);
            let content = add_entries(&tag, vec![2]).await.expect("kept");
            assert_eq!(content, [1, 2]);
            assert_eq!(tag.writes.load(Ordering::Relaxed), 1);
        }
    }
}
