//! The registry credentials of a reviewed object, from the Secrets that its images are pulled with.

use std::{fmt, sync::Arc};

use tokio::sync::OnceCell;

use crate::{
    api::rbac::tenant_grant_command,
    cluster_reader::{PullCredentials, PullSecretError, PullSecretReader},
    core::{
        policy::Denial, pull_secret_names::PullSecretNames, reason::Reason,
        reference::ImageRepository,
    },
};

/// The credentials of one review. They are read at most once, and only when a policy governs one of
/// its images. Clones share them.
#[derive(Clone)]
pub(super) struct ReviewCredentials {
    names: Arc<PullSecretNames>,
    /// `None` if they were read before.
    secrets: Option<NamespaceSecrets>,
    found: Arc<OnceCell<PullCredentials>>,
}

/// The Secrets of a namespace.
#[derive(Clone)]
struct NamespaceSecrets {
    reader: PullSecretReader,
    namespace: String,
}

impl Default for ReviewCredentials {
    /// No credentials.
    fn default() -> Self {
        Self::known(PullSecretNames::default(), PullCredentials::default())
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
            names: Arc::new(names),
            secrets: Some(NamespaceSecrets {
                reader,
                namespace: namespace.to_owned(),
            }),
            found: Arc::default(),
        }
    }

    /// Those that were read before.
    pub(super) fn known(names: PullSecretNames, credentials: PullCredentials) -> Self {
        Self {
            names: Arc::new(names),
            secrets: None,
            found: Arc::new(OnceCell::new_with(Some(credentials))),
        }
    }

    /// The names of the object's Secrets.
    pub(super) fn secret_names(&self) -> &PullSecretNames {
        &self.names
    }

    /// The ServiceAccount of the Pods, if the object has any.
    pub(super) fn service_account(&self) -> Option<&str> {
        self.names.pod_service_account.as_deref()
    }

    /// The credentials. The first call may read Secrets.
    pub(super) async fn get(&self) -> &PullCredentials {
        if let Some(found) = self.found.get() {
            return found;
        }
        self.found
            .get_or_init(|| async {
                match &self.secrets {
                    Some(NamespaceSecrets { reader, namespace }) => {
                        Box::pin(reader.read_pull_credentials(namespace, &self.names)).await
                    }
                    None => PullCredentials::default(),
                }
            })
            .await
    }
}

/// The denial of an image whose registry denied access, for whoever wrote the object: which
/// Secrets could not be used, and what mends it. `None` if the object's Secrets are not the
/// cause.
pub(super) fn access_denial(
    credentials: &PullCredentials,
    repository: &ImageRepository,
    namespace: &str,
    system_namespace: &str,
) -> Option<Denial> {
    let first = credentials.unusable.first()?;
    let told: Vec<String> = credentials
        .unusable
        .iter()
        .map(ToString::to_string)
        .collect();
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
    let message =
        format!("{repository} denied access with the credentials at hand, and {told}; {remedy}");
    Some(Denial::new(Reason::SecretAccessDenied, message))
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
            let denial = access_denial(&credentials, &repository, "team-a", "packgate-system");
            assert_eq!(denial.is_some(), expected.is_some());
            let (Some(denial), Some(expected)) = (denial, expected) else {
                continue;
            };
            assert_eq!(denial.reason, Reason::SecretAccessDenied);
            assert!(denial.message.contains(expected), "{}", denial.message);
        }
    }
}
