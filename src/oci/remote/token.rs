//! Tokens: where they may be requested, and how responses are parsed (distribution's token and
//! OAuth 2 specifications).

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use url::{Host, Url, form_urlencoded};

use crate::{
    http::{HttpRequest, Redacted, header, redact::redact_url},
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

impl<'a> RegistryTokenService<'a> {
    /// Parses a challenge's realm. With credentials it must be on the registry's own origin or
    /// domain; without, it must not be unencrypted if the registry is encrypted.
    pub(super) fn new(
        realm: &str,
        service: Option<&'a str>,
        registry: &Url,
        with_credentials: bool,
    ) -> Result<Self, String> {
        let mut url =
            Url::parse(realm).map_err(|e| format!("its token realm cannot be parsed: {e}"))?;
        let _ = url.set_username("");
        let _ = url.set_password(None);
        let encrypted =
            url.scheme() == "https" || (url.scheme() == "http" && registry.scheme() == "http");
        let trusted = may_see_credentials(registry, &url);
        match (encrypted, trusted || !with_credentials) {
            (true, true) => Ok(Self {
                realm: url,
                service,
            }),
            (false, _) => Err(format!(
                "it asks for a token from {}, which is not https",
                redact_url(&url)
            )),
            (true, false) => Err(format!(
                "it asks for credentials to be sent to {}, which is neither its own address nor \
                    https in its own domain",
                redact_url(&url)
            )),
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

/// Same origin; or encrypted, and the same host or below the registry's parent domain. A parent of
/// one label, or an address, does not count as a domain.
fn may_see_credentials(registry: &Url, realm: &Url) -> bool {
    if registry.origin() == realm.origin() {
        return true;
    }
    if realm.scheme() != "https" {
        return false;
    }
    match (registry.host(), realm.host()) {
        (Some(Host::Domain(registry)), Some(Host::Domain(realm))) => {
            registry == realm || shares_parent_domain(registry, realm)
        }
        (registry, realm) => registry.is_some() && registry == realm,
    }
}

fn shares_parent_domain(registry: &str, realm: &str) -> bool {
    let Some((_, parent)) = registry.split_once('.') else {
        return false;
    };
    let below = realm
        .strip_suffix(parent)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    parent.split('.').filter(|label| !label.is_empty()).count() >= 2 && below
}

#[derive(Deserialize)]
struct RegistryTokenResponse {
    token: Option<Redacted<String>>,
    access_token: Option<Redacted<String>>,
    expires_in: Option<u64>,
}

/// Parses the service's response. `None`: it contains no token.
pub(super) fn parse_token_response(body: &[u8]) -> Option<RegistryToken> {
    let wire: RegistryTokenResponse = serde_json::from_slice(body).ok()?;
    let value = wire
        .token
        .or(wire.access_token)
        .filter(|token| !token.expose().is_empty())?;
    let seconds = wire
        .expires_in
        .unwrap_or(DEFAULT_LIFETIME)
        .min(LONGEST_LIFETIME);
    // The margin covers network latency and clock differences.
    Some(RegistryToken {
        value,
        lifetime: Duration::from_secs(seconds - seconds / 6),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_stay_with_the_registry_and_its_domain() {
        for (registry, realm, passes) in [
            ("https://r.example.com", "https://r.example.com/token", true),
            (
                "https://r.example.com",
                "https://r.example.com:8443/token",
                true,
            ),
            (
                "https://registry-1.docker.io",
                "https://auth.docker.io/token",
                true,
            ),
            (
                "https://registry.gitlab.com",
                "https://gitlab.com/jwt/auth",
                true,
            ),
            (
                "https://r.eu.example.com",
                "https://auth.eu.example.com/token",
                true,
            ),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000/token", true),
            ("http://localhost:5000", "https://localhost/token", true),
            ("https://r.example.com", "http://r.example.com/token", false),
            (
                "https://r.example.com",
                "http://auth.example.com/token",
                false,
            ),
            ("https://r.example.com", "https://evil.example/token", false),
            (
                "https://r.example.com",
                "https://r.example.com.evil.example/token",
                false,
            ),
            (
                "https://r.example.com",
                "https://evilexample.com/token",
                false,
            ),
            (
                "https://r.eu.example.com",
                "https://auth.example.com/token",
                false,
            ),
            ("https://example.com", "https://evil.com/token", false),
            ("https://localhost", "https://evil.localhost/token", false),
            ("https://10.0.0.1", "https://1.0.0.1/token", false),
            (
                "https://10.0.0.1",
                "https://evil.0.0.1.example/token",
                false,
            ),
            ("https://r.com.", "https://evil.com./token", false),
            (
                "http://127.0.0.1:5000",
                "http://127.0.0.1:5001/token",
                false,
            ),
        ] {
            let registry: Url = registry.parse().expect(registry);
            let outcome = RegistryTokenService::new(realm, None, &registry, true);
            assert_eq!(outcome.is_ok(), passes, "{realm} for {registry}");
            if let Err(message) = outcome {
                let host = Url::parse(realm)
                    .expect(realm)
                    .host_str()
                    .expect(realm)
                    .to_owned();
                assert!(message.contains(&host), "{message}");
            }
        }
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
                RegistryTokenService::new(realm, None, &registry.parse().expect(registry), false)
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
            (r#"{"token":"t","expires_in":0}"#, Some(0)),
            (r#"{"token":"t","expires_in":99999999}"#, Some(3_000)),
            (r#"{"token":""}"#, None),
            ("{}", None),
            ("<html>", None),
        ] {
            assert_eq!(
                parse_token_response(body.as_bytes()).map(|t| t.lifetime.as_secs()),
                seconds,
                "{body}"
            );
        }
    }
}
