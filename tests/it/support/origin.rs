//! Origins as companies have them, with TLS, credentials and client certificates; and a proxy. Real
//! servers on this machine, each on a port of its own, with the heads of the requests that arrived.
#![allow(
    dead_code,
    reason = "a helper of several tests: not each of them uses all of it"
)]

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

/// What every origin serves.
pub(crate) const RULES: &str = "rules of a company\n";

/// A certificate authority for servers and clients.
pub(crate) struct Pki {
    pub(crate) ca: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        Self {
            ca: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate of this name, and its key, both in PEM.
    pub(crate) fn certificate(
        &self,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
    ) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    fn server_config(&self, name: &str, wants_client: bool) -> ServerConfig {
        let (certificate, key) = self.certificate(name, ExtendedKeyUsagePurpose::ServerAuth);
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")];
        let key = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
        let builder = ServerConfig::builder();
        let builder = if wants_client {
            let mut roots = RootCertStore::empty();
            let ca = CertificateDer::from_pem_slice(self.ca.as_bytes()).expect("PEM");
            roots.add(ca).expect("a root");
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        } else {
            builder.with_no_client_auth()
        };
        builder
            .with_single_cert(chain, PrivateKeyDer::Pkcs8(key))
            .expect("a configuration")
    }
}

/// What an origin wants to see.
#[derive(Clone, Debug)]
pub(crate) enum Demand {
    Nothing,
    /// This value of `Authorization`.
    Authorization(&'static str),
    /// A certificate of its authority.
    ClientCertificate,
}

/// The heads of requests, in lower case but for their values.
type Heads = Arc<Mutex<Vec<String>>>;

/// An origin that runs until the tests end.
pub(crate) struct Origin {
    address: SocketAddr,
    scheme: &'static str,
    heads: Heads,
}

impl Origin {
    /// An origin on loopback, with TLS if there is an authority.
    pub(crate) fn start(pki: Option<&Pki>, demand: Demand) -> Self {
        Self::listening(Ipv4Addr::LOCALHOST.into(), pki, demand)
    }

    /// The same, at another address of this machine.
    pub(crate) fn listening(address: IpAddr, pki: Option<&Pki>, demand: Demand) -> Self {
        let listener = TcpListener::bind((address, 0)).expect("a port");
        let address = listener.local_addr().expect("bound");
        let wants_client = matches!(demand, Demand::ClientCertificate);
        let tls =
            pki.map(|pki| Arc::new(pki.server_config(&address.ip().to_string(), wants_client)));
        let heads = Heads::default();
        let (seen, scheme) = (
            Arc::clone(&heads),
            if tls.is_some() { "https" } else { "http" },
        );
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let (tls, demand, seen) = (tls.clone(), demand.clone(), Arc::clone(&seen));
                // A client that goes away is none of our business.
                thread::spawn(move || match tls {
                    Some(config) => {
                        let session = ServerConnection::new(config).expect("a session");
                        let mut stream = StreamOwned::new(session, connection);
                        if answer(&mut stream, &demand, &seen).is_ok() {
                            stream.conn.send_close_notify();
                            return stream.flush();
                        }
                        // An alert would be lost if the connection ended with unread bytes.
                        let _ = stream.flush();
                        let patience = std::time::Duration::from_millis(300);
                        stream.sock.set_read_timeout(Some(patience))?;
                        std::io::copy(&mut stream.sock, &mut std::io::sink()).map(drop)
                    }
                    None => answer(&mut { connection }, &demand, &seen),
                });
            }
        });
        Self {
            address,
            scheme,
            heads,
        }
    }

    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// The heads of all requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no panic").clone()
    }
}

fn answer(stream: &mut (impl Read + Write), demand: &Demand, seen: &Heads) -> std::io::Result<()> {
    let head = read_head(stream)?;
    let authorization = fields(&head).remove("authorization");
    seen.lock().expect("no panic").push(head);
    let (status, body) = match demand {
        Demand::Authorization(wanted) if authorization.as_deref() != Some(*wanted) => {
            ("401 Unauthorized", "")
        }
        _ => ("200 OK", RULES),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    stream.flush()
}

/// A proxy for `CONNECT` and for URLs, which runs until the tests end.
pub(crate) struct Proxy {
    address: SocketAddr,
    heads: Heads,
}

impl Proxy {
    /// A proxy on loopback that wants this value of `Proxy-Authorization`, or nothing.
    pub(crate) fn start(wanted: Option<&'static str>) -> Self {
        Self::listening(Ipv4Addr::LOCALHOST.into(), wanted)
    }

    /// The same, at another address of this machine.
    pub(crate) fn listening(address: IpAddr, wanted: Option<&'static str>) -> Self {
        Self::in_front_of(address, wanted, None)
    }

    /// The same, with everything forwarded to this server, whatever it is called.
    pub(crate) fn in_front_of(
        address: IpAddr,
        wanted: Option<&'static str>,
        server: Option<&Origin>,
    ) -> Self {
        let server = server.map(Origin::host);
        let listener = TcpListener::bind((address, 0)).expect("a port");
        let address = listener.local_addr().expect("bound");
        let heads = Heads::default();
        let seen = Arc::clone(&heads);
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let (seen, server) = (Arc::clone(&seen), server.clone());
                thread::spawn(move || forward(connection, wanted, server.as_deref(), &seen));
            }
        });
        Self { address, heads }
    }

    /// `http://HOST:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// The heads of all requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no panic").clone()
    }
}

fn forward(
    mut client: TcpStream,
    wanted: Option<&str>,
    server: Option<&str>,
    seen: &Heads,
) -> std::io::Result<()> {
    let head = read_head(&mut client)?;
    seen.lock().expect("no panic").push(head.clone());
    let shown = fields(&head).remove("proxy-authorization");
    if wanted.is_some() && shown.as_deref() != wanted {
        return client.write_all(
            b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"p\"\r\n\
                Content-Length: 0\r\nConnection: close\r\n\r\n",
        );
    }
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    if method == "CONNECT" {
        let server = TcpStream::connect(server.unwrap_or(target))?;
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        let (mut up, mut down) = (server.try_clone()?, client.try_clone()?);
        thread::spawn(move || std::io::copy(&mut { client }, &mut up));
        std::io::copy(&mut { server }, &mut down)?;
        return down.shutdown(std::net::Shutdown::Both);
    }
    let rest = target.strip_prefix("http://").unwrap_or(target);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut server = TcpStream::connect(server.unwrap_or(host))?;
    let lines = head
        .lines()
        .skip(1)
        .filter(|line| !line.is_empty() && !line.to_ascii_lowercase().starts_with("proxy-"));
    let lines = lines.collect::<Vec<_>>().join("\r\n");
    write!(server, "{method} /{path} HTTP/1.1\r\n{lines}\r\n\r\n")?;
    std::io::copy(&mut server, &mut client)?;
    Ok(())
}

/// The head of a request, without the empty line after it.
fn read_head(stream: &mut impl Read) -> std::io::Result<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    Ok(String::from_utf8_lossy(&head).trim_end().to_owned())
}

/// Header fields, by name in lower case.
pub(crate) fn fields(head: &str) -> BTreeMap<String, String> {
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect()
}
