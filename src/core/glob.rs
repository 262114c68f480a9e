//! Patterns for paths: `*` is one or more characters but `/`, `**` one or more whole segments, the rest is literal.

use std::{fmt, str::FromStr};

/// A pattern for paths inside of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathGlob(String);

/// Why a pattern is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// Nothing there.
    #[error("pattern is empty")]
    Empty,
    /// `**` beside other characters of one segment.
    #[error("pattern {0:?}: ** must stand alone between slashes")]
    DoubleStar(String),
    /// Too long.
    #[error("pattern of {0} bytes is too long")]
    TooLong(usize),
}

impl PathGlob {
    /// Does the whole path match?
    pub fn matches(&self, path: &str) -> bool {
        let pattern: Vec<&str> = self.0.split('/').collect();
        let path: Vec<&str> = path.split('/').collect();
        match_segments(&pattern, &path)
    }
}

impl FromStr for PathGlob {
    type Err = GlobError;

    fn from_str(text: &str) -> Result<Self, GlobError> {
        let clean = text.trim_start_matches("./").trim_start_matches('/');
        if clean.is_empty() {
            return Err(GlobError::Empty);
        }
        if clean.len() > 1_024 {
            return Err(GlobError::TooLong(clean.len()));
        }
        if clean.split('/').any(|segment| segment.contains("**") && segment != "**") {
            return Err(GlobError::DoubleStar(clean.into()));
        }
        Ok(Self(clean.into()))
    }
}

impl fmt::Display for PathGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Greedy with one point of return: linear in the product of the lengths, whatever the pattern.
fn match_segments(pattern: &[&str], path: &[&str]) -> bool {
    wild(pattern, path, |p| *p == "**", |p, s| match_segment(p.as_bytes(), s.as_bytes()))
}

fn match_segment(pattern: &[u8], segment: &[u8]) -> bool {
    wild(pattern, segment, |p| *p == b'*', |p, s| p == s)
}

/// Matches items against a pattern in which a wildcard stands for one or more items.
fn wild<P, S>(pattern: &[P], items: &[S], is_wild: impl Fn(&P) -> bool, equal: impl Fn(&P, &S) -> bool) -> bool {
    let (mut at, mut next) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while next < items.len() {
        match (pattern.get(at), items.get(next)) {
            (Some(p), Some(_)) if is_wild(p) => {
                at += 1;
                next += 1;
                star = Some((at, next));
            }
            (Some(p), Some(item)) if equal(p, item) => {
                at += 1;
                next += 1;
            }
            _ => match star {
                // The wildcard takes one item more.
                Some((after, taken)) => {
                    at = after;
                    next = taken + 1;
                    star = Some((after, taken + 1));
                }
                None => return false,
            },
        }
    }
    at == pattern.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stay_inside_of_a_segment_and_double_stars_cross_them() {
        for (pattern, path, expected) in [
            ("opt/*.sh", "opt/a.sh", true),
            ("opt/*.sh", "opt/.sh", false),
            ("opt/*.sh", "opt/x/a.sh", false),
            ("**/a.sh", "opt/x/a.sh", true),
            ("**/a.sh", "a.sh", false),
            ("opt/**", "opt/x/y", true),
            ("opt/**", "opt", false),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "a1b2c3c", true),
            ("a*b*c", "abc", false),
            ("**/x/**", "a/b/x/c/x/d", true),
            ("/opt/a", "opt/a", true),
            ("*", "a/b", false),
        ] {
            assert_eq!(pattern.parse::<PathGlob>().expect(pattern).matches(path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn senseless_patterns_are_refused() {
        for pattern in ["", "/", "a**", "a/**b"] {
            assert!(pattern.parse::<PathGlob>().is_err(), "{pattern}");
        }
    }

    #[test]
    fn hostile_patterns_cost_little() {
        let pattern: PathGlob = format!("{}b", "a*".repeat(500)).parse().expect("valid");
        assert!(!pattern.matches(&"a".repeat(100_000)));
    }
}
