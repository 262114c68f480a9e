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

impl PullCredentials {
    /// Removes and returns what a user could not read and admission perhaps can.
    pub fn take_failures_of_user(&mut self) -> Vec<PullSecretError> {
        let all = std::mem::take(&mut self.unusable);
        let (of_user, others) = all.into_iter().partition(|error| match error {
            PullSecretError::UserAccessDenied(_)
            | PullSecretError::Api { .. }
            | PullSecretError::Overloaded(_) => true,
            PullSecretError::AccessDenied(_)
            | PullSecretError::NotFound(_)
            | PullSecretError::MissingKey(_)
            | PullSecretError::Malformed { .. }
            | PullSecretError::TooMany(_) => false,
        });
        self.unusable = others;
        of_user
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_the_user_could_not_read_is_no_reason_of_admission() {
        let object = || "Secret team-a/pull".to_owned();
        let of_user = [
            PullSecretError::UserAccessDenied(object()),
            PullSecretError::Overloaded(object()),
            PullSecretError::Api {
                object: object(),
                cause: "no answer".into(),
            },
        ];
        let of_both = [
            PullSecretError::AccessDenied(object()),
            PullSecretError::NotFound(object()),
            PullSecretError::MissingKey(object()),
            PullSecretError::TooMany(object()),
            PullSecretError::Malformed {
                object: object(),
                cause: "it is no JSON".into(),
            },
        ];
        let mut found = PullCredentials {
            configs: Vec::new(),
            unusable: [&of_both[..2], &of_user, &of_both[2..]].concat(),
        };
        assert_eq!(found.take_failures_of_user(), of_user);
        assert_eq!(found.unusable, of_both);
    }
}
