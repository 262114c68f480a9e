//! Why a plug-in gave no credentials.

use crate::core::reason::Reason;

/// Why a plug-in gave no credentials. No part of a secret is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProviderFailure {
    pub(super) cause: String,
    pub(super) reason: Reason,
}

/// Why there is no token of a ServiceAccount. The messages contain names only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AccountTokenError {
    /// What cannot be read or made, why, and the way out.
    pub message: String,
    /// Its class.
    pub reason: Reason,
}

impl ProviderFailure {
    pub(super) const fn unavailable(cause: String) -> Self {
        Self {
            cause,
            reason: Reason::RegistryUnavailable,
        }
    }
}

impl From<AccountTokenError> for ProviderFailure {
    fn from(AccountTokenError { message, reason }: AccountTokenError) -> Self {
        Self {
            cause: message,
            reason,
        }
    }
}
