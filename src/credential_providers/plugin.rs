//! One plug-in: which images it is for, and a run of its program.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::{
    exchange::{MAX_RESPONSE_BYTES, ProviderRequest, ProviderResponse},
    failure::ProviderFailure,
    identity::ProviderIdentity,
};
use crate::{
    core::{
        credential_provider::CredentialProviderSettings, display_text::sanitize_line,
        reference::ImageRepository,
    },
    http::Redacted,
    oci::credentials::MatchImagePattern,
    process::{Command, ProcessError, ProcessLimits, ProcessOutput, run_helper_process},
};

/// Bytes of stderr that are kept.
const MAX_STDERR: usize = 4 << 10;
/// Characters of its first line that are shown.
const MAX_SHOWN: usize = 200;
/// The length of a value in the plug-in's environment that may be a secret.
const MIN_SECRET: usize = 8;
/// The length of a word that may be a token.
const MIN_TOKEN: usize = 32;

/// A plug-in.
#[derive(Debug)]
pub(super) struct ProviderPlugin {
    pub(super) settings: CredentialProviderSettings,
    program: PathBuf,
    patterns: Vec<MatchImagePattern>,
}

impl ProviderPlugin {
    /// Its program is `command`, or the file with its name in `folder`.
    pub(super) fn new(settings: CredentialProviderSettings, folder: &Path) -> Self {
        let program = settings
            .command
            .as_ref()
            .map_or_else(|| folder.join(&settings.name), PathBuf::from);
        let patterns = settings.match_images.iter();
        Self {
            program,
            patterns: patterns
                .map(|entry| MatchImagePattern::parse(entry))
                .collect(),
            settings,
        }
    }

    pub(super) fn matches_repository(&self, repository: &ImageRepository) -> bool {
        self.patterns
            .iter()
            .any(|pattern| pattern.matches_repository(repository))
    }

    /// Runs the program once.
    pub(super) async fn run(
        &self,
        repository: &ImageRepository,
        identity: &ProviderIdentity,
        token: Option<&Redacted<String>>,
    ) -> Result<ProviderResponse, ProviderFailure> {
        let version = &self.settings.api_version;
        let request = ProviderRequest::new(version, repository, token, &identity.annotations);
        let input = serde_json::to_vec(&request)
            .map_err(|error| ProviderFailure::unavailable(error.to_string()))?;
        let mut command = Command::new(&self.program);
        command.args(&self.settings.args).envs(
            self.settings
                .env
                .iter()
                .map(|variable| (&variable.name, &variable.value)),
        );
        let limits = ProcessLimits {
            timeout: self.settings.timeout(),
            stdout_bytes: MAX_RESPONSE_BYTES,
            stderr_bytes: MAX_STDERR,
            kills_group: true,
        };
        let ended = run_helper_process(command, &input, limits)
            .await
            .map_err(|error| ProviderFailure::unavailable(self.describe_error(&error)))?;
        self.read_output(&ended, token)
            .map_err(ProviderFailure::unavailable)
    }

    fn describe_error(&self, error: &ProcessError) -> String {
        match error {
            ProcessError::Start(cause) => {
                let program = self.program.display();
                let hint = if cause.kind() == ErrorKind::PermissionDenied {
                    "; is it executable, and on a volume whose files may be run (not noexec)?"
                } else {
                    ""
                };
                format!("{program} cannot be run: {cause}{hint}")
            }
            other => other.to_string(),
        }
    }

    fn read_output(
        &self,
        ended: &ProcessOutput,
        token: Option<&Redacted<String>>,
    ) -> Result<ProviderResponse, String> {
        let Some(status) = ended.status else {
            return Err(format!(
                "its output has more than {MAX_RESPONSE_BYTES} bytes"
            ));
        };
        if status.success() {
            return ProviderResponse::parse(&ended.stdout, &self.settings.api_version);
        }
        let ending = match status.code() {
            Some(code) => format!("exit code {code}"),
            None => format!("killed by {status}"),
        };
        let said = self.first_line(&ended.stderr, token);
        Err(if said.is_empty() {
            ending
        } else {
            format!("{ending}: {said}")
        })
    }

    /// The first line of its stderr, without what may be a secret: the token and values that it
    /// got, and long words.
    fn first_line(&self, stderr: &[u8], token: Option<&Redacted<String>>) -> String {
        let text = String::from_utf8_lossy(stderr);
        let line = text.lines().find(|line| !line.trim().is_empty());
        let mut line = line.unwrap_or_default().to_owned();
        let values = self.settings.env.iter().map(|variable| &variable.value);
        let given = token.map(Redacted::expose).into_iter();
        for secret in given.chain(values.filter(|value| value.len() >= MIN_SECRET)) {
            line = line.replace(secret.as_str(), "***");
        }
        sanitize_line(&hide_tokens(&line), MAX_SHOWN)
    }
}

/// Replaces runs of characters that are as long as tokens and keys are.
fn hide_tokens(line: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '=' | '_' | '-');
    let (mut shown, mut rest) = (String::new(), line);
    while !rest.is_empty() {
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        shown.push_str(if word.len() >= MIN_TOKEN { "***" } else { word });
        let mut characters = after.chars();
        shown.extend(characters.next());
        rest = characters.as_str();
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::credential_provider::ProviderVariable;

    fn plugin() -> ProviderPlugin {
        let settings = serde_json::json!({
            "name": "test", "matchImages": ["r.example.com", "*.example.org"],
            "defaultCacheDuration": "1h",
        });
        let mut settings: CredentialProviderSettings =
            serde_json::from_value(settings).expect("of the form");
        settings.env.push(ProviderVariable {
            name: "SECRET".into(),
            value: "hunter2-secret".into(),
        });
        ProviderPlugin::new(settings, Path::new("/plugins"))
    }

    #[test]
    fn a_program_is_found_by_its_name_or_command() {
        assert_eq!(plugin().program, Path::new("/plugins/test"));
        let mut settings = plugin().settings;
        settings.command = Some("/bin/other".into());
        let plugin = ProviderPlugin::new(settings, Path::new("/plugins"));
        assert_eq!(plugin.program, Path::new("/bin/other"));
    }

    #[test]
    fn any_pattern_is_enough() {
        for (repository, matches) in [
            ("r.example.com/a", true),
            ("r.example.org/a", true),
            ("s.example.com/a", false),
        ] {
            let parsed = repository.parse().expect(repository);
            assert_eq!(
                plugin().matches_repository(&parsed),
                matches,
                "{repository}"
            );
        }
    }

    #[test]
    fn secrets_are_removed_from_the_first_line() {
        let token = Redacted::new("short-token".to_owned());
        for (stderr, shown) in [
            ("", ""),
            ("\n  \nno role\nmore", "no role"),
            ("sent short-token to r", "sent *** to r"),
            ("with hunter2-secret!", "with ***!"),
            (
                "got eyJhbGciOiJSUzI1NiIsImtpZCI6IjEyMyJ9.eyJpc3MiOiJodHRwczovL2V4YW1wbGUifQ.c2ln",
                "got ***.***.c2ln",
            ),
            ("\u{1b}[31mred", "[31mred"),
            (
                "arn:aws:iam::123456789012:role/reader is not authorized",
                "arn:aws:iam::123456789012:role/reader is not authorized",
            ),
        ] {
            let line = plugin().first_line(stderr.as_bytes(), Some(&token));
            assert_eq!(line, shown, "{stderr}");
        }
        let long = plugin().first_line("é ".repeat(500).as_bytes(), None);
        assert_eq!(long.chars().count(), MAX_SHOWN + 1, "{long}");
    }
}
