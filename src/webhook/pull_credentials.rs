//! The registry credentials of a reviewed object, from the Secrets that its images are pulled with.

use std::{fmt, sync::Arc};

use tokio::sync::OnceCell;

use super::workload::PullSecretNames;
use crate::{
    api::rbac::tenant_grant_command,
    cluster_reader::{MAX_PULL_SECRETS, PullSecretError, PullSecretReader},
    core::{policy::Denial, reason::Reason, reference::ImageRepository},
    service::registries::NamedDockerConfig,
};

/// The credentials of one review. They are read at most once, and only when a policy governs one of
/// its images. Clones share them.
#[derive(Clone)]
pub(super) struct ReviewCredentials {
    named: Option<Arc<NamedPullSecrets>>,
    found: Arc<OnceCell<PullCredentials>>,
}

/// Where pull Secrets are read, and which.
struct NamedPullSecrets {
    reader: PullSecretReader,
    namespace: String,
    names: PullSecretNames,
}

/// The credentials that were found, and why others were not.
#[derive(Clone, Debug, Default)]
pub(super) struct PullCredentials {
    /// The credentials of each Secret, in the order of their names.
    pub configs: Vec<NamedDockerConfig>,
    /// Why the other Secrets cannot be used.
    pub unusable: Vec<PullSecretError>,
}

impl Default for ReviewCredentials {
    /// No credentials.
    fn default() -> Self {
        Self::known(PullCredentials::default())
    }
}

impl fmt::Debug for ReviewCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReviewCredentials")
    }
}

impl ReviewCredentials {
    /// Those in the Secrets of these names in the object's namespace.
    pub(super) fn named(reader: PullSecretReader, namespace: &str, names: PullSecretNames) -> Self {
        Self {
            named: Some(Arc::new(NamedPullSecrets {
                reader,
                namespace: namespace.to_owned(),
                names,
            })),
            found: Arc::default(),
        }
    }

    /// Those that were read before.
    pub(super) fn known(credentials: PullCredentials) -> Self {
        Self {
            named: None,
            found: Arc::new(OnceCell::new_with(Some(credentials))),
        }
    }

    /// The ServiceAccount of the Pods, if the object has any.
    pub(super) fn service_account(&self) -> Option<&str> {
        let named = self.named.as_ref()?;
        Some(&named.names.pod_account)
    }

    /// The credentials. The first call may read Secrets.
    pub(super) async fn get(&self) -> &PullCredentials {
        if let Some(found) = self.found.get() {
            return found;
        }
        self.found
            .get_or_init(|| async {
                match &self.named {
                    Some(named) => Box::pin(named.read()).await,
                    None => PullCredentials::default(),
                }
            })
            .await
    }
}

impl NamedPullSecrets {
    async fn read(&self) -> PullCredentials {
        let mut all = PullCredentials::default();
        let mut names = self.names.secrets.clone();
        if let Some(account) = &self.names.service_account {
            let of_account = self.reader.read_account_secrets(&self.namespace, account);
            match of_account.await {
                Ok(secrets) => names.extend(secrets.iter().cloned()),
                Err(error) => all.unusable.push(error),
            }
        }
        if let Some(name) = names.get(MAX_PULL_SECRETS) {
            let secret = format!("Secret {}/{name}", self.namespace);
            all.unusable.push(PullSecretError::TooMany(secret));
        }
        for name in names.iter().take(MAX_PULL_SECRETS) {
            match self.reader.read_pull_secret(&self.namespace, name).await {
                Ok(config) => all.configs.push(config),
                Err(error) => all.unusable.push(error),
            }
        }
        all
    }
}

impl PullCredentials {
    /// The denial of an image whose registry denied access, for whoever wrote the object: which
    /// Secrets could not be used, and what mends it. `None` if the object's Secrets are not the
    /// cause.
    pub(super) fn access_denial(
        &self,
        repository: &ImageRepository,
        namespace: &str,
        system_namespace: &str,
    ) -> Option<Denial> {
        let first = self.unusable.first()?;
        let told: Vec<String> = self.unusable.iter().map(ToString::to_string).collect();
        let told = told.join("; ");
        let remedy = match first {
            PullSecretError::AccessDenied(_) => format!(
                "whoever administers the cluster can grant access: {}, or add {namespace} to the \
                    chart's value tenants; or give the installation its own credential for {} \
                    (chart value registries[].secretRef)",
                tenant_grant_command(namespace, system_namespace),
                repository.host()
            ),
            PullSecretError::NotFound(_) => "create it, or correct its name".to_owned(),
            PullSecretError::Malformed { .. } | PullSecretError::MissingKey(_) => {
                "make it anew with kubectl create secret docker-registry".to_owned()
            }
            PullSecretError::Api { .. } | PullSecretError::Overloaded(_) => "try again".to_owned(),
            PullSecretError::TooMany(_) => "name fewer of them".to_owned(),
        };
        let message = format!(
            "{repository} denied access with the credentials at hand, and {told}; {remedy}"
        );
        Some(Denial::new(Reason::SecretAccessDenied, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_names_the_secret_and_what_mends_it() {
        let repository: ImageRepository = "r.example.com/team-a/app".parse().expect("valid");
        let secret = || "Secret team-a/pull".to_owned();
        for (unusable, expected) in [
            (vec![], None),
            (
                vec![PullSecretError::AccessDenied(secret())],
                Some("packgate may not read Secret team-a/pull"),
            ),
            (
                vec![PullSecretError::AccessDenied(secret())],
                Some("kubectl create rolebinding"),
            ),
            (
                vec![PullSecretError::TooMany(secret())],
                Some("only the first 16 Secrets are; name fewer of them"),
            ),
            (
                vec![PullSecretError::NotFound(secret())],
                Some("Secret team-a/pull does not exist; create it"),
            ),
        ] {
            let credentials = PullCredentials {
                configs: vec![],
                unusable,
            };
            let denial = credentials.access_denial(&repository, "team-a", "packgate-system");
            assert_eq!(denial.is_some(), expected.is_some());
            let (Some(denial), Some(expected)) = (denial, expected) else {
                continue;
            };
            assert_eq!(denial.reason, Reason::SecretAccessDenied);
            assert!(denial.message.contains(expected), "{}", denial.message);
        }
    }
}
