//! The evaluation of one policy on one subject: which of the verified statements count.

use jiff::Timestamp;

use crate::core::{
    intoto::{COSIGN_SIGN, Statement},
    reason::Reason,
    verify::{VerificationFindings, Verified},
};

use super::{
    AdmissionSubject, Denial, PolicyRules, RevocationTarget,
    signed_repository::other_signed_repository,
};

/// The evaluation of one policy on one subject.
pub(in crate::core) struct PolicyEvaluation<'a> {
    pub(in crate::core) rules: &'a PolicyRules,
    pub(in crate::core) subject: &'a AdmissionSubject<'a>,
    pub(in crate::core) now: Timestamp,
    pub(in crate::core) findings: &'a VerificationFindings,
    /// Verified for this subject and under no other name, by signers with no revoked key and with a
    /// certificate that is valid.
    pub(in crate::core) statements: Vec<&'a Verified<Statement>>,
    /// The same, but for another repository than the one in use.
    pub(in crate::core) otherwise_named: Vec<(&'a Verified<Statement>, String)>,
    /// Verified for this subject, by a revoked key.
    pub(in crate::core) revoked: Vec<&'a Verified<Statement>>,
    /// Verified for this subject, by a certificate that has expired or is not valid yet.
    pub(in crate::core) expired: Vec<&'a Verified<Statement>>,
}

impl<'a> PolicyEvaluation<'a> {
    pub(super) fn new(
        rules: &'a PolicyRules,
        subject: &'a AdmissionSubject<'a>,
        findings: &'a VerificationFindings,
        now: Timestamp,
    ) -> Self {
        let verified = findings
            .verified
            .iter()
            .filter(|verified| *verified.subject() == subject.digest);
        let (revoked, others): (Vec<_>, Vec<_>) =
            verified.partition(|verified| has_revoked_key(rules, verified, now));
        let (good, expired): (Vec<_>, Vec<_>) = others
            .into_iter()
            .partition(|verified| verified.validity_period().contains_time(now));
        let (mut statements, mut otherwise_named) = (Vec::new(), Vec::new());
        for statement in good {
            match other_signed_repository(rules, subject, statement) {
                Some(name) => otherwise_named.push((statement, name)),
                None => statements.push(statement),
            }
        }
        Self {
            rules,
            subject,
            now,
            findings,
            statements,
            otherwise_named,
            revoked,
            expired,
        }
    }

    /// A signature is a statement of cosign's type. An attestation does not count as one.
    pub(super) fn cosign_signatures(&self) -> impl Iterator<Item = &'a Verified<Statement>> + '_ {
        self.statements
            .iter()
            .copied()
            .filter(|statement| statement.claim().predicate_type == COSIGN_SIGN)
    }

    /// A denial by this policy.
    pub(in crate::core) fn new_denial(&self, reason: Reason, message: impl Into<String>) -> Denial {
        Denial {
            policy: Some(self.rules.identity()),
            ..Denial::new(reason, message)
        }
    }
}

fn has_revoked_key(rules: &PolicyRules, statement: &Verified<Statement>, now: Timestamp) -> bool {
    statement.key_fingerprint().is_some_and(|key| {
        rules
            .revocation_of(&RevocationTarget::Key(*key), now)
            .is_some()
    })
}
