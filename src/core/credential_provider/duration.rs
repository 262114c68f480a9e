//! Durations as Go writes them: `12h0m0s`, `1.5h`, `300ms`.

use std::time::Duration;

/// Nanoseconds of each unit. A unit is before those that it begins with.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];
/// Digits of a fraction that count.
const FRACTION_DIGITS: usize = 9;

/// Parses a duration by the rules of Go's `time.ParseDuration`. A negative one is zero. `None` for
/// any other text.
pub fn parse_go_duration(text: &str) -> Option<Duration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total: u128 = 0;
    loop {
        let (nanoseconds, after) = parse_part(rest)?;
        total = total.checked_add(nanoseconds)?;
        // What Go cannot hold is an error there, too.
        i64::try_from(total).ok()?;
        if after.is_empty() {
            break;
        }
        rest = after;
    }
    let total = u64::try_from(total).ok()?;
    Some(Duration::from_nanos(if negative { 0 } else { total }))
}

/// The nanoseconds of the first number with its unit, and what follows it.
fn parse_part(text: &str) -> Option<(u128, &str)> {
    let (whole, rest) = split_digits(text);
    let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), split_digits);
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let (unit, rest) = UNITS
        .iter()
        .find_map(|(name, unit)| Some((u128::from(*unit), rest.strip_prefix(name)?)))?;
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        whole.parse::<u64>().ok()?.into()
    };
    let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS)];
    let part = if fraction.is_empty() {
        0
    } else {
        let digits = u32::try_from(fraction.len()).ok()?;
        u128::from(fraction.parse::<u64>().ok()?) * unit / 10_u128.pow(digits)
    };
    Some((whole.checked_mul(unit)?.checked_add(part)?, rest))
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text
        .bytes()
        .position(|b| !b.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_in_go() {
        for (text, milliseconds) in [
            ("0", 0),
            ("0s", 0),
            ("12h", 43_200_000),
            ("12h0m0s", 43_200_000),
            ("1.5h", 5_400_000),
            (".5s", 500),
            ("5.s", 5_000),
            ("300ms", 300),
            ("1m30s", 90_000),
            ("30m1h", 5_400_000),
            ("2000us", 2),
            ("2000µs", 2),
            ("1000000ns", 1),
            ("+1s", 1_000),
            ("-1s", 0),
            ("1.00000000000000000001s", 1_000),
        ] {
            let expected = Some(Duration::from_millis(milliseconds));
            assert_eq!(parse_go_duration(text), expected, "{text}");
        }
        for text in [
            "",
            "-",
            ".",
            ".s",
            "1",
            "s",
            "1d",
            "1h ",
            " 1h",
            "1h 30m",
            "1,5h",
            "PT1H",
            "1e3s",
            "99999999999999999999h",
            "9999999h",
        ] {
            assert_eq!(parse_go_duration(text), None, "{text}");
        }
    }
}
