//! Pairs of registries and token services.

use super::*;

fn url(text: &str) -> Url {
    text.parse().expect(text)
}

#[test]
fn credentials_stay_with_the_registry_and_its_owner() {
    for (registry, realm, passes) in [
        // The same origin and host.
        ("https://r.example.com", "https://r.example.com/token", true),
        (
            "https://r.example.com",
            "https://r.example.com:8443/token",
            true,
        ),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000/token", true),
        ("http://localhost:5000", "https://localhost/token", true),
        // One registrable domain.
        (
            "https://registry-1.docker.io",
            "https://auth.docker.io/token",
            true,
        ),
        (
            "https://registry.gitlab.com",
            "https://gitlab.com/jwt/auth",
            true,
        ),
        (
            "https://r.eu.example.com",
            "https://auth.eu.example.com/token",
            true,
        ),
        (
            "https://r.eu.example.com",
            "https://auth.example.com/token",
            true,
        ),
        (
            "https://registry.dev.example.com",
            "https://gitlab.example.com/jwt/auth",
            true,
        ),
        ("https://cgr.dev", "https://auth.cgr.dev/token", true),
        (
            "https://example.com",
            "https://auth.example.com/token",
            true,
        ),
        (
            "https://mycompany.co.uk",
            "https://auth.mycompany.co.uk/token",
            true,
        ),
        ("https://r.team.lan", "https://auth.team.lan/token", true),
        (
            "https://registry.digitalocean.com",
            "https://api.digitalocean.com/v2/registry/auth",
            true,
        ),
        (
            "https://docker.elastic.co",
            "https://docker-auth.elastic.co/auth",
            true,
        ),
        (
            "https://registry.suse.com",
            "https://scc.suse.com/api/registry/authorize",
            true,
        ),
        // Another one.
        ("https://mycompany.co.uk", "https://evil.co.uk/token", false),
        ("https://r.example.com", "https://evil.example/token", false),
        (
            "https://r.example.com",
            "https://r.example.com.evil.example/token",
            false,
        ),
        (
            "https://r.example.com",
            "https://evilexample.com/token",
            false,
        ),
        ("https://example.com", "https://evil.com/token", false),
        ("https://localhost", "https://evil.localhost/token", false),
        ("https://registry.lan", "https://gitlab.lan/jwt/auth", false),
        ("https://10.0.0.1", "https://1.0.0.1/token", false),
        ("https://10.0.0.1", "https://10.0.0.1.example/token", false),
        (
            "https://10.1.2.3:5000",
            "https://auth.example.com/token",
            false,
        ),
        ("https://r.com.", "https://evil.com./token", false),
        // Below a domain of many owners.
        ("https://co.uk", "https://evil.co.uk/token", false),
        (
            "https://team.github.io",
            "https://evil.github.io/token",
            false,
        ),
        (
            "https://a.azurecr.io",
            "https://b.azurecr.io/oauth2/token",
            false,
        ),
        (
            "https://azurecr.io",
            "https://b.azurecr.io/oauth2/token",
            false,
        ),
        (
            "https://a.azurecr.io",
            "https://a.azurecr.io/oauth2/token",
            true,
        ),
        (
            "https://rg.fr-par.scw.cloud",
            "https://evil.fr-par.scw.cloud/token",
            false,
        ),
        ("https://a.jfrog.io", "https://b.jfrog.io/token", false),
        (
            "https://10-0-0-1.nip.io",
            "https://10-0-0-2.nip.io/token",
            false,
        ),
        (
            "https://r.team-a.svc.cluster.local",
            "https://r.team-b.svc.cluster.local/token",
            false,
        ),
        (
            "https://r.team-a.svc.cluster.local",
            "https://auth.team-a.svc.cluster.local/token",
            true,
        ),
        (
            "https://r.team-a.svc.k8s.example.com",
            "https://r.team-b.svc.k8s.example.com/token",
            false,
        ),
        ("https://r.team-a.svc", "https://r.team-b.svc/token", false),
        (
            "https://r.team-a.svc",
            "https://auth.team-a.svc/token",
            true,
        ),
        // Published pairs.
        (
            "https://rg.fr-par.scw.cloud",
            "https://api.scaleway.com/registry-internal/v1/regions/fr-par/tokens",
            true,
        ),
        (
            "https://registry.cn-hangzhou.aliyuncs.com",
            "https://dockerauth.cn-hangzhou.aliyuncs.com/auth",
            true,
        ),
        (
            "https://registry.cn-hangzhou.aliyuncs.com",
            "https://dockerauth.cn-beijing.aliyuncs.com/auth",
            false,
        ),
        (
            "https://registry.cn-zhangjiakou.aliyuncs.com",
            "https://dockerauth-cn-zhangjiakou.aliyuncs.com/auth",
            true,
        ),
        (
            "https://x-registry.cn-beijing.cr.aliyuncs.com",
            "https://dockerauth-ee.cn-beijing.aliyuncs.com/auth",
            true,
        ),
        (
            "https://x-registry-vpc.cn-beijing.cr.aliyuncs.com",
            "https://dockerauth-ee-vpc.cn-beijing.aliyuncs.com/auth",
            true,
        ),
        (
            "https://x-registry.cn-beijing.cr.aliyuncs.com",
            "https://evil.oss-cn-beijing.aliyuncs.com/auth",
            false,
        ),
        ("https://nvcr.io", "https://authn.nvidia.com/token", true),
        (
            "https://nvcr.io.evil.example",
            "https://authn.nvidia.com/token",
            false,
        ),
        (
            "https://registry.rancher.com",
            "https://scc.suse.com/api/registry/authorize",
            true,
        ),
        // Without encryption.
        ("https://r.example.com", "http://r.example.com/token", false),
        (
            "https://r.example.com",
            "http://auth.example.com/token",
            false,
        ),
        ("https://nvcr.io", "http://authn.nvidia.com/token", false),
        (
            "http://127.0.0.1:5000",
            "http://127.0.0.1:5001/token",
            false,
        ),
        (
            "http://r.example.com:5000",
            "http://auth.example.com/token",
            false,
        ),
    ] {
        assert_eq!(
            may_see_credentials(&url(registry), &url(realm), &[]),
            passes,
            "{realm} for {registry}"
        );
    }
}

#[test]
fn further_services_are_allowed_by_name() {
    for (allowed, registry, realm, passes) in [
        (
            "https://auth.example.org",
            "https://r.example.com",
            "https://auth.example.org/token",
            true,
        ),
        (
            "auth.example.org",
            "https://r.example.com",
            "https://auth.example.org/token",
            true,
        ),
        (
            "https://auth.example.org/",
            "https://r.example.com",
            "https://auth.example.org/a/b",
            true,
        ),
        (
            "https://auth.example.org/jwt",
            "https://r.example.com",
            "https://auth.example.org/jwt/auth",
            true,
        ),
        (
            "https://auth.example.org/jwt",
            "https://r.example.com",
            "https://auth.example.org/jwtx",
            false,
        ),
        (
            "https://auth.example.org:8443",
            "https://r.example.com",
            "https://auth.example.org:8443/token",
            true,
        ),
        (
            "https://auth.example.org",
            "https://r.example.com",
            "https://auth.example.org:8443/token",
            false,
        ),
        (
            "https://auth.example.org",
            "https://r.example.com",
            "https://x.auth.example.org/token",
            false,
        ),
        (
            "http://auth.example.org",
            "https://r.example.com",
            "http://auth.example.org/token",
            false,
        ),
        (
            "http://127.0.0.1:5001",
            "http://127.0.0.1:5000",
            "http://127.0.0.1:5001/token",
            true,
        ),
    ] {
        let service = AllowedTokenService::parse(allowed).expect(allowed);
        assert_eq!(
            may_see_credentials(&url(registry), &url(realm), &[service]),
            passes,
            "{allowed}: {realm} for {registry}"
        );
    }
    for text in [
        "",
        "ftp://x",
        "https://u@x",
        "https://x?y",
        "https://x#y",
        "https://",
    ] {
        assert!(AllowedTokenService::parse(text).is_err(), "{text}");
    }
}
