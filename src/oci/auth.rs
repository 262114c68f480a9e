//! Credentials for registries, from the configuration file that `docker login` writes.
//!
//! The caller reads the file. A configuration may name credential helpers, which are programs: they
//! only run after [`DockerConfig::allow_helpers`], because a file from a Secret must never start a
//! process.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use serde::Deserialize;

use crate::{
    core::{
        display_text::truncate_text,
        reason::{ClassifiedError, Reason},
        reference::canonical_host,
    },
    http::Redacted,
    process::{Command, ProcessLimits, run_helper_process},
};

/// The key of Docker Hub's credentials, for every name of its host.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// The limits of a credential helper: it may ask the user, and a token may have some kilobytes.
const HELPER_LIMITS: ProcessLimits = ProcessLimits {
    timeout: Duration::from_secs(30),
    stdout_bytes: 64 << 10,
    stderr_bytes: 0,
};

/// Credentials for a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryCredentials {
    /// A user name and a password or access token.
    Password {
        /// The user name.
        username: String,
        /// The password.
        password: Redacted<String>,
    },
    /// An OAuth 2 refresh token, which the token endpoint exchanges for access tokens.
    IdentityToken(Redacted<String>),
}

/// Looks up credentials by host.
#[async_trait]
pub trait CredentialStore: Send + Sync {
    /// The credentials for a registry host (`r.example.com:5000`, `docker.io`); `None` to stay
    /// anonymous.
    async fn credentials_for_host(
        &self,
        host: &str,
    ) -> Result<Option<RegistryCredentials>, RegistryCredentialError>;
}

/// A store without credentials.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnonymousCredentials;

#[async_trait]
impl CredentialStore for AnonymousCredentials {
    async fn credentials_for_host(
        &self,
        _: &str,
    ) -> Result<Option<RegistryCredentials>, RegistryCredentialError> {
        Ok(None)
    }
}

/// Credentials for one host, and for no other.
#[derive(Clone, Debug)]
pub struct HostCredentials {
    /// The host.
    pub host: String,
    /// The credentials for it.
    pub credentials: RegistryCredentials,
}

#[async_trait]
impl CredentialStore for HostCredentials {
    async fn credentials_for_host(
        &self,
        host: &str,
    ) -> Result<Option<RegistryCredentials>, RegistryCredentialError> {
        Ok(
            (canonical_or_lowercase(host) == canonical_or_lowercase(&self.host))
                .then(|| self.credentials.clone()),
        )
    }
}

/// Why credentials are not available. No variant contains any part of a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryCredentialError {
    /// The configuration is invalid.
    #[error("registry configuration cannot be read: line {line}, column {column}")]
    Malformed {
        /// The line, from 1.
        line: usize,
        /// The column.
        column: usize,
    },
    /// `auth` is not `base64(user:password)`.
    #[error(
        "registry configuration: \"auth\" of {key} is not base64 of user:password; log in again"
    )]
    Encoding {
        /// The key in `auths`.
        key: String,
    },
    /// A helper is configured where none may run.
    #[error(
        "registry configuration names the credential helper {helper}, which must not run here; write \
            the credential into \"auths\""
    )]
    HelperNotAllowed {
        /// The helper's name.
        helper: String,
    },
    /// A credential helper failed.
    #[error("credential helper docker-credential-{helper}: {cause}")]
    Helper {
        /// The helper's name.
        helper: String,
        /// The error.
        cause: String,
    },
}

impl ClassifiedError for RegistryCredentialError {
    fn reason(&self) -> Reason {
        Reason::InvalidSpec
    }
}

/// The credentials in a Docker configuration.
#[derive(Clone, Debug, Default)]
pub struct DockerConfig {
    wire: DockerConfigFile,
    helpers: bool,
}

/// docker/cli, `cli/config/configfile/file.go`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DockerConfigFile {
    auths: BTreeMap<String, DockerAuthEntry>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct DockerAuthEntry {
    auth: Option<Redacted<String>>,
    username: Option<String>,
    password: Option<Redacted<String>>,
    identitytoken: Option<Redacted<String>>,
}

impl DockerConfig {
    /// Parses `config.json`, or the `.dockerconfigjson` of a Secret.
    pub fn parse(bytes: &[u8]) -> Result<Self, RegistryCredentialError> {
        // The parser's own message quotes the input, which may be a password.
        let wire =
            serde_json::from_slice(bytes).map_err(|e| RegistryCredentialError::Malformed {
                line: e.line(),
                column: e.column(),
            })?;
        Ok(Self {
            wire,
            helpers: false,
        })
    }

    /// Allows to run the credential helpers that the configuration names.
    #[must_use]
    pub const fn allow_helpers(mut self) -> Self {
        self.helpers = true;
        self
    }

    fn credentials_in_auths(
        &self,
        host: &str,
    ) -> Result<Option<RegistryCredentials>, RegistryCredentialError> {
        let exact = self.wire.auths.get_key_value(host).into_iter();
        let others = self.wire.auths.iter().filter(|(key, _)| {
            auths_key_host(key).is_some_and(|key| key == canonical_or_lowercase(host))
        });
        exact
            .chain(others)
            .find_map(|(key, entry)| entry.parse_credentials(key).transpose())
            .transpose()
    }

    fn helper_for_host(&self, host: &str) -> Option<&String> {
        let named = self.wire.cred_helpers.iter().find(|(key, _)| {
            auths_key_host(key).is_some_and(|key| key == canonical_or_lowercase(host))
        });
        named
            .map(|(_, helper)| helper)
            .filter(|helper| !helper.is_empty())
    }
}

#[async_trait]
impl CredentialStore for DockerConfig {
    /// The host's own helper, else the entry in `auths`, else the general credential store.
    async fn credentials_for_host(
        &self,
        host: &str,
    ) -> Result<Option<RegistryCredentials>, RegistryCredentialError> {
        if let Some(helper) = self.helper_for_host(host) {
            return self.query_helper(helper, host).await;
        }
        match (self.credentials_in_auths(host)?, &self.wire.creds_store) {
            (Some(credentials), _) => Ok(Some(credentials)),
            (None, Some(store)) if !store.is_empty() => self.query_helper(store, host).await,
            (None, _) => Ok(None),
        }
    }
}

impl DockerConfig {
    async fn query_helper(
        &self,
        helper: &str,
        host: &str,
    ) -> Result<Option<RegistryCredentials>, RegistryCredentialError> {
        let helper_error = |cause: String| RegistryCredentialError::Helper {
            helper: truncate_text(helper, 60),
            cause,
        };
        if !helper
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        {
            return Err(helper_error(
                "its name may contain only letters, digits and - _ .".into(),
            ));
        }
        if !self.helpers {
            return Err(RegistryCredentialError::HelperNotAllowed {
                helper: helper.into(),
            });
        }
        let server = if canonical_or_lowercase(host) == "docker.io" {
            DOCKER_HUB
        } else {
            host
        };
        run_helper(Command::new(format!("docker-credential-{helper}")), server)
            .await
            .map_err(helper_error)
    }
}

/// docker/docker-credential-helpers: the server's address on stdin, JSON on stdout. Its output is
/// never shown: it may be the secret.
async fn run_helper(
    mut program: Command,
    server: &str,
) -> Result<Option<RegistryCredentials>, String> {
    program.arg("get");
    let ended = run_helper_process(program, server.as_bytes(), HELPER_LIMITS)
        .await
        .map_err(|error| error.to_string())?;
    match ended.status {
        None => parse_helper_output(&[]).map(Some),
        Some(status) if status.success() => parse_helper_output(&ended.stdout).map(Some),
        Some(_) if is_unknown_host(&ended.stdout) => Ok(None),
        Some(status) => Err(format!("it exited with {status}")),
    }
}

fn is_unknown_host(output: &[u8]) -> bool {
    String::from_utf8_lossy(output).contains("credentials not found")
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CredentialHelperOutput {
    username: String,
    secret: Redacted<String>,
}

fn parse_helper_output(output: &[u8]) -> Result<RegistryCredentials, String> {
    let answer: CredentialHelperOutput = serde_json::from_slice(output)
        .map_err(|_| "its output is not a credential in JSON".to_owned())?;
    Ok(match answer.username.as_str() {
        "<token>" => RegistryCredentials::IdentityToken(answer.secret),
        _ => RegistryCredentials::Password {
            username: answer.username,
            password: answer.secret,
        },
    })
}

impl DockerAuthEntry {
    fn parse_credentials(
        &self,
        key: &str,
    ) -> Result<Option<RegistryCredentials>, RegistryCredentialError> {
        let filled = |secret: &&Redacted<String>| !secret.expose().is_empty();
        if let Some(token) = self.identitytoken.as_ref().filter(filled) {
            return Ok(Some(RegistryCredentials::IdentityToken(token.clone())));
        }
        if let Some(auth) = self.auth.as_ref().filter(filled) {
            return decode_auth(auth.expose()).map(Some).ok_or_else(|| {
                RegistryCredentialError::Encoding {
                    key: truncate_text(key, 100),
                }
            });
        }
        let pair = self.username.as_ref().zip(self.password.as_ref());
        Ok(
            pair.map(|(username, password)| RegistryCredentials::Password {
                username: username.clone(),
                password: password.clone(),
            }),
        )
    }
}

fn decode_auth(auth: &str) -> Option<RegistryCredentials> {
    let bytes = STANDARD_NO_PAD
        .decode(auth.trim().trim_end_matches('='))
        .ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (username, password) = text.split_once(':')?;
    let password = password.trim_end_matches('\0').to_owned();
    Some(RegistryCredentials::Password {
        username: username.into(),
        password: password.into(),
    })
}

/// The host of a key of `auths`. A key with a path applies to a part of the host only, and is
/// ignored.
fn auths_key_host(key: &str) -> Option<String> {
    let rest = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    matches!(path.trim_end_matches('/'), "" | "v1" | "v2").then(|| canonical_or_lowercase(host))
}

/// The host in the form of `Repository::host`. An invalid host is only lowercased and matches no
/// registry.
fn canonical_or_lowercase(host: &str) -> String {
    canonical_host(host).unwrap_or_else(|_| host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(username: &str, password: &str) -> RegistryCredentials {
        RegistryCredentials::Password {
            username: username.into(),
            password: password.to_owned().into(),
        }
    }

    async fn look_up(
        config: &str,
        host: &str,
    ) -> Result<Option<RegistryCredentials>, RegistryCredentialError> {
        DockerConfig::parse(config.as_bytes())?
            .credentials_for_host(host)
            .await
    }

    #[tokio::test]
    async fn keys_name_hosts_in_several_forms() {
        // `YTpi` is `a:b` in base64.
        for (key, host, found) in [
            ("r.example.com", "r.example.com", true),
            ("https://r.example.com", "r.example.com", true),
            ("https://r.example.com/v1/", "r.example.com", true),
            ("http://r.example.com:5000/", "r.example.com:5000", true),
            ("R.Example.com:443", "r.example.com", true),
            ("https://index.docker.io/v1/", "docker.io", true),
            ("docker.io", "docker.io", true),
            ("https://registry-1.docker.io", "docker.io", true),
            ("registry.hub.docker.com", "docker.io", true),
            ("r.example.com.", "r.example.com", true),
            ("r.example.com:05000", "r.example.com:5000", true),
            ("[2001:0db8:0::1]:5000", "[2001:db8::1]:5000", true),
            ("[::ffff:ac8:1]:5000", "10.200.0.1:5000", false),
            ("registry:443", "registry:443", true),
            ("r.example.com", "r.example.com:5000", false),
            ("r.example.com/team", "r.example.com", false),
            ("example.com", "r.example.com", false),
            ("r.example.com.evil.example", "r.example.com", false),
        ] {
            let config = format!(r#"{{"auths":{{"{key}":{{"auth":"YTpi"}}}}}}"#);
            assert_eq!(
                look_up(&config, host).await.expect(key),
                found.then(|| password("a", "b")),
                "{key} for {host}"
            );
        }
    }

    #[tokio::test]
    async fn entries_have_several_shapes() {
        for (entry, expected) in [
            (r#"{"auth":"YTpi"}"#, Some(password("a", "b"))),
            (r#"{"auth":"YTpiOmM="}"#, Some(password("a", "b:c"))),
            (
                r#"{"username":"a","password":"b"}"#,
                Some(password("a", "b")),
            ),
            (
                r#"{"auth":"YTpi","identitytoken":"t"}"#,
                Some(RegistryCredentials::IdentityToken("t".to_owned().into())),
            ),
            (r#"{"auth":"","identitytoken":""}"#, None),
            ("{}", None),
        ] {
            assert_eq!(
                look_up(
                    &format!(r#"{{"auths":{{"r.example.com":{entry}}}}}"#),
                    "r.example.com"
                )
                .await
                .expect(entry),
                expected
            );
        }
    }

    #[tokio::test]
    async fn errors_name_the_place_and_no_secret() {
        for config in [
            r#"{"auths":{"r.example.com":{"auth":"hunter2"}}}"#,
            r#"{"auths":{"r.example.com":"hunter2"}}"#,
            r#"{"auths":{"r.example.com":{"auth":["hunter2"]}}}"#,
            r#"{"credHelpers":{"r.example.com":"../hunter"}}"#,
            r#"{"credsStore":"desktop"}"#,
        ] {
            let error = look_up(config, "r.example.com").await.expect_err(config);
            assert_eq!(error.reason(), Reason::InvalidSpec, "{config}");
            assert!(
                !format!("{error} {error:?}").contains("hunter2"),
                "{error:?}"
            );
        }
        assert!(
            !format!(
                "{:?}",
                DockerConfig::parse(br#"{"auths":{"x":{"auth":"hunter2","password":"hunter2"}}}"#)
            )
            .contains("hunter2")
        );
    }

    #[tokio::test]
    async fn helpers_run_only_where_they_may() {
        let config = r#"{"credHelpers":{"r.example.com":"packgate-test-none"},"auths":{"s.example.com":{"auth":"YTpi"}},"credsStore":"x"}"#;
        let error = look_up(config, "r.example.com")
            .await
            .expect_err("not allowed");
        assert_eq!(
            error,
            RegistryCredentialError::HelperNotAllowed {
                helper: "packgate-test-none".into()
            }
        );
        let allowed = DockerConfig::parse(config.as_bytes())
            .expect("valid")
            .allow_helpers();
        let error = allowed
            .credentials_for_host("r.example.com")
            .await
            .expect_err("no such program");
        assert!(error.to_string().contains("cannot be run"), "{error}");
        assert_eq!(
            allowed.credentials_for_host("s.example.com").await,
            Ok(Some(password("a", "b")))
        );
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_helper_is_asked_on_stdin_and_heard_on_stdout() {
        let run = async |text: &str| {
            let mut shell = Command::new("sh");
            shell.args(["-c", text]);
            run_helper(shell, "r.example.com").await
        };
        let answer =
            r#"read -r s; printf '{"ServerURL":"%s","Username":"u-%s","Secret":"x"}' "$s" "$s""#;
        assert_eq!(
            run(answer).await,
            Ok(Some(password("u-r.example.com", "x")))
        );
        let token = r#"printf '{"Username":"<token>","Secret":"t"}'"#;
        assert_eq!(
            run(token).await,
            Ok(Some(RegistryCredentials::IdentityToken(
                "t".to_owned().into()
            )))
        );
        assert_eq!(
            run("echo credentials not found in native keychain; exit 1").await,
            Ok(None)
        );
        for text in ["echo hunter2; exit 3", "echo hunter2"] {
            let error = run(text).await.expect_err("refused");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_helper_inherits_no_secret_of_ours() {
        let mut shell = Command::new("sh");
        shell.args(["-c", r#"env >&2; printf '{"Username":"u","Secret":"%s%s-%s"}' "$COSIGN_PASSWORD" "$SIGSTORE_ID_TOKEN" "$KEPT""#]);
        shell.envs([
            ("COSIGN_PASSWORD", "hunter2"),
            ("SIGSTORE_ID_TOKEN", "hunter2"),
            ("KEPT", "kept"),
        ]);
        assert_eq!(
            run_helper(shell, "r.example.com").await,
            Ok(Some(password("u", "-kept")))
        );
    }

    #[tokio::test]
    async fn credentials_for_one_host_stay_there() {
        let store = HostCredentials {
            host: "r.example.com".into(),
            credentials: password("a", "b"),
        };
        assert!(
            store
                .credentials_for_host("r.example.com")
                .await
                .expect("known")
                .is_some()
        );
        assert!(
            store
                .credentials_for_host("s.example.com")
                .await
                .expect("known")
                .is_none()
        );
    }
}
