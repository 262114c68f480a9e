//! Retries of requests, and the waits before them.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use reqwest::StatusCode;

use super::{HttpError, HttpResponse, HttpRetryPolicy};

/// The remaining waits of one request.
pub(super) struct RetryBackoff {
    own: ExponentialBackoff,
    longest: Duration,
    left: Duration,
}

impl RetryBackoff {
    pub(super) fn new(retries: &HttpRetryPolicy) -> Self {
        let again = usize::try_from(retries.attempts.saturating_sub(1)).unwrap_or(0);
        let own = ExponentialBuilder::new()
            .with_min_delay(retries.first_wait)
            .with_max_times(again)
            .with_jitter()
            .build();
        Self {
            own,
            longest: retries.longest_wait,
            left: retries.budget,
        }
    }

    /// How long to wait before another attempt; `None` if this outcome is final.
    pub(super) fn wait_after(
        &mut self,
        outcome: &Result<HttpResponse, HttpError>,
    ) -> Option<Duration> {
        let server_wait = match outcome {
            Ok(answer) if is_transient_status(answer.status()) => answer.head().retry_after(),
            Err(error) if error.is_transient() => None,
            _ => return None,
        };
        self.next_wait(server_wait)
    }

    fn next_wait(&mut self, server_wait: Option<Duration>) -> Option<Duration> {
        let own = self.own.next()?;
        let wait = server_wait.map_or(own, |server_wait| server_wait.max(own));
        self.left = self.left.checked_sub(wait)?;
        (wait <= self.longest).then_some(wait)
    }
}

const fn is_transient_status(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_and_waits_are_bounded() {
        let retries = HttpRetryPolicy {
            attempts: 3,
            first_wait: Duration::from_millis(1),
            ..HttpRetryPolicy::default()
        };
        let mut waits = RetryBackoff::new(&retries);
        assert!(waits.next_wait(None).is_some());
        assert_eq!(
            waits.next_wait(Some(Duration::from_secs(2))),
            Some(Duration::from_secs(2))
        );
        assert_eq!(waits.next_wait(None), None, "three attempts in all");
        assert_eq!(
            RetryBackoff::new(&retries).next_wait(Some(Duration::from_secs(11))),
            None,
            "longer than the longest wait"
        );
        let mut short = RetryBackoff::new(&HttpRetryPolicy {
            budget: Duration::from_secs(3),
            ..retries
        });
        assert!(short.next_wait(Some(Duration::from_secs(2))).is_some());
        assert_eq!(
            short.next_wait(Some(Duration::from_secs(2))),
            None,
            "over the budget"
        );
    }
}
