//! The two documents of the protocol: `CredentialProviderRequest` and `CredentialProviderResponse`
//! (`k8s.io/kubelet/pkg/apis/credentialprovider/v1`, `types.go`).

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    core::{
        credential_provider::parse_go_duration,
        display_text::sanitize_line,
        json::{JsonError, parse_strict},
        reference::ImageRepository,
    },
    http::Redacted,
    oci::credentials::{RegistryCredentials, matching_entries},
};

/// The maximum size of a response in bytes.
pub(super) const MAX_RESPONSE_BYTES: usize = 1 << 20;
/// The levels of a response: the document, its credentials, and the fields of each.
const DEPTH: usize = 4;
/// Characters of a response's own words that are quoted.
const MAX_QUOTED: usize = 80;

const REQUEST_KIND: &str = "CredentialProviderRequest";
const RESPONSE_KIND: &str = "CredentialProviderResponse";

/// What a plug-in gets on its stdin.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProviderRequest<'a> {
    kind: &'static str,
    api_version: &'a str,
    image: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_account_token: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    service_account_annotations: &'a BTreeMap<String, String>,
}

/// For which images a response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CacheKeyType {
    Image,
    Registry,
    Global,
}

/// The response of a plug-in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProviderResponse {
    pub(super) key_type: CacheKeyType,
    /// `None`: the configuration says it.
    pub(super) cache_duration: Option<Duration>,
    /// The size of the document in bytes.
    pub(super) size: usize,
    auth: BTreeMap<String, ProviderLogin>,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ProviderLogin {
    username: String,
    password: Redacted<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ResponseHead {
    kind: String,
    api_version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ResponseDocument {
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(default)]
    cache_key_type: String,
    #[serde(default)]
    cache_duration: Option<String>,
    #[serde(default)]
    auth: Option<BTreeMap<String, Option<ProviderLogin>>>,
}

impl<'a> ProviderRequest<'a> {
    pub(super) fn new(
        api_version: &'a str,
        repository: &ImageRepository,
        token: Option<&'a Redacted<String>>,
        annotations: &'a BTreeMap<String, String>,
    ) -> Self {
        Self {
            kind: REQUEST_KIND,
            api_version,
            image: repository.to_string(),
            service_account_token: token.map(|token| token.expose().as_str()),
            service_account_annotations: annotations,
        }
    }
}

impl ProviderResponse {
    /// Parses what a plug-in wrote. Errors say what is wrong and quote no credential.
    pub(super) fn parse(bytes: &[u8], api_version: &str) -> Result<Self, String> {
        if bytes.trim_ascii().is_empty() {
            return Err("its output is empty".into());
        }
        // The parser would also read a list as the fields in their order.
        if !bytes.trim_ascii_start().starts_with(b"{") {
            return Err(malformed(1, 1));
        }
        let head: ResponseHead = parse_document(bytes)?;
        if head.kind != RESPONSE_KIND {
            let kind = sanitize_line(&head.kind, MAX_QUOTED);
            return Err(format!("its output is {kind:?}, not {RESPONSE_KIND}"));
        }
        if head.api_version != api_version {
            let actual = sanitize_line(&head.api_version, MAX_QUOTED);
            return Err(format!("its output is of {actual:?}, not of {api_version}"));
        }
        let document: ResponseDocument = parse_document(bytes)?;
        let key_type = match document.cache_key_type.as_str() {
            "Image" => CacheKeyType::Image,
            "Registry" => CacheKeyType::Registry,
            "Global" => CacheKeyType::Global,
            other => {
                let other = sanitize_line(other, MAX_QUOTED);
                return Err(format!(
                    "its cacheKeyType {other:?} is none of Image, Registry, Global"
                ));
            }
        };
        let cache_duration = match document.cache_duration.as_deref().map(parse_go_duration) {
            Some(None) => return Err("its cacheDuration is no duration".into()),
            Some(known) => known,
            None => None,
        };
        let auth = document.auth.unwrap_or_default().into_iter();
        Ok(Self {
            key_type,
            cache_duration,
            size: bytes.len(),
            auth: auth
                .map(|(key, login)| (key, login.unwrap_or_default()))
                .collect(),
        })
    }

    /// The credentials for a repository, the most specific first.
    pub(super) fn credentials_for(&self, repository: &ImageRepository) -> Vec<RegistryCredentials> {
        matching_entries(&self.auth, repository)
            .into_iter()
            .filter(|(_, login)| !login.username.is_empty() || !login.password.expose().is_empty())
            .map(|(_, login)| RegistryCredentials::Password {
                username: login.username.clone(),
                password: login.password.clone(),
            })
            .collect()
    }
}

/// The parser's own message quotes the input, which may be a password.
fn parse_document<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    parse_strict(bytes, MAX_RESPONSE_BYTES, DEPTH).map_err(|error| match error {
        JsonError::TooLarge { limit, .. } => {
            format!("its output has more than {limit} bytes")
        }
        JsonError::Malformed(error) => malformed(error.line(), error.column()),
    })
}

fn malformed(line: usize, column: usize) -> String {
    format!("its output is no {RESPONSE_KIND} in JSON: line {line}, column {column}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const V1: &str = "credentialprovider.kubelet.k8s.io/v1";

    fn repository() -> ImageRepository {
        "r.example.com/team/app".parse().expect("valid")
    }

    fn response(change: &serde_json::Value) -> Result<ProviderResponse, String> {
        let mut document = json!({
            "kind": RESPONSE_KIND, "apiVersion": V1, "cacheKeyType": "Registry",
            "auth": {"r.example.com": {"username": "u", "password": "hunter2"}},
        });
        for (key, value) in change.as_object().expect("an object") {
            document[key] = value.clone();
        }
        ProviderResponse::parse(document.to_string().as_bytes(), V1)
    }

    #[test]
    fn a_request_has_what_the_protocol_says() {
        let none = BTreeMap::new();
        let request = ProviderRequest::new(V1, &repository(), None, &none);
        assert_eq!(
            serde_json::to_value(&request).expect("JSON"),
            json!({"kind": "CredentialProviderRequest", "apiVersion": V1,
                "image": "r.example.com/team/app"})
        );
        let token = Redacted::new("t".to_owned());
        let annotations = [("a".to_owned(), "b".to_owned())].into();
        let request = ProviderRequest::new(V1, &repository(), Some(&token), &annotations);
        assert_eq!(
            serde_json::to_value(&request).expect("JSON"),
            json!({"kind": "CredentialProviderRequest", "apiVersion": V1,
                "image": "r.example.com/team/app", "serviceAccountToken": "t",
                "serviceAccountAnnotations": {"a": "b"}})
        );
    }

    #[test]
    fn a_response_is_read() {
        for (change, key_type, seconds) in [
            (json!({}), CacheKeyType::Registry, None),
            (
                json!({"cacheKeyType": "Image", "cacheDuration": "0s"}),
                CacheKeyType::Image,
                Some(0),
            ),
            (
                json!({"cacheKeyType": "Global", "cacheDuration": "6h0m0s"}),
                CacheKeyType::Global,
                Some(21_600),
            ),
            (json!({"cacheDuration": null}), CacheKeyType::Registry, None),
        ] {
            let read = response(&change).expect("valid");
            assert_eq!(read.key_type, key_type);
            assert_eq!(read.cache_duration, seconds.map(Duration::from_secs));
            assert_eq!(read.credentials_for(&repository()).len(), 1);
            assert!(!format!("{read:?}").contains("hunter2"));
        }
    }

    #[test]
    fn entries_match_as_in_a_docker_configuration() {
        let login = |user: &str| json!({"username": user, "password": "p"});
        for (auth, users) in [
            (json!(null), vec![]),
            (json!({}), vec![]),
            (json!({"r.example.com": null}), vec![]),
            (
                json!({"r.example.com": {"username": "", "password": ""}}),
                vec![],
            ),
            (json!({"r.example.com": {"password": "p"}}), vec![""]),
            (json!({"s.example.com": login("s")}), vec![]),
            (json!({"r.example.com:5000": login("p")}), vec![]),
            (
                json!({"*.example.com": login("glob"), "r.example.com": login("host"),
                    "r.example.com/team": login("path"), "r.example.com/other": login("no")}),
                vec!["path", "host", "glob"],
            ),
        ] {
            let read = response(&json!({"auth": auth})).expect("valid");
            let found: Vec<String> = read
                .credentials_for(&repository())
                .into_iter()
                .map(|credentials| match credentials {
                    RegistryCredentials::Password { username, .. } => username,
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(found, users, "{auth}");
        }
    }

    #[test]
    fn what_is_no_response_is_refused_without_quoting_it() {
        for (change, told) in [
            (json!({"kind": "Secret"}), "not CredentialProviderResponse"),
            (
                json!({"apiVersion": "credentialprovider.kubelet.k8s.io/v1beta1"}),
                "not of credentialprovider.kubelet.k8s.io/v1",
            ),
            (json!({"cacheKeyType": "Pod"}), "none of Image, Registry"),
            (json!({"cacheKeyType": ""}), "none of Image, Registry"),
            (json!({"cacheDuration": "soon"}), "cacheDuration"),
            (json!({"cacheDuration": 5}), "line 1"),
            (json!({"token": "hunter2"}), "line 1"),
            (
                json!({"auth": {"r": {"username": "u", "token": "hunter2"}}}),
                "line 1",
            ),
            (json!({"auth": {"r": "hunter2"}}), "line 1"),
            (json!({"auth": [["hunter2"]]}), "line 1"),
            (
                json!({"auth": {"r": {"username": {"a": {"b": 1}}}}}),
                "line 1",
            ),
        ] {
            let error = response(&change).expect_err("refused");
            assert!(error.contains(told), "{change}: {error}");
            assert!(!error.contains("hunter2"), "{change}: {error}");
        }
        let twice = format!(
            r#"{{"kind":"{RESPONSE_KIND}","apiVersion":"{V1}","cacheKeyType":"Image","auth":{{}},"auth":{{"hunter2":null}}}}"#
        );
        let large = format!("{{{}", "x".repeat(MAX_RESPONSE_BYTES));
        for (text, told) in [
            ("", "empty"),
            (" \n", "empty"),
            ("hunter2", "line 1"),
            ("{}", "not CredentialProviderResponse"),
            ("[]", "line 1"),
            (twice.as_str(), "line 1"),
            (large.as_str(), "more than 1048576 bytes"),
        ] {
            let error = ProviderResponse::parse(text.as_bytes(), V1).expect_err("refused");
            assert!(error.contains(told), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
