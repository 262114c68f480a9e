//! Credentials for registries: where they come from, and which of them are for a repository.
//!
//! The caller reads files and Secrets. Docker configurations may name credential helpers, which are
//! programs: they only run after [`DockerConfig::allow_helpers`], because a file from a Secret must
//! never start a process.

mod auth_entry;
mod chain;
mod docker_config;
mod helper;
mod host_credentials;
mod host_glob;
mod key_pattern;
mod match_image;

use async_trait::async_trait;

pub use chain::CredentialChain;
pub use docker_config::DockerConfig;
pub use host_credentials::HostCredentials;
pub use key_pattern::{RegistryKeyPattern, matching_entries};
pub use match_image::MatchImagePattern;

use crate::{
    core::{
        reason::{ClassifiedError, Reason},
        reference::ImageRepository,
    },
    http::Redacted,
};

/// Credentials for a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryCredentials {
    /// A user name and a password or access token.
    Password {
        /// The user name.
        username: String,
        /// The password.
        password: Redacted<String>,
    },
    /// An OAuth 2 refresh token, which the token endpoint exchanges for access tokens.
    IdentityToken(Redacted<String>),
    /// An access token that is shown to the registry as it is (`Authorization: Bearer`).
    RegistryToken(Redacted<String>),
}

/// Credentials that match a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundCredentials {
    /// The credentials.
    pub credentials: RegistryCredentials,
    /// Where they come from, for messages: `Secret team-a/pull`. Never a secret.
    pub source: String,
}

/// The credentials of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialLookup {
    /// All that match, the most specific first. They are tried in this order. Without any the
    /// registry is asked anonymously, if nothing failed.
    pub found: Vec<FoundCredentials>,
    /// What could not be read and might have had more of them.
    pub failures: Vec<RegistryCredentialError>,
}

/// Looks up credentials by repository.
#[async_trait]
pub trait CredentialStore: Send + Sync {
    /// The credentials for a repository. Asked again whenever a registry refuses what it was shown,
    /// so that renewed credentials count.
    async fn credentials_for_repository(&self, repository: &ImageRepository) -> CredentialLookup;

    /// Credentials in place of `refused`, which the registry did not take though they had not
    /// ended: what a credential provider gives when it is run again. Most stores have none.
    async fn renew_credentials(
        &self,
        _repository: &ImageRepository,
        _refused: &[RegistryCredentials],
    ) -> CredentialLookup {
        CredentialLookup::default()
    }
}

/// What was looked up for one repository, and for no other.
#[async_trait]
impl CredentialStore for CredentialLookup {
    async fn credentials_for_repository(&self, _: &ImageRepository) -> Self {
        self.clone()
    }
}

/// A store without credentials.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnonymousCredentials;

#[async_trait]
impl CredentialStore for AnonymousCredentials {
    async fn credentials_for_repository(&self, _: &ImageRepository) -> CredentialLookup {
        CredentialLookup::default()
    }
}

/// Why credentials are not available. No variant contains any part of a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryCredentialError {
    /// The configuration is invalid.
    #[error("{source_name} cannot be read: line {line}, column {column}")]
    Malformed {
        /// Where it comes from.
        source_name: String,
        /// The line, from 1.
        line: usize,
        /// The column.
        column: usize,
    },
    /// An entry of `auths` has another type than the format says.
    #[error("{source_name}: the entry of {key} is malformed; log in again")]
    Entry {
        /// Where it comes from.
        source_name: String,
        /// The key in `auths`.
        key: String,
    },
    /// `auth` is not `base64(user:password)`.
    #[error("{source_name}: \"auth\" of {key} is not base64 of user:password; log in again")]
    Encoding {
        /// Where it comes from.
        source_name: String,
        /// The key in `auths`.
        key: String,
    },
    /// A helper is configured where none may run.
    #[error(
        "{source_name} names the credential helper {helper}, which must not run here; write the \
            credential into \"auths\""
    )]
    HelperNotAllowed {
        /// Where it comes from.
        source_name: String,
        /// The helper's name.
        helper: String,
    },
    /// A credential helper failed.
    #[error("credential helper docker-credential-{helper}: {cause}")]
    Helper {
        /// The helper's name.
        helper: String,
        /// The error.
        cause: String,
    },
    /// A credential provider failed.
    #[error("credential provider {name}: {cause}")]
    Provider {
        /// Its name.
        name: String,
        /// The error.
        cause: String,
        /// Its class: the provider is unavailable, or may not have a ServiceAccount's token.
        reason: Reason,
    },
    /// Another place with credentials failed.
    #[error("{source_name}: {cause}")]
    Source {
        /// Where the credentials would come from.
        source_name: String,
        /// The error.
        cause: String,
    },
}

impl ClassifiedError for RegistryCredentialError {
    fn reason(&self) -> Reason {
        match self {
            Self::Provider { reason, .. } => *reason,
            _ => Reason::InvalidSpec,
        }
    }
}
