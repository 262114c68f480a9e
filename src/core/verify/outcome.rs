//! The outcome of checking the signature of one candidate.

use crate::core::{
    digest::Digest,
    evidence::{CheckBudget, StatementMemoryBudget},
    intoto::Statement,
    limits::InputLimits,
    x509::furthest_error,
};

use super::{EvidenceError, TrustedMaterial, Verified, verified::AuthenticatedSignature};

/// What the checks of one candidate need beside the candidate.
pub(crate) struct CandidateContext<'a> {
    /// The digest that the candidate must be about.
    pub(crate) subject: &'a Digest,
    pub(crate) trust: &'a TrustedMaterial,
    pub(crate) limits: &'a InputLimits,
    pub(crate) effort: CheckBudget<'a>,
}

/// The verified signatures, and the errors of the authorities and trust roots that do not verify
/// them.
#[derive(Default)]
pub(crate) struct AuthenticationOutcome {
    pub(super) found: Vec<AuthenticatedSignature>,
    pub(super) faults: Vec<EvidenceError>,
}

/// The verified statements and the errors of a candidate; at least one of the two is not empty.
pub(crate) type CandidateResult = (Vec<Verified<Statement>>, Vec<EvidenceError>);

impl AuthenticationOutcome {
    /// Nothing but verified signatures.
    pub(crate) const fn from_found(found: Vec<AuthenticatedSignature>) -> Self {
        Self {
            found,
            faults: Vec::new(),
        }
    }

    pub(crate) fn record_fault(&mut self, error: EvidenceError) {
        self.faults.push(error);
    }

    pub(super) fn record(&mut self, result: Result<AuthenticatedSignature, EvidenceError>) {
        match result {
            Ok(signature) => self.found.push(signature),
            Err(error) => self.faults.push(error),
        }
    }

    /// Changes every error.
    pub(crate) fn explain_faults(&mut self, explain: impl Fn(EvidenceError) -> EvidenceError) {
        let faults = std::mem::take(&mut self.faults);
        self.faults = faults.into_iter().map(explain).collect();
    }

    /// All verified signatures, or, if there are none, the error of the furthest check.
    pub(super) fn require_found(self) -> Result<Vec<AuthenticatedSignature>, EvidenceError> {
        if self.found.is_empty() {
            Err(furthest_error(self.faults).unwrap_or(EvidenceError::NoTrustRoot))
        } else {
            Ok(self.found)
        }
    }

    /// Reads the payload once for each verified signature over it, if there is memory for it.
    pub(crate) fn read_statements(
        self,
        payload: &[u8],
        memory: &mut StatementMemoryBudget,
        read: impl Fn(AuthenticatedSignature) -> Result<Verified<Statement>, EvidenceError>,
    ) -> CandidateResult {
        let (mut verified, mut faults) = (Vec::new(), self.faults);
        for by in self.found {
            match memory.read_within_budget(payload, || read(by)) {
                Ok(statement) => verified.push(statement),
                Err(error) => faults.push(error),
            }
        }
        (verified, faults)
    }
}
