//! Which hosts have not answered of late.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How long a host that did not answer is asked last. Without it every review would wait for it.
const ASKED_LAST_FOR: Duration = Duration::from_secs(30);

/// Whether a host answers. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct HostAvailability(Arc<Mutex<Option<Instant>>>);

impl HostAvailability {
    /// False for half a minute after it did not answer.
    pub(super) fn is_expected(&self) -> bool {
        let silent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        silent.is_none_or(|since| since.elapsed() >= ASKED_LAST_FOR)
    }

    /// It did not answer.
    pub(super) fn set_silent(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// It answered.
    pub(super) fn set_answered(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_expected_again_after_half_a_minute() {
        let host = HostAvailability::default();
        assert!(host.is_expected(), "unknown");
        for (seconds, expected) in [(0, false), (29, false), (31, true)] {
            let since = Instant::now().checked_sub(Duration::from_secs(seconds));
            *host.0.lock().expect("no panic") = Some(since.expect("the machine is up longer"));
            assert_eq!(host.is_expected(), expected, "{seconds} s");
        }
        host.set_silent();
        assert!(!host.is_expected(), "silent");
        host.set_answered();
        assert!(host.is_expected(), "answered");
    }
}
