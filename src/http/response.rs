//! The head of a response, and its body while it arrives.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{Stream, TryStreamExt};
use reqwest::{
    Response, StatusCode,
    header::{self, AsHeaderName, HeaderMap},
};
use tokio::time::{Instant, timeout};
use url::Url;

use super::{
    HttpError, MinTransferRate, location, redact::redact_url, transfer_rate::TransferRateMonitor,
};

/// The status, headers and origin of a response.
#[derive(Clone, Debug)]
pub struct HttpResponseHead {
    status: StatusCode,
    headers: HeaderMap,
    url: Url,
}

/// A response whose body has not been read yet.
#[derive(Debug)]
pub struct HttpResponse {
    head: HttpResponseHead,
    response: Response,
    idle: Duration,
    rate_monitor: Option<TransferRateMonitor>,
}

impl HttpResponseHead {
    /// The status.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The URL of the response, after redirects.
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// The first value of a header, if it is text.
    pub fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// All values of a header that are text.
    pub fn headers(&self, name: impl AsHeaderName) -> impl Iterator<Item = &str> {
        self.headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
    }

    /// The length of the body in bytes, if the server declares it.
    pub fn content_length(&self) -> Option<u64> {
        self.header(header::CONTENT_LENGTH)?.parse().ok()
    }

    /// The delay in `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date, from which the
    /// `Date` of the same response is subtracted.
    pub fn retry_after(&self) -> Option<Duration> {
        let value = self.header(header::RETRY_AFTER)?.trim();
        match value.parse() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => duration_between(self.header(header::DATE)?, value),
        }
    }

    /// Resolves `location` (of a `Location` or `Link` header) relative to the URL of this response.
    /// Never from `https` to `http`.
    pub fn resolve_location(&self, location: &str) -> Result<Url, HttpError> {
        location::resolve_location(&self.url, location).map_err(|cause| HttpError::Redirect {
            url: redact_url(&self.url),
            cause,
        })
    }
}

/// The time between two dates (RFC 9110, section 5.6.7); none if the second is the earlier one.
fn duration_between(from: &str, to: &str) -> Option<Duration> {
    let timestamp = |date: &str| {
        let date = date.trim().strip_suffix("GMT")?;
        let parsed = jiff::fmt::rfc2822::parse(&format!("{date}+0000")).ok()?;
        Some(parsed.timestamp())
    };
    let between = timestamp(to)?.duration_since(timestamp(from)?);
    Some(Duration::try_from(between).unwrap_or_default())
}

impl HttpResponse {
    pub(super) fn new(
        mut response: Response,
        url: Url,
        idle: Duration,
        least: Option<MinTransferRate>,
    ) -> Self {
        let head = HttpResponseHead {
            status: response.status(),
            headers: std::mem::take(response.headers_mut()),
            url,
        };
        Self {
            head,
            response,
            idle,
            rate_monitor: least.map(TransferRateMonitor::new),
        }
    }

    /// The status, headers and origin.
    pub const fn head(&self) -> &HttpResponseHead {
        &self.head
    }

    /// The status.
    pub const fn status(&self) -> StatusCode {
        self.head.status
    }

    /// The next chunk of the body.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        let started = Instant::now();
        match timeout(self.idle, self.response.chunk()).await {
            Ok(Ok(chunk)) => self.check_transfer_rate(chunk, started.elapsed()),
            Ok(Err(error)) => Err(HttpError::from_reqwest(error, &self.head.url, true)),
            Err(_) => Err(HttpError::Timeout {
                url: redact_url(&self.head.url),
                wait: "data",
                seconds: self.idle.as_secs(),
            }),
        }
    }

    /// A chunk, if the transfer rate is sufficient so far. The end of the body is always in time.
    fn check_transfer_rate(
        &mut self,
        chunk: Option<Bytes>,
        waited: Duration,
    ) -> Result<Option<Bytes>, HttpError> {
        let (Some(rate_monitor), Some(received)) = (&mut self.rate_monitor, &chunk) else {
            return Ok(chunk);
        };
        match rate_monitor.record_chunk(waited, received.len()) {
            Ok(()) => Ok(chunk),
            Err(slow) => Err(HttpError::TooSlow {
                url: redact_url(&self.head.url),
                bytes: slow.bytes,
                seconds: slow.seconds,
                least: slow.least,
            }),
        }
    }

    /// The whole body, at most `limit` bytes. More is an error, and is not read.
    pub async fn read_body(mut self, limit: usize) -> Result<Bytes, HttpError> {
        let too_large = |url: &Url| HttpError::TooLarge {
            url: redact_url(url),
            limit,
        };
        let declared = self.head.content_length().unwrap_or(0);
        if usize::try_from(declared).map_or(true, |declared| declared > limit) {
            return Err(too_large(&self.head.url));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = self.next_chunk().await? {
            if body.len() + chunk.len() > limit {
                return Err(too_large(&self.head.url));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// At most `limit` bytes of the body; the rest is dropped. For the text of an error.
    pub async fn read_body_prefix(mut self, limit: usize) -> Bytes {
        let mut body = BytesMut::new();
        while let Ok(Some(chunk)) = self.next_chunk().await {
            let remaining = limit - body.len();
            body.extend_from_slice(chunk.get(..remaining).unwrap_or(&chunk));
            if body.len() == limit {
                break;
            }
        }
        body.freeze()
    }

    /// The body as a stream without a limit, which the reader has to set.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, HttpError>> + Send {
        futures::stream::try_unfold(self, |mut answer| async move {
            Ok(answer.next_chunk().await?.map(|chunk| (chunk, answer)))
        })
        .into_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_in_seconds_or_a_date_after_that_of_the_response() {
        let date = "Wed, 21 Oct 2015 07:28:00 GMT";
        for (value, now, expected) in [
            ("30", None, Some(30)),
            (" 0 ", None, Some(0)),
            (date, Some("Wed, 21 Oct 2015 07:26:30 GMT"), Some(90)),
            (date, Some("Wed, 21 Oct 2015 07:29:00 GMT"), Some(0)),
            (date, None, None),
            ("soon", Some(date), None),
            ("-1", Some(date), None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, value.parse().expect(value));
            if let Some(now) = now {
                headers.insert(header::DATE, now.parse().expect(now));
            }
            let head = HttpResponseHead {
                status: StatusCode::TOO_MANY_REQUESTS,
                headers,
                url: "https://r.example.com/".parse().expect("valid"),
            };
            assert_eq!(
                head.retry_after(),
                expected.map(Duration::from_secs),
                "{value} {now:?}"
            );
        }
    }
}
