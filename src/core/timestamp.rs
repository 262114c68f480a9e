//! Times as text.

use jiff::Timestamp;

/// RFC 3339 in UTC with whole seconds, the form of in-toto's and OCI's timestamps:
/// `2026-11-21T10:00:00Z`.
pub(super) fn format_rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
