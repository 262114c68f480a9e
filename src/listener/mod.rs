//! EFFECT. Accepts connections and serves HTTP on them, with a bound on everything that a peer can
//! make it wait for or keep.
//!
//! Whoever reaches the port can open connections, so nothing of one is waited for without an end:
//! not its TLS handshake, not the head of a request, not its next request. Their number is bounded,
//! for all peers and for each address; who holds the most makes room ([`connections`]). What a
//! request's body may cost is bounded by who reads it.

mod connections;
mod tls;

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use hyper::{
    Request,
    body::Incoming,
    server::conn::{http1, http2},
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use connections::{Connection, Connections};
pub use tls::{ClientAuthentication, ClientError, Tls};

/// Bytes of a request's head, and of what is read ahead of a body over HTTP/1.1.
const MAX_HEAD: usize = 32 << 10;
/// Header fields of a request.
const MAX_HEADERS: usize = 64;
/// Bytes of a body that HTTP/2 sends before anybody asked for them. Small: a body that waits for
/// its turn waits at the sender.
const STREAM_WINDOW: u32 = 16 << 10;
/// The same for a whole connection: every stream's, so that one that waits never stops another.
const CONNECTION_WINDOW: u32 = 2 << 20;
/// How long a connection may take to end that was told to.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Pause after the system refused a connection, for example because files are used up.
const AFTER_REFUSAL: Duration = Duration::from_millis(50);

/// What connections may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once from one address.
    pub connections_per_address: usize,
    /// Requests at once on one connection of HTTP/2.
    pub streams: u32,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long the head of the first request may take.
    pub head: Duration,
    /// How long a connection lives without a request, once it has had one. Longer than API servers
    /// keep it (90 s), so that it is they who close it.
    pub idle: Duration,
    /// How often an HTTP/2 peer is asked whether it is there, and how long it may take to say so.
    pub ping: (Duration, Duration),
    /// How long requests that were begun may take when the process is to end.
    pub last_requests: Duration,
}

impl Bounds {
    /// For few peers that ask often.
    pub const DEFAULT: Self = Self {
        connections: 512,
        connections_per_address: 128,
        streams: 100,
        handshake: Duration::from_secs(10),
        head: Duration::from_secs(10),
        idle: Duration::from_mins(2),
        ping: (Duration::from_secs(30), Duration::from_secs(10)),
        last_requests: Duration::from_secs(5),
    };
}

/// Who sent a request. An extension of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// Serves until `stop`; then requests that were begun are finished.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    app: Router,
    bounds: Bounds,
    stop: CancellationToken,
) {
    let (connections, tasks, abort) = (
        Connections::new(bounds),
        TaskTracker::new(),
        CancellationToken::new(),
    );
    let server = Arc::new(Server {
        tls,
        app,
        bounds,
        stop: stop.clone(),
        abort: abort.clone(),
    });
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                if let Some(connection) = connections.admit(peer.ip().to_canonical()) {
                    let server = Arc::clone(&server);
                    tasks.spawn(async move { server.connection(stream, connection).await });
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                sleep(AFTER_REFUSAL).await;
            }
        }
    }
    drop(listener);
    tasks.close();
    if timeout(bounds.last_requests, tasks.wait()).await.is_err() {
        abort.cancel();
    }
}

struct Server {
    tls: Option<Tls>,
    app: Router,
    bounds: Bounds,
    stop: CancellationToken,
    abort: CancellationToken,
}

impl Server {
    async fn connection(&self, stream: TcpStream, connection: Connection) {
        // Without it the first answer of each connection waits for an acknowledgement, some 40 ms.
        let _ = stream.set_nodelay(true);
        let evicted = connection.evicted();
        let served = async {
            let Some(tls) = &self.tls else {
                return self.http1(stream, connection).await;
            };
            match timeout(
                self.bounds.handshake,
                TlsAcceptor::from(tls.current()).accept(stream),
            )
            .await
            {
                Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                    self.http2(stream, connection).await
                }
                Ok(Ok(stream)) => self.http1(stream, connection).await,
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake took too long"),
            }
        };
        tokio::select! {
            () = served => (),
            () = evicted.cancelled() => tracing::debug!("a connection made room for another"),
            () = self.abort.cancelled() => (),
        }
    }

    async fn http1(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        connection: Connection,
    ) {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            // It runs between requests, too. API servers speak HTTP/1.1 to webhooks and keep
            // connections for 90 s: one that is closed under a review is a refusal. The first head
            // has less time, by `Life`.
            .header_read_timeout(self.bounds.idle)
            .max_buf_size(MAX_HEAD)
            .max_header_size(MAX_HEAD)
            .max_headers(MAX_HEADERS);
        let mut serving = std::pin::pin!(
            builder.serve_connection(TokioIo::new(stream), self.service(&connection))
        );
        let mut life = Life::new(&connection, self.bounds);
        loop {
            tokio::select! {
                _ = serving.as_mut() => return,
                ending = life.ends(&self.stop) => match ending {
                    Ending::Graceful => serving.as_mut().graceful_shutdown(),
                    Ending::Now => return,
                },
            }
        }
    }

    async fn http2(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        connection: Connection,
    ) {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.bounds.streams)
            .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(MAX_HEAD)
            .keep_alive_interval(self.bounds.ping.0)
            .keep_alive_timeout(self.bounds.ping.1);
        let mut serving = std::pin::pin!(
            builder.serve_connection(TokioIo::new(stream), self.service(&connection))
        );
        let mut life = Life::new(&connection, self.bounds);
        loop {
            tokio::select! {
                _ = serving.as_mut() => return,
                ending = life.ends(&self.stop) => match ending {
                    Ending::Graceful => serving.as_mut().graceful_shutdown(),
                    Ending::Now => return,
                },
            }
        }
    }

    /// Answers requests, tells them who asks, and notes that they are under way.
    fn service(
        &self,
        connection: &Connection,
    ) -> impl Service<
        Request<Incoming>,
        Response = hyper::Response<Body>,
        Error = std::convert::Infallible,
        Future: Send + 'static,
    > + use<> {
        let (app, activity, peer) = (
            TowerToHyperService::new(self.app.clone()),
            connection.activity(),
            Peer(connection.address()),
        );
        service_fn(move |request: Request<Incoming>| {
            let under_way = activity.begin();
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            let answering = app.call(request);
            async move {
                let answer = answering.await;
                drop(under_way);
                answer
            }
        })
    }
}

/// How a connection is ended.
enum Ending {
    /// What was begun is finished.
    Graceful,
    /// At once.
    Now,
}

/// When a connection is to end.
struct Life<'a> {
    connection: &'a Connection,
    bounds: Bounds,
    look: Instant,
    /// It was told to end, because nothing came.
    told: bool,
    /// It was told to end, because the process does.
    stopped: bool,
}

impl<'a> Life<'a> {
    fn new(connection: &'a Connection, bounds: Bounds) -> Self {
        Self {
            connection,
            bounds,
            look: Instant::now() + bounds.head.min(bounds.idle),
            told: false,
            stopped: false,
        }
    }

    async fn ends(&mut self, stop: &CancellationToken) -> Ending {
        loop {
            tokio::select! {
                () = stop.cancelled(), if !self.stopped => {
                    self.stopped = true;
                    return Ending::Graceful;
                }
                () = sleep_until(self.look) => match self.connection.activity().due(self.bounds) {
                    Some(later) => (self.look, self.told) = (later, false),
                    None if self.told || !self.connection.activity().has_answered() => return Ending::Now,
                    None => {
                        (self.look, self.told) = (Instant::now() + LAST_WORDS, true);
                        return Ending::Graceful;
                    }
                },
            }
        }
    }
}

#[cfg(test)]
mod tests;
