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

/// What was looked up for one repository, and where it is renewed.
#[derive(Clone)]
pub struct RenewableLookup {
    lookup: CredentialLookup,
    store: Arc<dyn CredentialStore>,
    renewal: CredentialRenewal,
}

impl CredentialRenewal {
    /// True if other credentials were used.
    pub fn has_happened(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl RenewableLookup {
    /// What was looked up in `store`.
    pub fn new(lookup: CredentialLookup, store: Arc<dyn CredentialStore>) -> Self {
        Self {
            lookup,
            store,
            renewal: CredentialRenewal::default(),
        }
    }

    /// Whether it was renewed.
    pub fn renewal(&self) -> CredentialRenewal {
        self.renewal.clone()
    }
}

#[async_trait]
impl CredentialStore for RenewableLookup {
    async fn credentials_for_repository(&self, _: &ImageRepository) -> CredentialLookup {
        self.lookup.clone()
    }

    async fn renew_credentials(
        &self,
        repository: &ImageRepository,
        refused: &[RegistryCredentials],
    ) -> CredentialLookup {
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
        let repository = "r.example.com/app".parse().expect("valid");
        for (store, happened) in [(Store(None), false), (Store(Some("new")), true)] {
            let lookup = CredentialLookup {
                found: vec![token("old")],
                failures: Vec::new(),
            };
            let renewable = RenewableLookup::new(lookup.clone(), Arc::new(store));
            let renewal = renewable.renewal();
            let found = renewable.credentials_for_repository(&repository).await;
            assert_eq!(found, lookup);
            assert!(!renewal.has_happened());
            let old = token("old").credentials;
            renewable.renew_credentials(&repository, &[old]).await;
            assert_eq!(renewal.has_happened(), happened);
        }
    }
}
