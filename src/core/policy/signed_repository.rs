//! The repository that a signed statement names.
//!
//! A digest identifies content, not its repository: an attacker who may push can copy it, with its
//! signatures, to another repository that the same policy governs. The subject of an in-toto
//! statement may carry a name with its digest (in-toto attestation framework,
//! spec/v1/resource_descriptor.md), and so may cosign's older payload
//! (`critical.identity.docker-reference`).

use crate::core::{
    digest::Digest, evidence::sanitize_text, intoto::Statement,
    policy_syntax::parse_repository_name, reference::ImageRepository, verify::Verified,
};

use super::{AdmissionSubject, PolicyRules, RepositoryBinding};

/// The name of the subject in a statement.
pub(super) enum StatementSubjectName {
    /// The repository in use, or one that it mirrors.
    MatchesUsed,
    /// Only other repositories; the first of them.
    OtherRepository(String),
    /// The statement names no repository.
    Unnamed,
}

/// The name of `subject` in `statement`, compared with the name `used`. Of several names one
/// match is enough.
pub(super) fn subject_name(
    binding: &RepositoryBinding,
    statement: &Statement,
    subject: &Digest,
    used: Option<&ImageRepository>,
) -> StatementSubjectName {
    let hex = subject.hex_digits();
    let about = statement
        .subject
        .iter()
        .filter(|named| named.digest.get("sha256") == Some(&hex));
    let names: Vec<ImageRepository> = about
        .filter_map(|named| parse_repository_name(&named.name))
        .collect();
    if used.is_some_and(|used| {
        names
            .iter()
            .any(|name| binding.names_repository(name, used))
    }) {
        return StatementSubjectName::MatchesUsed;
    }
    names.first().map_or(StatementSubjectName::Unnamed, |name| {
        StatementSubjectName::OtherRepository(sanitize_text(&name.to_string()))
    })
}

/// The signed repository name that differs from the repository of the use, if an authority of this
/// policy signed it and no mirror covers it.
pub(super) fn other_signed_repository(
    rules: &PolicyRules,
    subject: &AdmissionSubject<'_>,
    statement: &Verified<Statement>,
) -> Option<String> {
    let binding = rules
        .bind_repository
        .as_ref()
        .filter(|_| rules.lists_signer(statement.signer()))?;
    match subject_name(
        binding,
        statement.claim(),
        &subject.digest,
        subject.repository,
    ) {
        StatementSubjectName::OtherRepository(name) => Some(name),
        StatementSubjectName::MatchesUsed | StatementSubjectName::Unnamed => None,
    }
}
