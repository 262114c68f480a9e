//! Command lines for users to copy.

use crate::core::{
    display_text::remove_invisible,
    policy::ReferenceUse,
    pull_secret_names::{DEFAULT_SERVICE_ACCOUNT, MAX_PULL_SECRETS, PullSecretNames},
};

/// The maximum number of characters of a reference.
const MAX_REFERENCE: usize = 512;
/// The maximum number of characters of an object's name.
const MAX_NAME: usize = 253;

/// The command that reproduces the verdict of admission: with the cluster's own policies, for this
/// use in this namespace, and with the Secrets that the image is pulled with.
///
/// The default ServiceAccount needs no option. Secrets beyond [`MAX_PULL_SECRETS`] are never read,
/// and left out.
pub fn cluster_verify_command(
    reference: &str,
    used_as: ReferenceUse,
    namespace: &str,
    pull_secrets: &PullSecretNames,
) -> String {
    let reference = remove_invisible(reference, MAX_REFERENCE);
    let mut command = format!(
        "packgate verify {} --use {used_as}",
        shell_quote(&reference)
    );
    let mut add = |option: &str, value: &str| {
        command = format!("{command} {option} {}", shell_quote(value));
    };
    if !namespace.is_empty() {
        add("--namespace", namespace);
        for name in pull_secrets.secrets.iter().take(MAX_PULL_SECRETS) {
            add("--image-pull-secret", &remove_invisible(name, MAX_NAME));
        }
        let account = pull_secrets.service_account.as_deref();
        if let Some(account) = account.filter(|name| *name != DEFAULT_SERVICE_ACCOUNT) {
            add("--service-account", &remove_invisible(account, MAX_NAME));
        }
    }
    command + " --cluster"
}

/// Quotes a word for a shell.
pub fn shell_quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@=+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        for (word, quoted) in [
            ("oci:out:v1", "oci:out:v1"),
            ("a b", "'a b'"),
            ("it's", "'it'\\''s'"),
            ("", "''"),
            ("$(x)", "'$(x)'"),
        ] {
            assert_eq!(shell_quote(word), quoted);
        }
    }

    #[test]
    fn what_a_stranger_wrote_cannot_become_a_command() {
        let line = cluster_verify_command(
            "a;rm -rf ~\n`x\u{202e}`",
            ReferenceUse::ImageVolume,
            "team-a",
            &PullSecretNames {
                secrets: vec!["$(x)".to_owned()],
                service_account: Some("a b".to_owned()),
                pod_service_account: None,
            },
        );
        assert_eq!(
            line,
            "packgate verify 'a;rm -rf ~`x`' --use ImageVolume --namespace team-a \
                --image-pull-secret '$(x)' --service-account 'a b' --cluster"
        );
    }

    #[test]
    fn the_command_has_what_the_image_is_pulled_with() {
        let command = |namespace: &str, secrets: &[&str], account: Option<&str>| {
            let names = PullSecretNames {
                secrets: secrets.iter().map(ToString::to_string).collect(),
                service_account: account.map(ToOwned::to_owned),
                pod_service_account: None,
            };
            cluster_verify_command(
                "r.example.com/a",
                ReferenceUse::Container,
                namespace,
                &names,
            )
        };
        let begin = "packgate verify r.example.com/a --use Container";
        for (namespace, secrets, account, rest) in [
            ("", &[][..], None, ""),
            ("a", &[], None, " --namespace a"),
            ("a", &[], Some("default"), " --namespace a"),
            ("a", &[], Some("ci"), " --namespace a --service-account ci"),
            (
                "a",
                &["one", "two"],
                None,
                " --namespace a --image-pull-secret one --image-pull-secret two",
            ),
        ] {
            let expected = format!("{begin}{rest} --cluster");
            assert_eq!(command(namespace, secrets, account), expected);
        }
        let many = command("a", &["s"; 17], None);
        assert_eq!(many.matches("--image-pull-secret").count(), 16);
    }
}
