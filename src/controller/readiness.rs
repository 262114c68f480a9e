//! Whether a policy or trust root can be used, as its status says.

use std::time::Duration;

use serde_json::Value;

use crate::{
    api::condition::{DesiredCondition, READY, SUCCEEDED},
    core::{job::JobFailure, reason::Reason},
};

/// Objects that a policy refers to may change, so it is checked again after this time.
const RECHECK_INTERVAL: Duration = Duration::from_mins(5);
/// The delay after an error of the API server.
pub(super) const ERROR_RETRY_DELAY: Duration = Duration::from_secs(10);

/// The result of a readiness check.
#[derive(Debug)]
pub(super) struct ReadinessResult {
    /// Fields of the status other than conditions.
    pub fields: Value,
    /// Why it is not ready, if so.
    pub failure: Option<JobFailure>,
    /// The message of the condition if it is ready.
    pub message: String,
    /// When to check again.
    pub again: Duration,
}

impl ReadinessResult {
    /// The object is ready.
    pub(super) fn with_fields(fields: Value) -> Self {
        Self {
            fields,
            failure: None,
            message: "it is valid and ready for use".to_owned(),
            again: RECHECK_INTERVAL,
        }
    }

    /// The object is not ready.
    pub(super) fn with_failure(fields: Value, failure: JobFailure) -> Self {
        // Exceeding a shared quota depends on objects that are not watched here.
        let again = if failure.reason == Reason::LimitExceeded {
            ERROR_RETRY_DELAY
        } else {
            RECHECK_INTERVAL
        };
        Self {
            failure: Some(failure),
            again,
            ..Self::with_fields(fields)
        }
    }

    /// The condition `Ready`.
    pub(super) fn ready_condition(&self) -> DesiredCondition {
        match &self.failure {
            None => build_ready_condition(true, SUCCEEDED, &self.message),
            Some(failure) => {
                build_ready_condition(false, failure.reason.as_str(), &failure.message)
            }
        }
    }
}

fn build_ready_condition(status: bool, reason: &str, message: &str) -> DesiredCondition {
    DesiredCondition {
        type_: READY,
        status,
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}
