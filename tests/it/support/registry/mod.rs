//! A small registry inside of the test process: real HTTP on a port of its own, and configured to
//! fail or to lie by a test.
//!
//! ```ignore
//! let registry = Registry::start().await;
//! registry.fault(Fault::on("GET", "/referrers/").status(403));
//! // … talk to registry.host() in plain HTTP …
//! assert_eq!(registry.requests().len(), 1);
//! ```
#![allow(
    dead_code,
    clippy::missing_const_for_fn,
    reason = "a helper of many tests: not every build uses all of it"
)]

mod fault;
mod store;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response,
    body::Incoming,
    header::{self, HeaderValue},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use packgate::core::digest::Digest;
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};

pub(crate) use fault::Fault;
use store::{Inner, problem};

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A registry that runs until it is dropped.
pub(crate) struct Registry {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

/// Its behaviour without faults.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Has the referrers API, and answers `OCI-Subject`.
    pub(crate) referrers_api: bool,
    /// Descriptors on one page of referrers.
    pub(crate) page_size: usize,
    /// Its authentication.
    pub(crate) auth: Auth,
    /// The realm in its challenges; its own `/token` by default.
    pub(crate) realm: Option<String>,
    /// Lifetime of its tokens in seconds.
    pub(crate) token_seconds: u64,
    /// Largest body of one request, in bytes.
    pub(crate) max_body: usize,
    /// The origin of its upload URLs: another registry's `http://host`, `None` for a relative
    /// `Location`.
    pub(crate) upload_origin: Option<String>,
    /// Mounts blobs from other repositories.
    pub(crate) mount: bool,
    /// Which writes of tags it accepts.
    pub(crate) tags: TagRule,
    /// How long a read of a tag shows what was there before.
    pub(crate) stale_tags: Duration,
    /// Resolves the tag `sha256-<hex>` to the manifest with that digest, as GitLab does.
    pub(crate) digest_tags: bool,
}

/// Which writes of tags a registry accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TagRule {
    /// All.
    Mutable,
    /// None that changes a tag.
    Immutable,
    /// None of a tag that exists, whatever it names.
    WriteOnce,
}

/// The authentication of a registry.
#[derive(Clone, Debug)]
pub(crate) enum Auth {
    /// Anonymous access.
    None,
    /// This user and password, on every request.
    Basic(&'static str, &'static str),
    /// A token that `/token` issued to this user and password, or to the identity token `identity`.
    Token(&'static str, &'static str),
    /// A token that `/token` issued to anyone.
    AnonymousToken,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            referrers_api: true,
            page_size: 1_000,
            auth: Auth::None,
            realm: None,
            token_seconds: 300,
            max_body: usize::MAX,
            upload_origin: None,
            mount: true,
            tags: TagRule::Mutable,
            stale_tags: Duration::ZERO,
            digest_tags: false,
        }
    }
}

/// A request that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) method: String,
    /// Path with query.
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    /// Header names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// Bytes of the body, where the handler has read it.
    pub(crate) body: Bytes,
}

#[derive(Default)]
struct State {
    inner: Mutex<Inner>,
    endless_bytes: Arc<AtomicU64>,
}

impl Registry {
    /// A registry with the referrers API and anonymous access.
    pub(crate) async fn start() -> Self {
        Self::with(Settings::default()).await
    }

    /// A registry with these settings.
    pub(crate) async fn with(settings: Settings) -> Self {
        Self::listening(Ipv4Addr::LOCALHOST.into(), settings).await
    }

    /// The same, at another address of this machine.
    pub(crate) async fn listening(address: IpAddr, settings: Settings) -> Self {
        let listener = TcpListener::bind((address, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(State {
            inner: Mutex::new(Inner {
                origin: format!("http://{address}"),
                settings,
                ..Inner::default()
            }),
            ..State::default()
        });
        let task = tokio::spawn(serve(listener, Arc::clone(&state)));
        Self {
            address,
            state,
            task,
        }
    }

    /// `127.0.0.1:PORT`, unless it listens elsewhere.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds a fault. The first one that matches a request is used.
    pub(crate) fn fault(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Removes all faults.
    pub(crate) fn heal(&self) {
        self.lock().faults.clear();
    }

    /// Changes its settings.
    pub(crate) fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.lock().settings);
    }

    /// Every request so far.
    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.lock().requests.clone()
    }

    /// The number of requests of `method` with `part` in their path.
    pub(crate) fn count(&self, method: &str, part: &str) -> usize {
        self.lock()
            .requests
            .iter()
            .filter(|r| r.method == method && r.path.contains(part))
            .count()
    }

    /// Every `Authorization` header received.
    pub(crate) fn authorizations(&self) -> Vec<String> {
        self.lock()
            .requests
            .iter()
            .filter_map(|r| r.authorization.clone())
            .collect()
    }

    /// Bytes of endless bodies that clients read.
    pub(crate) fn endless_bytes(&self) -> u64 {
        self.state.endless_bytes.load(Ordering::Relaxed)
    }

    /// Stores a blob.
    pub(crate) fn put_blob(&self, repository: &str, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of_bytes(&bytes);
        self.lock()
            .blobs
            .insert((repository.into(), digest.to_string()), bytes);
        digest
    }

    /// Stores a manifest, with a tag if one is given.
    pub(crate) fn put_manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        bytes: impl Into<Bytes>,
    ) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of_bytes(&bytes);
        let mut inner = self.lock();
        inner.manifests.insert(
            (repository.into(), digest.to_string()),
            (media_type.into(), bytes),
        );
        if let Some(tag) = tag {
            inner
                .tags
                .insert((repository.into(), tag.into()), digest.to_string());
        }
        digest
    }

    /// A blob's bytes.
    pub(crate) fn blob(&self, repository: &str, digest: &Digest) -> Option<Bytes> {
        self.lock()
            .blobs
            .get(&(repository.into(), digest.to_string()))
            .cloned()
    }

    /// A manifest's bytes by tag or digest.
    pub(crate) fn manifest(&self, repository: &str, reference: &str) -> Option<Bytes> {
        self.lock()
            .manifest(repository, reference)
            .map(|(_, _, bytes)| bytes)
    }

    /// The tags of a repository.
    pub(crate) fn tags(&self, repository: &str) -> Vec<String> {
        self.lock()
            .tags
            .keys()
            .filter(|(name, _)| name == repository)
            .map(|(_, tag)| tag.clone())
            .collect()
    }

    /// The descriptor or digest of a tag.
    pub(crate) fn tag(&self, repository: &str, tag: &str) -> Option<String> {
        self.lock()
            .tags
            .get(&(repository.into(), tag.into()))
            .cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.state.lock()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic inside")
    }
}

/// Accepts until it is aborted; its connections end with it.
async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&state), request));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<Body>, std::io::Error> {
    let method = request.method().clone();
    let path = request
        .uri()
        .path_and_query()
        .map(ToString::to_string)
        .unwrap_or_default();
    let shown = authorization(&request);
    let fault = state.lock().faults.iter_mut().find_map(|fault| {
        let takes = fault.takes(&method, &path, shown.as_deref());
        takes.then(|| fault.clone())
    });
    let position = record(&state, &request, &path);
    if let Some(delay) = fault.as_ref().and_then(|fault| fault.delay) {
        tokio::time::sleep(delay).await;
    }
    match fault {
        Some(fault) if fault.drop_connection && !fault.stored => {
            Err(std::io::Error::other("dropped"))
        }
        Some(fault) if fault.replaces() && !fault.stored => Ok(fault.respond(&state, &request)),
        fault => {
            let (uri, authorization) = (request.uri().clone(), authorization(&request));
            let max_body = state.lock().settings.max_body;
            let too_large = declared(&request) > max_body;
            let body = if too_large {
                Bytes::new()
            } else {
                request
                    .into_body()
                    .collect()
                    .await
                    .map_err(std::io::Error::other)?
                    .to_bytes()
            };
            let mut inner = state.lock();
            inner.requests[position].body = body.clone();
            let response = if too_large {
                problem(413, "TOO_LARGE")
            } else {
                inner.handle(&method, &uri, authorization.as_deref(), body)
            };
            match fault {
                Some(fault) if fault.stored => fault.lose(),
                Some(fault) => Ok(fault.damage(response)),
                None => Ok(full(response)),
            }
        }
    }
}

fn declared(request: &Request<Incoming>) -> usize {
    request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse().ok())
        .unwrap_or(0)
}

fn authorization(request: &Request<Incoming>) -> Option<String> {
    request
        .headers()
        .get(header::AUTHORIZATION)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn record(state: &State, request: &Request<Incoming>, path: &str) -> usize {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), text(value)))
        .collect();
    let recorded = Recorded {
        method: request.method().to_string(),
        path: path.into(),
        authorization: authorization(request),
        headers,
        body: Bytes::new(),
    };
    let mut inner = state.lock();
    inner.requests.push(recorded);
    inner.requests.len() - 1
}

fn full(response: Response<Bytes>) -> Response<Body> {
    response.map(|body| {
        Full::new(body)
            .map_err(|never: Infallible| match never {})
            .boxed_unsync()
    })
}
