//! Entries of `auths`: the credentials of one key.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use serde::{Deserialize, Deserializer};

use super::RegistryCredentials;
use crate::http::Redacted;

/// One entry. A malformed one is kept as such: it must not hide those of other registries.
#[derive(Clone, Debug)]
pub(super) enum AuthEntry {
    WellFormed(AuthEntryFields),
    Malformed,
}

/// docker/cli, `cli/config/types/authconfig.go`.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct AuthEntryFields {
    auth: Option<Redacted<String>>,
    username: Option<String>,
    password: Option<Redacted<String>>,
    identitytoken: Option<Redacted<String>>,
    registrytoken: Option<Redacted<String>>,
}

/// Why an entry has no credentials, though it should.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AuthEntryError {
    Malformed,
    Encoding,
}

impl<'de> Deserialize<'de> for AuthEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Ok(serde_json::from_value(value).map_or(Self::Malformed, Self::WellFormed))
    }
}

impl AuthEntry {
    /// The credentials: a token before a password, as in docker. `None` if the entry is empty, as
    /// docker writes it when a credential store has them.
    pub(super) fn credentials(&self) -> Result<Option<RegistryCredentials>, AuthEntryError> {
        match self {
            Self::WellFormed(fields) => fields.credentials(),
            Self::Malformed => Err(AuthEntryError::Malformed),
        }
    }
}

impl AuthEntryFields {
    fn credentials(&self) -> Result<Option<RegistryCredentials>, AuthEntryError> {
        let token = |token: &Option<Redacted<String>>| {
            let token = token.as_ref()?.expose().trim();
            (!token.is_empty()).then(|| Redacted::new(token.to_owned()))
        };
        if let Some(token) = token(&self.registrytoken) {
            return Ok(Some(RegistryCredentials::RegistryToken(token)));
        }
        if let Some(token) = token(&self.identitytoken) {
            return Ok(Some(RegistryCredentials::IdentityToken(token)));
        }
        if let Some(auth) = token(&self.auth) {
            return decode_auth(auth.expose())
                .map(Some)
                .ok_or(AuthEntryError::Encoding);
        }
        let username = self.username.clone().unwrap_or_default();
        let password = self
            .password
            .clone()
            .unwrap_or_else(|| String::new().into());
        let empty = username.is_empty() || password.expose().is_empty();
        Ok((!empty).then_some(RegistryCredentials::Password { username, password }))
    }
}

fn decode_auth(auth: &str) -> Option<RegistryCredentials> {
    let bytes = STANDARD_NO_PAD.decode(auth.trim_end_matches('=')).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (username, password) = text.split_once(':')?;
    let password = password.trim_end_matches('\0').to_owned();
    Some(RegistryCredentials::Password {
        username: username.into(),
        password: password.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_have_several_shapes() {
        let password = |username: &str, password: &str| {
            Ok(Some(RegistryCredentials::Password {
                username: username.into(),
                password: password.to_owned().into(),
            }))
        };
        let identity = || {
            Ok(Some(RegistryCredentials::IdentityToken(
                "t".to_owned().into(),
            )))
        };
        let registry = || {
            Ok(Some(RegistryCredentials::RegistryToken(
                "t".to_owned().into(),
            )))
        };
        // `YTpi` is `a:b` in base64.
        for (entry, expected) in [
            (r#"{"auth":"YTpi"}"#, password("a", "b")),
            (r#"{"auth":"YTpiOmM="}"#, password("a", "b:c")),
            (
                r#"{"auth":" YTpi\n","email":"a@example.com"}"#,
                password("a", "b"),
            ),
            (r#"{"username":"a","password":"b"}"#, password("a", "b")),
            (
                r#"{"auth":"YTpi","username":"c","password":"d"}"#,
                password("a", "b"),
            ),
            (
                r#"{"auth":null,"username":"a","password":"b"}"#,
                password("a", "b"),
            ),
            (
                r#"{"auth":"","identitytoken":"","username":"a","password":"b"}"#,
                password("a", "b"),
            ),
            (r#"{"auth":"YTpi","identitytoken":"t"}"#, identity()),
            (r#"{"registrytoken":"t\n"}"#, registry()),
            (
                r#"{"auth":"YTpi","identitytoken":"x","registrytoken":"t"}"#,
                registry(),
            ),
            (
                r#"{"auth":"","identitytoken":"","registrytoken":""}"#,
                Ok(None),
            ),
            (r#"{"username":"a"}"#, Ok(None)),
            ("{}", Ok(None)),
            (r#"{"auth":"hunter2"}"#, Err(AuthEntryError::Encoding)),
            (r#"{"auth":"YWI="}"#, Err(AuthEntryError::Encoding)),
            (r#"{"auth":["hunter2"]}"#, Err(AuthEntryError::Malformed)),
            (r#""hunter2""#, Err(AuthEntryError::Malformed)),
            ("7", Err(AuthEntryError::Malformed)),
        ] {
            let parsed: AuthEntry = serde_json::from_str(entry).expect(entry);
            assert!(!format!("{parsed:?}").contains("hunter2"), "{parsed:?}");
            assert_eq!(parsed.credentials(), expected, "{entry}");
        }
    }
}
