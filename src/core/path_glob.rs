//! Patterns for paths: `*` matches one or more characters except `/`, `**` one or more whole
//! segments, the rest is literal.

use std::{fmt, str::FromStr};

/// A pattern for paths inside of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathGlob(String);

/// Why a pattern is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum PathGlobError {
    #[error("pattern is empty")]
    Empty,
    #[error("pattern {0:?}: ** must stand alone between slashes")]
    DoubleStar(String),
    #[error("pattern of {0} bytes is too long")]
    TooLong(usize),
}

impl PathGlob {
    /// True if the whole path matches.
    pub fn matches_path(&self, path: &str) -> bool {
        let pattern: Vec<&str> = self.0.split('/').collect();
        let path: Vec<&str> = path.split('/').collect();
        match_segments(&pattern, &path)
    }
}

impl FromStr for PathGlob {
    type Err = PathGlobError;

    fn from_str(text: &str) -> Result<Self, PathGlobError> {
        let clean = strip_leading_slashes(text);
        if clean.is_empty() {
            return Err(PathGlobError::Empty);
        }
        if clean.len() > 1_024 {
            return Err(PathGlobError::TooLong(clean.len()));
        }
        if clean
            .split('/')
            .any(|segment| segment.contains("**") && segment != "**")
        {
            return Err(PathGlobError::DoubleStar(clean.into()));
        }
        Ok(Self(clean.into()))
    }
}

/// Paths in a bundle begin with a name, so leading slashes have no effect.
fn strip_leading_slashes(mut text: &str) -> &str {
    while let Some(rest) = text.strip_prefix("./").or_else(|| text.strip_prefix('/')) {
        text = rest;
    }
    text
}

impl fmt::Display for PathGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn match_segments(pattern: &[&str], path: &[&str]) -> bool {
    match_with_stars(pattern, path, |p| *p == "**", |p, s| matches_wildcard(p, s))
}

/// True if the whole text matches a pattern in which `*` is one or more characters.
pub(super) fn matches_wildcard(pattern: &str, text: &str) -> bool {
    match_with_stars(
        pattern.as_bytes(),
        text.as_bytes(),
        |p| *p == b'*',
        |p, t| p == t,
    )
}

/// Matches items against a pattern in which a star stands for one or more of them.
///
/// When an item does not match, the last star takes one more: earlier items need not be tried
/// again, because a later match of them would leave fewer to match. So it takes at most as many
/// steps as the two lengths multiplied.
pub(super) fn match_with_stars<P, T>(
    pattern: &[P],
    text: &[T],
    is_star: impl Fn(&P) -> bool,
    fits: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut last_star = None;
    while let Some(item) = text.get(t) {
        match pattern.get(p) {
            Some(star) if is_star(star) => {
                last_star = Some((p, t));
                (p, t) = (p + 1, t + 1);
            }
            Some(literal) if fits(literal, item) => (p, t) = (p + 1, t + 1),
            _ => {
                let Some((star, taken)) = last_star else {
                    return false;
                };
                last_star = Some((star, taken + 1));
                (p, t) = (star + 1, taken + 2);
            }
        }
    }
    t == text.len() && p == pattern.len()
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
            ("/.//./opt/a", "opt/a", true),
            (".opt/a", ".opt/a", true),
            ("*", "a/b", false),
        ] {
            assert_eq!(
                pattern
                    .parse::<PathGlob>()
                    .expect(pattern)
                    .matches_path(path),
                expected,
                "{pattern} {path}"
            );
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
        assert!(!pattern.matches_path(&"a".repeat(100_000)));
    }
}
