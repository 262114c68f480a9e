//! What is wrong with a TLS connection, in words, and the way out.

use std::fmt;

use jiff::Timestamp;
use rustls::{
    AlertDescription, CertificateError, Error, InvalidMessage, OtherError, pki_types::UnixTime,
};
use url::Url;

use super::ErrorAdvice;
use crate::core::display_text::sanitize_line;

/// Names in a certificate that are shown.
const MAX_SHOWN_NAMES: usize = 5;

/// What is wrong with a TLS connection. Trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// No trusted authority issued the server's certificate.
    UnknownIssuer,
    /// The server's certificate is no longer valid; since when.
    Expired(Option<Timestamp>),
    /// The server's certificate is not yet valid; from when on it is.
    NotYetValid(Option<Timestamp>),
    /// The server's certificate is for other names.
    WrongName(Vec<String>),
    /// The server's certificate has another fault.
    Certificate(String),
    /// The server speaks HTTP without TLS.
    PlainHttpServer,
    /// The server does not answer plain HTTP with HTTP, as those do that expect TLS.
    NotPlainHttpServer,
    /// The server wants a certificate of the client.
    ClientCertificate,
    /// Client and server have no version or algorithm in common, or the server refused for a reason
    /// of its own.
    Handshake(String),
}

/// A failed connection: what is wrong, and the way out for whoever reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFailure {
    /// What is wrong.
    pub fault: TlsFault,
    /// The server, `HOST[:PORT]`.
    pub host: String,
    /// Who reads the way out.
    pub advice: ErrorAdvice,
}

impl fmt::Display for TlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way_out = self.fault.way_out(&self.host, self.advice);
        write!(f, "{}{way_out}", self.fault)
    }
}

impl TlsFault {
    /// The fault behind the library's error.
    pub(super) fn from_rustls(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(error) => Self::from_certificate_error(error),
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::PlainHttpServer,
            Error::AlertReceived(AlertDescription::CertificateRequired) => Self::ClientCertificate,
            Error::AlertReceived(alert) => {
                Self::Handshake(format!("the server refused it with the alert {alert:?}"))
            }
            other => Self::Handshake(sanitize_line(&other.to_string(), 200)),
        }
    }

    fn from_certificate_error(error: &CertificateError) -> Self {
        match error {
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::Expired => Self::Expired(None),
            CertificateError::ExpiredContext { not_after, .. } => {
                Self::Expired(timestamp(*not_after))
            }
            CertificateError::NotValidYet => Self::NotYetValid(None),
            CertificateError::NotValidYetContext { not_before, .. } => {
                Self::NotYetValid(timestamp(*not_before))
            }
            CertificateError::NotValidForName => Self::WrongName(Vec::new()),
            CertificateError::NotValidForNameContext { presented, .. } => {
                let names = presented.iter().take(MAX_SHOWN_NAMES);
                Self::WrongName(names.map(|name| plain_name(name)).collect())
            }
            // An authority's certificate in the place of a server's: what `openssl req -x509`
            // makes. Who trusts it has to say so.
            CertificateError::Other(other) if is_authority_as_server(other) => Self::UnknownIssuer,
            other => Self::Certificate(sanitize_line(&other.to_string(), 200)),
        }
    }

    /// The way out for whoever reads it; empty if there is none here.
    fn way_out(&self, host: &str, advice: ErrorAdvice) -> String {
        use ErrorAdvice::{Cluster, CommandLine};
        match (self, advice) {
            (Self::UnknownIssuer, CommandLine) => {
                "; if you trust it, name its certificate authority with --ca-file FILE".into()
            }
            (Self::UnknownIssuer, Cluster) => format!(
                "; name its certificate authority: for a registry in the chart's value \
                    registries[].caRef (host: {host}), for a download in fetch.caRef of the \
                    PackedBundle"
            ),
            (Self::PlainHttpServer, CommandLine) => {
                format!(
                    "; if it is meant to be, use --plain-http={host} for a registry, and an http \
                        URL for a download"
                )
            }
            (Self::PlainHttpServer, Cluster) => format!(
                "; if it is meant to be, set plainHTTP: true in the chart's value registries[] \
                    (host: {host}) for a registry, and use an http URL for a download"
            ),
            (Self::NotPlainHttpServer, CommandLine) => {
                "; if it speaks TLS, leave out --plain-http".into()
            }
            (Self::NotPlainHttpServer, Cluster) => format!(
                "; if it speaks TLS, remove plainHTTP from the chart's value registries[] (host: \
                    {host})"
            ),
            (Self::Expired(_), _) => "; the server's certificate has to be renewed".into(),
            (Self::WrongName(_), _) => {
                "; use a name that is in the certificate, or have it issued for this one".into()
            }
            (Self::NotYetValid(_), _) => "; check the clocks".into(),
            (Self::Certificate(_) | Self::ClientCertificate | Self::Handshake(_), _) => {
                String::new()
            }
        }
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = |word: &str, time: &Option<Timestamp>| {
            time.map(|time| format!(" {word}{time}"))
                .unwrap_or_default()
        };
        match self {
            Self::UnknownIssuer => f.write_str(
                "the server's certificate was not issued by an authority that is trusted here",
            ),
            Self::Expired(end) => {
                write!(f, "the server's certificate has expired{}", day("on ", end))
            }
            Self::NotYetValid(start) => {
                write!(
                    f,
                    "the server's certificate is not yet valid{}",
                    day("before ", start)
                )
            }
            Self::WrongName(names) if names.is_empty() => {
                f.write_str("the server's certificate is not for this name")
            }
            Self::WrongName(names) => write!(
                f,
                "the server's certificate is not for this name, but for {}",
                names.join(", ")
            ),
            Self::Certificate(cause) => {
                write!(f, "the server's certificate is not accepted: {cause}")
            }
            Self::PlainHttpServer => {
                f.write_str("the server does not speak TLS, but most likely plain HTTP")
            }
            Self::NotPlainHttpServer => f.write_str("the server's answer is not plain HTTP"),
            Self::ClientCertificate => f.write_str("the server asks for a client certificate"),
            Self::Handshake(cause) => write!(f, "no TLS connection was agreed on: {cause}"),
        }
    }
}

/// `HOST[:PORT]` of a URL, as options and values name a registry.
pub(super) fn host_with_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn is_authority_as_server(error: &OtherError) -> bool {
    matches!(
        error.0.downcast_ref::<webpki::Error>(),
        Some(webpki::Error::CaUsedAsEndEntity)
    )
}

/// `DnsName("r.example.com")` as in errors of the library.
fn plain_name(name: &str) -> String {
    let inner = name
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    sanitize_line(inner.unwrap_or(name).trim_matches('"'), 100)
}

fn timestamp(time: UnixTime) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(time.as_secs()).ok()?).ok()
}
