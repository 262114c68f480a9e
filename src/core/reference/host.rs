//! The canonical form of a registry's host.
//!
//! Names of the same server have one canonical form: otherwise a policy for one name would not
//! govern the other. Names that a runtime could parse as an address are refused unless they are in
//! the standard notation (RFC 3986 3.2.2, RFC 5952): the resolver of one runtime reads `0x7f.1` as
//! 127.0.0.1, another resolves it as a host name.

use std::{
    borrow::Cow,
    net::{Ipv4Addr, Ipv6Addr},
};

/// Docker Hub's name in containerd.
pub(in crate::core) const DOCKER_HUB: &str = "docker.io";
/// The other names of the registry of Docker Hub.
const DOCKER_HUB_ALIASES: [&str; 3] = [
    "index.docker.io",
    "registry-1.docker.io",
    "registry.hub.docker.com",
];

/// The names of the runtime's own machine.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Why text is not a valid registry host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum RegistryHostError {
    #[error("write a name or an address and, if need be, a port")]
    Malformed,
    #[error("write an IPv4 address as four decimal numbers up to 255 without leading zeros")]
    Number,
    #[error("this IPv6 address embeds an IPv4 address, write the IPv4 address")]
    Ipv4InIpv6,
    #[error("this is the unspecified address, write the address of the registry")]
    Unspecified,
}

/// The canonical form: lower case, no final dot, no `:443`, IPv6 addresses in the form of RFC 5952,
/// one name for Docker Hub.
pub fn canonical_host(host: &str) -> Result<String, RegistryHostError> {
    let lower = host.to_ascii_lowercase();
    let (name, port) = split_port(&lower).ok_or(RegistryHostError::Malformed)?;
    let name = canonical_host_name(name)?;
    // Without its port, upper case or final dot, a name of one label would be parsed as a path on
    // Docker Hub.
    match port {
        Some(port) if port != 443 || !looks_like_host(&name) => Ok(format!("{name}:{port}")),
        None if !looks_like_host(&name) => Err(RegistryHostError::Malformed),
        _ if DOCKER_HUB_ALIASES.contains(&name.as_str()) => Ok(DOCKER_HUB.to_owned()),
        _ => Ok(name),
    }
}

/// The canonical form of a host without its port, in lower case.
pub(in crate::core) fn canonical_host_name(name: &str) -> Result<String, RegistryHostError> {
    if let Some(address) = name.strip_prefix('[') {
        return canonical_ipv6(
            address
                .strip_suffix(']')
                .ok_or(RegistryHostError::Malformed)?,
        );
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    if !name.split('.').all(is_dns_label) {
        return Err(RegistryHostError::Malformed);
    }
    if name.split('.').all(is_numeric_label) {
        let address: Ipv4Addr = name.parse().map_err(|_| RegistryHostError::Number)?;
        return if address.octets()[0] == 0 {
            Err(RegistryHostError::Unspecified)
        } else {
            Ok(address.to_string())
        };
    }
    Ok(name.to_owned())
}

/// Every alias of a canonical host, itself first, for patterns.
pub(in crate::core) fn host_aliases(host: &str) -> Vec<Cow<'_, str>> {
    let mut names = vec![Cow::Borrowed(host)];
    let (name, port) = host
        .rsplit_once(':')
        .filter(|(_, port)| !port.ends_with(']'))
        .map_or((host, None), |(name, port)| (name, Some(port)));
    if host == DOCKER_HUB {
        names.extend(DOCKER_HUB_ALIASES.map(Cow::Borrowed));
    } else if is_loopback(name) {
        let others = LOOPBACK.into_iter().filter(|other| *other != name);
        names.extend(others.map(|other| {
            port.map_or(Cow::Borrowed(other), |port| {
                Cow::Owned(format!("{other}:{port}"))
            })
        }));
    }
    names
}

/// True for the runtime's own machine (RFC 6761 6.3, RFC 1122 3.2.1.3, RFC 4291 2.5.3). Takes a
/// canonical name without its port.
pub(in crate::core) fn is_loopback(name: &str) -> bool {
    LOOPBACK.contains(&name)
        || name
            .parse::<Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Docker's rule: the first component is a host if it looks like one, otherwise it is part of a
/// Docker Hub path.
pub(in crate::core) fn looks_like_host(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':'])
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

/// Distribution's grammar allows no dots and no zones here (`reference/regexp.go`, `ipv6address`).
fn canonical_ipv6(text: &str) -> Result<String, RegistryHostError> {
    let plain = text.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
    let address: Ipv6Addr = text
        .parse()
        .ok()
        .filter(|_| plain)
        .ok_or(RegistryHostError::Malformed)?;
    if address.is_unspecified() {
        return Err(RegistryHostError::Unspecified);
    }
    // Mapped and compatible (RFC 4291), translated (RFC 2765), NAT64 (RFC 6052, RFC 8215), 6to4
    // (RFC 3056).
    let stands_for_ipv4 = matches!(
        address.segments(),
        [0, 0, 0, 0, 0, 0 | 0xffff, ..]
            | [0, 0, 0, 0, 0xffff, 0, ..]
            | [0x64, 0xff9b, 0 | 1, ..]
            | [0x2002, ..]
    );
    if stands_for_ipv4 && !address.is_loopback() {
        Err(RegistryHostError::Ipv4InIpv6)
    } else {
        Ok(format!("[{address}]"))
    }
}

/// True if `inet_aton` would parse it as a number. A name that consists of such labels only may be
/// resolved as an address.
fn is_numeric_label(label: &str) -> bool {
    let decimal = label.bytes().all(|b| b.is_ascii_digit());
    decimal
        || label
            .strip_prefix("0x")
            .is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn split_port(host: &str) -> Option<(&str, Option<u16>)> {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => Some((name, Some(canonical_port(port)?))),
        _ => Some((host, None)),
    }
}

/// Leading zeros have no meaning, as in Go's `net.Dial` and other clients.
pub(in crate::core) fn canonical_port(port: &str) -> Option<u16> {
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    port.parse().ok().filter(|number| digits && *number != 0)
}

fn is_dns_label(label: &str) -> bool {
    let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    ends(label.bytes().next())
        && ends(label.bytes().last())
        && label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_one_spelling() {
        for (spellings, canonical) in [
            (
                &[
                    "r.example.com",
                    "R.Example.COM",
                    "r.example.com.",
                    "r.example.com:443",
                    "R.example.com.:00443",
                ][..],
                "r.example.com",
            ),
            (
                &[
                    "r.example.com:5000",
                    "r.example.com.:05000",
                    "R.example.com:0000000005000",
                ],
                "r.example.com:5000",
            ),
            (
                &[
                    "docker.io",
                    "index.docker.io",
                    "registry-1.docker.io",
                    "registry.hub.docker.com",
                    "Registry-1.Docker.io.:443",
                ],
                "docker.io",
            ),
            (&["registry-1.docker.io:5000"], "registry-1.docker.io:5000"),
            (
                &[
                    "10.200.0.1",
                    "10.200.0.1.",
                    "10.200.0.1:443",
                    "10.200.0.1.:0443",
                ],
                "10.200.0.1",
            ),
            (&["10.200.0.1:5000", "10.200.0.1:05000"], "10.200.0.1:5000"),
            (
                &[
                    "[2001:db8::1]",
                    "[2001:0db8:0::1]",
                    "[2001:DB8:0:0:0:0:0:1]",
                    "[2001:db8::0001]:443",
                    "[2001:db8:0:0::1]:00443",
                ],
                "[2001:db8::1]",
            ),
            (
                &["[2001:db8::1]:5000", "[2001:0db8::1]:05000"],
                "[2001:db8::1]:5000",
            ),
            (
                &["[::1]:5000", "[0:0:0:0:0:0:0:1]:5000", "[0::1]:5000"],
                "[::1]:5000",
            ),
            (&["[2001:db8:0:1:1:1:1:1]"], "[2001:db8:0:1:1:1:1:1]"),
            (&["[2001:0:0:1:0:0:0:1]"], "[2001:0:0:1::1]"),
            (
                &["localhost", "LOCALHOST", "localhost.", "localhost:443"],
                "localhost",
            ),
            (&["registry:443", "REGISTRY:443"], "registry:443"),
            (&["0x7f.1.com", "0X7F.1.com."], "0x7f.1.com"),
            (&["1.2.3.4.example.com"], "1.2.3.4.example.com"),
            (&["3com:5000"], "3com:5000"),
            (&["1e.100", "1E.100."], "1e.100"),
            (&["r.example.com.5000"], "r.example.com.5000"),
        ] {
            for spelling in spellings {
                assert_eq!(
                    canonical_host(spelling).as_deref(),
                    Ok(canonical),
                    "{spelling}"
                );
            }
            assert_eq!(
                canonical_host(canonical).as_deref(),
                Ok(canonical),
                "the canonical form is its own"
            );
        }
    }

    #[test]
    fn one_place_may_have_several_names() {
        for (host, names) in [
            ("r.example.com:5000", &["r.example.com:5000"][..]),
            (
                "docker.io",
                &[
                    "docker.io",
                    "index.docker.io",
                    "registry-1.docker.io",
                    "registry.hub.docker.com",
                ],
            ),
            (
                "localhost:5000",
                &["localhost:5000", "127.0.0.1:5000", "[::1]:5000"],
            ),
            ("[::1]", &["[::1]", "localhost", "127.0.0.1"]),
            ("127.0.0.1", &["127.0.0.1", "localhost", "[::1]"]),
            (
                "127.8.0.1:5000",
                &[
                    "127.8.0.1:5000",
                    "localhost:5000",
                    "127.0.0.1:5000",
                    "[::1]:5000",
                ],
            ),
            ("[2001:db8::1]:5000", &["[2001:db8::1]:5000"]),
            ("128.0.0.1", &["128.0.0.1"]),
        ] {
            assert_eq!(host_aliases(host), names, "{host}");
        }
    }

    #[test]
    fn what_a_runtime_might_read_as_an_address_is_refused() {
        for (host, error) in [
            ("2130706433:5000", RegistryHostError::Number),
            ("0x7f000001:5000", RegistryHostError::Number),
            ("017700000001:5000", RegistryHostError::Number),
            ("0x7f.1", RegistryHostError::Number),
            ("127.1", RegistryHostError::Number),
            ("127.0.1", RegistryHostError::Number),
            ("0177.0.0.1", RegistryHostError::Number),
            ("127.0.0.01", RegistryHostError::Number),
            ("127.0.0.0x1", RegistryHostError::Number),
            ("0X7F.0.0.1", RegistryHostError::Number),
            ("10.200.0.1.5:5000", RegistryHostError::Number),
            ("10.200.0.256:5000", RegistryHostError::Number),
            ("127.0.0.0x", RegistryHostError::Number),
            ("0.0.0.0:5000", RegistryHostError::Unspecified),
            ("0.1.2.3", RegistryHostError::Unspecified),
            ("[::]:5000", RegistryHostError::Unspecified),
            ("[0:0:0:0:0:0:0:0]", RegistryHostError::Unspecified),
            ("[::ffff:ac8:1]:5000", RegistryHostError::Ipv4InIpv6),
            ("[::FFFF:0ac8:0001]:5000", RegistryHostError::Ipv4InIpv6),
            ("[0:0:0:0:0:ffff:ac8:1]", RegistryHostError::Ipv4InIpv6),
            ("[::ac8:1]:5000", RegistryHostError::Ipv4InIpv6),
            ("[::2]:5000", RegistryHostError::Ipv4InIpv6),
            ("[::ffff:0:ac8:1]:5000", RegistryHostError::Ipv4InIpv6),
            ("[64:ff9b::ac8:1]:5000", RegistryHostError::Ipv4InIpv6),
            ("[64:ff9b:1::ac8:1]:5000", RegistryHostError::Ipv4InIpv6),
            ("[2002:ac8:1::1]:5000", RegistryHostError::Ipv4InIpv6),
            ("[::ffff:10.200.0.1]:5000", RegistryHostError::Malformed),
            ("[2001:db8::1.2.3.4]", RegistryHostError::Malformed),
            ("[fe80::1%eth0]:5000", RegistryHostError::Malformed),
            ("[fe80::1%25eth0]:5000", RegistryHostError::Malformed),
            ("[v1.a]:5000", RegistryHostError::Malformed),
            ("[::1", RegistryHostError::Malformed),
            ("[]", RegistryHostError::Malformed),
            ("[10.200.0.1]", RegistryHostError::Malformed),
            ("[r.example.com]", RegistryHostError::Malformed),
            ("2001:db8::1", RegistryHostError::Malformed),
            ("[[::1]]", RegistryHostError::Malformed),
            ("[::1]x:5000", RegistryHostError::Malformed),
            ("[::1].:5000", RegistryHostError::Malformed),
            ("r.example.com..", RegistryHostError::Malformed),
            ("r.example.com:0", RegistryHostError::Malformed),
            ("r.example.com:65536", RegistryHostError::Malformed),
            ("r.example.com:+5000", RegistryHostError::Malformed),
            ("r.example.com:0x1388", RegistryHostError::Malformed),
            ("r.example.com:5000:5000", RegistryHostError::Malformed),
            ("r.example.com:", RegistryHostError::Malformed),
            ("10.200.0.1%00", RegistryHostError::Malformed),
            ("１0.200.0.1", RegistryHostError::Malformed),
            ("r_x.example.com", RegistryHostError::Malformed),
            ("registry.", RegistryHostError::Malformed),
            ("", RegistryHostError::Malformed),
        ] {
            assert_eq!(canonical_host(host), Err(error), "{host}");
        }
    }
}
