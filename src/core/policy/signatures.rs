//! The threshold of signatures.

use std::collections::BTreeSet;

use crate::core::{intoto::Statement, policy_findings::missing_signature_denial, verify::Verified};

use super::{
    Denial, PolicyAuthority, PolicyEvaluation,
    repository_binding::check_repository_binding,
    threshold::{distinct_signers, max_matching},
};

/// The signatures, if enough authorities signed, and the signed statements name the repository in
/// use where the policy requires it.
pub(super) fn check_signatures<'a>(
    evaluation: &PolicyEvaluation<'a>,
) -> Result<Vec<&'a Verified<Statement>>, Denial> {
    let signatures = signatures_meeting_threshold(evaluation)?;
    check_repository_binding(evaluation)?;
    Ok(signatures)
}

/// Pairs of an authority and a signer are counted, rather than signatures or names: one key counts
/// once, and so does an authority with several permitted signers.
fn signatures_meeting_threshold<'a>(
    evaluation: &PolicyEvaluation<'a>,
) -> Result<Vec<&'a Verified<Statement>>, Denial> {
    let rules = evaluation.rules;
    let ours: Vec<_> = evaluation
        .cosign_signatures()
        .filter(|signature| rules.counts(signature))
        .collect();
    let signers = distinct_signers(
        ours.iter()
            .map(|signature| (signature.signer(), signature.normalized_key_fingerprint())),
    );
    let signers_of = |authority: &PolicyAuthority| {
        let signed = ours
            .iter()
            .zip(&signers)
            .filter(|(signature, _)| rules.counts_for_authority(authority, signature))
            .map(|(_, signer)| *signer);
        signed.collect::<BTreeSet<_>>().into_iter().collect()
    };
    let by_authority: Vec<Vec<usize>> = rules.authorities.iter().map(signers_of).collect();
    let pairs = max_matching(&by_authority, ours.len());
    if pairs >= rules.threshold {
        Ok(ours)
    } else {
        Err(missing_signature_denial(evaluation, pairs))
    }
}
