//! `bindRepository`: compares the signed repository name with the repository of the use.

use crate::core::{
    intoto::{COSIGN_SIGN, Statement},
    policy_findings::unnamed_repository_denial,
    slsa::PROVENANCE_V1,
    verify::Verified,
};

use super::{
    Denial, PolicyEvaluation,
    signed_repository::{StatementSubjectName, subject_name},
};

/// A signature or provenance that counts must name the repository in use. cosign's signatures
/// contain no name.
pub(super) fn check_repository_binding(evaluation: &PolicyEvaluation<'_>) -> Result<(), Denial> {
    let (rules, subject) = (evaluation.rules, evaluation.subject);
    let Some(binding) = &rules.bind_repository else {
        return Ok(());
    };
    let names = |statement: &Verified<Statement>| {
        let known =
            [COSIGN_SIGN, PROVENANCE_V1].contains(&statement.claim().predicate_type.as_str());
        known
            && rules.counts(statement)
            && matches!(
                subject_name(
                    binding,
                    statement.claim(),
                    &subject.digest,
                    subject.repository
                ),
                StatementSubjectName::MatchesUsed
            )
    };
    if evaluation
        .statements
        .iter()
        .any(|statement| names(statement))
    {
        return Ok(());
    }
    Err(unnamed_repository_denial(evaluation))
}
