//! `matchImages` of credential providers: which images a provider gives credentials for.

use super::key_pattern::HostPattern;
use crate::core::reference::ImageRepository;

/// An entry of `matchImages`: `*.dkr.ecr.*.amazonaws.com`, `gcr.io/project`.
///
/// The rules are kubelet's (`pkg/credentialprovider/keyring.go`, `URLsMatchStr`): as many labels,
/// each of which matches, the same port, and the beginning of the path. Other than keys of `auths`
/// a path need not end with a segment, because what a provider returns is matched once more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchImagePattern {
    host: HostPattern,
    path: String,
}

impl MatchImagePattern {
    /// Reads an entry. One that names no valid host matches nothing.
    pub fn parse(entry: &str) -> Self {
        let (host, path) = entry.split_once('/').unwrap_or((entry, ""));
        Self {
            host: HostPattern::parse(host),
            path: path.to_owned(),
        }
    }

    /// True if the provider is asked for this repository.
    pub fn matches_repository(&self, repository: &ImageRepository) -> bool {
        self.host.matches_host(repository.host()) && repository.path().starts_with(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_match_as_in_kubelet() {
        for (entry, repository, matches) in [
            ("r.example.com", "r.example.com/team/app", true),
            ("r.example.com", "s.example.com/team/app", false),
            ("*.example.com", "r.example.com/app", true),
            ("*.example.com", "a.r.example.com/app", false),
            ("*.*.example.com", "a.r.example.com/app", true),
            ("app*.example.com", "app1.example.com/app", true),
            ("k8s.*.io", "k8s.gcr.io/app", true),
            ("k8s.*", "k8s.io/app", true),
            ("*.io", "a.k8s.io/app", false),
            (
                "*.dkr.ecr.*.amazonaws.com",
                "123456789012.dkr.ecr.eu-central-1.amazonaws.com/app",
                true,
            ),
            (
                "*.dkr.ecr.*.amazonaws.com",
                "123456789012.dkr.ecr.eu-central-1.amazonaws.com.cn/app",
                false,
            ),
            ("*.azurecr.io", "example.azurecr.io/app", true),
            ("r.example.com:5000", "r.example.com:5000/app", true),
            ("r.example.com:5000", "r.example.com/app", false),
            ("r.example.com", "r.example.com:5000/app", false),
            ("*.example.com:5000", "r.example.com:5000/app", true),
            ("*.example.com", "r.example.com:5000/app", false),
            ("r.example.com/team", "r.example.com/team/app", true),
            ("r.example.com/team", "r.example.com/teamx/app", true),
            ("r.example.com/team/", "r.example.com/teamx/app", false),
            ("r.example.com/team/", "r.example.com/team/app", true),
            ("r.example.com/", "r.example.com/team/app", true),
            ("r.example.com/v2/", "r.example.com/team/app", false),
            ("r.example.com/Team", "r.example.com/team/app", false),
            ("r.example.com/t*", "r.example.com/team/app", false),
            ("docker.io", "docker.io/library/nginx", true),
            ("docker.io/library", "docker.io/library/nginx", true),
            ("", "r.example.com/app", false),
            ("/team", "r.example.com/team/app", false),
        ] {
            let parsed: ImageRepository = repository.parse().expect(repository);
            assert_eq!(
                MatchImagePattern::parse(entry).matches_repository(&parsed),
                matches,
                "{entry} for {repository}"
            );
        }
    }
}
