//! One credential for one host.

use async_trait::async_trait;

use super::{
    CredentialLookup, CredentialStore, FoundCredentials, RegistryCredentials,
    key_pattern::canonical_or_lowercase,
};
use crate::core::reference::ImageRepository;

/// Credentials for one host, and for no other.
#[derive(Clone, Debug)]
pub struct HostCredentials {
    /// The host.
    pub host: String,
    /// The credentials for it.
    pub credentials: RegistryCredentials,
}

#[async_trait]
impl CredentialStore for HostCredentials {
    async fn credentials_for_repository(&self, repository: &ImageRepository) -> CredentialLookup {
        let found =
            (repository.host() == canonical_or_lowercase(&self.host)).then(|| FoundCredentials {
                credentials: self.credentials.clone(),
                source: format!("the credentials of {}", self.host),
            });
        CredentialLookup {
            found: found.into_iter().collect(),
            failures: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn credentials_for_one_host_stay_there() {
        let store = HostCredentials {
            host: "R.example.com:443".into(),
            credentials: RegistryCredentials::RegistryToken("t".to_owned().into()),
        };
        for (repository, found) in [
            ("r.example.com/a", 1),
            ("s.example.com/a", 0),
            ("r.example.com:5000/a", 0),
        ] {
            let repository: ImageRepository = repository.parse().expect(repository);
            let lookup = store.credentials_for_repository(&repository).await;
            assert_eq!(lookup.found.len(), found, "{repository}");
        }
    }
}
