//! Patterns of image names (`formats.md`, "References and globs").
//!
//! A pattern is matched against the canonical `HOST[:PORT]/PATH` of a [`Repository`]. `*` stands for one or more characters but `/`, in
//! the host not `.` or `:` either; `**` for one or more whole segments; the rest is literal. A pattern that could never match, because a
//! canonical name is never written so, is refused: it would silently govern nothing.

use std::{fmt, str::FromStr};

use crate::core::{
    class::{Classified, Reason},
    glob::{matches_with, text_matches},
    reference::Repository,
};

const MAX_PATTERN: usize = 512;

/// A pattern of image names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    text: String,
    shape: Shape,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Shape {
    /// `**`
    Everything,
    Named {
        host: String,
        path: Vec<Segment>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Segment {
    /// `**`: one or more segments.
    Many,
    /// One segment, with `*` in it.
    One(String),
}

/// Why text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Longer than any name.
    #[error("pattern of {0} characters is too long, the limit is 512")]
    TooLong(usize),
    /// The first segment is no host.
    #[error("pattern {0:?} must start with a registry host, such as r.example.com/team-a/**")]
    Host(String),
    /// There is a host, and nothing after it.
    #[error("pattern {0:?} must name repositories after the host, such as r.example.com/**")]
    Path(String),
    /// A part of it is never written so in a canonical name.
    #[error("pattern {pattern:?} can never match: {why}")]
    Never {
        /// The pattern.
        pattern: String,
        /// What is wrong with it, and how it is written.
        why: &'static str,
    },
}

impl Classified for PatternError {
    fn reason(&self) -> Reason {
        Reason::InvalidSpec
    }
}

impl Pattern {
    /// What every name that it matches begins with, if that is a host that is written out: the host's name without its port. Names on Docker
    /// Hub are mostly written without their host.
    pub fn host_name(&self) -> Option<&str> {
        let Shape::Named { host, .. } = &self.shape else { return None };
        let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(host.as_str(), |(name, _)| name);
        (!name.contains('*') && name != "docker.io").then_some(name)
    }

    /// Is it `**`?
    pub fn is_everything(&self) -> bool {
        self.shape == Shape::Everything
    }

    /// Does it match this name? A name on disk (`None`) has no host and no path: only `**` matches it.
    ///
    /// Takes at most as many steps as the pattern's length times the name's, both bounded.
    pub fn matches(&self, repository: Option<&Repository>) -> bool {
        match (&self.shape, repository) {
            (Shape::Everything, _) => true,
            (Shape::Named { .. }, None) => false,
            (Shape::Named { host, path }, Some(repository)) => {
                let segments: Vec<&str> = repository.path().split('/').collect();
                host_matches(host, repository.host()) && path_matches(path, &segments)
            }
        }
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text.len() > MAX_PATTERN {
            return Err(PatternError::TooLong(text.len()));
        }
        if text == "**" {
            return Ok(Self { text: text.into(), shape: Shape::Everything });
        }
        let (host, path) = text.split_once('/').ok_or_else(|| no_path(text))?;
        if !is_host(host) {
            return Err(PatternError::Host(text.into()));
        }
        let never = |why| PatternError::Never { pattern: text.into(), why };
        check_host(host).map_err(never)?;
        let path: Vec<Segment> = path.split('/').map(segment).collect::<Result<_, _>>().map_err(never)?;
        if host == "docker.io" && matches!(path[..], [Segment::One(_)]) {
            return Err(never("on Docker Hub write docker.io/library/NAME"));
        }
        Ok(Self { text: text.into(), shape: Shape::Named { host: host.into(), path } })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn no_path(text: &str) -> PatternError {
    if is_host(text) { PatternError::Path(text.into()) } else { PatternError::Host(text.into()) }
}

fn is_host(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':'])
}

fn check_host(host: &str) -> Result<(), &'static str> {
    let known = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b':' | b'*' | b'[' | b']');
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("hosts are written in lower case");
    }
    if host.contains("**") {
        return Err("in the host only a single * is allowed");
    }
    if !host.bytes().all(known) {
        return Err("the host has a character that hosts do not have");
    }
    if host.ends_with(":443") || host.ends_with('.') || host.contains(".:") {
        return Err("hosts are written without :443 and without a trailing dot");
    }
    if host.ends_with(':') || host.starts_with(['.', ':']) || host.contains("..") {
        return Err("the host has an empty part");
    }
    if host == "index.docker.io" { Err("Docker Hub is written docker.io") } else { Ok(()) }
}

fn segment(text: &str) -> Result<Segment, &'static str> {
    let known = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*');
    match text {
        "**" => Ok(Segment::Many),
        "" => Err("it has an empty segment"),
        _ if text.contains("**") => Err("** stands for whole segments"),
        _ if text.contains([':', '@']) => Err("names are matched without tag and digest"),
        _ if !text.bytes().all(known) => Err("repositories have only lower-case letters, digits and . _ -"),
        _ => Ok(Segment::One(text.into())),
    }
}

/// Label by label: a `*` can take neither a dot nor a colon, so both names have the same labels.
fn host_matches(pattern: &str, host: &str) -> bool {
    let separators = |text: &str| text.chars().filter(|c| matches!(c, '.' | ':')).collect::<String>();
    separators(pattern) == separators(host)
        && pattern.split(['.', ':']).zip(host.split(['.', ':'])).all(|(pattern, label)| text_matches(pattern, label))
}

fn path_matches(pattern: &[Segment], path: &[&str]) -> bool {
    let one = |pattern: &Segment, segment: &&str| matches!(pattern, Segment::One(pattern) if text_matches(pattern, segment));
    matches_with(pattern, path, |p| *p == Segment::Many, one)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        let repository: Repository = name.parse().expect(name);
        pattern.parse::<Pattern>().expect(pattern).matches(Some(&repository))
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, yes, no) in [
            (
                "r.example.com/team-a/**",
                &["r.example.com/team-a/siem", "r.example.com/team-a/x/y"][..],
                &["r.example.com/team-a", "r.example.com/team-ab/siem"][..],
            ),
            ("r.example.com/*/siem", &["r.example.com/a/siem"], &["r.example.com/a/b/siem", "r.example.com/siem"]),
            ("*.example.com/**", &["eu.example.com/x", "eu.example.com/x/y"], &["a.b.example.com/x", "eu.example.com:5000/x", "example.com/x"]),
            ("**", &["nginx", "r.example.com/a"], &[]),
            ("r.example.com/a", &["r.example.com/a", "R.Example.com:443/a"], &["r.example.com/a/b", "r.example.com/ab", "r-example.com/a"]),
            ("r.example.com/a*", &["r.example.com/ab"], &["r.example.com/a", "r.example.com/b", "r.example.com/ab/c"]),
            (
                "r.example.com/*a*b",
                &["r.example.com/xaab", "r.example.com/xayabab"],
                &["r.example.com/ab", "r.example.com/xab", "r.example.com/xayabc"],
            ),
            ("r.example.com/**/x/**/y", &["r.example.com/a/x/b/y", "r.example.com/x/x/x/y"], &["r.example.com/x/b/y", "r.example.com/a/x/y"]),
            ("localhost:*/a", &["localhost:5000/a"], &["localhost/a"]),
            ("[::1]:5000/**", &["[::1]:5000/a"], &["[::2]:5000/a"]),
            ("docker.io/library/*", &["nginx"], &["team/app"]),
            ("r.example.com:5000/**", &["r.example.com:5000/a"], &["r.example.com.5000/a"]),
        ] {
            for name in yes {
                assert!(matches(pattern, name), "{pattern} should match {name}");
            }
            for name in no {
                assert!(!matches(pattern, name), "{pattern} should not match {name}");
            }
        }
    }

    #[test]
    fn only_everything_matches_what_has_no_name() {
        assert!("**".parse::<Pattern>().expect("valid").matches(None));
        assert!(!"r.example.com/**".parse::<Pattern>().expect("valid").matches(None));
    }

    #[test]
    fn patterns_that_govern_nothing_are_refused() {
        for (pattern, part) in [
            ("*", "must start with a registry host"),
            ("nginx", "must start with a registry host"),
            ("team-a/*", "must start with a registry host"),
            ("*/x", "must start with a registry host"),
            ("**/x", "must start with a registry host"),
            ("", "must start with a registry host"),
            ("https://r.example.com/a", "empty part"),
            ("r.example.com", "after the host"),
            ("r.example.com/", "empty segment"),
            ("r.example.com//a", "empty segment"),
            ("r.example.com/a**", "whole segments"),
            ("**.example.com/a", "single *"),
            ("R.example.com/a", "lower case"),
            ("r.example.com/A", "lower-case"),
            ("r.example.com:443/a", ":443"),
            ("r.example.com./a", "trailing dot"),
            ("r..example.com/a", "empty part"),
            ("r.example.com/a:v1", "without tag and digest"),
            ("r.example.com/a@sha256:00", "without tag and digest"),
            ("r.exämple.com/a", "character that hosts do not have"),
            ("docker.io/nginx", "docker.io/library/NAME"),
            ("index.docker.io/library/nginx", "written docker.io"),
        ] {
            let error = pattern.parse::<Pattern>().expect_err(pattern).to_string();
            assert!(error.contains(part), "{pattern}: {error}");
        }
        assert!(format!("r.example.com/{}", "a".repeat(600)).parse::<Pattern>().is_err());
    }

    #[test]
    fn a_hostile_pattern_costs_little() {
        let pattern = format!("r.example.com/{}b", "*a".repeat(120));
        let name = format!("r.example.com/{}", "a".repeat(240));
        assert!(!matches(&pattern, &name));
    }

    /// The obvious definition, exponential in time.
    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], [_, tail @ ..]) => slow(rest, tail) || slow(pattern, tail),
            ([p, rest @ ..], [t, tail @ ..]) => p == t && slow(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_definition(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(text_matches(&pattern, &text), slow(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
