//! The registry credentials of a reviewed object, from the Secrets that its images are pulled with.

use std::{fmt, sync::Arc};

use tokio::sync::OnceCell;

use crate::{
    cluster_reader::{PullCredentials, PullSecretReader},
    core::pull_secret_names::PullSecretNames,
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
