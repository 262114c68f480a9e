//! A request before it is sent.

use bytes::Bytes;
use futures::stream::BoxStream;
use reqwest::{
    Method,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use url::Url;

use super::Redacted;

/// A request. GET, HEAD and PUT may be repeated; POST and PATCH only after [`Request::repeatable`].
pub struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) payload: Payload,
    pub(super) repeatable: bool,
}

/// What is sent.
pub(super) enum Payload {
    Nothing,
    Bytes(Bytes),
    /// Can be sent once only, so neither a retry nor a redirect is possible.
    Stream(BoxStream<'static, std::io::Result<Bytes>>),
}

impl Request {
    /// A request without headers and body.
    pub fn new(method: Method, url: Url) -> Self {
        let repeatable = matches!(method, Method::GET | Method::HEAD | Method::PUT);
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            payload: Payload::Nothing,
            repeatable,
        }
    }

    /// `GET`.
    pub fn get(url: Url) -> Self {
        Self::new(Method::GET, url)
    }

    /// Where it goes.
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// Adds a header. A value that cannot be one is left out.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.append(name, value);
        }
        self
    }

    /// Sets `Authorization`. It reaches the URL's own origin only, whatever redirects say.
    #[must_use]
    pub fn authorization(mut self, value: &Redacted<String>) -> Self {
        if let Ok(mut value) = HeaderValue::from_str(value.expose()) {
            value.set_sensitive(true);
            self.headers.insert(header::AUTHORIZATION, value);
        }
        self
    }

    /// Sends these bytes.
    #[must_use]
    pub fn body(mut self, bytes: impl Into<Bytes>) -> Self {
        self.payload = Payload::Bytes(bytes.into());
        self
    }

    /// Sends a stream of `length` bytes.
    #[must_use]
    pub fn stream(
        mut self,
        stream: BoxStream<'static, std::io::Result<Bytes>>,
        length: u64,
    ) -> Self {
        self.payload = Payload::Stream(stream);
        self.header(header::CONTENT_LENGTH, &length.to_string())
    }

    /// Says that sending this twice does no harm.
    #[must_use]
    pub const fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    /// Says that it is not to be sent twice, whatever its method.
    #[must_use]
    pub const fn once(mut self) -> Self {
        self.repeatable = false;
        self
    }

    /// The same request again, if that is possible: a stream can be sent once only.
    pub fn again(&self) -> Option<Self> {
        let payload = match &self.payload {
            Payload::Nothing => Payload::Nothing,
            Payload::Bytes(bytes) => Payload::Bytes(bytes.clone()),
            Payload::Stream(_) => return None,
        };
        Some(Self {
            method: self.method.clone(),
            url: self.url.clone(),
            headers: self.headers.clone(),
            payload,
            repeatable: self.repeatable,
        })
    }
}
