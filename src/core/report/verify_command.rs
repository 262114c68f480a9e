//! Command lines for users to copy.

use crate::core::{display_text::remove_invisible, policy::ReferenceUse};

/// The maximum number of characters of a reference.
const MAX_REFERENCE: usize = 512;

/// The command that reproduces the verdict of admission: with the cluster's own policies, for this
/// use in this namespace.
pub fn cluster_verify_command(reference: &str, used_as: ReferenceUse, namespace: &str) -> String {
    let reference = remove_invisible(reference, MAX_REFERENCE);
    let namespace = if namespace.is_empty() {
        String::new()
    } else {
        format!(" --namespace {}", shell_quote(namespace))
    };
    format!(
        "packgate verify {} --use {used_as}{namespace} --cluster",
        shell_quote(&reference)
    )
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
        );
        assert_eq!(
            line,
            "packgate verify 'a;rm -rf ~`x`' --use ImageVolume --namespace team-a --cluster"
        );
        assert_eq!(
            cluster_verify_command("r.example.com/a", ReferenceUse::PackedBundle, ""),
            "packgate verify r.example.com/a --use PackedBundle --cluster"
        );
    }
}
