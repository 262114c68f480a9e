//! Allowed addresses: the protection against server-side request forgery.
//!
//! In a cluster a tenant chooses references, so a connection must not give access to the node's
//! metadata service, to the node itself or to the Pod network. The check is on the address that the
//! connection goes to, after the name was looked up, so a name that changes its address between
//! check and use (DNS rebinding) has no effect.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::core::display_text::truncate_text;

/// The addresses that may be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AddressPolicy {
    /// All of them: for the command line, whose user could reach them as well.
    #[default]
    Any,
    /// Never loopback, link-local, multicast, unspecified or reserved ones, nor the metadata
    /// services of clouds.
    Cluster {
        /// The rule for private addresses (RFC 1918, RFC 6598, RFC 4193).
        private: PrivateAddresses,
    },
}

/// A cluster policy's rule for private addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrivateAddresses {
    /// All are allowed: for registries.
    Allowed,
    /// Those in these networks are allowed; an empty list allows none.
    Listed(Vec<IpNet>),
}

/// Why an address is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address} is {kind}, which the address policy does not allow")]
pub struct AddressError {
    /// The address, or the name that resolves to no other.
    pub address: String,
    /// The kind of address.
    pub kind: AddressKind,
}

/// The kind of a special address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressKind {
    /// The machine itself.
    Loopback,
    /// The network segment: where most metadata services live.
    LinkLocal,
    /// A multicast address.
    Multicast,
    /// `0.0.0.0/8`, `::`: reaches the machine itself on Linux.
    Unspecified,
    /// Reserved addresses and broadcast.
    Reserved,
    /// A cloud's metadata service outside of the link-local range.
    Metadata,
    /// A private network.
    Private,
}

impl fmt::Display for AddressKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "a loopback address",
            Self::LinkLocal => "a link-local address",
            Self::Multicast => "a multicast address",
            Self::Unspecified => "an unspecified address",
            Self::Reserved => "a reserved address",
            Self::Metadata => "a cloud's metadata service",
            Self::Private => "a private address that is not in the allowed networks",
        })
    }
}

impl AddressPolicy {
    /// Checks that this address is allowed.
    pub fn check_address(&self, address: IpAddr) -> Result<(), AddressError> {
        let Self::Cluster { private } = self else {
            return Ok(());
        };
        let address = effective_address(address);
        let allowed = match address_kind(address) {
            None => true,
            Some(AddressKind::Private) => private.contains(address),
            Some(_) => false,
        };
        match address_kind(address) {
            Some(kind) if !allowed => Err(AddressError {
                address: address.to_string(),
                kind,
            }),
            _ => Ok(()),
        }
    }

    /// Checks a URL without a name lookup. Names are checked when they are resolved.
    pub fn check_url(&self, url: &Url) -> Result<(), AddressError> {
        match url.host() {
            Some(Host::Ipv4(address)) => self.check_address(address.into()),
            Some(Host::Ipv6(address)) => self.check_address(address.into()),
            Some(Host::Domain(_)) | None => Ok(()),
        }
    }

    /// The allowed addresses of a name; an error if there are none.
    fn filter_addresses(
        &self,
        name: &str,
        found: Vec<SocketAddr>,
    ) -> Result<Vec<SocketAddr>, AddressError> {
        let mut refused = None;
        let mut kept = Vec::with_capacity(found.len());
        for address in found {
            match self.check_address(address.ip()) {
                Ok(()) => kept.push(address),
                Err(error) => refused = Some(error),
            }
        }
        match refused {
            Some(error) if kept.is_empty() => Err(AddressError {
                address: format!("{name} ({})", error.address),
                ..error
            }),
            _ => Ok(kept),
        }
    }

    /// Resolves `name` to its allowed addresses.
    pub(super) async fn resolve_host(&self, name: &str) -> std::io::Result<Vec<SocketAddr>> {
        let found = tokio::net::lookup_host((name, 0)).await?.collect();
        self.filter_addresses(name, found)
            .map_err(std::io::Error::other)
    }
}

impl PrivateAddresses {
    fn contains(&self, address: IpAddr) -> bool {
        match self {
            Self::Allowed => true,
            Self::Listed(networks) => networks.iter().any(|network| network.contains(&address)),
        }
    }
}

/// The IPv4 address in an IPv6 one: mapped and compatible (RFC 4291), NAT64 (RFC 6052), 6to4 (RFC
/// 3056).
fn effective_address(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    let embedded = |high: u16, low: u16| {
        IpAddr::V4(Ipv4Addr::from_bits(
            (u32::from(high) << 16) | u32::from(low),
        ))
    };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 || low > 1 => embedded(high, low),
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => embedded(high, low),
        _ => address,
    }
}

fn address_kind(address: IpAddr) -> Option<AddressKind> {
    match address {
        IpAddr::V4(v4) => kind_v4(v4),
        IpAddr::V6(v6) => kind_v6(v6),
    }
}

const fn kind_v4(address: Ipv4Addr) -> Option<AddressKind> {
    match address.octets() {
        [0, ..] => Some(AddressKind::Unspecified),
        [127, ..] => Some(AddressKind::Loopback),
        [169, 254, ..] => Some(AddressKind::LinkLocal),
        // Alibaba Cloud, Azure's wire server, Oracle Cloud.
        [100, 100, 100, 200] | [168, 63, 129, 16] | [192, 0, 0, 192] => Some(AddressKind::Metadata),
        [224..=239, ..] => Some(AddressKind::Multicast),
        [240..=255, ..] => Some(AddressKind::Reserved),
        [10, ..]
        | [172, 16..=31, ..]
        | [192, 168, ..]
        | [100, 64..=127, ..]
        | [198, 18..=19, ..]
        | [192, 0, 0, _] => Some(AddressKind::Private),
        _ => None,
    }
}

fn kind_v6(address: Ipv6Addr) -> Option<AddressKind> {
    /// Amazon's metadata service.
    const AMAZON: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    let [first, ..] = address.segments();
    match first {
        _ if address.is_loopback() => Some(AddressKind::Loopback),
        _ if address.is_unspecified() => Some(AddressKind::Unspecified),
        _ if address == AMAZON => Some(AddressKind::Metadata),
        0xfe80..=0xfebf => Some(AddressKind::LinkLocal),
        0xff00..=0xffff => Some(AddressKind::Multicast),
        0xfc00..=0xfdff | 0xfec0..=0xfeff => Some(AddressKind::Private),
        _ => None,
    }
}

/// A string is not a valid network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("network {0:?} must be an address with the length of its prefix, such as 10.0.0.0/8")]
pub struct CidrError(String);

/// Parses networks: addresses with the length of their prefix in bits, `10.0.0.0/8`.
///
/// Addresses are parsed by the standard library and not by `ipnet`, which accepts leading zeros,
/// that other programs read as octal numbers.
pub fn parse_networks(texts: &[String]) -> Result<Vec<IpNet>, CidrError> {
    texts.iter().map(|text| parse_network(text)).collect()
}

fn parse_network(text: &str) -> Result<IpNet, CidrError> {
    let parse = || {
        let (address, prefix) = text.split_once('/')?;
        IpNet::new(address.parse().ok()?, prefix.parse().ok()?).ok()
    };
    parse().ok_or_else(|| CidrError(truncate_text(text, 100)))
}

/// Resolves names and passes only allowed addresses to the connector.
pub(super) struct AddressFilteringResolver(pub(super) AddressPolicy);

impl Resolve for AddressFilteringResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0.clone();
        Box::pin(async move {
            Ok(Box::new(policy.resolve_host(name.as_str()).await?.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(private: PrivateAddresses) -> AddressPolicy {
        AddressPolicy::Cluster { private }
    }

    fn listed(networks: &[&str]) -> AddressPolicy {
        cluster(PrivateAddresses::Listed(
            networks
                .iter()
                .map(|n| parse_network(n).expect(n))
                .collect(),
        ))
    }

    #[test]
    fn a_cluster_never_reaches_what_is_not_on_a_network() {
        for (host, kind) in [
            ("127.0.0.1", AddressKind::Loopback),
            ("127.8.9.1", AddressKind::Loopback),
            ("2130706433", AddressKind::Loopback),
            ("0x7f.1", AddressKind::Loopback),
            ("0177.0.0.1", AddressKind::Loopback),
            ("127.0.0.1.", AddressKind::Loopback),
            ("[::1]", AddressKind::Loopback),
            ("[::ffff:127.0.0.1]", AddressKind::Loopback),
            ("[::127.0.0.1]", AddressKind::Loopback),
            ("[64:ff9b::127.0.0.1]", AddressKind::Loopback),
            ("[2002:7f00:1::]", AddressKind::Loopback),
            ("169.254.169.254", AddressKind::LinkLocal),
            ("[::ffff:a9fe:a9fe]", AddressKind::LinkLocal),
            ("[fe80::1]", AddressKind::LinkLocal),
            ("224.0.0.1", AddressKind::Multicast),
            ("[ff02::1]", AddressKind::Multicast),
            ("0.0.0.0", AddressKind::Unspecified),
            ("[::]", AddressKind::Unspecified),
            ("255.255.255.255", AddressKind::Reserved),
            ("[fd00:ec2::254]", AddressKind::Metadata),
            ("100.100.100.200", AddressKind::Metadata),
            ("168.63.129.16", AddressKind::Metadata),
        ] {
            let url = format!("https://{host}/").parse().expect(host);
            let error = cluster(PrivateAddresses::Allowed)
                .check_url(&url)
                .expect_err(host);
            assert_eq!(error.kind, kind, "{host}");
            AddressPolicy::Any
                .check_url(&url)
                .expect("the command line may");
        }
    }

    #[test]
    fn private_addresses_need_leave() {
        for address in [
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "100.64.0.1",
            "fd00::1",
            "::ffff:10.0.0.1",
        ] {
            let address: IpAddr = address.parse().expect(address);
            assert_eq!(
                cluster(PrivateAddresses::Allowed).check_address(address),
                Ok(())
            );
            assert_eq!(
                listed(&[])
                    .check_address(address)
                    .expect_err("not listed")
                    .kind,
                AddressKind::Private
            );
        }
        let policy = listed(&["10.1.0.0/16", "fd00::/8"]);
        for (address, passes) in [
            ("10.1.255.1", true),
            ("10.2.0.1", false),
            ("::ffff:10.1.0.1", true),
            ("fd12::1", true),
            ("192.168.0.1", false),
            ("8.8.8.8", true),
        ] {
            assert_eq!(
                policy
                    .check_address(address.parse().expect(address))
                    .is_ok(),
                passes,
                "{address}"
            );
        }
        assert_eq!(
            listed(&["0.0.0.0/0"]).check_address([10, 0, 0, 1].into()),
            Ok(())
        );
        assert!(
            listed(&["0.0.0.0/0"])
                .check_address([127, 0, 0, 1].into())
                .is_err()
        );
    }

    #[test]
    fn public_addresses_pass() {
        for address in [
            "8.8.8.8",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.255.255",
            "2606:4700::1111",
        ] {
            assert_eq!(
                listed(&[]).check_address(address.parse().expect(address)),
                Ok(()),
                "{address}"
            );
        }
    }

    #[test]
    fn networks_are_parsed() {
        for wrong in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "fd00::/129",
            "10.0.0/8",
            "x/8",
            "10.0.0.0/-1",
        ] {
            assert!(parse_network(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_name_is_judged_by_its_addresses() {
        let error = cluster(PrivateAddresses::Allowed)
            .resolve_host("localhost")
            .await
            .expect_err("loopback");
        let error = error.downcast::<AddressError>().expect("the guard's own");
        assert_eq!(error.kind, AddressKind::Loopback);
        assert!(error.address.starts_with("localhost ("), "{error}");
    }

    #[test]
    fn of_several_addresses_the_allowed_ones_are_kept() {
        let (inner, outer) = (
            SocketAddr::from(([127, 0, 0, 1], 0)),
            SocketAddr::from(([8, 8, 8, 8], 0)),
        );
        assert_eq!(
            listed(&[]).filter_addresses("x", vec![inner, outer]),
            Ok(vec![outer])
        );
    }
}
