//! TLS with registries: which certificates are trusted, and what is told of a fault.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use crate::support::{
    cli::{Run, Workspace},
    registry::Registry,
};

const NOT_FOUND: &[u8] =
    b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
/// A fatal TLS alert: record overflow, as servers answer to what is no TLS.
const ALERT: &[u8] = &[0x15, 3, 1, 0, 2, 2, 22];

/// A certificate with its key.
struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

fn parameters(name: &str, is_ca: IsCa) -> CertificateParams {
    let mut parameters = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    parameters.is_ca = is_ca;
    parameters
}

fn self_signed(parameters: &CertificateParams) -> Identity {
    let key = KeyPair::generate().expect("a key");
    let certificate = parameters.self_signed(&key).expect("a certificate");
    Identity { certificate, key }
}

fn issued_by(issuer: &Issuer<'_, KeyPair>, parameters: &CertificateParams) -> Identity {
    let key = KeyPair::generate().expect("a key");
    let certificate = parameters.signed_by(&key, issuer).expect("a certificate");
    Identity { certificate, key }
}

const fn authority() -> IsCa {
    IsCa::Ca(BasicConstraints::Unconstrained)
}

/// A server that answers 404 to everything.
struct Server {
    host: String,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn with_tls(identity: &Identity) -> Self {
        packgate::install_crypto_provider();
        let key = PrivateKeyDer::from_pem_slice(identity.key.serialize_pem().as_bytes());
        let chain: Vec<CertificateDer<'static>> = vec![identity.certificate.der().clone()];
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key.expect("a key"))
            .expect("a configuration");
        Self::start(Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    /// Without an acceptor it answers with an alert, as servers with TLS do to plain HTTP.
    async fn start(acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let host = listener.local_addr().expect("bound").to_string();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let mut request = [0; 4_096];
                if let Some(acceptor) = &acceptor {
                    if let Ok(mut stream) = acceptor.accept(socket).await {
                        let _ = stream.read(&mut request).await;
                        let _ = stream.write_all(NOT_FOUND).await;
                        let _ = stream.shutdown().await;
                    }
                } else {
                    let _ = socket.read(&mut request).await;
                    let _ = socket.write_all(ALERT).await;
                }
            }
        });
        Self {
            host,
            connections,
            task,
        }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

fn inspect(host: &str, trusted: Option<&Identity>, options: &str) -> Run {
    let workspace = Workspace::new();
    let mut line = format!("inspect {host}/team/app:v1 {options}");
    if let Some(trusted) = trusted {
        workspace.write("ca.pem", trusted.certificate.pem());
        line.push_str(" --ca-file ca.pem");
    }
    workspace.run(&line)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_no_authority_vouches_for_itself_only() {
    let ca_key = KeyPair::generate().expect("a key");
    let ca_parameters = parameters("ca.example", authority());
    let ca = Identity {
        certificate: ca_parameters.self_signed(&ca_key).expect("a certificate"),
        key: KeyPair::generate().expect("unused"),
    };
    let ca_issuer = Issuer::new(ca_parameters, ca_key);
    let leaf_parameters = parameters("127.0.0.1", IsCa::ExplicitNoCa);
    let issued = issued_by(&ca_issuer, &leaf_parameters);
    let as_openssl_makes_it = self_signed(&parameters("127.0.0.1", authority()));
    let without_authority = self_signed(&leaf_parameters);
    for (server, trusted) in [
        (&issued, &ca),
        (&issued, &issued),
        (&as_openssl_makes_it, &as_openssl_makes_it),
        (&without_authority, &without_authority),
    ] {
        let server = Server::with_tls(server).await;
        inspect(&server.host, Some(trusted), "").refused(3, "SourceNotFound");
    }
    // It vouches for no other certificate: neither its twin, nor one that its key signed.
    let key = KeyPair::generate().expect("a key");
    let certificate = leaf_parameters.self_signed(&key).expect("a certificate");
    let leaf_issuer = Issuer::new(leaf_parameters.clone(), key);
    let signed = issued_by(&leaf_issuer, &leaf_parameters);
    let trusted = Identity {
        certificate,
        key: KeyPair::generate().expect("unused"),
    };
    for server in [&signed, &without_authority, &issued] {
        let server = Server::with_tls(server).await;
        inspect(&server.host, Some(&trusted), "").refused(3, "RegistryUnavailable");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_are_told_in_words_with_the_way_out_and_not_tried_again() {
    let valid = self_signed(&parameters("127.0.0.1", authority()));
    let elsewhere = self_signed(&parameters("other.example", authority()));
    let mut past = parameters("127.0.0.1", authority());
    past.not_before = date_time_ymd(2020, 1, 1);
    past.not_after = date_time_ymd(2021, 1, 1);
    let past = self_signed(&past);
    let mut future = parameters("127.0.0.1", authority());
    future.not_before = date_time_ymd(4_000, 1, 1);
    future.not_after = date_time_ymd(4_001, 1, 1);
    let future = self_signed(&future);
    for (identity, trusted, words) in [
        (&valid, false, &["authority", "--ca-file FILE"][..]),
        (&elsewhere, true, &["but for other.example"]),
        (&past, true, &["has expired", "2021-01-01", "renewed"]),
        (&future, true, &["not yet valid", "4000-01-01", "clocks"]),
    ] {
        let server = Server::with_tls(identity).await;
        let run = inspect(&server.host, trusted.then_some(identity), "");
        run.refused(3, "RegistryUnavailable");
        for words in words {
            assert!(run.stderr.contains(words), "{words}: {}", run.stderr);
        }
        assert_eq!(server.connections(), 1, "{}", run.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_side_with_tls_and_the_other_without_is_told() {
    let plain = Registry::start().await;
    let run = inspect(&plain.host(), None, "");
    run.refused(3, "RegistryUnavailable");
    let option = format!("--plain-http={}", plain.host());
    assert!(run.stderr.contains(&option), "{}", run.stderr);
    inspect(&plain.host(), None, &option).refused(3, "SourceNotFound");
    let encrypted = Server::start(None).await;
    let run = inspect(&encrypted.host, None, "--plain-http");
    run.refused(3, "RegistryUnavailable");
    assert!(
        run.stderr.contains("leave out --plain-http"),
        "{}",
        run.stderr
    );
    assert_eq!(encrypted.connections(), 1);
}
