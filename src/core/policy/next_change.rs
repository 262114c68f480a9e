//! When the verdict of a policy may change with time alone, for the same evidence.

use jiff::{SignedDuration, Timestamp};

use crate::core::{
    intoto::Statement,
    verify::{VerificationFindings, Verified},
};

use super::{AdmissionSubject, PolicyRules, scope::governs_subject, slsa};

/// The first moment after `now` at which evaluating `rules` again may give another verdict; `None`
/// if there is none.
///
/// It may be too early, which costs one more evaluation, but is never too late: it considers every
/// moment that [`super::evaluate_policies`] compares `now` with.
pub(super) fn next_change(
    rules: &PolicyRules,
    subject: &AdmissionSubject<'_>,
    findings: &VerificationFindings,
    now: Timestamp,
) -> Option<Timestamp> {
    if !governs_subject(rules, subject) {
        return None;
    }
    let revocations = rules.revocations.iter().filter_map(|one| one.since);
    let exemptions = rules
        .exemptions
        .iter()
        .filter(|one| one.digest == subject.digest)
        .map(|one| one.expires);
    let statements = findings
        .verified
        .iter()
        .filter(|statement| *statement.subject() == subject.digest)
        .flat_map(|statement| statement_changes(rules, statement));
    revocations
        .chain(exemptions)
        .chain(statements)
        .filter(|moment| *moment > now)
        .min()
}

/// When a statement begins or ceases to count.
fn statement_changes(
    rules: &PolicyRules,
    statement: &Verified<Statement>,
) -> impl Iterator<Item = Timestamp> {
    let validity = statement.validity_period();
    let age = rules.slsa.as_ref().and_then(|slsa| slsa.max_age);
    let age = age.and_then(|limit| Some((slsa::built_at(statement)?, limit)));
    let [begins_to_count, too_old] = age.map_or([None, None], |(built, limit)| {
        let limit = SignedDuration::try_from(limit).unwrap_or(SignedDuration::MAX);
        // Provenance as old as the limit counts; one nanosecond later it is too old.
        [
            built.checked_sub(slsa::MAX_CLOCK_SKEW).ok(),
            built
                .checked_add(limit)
                .and_then(|end| end.checked_add(SignedDuration::from_nanos(1)))
                .ok(),
        ]
    });
    [validity.from, validity.until, begins_to_count, too_old]
        .into_iter()
        .flatten()
}
