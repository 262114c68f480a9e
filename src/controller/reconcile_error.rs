//! What can go wrong while an object is reconciled: something that its status tells, or an API
//! server that does not do as asked.

use kube::core::Status;

use crate::core::{
    job::JobFailure,
    reason::{ClassifiedError, Reason},
};

/// Why a reconciliation did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// For the object's status.
    #[error("{}: {}", .0.reason, .0.message)]
    StatusFailure(JobFailure),
    /// The API server failed, or changed its mind. Tried again soon, and not told in the status,
    /// which could not be written either.
    #[error("the API server: {0}")]
    Api(#[source] Box<kube::Error>),
}

impl From<kube::Error> for ReconcileError {
    fn from(error: kube::Error) -> Self {
        Self::Api(Box::new(error))
    }
}

impl ReconcileError {
    /// For the status, from an error that knows its reason.
    pub fn from_classified(error: &dyn ClassifiedError) -> Self {
        Self::StatusFailure(JobFailure::from_error(error))
    }

    /// For the status.
    pub fn new(reason: Reason, message: impl AsRef<str>) -> Self {
        Self::StatusFailure(JobFailure::new(reason, message.as_ref()))
    }
}

/// The API server's answer, if it is one about what was asked for.
pub(super) fn api_status(error: &kube::Error) -> Option<&Status> {
    match error {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

/// Was the request understood and refused: by authorization, admission or a quota?
pub(super) fn is_forbidden(error: &kube::Error) -> bool {
    api_status(error).is_some_and(|status| status.code == 403)
}

/// Does it exist already?
pub(super) fn is_already_exists(error: &kube::Error) -> bool {
    api_status(error).is_some_and(Status::is_already_exists)
}

/// Is it gone?
pub(super) fn is_not_found(error: &kube::Error) -> bool {
    api_status(error).is_some_and(Status::is_not_found)
}
