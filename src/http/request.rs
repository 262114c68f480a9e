//! A request before it is sent.

use bytes::Bytes;
use futures::stream::BoxStream;
use reqwest::{
    Method,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use url::Url;

use super::Redacted;

/// A request. GET, HEAD and PUT may be retried; POST and PATCH only after
/// [`HttpRequest::allow_retries`].
pub struct HttpRequest {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) payload: HttpRequestBody,
    pub(super) repetition: HttpRepetition,
    pub(super) returns_redirects: bool,
    /// The server does long work before it answers.
    pub(super) slow_answer: bool,
}

/// When a request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HttpRepetition {
    /// After any failure.
    Always,
    /// After an answer that it was not executed.
    UnlessExecuted,
    Never,
}

/// The body of a request.
pub(super) enum HttpRequestBody {
    Nothing,
    Bytes(Bytes),
    /// Can be sent once only, so neither a retry nor a redirect is possible.
    Stream(BoxStream<'static, std::io::Result<Bytes>>),
}

impl HttpRequest {
    /// A request without headers and body.
    pub fn new(method: Method, url: Url) -> Self {
        let repetition = match method {
            Method::GET | Method::HEAD | Method::PUT => HttpRepetition::Always,
            _ => HttpRepetition::UnlessExecuted,
        };
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            payload: HttpRequestBody::Nothing,
            repetition,
            returns_redirects: false,
            slow_answer: false,
        }
    }

    /// A `GET` request.
    pub fn get(url: Url) -> Self {
        Self::new(Method::GET, url)
    }

    /// The URL of the request.
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// Adds a header. An invalid value is omitted.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.append(name, value);
        }
        self
    }

    /// Sets `Authorization`. It is sent to the URL's own origin only, also after redirects.
    #[must_use]
    pub fn with_authorization(mut self, value: &Redacted<String>) -> Self {
        if let Ok(mut value) = HeaderValue::from_str(value.expose()) {
            value.set_sensitive(true);
            self.headers.insert(header::AUTHORIZATION, value);
        }
        self
    }

    /// Sets these bytes as the body.
    #[must_use]
    pub fn body(mut self, bytes: impl Into<Bytes>) -> Self {
        self.payload = HttpRequestBody::Bytes(bytes.into());
        self
    }

    /// Sends a stream of `length` bytes.
    #[must_use]
    pub fn with_body_stream(
        mut self,
        stream: BoxStream<'static, std::io::Result<Bytes>>,
        length: u64,
    ) -> Self {
        self.payload = HttpRequestBody::Stream(stream);
        self.header(header::CONTENT_LENGTH, &length.to_string())
    }

    /// Marks the request as idempotent: it may be sent twice.
    #[must_use]
    pub const fn allow_retries(mut self) -> Self {
        self.repetition = HttpRepetition::Always;
        self
    }

    /// Forbids to send the request twice, whatever its method.
    #[must_use]
    pub const fn forbid_retries(mut self) -> Self {
        self.repetition = HttpRepetition::Never;
        self
    }

    /// Allows the server several times as long for its answer, after the last byte of the request:
    /// it stores what was sent first.
    #[must_use]
    pub const fn expect_slow_answer(mut self) -> Self {
        self.slow_answer = true;
        self
    }

    /// Returns a redirect as the response: the caller follows it, with what may be sent there.
    #[must_use]
    pub const fn return_redirects(mut self) -> Self {
        self.returns_redirects = true;
        self
    }

    /// A copy of the request, if that is possible: a stream can be sent once only.
    pub fn try_clone(&self) -> Option<Self> {
        let payload = match &self.payload {
            HttpRequestBody::Nothing => HttpRequestBody::Nothing,
            HttpRequestBody::Bytes(bytes) => HttpRequestBody::Bytes(bytes.clone()),
            HttpRequestBody::Stream(_) => return None,
        };
        Some(Self {
            method: self.method.clone(),
            url: self.url.clone(),
            headers: self.headers.clone(),
            payload,
            repetition: self.repetition,
            returns_redirects: self.returns_redirects,
            slow_answer: self.slow_answer,
        })
    }
}
