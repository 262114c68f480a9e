//! How long a writer of a shared list waits: before it writes again, and until its entry is safe
//! from being overwritten.
//!
//! A writer that overwrites an entry has read the list before the entry was added, and writes it
//! back later. The time between is that writer's *section*. An entry that stays for longer than any
//! section lasts is safe. The sections of other writers are unknown, so they are estimated from the
//! own ones, which a slow registry or a busy machine makes longer too, and from observed losses.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// The shortest time that an entry must stay.
const SHORTEST_WINDOW: Duration = Duration::from_millis(400);
/// The longest time that an entry must stay.
const LONGEST_WINDOW: Duration = Duration::from_secs(10);
/// The number of own sections that an entry must stay.
const SECTIONS: u32 = 6;
/// The longest wait before writing again.
const LONGEST_BACKOFF: Duration = Duration::from_secs(4);
/// The wait after a write without any effect; it doubles.
const FIRST_VISIBILITY_WAIT: Duration = Duration::from_millis(50);

/// The longest time from requesting the list to writing it, on a registry that responds
/// immediately.
const FRESH_READ_TIME: Duration = Duration::from_millis(100);

/// The number of checks after an entry was written, each after a part of the window.
pub(super) const STABILITY_CHECKS: u32 = 3;

/// The estimated timing of all writers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SharedTagTiming {
    section: Duration,
    quickest: Option<Duration>,
    losses: u32,
}

impl SharedTagTiming {
    /// Records how long reading took. True if the list is recent enough to be written back, which
    /// it is not if this process was suspended in between, such as on an overloaded machine.
    pub(super) fn is_fresh(&mut self, read: Duration) -> bool {
        let quickest = self.quickest.map_or(read, |quickest| quickest.min(read));
        self.quickest = Some(quickest);
        read <= FRESH_READ_TIME.max(quickest.saturating_mul(2))
    }

    /// Records how long reading and writing took.
    pub(super) fn record_write(&mut self, section: Duration) {
        self.section = self.section.max(section);
    }

    /// Records the loss of an entry that had stayed for this long.
    pub(super) fn record_loss(&mut self, after: Duration) {
        self.section = self.section.max(after);
        self.losses = self.losses.saturating_add(1);
    }

    /// How long an entry must stay.
    pub(super) fn stability_window(&self) -> Duration {
        self.section
            .saturating_mul(SECTIONS)
            .clamp(SHORTEST_WINDOW, LONGEST_WINDOW)
    }

    /// The wait before one of the [`STABILITY_CHECKS`], counted from 0. Each is twice the one
    /// before; together they are the window, plus up to half of it at random so that concurrent
    /// writers diverge.
    pub(super) fn wait_before_check(&self, look: u32) -> Duration {
        let parts = (1_u32 << STABILITY_CHECKS) - 1;
        let part = self.stability_window() / parts * (1_u32 << look.min(STABILITY_CHECKS - 1));
        part + random_part(part / 2)
    }

    /// The wait before writing again: at random, from a range that doubles with every loss.
    pub(super) fn rewrite_backoff(&self) -> Duration {
        let longest = self
            .section
            .saturating_mul(1_u32 << self.losses.min(8))
            .min(LONGEST_BACKOFF);
        random_part(longest)
    }
}

/// The wait after this many consecutive writes without any effect. Some registries take a moment to
/// show a write.
pub(super) fn visibility_wait(unseen: u32) -> Duration {
    FIRST_VISIBILITY_WAIT.saturating_mul(1_u32 << unseen.min(6))
}

/// A random part of it. Not secret, so the seeds of the library's hash maps are sufficient.
fn random_part(longest: Duration) -> Duration {
    let random = (RandomState::new().hash_one(()) >> 32) as u32;
    longest.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn an_entry_must_outlast_every_section_that_is_known_of() {
        let mut timing = SharedTagTiming::default();
        assert_eq!(timing.stability_window(), SHORTEST_WINDOW);
        timing.record_write(ms(10));
        assert_eq!(timing.stability_window(), SHORTEST_WINDOW);
        timing.record_write(ms(200));
        timing.record_write(ms(100));
        assert_eq!(
            timing.stability_window(),
            ms(1_200),
            "the longest one counts"
        );
        timing.record_loss(ms(500));
        assert_eq!(
            timing.stability_window(),
            ms(3_000),
            "somebody's section was at least as long"
        );
        timing.record_loss(ms(60_000));
        assert_eq!(timing.stability_window(), LONGEST_WINDOW);
    }

    #[test]
    fn what_took_much_longer_to_read_than_usual_is_read_again() {
        let mut near = SharedTagTiming::default();
        assert!([5, 100, 60].into_iter().all(|read| near.is_fresh(ms(read))));
        assert!(!near.is_fresh(ms(101)));
        let mut far = SharedTagTiming::default();
        assert!(
            [400, 700, 300]
                .into_iter()
                .all(|read| far.is_fresh(ms(read))),
            "a slow registry is slow every time"
        );
        assert!(!far.is_fresh(ms(700)));
    }

    #[test]
    fn the_looks_together_take_the_window_and_grow() {
        let mut timing = SharedTagTiming::default();
        timing.record_write(ms(100));
        for _ in 0..100 {
            let waits: Vec<Duration> = (0..STABILITY_CHECKS)
                .map(|look| timing.wait_before_check(look))
                .collect();
            let all: Duration = waits.iter().sum();
            assert!((ms(595)..=ms(905)).contains(&all), "{waits:?}");
            assert!(waits[0] < waits[2], "{waits:?}");
        }
    }

    #[test]
    fn waits_before_writing_again_are_random_and_bounded() {
        let mut timing = SharedTagTiming::default();
        timing.record_write(ms(10));
        assert!(timing.rewrite_backoff() <= ms(10));
        (0..40).for_each(|_| timing.record_loss(ms(0)));
        let waits: Vec<Duration> = (0..200).map(|_| timing.rewrite_backoff()).collect();
        assert!(waits.iter().all(|wait| *wait <= ms(2_560)), "{waits:?}");
        assert!(
            waits.iter().any(|wait| *wait < ms(800)) && waits.iter().any(|wait| *wait > ms(1_600)),
            "{waits:?}"
        );
        assert!(
            visibility_wait(0) < visibility_wait(5) && visibility_wait(u32::MAX) <= LONGEST_BACKOFF
        );
    }
}
