//! A server on loopback, and hostile peers. Limits that must be reached are short, limits that must
//! not are long.

use std::{net::SocketAddr, time::Duration};

use axum::routing::{get, post};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::Notify,
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;

/// Longer than any successful step takes.
const PATIENCE: Duration = Duration::from_mins(1);
const NEVER: Duration = Duration::from_hours(1);
const SHORT: Duration = Duration::from_millis(200);

/// No timeout is reached.
const LONG: ListenerLimits = ListenerLimits {
    handshake: NEVER,
    head: NEVER,
    idle: NEVER,
    ping: (NEVER, NEVER),
    ..ListenerLimits::DEFAULT
};

struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
    /// A slow request was started.
    begun: Arc<Notify>,
}

async fn start(tls: Option<ReloadableTlsConfig>, bounds: ListenerLimits) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, stop) = (
        listener.local_addr().expect("an address"),
        CancellationToken::new(),
    );
    let begun = Arc::new(Notify::new());
    let notify = Arc::clone(&begun);
    let slow = move || {
        notify.notify_one();
        async {
            sleep(SHORT).await;
            "slow"
        }
    };
    let app = Router::new()
        .route(
            "/",
            get(
                |axum::Extension(PeerAddress(peer)): axum::Extension<PeerAddress>| async move {
                    peer.to_string()
                },
            ),
        )
        .route("/slow", get(slow))
        .route("/echo", post(|body: String| async { body }));
    let task = tokio::spawn(serve_connections(listener, tls, app, bounds, stop.clone()));
    Running {
        address,
        stop,
        task,
        begun,
    }
}

/// A connection from another loopback address.
async fn connect_from(host: u8, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, host], 0)))?;
    socket.connect(to).await
}

/// Everything until the peer closes.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut bytes))
        .await
        .expect("the connection is closed in time");
    let _ = read; // a reset is an end as well
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), path: &str) -> String {
    let asked = stream
        .write_all(
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes(),
        )
        .await;
    if asked.is_err() {
        String::new()
    } else {
        rest(stream).await
    }
}

/// A CA that issues certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let (mut params, key) = (
            CertificateParams::default(),
            KeyPair::generate().expect("a key"),
        );
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "an authority");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    fn issue(
        &self,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        )
    }

    fn tls(&self, clients: Option<&ClientCertificateVerifier>) -> ReloadableTlsConfig {
        let (chain, key) = self.issue("server", ExtendedKeyUsagePurpose::ServerAuth);
        ReloadableTlsConfig::new(
            ReloadableTlsConfig::build_server_config(chain, key, clients).expect("a configuration"),
        )
    }

    /// A client that trusts this CA.
    async fn client(
        &self,
        to: SocketAddr,
        shows: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
        protocol: &[u8],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots
            .add(
                rustls::pki_types::pem::PemObject::from_pem_slice(self.pem.as_bytes())
                    .expect("PEM"),
            )
            .expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions");
        let builder = builder.with_root_certificates(roots);
        let mut config = match shows {
            Some((chain, key)) => builder
                .with_client_auth_cert(chain, key)
                .expect("a certificate"),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::new(config))
            .connect(name, TcpStream::connect(to).await?)
            .await
    }
}

#[tokio::test]
async fn what_never_becomes_a_request_is_closed() {
    let bounds = ListenerLimits {
        handshake: SHORT,
        head: SHORT,
        ..LONG
    };
    let plain = start(None, bounds).await;
    for sent in [
        "",
        "G",
        "GET / HTTP/1.1\r\nhost: x\r\n",
        "GET / HTTP/1.1\r\nx: ",
    ] {
        let mut stream = TcpStream::connect(plain.address).await.expect("connected");
        stream.write_all(sent.as_bytes()).await.expect("sent");
        assert!(!rest(&mut stream).await.contains("200 OK"), "{sent:?}");
    }
    let authority = Authority::new();
    let tls = start(Some(authority.tls(None)), bounds).await;
    for sent in [&[][..], &[0x16, 0x03, 0x01], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = TcpStream::connect(tls.address).await.expect("connected");
        stream.write_all(sent).await.expect("sent");
        rest(&mut stream).await;
    }
    // A handshake and then silence, half a head, and HTTP/2 without a request.
    for (protocol, sent) in [
        ("http/1.1", ""),
        ("http/1.1", "GET / HT"),
        ("h2", ""),
        (
            "h2",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0",
        ),
    ] {
        // Under load the handshake itself may time out, which has the same result.
        let Ok(mut stream) = authority
            .client(tls.address, None, protocol.as_bytes())
            .await
        else {
            continue;
        };
        let _ = stream.write_all(sent.as_bytes()).await;
        rest(&mut stream).await;
    }
}

/// API servers keep connections between reviews.
#[tokio::test]
async fn a_connection_that_was_used_is_kept_for_the_next_request() {
    let running = start(
        None,
        ListenerLimits {
            head: Duration::from_secs(1),
            ..LONG
        },
    )
    .await;
    let mut stream = TcpStream::connect(running.address)
        .await
        .expect("connected");
    for _ in 0..3 {
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .expect("it is open");
        let (mut answer, mut some) = (Vec::new(), [0; 64]);
        while !answer.ends_with(b"127.0.0.1") {
            match timeout(PATIENCE, stream.read(&mut some))
                .await
                .expect("an answer in time")
                .expect("no reset")
            {
                0 => panic!("it was closed: {}", String::from_utf8_lossy(&answer)),
                count => answer.extend_from_slice(&some[..count]),
            }
        }
        sleep(Duration::from_millis(1_500)).await;
    }
}

#[tokio::test]
async fn an_idle_connection_of_http_2_is_closed() {
    let authority = Authority::new();
    let running = start(
        Some(authority.tls(None)),
        ListenerLimits {
            idle: SHORT,
            ..LONG
        },
    )
    .await;
    let stream = authority
        .client(running.address, None, b"h2")
        .await
        .expect("a handshake");
    let (mut sender, connection) = hyper::client::conn::http2::handshake::<_, _, Body>(
        TokioExecutor::new(),
        TokioIo::new(stream),
    )
    .await
    .expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let request = Request::get("https://localhost/")
        .body(Body::empty())
        .expect("a request");
    assert_eq!(
        sender
            .send_request(request)
            .await
            .expect("an answer")
            .status(),
        200
    );
    timeout(PATIENCE, connection)
        .await
        .expect("it is closed in time")
        .expect("no panic")
        .ok();
}

#[tokio::test]
async fn one_address_keeps_out_nobody_but_itself() {
    let running = start(
        None,
        ListenerLimits {
            connections: 16,
            connections_per_address: 8,
            ..LONG
        },
    )
    .await;
    let mut silent = Vec::new();
    for host in [2, 3, 4] {
        for _ in 0..40 {
            silent.push(
                connect_from(host, running.address)
                    .await
                    .expect("connected"),
            );
        }
    }
    for host in [5, 2] {
        let mut stream = connect_from(host, running.address)
            .await
            .expect("connected");
        let answer = ask(&mut stream, "/").await;
        assert!(
            answer.contains("200 OK") && answer.ends_with(&format!("127.0.0.{host}")),
            "{answer}"
        );
    }
    // The oldest connections were closed, and their peers notice.
    assert_eq!(rest(&mut silent[0]).await, "");
}

#[tokio::test]
async fn who_makes_room_is_missed_least() {
    let connections = ConnectionLimiter::new(ListenerLimits {
        connections: 4,
        connections_per_address: 3,
        ..LONG
    });
    let [one, two, three] = [1_u8, 2, 3].map(|host| IpAddr::from([127, 0, 0, host]));
    let first = connections.admit_connection(one).expect("a place");
    drop(first.activity().begin_request());
    let second = connections.admit_connection(one).expect("a place");
    let third = connections.admit_connection(one).expect("a place");
    let at_work = third.activity().begin_request();
    let fourth = connections
        .admit_connection(one)
        .expect("room at its own cost");
    assert!(
        second.eviction_token().is_cancelled(),
        "it never asked anything"
    );
    assert!(!first.eviction_token().is_cancelled() && !third.eviction_token().is_cancelled());
    let other = connections.admit_connection(two).expect("a place");
    assert_eq!(connections.count_open(), 4);
    let newcomer = connections
        .admit_connection(three)
        .expect("room at the cost of who has most");
    assert!(fourth.eviction_token().is_cancelled() && !other.eviction_token().is_cancelled());
    drop((fourth, second));
    assert_eq!(
        connections.count_open(),
        4,
        "who was evicted counts no more"
    );
    let again = connections
        .admit_connection(one)
        .expect("its own idle one makes room");
    assert!(first.eviction_token().is_cancelled());
    let busy = [
        again.activity().begin_request(),
        other.activity().begin_request(),
        newcomer.activity().begin_request(),
    ];
    assert!(
        connections.admit_connection(one).is_none() && connections.admit_connection(two).is_none(),
        "all are at work"
    );
    drop((busy, at_work, first, third, other, newcomer, again));
    assert_eq!(connections.count_open(), 0);
}

#[tokio::test]
async fn only_clients_of_the_authority_are_heard() {
    let (servers, clients, others) = (Authority::new(), Authority::new(), Authority::new());
    let names = ["kube-apiserver".to_owned(), "front-proxy".to_owned()];
    let authentication =
        ClientCertificateVerifier::new(clients.pem.as_bytes(), &names).expect("an authority");
    let running = start(Some(servers.tls(Some(&authentication))), LONG).await;
    let (client, server) = (
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    );
    for (shows, heard) in [
        (None, false),
        (Some(clients.issue("kube-apiserver", client.clone())), true),
        (Some(clients.issue("front-proxy", client.clone())), true),
        (Some(clients.issue("system:node:a", client.clone())), false),
        (Some(clients.issue("kube-apiserver", server)), false),
        (Some(others.issue("kube-apiserver", client)), false),
    ] {
        // With TLS 1.3 the client learns of its refusal when it reads.
        let answer = match servers.client(running.address, shows, b"http/1.1").await {
            Ok(mut stream) => ask(&mut stream, "/").await,
            Err(_) => String::new(),
        };
        assert_eq!(answer.contains("200 OK"), heard, "{answer}");
    }
    for wrong in [
        "",
        "no PEM",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        assert!(
            ClientCertificateVerifier::new(wrong.as_bytes(), &[]).is_err(),
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn a_new_certificate_is_shown_from_the_next_connection_on() {
    let (old, new) = (Authority::new(), Authority::new());
    let tls = old.tls(None);
    let running = start(Some(tls.clone()), LONG).await;
    let mut open = old
        .client(running.address, None, b"http/1.1")
        .await
        .expect("a handshake");
    let (chain, key) = new.issue("server", ExtendedKeyUsagePurpose::ServerAuth);
    tls.replace(
        ReloadableTlsConfig::build_server_config(chain, key, None).expect("a configuration"),
    );
    assert!(
        old.client(running.address, None, b"http/1.1")
            .await
            .is_err()
    );
    let mut next = new
        .client(running.address, None, b"http/1.1")
        .await
        .expect("a handshake");
    for stream in [&mut open, &mut next] {
        assert!(ask(stream, "/").await.contains("200 OK"));
    }
}

#[tokio::test]
async fn what_was_begun_is_finished_before_the_end() {
    let running = start(
        None,
        ListenerLimits {
            last_requests: PATIENCE,
            ..LONG
        },
    )
    .await;
    let mut stream = TcpStream::connect(running.address)
        .await
        .expect("connected");
    stream
        .write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .expect("sent");
    let mut idle = TcpStream::connect(running.address)
        .await
        .expect("connected");
    running.begun.notified().await;
    running.stop.cancel();
    assert!(rest(&mut stream).await.ends_with("slow"));
    assert_eq!(rest(&mut idle).await, "");
    timeout(PATIENCE, running.task)
        .await
        .expect("it ends")
        .expect("no panic");
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test]
async fn a_large_head_is_refused() {
    let running = start(None, LONG).await;
    for head in [
        format!("x: {}\r\n", "y".repeat(4 * MAX_HEAD)),
        "x: y\r\n".repeat(MAX_HEADERS + 1),
    ] {
        let mut stream = TcpStream::connect(running.address)
            .await
            .expect("connected");
        let _ = stream
            .write_all(format!("GET / HTTP/1.1\r\nconnection: close\r\n{head}\r\n").as_bytes())
            .await;
        let answer = rest(&mut stream).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
            "{answer}"
        );
    }
}
