//! Credential helpers: programs that keep credentials for docker (docker/docker-credential-helpers).

use std::time::Duration;

use serde::Deserialize;

use super::{RegistryCredentialError, RegistryCredentials};
use crate::{
    core::display_text::truncate_text,
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
    kills_group: false, // it may ask at the terminal
};

/// Asks `docker-credential-HELPER` for the credentials of a canonical host. `None`: it has none.
pub(super) async fn query_helper(
    helper: &str,
    host: &str,
) -> Result<Option<RegistryCredentials>, RegistryCredentialError> {
    let helper_error = |cause: String| RegistryCredentialError::Helper {
        helper: truncate_text(helper, 60),
        cause,
    };
    if !is_program_name(helper) {
        return Err(helper_error(
            "its name may contain only letters, digits and - _ .".into(),
        ));
    }
    let server = if host == "docker.io" {
        DOCKER_HUB
    } else {
        host
    };
    run_helper(Command::new(format!("docker-credential-{helper}")), server)
        .await
        .map_err(helper_error)
}

fn is_program_name(helper: &str) -> bool {
    helper
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// The server's address on stdin, JSON on stdout. Its output is never shown: it may be the secret.
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

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn password(username: &str, password: &str) -> RegistryCredentials {
        RegistryCredentials::Password {
            username: username.into(),
            password: password.to_owned().into(),
        }
    }

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
}
