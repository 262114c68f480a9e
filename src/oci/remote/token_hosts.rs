//! Where a registry's credentials may be sent: to the registry itself, and to its token service if
//! both have one owner.
//!
//! A registry names its token service in a challenge, and could name anybody's. Both have one owner
//! if they have the same registrable domain (publicsuffix.org): `registry.gitlab.com` and
//! `gitlab.com`, but not two customers below one cloud's domain. Other pairs are published by their
//! operators, or configured.

use url::{Host, Url};

use crate::oci::credentials::RegistryKeyPattern;

/// Domains below which different customers have names, which the public suffix list lacks. Names
/// below them share nothing.
const SHARED_DOMAINS: [&str; 14] = [
    "aliyuncs.com",
    "amazonaws.com",
    "amazonaws.com.cn",
    "azure.com",
    "azurecr.cn",
    "azurecr.io",
    "azurecr.us",
    "container-registry.com",
    "jfrog.io",
    "nip.io",
    "scw.cloud",
    "sslip.io",
    "tencentcloudcr.com",
    "traefik.me",
];

/// Token services in other domains than their registries: the registry, and the host of the
/// service. `{}` is the label of the registry's host where its pattern has a star alone.
const PUBLISHED_PAIRS: [(&str, &str); 9] = [
    // Scaleway, "Container Registry API": the endpoint of a namespace is rg.REGION.scw.cloud, and
    // its challenge names the API.
    ("rg.*.scw.cloud", "api.scaleway.com"),
    // Alibaba Cloud, "Container Registry": shared instances, and instances of the Enterprise
    // edition (NAME-registry.REGION.cr.aliyuncs.com), outside and inside of a VPC.
    ("registry.*.aliyuncs.com", "dockerauth.{}.aliyuncs.com"),
    (
        "registry-vpc.*.aliyuncs.com",
        "dockerauth-vpc.{}.aliyuncs.com",
    ),
    ("registry.*.aliyuncs.com", "dockerauth-{}.aliyuncs.com"),
    (
        "registry-vpc.*.aliyuncs.com",
        "dockerauth-vpc-{}.aliyuncs.com",
    ),
    (
        "*-registry.*.cr.aliyuncs.com",
        "dockerauth-ee.{}.aliyuncs.com",
    ),
    (
        "*-registry-vpc.*.cr.aliyuncs.com",
        "dockerauth-ee-vpc.{}.aliyuncs.com",
    ),
    // NVIDIA, NGC: NVIDIA/nvcf#557.
    ("nvcr.io", "authn.nvidia.com"),
    // SUSE, "Rancher Prime": the registry uses the accounts of the SUSE Customer Center.
    ("registry.rancher.com", "scc.suse.com"),
];

/// A token service that a registry may send its clients to: the origin, and the beginning of the
/// path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedTokenService(Url);

impl AllowedTokenService {
    /// Reads `https://auth.example.com/token`, or only the host.
    ///
    /// Errors: text that is no URL of http or https, or one with more than host, port and path.
    pub fn parse(text: &str) -> Result<Self, String> {
        let absolute = if text.contains("://") {
            text.to_owned()
        } else {
            format!("https://{text}")
        };
        let url = Url::parse(&absolute).map_err(|error| format!("{error}"))?;
        let plain = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
            && url.has_host();
        if plain && matches!(url.scheme(), "http" | "https") {
            Ok(Self(url))
        } else {
            Err("write https://HOST[:PORT][/PATH]".into())
        }
    }

    fn allows(&self, realm: &Url) -> bool {
        let path = self.0.path().trim_end_matches('/');
        let below = realm.path().strip_prefix(path);
        self.0.origin() == realm.origin()
            && below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// True if the registry's credentials may be sent to this realm.
pub(super) fn may_see_credentials(
    registry: &Url,
    realm: &Url,
    allowed: &[AllowedTokenService],
) -> bool {
    if registry.origin() == realm.origin() {
        return true;
    }
    // In clear text only where the registry itself is used so, and where somebody said so.
    if realm.scheme() != "https" && registry.scheme() == "https" {
        return false;
    }
    if allowed.iter().any(|service| service.allows(realm)) {
        return true;
    }
    realm.scheme() == "https" && have_one_owner(registry, realm)
}

fn have_one_owner(registry: &Url, realm: &Url) -> bool {
    match (registry.host(), realm.host()) {
        (Some(Host::Domain(registry)), Some(Host::Domain(realm))) => {
            let (registry, realm) = (without_final_dot(registry), without_final_dot(realm));
            registry == realm || have_one_domain(registry, realm) || is_published(registry, realm)
        }
        (registry, realm) => registry.is_some() && registry == realm,
    }
}

fn without_final_dot(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

fn have_one_domain(registry: &str, realm: &str) -> bool {
    let domain = owned_domain(registry);
    domain.is_some() && (domain == owned_domain(realm) || is_below(realm, registry))
}

/// The domain that the owner of a host has: everything below it is theirs.
fn owned_domain(host: &str) -> Option<&str> {
    if SHARED_DOMAINS.iter().any(|shared| is_below(host, shared)) {
        return Some(host);
    }
    let owned = service_namespace(host).or_else(|| psl::domain_str(host))?;
    (!SHARED_DOMAINS.contains(&owned)).then_some(owned)
}

/// `NAMESPACE.svc…` of `SERVICE.NAMESPACE.svc…` (Kubernetes, "DNS for Services and Pods"):
/// namespaces of one cluster have different owners.
fn service_namespace(host: &str) -> Option<&str> {
    let at = host
        .find(".svc.")
        .or_else(|| host.strip_suffix(".svc").map(str::len))?;
    let start = host.get(..at)?.rfind('.')? + 1;
    host.get(start..)
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain)
        .is_some_and(|rest| rest.ends_with('.'))
}

fn is_published(registry: &str, realm: &str) -> bool {
    let Ok(repository) = format!("{registry}/x").parse() else {
        return false;
    };
    PUBLISHED_PAIRS
        .iter()
        .filter(|(pattern, _)| RegistryKeyPattern::parse(pattern).matches_repository(&repository))
        .any(|(pattern, service)| service.replace("{}", region(pattern, registry)) == realm)
}

/// The label of the host where the pattern has a star alone.
fn region<'a>(pattern: &str, host: &'a str) -> &'a str {
    let labels = pattern.split('.').zip(host.split('.'));
    let mut matched = labels.filter(|(pattern, _)| *pattern == "*");
    matched.next().map_or("", |(_, label)| label)
}

#[cfg(test)]
#[path = "token_hosts_tests.rs"]
mod tests;
