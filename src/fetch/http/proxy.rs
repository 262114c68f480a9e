//! The proxy of downloads, made of an option or of the keys of a Secret.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use url::Url;

use super::DownloadCredentialError;
use crate::{
    core::job::FETCH_PROXY_KEYS,
    http::{HttpOptions, HttpProxy, Redacted, redact::redact_url},
};

const ADDRESS: &str = FETCH_PROXY_KEYS[0];
const USERNAME: &str = FETCH_PROXY_KEYS[1];
const PASSWORD: &str = FETCH_PROXY_KEYS[2];
const NO_PROXY: &str = FETCH_PROXY_KEYS[3];
const CA: &str = FETCH_PROXY_KEYS[4];

/// A proxy for downloads.
#[derive(Clone, Debug)]
pub struct DownloadProxy {
    address: Url,
    credentials: Option<(String, Redacted<String>)>,
    except: String,
    ca_pem: Option<Bytes>,
    label: String,
}

impl DownloadProxy {
    /// The keys that a proxy is made of.
    pub const KEYS: [&str; 5] = FETCH_PROXY_KEYS;

    /// A proxy with this URL, which may contain a user name and password. `except` is in the form
    /// of `NO_PROXY`, `label` says where the proxy was given.
    pub fn from_url(url: &str, except: &str, label: &str) -> Result<Self, DownloadCredentialError> {
        let refused = || DownloadCredentialError::ProxyAddress(label.to_owned());
        let whole = if url.contains("://") {
            url.trim().to_owned()
        } else {
            format!("http://{}", url.trim())
        };
        let mut address = Url::parse(&whole).map_err(|_| refused())?;
        let is_proxy = matches!(address.scheme(), "http" | "https")
            && address.has_host()
            && address.path() == "/"
            && address.query().is_none()
            && address.fragment().is_none();
        if !is_proxy {
            return Err(refused());
        }
        let credentials = url_credentials(&address);
        let _ = address.set_username("");
        let _ = address.set_password(None);
        Ok(Self {
            label: format!("the proxy {} of {label}", redact_url(&address)),
            address,
            credentials,
            except: except.to_owned(),
            ca_pem: None,
        })
    }

    /// A proxy of these [`Self::KEYS`]. `label` says where they were given.
    pub fn from_keys(
        label: &str,
        keys: &BTreeMap<String, Redacted<String>>,
    ) -> Result<Self, DownloadCredentialError> {
        let text = |key: &str| keys.get(key).map(|value| value.expose().trim());
        let address = text(ADDRESS)
            .ok_or_else(|| DownloadCredentialError::NoProxyAddress(label.to_owned()))?;
        let proxy = Self::from_url(address, text(NO_PROXY).unwrap_or_default(), label)?;
        let user = text(USERNAME).map(|user| {
            let password = text(PASSWORD).unwrap_or_default().to_owned();
            (user.to_owned(), Redacted::new(password))
        });
        Ok(Self {
            credentials: user.or(proxy.credentials),
            ca_pem: text(CA).map(|pem| Bytes::from(pem.to_owned())),
            ..proxy
        })
    }

    /// What it is and where it was given, for errors.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// These options with this proxy, and with its certificate authorities.
    pub fn apply_to(&self, options: HttpOptions) -> HttpOptions {
        let extra_ca_pem = match (options.extra_ca_pem, &self.ca_pem) {
            (Some(own), Some(proxy)) => Some([own.as_ref(), b"\n", proxy].concat().into()),
            (own, proxy) => own.or_else(|| proxy.clone()),
        };
        HttpOptions {
            proxy: HttpProxy::Through {
                address: self.address.clone(),
                credentials: self.credentials.clone(),
                except: self.except.clone(),
            },
            extra_ca_pem,
            ..options
        }
    }
}

/// User name and password of a URL, decoded.
fn url_credentials(url: &Url) -> Option<(String, Redacted<String>)> {
    let decode = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8();
        decoded.map_or_else(|_| text.to_owned(), Cow::into_owned)
    };
    (!url.username().is_empty()).then(|| {
        (
            decode(url.username()),
            Redacted::new(decode(url.password().unwrap_or_default())),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::reason::{ClassifiedError, Reason};

    fn through(proxy: &DownloadProxy) -> (String, Option<(String, String)>, String) {
        let options = proxy.apply_to(HttpOptions::default());
        let HttpProxy::Through {
            address,
            credentials,
            except,
        } = options.proxy
        else {
            panic!("it has a proxy")
        };
        let credentials = credentials.map(|(user, password)| (user, password.expose().clone()));
        (address.to_string(), credentials, except)
    }

    #[test]
    fn a_url_or_keys_say_the_proxy() {
        let user = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        for (url, address, credentials) in [
            (
                "http://p.example.com:3128",
                "http://p.example.com:3128/",
                None,
            ),
            ("p.example.com:3128", "http://p.example.com:3128/", None),
            ("https://p.example.com/", "https://p.example.com/", None),
            (
                "http://user:hunt%65r2@p.example.com:3128",
                "http://p.example.com:3128/",
                user("user", "hunter2"),
            ),
        ] {
            let proxy = DownloadProxy::from_url(url, "a,b", "--proxy").expect(url);
            assert_eq!(
                through(&proxy),
                (address.to_owned(), credentials, "a,b".to_owned())
            );
            assert!(!format!("{proxy:?}").contains("hunter2"), "it prints");
        }
        let keys = [
            ("address", "http://p.example.com:3128\n"),
            ("username", "user"),
            ("password", "hunter2\n"),
            ("noProxy", "10.0.0.0/8"),
            ("ca.crt", "PEM"),
        ];
        let keys = keys.map(|(key, value)| (key.to_owned(), Redacted::new(value.to_owned())));
        let proxy = DownloadProxy::from_keys("a Secret", &keys.into()).expect("valid");
        assert_eq!(
            through(&proxy),
            (
                "http://p.example.com:3128/".to_owned(),
                user("user", "hunter2"),
                "10.0.0.0/8".to_owned()
            )
        );
        let merged = proxy.apply_to(HttpOptions {
            extra_ca_pem: Some("OWN".into()),
            ..HttpOptions::default()
        });
        assert_eq!(merged.extra_ca_pem.as_deref(), Some(b"OWN\nPEM".as_slice()));
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_its_password() {
        for url in [
            "",
            "socks5://u:hunter2@p.example.com",
            "http://u:hunter2@p.example.com/path",
            "http://p.example.com/?hunter2",
            "http://",
        ] {
            let error = DownloadProxy::from_url(url, "", "--proxy").expect_err(url);
            assert_eq!(error.reason(), Reason::InvalidSpec);
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        let error = DownloadProxy::from_keys("a Secret", &BTreeMap::new()).expect_err("no address");
        assert_eq!(error.reason(), Reason::SourceNotFound);
    }
}
