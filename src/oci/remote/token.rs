//! Tokens: where they may be requested, and how responses are parsed (distribution's token and
//! OAuth 2 specifications).

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::Value;
use url::{Url, form_urlencoded};

use super::token_hosts::{AllowedTokenService, may_see_credentials};
use crate::{
    http::{HttpRequest, Redacted, header},
    oci::credentials::RegistryCredentials,
};

/// Bytes of a token service's response. Tokens with many group claims have some kilobytes.
pub(super) const MAX_TOKEN_RESPONSE_BYTES: usize = 256 << 10;
/// The lifetime in seconds of a token without `expires_in` (distribution's token specification).
const DEFAULT_LIFETIME: u64 = 60;
/// The longest time in seconds that a token is cached, whatever the service declares.
const LONGEST_LIFETIME: u64 = 3_600;

/// A token with its expiry.
pub(super) struct RegistryToken {
    pub(super) value: Redacted<String>,
    pub(super) lifetime: Duration,
}

/// The token service in a registry's challenge.
pub(super) struct RegistryTokenService<'a> {
    pub(super) realm: Url,
    pub(super) service: Option<&'a str>,
}

/// Why a realm is not asked for a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RealmRefusal {
    /// It is no URL.
    Malformed(String),
    /// It is not encrypted, though the registry is.
    NotEncrypted(Url),
    /// It belongs to somebody else than the registry, and there are credentials to be sent.
    OtherOwner(Url),
}

impl<'a> RegistryTokenService<'a> {
    /// Parses a challenge's realm. With credentials it must belong to the registry's owner, or be
    /// allowed; without, it must not be unencrypted if the registry is encrypted.
    pub(super) fn new(
        realm: &str,
        service: Option<&'a str>,
        registry: &Url,
        with_credentials: Option<&[AllowedTokenService]>,
    ) -> Result<Self, RealmRefusal> {
        let mut realm =
            Url::parse(realm).map_err(|error| RealmRefusal::Malformed(error.to_string()))?;
        let _ = realm.set_username("");
        let _ = realm.set_password(None);
        let encrypted =
            realm.scheme() == "https" || (realm.scheme() == "http" && registry.scheme() == "http");
        if !encrypted {
            return Err(RealmRefusal::NotEncrypted(realm));
        }
        match with_credentials {
            Some(allowed) if !may_see_credentials(registry, &realm, allowed) => {
                Err(RealmRefusal::OtherOwner(realm))
            }
            _ => Ok(Self { realm, service }),
        }
    }

    /// The request for a token with `scopes`.
    pub(super) fn token_request(
        &self,
        credentials: Option<&RegistryCredentials>,
        scopes: &[String],
    ) -> HttpRequest {
        match credentials {
            Some(RegistryCredentials::IdentityToken(token)) => {
                self.build_refresh_request(token, scopes)
            }
            Some(RegistryCredentials::Password { username, password }) => self
                .build_get_request(Some(username), scopes)
                .with_authorization(&basic_authorization(username, password)),
            // A registry's token is shown to the registry only.
            Some(RegistryCredentials::RegistryToken(_)) | None => {
                self.build_get_request(None, scopes)
            }
        }
    }

    fn build_get_request(&self, account: Option<&str>, scopes: &[String]) -> HttpRequest {
        let mut url = self.realm.clone();
        {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(self.service.map(|service| ("service", service)));
            query.extend_pairs(account.map(|account| ("account", account)));
            query.extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
        }
        HttpRequest::get(url)
    }

    /// The token is in the body: the HTTP client never sends a body to another origin.
    fn build_refresh_request(&self, token: &Redacted<String>, scopes: &[String]) -> HttpRequest {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token")
            .append_pair("client_id", "packgate");
        form.extend_pairs(self.service.map(|service| ("service", service)));
        form.append_pair("scope", &scopes.join(" "))
            .append_pair("refresh_token", token.expose());
        let request =
            HttpRequest::new(crate::http::Method::POST, self.realm.clone()).allow_retries();
        request
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.finish())
    }
}

/// The `Authorization` header of the Basic scheme.
pub(super) fn basic_authorization(username: &str, password: &Redacted<String>) -> Redacted<String> {
    format!(
        "Basic {}",
        STANDARD.encode(format!("{username}:{}", password.expose()))
    )
    .into()
}

/// The `Authorization` header of the Bearer scheme.
pub(super) fn bearer_authorization(token: &Redacted<String>) -> Redacted<String> {
    format!("Bearer {}", token.expose()).into()
}

/// Other services have other types for all of it.
#[derive(Deserialize)]
struct RegistryTokenResponse {
    #[serde(default)]
    token: Redacted<Value>,
    #[serde(default)]
    access_token: Redacted<Value>,
    #[serde(default)]
    expires_in: Value,
}

/// Parses the service's response.
///
/// Errors: what is wrong with it, without any part of it.
pub(super) fn parse_token_response(body: &[u8]) -> Result<RegistryToken, &'static str> {
    let response: RegistryTokenResponse = serde_json::from_slice(body)
        .map_err(|_| "its token service's answer is not a JSON object")?;
    let tokens = [&response.token, &response.access_token];
    let token = tokens.into_iter().find_map(|token| {
        let text = token.expose().as_str()?.trim();
        (!text.is_empty()).then(|| Redacted::new(text.to_owned()))
    });
    let value = token
        .ok_or("its token service's answer has no text in \"token\", nor in \"access_token\"")?;
    if header::HeaderValue::from_str(value.expose()).is_err() {
        return Err("its token service's token has characters that no header can have");
    }
    let seconds = lifetime_seconds(&response.expires_in);
    // The margin covers network latency and clock differences.
    Ok(RegistryToken {
        value,
        lifetime: Duration::from_secs(seconds - seconds / 6),
    })
}

/// Some services write a text, a fraction, or -1.
fn lifetime_seconds(expires_in: &Value) -> u64 {
    let number = match expires_in {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_f64(),
    };
    match number {
        Some(seconds) if seconds <= 0.0 => 0,
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and capped"
        )]
        Some(seconds) if seconds > 0.0 => (seconds as u64).min(LONGEST_LIFETIME),
        _ => DEFAULT_LIFETIME,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_realm_that_is_not_asked_is_named() {
        let registry: Url = "https://r.example.com".parse().expect("valid");
        for (realm, refusal) in [
            ("no URL", "Malformed"),
            ("http://r.example.com/token", "NotEncrypted"),
            ("https://user:hunter2@evil.example/token", "OtherOwner"),
        ] {
            let refused = RegistryTokenService::new(realm, None, &registry, Some(&[]))
                .err()
                .expect(realm);
            let text = format!("{refused:?}");
            assert!(text.starts_with(refusal), "{realm}: {text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
        let allowed = [AllowedTokenService::parse("evil.example").expect("valid")];
        let realm = "https://evil.example/token";
        assert!(RegistryTokenService::new(realm, None, &registry, Some(&allowed)).is_ok());
    }

    #[test]
    fn without_credentials_only_encryption_matters() {
        for (registry, realm, passes) in [
            (
                "https://r.example.com",
                "https://auth.example.org/token",
                true,
            ),
            (
                "https://r.example.com",
                "http://auth.example.org/token",
                false,
            ),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5001/token", true),
            ("http://127.0.0.1:5000", "file:///etc/passwd", false),
        ] {
            assert_eq!(
                RegistryTokenService::new(realm, None, &registry.parse().expect(registry), None)
                    .is_ok(),
                passes,
                "{realm}"
            );
        }
    }

    #[test]
    fn lifetimes_have_a_margin_a_default_and_a_cap() {
        for (body, seconds) in [
            (r#"{"token":"t"}"#, Some(50)),
            (r#"{"access_token":"t","expires_in":300}"#, Some(250)),
            (
                r#"{"token":"","access_token":"t","expires_in":300}"#,
                Some(250),
            ),
            (r#"{"token":null,"access_token":"t"}"#, Some(50)),
            (r#"{"token":7,"access_token":"t"}"#, Some(50)),
            (r#"{"token":"t","access_token":"other"}"#, Some(50)),
            (r#"{"token":"t","expires_in":0}"#, Some(0)),
            (r#"{"token":"t","expires_in":-1}"#, Some(0)),
            (r#"{"token":"t","expires_in":"300"}"#, Some(250)),
            (r#"{"token":"t","expires_in":" 300 "}"#, Some(250)),
            (r#"{"token":"t","expires_in":299.5}"#, Some(250)),
            (r#"{"token":"t","expires_in":"299.5"}"#, Some(250)),
            (r#"{"token":"t","expires_in":"soon"}"#, Some(50)),
            (r#"{"token":"t","expires_in":"NaN"}"#, Some(50)),
            (r#"{"token":"t","expires_in":null}"#, Some(50)),
            (r#"{"token":"t","expires_in":true}"#, Some(50)),
            (r#"{"token":"t","expires_in":99999999}"#, Some(3_000)),
            (r#"{"token":"t","expires_in":1e300}"#, Some(3_000)),
            (
                r#"{"token":"t","expires_in":18446744073709551615}"#,
                Some(3_000),
            ),
            (r#"{"token":"a\nb"}"#, None),
            (r#"{"token":""}"#, None),
            (r#"{"token":["t"]}"#, None),
            ("{}", None),
            ("[]", None),
            ("<html>", None),
            ("", None),
        ] {
            let parsed = parse_token_response(body.as_bytes());
            assert_eq!(
                parsed.ok().map(|token| token.lifetime.as_secs()),
                seconds,
                "{body}"
            );
        }
        let chosen = parse_token_response(br#"{"token":" t\n","access_token":"o"}"#);
        assert_eq!(chosen.ok().map(|t| t.value), Some("t".to_owned().into()));
    }
}
