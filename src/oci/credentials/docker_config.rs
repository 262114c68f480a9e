//! Docker's configuration file, which `docker login` writes, and podman's `auth.json`, which has the
//! same form.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::Deserialize;

use super::{
    CredentialLookup, CredentialStore, FoundCredentials, RegistryCredentialError,
    RegistryCredentials,
    auth_entry::{AuthEntry, AuthEntryError},
    helper::query_helper,
    key_pattern::matching_entries,
};
use crate::core::{display_text::truncate_text, reference::ImageRepository};

/// What a configuration is called in messages, unless its caller says more.
const DEFAULT_SOURCE: &str = "registry configuration";

/// The credentials in a Docker configuration.
#[derive(Clone, Debug)]
pub struct DockerConfig {
    source: String,
    auths: BTreeMap<String, AuthEntry>,
    /// The helper for every registry without an entry.
    general_helper: Option<String>,
    helpers_by_key: BTreeMap<String, String>,
    helpers_allowed: bool,
}

/// docker/cli, `cli/config/configfile/file.go`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DockerConfigFile {
    #[serde(deserialize_with = "null_as_default")]
    auths: BTreeMap<String, AuthEntry>,
    creds_store: Option<String>,
    #[serde(deserialize_with = "null_as_default")]
    cred_helpers: BTreeMap<String, String>,
}

fn null_as_default<'de, T: Default + Deserialize<'de>, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl DockerConfig {
    /// Parses `config.json` or `auth.json`, or the `.dockerconfigjson` of a Secret.
    pub fn parse(bytes: &[u8]) -> Result<Self, RegistryCredentialError> {
        serde_json::from_slice(bytes)
            .map(Self::from_file)
            .map_err(|error| malformed(&error))
    }

    /// Parses the older form, which has the entries only: the `.dockercfg` of a Secret.
    pub fn parse_dockercfg(bytes: &[u8]) -> Result<Self, RegistryCredentialError> {
        let auths = serde_json::from_slice(bytes).map_err(|error| malformed(&error))?;
        Ok(Self::from_file(DockerConfigFile {
            auths,
            ..DockerConfigFile::default()
        }))
    }

    fn from_file(file: DockerConfigFile) -> Self {
        Self {
            source: DEFAULT_SOURCE.into(),
            auths: file.auths,
            general_helper: file.creds_store.filter(|helper| !helper.is_empty()),
            helpers_by_key: file.cred_helpers,
            helpers_allowed: false,
        }
    }

    /// Says where the configuration comes from, for messages: `Secret team-a/pull`.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<String>) -> Self {
        self.source = source.into();
        self
    }

    /// Allows to run the credential helpers that the configuration names.
    #[must_use]
    pub const fn allow_helpers(mut self) -> Self {
        self.helpers_allowed = true;
        self
    }

    fn helper_for(&self, repository: &ImageRepository) -> Option<&str> {
        let helper = matching_entries(&self.helpers_by_key, repository)
            .into_iter()
            .next();
        helper
            .map(|(_, helper)| helper.as_str())
            .filter(|helper| !helper.is_empty())
    }

    async fn ask_helper(&self, helper: &str, host: &str, lookup: &mut CredentialLookup) {
        let answer = if self.helpers_allowed {
            query_helper(helper, host).await
        } else {
            Err(RegistryCredentialError::HelperNotAllowed {
                source_name: self.source.clone(),
                helper: truncate_text(helper, 60),
            })
        };
        match answer {
            Ok(Some(credentials)) => lookup.found.push(FoundCredentials {
                credentials,
                source: format!("docker-credential-{helper}"),
            }),
            Ok(None) => {}
            Err(error) => lookup.failures.push(error),
        }
    }

    fn read_auths(&self, repository: &ImageRepository, lookup: &mut CredentialLookup) {
        for (key, entry) in matching_entries(&self.auths, repository) {
            match entry.credentials() {
                Ok(Some(credentials)) => self.add_found(credentials, lookup),
                Ok(None) => {}
                Err(error) => lookup.failures.push(self.entry_error(key, &error)),
            }
        }
    }

    fn add_found(&self, credentials: RegistryCredentials, lookup: &mut CredentialLookup) {
        if !lookup.found.iter().any(|o| o.credentials == credentials) {
            lookup.found.push(FoundCredentials {
                credentials,
                source: self.source.clone(),
            });
        }
    }

    fn entry_error(&self, key: &str, error: &AuthEntryError) -> RegistryCredentialError {
        let (source_name, key) = (self.source.clone(), truncate_text(key, 100));
        match error {
            AuthEntryError::Malformed => RegistryCredentialError::Entry { source_name, key },
            AuthEntryError::Encoding => RegistryCredentialError::Encoding { source_name, key },
        }
    }
}

#[async_trait]
impl CredentialStore for DockerConfig {
    /// The repository's own helper, then the entries in `auths`; without either the general helper.
    async fn credentials_for_repository(&self, repository: &ImageRepository) -> CredentialLookup {
        let mut lookup = CredentialLookup::default();
        if let Some(helper) = self.helper_for(repository) {
            self.ask_helper(helper, repository.host(), &mut lookup)
                .await;
            if !lookup.failures.is_empty() {
                return lookup;
            }
        }
        self.read_auths(repository, &mut lookup);
        if let Some(helper) = &self.general_helper
            && lookup == CredentialLookup::default()
        {
            self.ask_helper(helper, repository.host(), &mut lookup)
                .await;
        }
        lookup
    }
}

/// The parser's own message quotes the input, which may be a password.
fn malformed(error: &serde_json::Error) -> RegistryCredentialError {
    RegistryCredentialError::Malformed {
        source_name: DEFAULT_SOURCE.into(),
        line: error.line(),
        column: error.column(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::reason::{ClassifiedError, Reason};

    fn password(username: &str, password: &str) -> RegistryCredentials {
        RegistryCredentials::Password {
            username: username.into(),
            password: password.to_owned().into(),
        }
    }

    async fn look_up(config: &str, repository: &str) -> CredentialLookup {
        DockerConfig::parse(config.as_bytes())
            .expect("a configuration")
            .credentials_for_repository(&repository.parse().expect(repository))
            .await
    }

    fn credentials(lookup: CredentialLookup) -> Vec<RegistryCredentials> {
        assert_eq!(lookup.failures, []);
        lookup.found.into_iter().map(|o| o.credentials).collect()
    }

    #[tokio::test]
    async fn all_that_match_are_found_the_most_specific_first() {
        let config = r#"{"auths":{
            "*.example.com":{"username":"a","password":"glob"},
            "https://r.example.com/v2/":{"username":"a","password":"spelled"},
            "r.example.com":{"username":"a","password":"host"},
            "r.example.com/team":{"username":"a","password":"team"},
            "r.example.com/team/app":{"username":"a","password":"app"},
            "r.example.com/team/ap":{"username":"a","password":"ap"},
            "s.example.com":{"username":"a","password":"other"},
            "r.example.com/":{"username":"a","password":"host"}}}"#;
        let expected = ["app", "team", "host", "spelled", "glob"].map(|p| password("a", p));
        assert_eq!(
            credentials(look_up(config, "r.example.com/team/app").await),
            expected
        );
        assert_eq!(
            credentials(look_up(config, "r.example.com/teams/app").await),
            expected[2..]
        );
        assert_eq!(
            credentials(look_up(config, "r.example.org/team/app").await),
            []
        );
    }

    #[tokio::test]
    async fn a_malformed_entry_hides_no_other() {
        let config = r#"{"auths":{
            "broken.example.com":{"auth":["hunter2"]},
            "r.example.com/team":{"auth":"hunter2"},
            "r.example.com":{"username":"a","password":"b"}}}"#;
        assert_eq!(
            credentials(look_up(config, "r.example.com/app").await),
            [password("a", "b")]
        );
        let both = look_up(config, "r.example.com/team/app").await;
        assert_eq!(both.found.len(), 1, "the other is still found");
        let broken = look_up(config, "broken.example.com/app").await;
        assert_eq!(broken.found, []);
        for (lookup, key) in [(both, "r.example.com/team"), (broken, "broken.example.com")] {
            assert_eq!(lookup.failures.len(), 1);
            let error = &lookup.failures[0];
            assert_eq!(error.reason(), Reason::InvalidSpec);
            assert!(error.to_string().contains(key), "{error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }

    #[tokio::test]
    async fn the_older_form_has_entries_only() {
        let store = DockerConfig::parse_dockercfg(
            br#"{"https://index.docker.io/v1/":{"auth":"YTpi","email":"a@example.com"}}"#,
        )
        .expect("valid");
        let repository = "docker.io/library/nginx".parse().expect("valid");
        assert_eq!(
            credentials(store.credentials_for_repository(&repository).await),
            [password("a", "b")]
        );
    }

    #[test]
    fn errors_name_the_place_and_no_secret() {
        for config in [
            r#"{"auths":"hunter2"}"#,
            r#"["hunter2"]"#,
            r#"{"auths":{"hunter2":}}"#,
            "hunter2",
            "",
        ] {
            let error = DockerConfig::parse(config.as_bytes()).expect_err(config);
            assert_eq!(error.reason(), Reason::InvalidSpec, "{config}");
            assert!(
                !format!("{error} {error:?}").contains("hunter2"),
                "{error:?}"
            );
        }
        let parsed =
            DockerConfig::parse(br#"{"auths":{"x":{"auth":"hunter2","password":"hunter2"}}}"#);
        assert!(!format!("{parsed:?}").contains("hunter2"));
        for empty in [
            "{}",
            r#"{"auths":null,"credHelpers":null,"credsStore":null}"#,
        ] {
            DockerConfig::parse(empty.as_bytes()).expect(empty);
        }
    }

    #[tokio::test]
    async fn helpers_run_only_where_they_may() {
        let config = r#"{"credHelpers":{"r.example.com":"packgate-test-none"},
            "auths":{"s.example.com":{"auth":"YTpi"}},"credsStore":"packgate-test-store"}"#;
        for (repository, helper) in [
            ("r.example.com/a", "packgate-test-none"),
            ("t.example.com/a", "packgate-test-store"),
        ] {
            assert_eq!(
                look_up(config, repository).await.failures,
                [RegistryCredentialError::HelperNotAllowed {
                    source_name: DEFAULT_SOURCE.into(),
                    helper: helper.into()
                }]
            );
        }
        let allowed = DockerConfig::parse(config.as_bytes())
            .expect("valid")
            .allow_helpers();
        let lookup = allowed
            .credentials_for_repository(&"r.example.com/a".parse().expect("valid"))
            .await;
        assert_eq!((lookup.found.len(), lookup.failures.len()), (0, 1));
        let error = lookup.failures[0].to_string();
        assert!(error.contains("cannot be run"), "no such program: {error}");
        let lookup = allowed
            .credentials_for_repository(&"s.example.com/a".parse().expect("valid"))
            .await;
        assert_eq!(credentials(lookup), [password("a", "b")]);
        let escape = r#"{"credHelpers":{"r.example.com":"../hunter"}}"#;
        let lookup = DockerConfig::parse(escape.as_bytes())
            .expect("valid")
            .allow_helpers()
            .credentials_for_repository(&"r.example.com/a".parse().expect("valid"))
            .await;
        assert!(lookup.failures[0].to_string().contains("its name"));
    }
}
