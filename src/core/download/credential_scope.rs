//! To which URLs a credential may be sent.

use url::Url;

use super::{DownloadRuleError, parse_host, parse_path, path_below, shown};

/// What a credential is for: one host and port, one path and everything below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialScope {
    host: String,
    /// `None`: the port of the URL's scheme.
    port: Option<u16>,
    /// Without a final slash; empty for the whole host.
    path: String,
    plain_http: bool,
    any_port: bool,
}

/// Whether a credential may be sent to a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialScopeMatch {
    /// The URL is another's.
    Elsewhere,
    /// It is for this URL, but not without TLS.
    NeedsTls,
    /// It is for this URL.
    Sent,
}

impl CredentialScope {
    /// A scope. `path` is the whole host if there is none; `plain_http` allows `http` URLs.
    pub fn new(
        host: &str,
        path: Option<&str>,
        plain_http: bool,
    ) -> Result<Self, DownloadRuleError> {
        let url = parse_host(host).ok_or_else(|| DownloadRuleError::Host(shown(host)))?;
        let path = path.unwrap_or("/");
        Ok(Self {
            host: url.host_str().unwrap_or_default().to_owned(),
            port: url.port(),
            path: parse_path(path).ok_or_else(|| DownloadRuleError::Path(path.to_owned()))?,
            plain_http,
            any_port: false,
        })
    }

    /// The scope of an entry of a netrc file, which names a machine: every port of it, with TLS.
    pub fn of_machine(machine: &str) -> Result<Self, DownloadRuleError> {
        Ok(Self {
            any_port: true,
            ..Self::new(machine, None, false)?
        })
    }

    /// Whether the credential may be sent to this URL.
    pub fn match_url(&self, url: &Url) -> CredentialScopeMatch {
        if !self.names(url) {
            return CredentialScopeMatch::Elsewhere;
        }
        match url.scheme() {
            "https" => CredentialScopeMatch::Sent,
            "http" if self.plain_http => CredentialScopeMatch::Sent,
            "http" => CredentialScopeMatch::NeedsTls,
            _ => CredentialScopeMatch::Elsewhere,
        }
    }

    /// The length of its path: of several scopes, the most specific one counts.
    pub const fn specificity(&self) -> usize {
        self.path.len()
    }

    fn names(&self, url: &Url) -> bool {
        let same_port = match self.port {
            _ if self.any_port => true,
            Some(port) => url.port_or_known_default() == Some(port),
            None => url.port().is_none(),
        };
        let below = path_below(url.path(), &self.path).is_some()
            && (self.path.is_empty() || !has_encoded_slash(url.path()));
        url.host_str() == Some(&self.host) && same_port && below
    }
}

/// A server may decode it and then resolve `..`: the path would be another than it seems.
fn has_encoded_slash(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    path.contains("%2f") || path.contains("%5c")
}

#[cfg(test)]
mod tests {
    use super::*;
    use CredentialScopeMatch::{Elsewhere, NeedsTls, Sent};

    #[test]
    fn credentials_stay_with_their_host_port_and_path() {
        for (host, path, plain, url, expected) in [
            (
                "f.example.com",
                None,
                false,
                "https://f.example.com/a/b",
                Sent,
            ),
            (
                "F.Example.com",
                None,
                false,
                "https://f.example.com:443/a",
                Sent,
            ),
            (
                "f.example.com:443",
                None,
                false,
                "https://f.example.com/a",
                Sent,
            ),
            (
                "f.example.com",
                None,
                false,
                "https://f.example.com:8443/a",
                Elsewhere,
            ),
            (
                "f.example.com:8443",
                None,
                false,
                "https://f.example.com:8443/a",
                Sent,
            ),
            (
                "f.example.com:8443",
                None,
                false,
                "https://f.example.com/a",
                Elsewhere,
            ),
            (
                "f.example.com",
                None,
                false,
                "http://f.example.com/a",
                NeedsTls,
            ),
            ("f.example.com", None, true, "http://f.example.com/a", Sent),
            ("f.example.com", None, true, "https://f.example.com/a", Sent),
            (
                "f.example.com:80",
                None,
                true,
                "http://f.example.com/a",
                Sent,
            ),
            (
                "f.example.com",
                None,
                false,
                "https://f.example.com.evil.org/a",
                Elsewhere,
            ),
            (
                "f.example.com",
                None,
                false,
                "https://evil.org/f.example.com",
                Elsewhere,
            ),
            (
                "f.example.com",
                None,
                false,
                "https://sub.f.example.com/a",
                Elsewhere,
            ),
            (
                "f.example.com",
                None,
                false,
                "https://f.example.com@evil.org/a",
                Elsewhere,
            ),
            (
                "f.example.com",
                None,
                false,
                "https://f.example.com./a",
                Elsewhere,
            ),
            ("[::1]:8443", None, false, "https://[0:0::1]:8443/a", Sent),
            (
                "bücher.example",
                None,
                false,
                "https://xn--bcher-kva.example/a",
                Sent,
            ),
            (
                "f.example.com",
                Some("/a"),
                false,
                "https://f.example.com/a",
                Sent,
            ),
            (
                "f.example.com",
                Some("/a/"),
                false,
                "https://f.example.com/a/b?x=/c",
                Sent,
            ),
            (
                "f.example.com",
                Some("/a"),
                false,
                "https://f.example.com/ab",
                Elsewhere,
            ),
            (
                "f.example.com",
                Some("/a"),
                false,
                "https://f.example.com/b?x=/a",
                Elsewhere,
            ),
            (
                "f.example.com",
                Some("/a"),
                false,
                "https://f.example.com/a/../b",
                Elsewhere,
            ),
            (
                "f.example.com",
                Some("/a"),
                false,
                "https://f.example.com/a/%2e%2e/b",
                Elsewhere,
            ),
            (
                "f.example.com",
                Some("/a"),
                false,
                "https://f.example.com/a/..%2fb",
                Elsewhere,
            ),
            (
                "f.example.com",
                Some("/a"),
                false,
                "https://f.example.com/a/..%5Cb",
                Elsewhere,
            ),
            (
                "f.example.com",
                Some("/a"),
                false,
                "https://f.example.com/A",
                Elsewhere,
            ),
        ] {
            let scope = CredentialScope::new(host, path, plain).expect(host);
            let url: Url = url.parse().expect(url);
            assert_eq!(scope.match_url(&url), expected, "{host} {path:?} {url}");
        }
    }

    #[test]
    fn a_machine_has_every_port_and_tls() {
        let scope = CredentialScope::of_machine("f.example.com").expect("valid");
        for (url, expected) in [
            ("https://f.example.com/a", Sent),
            ("https://f.example.com:8443/a", Sent),
            ("http://f.example.com/a", NeedsTls),
            ("https://g.example.com/a", Elsewhere),
        ] {
            assert_eq!(scope.match_url(&url.parse().expect(url)), expected, "{url}");
        }
    }

    #[test]
    fn what_is_no_host_or_path_is_refused() {
        for host in [
            "",
            "https://f.example.com",
            "f.example.com/a",
            "u:p@f.example.com",
            "f.example.com?x",
            "f example.com",
            "*.example.com",
            "f.example.com:port",
            "f.example.com%2f",
        ] {
            assert!(CredentialScope::new(host, None, false).is_err(), "{host}");
        }
        for path in ["", "a", "/a?b", "/a#b", "/a\\b"] {
            assert!(
                CredentialScope::new("f.example.com", Some(path), false).is_err(),
                "{path}"
            );
        }
    }
}
