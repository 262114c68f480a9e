//! Waits for what the cluster will do.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Asks until there is an answer. When the time is up, the test fails and says what it waited for.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, timeout: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {timeout:?}");
        thread::sleep(Duration::from_millis(100));
    }
}
