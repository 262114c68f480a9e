//! The limits of connections.

use std::time::Duration;

/// The limits of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerLimits {
    /// Concurrent connections.
    pub connections: usize,
    /// Concurrent connections from one address.
    pub connections_per_address: usize,
    /// Concurrent requests on one connection of HTTP/2.
    pub streams: u32,
    /// The timeout of a TLS handshake.
    pub handshake: Duration,
    /// The timeout of the first request's head.
    pub head: Duration,
    /// The idle timeout of a connection after its first request. Longer than API servers keep
    /// connections (90 s), so that they close them first.
    pub idle: Duration,
    /// The interval of HTTP/2 pings, and the timeout of their acknowledgement.
    pub ping: (Duration, Duration),
    /// How long requests in progress may take when the process ends.
    pub last_requests: Duration,
}

impl ListenerLimits {
    /// For few peers that send many requests.
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
