//! Opens repositories for many tenants: each with its own credentials, and no others.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    core::{
        digest::Digest,
        reason::{ClassifiedError, Reason},
        reference::ImageRepository,
    },
    oci::{
        ContentSource, OciError,
        credentials::{
            CredentialChain, CredentialLookup, CredentialStore, DockerConfig,
            RegistryCredentialError,
        },
    },
};

/// An opened repository.
#[derive(Clone)]
pub struct OpenedRepository {
    /// Its content.
    pub source: Arc<dyn ContentSource>,
    /// The digest of all credentials that match the repository, in their order; `None` if it is
    /// read anonymously. What was read with some credentials is not known to those who have others.
    pub credentials: Option<Digest>,
}

/// A docker configuration that an object names, such as that of a Secret.
#[derive(Clone, Debug)]
pub struct NamedDockerConfig(Arc<DockerConfig>);

/// Opens repositories. Implemented where registry clients are made.
#[async_trait]
pub trait TenantRepositoryOpener: Send + Sync {
    /// The repository, for reading with the credentials for it in `configs`, then with those of the
    /// installation, else anonymously. Sends nothing to the registry yet. No credential helper of a
    /// configuration is ever run.
    async fn open_repository(
        &self,
        repository: &ImageRepository,
        configs: &[NamedDockerConfig],
    ) -> Result<OpenedRepository, RepositoryOpenError>;
}

/// Why a repository cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryOpenError {
    /// The docker configuration is invalid.
    #[error(transparent)]
    Auth(#[from] RegistryCredentialError),
    /// The repository cannot be opened.
    #[error(transparent)]
    Oci(#[from] OciError),
}

impl ClassifiedError for RepositoryOpenError {
    fn reason(&self) -> Reason {
        match self {
            Self::Auth(error) => error.reason(),
            Self::Oci(error) => error.reason(),
        }
    }
}

impl OpenedRepository {
    /// A repository that is read without credentials.
    pub const fn anonymous(source: Arc<dyn ContentSource>) -> Self {
        Self {
            source,
            credentials: None,
        }
    }
}

impl NamedDockerConfig {
    /// Parses `.dockerconfigjson`, or the older `.dockercfg`. `source` names the Secret in
    /// messages.
    pub fn parse(source: &str, bytes: &[u8]) -> Result<Self, RegistryCredentialError> {
        let config = DockerConfig::parse(bytes)?.with_source(source);
        Ok(Self(Arc::new(config)))
    }

    /// The configuration, to look up credentials in.
    pub fn store(&self) -> Arc<dyn CredentialStore> {
        Arc::clone(&self.0) as Arc<dyn CredentialStore>
    }
}

/// The credentials in several configurations, in this order.
pub fn named_credentials(configs: &[NamedDockerConfig]) -> CredentialChain {
    CredentialChain::new(configs.iter().map(NamedDockerConfig::store).collect())
}

/// The digest of credentials, in their order; `None` if there are none.
pub fn credentials_digest(lookup: &CredentialLookup) -> Option<Digest> {
    if lookup.found.is_empty() {
        return None;
    }
    let all: Vec<u8> = lookup
        .found
        .iter()
        .flat_map(|found| found.credentials.fingerprint())
        .collect();
    Some(Digest::of_bytes(&all))
}
