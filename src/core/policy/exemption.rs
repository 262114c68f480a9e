//! Exemptions of one digest, and what no exemption covers.

use crate::core::reason::Reason;

use super::{
    AppliedExemption, Denial, PolicyEvaluation, RevocationTarget, slsa::has_revoked_builder,
};

/// The denial of a revoked digest.
pub(super) fn revoked_digest_denial(evaluation: &PolicyEvaluation<'_>) -> Option<Denial> {
    let digest = evaluation.subject.digest;
    let target = RevocationTarget::Digest(digest);
    let why = evaluation.rules.revocation_of(&target, evaluation.now)?;
    Some(evaluation.new_denial(Reason::Revoked, format!("{digest} is revoked: {why}")))
}

/// The exemption in force for this digest. None covers a revoked key or builder.
pub(super) fn find_exemption(evaluation: &PolicyEvaluation<'_>) -> Option<AppliedExemption> {
    let rules = evaluation.rules;
    let exemption = rules.exemptions.iter().find(|exemption| {
        exemption.digest == evaluation.subject.digest && evaluation.now < exemption.expires
    })?;
    let by = || {
        AppliedExemption::new(
            exemption.digest,
            rules.identity(),
            exemption.reason.clone(),
            exemption.expires,
        )
    };
    (!has_revoked_evidence(evaluation)).then(by)
}

fn has_revoked_evidence(evaluation: &PolicyEvaluation<'_>) -> bool {
    let otherwise_named = evaluation.otherwise_named.iter();
    let mut known = evaluation
        .statements
        .iter()
        .copied()
        .chain(otherwise_named.map(|(statement, _)| *statement));
    !evaluation.revoked.is_empty()
        || has_issuer_revoked_signer(evaluation)
        || known.any(|statement| has_revoked_builder(evaluation, statement))
}

/// True if an authority's own CA has revoked the certificate of one of its signers.
fn has_issuer_revoked_signer(evaluation: &PolicyEvaluation<'_>) -> bool {
    evaluation.findings.rejected.iter().any(|rejected| {
        rejected.reason == Reason::Revoked
            && rejected
                .signer
                .as_ref()
                .is_some_and(|signer| evaluation.rules.lists_signer(signer))
    })
}
