//! The installation's own credentials for registries (chart values `registries[].secretRef` and
//! `credentialProviders`).

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{error::CliError, plain_http::canonical_registry_host};
use crate::{
    api::installation::{InstallationConfig, RegistryConfig},
    cluster_reader::{AccountTokenReader, PullSecretError, PullSecretReader},
    core::reference::ImageRepository,
    credential_providers::CredentialProviders,
    oci::credentials::{CredentialLookup, CredentialStore, RegistryCredentialError},
};

/// Looks up credentials in Secrets of the system namespace. A changed Secret counts within
/// seconds.
#[derive(Clone)]
pub(super) struct InstallationCredentials {
    reader: PullSecretReader,
    namespace: String,
    secrets: Arc<BTreeMap<String, String>>,
}

impl InstallationCredentials {
    /// Those that the configuration names for each registry. Nothing is read yet.
    ///
    /// Errors: an invalid host.
    pub(super) fn new(
        reader: PullSecretReader,
        namespace: &str,
        registries: &[RegistryConfig],
    ) -> Result<Self, CliError> {
        let mut secrets = BTreeMap::new();
        for registry in registries {
            if let Some(secret) = &registry.secret_ref {
                let host = canonical_registry_host(&registry.host)?;
                secrets.insert(host, secret.name.clone());
            }
        }
        Ok(Self {
            reader,
            namespace: namespace.to_owned(),
            secrets: Arc::new(secrets),
        })
    }
}

/// The chart's credential providers. Nobody waits longer than `wait` for one.
pub(super) fn installation_providers(
    installation: &InstallationConfig,
    tokens: AccountTokenReader,
    wait: Duration,
) -> CredentialProviders {
    let settings = installation.credential_providers.clone();
    // Each has an absolute path: no folder counts.
    CredentialProviders::new(settings, Path::new("/"), Some(Arc::new(tokens)), wait)
}

/// Admission has permissions and Secrets that the user may not have.
pub(super) fn warn_of_other_verdict(error: &PullSecretError) {
    tracing::warn!(
        "{error}; admission reads it with its own permissions, so its verdict may be another one \
            if the registry asks for these credentials: let somebody verify who may read it, or \
            give credentials with --registry-config"
    );
}

#[async_trait]
impl CredentialStore for InstallationCredentials {
    async fn credentials_for_repository(&self, repository: &ImageRepository) -> CredentialLookup {
        let Some(name) = self.secrets.get(repository.host()) else {
            return CredentialLookup::default();
        };
        match self.reader.read_pull_secret(&self.namespace, name).await {
            Ok(config) => config.store().credentials_for_repository(repository).await,
            Err(error @ PullSecretError::UserAccessDenied(_)) => {
                warn_of_other_verdict(&error);
                CredentialLookup::default()
            }
            Err(error) => CredentialLookup {
                found: Vec::new(),
                failures: vec![RegistryCredentialError::Source {
                    source_name: format!("registries[].secretRef of {}", repository.host()),
                    cause: error.to_string(),
                }],
            },
        }
    }
}
