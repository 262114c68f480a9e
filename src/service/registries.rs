//! Opens repositories for many tenants: each with its own credentials, and no others.

use std::sync::Arc;

use crate::{
    core::{
        reason::{ClassifiedError, Reason},
        reference::ImageRepository,
    },
    oci::{ContentSource, OciError, credentials::RegistryCredentialError},
};

/// An opened repository.
pub type OpenedRepository = Arc<dyn ContentSource>;

/// Opens repositories. Implemented where registry clients are made.
pub trait TenantRepositoryOpener: Send + Sync {
    /// The repository, for reading with the credentials for its host in a docker configuration
    /// (`.dockerconfigjson`), or anonymously. Sends nothing yet. No credential helper of the
    /// configuration is ever run.
    fn open_repository(
        &self,
        repository: &ImageRepository,
        docker_config: Option<&[u8]>,
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
