//! The registry credentials in all Secrets that an object names.

use super::pull_secrets::{PullSecretError, PullSecretReader};
use crate::{
    core::pull_secret_names::{MAX_PULL_SECRETS, PullSecretNames},
    service::registries::NamedDockerConfig,
};

/// The credentials that were found, and why others were not.
#[derive(Clone, Debug, Default)]
pub struct PullCredentials {
    /// The credentials of each Secret, in the order of their names.
    pub configs: Vec<NamedDockerConfig>,
    /// Why the other Secrets cannot be used.
    pub unusable: Vec<PullSecretError>,
}

impl PullSecretReader {
    /// Reads the Secrets of these names, at most [`MAX_PULL_SECRETS`], those of the ServiceAccount
    /// last.
    pub async fn read_pull_credentials(
        &self,
        namespace: &str,
        names: &PullSecretNames,
    ) -> PullCredentials {
        let mut all = PullCredentials::default();
        let mut secrets = names.secrets.clone();
        if let Some(account) = &names.service_account {
            match self.read_account_secrets(namespace, account).await {
                Ok(of_account) => secrets.extend(of_account.iter().cloned()),
                Err(error) => all.unusable.push(error),
            }
        }
        if let Some(name) = secrets.get(MAX_PULL_SECRETS) {
            let secret = format!("Secret {namespace}/{name}");
            all.unusable.push(PullSecretError::TooMany(secret));
        }
        for name in secrets.iter().take(MAX_PULL_SECRETS) {
            match self.read_pull_secret(namespace, name).await {
                Ok(config) => all.configs.push(config),
                Err(error) => all.unusable.push(error),
            }
        }
        all
    }
}
