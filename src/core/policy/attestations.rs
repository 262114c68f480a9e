//! Required attestations.

use crate::core::{
    intoto::Statement, policy_findings::missing_attestation_denial, verify::Verified,
};

use super::{AttestationRule, Denial, PolicyAuthority, PolicyEvaluation};

/// The attestations that the policy requires; the denials of those that are missing.
pub(super) fn check_attestations<'a>(
    evaluation: &PolicyEvaluation<'a>,
) -> Result<Vec<&'a Verified<Statement>>, Vec<Denial>> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for rule in &evaluation.rules.attestations {
        match find_attestation(evaluation, rule) {
            Ok(statement) => found.push(statement),
            Err(denial) => missing.push(denial),
        }
    }
    if missing.is_empty() {
        Ok(found)
    } else {
        Err(missing)
    }
}

fn find_attestation<'a>(
    evaluation: &PolicyEvaluation<'a>,
    rule: &AttestationRule,
) -> Result<&'a Verified<Statement>, Denial> {
    let rules = evaluation.rules;
    let wanted: Vec<&PolicyAuthority> = rules
        .authorities
        .iter()
        .filter(|authority| {
            rule.authority
                .as_ref()
                .is_none_or(|name| *name == authority.name)
        })
        .collect();
    let typed = || {
        evaluation
            .statements
            .iter()
            .copied()
            .filter(|s| rule.is_of_type(&s.claim().predicate_type))
    };
    if let Some(found) = typed().find(|statement| {
        wanted
            .iter()
            .any(|authority| rules.counts_for_authority(authority, statement))
    }) {
        return Ok(found);
    }
    Err(missing_attestation_denial(evaluation, rule, typed().next()))
}
