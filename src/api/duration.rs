//! Durations in API fields: `1h`, `15m`, `1h30m`.

use std::time::Duration;

use jiff::SignedDuration;

/// The pattern of a duration field, for its schema.
pub const PATTERN: &str = r"^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$";

/// Parses hours, minutes and seconds, in this order, each at most once. `None` for any other text.
pub fn parse(text: &str) -> Option<Duration> {
    let known = !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'h' | b'm' | b's'));
    let parsed = text
        .parse::<SignedDuration>()
        .ok()
        .filter(|duration| known && !duration.is_negative())?;
    Duration::try_from(parsed).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_hours_minutes_and_seconds() {
        for (text, seconds) in [
            ("0s", 0),
            ("1h", 3_600),
            ("15m", 900),
            ("1h30m5s", 5_405),
            ("2160h", 7_776_000),
        ] {
            assert_eq!(parse(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "1",
            "-1h",
            "1d",
            "1.5h",
            "1h 30m",
            "m",
            "30m1h",
            "99999999999999999999h",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
