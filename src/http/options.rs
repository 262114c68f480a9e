//! Options of the HTTP client.

use std::time::Duration;

use bytes::Bytes;
use url::Url;

use super::{AddressPolicy, MinTransferRate, Redacted};

/// The options of a client. Each limit names the attack or fault that it stops.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// CA certificates in PEM that are trusted in addition to the system's. Default: none.
    pub extra_ca_pem: Option<Bytes>,
    /// The proxy. Default: the system's settings; under [`AddressPolicy::Cluster`] only what is set
    /// here.
    pub proxy: HttpProxy,
    /// Timeout of a connection with its TLS handshake. Default: 10 s. Stops waiting for a host that
    /// does not respond.
    pub connect_timeout: Duration,
    /// The longest wait without a byte in either direction. Default: 60 s. Stops waiting for a
    /// server that hangs.
    pub idle_timeout: Duration,
    /// Timeout of one small response (manifest, list, token), from the request to its last byte.
    /// Default: 60 s. Stops a response that arrives in tiny parts.
    pub response_timeout: Duration,
    /// The minimum transfer rate of a body of any length. Default: none. Stops an endless response
    /// in tiny parts.
    pub min_transfer_rate: Option<MinTransferRate>,
    /// How much an error reveals about a failed connection.
    pub connection_error_detail: ConnectionErrorDetail,
    /// Which ways out errors name.
    pub error_advice: ErrorAdvice,
    /// The retries of idempotent requests.
    pub retries: HttpRetryPolicy,
    /// The addresses that may be reached.
    pub addresses: AddressPolicy,
}

/// How much an error reveals about a failed connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectionErrorDetail {
    /// The full cause: refused, timed out, unknown name, invalid certificate.
    #[default]
    FullCause,
    /// Only that it failed. The user may have chosen the address, and may be outside of this
    /// network: the cause would reveal which ports are open there. It is logged.
    OutcomeOnly,
}

/// Which ways out errors name: those of the one who reads them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorAdvice {
    /// Options of the command line.
    #[default]
    CommandLine,
    /// Values of the chart.
    Cluster,
}

/// The proxy. The [`AddressPolicy`] applies to a proxy's address too: otherwise anyone who may name
/// one could reach every address.
#[derive(Clone, Debug, Default)]
pub enum HttpProxy {
    /// As in `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.
    #[default]
    System,
    /// No proxy.
    Direct,
    /// This proxy.
    Through {
        /// `http://proxy.example.com:3128`.
        address: Url,
        /// User name and password.
        credentials: Option<(String, Redacted<String>)>,
        /// Hosts that are contacted directly, in the form of `NO_PROXY`.
        except: String,
    },
}

/// Retries of idempotent requests: on connections that fail, and on HTTP 429, 500, 502, 503 and
/// 504.
#[derive(Clone, Copy, Debug)]
pub struct HttpRetryPolicy {
    /// The number of attempts, including the first. Default: 3.
    pub attempts: u32,
    /// The wait before the second attempt; it doubles each time, with jitter. Default: 200 ms.
    pub first_wait: Duration,
    /// The longest `Retry-After` that is followed; a longer one ends the attempts. Default: 10 s.
    pub longest_wait: Duration,
    /// The maximum total of waits of one request. Default: 20 s.
    pub budget: Duration,
}

impl Default for HttpRetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 3,
            first_wait: Duration::from_millis(200),
            longest_wait: Duration::from_secs(10),
            budget: Duration::from_secs(20),
        }
    }
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            extra_ca_pem: None,
            proxy: HttpProxy::System,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(1),
            response_timeout: Duration::from_mins(1),
            min_transfer_rate: None,
            connection_error_detail: ConnectionErrorDetail::FullCause,
            error_advice: ErrorAdvice::CommandLine,
            retries: HttpRetryPolicy::default(),
            addresses: AddressPolicy::Any,
        }
    }
}
