//! Predicates of users: their type by name or URI, and their JSON.

use serde_json::Value;
use url::Url;

use super::{
    intoto,
    json::{self, JsonError},
    limits::InputLimits,
    reason::{Reason, classify},
    slsa,
};

/// The names of predicate types, the same as cosign's `--type` (cosign 3.1,
/// `cmd/cosign/cli/options/predicate.go`).
const ALIASES: [(&str, &str); 10] = [
    ("custom", "https://cosign.sigstore.dev/attestation/v1"),
    ("cyclonedx", "https://cyclonedx.org/bom"),
    ("link", "https://in-toto.io/Link/v1"),
    ("openvex", "https://openvex.dev/ns"),
    ("slsaprovenance", "https://slsa.dev/provenance/v0.2"),
    ("slsaprovenance02", "https://slsa.dev/provenance/v0.2"),
    ("slsaprovenance1", slsa::PROVENANCE_V1),
    ("spdx", "https://spdx.dev/Document"),
    ("spdxjson", "https://spdx.dev/Document"),
    ("vuln", "https://cosign.sigstore.dev/attestation/vuln/v1"),
];
const MAX_TYPE: usize = 512;

/// Why a predicate or its type is refused.
#[derive(Debug, thiserror::Error)]
pub enum PredicateError {
    /// Neither a known name nor a URI.
    #[error("predicate type {0:?} must be a URI or one of {names}", names = predicate_type_names())]
    Type(String),
    #[error("predicate type {0:?} is what a signature has; use `packgate sign`")]
    Signature(String),
    #[error(
        "predicate has {size} bytes, the limit is {limit}; attach it as a referrer of its own and \
            attest its digest"
    )]
    TooLarge { size: usize, limit: usize },
    /// Not JSON, a duplicate key, or nested too deep.
    #[error("predicate is not acceptable JSON: {0}")]
    Json(JsonError),
    /// JSON, but not an object (in-toto attestation framework, spec/v1/statement.md).
    #[error("predicate must be a JSON object")]
    NoObject,
}

classify!(PredicateError, |error| match error {
    Self::TooLarge { .. } => Reason::LimitExceeded,
    _ => Reason::InvalidSpec,
});

fn predicate_type_names() -> String {
    ALIASES.map(|(name, _)| name).join(", ")
}

/// The URI of `text`: one of cosign's short names, or an absolute URI unchanged.
pub fn predicate_type_uri(text: &str) -> Result<String, PredicateError> {
    let shown = || text.chars().take(120).collect();
    if text == intoto::COSIGN_SIGN {
        return Err(PredicateError::Signature(shown()));
    }
    let alias = ALIASES
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, uri)| *uri);
    let is_uri = text.len() <= MAX_TYPE
        && !text.contains(|c: char| c.is_whitespace() || c.is_control())
        && Url::parse(text).is_ok();
    alias
        .or_else(|| is_uri.then_some(text))
        .map(str::to_owned)
        .ok_or_else(|| PredicateError::Type(shown()))
}

/// Parses a predicate: a JSON object without duplicate keys, small and flat enough that every
/// verifier with these limits accepts the statement around it.
pub fn parse_predicate(bytes: &[u8], limits: &InputLimits) -> Result<Value, PredicateError> {
    // The statement adds one level.
    let value: Value = json::parse_strict(
        bytes,
        limits.sigstore_bundle_bytes,
        limits.json_depth.saturating_sub(1),
    )
    .map_err(|error| match error {
        JsonError::TooLarge { size, limit } => PredicateError::TooLarge { size, limit },
        malformed @ JsonError::Malformed(_) => PredicateError::Json(malformed),
    })?;
    if value.is_object() {
        Ok(value)
    } else {
        Err(PredicateError::NoObject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::reason::ClassifiedError;

    #[test]
    fn types_are_names_or_uris() {
        for (text, uri) in [
            ("slsaprovenance1", "https://slsa.dev/provenance/v1"),
            ("spdxjson", "https://spdx.dev/Document"),
            ("cyclonedx", "https://cyclonedx.org/bom"),
            ("custom", "https://cosign.sigstore.dev/attestation/v1"),
            (
                "https://example.com/review/v1",
                "https://example.com/review/v1",
            ),
            ("urn:example:review", "urn:example:review"),
        ] {
            assert_eq!(predicate_type_uri(text).expect(text), uri);
        }
        let long = format!("https://example.com/{}", "a".repeat(MAX_TYPE));
        for text in [
            "",
            "spdx-json",
            "SPDX",
            "/relative",
            "https://example.com/a b",
            "https://example.com/\n",
            intoto::COSIGN_SIGN,
            &long,
        ] {
            assert_eq!(
                predicate_type_uri(text).expect_err(text).reason(),
                Reason::InvalidSpec
            );
        }
    }

    #[test]
    fn predicates_are_objects_within_the_limits() {
        let limits = InputLimits {
            sigstore_bundle_bytes: 100,
            json_depth: 4,
            ..InputLimits::DEFAULT
        };
        assert_eq!(
            parse_predicate(br#"{"a":{"b":[1]}}"#, &limits).expect("valid")["a"]["b"][0],
            1
        );
        for (text, reason) in [
            ("", Reason::InvalidSpec),
            ("[]", Reason::InvalidSpec),
            ("null", Reason::InvalidSpec),
            ("<xml/>", Reason::InvalidSpec),
            (r#"{"a":1,"a":2}"#, Reason::InvalidSpec),
            (r#"{"a":{"b":[[1]]}}"#, Reason::InvalidSpec),
            (
                &format!(r#"{{"a":"{}"}}"#, "x".repeat(100)),
                Reason::LimitExceeded,
            ),
        ] {
            assert_eq!(
                parse_predicate(text.as_bytes(), &limits)
                    .expect_err(text)
                    .reason(),
                reason,
                "{text}"
            );
        }
    }
}
