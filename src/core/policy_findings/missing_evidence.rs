//! Why evidence is missing: of everything that was rejected or does not count, the reason of the
//! furthest check.
//!
//! A denial is decided when these functions are called. They choose its reason and its words.

use crate::core::{
    evidence::{RejectedEvidence, SignerIdentity, reason_rank, sanitize_text},
    intoto::{COSIGN_SIGN, Statement},
    policy::PolicyEvaluation,
    policy_syntax::{AttestationRule, TransparencyRequirement},
    reason::{Class, Reason},
    slsa::PROVENANCE_V1,
    verify::Verified,
};

use super::Denial;

/// Why evidence is missing, with its rank. Of several reasons the highest-ranking one, that of the
/// furthest check, is reported.
struct RankedDenialReason {
    rank: u8,
    reason: Reason,
    message: String,
}

impl RankedDenialReason {
    fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            rank: reason_rank(reason),
            reason,
            message: message.into(),
        }
    }
}

/// Why the threshold is not met. `signers`: how many authorities signed.
pub(crate) fn missing_signature_denial(
    evaluation: &PolicyEvaluation<'_>,
    signers: usize,
) -> Denial {
    let mut faults: Vec<RankedDenialReason> = evaluation
        .findings
        .rejected
        .iter()
        .map(|rejected| rejected_evidence_reason(evaluation, rejected))
        .collect();
    faults.extend(
        evaluation
            .statements
            .iter()
            .filter_map(|statement| uncounted_statement_reason(evaluation, statement)),
    );
    faults.extend(unused_evidence_reasons(evaluation));
    if signers > 0 {
        let message = format!(
            "{signers} of the policy's authorities signed, {} must have",
            evaluation.rules.threshold
        );
        faults.push(RankedDenialReason::new(Reason::ThresholdNotMet, message));
    }
    furthest_denial(
        evaluation,
        faults,
        Reason::NoSignatures,
        "no signature was found",
    )
}

/// Why an attestation or the provenance is missing, if the cause is that evidence could not be
/// read.
pub(crate) fn missing_evidence_denial(
    evaluation: &PolicyEvaluation<'_>,
    reason: Reason,
    message: impl Into<String>,
) -> Denial {
    let unread = evaluation
        .findings
        .rejected
        .iter()
        .filter(|r| matches!(r.reason.class(), Class::Corrupt | Class::Unavailable));
    let faults = unread
        .map(|rejected| rejected_evidence_reason(evaluation, rejected))
        .chain(unused_evidence_reasons(evaluation))
        .collect();
    furthest_denial(evaluation, faults, reason, message)
}

/// Of the denials of several provenances that of the one that passed the most checks; without any,
/// why there is no provenance.
pub(crate) fn furthest_provenance_denial(
    evaluation: &PolicyEvaluation<'_>,
    denials: Vec<Denial>,
) -> Denial {
    // The first of equals: `max_by_key` returns the last.
    let furthest = denials
        .into_iter()
        .rev()
        .max_by_key(|denial| provenance_check_stage(denial.reason));
    furthest.unwrap_or_else(|| missing_provenance_denial(evaluation))
}

/// The rank of a reason: the later its check, the higher.
const fn provenance_check_stage(reason: Reason) -> u8 {
    match reason {
        Reason::MalformedEvidence => 0,
        Reason::BuilderNotTrusted => 1,
        Reason::BuilderNotBoundToSigner => 2,
        Reason::LevelTooLow => 3,
        Reason::SourceMismatch => 4,
        Reason::NoTrustedTime => 5,
        Reason::ProvenanceTooOld => 6,
        Reason::LockMismatch => 7,
        _ => 8,
    }
}

fn missing_provenance_denial(evaluation: &PolicyEvaluation<'_>) -> Denial {
    if has_other_attestation(evaluation) {
        missing_evidence_denial(
            evaluation,
            Reason::PredicateTypeMismatch,
            "there are attestations, but none is SLSA provenance v1",
        )
    } else {
        missing_evidence_denial(
            evaluation,
            Reason::NoProvenance,
            "no SLSA provenance was found",
        )
    }
}

/// True if an authority of this policy attested anything other than a signature or provenance.
fn has_other_attestation(evaluation: &PolicyEvaluation<'_>) -> bool {
    let other = |kind: &str| kind != COSIGN_SIGN && kind != PROVENANCE_V1;
    evaluation.statements.iter().any(|statement| {
        evaluation.rules.counts(statement) && other(&statement.claim().predicate_type)
    })
}

/// Why a required attestation is missing. `other`: one of its type that does not count.
pub(crate) fn missing_attestation_denial(
    evaluation: &PolicyEvaluation<'_>,
    rule: &AttestationRule,
    other: Option<&Verified<Statement>>,
) -> Denial {
    let denial = match other {
        Some(other) => evaluation.new_denial(
            Reason::NoMatchingAuthority,
            format!(
                "{} was attested by {} only",
                rule.predicate_type,
                other.signer()
            ),
        ),
        None => missing_evidence_denial(
            evaluation,
            Reason::PredicateTypeMismatch,
            format!("there is no attestation of type {}", rule.predicate_type),
        ),
    };
    Denial {
        authority: rule.authority.clone(),
        ..denial
    }
}

/// No signed statement names the repository in use.
pub(crate) fn unnamed_repository_denial(evaluation: &PolicyEvaluation<'_>) -> Denial {
    let message = match evaluation.subject.repository {
        Some(used) => format!(
            "neither a signature nor provenance names {used}, as bindRepository requires (cosign's \
                signatures name nothing); sign it with packgate in its repository, or list the \
                mirror in spec.mirrors"
        ),
        None => "bindRepository requires a repository name, and a local artifact has \
            none; verify it in its registry"
            .to_owned(),
    };
    evaluation.new_denial(Reason::RepositoryMismatch, message)
}

fn furthest_denial(
    evaluation: &PolicyEvaluation<'_>,
    faults: Vec<RankedDenialReason>,
    otherwise: Reason,
    message: impl Into<String>,
) -> Denial {
    let count = faults.len();
    // The first of equals: `max_by_key` returns the last.
    match faults.into_iter().rev().max_by_key(|fault| fault.rank) {
        Some(fault) if count > 1 => evaluation.new_denial(
            fault.reason,
            format!("{} (and {} more)", fault.message, count - 1),
        ),
        Some(fault) => evaluation.new_denial(fault.reason, fault.message),
        None => evaluation.new_denial(otherwise, message),
    }
}

/// The reason for a rejected item of evidence. For this policy, rejected evidence by a key that
/// it does not list is a signature by an unknown signer.
fn rejected_evidence_reason(
    evaluation: &PolicyEvaluation<'_>,
    rejected: &RejectedEvidence,
) -> RankedDenialReason {
    let foreign = rejected
        .signer
        .as_ref()
        .is_some_and(|signer| !evaluation.rules.lists_signer(signer));
    let message = format!("referrer {}: {}", rejected.referrer, rejected.message);
    if foreign {
        RankedDenialReason::new(Reason::NoMatchingAuthority, message)
    } else {
        RankedDenialReason {
            rank: rejected.rejection_rank(),
            reason: rejected.reason,
            message,
        }
    }
}

/// Why a verified statement does not count as a signature here.
fn uncounted_statement_reason(
    evaluation: &PolicyEvaluation<'_>,
    statement: &Verified<Statement>,
) -> Option<RankedDenialReason> {
    let (who, kind) = (statement.signer(), &statement.claim().predicate_type);
    if evaluation.rules.counts(statement) {
        return (kind != COSIGN_SIGN).then(|| {
            RankedDenialReason::new(
                Reason::PredicateTypeMismatch,
                format!(
                    "{who} attested {}, which is not a signature",
                    sanitize_text(kind)
                ),
            )
        });
    }
    if evaluation.rules.lists_signer(who) {
        return insufficient_signature_reason(evaluation, statement);
    }
    let (reason, called) = if matches!(who, SignerIdentity::Key { .. }) {
        (Reason::NoMatchingAuthority, "the key ")
    } else {
        (Reason::IdentityMismatch, "")
    };
    Some(RankedDenialReason::new(
        reason,
        format!("{called}{who} is not an authority of this policy"),
    ))
}

/// Why a verified signature does not count. Evidence that no trust root verifies was rejected,
/// and reported, earlier.
fn insufficient_signature_reason(
    evaluation: &PolicyEvaluation<'_>,
    statement: &Verified<Statement>,
) -> Option<RankedDenialReason> {
    let who = statement.signer();
    let told = |rejected: &RejectedEvidence| {
        rejected.referrer == *statement.referrer() && rejected.signer.as_ref() == Some(who)
    };
    if evaluation.findings.rejected.iter().any(told) {
        return None;
    }
    let (reason, problem) = if !evaluation
        .rules
        .formats
        .contains(&statement.signature_format())
    {
        (
            Reason::NoMatchingAuthority,
            "in a form that spec.signatureFormats does not list",
        )
    } else if evaluation.rules.transparency == TransparencyRequirement::Required
        && !statement.is_logged()
    {
        (
            Reason::NoTrustedTime,
            "but it is in no transparency log, and transparency is Required",
        )
    } else if matches!(who, SignerIdentity::Key { .. }) {
        (
            Reason::NoTrustedTime,
            "but its log entries and timestamps were not verified against the authority's trust root",
        )
    } else if matches!(who, SignerIdentity::Certificate { .. }) {
        (
            Reason::NoTrustedTime,
            "but its log entries and timestamps do not verify against the authority's trust root",
        )
    } else {
        (
            Reason::IdentityMismatch,
            "but its certificate chains to another trust root, or makes other claims, than the \
                policy asks for",
        )
    };
    Some(RankedDenialReason::new(
        reason,
        format!("{who} signed, {problem}"),
    ))
}

fn unused_evidence_reasons(
    evaluation: &PolicyEvaluation<'_>,
) -> impl Iterator<Item = RankedDenialReason> {
    let revoked = evaluation.revoked.iter().map(|statement| {
        RankedDenialReason::new(
            Reason::Revoked,
            format!("the key of {} is revoked", statement.signer()),
        )
    });
    let unopened = evaluation.findings.unopened;
    let over_budget = evaluation.findings.over_budget;
    let message = || {
        format!(
            "{over_budget} signatures or attestations were not fully verified, together \
                they need too much to be read or checked"
        )
    };
    let exceeded = (over_budget > 0).then(|| RankedDenialReason {
        rank: reason_rank(Reason::TooManyReferrers),
        ..RankedDenialReason::new(Reason::LimitExceeded, message())
    });
    let over = (unopened > 0).then(|| {
        RankedDenialReason::new(
            Reason::TooManyReferrers,
            format!("{unopened} referrers were not verified, there are too many"),
        )
    });
    let expired = evaluation.expired.iter().map(|statement| {
        let until = statement.validity_period().until.map_or_else(
            || "only from a later time on".to_owned(),
            |until| format!("until {until}"),
        );
        let message = format!(
            "{}: its certificate, or a revocation list that covers it, was valid {until}",
            statement.signer()
        );
        RankedDenialReason::new(Reason::CertificateExpired, message)
    });
    let otherwise_named = evaluation.otherwise_named.iter().map(|(statement, name)| {
        let used = evaluation
            .subject
            .repository
            .map_or_else(|| "the local artifact".to_owned(), ToString::to_string);
        let message = format!(
            "{} signed it as {name}, and {used} is used",
            statement.signer()
        );
        RankedDenialReason::new(Reason::RepositoryMismatch, message)
    });
    revoked
        .chain(over)
        .chain(exceeded)
        .chain(expired)
        .chain(otherwise_named)
}
