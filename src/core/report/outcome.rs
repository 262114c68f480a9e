//! The name of a verdict in reports.

use serde::Serialize;

use crate::core::{names::names, policy::AdmissionVerdict};

/// The name of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum ReportOutcome {
    /// All requirements are met.
    Admitted,
    /// A requirement is not met.
    Denied,
    /// A requirement is not met, but an exemption applies.
    Exempt,
    /// No policy governs this use.
    Ungoverned,
}

impl From<&AdmissionVerdict> for ReportOutcome {
    fn from(verdict: &AdmissionVerdict) -> Self {
        match verdict {
            AdmissionVerdict::Admit(_) => Self::Admitted,
            AdmissionVerdict::Deny(_) => Self::Denied,
            AdmissionVerdict::Exempt(_) => Self::Exempt,
        }
    }
}

names!(
    ReportOutcome,
    Admitted = "Admitted",
    Denied = "Denied",
    Exempt = "Exempt",
    Ungoverned = "Ungoverned"
);
