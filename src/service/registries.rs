//! How a service that runs for many people opens their repositories: each with its own credentials,
//! and no others.

use std::sync::Arc;

use crate::{
    core::{
        class::{Classified, Reason},
        reference::Repository,
    },
    oci::{OciError, Source, auth::AuthError},
};

/// A repository that was opened.
pub type Opened = Arc<dyn Source>;

/// Opens repositories. Whoever puts clients together implements it.
pub trait Registries: Send + Sync {
    /// The repository, to be read with what a docker configuration (`.dockerconfigjson`) knows of
    /// its host, or anonymously. Sends nothing yet. No credential helper of the configuration is
    /// ever run.
    fn open(
        &self,
        repository: &Repository,
        docker_config: Option<&[u8]>,
    ) -> Result<Opened, OpenError>;
}

/// Why a repository cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration is none.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The repository cannot be asked.
    #[error(transparent)]
    Oci(#[from] OciError),
}

impl Classified for OpenError {
    fn reason(&self) -> Reason {
        match self {
            Self::Auth(error) => error.reason(),
            Self::Oci(error) => error.reason(),
        }
    }
}
