//! Credentials of downloads: from netrc files, from a credentials file, and from folders that
//! Secrets are mounted in.

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{environment_variable::read_variable, error::CliError, input_file::InputFile};
use crate::{
    core::{download::CredentialScope, reason::Reason},
    fetch::{DownloadCredential, parse_netrc},
    http::{HttpOptions, Redacted},
};

/// Bytes of a credentials file, a netrc file, and of one value: the maximum size of a Secret.
const MAX_FILE: usize = 1 << 20;

/// Keys of a Secret with their values.
pub(super) type SecretKeys = BTreeMap<String, Redacted<String>>;

/// The form of `spec.fetch.credentials`, with values in place of a Secret's name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialsFile {
    credentials: Vec<FileCredential>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileCredential {
    host: String,
    path: Option<String>,
    #[serde(default, rename = "plainHTTP")]
    plain_http: bool,
    secret: BTreeMap<String, ValueSource>,
}

/// Where a value comes from: one of these.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ValueSource {
    value: Option<Redacted<String>>,
    env: Option<String>,
    file: Option<PathBuf>,
}

/// The credentials in a file.
pub(super) fn read_credentials_file(
    path: &Path,
    options: &HttpOptions,
) -> Result<Vec<DownloadCredential>, CliError> {
    let input = InputFile::read_limited(path, MAX_FILE, Reason::InvalidSpec)?;
    let file = parse_credentials_file(&input)?;
    let credentials = file.credentials.into_iter().enumerate();
    credentials
        .map(|(index, credential)| {
            let label = format!("{}: credentials[{index}]", input.name);
            credential.load(label, &input.folder, options)
        })
        .collect()
}

/// Errors have a position and no text of the file, which may be a secret.
fn parse_credentials_file(input: &InputFile) -> Result<CredentialsFile, CliError> {
    let refused = |place: &str| {
        CliError::invalid(format!(
            "{}{place}: expected credentials: [{{host: HOST, path: /PATH, plainHTTP: false, secret: \
                {{KEY: {{env: NAME}}}}}}], with value, env or file for each KEY of {}",
            input.name,
            DownloadCredential::KEYS.join(", ")
        ))
    };
    let text = std::str::from_utf8(&input.bytes).map_err(|_| refused(""))?;
    serde_saphyr::from_str(text).map_err(|error| match error.location() {
        Some(place) => refused(&format!(
            ", line {}, column {}",
            place.line(),
            place.column()
        )),
        None => refused(""),
    })
}

impl FileCredential {
    fn load(
        self,
        label: String,
        folder: &Path,
        options: &HttpOptions,
    ) -> Result<DownloadCredential, CliError> {
        let scope = CredentialScope::new(&self.host, self.path.as_deref(), self.plain_http)
            .map_err(|error| CliError::invalid(format!("{label}: {error}")))?;
        let mut keys = SecretKeys::new();
        for (key, source) in self.secret {
            if !DownloadCredential::KEYS.contains(&key.as_str()) {
                return Err(CliError::invalid(format!(
                    "{label}.secret: unknown key {key:?}, expected {}",
                    DownloadCredential::KEYS.join(", ")
                )));
            }
            let value = source.read(&format!("{label}.secret.{key}"), folder)?;
            keys.insert(key, value);
        }
        Ok(DownloadCredential::from_keys(scope, label, &keys, options)?)
    }
}

impl ValueSource {
    fn read(self, label: &str, folder: &Path) -> Result<Redacted<String>, CliError> {
        match (self.value, self.env, self.file) {
            (Some(value), None, None) => Ok(value),
            (None, Some(name), None) => read_variable(&name).map(Redacted::new).ok_or_else(|| {
                CliError::invalid(format!("{label}: the variable {name:?} is not set"))
            }),
            (None, None, Some(path)) => read_text(&folder.join(path))?.ok_or_else(|| {
                CliError::new(
                    Reason::SourceNotFound,
                    format!("{label}: the file was not found"),
                )
            }),
            _ => Err(CliError::invalid(format!(
                "{label}: give exactly one of value, env and file"
            ))),
        }
    }
}

/// The credentials in a netrc file, for downloads with TLS.
pub(super) fn read_netrc(
    path: &Path,
    options: &HttpOptions,
) -> Result<Vec<DownloadCredential>, CliError> {
    let input = InputFile::read_limited(path, MAX_FILE, Reason::InvalidSpec)?;
    let text = std::str::from_utf8(&input.bytes)
        .map_err(|_| CliError::invalid(format!("{} is not text", input.name)))?;
    let entries = parse_netrc(text).map_err(|error| input.prefix_file_name(error.into()))?;
    let credentials = entries.into_iter().map(|entry| {
        let label = format!("machine {} of {}", entry.machine, input.name);
        let scope = CredentialScope::of_machine(&entry.machine)
            .map_err(|error| CliError::invalid(format!("{label}: {error}")))?;
        let keys = SecretKeys::from([
            ("username".to_owned(), Redacted::new(entry.login)),
            ("password".to_owned(), entry.password),
        ]);
        Ok(DownloadCredential::from_keys(scope, label, &keys, options)?)
    });
    credentials.collect()
}

/// Those of `keys` that a folder has, as a mounted Secret is a folder with a file for each key.
pub(super) fn read_secret_folder(folder: &Path, keys: &[&str]) -> Result<SecretKeys, CliError> {
    let mut found = SecretKeys::new();
    for key in keys {
        if let Some(value) = read_text(&folder.join(key))? {
            found.insert((*key).to_owned(), value);
        }
    }
    Ok(found)
}

/// The text of a file; `None` if there is none.
fn read_text(path: &Path) -> Result<Option<Redacted<String>>, CliError> {
    let failed = |error: &dyn std::fmt::Display| {
        CliError::invalid(format!("{} could not be read: {error}", path.display()))
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&error)),
    };
    let mut text = String::new();
    file.take(MAX_FILE as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|error| failed(&error))?;
    if text.len() > MAX_FILE {
        return Err(failed(&format!("it is larger than {MAX_FILE} bytes")));
    }
    Ok(Some(Redacted::new(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<usize, String> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("c.yaml");
        std::fs::write(folder.path().join("token"), "hunter2\n").expect("written");
        std::fs::write(&path, text).expect("written");
        read_credentials_file(&path, &HttpOptions::default())
            .map(|all| all.len())
            .map_err(|error| error.message)
    }

    #[test]
    fn values_come_from_the_file_another_file_or_the_environment() {
        for (text, count) in [
            ("credentials: []", 0),
            (
                "credentials: [{host: f.example.com, secret: {token: {file: token}}}]",
                1,
            ),
            (
                "credentials:\n- {host: f.example.com, path: /a, plainHTTP: true, secret: {username: \
                    {value: u}, password: {env: PATH}}}\n- {host: g.example.com:8443, secret: {token: \
                    {value: hunter2}}}",
                2,
            ),
        ] {
            assert_eq!(read(text), Ok(count), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_never_a_secret() {
        for (text, part) in [
            ("hunter2", "expected credentials:"),
            ("credentials: hunter2", "expected credentials:"),
            ("credentials: [{host: a, secret: hunter2}]", "line 1"),
            (
                "credentials: [{host: a, secret: {token: hunter2}}]",
                "line 1",
            ),
            ("credentials: [{host: a, secret: {}}]", "none of the keys"),
            (
                "credentials: [{host: a, secret: {key: {value: hunter2}}}]",
                "unknown key \"key\"",
            ),
            (
                "credentials: [{host: a, secret: {token: {value: hunter2, env: B}}}]",
                "exactly one of",
            ),
            (
                "credentials: [{host: a, secret: {token: {env: PACKGATE_NOT_SET}}}]",
                "\"PACKGATE_NOT_SET\" is not set",
            ),
            (
                "credentials: [{host: a, secret: {token: {env: 'A=B'}}}]",
                "is not set",
            ),
            (
                "credentials: [{host: a, secret: {token: {file: none}}}]",
                "credentials[0].secret.token: the file was not found",
            ),
            (
                "credentials: [{host: 'https://a', secret: {token: {value: hunter2}}}]",
                "credentials[0]: \"https://a\" must be HOST",
            ),
            (
                "credentials: [{host: a, path: b, secret: {token: {value: hunter2}}}]",
                "must be a path",
            ),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
