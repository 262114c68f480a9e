//! Retries of requests, and the waits before them.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use reqwest::StatusCode;

use super::{HttpError, HttpResponse, HttpRetryPolicy};

/// The first wait for a server that limits the rate of requests and does not say for how long, in
/// first waits of other retries. It doubles: 1 s, 2 s, 4 s …
const FIRST_RATE_LIMIT_WAIT: u32 = 5;
/// The longest of these: 8 s.
const LONGEST_RATE_LIMIT_WAIT: u32 = 40;
/// How long such a server is waited for: 65 s.
const RATE_LIMIT_WAITS: u32 = 325;

/// The remaining waits of one request.
pub(super) struct RetryBackoff {
    own: ExponentialBackoff,
    longest: Duration,
    left: Duration,
    rate_limit: RateLimitBackoff,
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
            rate_limit: RateLimitBackoff::new(retries),
        }
    }

    /// How long to wait before another attempt; `None` if this outcome is final. `repeatable`: the
    /// request may be sent again although the server may have acted on it.
    pub(super) fn wait_after(
        &mut self,
        outcome: &Result<HttpResponse, HttpError>,
        repeatable: bool,
    ) -> Option<Duration> {
        let server_wait = match outcome {
            Ok(answer) if is_transient_status(answer.status()) => {
                let server_wait = answer.head().retry_after();
                if is_rate_limit(answer.status(), server_wait) && self.rate_limit.is_patient() {
                    return self.rate_limit.next_wait(server_wait);
                }
                server_wait
            }
            Err(error) if error.is_transient() => None,
            _ => return None,
        };
        repeatable.then(|| self.next_wait(server_wait))?
    }

    fn next_wait(&mut self, server_wait: Option<Duration>) -> Option<Duration> {
        let own = self.own.next()?;
        let wait = server_wait.map_or(own, |server_wait| server_wait.max(own));
        self.left = self.left.checked_sub(wait)?;
        (wait <= self.longest).then_some(wait)
    }
}

/// The waits for a server that limits the rate of requests: as long as it says, else longer and
/// longer for about a minute.
#[derive(Clone, Copy, Debug)]
pub struct RateLimitBackoff {
    first: Duration,
    next: Duration,
    longest: Duration,
    left: Duration,
    left_without_header: Duration,
}

impl RateLimitBackoff {
    /// The waits of one request under this policy.
    pub const fn new(retries: &HttpRetryPolicy) -> Self {
        Self {
            first: retries.first_wait.saturating_mul(FIRST_RATE_LIMIT_WAIT),
            next: retries.first_wait.saturating_mul(FIRST_RATE_LIMIT_WAIT),
            longest: retries.first_wait.saturating_mul(LONGEST_RATE_LIMIT_WAIT),
            left: retries.rate_limit_budget,
            left_without_header: retries.first_wait.saturating_mul(RATE_LIMIT_WAITS),
        }
    }

    /// False under a policy that does not wait for such servers.
    pub const fn is_patient(&self) -> bool {
        !self.left.is_zero()
    }

    /// The next wait: `server_wait`, which the server asks for, but at least a second. `None` if it
    /// is over the budget.
    pub fn next_wait(&mut self, server_wait: Option<Duration>) -> Option<Duration> {
        let wait = if let Some(server_wait) = server_wait {
            server_wait.max(self.first)
        } else {
            let own = self.next;
            self.next = own.saturating_mul(2).min(self.longest);
            self.left_without_header = self.left_without_header.checked_sub(own)?;
            own
        };
        self.left = self.left.checked_sub(wait)?;
        Some(wait)
    }
}

fn is_rate_limit(status: StatusCode, server_wait: Option<Duration>) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
        || (status == StatusCode::SERVICE_UNAVAILABLE && server_wait.is_some())
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

    #[test]
    fn a_rate_limit_is_waited_for_as_long_as_the_budget_lasts() {
        assert!(!RateLimitBackoff::new(&HttpRetryPolicy::default()).is_patient());
        let retries = HttpRetryPolicy {
            rate_limit_budget: HttpRetryPolicy::PATIENT_RATE_LIMIT_BUDGET,
            ..HttpRetryPolicy::default()
        };
        let mut told = RateLimitBackoff::new(&retries);
        let half_a_minute = Some(Duration::from_secs(30));
        for _ in 0..10 {
            assert_eq!(told.next_wait(half_a_minute), half_a_minute);
        }
        assert_eq!(told.next_wait(half_a_minute), None, "five minutes are over");
        assert_eq!(
            RateLimitBackoff::new(&retries).next_wait(Some(Duration::from_hours(1))),
            None,
            "nobody waits an hour"
        );
        let mut untold = RateLimitBackoff::new(&retries);
        let waits: Vec<u64> = std::iter::from_fn(|| untold.next_wait(None))
            .map(|wait| wait.as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 8, 8, 8, 8, 8, 8], "about a minute");
    }
}
