//! Several places with credentials, in order.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use super::{CredentialLookup, CredentialStore, RegistryCredentials};
use crate::core::reference::ImageRepository;

/// The credentials of several stores, in this order, without duplicates. A store that fails does
/// not hide those of the others.
#[derive(Clone, Default)]
pub struct CredentialChain(Vec<Arc<dyn CredentialStore>>);

impl CredentialChain {
    /// The stores, the one that is tried first in front.
    pub const fn new(stores: Vec<Arc<dyn CredentialStore>>) -> Self {
        Self(stores)
    }
}

impl fmt::Debug for CredentialChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CredentialChain({} stores)", self.0.len())
    }
}

#[async_trait]
impl CredentialStore for CredentialChain {
    async fn credentials_for_repository(&self, repository: &ImageRepository) -> CredentialLookup {
        let mut all = CredentialLookup::default();
        for store in &self.0 {
            all.append(store.credentials_for_repository(repository).await);
        }
        all
    }

    async fn renew_credentials(
        &self,
        repository: &ImageRepository,
        refused: &[RegistryCredentials],
    ) -> CredentialLookup {
        let mut all = CredentialLookup::default();
        for store in &self.0 {
            all.append(store.renew_credentials(repository, refused).await);
        }
        all
    }
}

impl CredentialLookup {
    /// Adds what another store has, without duplicates.
    pub fn append(&mut self, other: Self) {
        for one in other.found {
            if !self.found.iter().any(|o| o.credentials == one.credentials) {
                self.found.push(one);
            }
        }
        self.failures.extend(other.failures);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::credentials::{AnonymousCredentials, DockerConfig, RegistryCredentialError};

    #[tokio::test]
    async fn stores_are_asked_in_order_and_none_hides_another() {
        let config = |source: &str, entry: &str| -> Arc<dyn CredentialStore> {
            let config = format!(r#"{{"auths":{{"r.example.com":{entry}}}}}"#);
            Arc::new(
                DockerConfig::parse(config.as_bytes())
                    .expect("valid")
                    .with_source(source),
            )
        };
        let chain = CredentialChain::new(vec![
            config("broken", r#"{"auth":"hunter2"}"#),
            config("one", r#"{"username":"a","password":"1"}"#),
            Arc::new(AnonymousCredentials),
            config("same", r#"{"username":"a","password":"1"}"#),
            config("two", r#"{"registrytoken":"t"}"#),
        ]);
        let repository = "r.example.com/team/app".parse().expect("valid");
        let lookup = chain.credentials_for_repository(&repository).await;
        let sources: Vec<&str> = lookup.found.iter().map(|o| o.source.as_str()).collect();
        assert_eq!(sources, ["one", "two"]);
        assert_eq!(
            lookup.found[1].credentials,
            RegistryCredentials::RegistryToken("t".to_owned().into())
        );
        assert_eq!(
            lookup.failures,
            [RegistryCredentialError::Encoding {
                source_name: "broken".into(),
                key: "r.example.com".into()
            }]
        );
        assert!(!format!("{lookup:?} {chain:?}").contains("hunter2"));
    }
}
