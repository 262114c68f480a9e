//! How a service that runs for many people opens their repositories: each with its own credentials,
//! and no others.

use std::sync::Arc;

use crate::{
    core::{
        reason::{ClassifiedError, Reason},
        reference::ImageRepository,
    },
    oci::{ContentSource, OciError, auth::RegistryCredentialError},
};

/// A repository that was opened.
pub type OpenedRepository = Arc<dyn ContentSource>;

/// Opens repositories. Whoever puts clients together implements it.
pub trait TenantRepositoryOpener: Send + Sync {
    /// The repository, to be read with what a docker configuration (`.dockerconfigjson`) knows of
    /// its host, or anonymously. Sends nothing yet. No credential helper of the configuration is
    /// ever run.
    fn open_repository(
        &self,
        repository: &ImageRepository,
        docker_config: Option<&[u8]>,
    ) -> Result<OpenedRepository, RepositoryOpenError>;
}

/// Why a repository cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryOpenError {
    /// The configuration is none.
    #[error(transparent)]
    Auth(#[from] RegistryCredentialError),
    /// The repository cannot be asked.
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
