//! Verifies the evidence about one digest one candidate at a time, so that no more than one need be
//! in memory.

use super::{
    digest::Digest,
    evidence::{
        CheckBudget, CosignTagCandidate, EvidenceError, ReferrerCandidate, RejectedEvidence,
        SignatureCheckCounter, StatementMemoryBudget, UnverifiedEvidence,
    },
    intoto::Statement,
    limits::InputLimits,
    tag_based_signatures::verify_tag_layer,
    trusted_material::TrustedMaterial,
    verify::{CandidateContext, CandidateResult, Verified, verify_referrer},
};

/// The result of verifying every candidate.
#[derive(Clone, Debug, Default)]
pub struct VerificationFindings {
    /// The verified statements.
    pub verified: Vec<Verified<Statement>>,
    /// The rejected candidates, with their reasons.
    pub rejected: Vec<RejectedEvidence>,
    /// The number of referrers not fetched because there were too many.
    pub unopened: usize,
    /// The number of candidates not read, or not fully verified, because the limits of one request
    /// were reached.
    pub over_budget: usize,
    /// The number of signature checks made.
    pub signature_checks: usize,
}

/// Verifies candidates one by one. Of each only the verified statements are kept, within
/// `limits.statement_bytes`, or the reason for its rejection.
///
/// All of them together cost at most `limits.signature_checks` signature checks, beyond the first
/// of each.
#[derive(Debug)]
pub struct EvidenceVerifier {
    subject: Digest,
    trust: TrustedMaterial,
    limits: InputLimits,
    checks: SignatureCheckCounter,
    statement_memory: StatementMemoryBudget,
    findings: VerificationFindings,
}

impl EvidenceVerifier {
    /// A verifier of evidence about `subject`, with this trusted material.
    pub fn new(subject: Digest, trust: TrustedMaterial, limits: &InputLimits) -> Self {
        Self {
            subject,
            trust,
            limits: *limits,
            checks: SignatureCheckCounter::new(limits.signature_checks),
            statement_memory: StatementMemoryBudget::new(limits.statement_bytes),
            findings: VerificationFindings::default(),
        }
    }

    /// Limits the verified statements to this many bytes of memory, until
    /// [`Self::release_withheld_memory`].
    pub const fn limit_statement_memory(&mut self, bytes: usize) {
        self.statement_memory.withhold_above(bytes);
    }

    /// From now on the statements may use as much memory as the limits allow.
    pub const fn release_withheld_memory(&mut self) {
        self.statement_memory.release_withheld();
    }

    /// Verifies a referrer. `stopped` is called before each signature check: once it is true,
    /// nothing more is done.
    ///
    /// False if the limited memory is too small for its statement. Then it was not verified.
    pub fn verify_referrer(
        &mut self,
        candidate: &ReferrerCandidate,
        stopped: &dyn Fn() -> bool,
    ) -> bool {
        self.verify_candidate(
            stopped,
            |context, memory| verify_referrer(candidate, context, memory),
            |error| RejectedEvidence::new(candidate.referrer.digest, error),
        )
    }

    /// Verifies a layer of a manifest that a cosign tag names, like [`Self::verify_referrer`].
    pub fn verify_cosign_tag_layer(
        &mut self,
        candidate: &CosignTagCandidate,
        stopped: &dyn Fn() -> bool,
    ) -> bool {
        self.verify_candidate(
            stopped,
            |context, memory| verify_tag_layer(candidate, context, memory),
            |error| candidate.to_rejected(error),
        )
    }

    fn verify_candidate(
        &mut self,
        stopped: &dyn Fn() -> bool,
        verify: impl Fn(&CandidateContext<'_>, &mut StatementMemoryBudget) -> CandidateResult,
        rejected: impl Fn(&EvidenceError) -> RejectedEvidence,
    ) -> bool {
        let left = self.statement_memory.bytes_left();
        let context = CandidateContext {
            subject: &self.subject,
            trust: &self.trust,
            limits: &self.limits,
            effort: CheckBudget::new(&self.checks, stopped),
        };
        let (verified, faults) = verify(&context, &mut self.statement_memory);
        let exceeded = context.effort.is_exceeded();
        self.findings.signature_checks = self.checks.checks_made();
        let too_much = faults
            .iter()
            .any(|fault| matches!(fault, EvidenceError::StatementMemoryExceeded { .. }));
        if too_much && self.statement_memory.is_withheld() {
            self.statement_memory.restore_to(left);
            return false;
        }
        self.findings.over_budget += usize::from(exceeded || too_much);
        self.findings.verified.extend(verified);
        self.findings.rejected.extend(faults.iter().map(rejected));
        true
    }

    /// Records evidence that could not be fetched.
    pub fn record_rejection(&mut self, rejected: RejectedEvidence) {
        self.findings.rejected.push(rejected);
    }

    /// Records evidence that was not read, because the bytes that one request may read are used up.
    pub fn record_unread(&mut self, rejected: RejectedEvidence) {
        self.findings.over_budget += 1;
        self.findings.rejected.push(rejected);
    }

    /// Records that `count` more referrers were not fetched because there are too many.
    pub const fn record_unopened(&mut self, count: usize) {
        self.findings.unopened += count;
    }

    /// The result.
    pub fn into_findings(self) -> VerificationFindings {
        self.findings
    }
}

/// Verifies every candidate about `subject`, at most `limits.referrers_opened` of them: bundles
/// first, then layers under cosign's tags.
pub fn verify_evidence(
    subject: &Digest,
    evidence: &UnverifiedEvidence,
    trust: &TrustedMaterial,
    limits: &InputLimits,
) -> VerificationFindings {
    let mut verifier = EvidenceVerifier::new(*subject, trust.clone(), limits);
    let over =
        (evidence.candidates.len() + evidence.legacy.len()).saturating_sub(limits.referrers_opened);
    verifier.record_unopened(evidence.unopened + over);
    evidence
        .unread
        .iter()
        .for_each(|rejected| verifier.record_rejection(rejected.clone()));
    let candidates = evidence.candidates.iter().take(limits.referrers_opened);
    for candidate in candidates {
        verifier.verify_referrer(candidate, &|| false);
    }
    let legacy = evidence.legacy.iter().take(
        limits
            .referrers_opened
            .saturating_sub(evidence.candidates.len()),
    );
    for candidate in legacy {
        verifier.verify_cosign_tag_layer(candidate, &|| false);
    }
    verifier.into_findings()
}
