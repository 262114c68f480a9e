//! Patterns of image names (docs/spec/policies.md, "What is governed").
//!
//! A pattern is matched against the canonical `HOST[:PORT]/PATH` of a [`ImageRepository`]. `*`
//! stands for one or more characters but `/`, in the host not `.` or `:` either; `**` for one or
//! more whole segments; the rest is literal. A literal host is taken in its canonical form. A
//! pattern that could never match, because no canonical name has its form, is refused: it would
//! silently govern nothing.

use std::{fmt, str::FromStr};

use crate::core::{
    path_glob::{match_with_stars, matches_wildcard},
    reason::{ClassifiedError, Reason},
    reference::{
        ImageRepository, RegistryHostError,
        host::{
            DOCKER_HUB, canonical_host, canonical_host_name, canonical_port, host_aliases,
            is_loopback,
        },
    },
};

const MAX_PATTERN: usize = 512;
/// The first characters of addresses, in any notation.
const ADDRESSES: [&str; 11] = ["[", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// A pattern that matches canonical image names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImagePattern {
    text: String,
    shape: ImagePatternShape,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum ImagePatternShape {
    /// `**` alone: matches every name.
    Everything,
    Named {
        /// In canonical form, except for wildcards.
        host: String,
        path: Vec<ImagePatternSegment>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum ImagePatternSegment {
    /// `**`: one or more path segments.
    Many,
    /// One segment, with `*` in it.
    One(String),
}

/// Why a text is not a valid image pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImagePatternError {
    /// Longer than the longest image name; its size in bytes.
    #[error("pattern of {0} characters is too long, the limit is 512")]
    TooLong(usize),
    /// The first segment is not a host.
    #[error("pattern {0:?} must start with a registry host, such as r.example.com/team-a/**")]
    Host(String),
    /// The first segment cannot be the host of a registry.
    #[error("pattern {pattern:?} can never match: {error}")]
    NoHost {
        /// The pattern as written.
        pattern: String,
        /// Why its host is invalid.
        error: RegistryHostError,
    },
    /// There is a host, and nothing after it.
    #[error("pattern {0:?} must name repositories after the host, such as r.example.com/**")]
    Path(String),
    /// A part of it occurs in no canonical name.
    #[error("pattern {pattern:?} can never match: {why}")]
    Never {
        /// The pattern as written.
        pattern: String,
        /// What is wrong with it, and the canonical form.
        why: &'static str,
    },
}

impl ClassifiedError for ImagePatternError {
    fn reason(&self) -> Reason {
        Reason::InvalidSpec
    }
}

impl ImagePattern {
    /// Prefixes, in lower case, of every reference that the pattern may match, or that cannot be
    /// parsed and might: for conditions that select by text. `None`: a reference may have any
    /// prefix. Names on Docker Hub are mostly written without their host, and an address has
    /// several notations.
    pub fn reference_prefixes(&self) -> Option<Vec<&str>> {
        let ImagePatternShape::Named { host, .. } = &self.shape else {
            return None;
        };
        let (name, _) = split_port(host);
        if name.contains('*') || name == DOCKER_HUB {
            return None;
        }
        let is_address = name.starts_with('[')
            || name
                .split('.')
                .all(|label| label.bytes().all(|b| b.is_ascii_digit()));
        Some(match (is_address, is_loopback(name)) {
            (_, true) => ADDRESSES.into_iter().chain(["localhost"]).collect(),
            (true, false) => ADDRESSES.to_vec(),
            (false, false) => vec![name],
        })
    }

    /// True for the pattern `**`, which matches every name.
    pub fn is_everything(&self) -> bool {
        self.shape == ImagePatternShape::Everything
    }

    /// True if it matches this name. A local name (`None`) has no host and no path: only `**`
    /// matches it.
    ///
    /// Takes at most as many steps as the pattern's length times the name's, both bounded.
    pub fn matches_repository(&self, repository: Option<&ImageRepository>) -> bool {
        match (&self.shape, repository) {
            (ImagePatternShape::Everything, _) => true,
            (ImagePatternShape::Named { .. }, None) => false,
            (ImagePatternShape::Named { host, path }, Some(repository)) => {
                let segments: Vec<&str> = repository.path().split('/').collect();
                host_aliases(repository.host())
                    .iter()
                    .any(|name| host_matches(host, name))
                    && path_matches(path, &segments)
            }
        }
    }
}

impl FromStr for ImagePattern {
    type Err = ImagePatternError;

    fn from_str(text: &str) -> Result<Self, ImagePatternError> {
        if text.len() > MAX_PATTERN {
            return Err(ImagePatternError::TooLong(text.len()));
        }
        if text == "**" {
            return Ok(Self {
                text: text.into(),
                shape: ImagePatternShape::Everything,
            });
        }
        let (host, path) = text
            .split_once('/')
            .ok_or_else(|| missing_path_error(text))?;
        if !looks_like_host(host) {
            return Err(ImagePatternError::Host(text.into()));
        }
        let never = |why| ImagePatternError::Never {
            pattern: text.into(),
            why,
        };
        check_host_pattern(host).map_err(never)?;
        let host = canonical_host_pattern(host).map_err(|error| ImagePatternError::NoHost {
            pattern: text.into(),
            error,
        })?;
        let path: Vec<ImagePatternSegment> = path
            .split('/')
            .map(parse_segment)
            .collect::<Result<_, _>>()
            .map_err(never)?;
        if host == DOCKER_HUB && matches!(path[..], [ImagePatternSegment::One(_)]) {
            return Err(never("on Docker Hub write docker.io/library/NAME"));
        }
        Ok(Self {
            text: text.into(),
            shape: ImagePatternShape::Named { host, path },
        })
    }
}

impl fmt::Display for ImagePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn missing_path_error(text: &str) -> ImagePatternError {
    if looks_like_host(text) {
        ImagePatternError::Path(text.into())
    } else {
        ImagePatternError::Host(text.into())
    }
}

fn looks_like_host(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':'])
}

fn check_host_pattern(host: &str) -> Result<(), &'static str> {
    let known =
        |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b':' | b'*' | b'[' | b']');
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
        Err("the host has an empty part")
    } else {
        Ok(())
    }
}

/// The canonical form of the literal parts: of a host with a `*` its name if the `*` is in the
/// port, and its port if it is in the name.
fn canonical_host_pattern(host: &str) -> Result<String, RegistryHostError> {
    if !host.contains('*') {
        return canonical_host(host);
    }
    let (name, port) = split_port(host);
    let name = if name.contains('*') {
        name.to_owned()
    } else {
        canonical_host_name(name)?
    };
    match port {
        None => Ok(name),
        Some(port) if port.contains('*') => Ok(format!("{name}:{port}")),
        Some(port) => Ok(format!(
            "{name}:{}",
            canonical_port(port).ok_or(RegistryHostError::Malformed)?
        )),
    }
}

/// An IPv6 address contains colons, in brackets.
fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    }
}

fn parse_segment(text: &str) -> Result<ImagePatternSegment, &'static str> {
    let known = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*');
    match text {
        "**" => Ok(ImagePatternSegment::Many),
        "" => Err("it has an empty segment"),
        _ if text.contains("**") => Err("** stands for whole segments"),
        _ if text.contains([':', '@']) => Err("names are matched without tag and digest"),
        _ if !text.bytes().all(known) => {
            Err("repositories have only lower-case letters, digits and . _ -")
        }
        _ => Ok(ImagePatternSegment::One(text.into())),
    }
}

/// Label by label: a `*` matches neither a dot nor a colon, so both names have the same labels.
fn host_matches(pattern: &str, host: &str) -> bool {
    let separators = |text: &str| {
        text.chars()
            .filter(|c| matches!(c, '.' | ':'))
            .collect::<String>()
    };
    separators(pattern) == separators(host)
        && pattern
            .split(['.', ':'])
            .zip(host.split(['.', ':']))
            .all(|(pattern, label)| matches_wildcard(pattern, label))
}

fn path_matches(pattern: &[ImagePatternSegment], path: &[&str]) -> bool {
    let one = |pattern: &ImagePatternSegment, segment: &&str| matches!(pattern, ImagePatternSegment::One(pattern) if matches_wildcard(pattern, segment));
    match_with_stars(pattern, path, |p| *p == ImagePatternSegment::Many, one)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        let repository: ImageRepository = name.parse().expect(name);
        pattern
            .parse::<ImagePattern>()
            .expect(pattern)
            .matches_repository(Some(&repository))
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, yes, no) in [
            (
                "r.example.com/team-a/**",
                &["r.example.com/team-a/siem", "r.example.com/team-a/x/y"][..],
                &["r.example.com/team-a", "r.example.com/team-ab/siem"][..],
            ),
            (
                "r.example.com/*/siem",
                &["r.example.com/a/siem"],
                &["r.example.com/a/b/siem", "r.example.com/siem"],
            ),
            (
                "*.example.com/**",
                &["eu.example.com/x", "eu.example.com/x/y"],
                &[
                    "a.b.example.com/x",
                    "eu.example.com:5000/x",
                    "example.com/x",
                ],
            ),
            ("**", &["nginx", "r.example.com/a"], &[]),
            (
                "r.example.com/a",
                &["r.example.com/a", "R.Example.com:443/a"],
                &["r.example.com/a/b", "r.example.com/ab", "r-example.com/a"],
            ),
            (
                "r.example.com/a*",
                &["r.example.com/ab"],
                &["r.example.com/a", "r.example.com/b", "r.example.com/ab/c"],
            ),
            (
                "r.example.com/*a*b",
                &["r.example.com/xaab", "r.example.com/xayabab"],
                &[
                    "r.example.com/ab",
                    "r.example.com/xab",
                    "r.example.com/xayabc",
                ],
            ),
            (
                "r.example.com/**/x/**/y",
                &["r.example.com/a/x/b/y", "r.example.com/x/x/x/y"],
                &["r.example.com/x/b/y", "r.example.com/a/x/y"],
            ),
            ("localhost:*/a", &["localhost:5000/a"], &["localhost/a"]),
            (
                "[::1]:5000/**",
                &["[::1]:5000/a", "[0:0::1]:05000/a"],
                &["[fd00::2]:5000/a"],
            ),
            (
                "[2001:0db8:0::1]:05000/**",
                &["[2001:db8::1]:5000/a", "[2001:0DB8::0:1]:5000/a"],
                &["[2001:db8::1]/a"],
            ),
            (
                "[2001:0db8::1]:*/**",
                &["[2001:db8::1]:5000/a"],
                &["[2001:db8::2]:5000/a"],
            ),
            (
                "10.200.0.1:05000/**",
                &["10.200.0.1:5000/a", "10.200.0.1.:05000/a"],
                &["10.200.0.1/a", "10.200.0.10:5000/a"],
            ),
            (
                "localhost:5000/**",
                &[
                    "127.0.0.1:5000/a",
                    "[::1]:05000/a",
                    "127.9.0.1:5000/a",
                    "LocalHost.:5000/a",
                ],
                &["127.0.0.1:5001/a", "128.0.0.1:5000/a"],
            ),
            (
                "127.0.0.1:5000/**",
                &["localhost:5000/a", "[0:0::1]:5000/a"],
                &["localhost/a"],
            ),
            (
                "10.200.0.*:5000/**",
                &["10.200.0.1:05000/a"],
                &["10.200.1.1:5000/a"],
            ),
            (
                "docker.io/team/**",
                &[
                    "team/app",
                    "index.docker.io/team/app",
                    "registry-1.docker.io/team/app",
                    "registry.hub.docker.com/team/app",
                ],
                &["registry-2.docker.io/team/app", "docker.io:5000/team/app"],
            ),
            (
                "docker.io/library/*",
                &[
                    "registry-1.docker.io/nginx",
                    "Registry.Hub.Docker.com.:443/library/nginx",
                ],
                &[],
            ),
            (
                "registry-1.docker.io/team/**",
                &["team/app", "registry.hub.docker.com/team/app"],
                &["other/app"],
            ),
            ("index.docker.io/library/nginx", &["nginx"], &[]),
            (
                "*.docker.io/**",
                &["registry-1.docker.io/team/app", "team/app"],
                &["docker.com/team/app"],
            ),
            ("docker.io/library/*", &["nginx"], &["team/app"]),
            (
                "r.example.com:5000/**",
                &["r.example.com:5000/a"],
                &["r.example.com.5000/a"],
            ),
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
        assert!(
            "**".parse::<ImagePattern>()
                .expect("valid")
                .matches_repository(None)
        );
        assert!(
            !"r.example.com/**"
                .parse::<ImagePattern>()
                .expect("valid")
                .matches_repository(None)
        );
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
            ("registry-1.docker.io/nginx", "docker.io/library/NAME"),
            ("[::ffff:10.200.0.1]:5000/**", "write a name or an address"),
            ("[::ffff:ac8:1]:5000/**", "embeds an IPv4 address"),
            ("[::ffff:ac8:1]:*/**", "embeds an IPv4 address"),
            ("[fe80::1%eth0]/**", "character that hosts do not have"),
            ("127.1:5000/**", "four decimal numbers"),
            ("2130706433:*/**", "four decimal numbers"),
            ("0.0.0.0:5000/**", "the unspecified address"),
            ("r.example.com:0/**", "if need be, a port"),
            ("r.example.com:99999/**", "if need be, a port"),
            ("*.example.com:x/**", "if need be, a port"),
        ] {
            let error = pattern
                .parse::<ImagePattern>()
                .expect_err(pattern)
                .to_string();
            assert!(error.contains(part), "{pattern}: {error}");
        }
        assert!(
            format!("r.example.com/{}", "a".repeat(600))
                .parse::<ImagePattern>()
                .is_err()
        );
    }

    #[test]
    fn references_that_it_may_concern_begin_so() {
        for (pattern, beginnings) in [
            ("r.example.com/**", Some(vec!["r.example.com"])),
            ("r.example.com:5000/a", Some(vec!["r.example.com"])),
            ("registry:*/a", Some(vec!["registry"])),
            (
                "localhost:5000/**",
                Some([&ADDRESSES[..], &["localhost"]].concat()),
            ),
            (
                "127.0.0.1:*/**",
                Some([&ADDRESSES[..], &["localhost"]].concat()),
            ),
            (
                "[::1]:5000/**",
                Some([&ADDRESSES[..], &["localhost"]].concat()),
            ),
            ("10.200.0.1:5000/**", Some(ADDRESSES.to_vec())),
            ("10.200.0.1:*/**", Some(ADDRESSES.to_vec())),
            ("[2001:db8::1]:5000/**", Some(ADDRESSES.to_vec())),
            ("[2001:db8::1]/**", Some(ADDRESSES.to_vec())),
            ("10.*.0.1/**", None),
            ("*.example.com/**", None),
            ("docker.io/library/*", None),
            ("registry-1.docker.io/team/*", None),
            ("**", None),
        ] {
            assert_eq!(
                pattern
                    .parse::<ImagePattern>()
                    .expect(pattern)
                    .reference_prefixes(),
                beginnings,
                "{pattern}"
            );
        }
    }

    #[test]
    fn a_hostile_pattern_costs_little() {
        let pattern = format!("r.example.com/{}b", "*a".repeat(120));
        let name = format!("r.example.com/{}", "a".repeat(240));
        assert!(!matches(&pattern, &name));
    }

    /// The direct definition, exponential in time.
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
            prop_assert_eq!(matches_wildcard(&pattern, &text), slow(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
