//! Errors of a reconcile: a failure for the status, or an error of the API server.

use kube::core::Status;

use crate::core::{
    job::JobFailure,
    reason::{ClassifiedError, Reason},
};

/// Why a reconcile did not complete.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// To be reported in the object's status.
    #[error("{}: {}", .0.reason, .0.message)]
    StatusFailure(JobFailure),
    /// The API server failed, or reported a conflict. Retried soon, and reported in the status if
    /// that can be written.
    #[error("the API server: {0}")]
    Api(#[source] Box<kube::Error>),
}

impl From<kube::Error> for ReconcileError {
    fn from(error: kube::Error) -> Self {
        Self::Api(Box::new(error))
    }
}

impl ReconcileError {
    /// A failure for the status, from an error with a reason code.
    pub fn from_classified(error: &dyn ClassifiedError) -> Self {
        Self::StatusFailure(JobFailure::from_error(error))
    }

    /// The failure as the status reports it.
    pub fn to_failure(&self) -> JobFailure {
        match self {
            Self::StatusFailure(failure) => failure.clone(),
            Self::Api(_) => JobFailure::new(Reason::DeadlineExceeded, &self.to_string()),
        }
    }

    /// A failure for the status.
    pub fn new(reason: Reason, message: impl AsRef<str>) -> Self {
        Self::StatusFailure(JobFailure::new(reason, message.as_ref()))
    }
}

/// The API server's status response, if the error is one.
pub(super) fn api_status(error: &kube::Error) -> Option<&Status> {
    match error {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

/// True if the request was refused: by authorization, admission or a quota.
pub(super) fn is_forbidden(error: &kube::Error) -> bool {
    api_status(error).is_some_and(|status| status.code == 403)
}

/// True if the object exists already.
pub(super) fn is_already_exists(error: &kube::Error) -> bool {
    api_status(error).is_some_and(Status::is_already_exists)
}

/// True if the object is not found.
pub(super) fn is_not_found(error: &kube::Error) -> bool {
    api_status(error).is_some_and(Status::is_not_found)
}
