//! Policy evaluation: a verdict from the subject, the verified evidence about it, and the time.

use jiff::Timestamp;

use crate::core::{
    intoto::Statement, reason::Reason, verify::VerificationFindings, verify::Verified,
};

use super::{
    AdmissionProof, AdmissionSubject, AdmissionVerdict, Denial, Denials, Policy, PolicyDecision,
    PolicyEvaluation, PolicyVerdict, ReferenceUseScope, SlsaFinding,
    attestations::check_attestations,
    bundle_lock::check_bundle_lock,
    exemption::{find_exemption, revoked_digest_denial},
    next_change::next_change,
    scope::{governs_subject, is_excepted},
    signatures::check_signatures,
    slsa::{ProvenanceMatch, check_provenance},
};

/// Evaluates every policy. Policies that do not govern this use have no part in the decision.
pub fn evaluate_policies(
    policies: &[Policy],
    subject: &AdmissionSubject<'_>,
    findings: &VerificationFindings,
    now: Timestamp,
) -> PolicyDecision {
    let verdicts = policies
        .iter()
        .filter_map(|policy| evaluate_policy(policy, subject, findings, now))
        .collect();
    let holds_until = policies
        .iter()
        .filter_map(|policy| next_change(policy.rules(), subject, findings, now))
        .min();
    PolicyDecision::new(verdicts, holds_until)
}

/// The decision when no evidence could be fetched: every governing policy denies, each for the same
/// reason. If none governs, the use is ungoverned, because the evidence would not have been read.
pub fn deny_without_evidence(
    policies: &[Policy],
    scope: &ReferenceUseScope<'_>,
    denial: &Denial,
) -> PolicyDecision {
    let refuse = |policy: &Policy| {
        let rules = policy.rules();
        let denial = Denial {
            policy: Some(rules.identity()),
            ..denial.clone()
        };
        PolicyVerdict::new(rules, deny(denial), None, |_| None)
    };
    let verdicts = policies
        .iter()
        .filter(|policy| policy.governs_scope(scope))
        .map(refuse)
        .collect();
    PolicyDecision::new(verdicts, None)
}

fn evaluate_policy(
    policy: &Policy,
    subject: &AdmissionSubject<'_>,
    findings: &VerificationFindings,
    now: Timestamp,
) -> Option<PolicyVerdict> {
    let rules = policy.rules();
    if !governs_subject(rules, subject) {
        return None;
    }
    let evaluation = PolicyEvaluation::new(rules, subject, findings, now);
    let (verdict, slsa) = evaluate_governed(policy, &evaluation)?;
    let verdict = PolicyVerdict::new(rules, verdict, slsa, |authority| {
        evaluation
            .cosign_signatures()
            .find(|signature| rules.counts_for_authority(authority, signature))
    });
    Some(verdict)
}

/// `None` if the policy excepts the repository.
fn evaluate_governed(
    policy: &Policy,
    evaluation: &PolicyEvaluation<'_>,
) -> Option<(AdmissionVerdict, Option<SlsaFinding>)> {
    // A revocation takes precedence over everything, `except` included.
    if let Some(denial) = revoked_digest_denial(evaluation) {
        return Some((deny(denial), None));
    }
    if is_excepted(evaluation.rules, evaluation.subject.repository) {
        return None;
    }
    if let Some(fault) = policy.fault_message() {
        let message = format!(
            "{} cannot be used, so nothing that it may govern passes: {fault}",
            evaluation.rules.identity()
        );
        let denial = evaluation.new_denial(policy.fault_reason(), message);
        return Some((deny(denial), None));
    }
    if let Some(exempted) = find_exemption(evaluation) {
        // The digest is exempted, not the tag, which may name another digest when the image is
        // pulled.
        let verdict = match check_digest(evaluation) {
            Ok(()) => AdmissionVerdict::Exempt(exempted),
            Err(denial) => deny(denial),
        };
        return Some((verdict, None));
    }
    Some(evaluate_rules(evaluation))
}

/// The rules of a policy: five checks. All of them are made, so that a denial names everything that
/// is missing; only if each of them passes there is an admission.
fn evaluate_rules(evaluation: &PolicyEvaluation<'_>) -> (AdmissionVerdict, Option<SlsaFinding>) {
    let digest = check_digest(evaluation);
    let signatures = check_signatures(evaluation);
    let lock = check_bundle_lock(evaluation);
    let provenance = check_provenance(evaluation);
    let attestations = check_attestations(evaluation);

    let finding = provenance.as_ref().ok().and_then(Option::as_ref);
    let finding = finding.map(|(_, finding)| finding.clone());
    let verdict = match (digest, signatures, lock, provenance, attestations) {
        (Ok(()), Ok(signatures), Ok(()), Ok(provenance), Ok(attestations)) => {
            admit(evaluation, &signatures, provenance, &attestations)
        }
        (digest, signatures, lock, provenance, attestations) => {
            let one = [digest.err(), signatures.err(), lock.err(), provenance.err()];
            let more = attestations.err().unwrap_or_default();
            deny_all(evaluation, one.into_iter().flatten().chain(more).collect())
        }
    };
    (verdict, finding)
}

/// The reference must name the digest, if the policy asks for that.
fn check_digest(evaluation: &PolicyEvaluation<'_>) -> Result<(), Denial> {
    let (rules, subject) = (evaluation.rules, evaluation.subject);
    if subject.had_digest || !rules.require_digest {
        return Ok(());
    }
    let name = subject
        .repository
        .map_or_else(|| subject.reference.to_owned(), ToString::to_string);
    Err(evaluation.new_denial(
        Reason::DigestRequired,
        format!(
            "{} carries no digest; write {name}@{}",
            subject.reference, subject.digest
        ),
    ))
}

/// The proof needs a signature: what else was found is added to it.
fn admit(
    evaluation: &PolicyEvaluation<'_>,
    signatures: &[&Verified<Statement>],
    provenance: Option<ProvenanceMatch<'_>>,
    attestations: &[&Verified<Statement>],
) -> AdmissionVerdict {
    let Some(first) = signatures.first() else {
        return deny(evaluation.new_denial(Reason::NoSignatures, "no signature counts"));
    };
    let statements = signatures
        .iter()
        .copied()
        .chain(provenance.map(|(statement, _)| statement))
        .chain(attestations.iter().copied());
    AdmissionVerdict::Admit(statements.fold(
        AdmissionProof::from_signature(first),
        AdmissionProof::with_statement,
    ))
}

const fn deny(denial: Denial) -> AdmissionVerdict {
    AdmissionVerdict::Deny(Denials::from_denial(denial))
}

/// The lockfile is read only after all other checks pass. Before that no verdict about it exists.
fn deny_all(evaluation: &PolicyEvaluation<'_>, mut denials: Vec<Denial>) -> AdmissionVerdict {
    let is_other = |denial: &Denial| denial.reason != Reason::LockMismatch;
    if evaluation.subject.lock.is_none() && denials.iter().any(is_other) {
        denials.retain(is_other);
    }
    AdmissionVerdict::Deny(Denials::from_denials(denials).unwrap_or_else(|| {
        Denials::from_denial(evaluation.new_denial(Reason::NoSignatures, "no signature counts"))
    }))
}
