//! The error of a subcommand.

use crate::core::reason::{ClassifiedError, Reason};

/// An error with its reason, for output.
#[derive(Debug)]
pub(super) struct CliError {
    pub(super) reason: Reason,
    pub(super) message: String,
}

impl CliError {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Reason::InvalidSpec, message)
    }

    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(Reason::Internal, message)
    }
}

impl<E: ClassifiedError> From<E> for CliError {
    fn from(error: E) -> Self {
        Self {
            reason: error.reason(),
            message: error.to_string(),
        }
    }
}
