//! EFFECT. Accepts connections and serves HTTP on them, with a limit on all waiting and memory that
//! a peer can cause.
//!
//! Any host that reaches the port can open connections, so each wait has a timeout: the TLS
//! handshake, the head of a request, the next request. Their number is limited, for all peers and
//! for each address; the peer with the most connections loses one (`connection_limiter`). The
//! reader of a request's body limits its cost.

mod connection_limiter;
mod limits;
mod tls;

use std::{
    net::IpAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

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

use connection_limiter::{AdmittedConnection, ConnectionLimiter};
pub use limits::ListenerLimits;
pub use tls::{ClientCertificateVerifier, ReloadableTlsConfig};

/// Bytes of a request's head, and of the part of a body that is buffered over HTTP/1.1.
const MAX_HEAD: usize = 32 << 10;
/// Header fields of a request.
const MAX_HEADERS: usize = 64;
/// Bytes of a body that HTTP/2 accepts before it is read. Small: a body that waits for its turn
/// waits at the sender.
const STREAM_WINDOW: u32 = 16 << 10;
/// The same for a whole connection: the windows of all streams, so that a waiting stream never
/// blocks another.
const CONNECTION_WINDOW: u32 = 2 << 20;
/// How long a graceful shutdown of a connection may take.
const GRACEFUL_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause after the system refused a connection, for example because file descriptors are used
/// up.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// The address of the client, as an extension of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddress(pub IpAddr);

/// Serves until `stop`; then requests in progress are finished.
pub async fn serve_connections(
    listener: TcpListener,
    tls: Option<ReloadableTlsConfig>,
    app: Router,
    bounds: ListenerLimits,
    stop: CancellationToken,
) {
    let (connections, tasks, abort) = (
        ConnectionLimiter::new(bounds),
        TaskTracker::new(),
        CancellationToken::new(),
    );
    let server = Arc::new(ConnectionServer {
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
                if let Some(connection) = connections.admit_connection(peer.ip().to_canonical()) {
                    let server = Arc::clone(&server);
                    tasks.spawn(async move { server.handle_connection(stream, connection).await });
                }
            }
            Err(error) => {
                tracing::debug!(%error, "accepting a connection failed");
                sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
    drop(listener);
    tasks.close();
    if timeout(bounds.last_requests, tasks.wait()).await.is_err() {
        abort.cancel();
    }
}

struct ConnectionServer {
    tls: Option<ReloadableTlsConfig>,
    app: Router,
    bounds: ListenerLimits,
    stop: CancellationToken,
    abort: CancellationToken,
}

impl ConnectionServer {
    async fn handle_connection(&self, stream: TcpStream, connection: AdmittedConnection) {
        // Without it the first response on each connection waits for an acknowledgement, some 40
        // ms.
        let _ = stream.set_nodelay(true);
        let evicted = connection.eviction_token();
        let served = async {
            let Some(tls) = &self.tls else {
                return self.serve_http1(stream, connection).await;
            };
            match timeout(
                self.bounds.handshake,
                TlsAcceptor::from(tls.current()).accept(stream),
            )
            .await
            {
                Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                    self.serve_http2(stream, connection).await;
                }
                Ok(Ok(stream)) => self.serve_http1(stream, connection).await,
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake timed out"),
            }
        };
        tokio::select! {
            () = served => (),
            () = evicted.cancelled() => tracing::debug!("a connection was evicted: the connection limit is reached"),
            () = self.abort.cancelled() => (),
        }
    }

    async fn serve_http1(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        connection: AdmittedConnection,
    ) {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            // This timeout also runs between requests. API servers speak HTTP/1.1 to webhooks and
            // keep connections for 90 s: closing one during a review denies that review. The first
            // head has a shorter timeout, by `ConnectionLifetime`.
            .header_read_timeout(self.bounds.idle)
            .max_buf_size(MAX_HEAD)
            .max_header_size(MAX_HEAD)
            .max_headers(MAX_HEADERS);
        let requests = self.request_service(&connection);
        let serving = builder.serve_connection(TokioIo::new(stream), requests);
        self.serve_until_closed(serving, http1::Connection::graceful_shutdown, &connection)
            .await;
    }

    async fn serve_http2(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        connection: AdmittedConnection,
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
        let requests = self.request_service(&connection);
        let serving = builder.serve_connection(TokioIo::new(stream), requests);
        self.serve_until_closed(serving, http2::Connection::graceful_shutdown, &connection)
            .await;
    }

    /// Polls a connection until it is closed, or its time is over.
    async fn serve_until_closed<C: Future>(
        &self,
        serving: C,
        shut_down: impl Fn(Pin<&mut C>),
        connection: &AdmittedConnection,
    ) {
        let mut serving = pin!(serving);
        let mut life = ConnectionLifetime::new(connection, self.bounds);
        loop {
            tokio::select! {
                _ = serving.as_mut() => return,
                ending = life.wait_for_shutdown(&self.stop) => match ending {
                    ConnectionShutdown::Graceful => shut_down(serving.as_mut()),
                    ConnectionShutdown::Immediate => return,
                },
            }
        }
    }

    /// Serves requests, passes on the address of the peer, and marks them as in progress.
    fn request_service(
        &self,
        connection: &AdmittedConnection,
    ) -> impl Service<
        Request<Incoming>,
        Response = hyper::Response<Body>,
        Error = std::convert::Infallible,
        Future: Send + 'static,
    > + use<> {
        let (app, activity, peer) = (
            TowerToHyperService::new(self.app.clone()),
            connection.activity(),
            PeerAddress(connection.address()),
        );
        service_fn(move |request: Request<Incoming>| {
            let under_way = activity.begin_request();
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            let responding = app.call(request);
            async move {
                let response = responding.await;
                drop(under_way);
                response
            }
        })
    }
}

/// How a connection is ended.
enum ConnectionShutdown {
    /// Requests in progress are finished.
    Graceful,
    /// Immediately.
    Immediate,
}

/// When a connection has to end.
struct ConnectionLifetime<'a> {
    connection: &'a AdmittedConnection,
    bounds: ListenerLimits,
    next_check: Instant,
    /// A graceful shutdown was started because the connection was idle.
    idle_shutdown_sent: bool,
    /// A graceful shutdown was started because the process ends.
    stopped: bool,
}

impl<'a> ConnectionLifetime<'a> {
    fn new(connection: &'a AdmittedConnection, bounds: ListenerLimits) -> Self {
        Self {
            connection,
            bounds,
            next_check: Instant::now() + bounds.head.min(bounds.idle),
            idle_shutdown_sent: false,
            stopped: false,
        }
    }

    async fn wait_for_shutdown(&mut self, stop: &CancellationToken) -> ConnectionShutdown {
        loop {
            tokio::select! {
                () = stop.cancelled(), if !self.stopped => {
                    self.stopped = true;
                    return ConnectionShutdown::Graceful;
                }
                () = sleep_until(self.next_check) => match self.connection.activity().next_idle_check(self.bounds) {
                    Some(later) => (self.next_check, self.idle_shutdown_sent) = (later, false),
                    None if self.idle_shutdown_sent || !self.connection.activity().has_answered() => return ConnectionShutdown::Immediate,
                    None => {
                        (self.next_check, self.idle_shutdown_sent) = (Instant::now() + GRACEFUL_CLOSE_TIMEOUT, true);
                        return ConnectionShutdown::Graceful;
                    }
                },
            }
        }
    }
}

#[cfg(test)]
mod tests;
