//! Credentials that were looked up once, and that may be renewed when the registry refuses them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;

use crate::{
    core::reference::ImageRepository,
    oci::credentials::{CredentialLookup, CredentialStore, RegistryCredentials},
};

/// Whether other credentials were used than those that were looked up. Clones share it.
///
/// What was read is then not known to whoever has the credentials that were looked up.
#[derive(Clone, Debug, Default)]
pub struct CredentialRenewal(Arc<AtomicBool>);

/// What was looked up for some repositories, and where it is renewed. There are no credentials for
/// others: a mirror never gets those of its registry.
#[derive(Clone)]
pub struct RenewableLookups {
    lookups: Vec<(ImageRepository, CredentialLookup)>,
    store: Arc<dyn CredentialStore>,
    renewal: CredentialRenewal,
}

impl CredentialRenewal {
    /// True if other credentials were used.
    pub fn has_happened(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl RenewableLookups {
    /// Looks up the credentials for each of these repositories: one, its mirrors, and where its
    /// signatures are.
    pub async fn look_up(
        store: Arc<dyn CredentialStore>,
        repositories: Vec<ImageRepository>,
    ) -> Self {
        let mut lookups = Vec::with_capacity(repositories.len());
        for repository in repositories {
            let lookup = store.credentials_for_repository(&repository).await;
            lookups.push((repository, lookup));
        }
        Self::new(lookups, store)
    }

    /// What was looked up in `store` already.
    pub fn new(
        lookups: Vec<(ImageRepository, CredentialLookup)>,
        store: Arc<dyn CredentialStore>,
    ) -> Self {
        Self {
            lookups,
            store,
            renewal: CredentialRenewal::default(),
        }
    }

    /// What was found for each of them, in their order.
    pub fn lookups(&self) -> impl Iterator<Item = &CredentialLookup> {
        self.lookups.iter().map(|(_, lookup)| lookup)
    }

    /// Whether one of them was renewed.
    pub fn renewal(&self) -> CredentialRenewal {
        self.renewal.clone()
    }
}

#[async_trait]
impl CredentialStore for RenewableLookups {
    async fn credentials_for_repository(&self, repository: &ImageRepository) -> CredentialLookup {
        let mut lookups = self.lookups.iter();
        let found = lookups.find(|(known, _)| known == repository);
        found.map(|(_, lookup)| lookup.clone()).unwrap_or_default()
    }

    async fn renew_credentials(
        &self,
        repository: &ImageRepository,
        refused: &[RegistryCredentials],
    ) -> CredentialLookup {
        if self.lookups.iter().all(|(known, _)| known != repository) {
            return CredentialLookup::default();
        }
        let renewed = self.store.renew_credentials(repository, refused).await;
        if !renewed.found.is_empty() {
            self.renewal.0.store(true, Ordering::Release);
        }
        renewed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::credentials::FoundCredentials;

    /// Gives `renewed` in place of what is refused, if there is one.
    struct Store(Option<&'static str>);

    fn token(text: &str) -> FoundCredentials {
        FoundCredentials {
            credentials: RegistryCredentials::RegistryToken(text.to_owned().into()),
            source: "a store".into(),
        }
    }

    #[async_trait]
    impl CredentialStore for Store {
        async fn credentials_for_repository(&self, _: &ImageRepository) -> CredentialLookup {
            CredentialLookup::default()
        }

        async fn renew_credentials(
            &self,
            _: &ImageRepository,
            _: &[RegistryCredentials],
        ) -> CredentialLookup {
            CredentialLookup {
                found: self.0.map(token).into_iter().collect(),
                failures: Vec::new(),
            }
        }
    }

    #[tokio::test]
    async fn a_renewal_is_remembered() {
        let repository: ImageRepository = "r.example.com/app".parse().expect("valid");
        let other: ImageRepository = "m.example.com/app".parse().expect("valid");
        for (store, happened) in [(Store(None), false), (Store(Some("new")), true)] {
            let lookup = CredentialLookup {
                found: vec![token("old")],
                failures: Vec::new(),
            };
            let known = vec![(repository.clone(), lookup.clone())];
            let renewable = RenewableLookups::new(known, Arc::new(store));
            let renewal = renewable.renewal();
            let found = renewable.credentials_for_repository(&repository).await;
            assert_eq!(found, lookup);
            assert!(!renewal.has_happened());
            let found = renewable.credentials_for_repository(&other).await;
            assert!(found.found.is_empty(), "of another registry");
            let old = token("old").credentials;
            let renewed = renewable
                .renew_credentials(&other, std::slice::from_ref(&old))
                .await;
            assert!(renewed.found.is_empty() && !renewal.has_happened());
            renewable.renew_credentials(&repository, &[old]).await;
            assert_eq!(renewal.has_happened(), happened);
        }
    }
}
