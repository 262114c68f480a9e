//! The answer to a request, for which the server has time after the last byte of the upload.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use reqwest::Response;
use tokio::time::{Instant, timeout};
use url::Url;

use super::{HttpError, redact::redact_url};

/// When the last part of an upload was sent.
pub(super) struct UploadProgress {
    begun: Instant,
    /// Milliseconds after `begun`.
    last: AtomicU64,
}

impl UploadProgress {
    pub(super) fn begin() -> Self {
        Self {
            begun: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    pub(super) fn advance(&self) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    /// Waits for the head of the response, for `idle` after the last byte of the upload.
    pub(super) async fn await_answer(
        &self,
        answer: impl Future<Output = reqwest::Result<Response>>,
        idle: Duration,
        url: &Url,
    ) -> Result<Response, HttpError> {
        let mut answer = std::pin::pin!(answer);
        loop {
            let left = idle.saturating_sub(self.since_last_byte());
            if left.is_zero() {
                return Err(HttpError::Timeout {
                    url: redact_url(url),
                    wait: "response",
                    seconds: self.since_last_byte().as_secs(),
                });
            }
            if let Ok(outcome) = timeout(left, &mut answer).await {
                return outcome.map_err(|e| HttpError::from_reqwest(e, url, false));
            }
        }
    }

    fn since_last_byte(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.begun.elapsed().saturating_sub(last)
    }
}
