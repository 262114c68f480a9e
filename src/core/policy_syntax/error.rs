//! Why a policy is invalid.

use crate::core::reason::{ClassifiedError, Reason};

/// The field of a policy that is invalid, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct PolicyError {
    /// The field, as a path: `spec.authorities[1].key.pem`.
    pub field: String,
    /// What is wrong with it, and what to do.
    pub problem: String,
    /// True if an object that the field refers to does not exist, and nothing else is wrong.
    missing: bool,
    reason: Reason,
}

impl PolicyError {
    /// An error in `field`.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
            missing: false,
            reason: Reason::InvalidSpec,
        }
    }

    /// `field` refers to an object that does not exist. The policy becomes valid once it does.
    pub fn missing_object(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            missing: true,
            ..Self::new(field, problem)
        }
    }

    /// The same with another reason than `InvalidSpec`.
    #[must_use]
    pub fn with_reason(self, reason: Reason) -> Self {
        Self { reason, ..self }
    }

    /// True if an object that the field refers to does not exist, and nothing else is wrong.
    pub const fn is_missing_object(&self) -> bool {
        self.missing
    }

    /// A field whose behaviour is not implemented yet. It is never ignored.
    pub fn unsupported_field(field: impl Into<String>) -> Self {
        Self::new(field, "is not supported yet")
    }
}

impl ClassifiedError for PolicyError {
    fn reason(&self) -> Reason {
        self.reason
    }
}
