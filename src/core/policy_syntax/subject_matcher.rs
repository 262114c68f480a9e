//! Matchers for the name and the claims in a certificate.

use std::sync::Arc;

use regex_automata::{
    meta::{BuildError, Config, Regex},
    util::syntax,
};

use crate::core::evidence::{CertificateClaims, sanitize_text};

/// The maximum memory of one compiled expression, in bytes. Stops expressions that compile to huge
/// programs.
const REGEX_BYTES: usize = 1 << 18;
/// The maximum size in bytes of a name that an expression is matched against: the limit of names in
/// a policy. Stops names made to take long to match.
const MAX_NAME: usize = 2_048;

/// How a certificate's subject alternative name is compared. The whole name must match, always.
#[derive(Clone, Debug)]
pub enum SubjectMatcher {
    /// Equal, byte for byte.
    Exact(String),
    /// A prefix, up to and including a `/` after the host.
    Prefix(String),
    /// By a regular expression, anchored at both ends.
    Regexp(Arc<AnchoredRegex>),
}

/// A regular expression for a whole name.
#[derive(Clone, Debug)]
pub struct AnchoredRegex {
    text: String,
    anchored: Regex,
}

impl SubjectMatcher {
    /// Exactly this name. Errors: what is wrong with it.
    pub fn exact(name: &str) -> Result<Self, String> {
        if name.is_empty() {
            Err("must not be empty".into())
        } else {
            Ok(Self::Exact(name.to_owned()))
        }
    }

    /// Every name with this prefix: a scheme, a host and a path that ends with `/`. Errors: what is
    /// wrong with it.
    pub fn prefix(prefix: &str) -> Result<Self, String> {
        let path = prefix
            .split_once("://")
            .and_then(|(scheme, rest)| (!scheme.is_empty()).then_some(rest)?.split_once('/'));
        match path {
            Some((host, _)) if !host.is_empty() && prefix.ends_with('/') => {
                Ok(Self::Prefix(prefix.to_owned()))
            }
            _ => Err(
                "must be a URI up to and including a /, such as https://git.example.com/org/"
                    .into(),
            ),
        }
    }

    /// Every name that this expression matches as a whole. Errors: what is wrong with it.
    pub fn regexp(text: &str) -> Result<Self, String> {
        AnchoredRegex::parse(text).map(|expression| Self::Regexp(Arc::new(expression)))
    }

    /// True if the name matches.
    pub fn matches_name(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            // `https://git.example.com/org/../evil` has the prefix but is another identity.
            Self::Prefix(prefix) => {
                name.len() > prefix.len()
                    && name.starts_with(prefix)
                    && !name.split('/').any(|segment| matches!(segment, "." | ".."))
            }
            Self::Regexp(expression) => {
                name.len() <= MAX_NAME && expression.anchored.is_match(name)
            }
        }
    }

    /// The text as written, for reports and comparisons of authorities.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Exact(text) | Self::Prefix(text) => text,
            Self::Regexp(expression) => &expression.text,
        }
    }
}

impl AnchoredRegex {
    /// Compiles it. Errors: what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let syntax = syntax::Config::new().nest_limit(32);
        // Parsed on its own first: `a)|(b` would otherwise close the group that anchors it.
        syntax::parse_with(text, &syntax).map_err(|error| {
            format!(
                "is no regular expression: {}",
                last_line(&error.to_string())
            )
        })?;
        // One engine, without a cache of notable size: names are short.
        let config = Config::new()
            .nfa_size_limit(Some(REGEX_BYTES))
            .onepass(false)
            .hybrid(false)
            .dfa(false)
            .backtrack(false);
        let compiled = Regex::builder()
            .syntax(syntax)
            .configure(config)
            .build(&format!(r"\A(?:{text})\z"));
        let anchored = compiled
            .map_err(|error| format!("cannot be anchored: {}", describe_build_error(&error)))?;
        if anchored.is_match("") {
            return Err(
                "matches an empty name, so it matches anything; write what the name must be".into(),
            );
        }
        Ok(Self {
            text: text.to_owned(),
            anchored,
        })
    }

    /// Its memory in bytes.
    pub fn memory_size(&self) -> usize {
        self.text.len() + self.anchored.memory_usage()
    }
}

impl PartialEq for SubjectMatcher {
    fn eq(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
            && self.as_str() == other.as_str()
    }
}

impl Eq for SubjectMatcher {}

/// Claims that a certificate must have, each compared exactly. `None` requires nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimsRule(pub CertificateClaims);

impl ClaimsRule {
    /// True if the certificate has all required claims. A required claim that is absent does not
    /// match.
    pub fn is_met_by(&self, claims: &CertificateClaims) -> bool {
        let asked = [
            (&self.0.source_repository, &claims.source_repository),
            (&self.0.source_ref, &claims.source_ref),
            (&self.0.workflow, &claims.workflow),
            (&self.0.trigger, &claims.trigger),
            (&self.0.runner, &claims.runner),
        ];
        asked
            .into_iter()
            .all(|(wanted, found)| wanted.is_none() || wanted == found)
    }
}

fn describe_build_error(error: &BuildError) -> String {
    match (error.size_limit(), error.syntax_error()) {
        (Some(limit), _) => format!("compiled it takes more than {limit} bytes; make it smaller"),
        (None, Some(error)) => last_line(&error.to_string()),
        (None, None) => last_line(&error.to_string()),
    }
}

/// The line of the regex crate's error that describes the problem.
fn last_line(text: &str) -> String {
    sanitize_text(
        text.lines()
            .last()
            .unwrap_or_default()
            .trim_start_matches("error: "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_name_is_compared() {
        type Case = (
            Result<SubjectMatcher, String>,
            &'static [&'static str],
            &'static [&'static str],
        );
        let table: &[Case] = &[
            (
                SubjectMatcher::exact("a@example.com"),
                &["a@example.com"],
                &["A@example.com", "a@example.com ", "aa@example.com", ""],
            ),
            (
                SubjectMatcher::prefix("https://git.example.com/org/"),
                &[
                    "https://git.example.com/org/x",
                    "https://git.example.com/org/x/y@refs/heads/main",
                ],
                &[
                    "https://git.example.com/org/",
                    "https://git.example.com/org",
                    "https://git.example.com/organisation/x",
                    "https://git.example.com/org/../evil/x",
                    "https://git.example.com/org/./x",
                    "xhttps://git.example.com/org/x",
                ],
            ),
            (
                SubjectMatcher::regexp(r"https://git\.example\.com/[a-z]+"),
                &["https://git.example.com/org"],
                &[
                    "https://git.example.com/org\n",
                    "https://git.example.com/org/x",
                    "x https://git.example.com/org",
                    "https://gitxexample.com/org",
                ],
            ),
            // An alternative cannot escape the anchors.
            (
                SubjectMatcher::regexp("a|b"),
                &["a", "b"],
                &["ab", "xa", "bx"],
            ),
            (SubjectMatcher::regexp("(?m)a$"), &["a"], &["a\nevil"]),
        ];
        for (pattern, good, bad) in table {
            let pattern = pattern.as_ref().expect("a pattern");
            assert!(
                good.iter().all(|name| pattern.matches_name(name)),
                "{pattern:?} {good:?}"
            );
            let passed: Vec<_> = bad
                .iter()
                .filter(|name| pattern.matches_name(name))
                .collect();
            assert!(passed.is_empty(), "{pattern:?} matches {passed:?}");
        }
    }

    #[test]
    fn what_asks_for_nothing_is_refused() {
        let refused = [
            SubjectMatcher::exact(""),
            SubjectMatcher::prefix(""),
            SubjectMatcher::prefix("/"),
            SubjectMatcher::prefix("https://"),
            SubjectMatcher::prefix("https:///"),
            SubjectMatcher::prefix("https://git.example.com"),
            SubjectMatcher::prefix("https://git.example.com/org"),
            SubjectMatcher::prefix("release@"),
            SubjectMatcher::regexp(""),
            SubjectMatcher::regexp(".*"),
            SubjectMatcher::regexp("a)|(b"),
            SubjectMatcher::regexp("(?x) a #"),
            SubjectMatcher::regexp("("),
            SubjectMatcher::regexp("(a{1000}){1000}"),
            SubjectMatcher::regexp(&"(".repeat(100)),
        ];
        for (at, pattern) in refused.iter().enumerate() {
            assert!(pattern.is_err(), "{at}: {pattern:?}");
        }
    }

    #[test]
    fn an_expression_costs_what_it_says_and_long_names_cost_nothing() {
        let (small, large) = (
            AnchoredRegex::parse("[a-z]+").expect("one"),
            AnchoredRegex::parse("([a-z]{1,9}x){1,99}").expect("one"),
        );
        assert!(
            small.memory_size() < 16 << 10 && large.memory_size() > 4 * small.memory_size(),
            "{} {}",
            small.memory_size(),
            large.memory_size()
        );
        assert!(
            large.memory_size() < 4 * REGEX_BYTES,
            "{}",
            large.memory_size()
        );
        let pattern = SubjectMatcher::regexp("a+").expect("one");
        assert!(
            pattern.matches_name(&"a".repeat(MAX_NAME))
                && !pattern.matches_name(&"a".repeat(MAX_NAME + 1))
        );
    }

    #[test]
    fn a_claim_that_is_asked_for_must_be_made() {
        let text = |text: &str| Some(text.to_owned());
        let rule = ClaimsRule(CertificateClaims {
            source_repository: text("https://git/x"),
            trigger: text("push"),
            ..CertificateClaims::default()
        });
        let good = CertificateClaims {
            runner: text("self-hosted"),
            ..rule.0.clone()
        };
        assert!(
            rule.is_met_by(&good) && ClaimsRule::default().is_met_by(&CertificateClaims::default())
        );
        assert!(!rule.is_met_by(&CertificateClaims {
            trigger: None,
            ..good.clone()
        }));
        assert!(!rule.is_met_by(&CertificateClaims {
            source_repository: text("https://git/X"),
            ..good.clone()
        }));
        for field in ["ref", "workflow", "runner"] {
            let mut rule = rule.clone();
            match field {
                "ref" => rule.0.source_ref = text("refs/heads/main"),
                "workflow" => rule.0.workflow = text("w"),
                _ => rule.0.runner = text("other"),
            }
            assert!(!rule.is_met_by(&good), "{field}");
        }
    }
}
