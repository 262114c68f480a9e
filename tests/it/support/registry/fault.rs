//! Injectable faults.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::{self, HeaderName, HeaderValue},
};
use packgate::core::digest::Digest;
use serde_json::json;

use super::{Body, State, authorization};

/// What a response without the registry contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Content {
    /// The given body.
    #[default]
    Body,
    /// Bytes without end.
    Endless,
    /// An error that repeats the request's `Authorization`.
    Echo,
}

/// A fault for requests of one method whose path contains a text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fault {
    method: &'static str,
    part: String,
    shown: Option<String>,
    left: Option<u32>,
    skip: u32,
    status: Option<u16>,
    headers: Vec<(String, String)>,
    body: Option<Bytes>,
    flip: Option<usize>,
    cut: Option<usize>,
    content: Content,
    pause: Duration,
    /// The registry does what it is asked before the fault.
    pub(super) stored: bool,
    pub(super) drop_connection: bool,
    pub(super) delay: Option<Duration>,
}

impl Fault {
    /// For requests of `method` (`*` for all) whose path and query contain `part`.
    pub(crate) fn on(method: &'static str, part: impl Into<String>) -> Self {
        Self {
            method,
            part: part.into(),
            ..Self::default()
        }
    }

    /// Only for requests with this `Authorization`.
    pub(crate) fn when_shown(mut self, authorization: impl Into<String>) -> Self {
        self.shown = Some(authorization.into());
        self
    }

    /// Only the first `n` times.
    pub(crate) fn times(mut self, n: u32) -> Self {
        self.left = Some(n);
        self
    }

    /// Not the first `n` times.
    pub(crate) fn after(mut self, n: u32) -> Self {
        self.skip = n;
        self
    }

    /// Answers with this status, doing nothing.
    pub(crate) fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Sets a header of the answer.
    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Answers with this body.
    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Redirects the client.
    pub(crate) fn redirect(self, status: u16, to: impl Into<String>) -> Self {
        self.status(status).header("location", to)
    }

    /// Changes one byte of the body.
    pub(crate) fn flip(mut self, at: usize) -> Self {
        self.flip = Some(at);
        self
    }

    /// Breaks the connection after `n` bytes of the body.
    pub(crate) fn cut(mut self, n: usize) -> Self {
        self.cut = Some(n);
        self
    }

    /// Sends an endless body, without a length.
    pub(crate) fn endless(mut self) -> Self {
        self.content = Content::Endless;
        self
    }

    /// Sends an endless body, a little at a time.
    pub(crate) fn drip(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self.endless()
    }

    /// Answers an error whose message repeats the request's `Authorization`.
    pub(crate) fn echo(mut self, status: u16) -> Self {
        self.content = Content::Echo;
        self.status = Some(status);
        self
    }

    /// The registry does what it was asked for, and the fault is in its answer.
    pub(crate) fn stored(mut self) -> Self {
        self.stored = true;
        self
    }

    /// Closes the connection without a response.
    pub(crate) fn drop_connection(mut self) -> Self {
        self.drop_connection = true;
        self
    }

    /// Waits before answering.
    pub(crate) fn delay(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// Claims another digest in `Docker-Content-Digest`.
    pub(crate) fn lying_digest(self) -> Self {
        self.header(
            "docker-content-digest",
            Digest::of_bytes(b"a lie").to_string(),
        )
    }

    pub(super) const fn replaces(&self) -> bool {
        self.status.is_some() || self.body.is_some() || matches!(self.content, Content::Endless)
    }

    pub(super) fn takes(&mut self, method: &Method, path: &str, shown: Option<&str>) -> bool {
        let meant = (self.method == "*" || self.method == method.as_str())
            && path.contains(&self.part)
            && self
                .shown
                .as_deref()
                .is_none_or(|meant| shown == Some(meant))
            && self.left != Some(0);
        if meant && self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        if meant {
            self.left = self.left.map(|left| left - 1);
        }
        meant
    }
}

impl Fault {
    /// A response without the registry.
    pub(super) fn respond(&self, state: &State, request: &Request<Incoming>) -> Response<Body> {
        let mut response = Response::new(self.replacement(state, request));
        *response.status_mut() =
            StatusCode::from_u16(self.status.unwrap_or(200)).expect("a status");
        if let (Some(_), Some(body)) = (self.cut, &self.body) {
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, body.len().into());
        }
        self.set_headers(&mut response);
        response
    }

    fn replacement(&self, state: &State, request: &Request<Incoming>) -> Body {
        if self.content == Content::Endless {
            let sent = Arc::clone(&state.endless_bytes);
            let pause = self.pause;
            let piece = Bytes::from(vec![b' '; if pause.is_zero() { 64 << 10 } else { 1 }]);
            let pieces = stream::repeat(piece).then(move |piece| {
                sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
                async move {
                    tokio::time::sleep(pause).await;
                    Ok(Frame::data(piece))
                }
            });
            return StreamBody::new(pieces).boxed_unsync();
        }
        let body = if self.content == Content::Echo {
            let shown = authorization(request).unwrap_or_default();
            let decoded = shown
                .strip_prefix("Basic ")
                .and_then(|s| STANDARD.decode(s).ok())
                .unwrap_or_default();
            let message = format!(
                "you sent {shown}, which is {}",
                String::from_utf8_lossy(&decoded)
            );
            json!({"errors": [{"code": "DENIED", "message": message}]})
                .to_string()
                .into()
        } else {
            self.body.clone().unwrap_or_default()
        };
        if let Some(at) = self.cut {
            return cut(&body, at);
        }
        Full::new(body)
            .map_err(|never: Infallible| match never {})
            .boxed_unsync()
    }

    /// The answer in place of the registry's, which has done its part.
    pub(super) fn lose(&self) -> Result<Response<Body>, std::io::Error> {
        if self.drop_connection {
            return Err(std::io::Error::other("dropped"));
        }
        let body = Full::new(Bytes::new()).map_err(|never: Infallible| match never {});
        let mut response = Response::new(body.boxed_unsync());
        *response.status_mut() =
            StatusCode::from_u16(self.status.unwrap_or(500)).expect("a status");
        Ok(response)
    }

    /// The registry's own response, changed.
    pub(super) fn damage(&self, response: Response<Bytes>) -> Response<Body> {
        let (parts, body) = response.into_parts();
        let mut bytes = body.to_vec();
        if let Some(byte) = self.flip.and_then(|at| bytes.get_mut(at)) {
            *byte ^= 1;
        }
        let body = match self.cut {
            Some(at) => cut(&bytes, at),
            None => Full::new(Bytes::from(bytes.clone()))
                .map_err(|never: Infallible| match never {})
                .boxed_unsync(),
        };
        let mut response = Response::from_parts(parts, body);
        if self.cut.is_some() && !response.headers().contains_key(header::CONTENT_LENGTH) {
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, bytes.len().into());
        }
        self.set_headers(&mut response);
        response
    }

    fn set_headers(&self, response: &mut Response<Body>) {
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
            response
                .headers_mut()
                .insert(name, HeaderValue::from_str(value).expect("a header value"));
        }
    }
}

/// The first bytes, then a broken connection. The pause lets the bytes out first.
fn cut(bytes: &[u8], at: usize) -> Body {
    let first = Bytes::copy_from_slice(&bytes[..at.min(bytes.len())]);
    let broken = stream::once(async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Err(std::io::Error::other("cut"))
    });
    StreamBody::new(stream::iter([Ok(Frame::data(first))]).chain(broken)).boxed_unsync()
}
