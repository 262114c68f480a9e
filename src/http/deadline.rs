//! The time for a response, without the waits that the server has asked for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, timeout};
use url::Url;

use super::{HttpError, redact::redact_url};

/// Waits of this length are told.
const NOTICED_WAIT: Duration = Duration::from_secs(2);

tokio::task_local! {
    /// Milliseconds of waiting between attempts, within one limit of time.
    static WAITED: Arc<AtomicU64>;
}

/// Limits the time of a small response, from the request to its last byte.
pub(super) async fn limit_response_time<T>(
    url: &Url,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Result<T, HttpError> {
    // Shared with a limit around this one, such as a request that needs a token first.
    let waited = WAITED.try_with(Arc::clone).unwrap_or_default();
    let before = waited.load(Ordering::Relaxed);
    let mut work = std::pin::pin!(WAITED.scope(Arc::clone(&waited), Box::pin(work)));
    let begun = Instant::now();
    loop {
        let waiting = waited.load(Ordering::Relaxed).saturating_sub(before);
        let allowed = limit + Duration::from_millis(waiting);
        let left = allowed.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(HttpError::Timeout {
                url: redact_url(url),
                wait: "complete response",
                seconds: limit.as_secs(),
            });
        }
        if let Ok(done) = timeout(left, &mut work).await {
            return Ok(done);
        }
    }
}

/// Waits before a request to `server` is repeated. That is no time in which it has to answer.
pub async fn wait_before_retry(server: &str, wait: Duration) {
    if wait >= NOTICED_WAIT {
        let seconds = wait.as_secs();
        tracing::warn!("{server} limits the rate of requests; waiting {seconds} s");
    }
    let milliseconds = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let _ = WAITED.try_with(|waited| waited.fetch_add(milliseconds, Ordering::Relaxed));
    tokio::time::sleep(wait).await;
}
