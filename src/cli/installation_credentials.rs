//! The installation's own credentials for registries (chart values `registries[].secretRef` and
//! `credentialProviders`).

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;

use super::{error::CliError, plain_http::canonical_registry_host};
use crate::{
    api::installation::{InstallationConfig, RegistryConfig},
    cluster_reader::{AccountTokenReader, PullSecretError, PullSecretReader},
    core::{credential_provider::CredentialProviderSettings, reference::ImageRepository},
    credential_providers::CredentialProviders,
    oci::credentials::{
        CredentialLookup, CredentialStore, MatchImagePattern, RegistryCredentialError,
    },
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

/// The credential providers that admission asks and a user cannot: told once, for an image that one
/// of them is for.
pub(super) struct UnaskedProviders {
    providers: Vec<CredentialProviderSettings>,
    was_told: AtomicBool,
}

impl UnaskedProviders {
    /// The chart's.
    pub(super) const fn new(providers: Vec<CredentialProviderSettings>) -> Self {
        Self {
            providers,
            was_told: AtomicBool::new(false),
        }
    }

    /// The names of those that are for a repository.
    fn names(&self, repository: &ImageRepository) -> Vec<&str> {
        let is_for =
            |entry: &String| MatchImagePattern::parse(entry).matches_repository(repository);
        let all = self.providers.iter();
        all.filter(|provider| provider.match_images.iter().any(is_for))
            .map(|provider| provider.name.as_str())
            .collect()
    }
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

#[async_trait]
impl CredentialStore for UnaskedProviders {
    async fn credentials_for_repository(&self, repository: &ImageRepository) -> CredentialLookup {
        let names = self.names(repository).join(", ");
        if !names.is_empty() && !self.was_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "admission asks credential providers for {repository} ({names}) and this command does \
                    not, so its verdict may be another one: give credentials with \
                    --registry-config or --credential-provider-config"
            );
        }
        CredentialLookup::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_are_told_for_their_images() {
        let provider = |name: &str, image: &str| {
            let settings = serde_json::json!({"name": name, "matchImages": [image]});
            serde_json::from_value(settings).expect("settings")
        };
        let unasked = UnaskedProviders::new(vec![
            provider("ecr", "*.dkr.ecr.*.amazonaws.com"),
            provider("corp", "r.example.com/team-a"),
        ]);
        for (repository, names) in [
            ("r.example.com/team-a/app", &["corp"][..]),
            ("r.example.com/team-b/app", &[]),
            ("1.dkr.ecr.eu-central-1.amazonaws.com/app", &["ecr"]),
        ] {
            let repository = repository.parse().expect(repository);
            assert_eq!(unasked.names(&repository), names, "{repository}");
        }
    }
}
