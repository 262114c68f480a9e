//! Keys of `auths`: which repositories their credentials are for.
//!
//! The rules are kubelet's (Kubernetes, "Images", section "Interpretation of config.json";
//! `pkg/credentialprovider/keyring.go`), so that a Secret that pulls an image also reads its
//! evidence. They differ to the safe side in one: a path matches whole segments, where kubelet's
//! `team` also matches `teamx`. Hosts are compared in their canonical form, so that every spelling
//! of Docker Hub is the same.

use std::{cmp::Ordering, collections::BTreeMap};

use super::host_glob::HostGlob;
use crate::core::reference::{ImageRepository, canonical_host};

/// A registry, or a part of one: `r.example.com:5000/team`, `*.example.com`. The form of keys in
/// `auths`, and in the responses of credential providers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryKeyPattern {
    host: HostPattern,
    path: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HostPattern {
    Exact(String),
    Glob(HostGlob),
}

impl RegistryKeyPattern {
    /// Reads a key. One that names no valid host matches nothing.
    pub fn parse(key: &str) -> Self {
        let rest = key
            .strip_prefix("https://")
            .or_else(|| key.strip_prefix("http://"))
            .unwrap_or(key);
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        Self {
            host: HostPattern::parse(host),
            path: without_api_version(path).trim_matches('/').to_owned(),
        }
    }

    /// True if the credentials are for this repository.
    pub fn matches_repository(&self, repository: &ImageRepository) -> bool {
        self.host.matches_host(repository.host()) && self.matches_path(repository.path())
    }

    fn matches_path(&self, path: &str) -> bool {
        self.path.is_empty()
            || path
                .strip_prefix(&self.path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The order in which matching keys are tried: a host without wildcards first, then the longer
    /// path, as in kubelet.
    pub fn compare_specificity(&self, other: &Self) -> Ordering {
        match (&self.host, &other.host) {
            (HostPattern::Exact(_), HostPattern::Glob(_)) => Ordering::Less,
            (HostPattern::Glob(_), HostPattern::Exact(_)) => Ordering::Greater,
            (HostPattern::Glob(a), HostPattern::Glob(b)) => b
                .as_str()
                .cmp(a.as_str())
                .then_with(|| other.path.cmp(&self.path)),
            (HostPattern::Exact(_), HostPattern::Exact(_)) => {
                other.path.len().cmp(&self.path.len())
            }
        }
    }
}

impl HostPattern {
    pub(super) fn parse(host: &str) -> Self {
        match HostGlob::parse(host) {
            Some(glob) => Self::Glob(glob),
            None => Self::Exact(canonical_or_lowercase(host)),
        }
    }

    /// Takes a canonical host.
    pub(super) fn matches_host(&self, other: &str) -> bool {
        match self {
            Self::Exact(host) => host == other,
            Self::Glob(glob) => glob.matches_host(other),
        }
    }
}

/// The entries whose keys match a repository, with their keys, the most specific first.
pub fn matching_entries<'a, T>(
    entries: &'a BTreeMap<String, T>,
    repository: &ImageRepository,
) -> Vec<(&'a str, &'a T)> {
    let mut matching: Vec<_> = entries
        .iter()
        .map(|(key, entry)| (RegistryKeyPattern::parse(key), key.as_str(), entry))
        .filter(|(pattern, ..)| pattern.matches_repository(repository))
        .collect();
    // Of two spellings of one key, the canonical one.
    matching.sort_by(|(a, key_a, _), (b, key_b, _)| {
        a.compare_specificity(b)
            .then_with(|| (*key_b == repository.host()).cmp(&(*key_a == repository.host())))
    });
    matching
        .into_iter()
        .map(|(_, key, entry)| (key, entry))
        .collect()
}

/// Old versions of docker append the version of the registry's API.
fn without_api_version(path: &str) -> &str {
    ["v1", "v2"]
        .into_iter()
        .filter_map(|version| path.strip_prefix(version))
        .find(|rest| rest.is_empty() || rest.starts_with('/'))
        .unwrap_or(path)
}

/// The host in the form of `ImageRepository::host`. An invalid host is only lowercased and matches
/// no registry.
pub(super) fn canonical_or_lowercase(host: &str) -> String {
    canonical_host(host).unwrap_or_else(|_| host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_match_as_in_kubelet() {
        for (key, repository, matches) in [
            ("r.example.com", "r.example.com/team/app", true),
            ("https://r.example.com", "r.example.com/app", true),
            ("http://r.example.com:5000/", "r.example.com:5000/app", true),
            ("R.Example.com:443", "r.example.com/app", true),
            ("r.example.com.", "r.example.com/app", true),
            ("r.example.com:05000", "r.example.com:5000/app", true),
            ("[2001:0db8:0::1]:5000", "[2001:db8::1]:5000/app", true),
            ("[2001:db8::1]", "[2001:db8::2]/app", false),
            ("registry:443", "registry:443/app", true),
            ("r.example.com", "r.example.com:5000/app", false),
            ("r.example.com:5000", "r.example.com/app", false),
            ("r.example.com:5000", "r.example.com:5001/app", false),
            ("example.com", "r.example.com/app", false),
            ("r.example.com", "r.example.com.evil.example/app", false),
            // Versions of the API.
            ("https://r.example.com/v1/", "r.example.com/app", true),
            ("https://r.example.com/v2", "r.example.com/app", true),
            ("r.example.com/v2/team", "r.example.com/team/app", true),
            ("r.example.com/v2/team", "r.example.com/app", false),
            ("r.example.com/v3/", "r.example.com/app", false),
            ("r.example.com/v1x", "r.example.com/app", false),
            // Docker Hub.
            (
                "https://index.docker.io/v1/",
                "docker.io/library/nginx",
                true,
            ),
            ("index.docker.io", "docker.io/library/nginx", true),
            ("docker.io", "docker.io/library/nginx", true),
            ("https://registry-1.docker.io", "docker.io/a/b", true),
            ("registry.hub.docker.com", "docker.io/a/b", true),
            ("docker.io/a", "docker.io/a/b", true),
            ("docker.io/a", "docker.io/b/b", false),
            ("*.docker.io", "docker.io/a/b", false),
            // Paths, by whole segments.
            ("r.example.com/team", "r.example.com/team/app", true),
            ("r.example.com/team/", "r.example.com/team/app", true),
            ("r.example.com/team/app", "r.example.com/team/app", true),
            ("r.example.com/team", "r.example.com/team", true),
            ("r.example.com/team", "r.example.com/teamx/app", false),
            ("r.example.com/team", "r.example.com/app/team", false),
            ("r.example.com/team/app", "r.example.com/team", false),
            ("r.example.com/Team", "r.example.com/team/app", false),
            ("r.example.com/team*", "r.example.com/team1/app", false),
            // Wildcards, each in one label.
            ("*.example.com", "r.example.com/app", true),
            ("*.example.com", "example.com/app", false),
            ("*.example.com", "a.b.example.com/app", false),
            ("*.*.example.com", "a.b.example.com/app", true),
            ("*.io", "a.b.io/app", false),
            ("*.io", "quay.io/app", true),
            ("*", "quay.io/app", false),
            ("*", "localhost/app", true),
            ("*:5000", "localhost:5000/app", true),
            ("*.example.com:5000", "r.example.com:5000/app", true),
            ("*.example.com:5000", "r.example.com/app", false),
            ("*.example.com", "r.example.com:5000/app", false),
            ("*.example.com:443", "r.example.com/app", true),
            ("r.example.com:*", "r.example.com:5000/app", false),
            ("https://*.EXAMPLE.com/v2/", "r.example.com/app", true),
            ("*.example.com/team", "r.example.com/team/app", true),
            ("*.example.com/team", "r.example.com/teamx/app", false),
            ("prefix-*.example.com", "prefix-1.example.com/app", true),
            ("*-good.example.com", "not-good.example.com/app", true),
            ("*-good.example.com", "bad.example.com/app", false),
            ("r*y.example.com", "registry.example.com/app", true),
            ("r[0-9].example.com", "r7.example.com/app", true),
            ("r[^0-9].example.com", "r7.example.com/app", false),
            ("r[0-9.example.com", "r7.example.com/app", false),
            ("r?.example.com", "r7.example.com/app", true),
            ("*", "[2001:db8::1]/app", false),
            // No host.
            ("", "r.example.com/app", false),
            ("https://", "r.example.com/app", false),
            ("/r.example.com", "r.example.com/app", false),
            ("user@r.example.com", "r.example.com/app", false),
        ] {
            let parsed: ImageRepository = repository.parse().expect(repository);
            assert_eq!(
                RegistryKeyPattern::parse(key).matches_repository(&parsed),
                matches,
                "{key} for {repository}"
            );
        }
    }

    #[test]
    fn the_most_specific_key_is_first() {
        let mut keys = [
            "*.example.com",
            "r.example.com",
            "*.example.com/team/app",
            "r*.example.com/team",
            "r.example.com/team/app",
            "r.example.com/team",
        ];
        keys.sort_by(|a, b| {
            RegistryKeyPattern::parse(a).compare_specificity(&RegistryKeyPattern::parse(b))
        });
        assert_eq!(
            keys,
            [
                "r.example.com/team/app",
                "r.example.com/team",
                "r.example.com",
                "r*.example.com/team",
                "*.example.com/team/app",
                "*.example.com",
            ]
        );
    }
}
