//! Times as text, and sums of times.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// RFC 3339 in UTC with whole seconds, the form of in-toto's and OCI's timestamps:
/// `2026-11-21T10:00:00Z`.
pub(super) fn format_rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The time this long after `start`; the latest of all times if there is none.
pub(crate) fn time_after(start: Timestamp, duration: Duration) -> Timestamp {
    SignedDuration::try_from(duration)
        .ok()
        .and_then(|duration| start.checked_add(duration).ok())
        .unwrap_or(Timestamp::MAX)
}
