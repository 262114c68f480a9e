//! Judges the evidence about one digest piece by piece, so that no more than one piece need be in
//! memory.

use super::{
    Candidate, Evidence, EvidenceError, Findings, LegacyCandidate, Rejected, Trust, Verified,
    effort::{Checks, Effort},
    judge, legacy,
};
use crate::core::{digest::Digest, intoto::Statement, json, limits::Limits};

/// Judges candidates one by one. Of each only the verified statements stay, within
/// `limits.statement_bytes`, or why it was refused.
///
/// All of them together cost at most `limits.signature_checks` signature checks, beyond the first
/// of each.
#[derive(Debug)]
pub struct EvidenceVerifier {
    subject: Digest,
    trust: Trust,
    limits: Limits,
    checks: Checks,
    room: Room,
    findings: Findings,
}

/// Memory for statements that hold.
#[derive(Debug)]
pub(super) struct Room {
    limit: usize,
    left: usize,
    /// What is not to be used yet.
    withheld: usize,
}

impl EvidenceVerifier {
    /// Of evidence about `subject`, by those who are trusted.
    pub fn new(subject: Digest, trust: Trust, limits: &Limits) -> Self {
        let room = Room {
            limit: limits.statement_bytes,
            left: limits.statement_bytes,
            withheld: 0,
        };
        Self {
            subject,
            trust,
            limits: *limits,
            checks: Checks::new(limits.signature_checks),
            room,
            findings: Findings::default(),
        }
    }

    /// Keeps the statements that hold within so many bytes of memory, until [`Self::widen`].
    pub const fn narrow(&mut self, bytes: usize) {
        self.room.narrow(bytes);
    }

    /// From now on the statements may need as much memory as the limits say.
    pub const fn widen(&mut self) {
        self.room.left += self.room.withheld;
        self.room.withheld = 0;
    }

    /// Judges a referrer. `stopped` is asked before each check of a signature: nothing more is done
    /// once it is true.
    ///
    /// False if there was no memory for what it states as long as that is narrowed. Then it was not
    /// judged.
    pub fn judge(&mut self, candidate: &Candidate, stopped: &dyn Fn() -> bool) -> bool {
        let left = self.room.left;
        let effort = Effort::new(&self.checks, stopped);
        let (verified, faults) = judge(
            &self.subject,
            candidate,
            &self.trust,
            &self.limits,
            &effort,
            &mut self.room,
        );
        let exceeded = effort.is_exceeded();
        self.note(left, verified, &faults, exceeded, |error| {
            Rejected::new(candidate.referrer.digest, error)
        })
    }

    /// Judges a layer of what one of cosign's tags names, like [`Self::judge`].
    pub fn judge_legacy(
        &mut self,
        candidate: &LegacyCandidate,
        stopped: &dyn Fn() -> bool,
    ) -> bool {
        let left = self.room.left;
        let effort = Effort::new(&self.checks, stopped);
        let (verified, faults) = legacy::judge(
            &self.subject,
            candidate,
            &self.trust,
            &self.limits,
            &effort,
            &mut self.room,
        );
        let exceeded = effort.is_exceeded();
        self.note(left, verified, &faults, exceeded, |error| {
            candidate.rejected(error)
        })
    }

    fn note(
        &mut self,
        left: usize,
        verified: Vec<Verified<Statement>>,
        faults: &[EvidenceError],
        exceeded: bool,
        rejected: impl Fn(&EvidenceError) -> Rejected,
    ) -> bool {
        self.findings.signature_checks = self.checks.made();
        let too_much = faults
            .iter()
            .any(|fault| matches!(fault, EvidenceError::TooMuchStated { .. }));
        if too_much && self.room.withheld > 0 {
            self.room.left = left;
            return false;
        }
        self.findings.over_budget += usize::from(exceeded || too_much);
        self.findings.verified.extend(verified);
        self.findings.rejected.extend(faults.iter().map(rejected));
        true
    }

    /// Something could not be gathered.
    pub fn reject(&mut self, rejected: Rejected) {
        self.findings.rejected.push(rejected);
    }

    /// Something was not read, because the question's bytes are used up.
    pub fn leave_unread(&mut self, rejected: Rejected) {
        self.findings.over_budget += 1;
        self.findings.rejected.push(rejected);
    }

    /// So many more were left unopened because there are too many.
    pub const fn leave_unopened(&mut self, count: usize) {
        self.findings.unopened += count;
    }

    /// The result.
    pub fn into_findings(self) -> Findings {
        self.findings
    }
}

impl Room {
    const fn narrow(&mut self, bytes: usize) {
        let withheld = self.left.saturating_sub(bytes);
        self.left -= withheld;
        self.withheld += withheld;
    }

    /// Reads a statement if there is memory for it.
    pub(super) fn hold<T>(
        &mut self,
        payload: &[u8],
        read: impl FnOnce() -> Result<T, EvidenceError>,
    ) -> Result<T, EvidenceError> {
        let size = json::weight(payload);
        let left = self
            .left
            .checked_sub(size)
            .ok_or(EvidenceError::TooMuchStated {
                size,
                limit: self.limit,
            })?;
        let statement = read()?;
        self.left = left;
        Ok(statement)
    }
}

/// Judges every candidate about `subject`, at most `limits.referrers_opened` of them: bundles
/// first, then what lies under cosign's tags.
pub fn verify(subject: &Digest, evidence: &Evidence, trust: &Trust, limits: &Limits) -> Findings {
    let mut verifier = EvidenceVerifier::new(*subject, trust.clone(), limits);
    let over =
        (evidence.candidates.len() + evidence.legacy.len()).saturating_sub(limits.referrers_opened);
    verifier.leave_unopened(evidence.unopened + over);
    evidence
        .unread
        .iter()
        .for_each(|rejected| verifier.reject(rejected.clone()));
    let candidates = evidence.candidates.iter().take(limits.referrers_opened);
    for candidate in candidates {
        verifier.judge(candidate, &|| false);
    }
    let legacy = evidence.legacy.iter().take(
        limits
            .referrers_opened
            .saturating_sub(evidence.candidates.len()),
    );
    for candidate in legacy {
        verifier.judge_legacy(candidate, &|| false);
    }
    verifier.into_findings()
}
