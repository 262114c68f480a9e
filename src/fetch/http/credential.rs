//! One credential of downloads, made of the keys of a Secret.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{
    core::{
        download::CredentialScope,
        job::FETCH_CREDENTIAL_KEYS,
        reason::{ClassifiedError, Reason},
    },
    http::{HttpClient, HttpError, HttpOptions, Redacted},
};

const USERNAME: &str = FETCH_CREDENTIAL_KEYS[0];
const PASSWORD: &str = FETCH_CREDENTIAL_KEYS[1];
const TOKEN: &str = FETCH_CREDENTIAL_KEYS[2];
const CERTIFICATE: &str = FETCH_CREDENTIAL_KEYS[3];
const PRIVATE_KEY: &str = FETCH_CREDENTIAL_KEYS[4];

/// What is shown to a host: a user name and password, or a token; and a client certificate.
#[derive(Clone, Debug)]
pub struct DownloadCredential {
    pub(super) scope: CredentialScope,
    /// Where it was given, for errors.
    pub(super) label: String,
    pub(super) authorization: Option<Redacted<String>>,
    /// A client with its certificate. No other request may use it.
    pub(super) client: Option<HttpClient>,
}

/// Why a credential cannot be used. Messages name where it was given, and never its content.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum DownloadCredentialError {
    #[error(
        "{0} has none of the keys username and password, token, tls.crt and tls.key: make it, or \
            add the keys"
    )]
    NoKeys(String),
    #[error("{0} has a token and a password: leave one of them out")]
    TokenAndPassword(String),
    #[error("{label} has {present} and no {missing}: add it")]
    HalfPair {
        label: String,
        present: &'static str,
        missing: &'static str,
    },
    #[error("{label}: {key} must be one line of printable ASCII characters")]
    NotHeader { label: String, key: &'static str },
    #[error("{0} has no key address: make the Secret, or add the proxy's URL to it")]
    NoProxyAddress(String),
    #[error("{0} must have the URL of a proxy, such as http://proxy.example.com:3128")]
    ProxyAddress(String),
    #[error("{label}: {source}")]
    Certificate { label: String, source: HttpError },
}

impl ClassifiedError for DownloadCredentialError {
    fn reason(&self) -> Reason {
        match self {
            Self::NoKeys(_) | Self::NoProxyAddress(_) => Reason::SourceNotFound,
            Self::TokenAndPassword(_)
            | Self::HalfPair { .. }
            | Self::NotHeader { .. }
            | Self::ProxyAddress(_) => Reason::InvalidSpec,
            Self::Certificate { source, .. } => source.reason(),
        }
    }
}

impl DownloadCredential {
    /// The keys that a credential is made of.
    pub const KEYS: [&str; 5] = FETCH_CREDENTIAL_KEYS;

    /// A credential of these [`Self::KEYS`]. `label` says where they were given. The client for a
    /// certificate has these options.
    pub fn from_keys(
        scope: CredentialScope,
        label: String,
        keys: &BTreeMap<String, Redacted<String>>,
        options: &HttpOptions,
    ) -> Result<Self, DownloadCredentialError> {
        let authorization = authorization(&label, keys)?;
        let client = match client_identity(&label, keys)? {
            Some(pem) => Some(client_with_certificate(&label, pem, options)?),
            None => None,
        };
        if authorization.is_none() && client.is_none() {
            return Err(DownloadCredentialError::NoKeys(label));
        }
        Ok(Self {
            scope,
            label,
            authorization,
            client,
        })
    }
}

/// The value of `Authorization` (RFC 7617, RFC 6750).
fn authorization(
    label: &str,
    keys: &BTreeMap<String, Redacted<String>>,
) -> Result<Option<Redacted<String>>, DownloadCredentialError> {
    let user = line(label, keys, USERNAME)?;
    let password = line(label, keys, PASSWORD)?;
    let token = line(label, keys, TOKEN)?;
    match (user, password, token) {
        (None, None, None) => Ok(None),
        (None | Some(_), None, Some(token)) => Ok(Some(format!("Bearer {token}").into())),
        (_, Some(_), Some(_)) => Err(DownloadCredentialError::TokenAndPassword(label.to_owned())),
        (user, password, None) => {
            let pair = format!("{}:{}", user.unwrap_or(""), password.unwrap_or(""));
            Ok(Some(
                format!("Basic {}", BASE64_STANDARD.encode(pair)).into(),
            ))
        }
    }
}

/// The value of a key without the line break that editors leave at the end.
fn line<'a>(
    label: &str,
    keys: &'a BTreeMap<String, Redacted<String>>,
    key: &'static str,
) -> Result<Option<&'a str>, DownloadCredentialError> {
    let Some(value) = keys.get(key) else {
        return Ok(None);
    };
    let value = value.expose().trim_end_matches(['\r', '\n']);
    let is_valid = if key == TOKEN {
        !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic())
    } else {
        !value.chars().any(char::is_control)
    };
    if is_valid {
        Ok(Some(value))
    } else {
        Err(DownloadCredentialError::NotHeader {
            label: label.to_owned(),
            key,
        })
    }
}

/// Certificate chain and private key in one text of PEM.
fn client_identity(
    label: &str,
    keys: &BTreeMap<String, Redacted<String>>,
) -> Result<Option<String>, DownloadCredentialError> {
    let half = |present, missing| DownloadCredentialError::HalfPair {
        label: label.to_owned(),
        present,
        missing,
    };
    match (keys.get(CERTIFICATE), keys.get(PRIVATE_KEY)) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(half(CERTIFICATE, PRIVATE_KEY)),
        (None, Some(_)) => Err(half(PRIVATE_KEY, CERTIFICATE)),
        (Some(chain), Some(key)) => Ok(Some(format!("{}\n{}", chain.expose(), key.expose()))),
    }
}

fn client_with_certificate(
    label: &str,
    pem: String,
    options: &HttpOptions,
) -> Result<HttpClient, DownloadCredentialError> {
    let options = HttpOptions {
        client_identity: Some(Redacted::new(pem.into())),
        ..options.clone()
    };
    HttpClient::new(&options).map_err(|source| DownloadCredentialError::Certificate {
        label: label.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(pairs: &[(&str, &str)]) -> Result<DownloadCredential, DownloadCredentialError> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let keys = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Redacted::new((*value).to_owned())))
            .collect();
        let scope = CredentialScope::new("f.example.com", None, false).expect("valid");
        DownloadCredential::from_keys(scope, "a Secret".into(), &keys, &HttpOptions::default())
    }

    #[test]
    fn keys_become_a_header() {
        for (keys, header) in [
            (
                &[("username", "user"), ("password", "hunter2\n")][..],
                "Basic dXNlcjpodW50ZXIy",
            ),
            (&[("username", "token")][..], "Basic dG9rZW46"),
            (&[("password", "hunter2")][..], "Basic Omh1bnRlcjI="),
            (&[("token", "hunter2\r\n")][..], "Bearer hunter2"),
            (
                &[("username", "user"), ("token", "hunter2")][..],
                "Bearer hunter2",
            ),
        ] {
            let made = credential(keys).expect("valid");
            let value = made.authorization.as_ref().expect("a header").expose();
            assert_eq!(value, header);
            assert!(!format!("{made:?}").contains("hunter2"), "it prints");
        }
    }

    #[test]
    fn keys_that_are_no_credential_are_refused() {
        for (keys, reason, part) in [
            (
                &[][..],
                Reason::SourceNotFound,
                "a Secret has none of the keys",
            ),
            (
                &[("other", "x")][..],
                Reason::SourceNotFound,
                "none of the keys",
            ),
            (
                &[("token", "hunter2"), ("password", "hunter2")][..],
                Reason::InvalidSpec,
                "a token and a password",
            ),
            (
                &[("token", "hunter2 x")][..],
                Reason::InvalidSpec,
                "token must be one line",
            ),
            (
                &[("token", "")][..],
                Reason::InvalidSpec,
                "token must be one line",
            ),
            (
                &[("token", "hunter2\nX: y")][..],
                Reason::InvalidSpec,
                "token must be one line",
            ),
            (
                &[("username", "a\nb"), ("password", "hunter2")][..],
                Reason::InvalidSpec,
                "username must be one line",
            ),
            (
                &[("tls.crt", "x")][..],
                Reason::InvalidSpec,
                "tls.crt and no tls.key",
            ),
            (
                &[("tls.key", "hunter2")][..],
                Reason::InvalidSpec,
                "tls.key and no tls.crt",
            ),
            (
                &[("tls.crt", "x"), ("tls.key", "hunter2")][..],
                Reason::InvalidSpec,
                "client certificate",
            ),
        ] {
            let error = credential(keys).expect_err(part);
            assert_eq!(error.reason(), reason, "{error}");
            assert!(error.to_string().contains(part), "{error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }
}
