//! Identity tokens: OpenID Connect tokens that a certificate authority accepts as proof of an
//! identity.
//!
//! A token is a secret until it expires. It is sent to the certificate authority, and only its
//! issuer and audience are ever shown.
//!
//! What is *not* checked here: its signature. The certificate authority does that.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::Deserialize;

use crate::{
    core::{
        display_text::sanitize_line,
        reason::{ClassifiedError, Reason},
    },
    http::Redacted,
};

/// The largest token that is read, in bytes.
pub const MAX_TOKEN: usize = 64 << 10;

/// A parsed token. Its claims are not verified.
#[derive(Clone, Debug)]
pub struct IdentityToken {
    raw: Redacted<String>,
    issuer: String,
    audience: Vec<String>,
}

/// Why a token is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It has not three parts in base64url, or no claims in the middle one.
    #[error("identity token cannot be read: {0}; it must be an OpenID Connect token (a JWT)")]
    Malformed(&'static str),
    /// It has expired.
    #[error("identity token expired at {0}; get a fresh one")]
    Expired(Timestamp),
    /// It is not valid yet.
    #[error("identity token is not valid before {0}; is this machine's clock right?")]
    NotYet(Timestamp),
    /// There is no token.
    #[error("identity token: {0}")]
    Missing(String),
}

impl ClassifiedError for TokenError {
    fn reason(&self) -> Reason {
        Reason::NoSigner
    }
}

#[derive(Deserialize)]
struct IdentityTokenClaims {
    iss: String,
    aud: IdentityTokenAudience,
    exp: f64,
    nbf: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum IdentityTokenAudience {
    One(String),
    Many(Vec<String>),
}

/// The tolerated difference of clocks.
const SKEW: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);

impl IdentityToken {
    /// Parses a token and checks its validity period.
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, TokenError> {
        let raw = text.trim();
        if raw.len() > MAX_TOKEN {
            return Err(TokenError::Malformed("it is larger than 64 KiB"));
        }
        let mut parts = raw.split('.');
        let (Some(_), Some(claims), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Malformed("it has not three parts"));
        };
        let claims = URL_SAFE_NO_PAD
            .decode(claims.trim_end_matches('='))
            .map_err(|_| TokenError::Malformed("its claims are not in base64url"))?;
        let IdentityTokenClaims { iss, aud, exp, nbf } =
            serde_json::from_slice(&claims).map_err(|_| {
                TokenError::Malformed("it lacks iss, aud or exp, or they are of another type")
            })?;
        check_time(exp, nbf, now)?;
        let audience = match aud {
            IdentityTokenAudience::One(one) => vec![one],
            IdentityTokenAudience::Many(many) => many,
        };
        Ok(Self {
            raw: Redacted::new(raw.to_owned()),
            issuer: sanitize_line(&iss, 200),
            audience,
        })
    }

    /// The token itself, for the certificate authority only.
    pub(super) fn expose(&self) -> &str {
        self.raw.expose()
    }

    /// The audience, for messages.
    pub fn audience(&self) -> String {
        let all: Vec<String> = self
            .audience
            .iter()
            .take(4)
            .map(|audience| format!("{:?}", sanitize_line(audience, 100)))
            .collect();
        if all.is_empty() {
            "nobody".into()
        } else {
            all.join(", ")
        }
    }

    /// The issuer.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }
}

fn check_time(expires: f64, not_before: Option<f64>, now: Timestamp) -> Result<(), TokenError> {
    let expires = timestamp_from_seconds(expires)?;
    if expires <= now {
        return Err(TokenError::Expired(expires));
    }
    match not_before.map(timestamp_from_seconds).transpose()? {
        Some(start) if start > now.checked_add(SKEW).unwrap_or(now) => {
            Err(TokenError::NotYet(start))
        }
        _ => Ok(()),
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "seconds of any year that is one fit, others are refused"
)]
fn timestamp_from_seconds(seconds: f64) -> Result<Timestamp, TokenError> {
    Timestamp::from_second(seconds as i64)
        .map_err(|_| TokenError::Malformed("it expires at no time that there is"))
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    pub(in crate::signing) fn token(claims: &Value) -> String {
        format!(
            "e30.{}.c2lnbmF0dXJl",
            URL_SAFE_NO_PAD.encode(claims.to_string())
        )
    }

    fn parse(text: &str) -> Result<IdentityToken, TokenError> {
        IdentityToken::parse(text, Timestamp::from_second(1_000).expect("a time"))
    }

    #[test]
    fn claims_are_read_and_the_rest_is_kept_secret() {
        let text = token(
            &json!({"iss": "https://i.example.com", "aud": "sigstore", "exp": 1_001, "sub": "x"}),
        );
        let read = parse(&format!(" {text}\n")).expect("a token");
        assert_eq!(
            (read.issuer(), read.audience().as_str(), read.expose()),
            ("https://i.example.com", "\"sigstore\"", text.as_str())
        );
        assert!(!format!("{read:?}").contains("c2lnbmF0dXJl"));
        let read = parse(&token(
            &json!({"iss": "i", "aud": ["a", "b\nc"], "exp": 1e9, "nbf": 1_030}),
        ))
        .expect("a token");
        assert_eq!(read.audience(), "\"a\", \"b c\"");
        assert_eq!(
            parse(&token(&json!({"iss": "i", "aud": [], "exp": 1_001})))
                .expect("a token")
                .audience(),
            "nobody"
        );
    }

    #[test]
    fn a_token_out_of_its_time_is_refused() {
        let expired = parse(&token(
            &json!({"iss": "i", "aud": "sigstore", "exp": 1_000}),
        ))
        .expect_err("expired");
        assert_eq!(
            expired.to_string(),
            "identity token expired at 1970-01-01T00:16:40Z; get a fresh one"
        );
        assert_eq!(expired.reason(), Reason::NoSigner);
        let early = parse(&token(
            &json!({"iss": "i", "aud": "sigstore", "exp": 9_000, "nbf": 1_061}),
        ))
        .expect_err("early");
        assert!(matches!(early, TokenError::NotYet(_)));
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_shown() {
        let huge = "x".repeat(MAX_TOKEN + 1);
        for text in [
            "",
            "hunter2",
            "a.hunter2",
            "a.%.c",
            "a.e30.c",
            "a.b.c.d",
            huge.as_str(),
        ] {
            let error = parse(text).expect_err(text);
            assert!(
                matches!(error, TokenError::Malformed(_)) && !error.to_string().contains("hunter2"),
                "{error}"
            );
        }
    }
}
