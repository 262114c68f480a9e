//! Mirrors of registries: pull-through caches and copies, as containerd's `hosts.toml` names them.

use std::{fmt, str::FromStr};

use super::{ImageReferenceError, ImageRepository, canonical_host};
use crate::core::{
    display_text::truncate_text,
    reason::{Reason, classify},
};

/// The maximum number of mirrors of one registry.
pub const MAX_REGISTRY_MIRRORS: usize = 8;

/// The maximum length of a mirror's URL in bytes.
const MAX_URL: usize = 512;

/// A place that has content of a registry: `https://HOST[:PORT][/PREFIX]`. The repository `PATH` of
/// the registry is `PREFIX/PATH` there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryMirror {
    host: String,
    prefix: String,
    plain_http: bool,
}

/// Why a text is no mirror.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("mirror {shown} is not of the form https://HOST[:PORT][/PREFIX]: {cause}")]
pub struct RegistryMirrorError {
    /// The URL, shortened, without what may be a password.
    shown: String,
    cause: String,
}

classify!(RegistryMirrorError, |_| Reason::InvalidSpec);

impl RegistryMirror {
    /// The mirror's host with its port, in canonical form.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// True if the URL is one of HTTP without TLS.
    pub const fn plain_http(&self) -> bool {
        self.plain_http
    }

    /// The name that a repository of the registry has in the mirror.
    ///
    /// Errors: with the prefix it is no valid name, because it is too long.
    pub fn mirrored_repository(
        &self,
        repository: &ImageRepository,
    ) -> Result<ImageRepository, ImageReferenceError> {
        let Self { host, prefix, .. } = self;
        format!("{host}/{prefix}{}", repository.path()).parse()
    }
}

impl fmt::Display for RegistryMirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.plain_http { "http" } else { "https" };
        let prefix = self.prefix.trim_end_matches('/');
        let slash = if prefix.is_empty() { "" } else { "/" };
        write!(f, "{scheme}://{}{slash}{prefix}", self.host)
    }
}

impl FromStr for RegistryMirror {
    type Err = RegistryMirrorError;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        parse_mirror(url).map_err(|cause| RegistryMirrorError {
            shown: match url.rsplit_once('@') {
                Some((_, after)) => format!("…@{}", truncate_text(after, 120)),
                None => format!("{:?}", truncate_text(url, 120)),
            },
            cause,
        })
    }
}

fn parse_mirror(url: &str) -> Result<RegistryMirror, String> {
    if url.len() > MAX_URL {
        return Err("it is too long".into());
    }
    let (plain_http, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => return Err("it does not begin with https:// or http://".into()),
    };
    if rest.contains('@') {
        return Err("credentials are not a part of it".into());
    }
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.trim_end_matches('/');
    // Where containerd has `override_path`, its users write the API's own path, too.
    let prefix = match path.strip_prefix("v2/") {
        Some(prefix) => prefix,
        None if path == "v2" => "",
        None => path,
    };
    let mirror = RegistryMirror {
        host: canonical_host(host).map_err(|error| error.to_string())?,
        prefix: if prefix.is_empty() {
            String::new()
        } else {
            format!("{prefix}/")
        },
        plain_http,
    };
    let probe: ImageRepository = format!("{}/{}a", mirror.host, mirror.prefix)
        .parse()
        .map_err(|error: ImageReferenceError| error.to_string())?;
    if probe.host() == mirror.host {
        Ok(mirror)
    } else {
        Err("its host needs a dot or a port".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::reason::ClassifiedError;

    #[test]
    fn a_repository_has_its_name_below_the_prefix() {
        for (url, shown, repository, mirrored) in [
            (
                "https://mirror.example.com",
                "https://mirror.example.com",
                "r.example.com/team/app",
                "mirror.example.com/team/app",
            ),
            (
                "https://Mirror.example.com:443/hub/",
                "https://mirror.example.com/hub",
                "nginx",
                "mirror.example.com/hub/library/nginx",
            ),
            (
                "http://mirror:5000/v2/proxy/hub",
                "http://mirror:5000/proxy/hub",
                "r.example.com/a",
                "mirror:5000/proxy/hub/a",
            ),
            (
                "https://[fd00::1]:5000/v2",
                "https://[fd00::1]:5000",
                "r.example.com/a",
                "[fd00::1]:5000/a",
            ),
        ] {
            let mirror: RegistryMirror = url.parse().expect(url);
            let repository = repository.parse().expect(repository);
            let found = mirror.mirrored_repository(&repository).expect(mirrored);
            assert_eq!(found.to_string(), mirrored);
            assert_eq!(mirror.to_string(), shown);
            assert_eq!(mirror.plain_http(), url.starts_with("http:"));
            let again: RegistryMirror = shown.parse().expect(shown);
            assert_eq!(again, mirror);
        }
        let mirror: RegistryMirror = "https://m.example.com/prefix".parse().expect("valid");
        let long = format!("r.example.com/{}", "a".repeat(240));
        let long = long.parse().expect("valid");
        assert!(mirror.mirrored_repository(&long).is_err(), "too long");
    }

    #[test]
    fn what_is_no_mirror_is_refused() {
        for url in [
            "",
            "mirror.example.com",
            "ftp://mirror.example.com",
            "https://",
            "https://mirror",
            "https://mirror.example.com/Upper",
            "https://mirror.example.com/a//b",
            "https://mirror.example.com/?ns=docker.io",
            "https://mirror.example.com/#a",
            "https://me:hunter2@mirror.example.com",
            "https://mirror.example.com:x",
            "https://mirror.example.com/../a",
        ] {
            let error = url.parse::<RegistryMirror>().expect_err(url);
            assert_eq!(error.reason(), Reason::InvalidSpec, "{url}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
