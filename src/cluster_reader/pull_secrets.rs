//! Registry credentials in Secrets: read when they are needed, and remembered for some seconds.
//!
//! Only the Secrets that an object names are read, one by one, with the permission `get`: nothing
//! is listed or watched, and a namespace that has not opted in is told apart by the API server.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::{Api, Client};
use moka::future::Cache;

use super::{admission_access::AdmissionAccessReviewer, object_name::is_object_name};
use crate::{
    core::{
        pull_secret_names::MAX_PULL_SECRETS,
        reason::{ClassifiedError, Reason},
    },
    service::{
        fair_queue::{FairQueue, FairQueueKey, FairQueueLimits},
        registries::NamedDockerConfig,
    },
};

/// The key of a Secret of type `kubernetes.io/dockerconfigjson`.
const DOCKER_CONFIG: &str = ".dockerconfigjson";
/// The key of a Secret of the older type `kubernetes.io/dockercfg`.
const LEGACY_CONFIG: &str = ".dockercfg";
/// How long a Secret is remembered. A changed one counts within this time.
const SECRET_TTL: Duration = Duration::from_secs(5);
/// The maximum size in bytes of a docker configuration.
const MAX_DOCKER_CONFIG_BYTES: usize = 32 << 10;
/// The number of remembered Secrets, and of remembered ServiceAccounts.
const MAX_REMEMBERED: u64 = 1_024;
/// Docker configurations in memory, remembered ones and those of reviews in progress. Parsed, each
/// takes a few times its size: a namespace with many large Secrets must not fill the webhook.
const HELD_CONFIGS: FairQueueLimits = FairQueueLimits {
    all: 256,
    namespace: 32,
    host: 256,
    namespace_at_host: 32,
    waiting: 0,
    waiting_of_namespace: 0,
};
/// Objects that are read at the same time: a Secret may have a megabyte.
pub(super) const READS: FairQueueLimits = FairQueueLimits {
    all: 8,
    namespace: 4,
    host: 8,
    namespace_at_host: 4,
    waiting: 1_000,
    waiting_of_namespace: 200,
};

type ObjectKey = (Arc<str>, Arc<str>);

/// Reads pull Secrets with the permissions of its client. Clones share what is remembered.
#[derive(Clone)]
pub struct PullSecretReader {
    client: Client,
    secrets: Cache<ObjectKey, Result<NamedDockerConfig, PullSecretError>>,
    accounts: Cache<ObjectKey, Result<Arc<[String]>, PullSecretError>>,
    reads: Arc<FairQueue>,
    held: Arc<FairQueue>,
    reviewer: Option<Arc<AdmissionAccessReviewer>>,
}

/// Why a pull Secret cannot be used. The messages contain names only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PullSecretError {
    /// The object does not exist.
    #[error("{0} does not exist")]
    NotFound(String),
    /// The namespace has not opted in.
    #[error("packgate may not read {0}")]
    AccessDenied(String),
    /// The user who verifies has no permission. Admission may have it.
    #[error("you may not read {0}")]
    UserAccessDenied(String),
    /// The Secret has neither `.dockerconfigjson` nor `.dockercfg`.
    #[error("{0} has no key {DOCKER_CONFIG}")]
    MissingKey(String),
    /// The docker configuration is malformed or too large.
    #[error("{object} has no usable registry credentials: {cause}")]
    Malformed {
        /// The Secret.
        object: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The API server's error.
    #[error("{object} cannot be read: {cause}")]
    Api {
        /// The Secret or ServiceAccount.
        object: String,
        /// The error.
        cause: String,
    },
    /// Too many are being read, or are in memory.
    #[error("{0} cannot be read now: too many Secrets of its namespace are in use; try again")]
    Overloaded(String),
    /// The object names more than [`MAX_PULL_SECRETS`].
    #[error("{0} was not read: only the first {MAX_PULL_SECRETS} Secrets are")]
    TooMany(String),
}

impl ClassifiedError for PullSecretError {
    fn reason(&self) -> Reason {
        match self {
            Self::NotFound(_) | Self::MissingKey(_) => Reason::SourceNotFound,
            Self::AccessDenied(_) | Self::UserAccessDenied(_) | Self::Api { .. } => {
                Reason::SecretAccessDenied
            }
            Self::Malformed { .. } => Reason::InvalidSpec,
            Self::TooMany(_) => Reason::LimitExceeded,
            Self::Overloaded(_) => Reason::Overloaded,
        }
    }
}

impl PullSecretReader {
    /// Nothing is read yet.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            secrets: remembered(),
            accounts: remembered(),
            reads: FairQueue::new(READS),
            held: FairQueue::new(HELD_CONFIGS),
            reviewer: None,
        }
    }

    /// Reads with the permissions of a user what the webhook may read, as far as that is known.
    pub fn for_user(client: Client, reviewer: Arc<AdmissionAccessReviewer>) -> Self {
        Self {
            reviewer: Some(reviewer),
            ..Self::new(client)
        }
    }

    /// The credentials in a Secret of type `kubernetes.io/dockerconfigjson` or
    /// `kubernetes.io/dockercfg`.
    pub async fn read_pull_secret(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<NamedDockerConfig, PullSecretError> {
        let reading = self.fetch_secret(namespace, name);
        get_remembered(&self.secrets, namespace, name, reading).await
    }

    /// The names of the `imagePullSecrets` of a ServiceAccount, of more than [`MAX_PULL_SECRETS`]
    /// one more.
    pub async fn read_account_secrets(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<[String]>, PullSecretError> {
        let reading = self.fetch_account_secrets(namespace, name);
        get_remembered(&self.accounts, namespace, name, reading).await
    }

    async fn fetch_secret(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<NamedDockerConfig, PullSecretError> {
        let object = format!("Secret {namespace}/{name}");
        let mut secret: Secret = self.fetch(namespace, name, &object).await?;
        let mut data = secret.data.take().unwrap_or_default();
        let (bytes, is_legacy) = match (data.remove(DOCKER_CONFIG), data.remove(LEGACY_CONFIG)) {
            (Some(bytes), _) => (bytes, false),
            (None, Some(bytes)) => (bytes, true),
            (None, None) => return Err(PullSecretError::MissingKey(object)),
        };
        let malformed = |cause: String| PullSecretError::Malformed {
            object: object.clone(),
            cause,
        };
        if bytes.0.len() > MAX_DOCKER_CONFIG_BYTES {
            let size = bytes.0.len();
            return Err(malformed(format!(
                "it has {size} bytes, the limit is {MAX_DOCKER_CONFIG_BYTES}"
            )));
        }
        let parsed = if is_legacy {
            NamedDockerConfig::parse_dockercfg(&object, &bytes.0)
        } else {
            NamedDockerConfig::parse(&object, &bytes.0)
        };
        let config = parsed.map_err(|error| malformed(error.to_string()))?;
        self.hold(namespace, config, object).await
    }

    /// The configuration, counted as long as it is in memory.
    async fn hold(
        &self,
        namespace: &str,
        config: NamedDockerConfig,
        object: String,
    ) -> Result<NamedDockerConfig, PullSecretError> {
        let party = FairQueueKey::new(Some(namespace), None);
        let mut permit = self.held.try_acquire(&party);
        if permit.is_err() {
            // Those that are remembered no longer may not have been dropped yet.
            self.secrets.run_pending_tasks().await;
            permit = self.held.try_acquire(&party);
        }
        let permit = permit.map_err(|_| PullSecretError::Overloaded(object))?;
        Ok(config.with_memory_permit(permit))
    }

    async fn fetch_account_secrets(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<[String]>, PullSecretError> {
        let object = format!("ServiceAccount {namespace}/{name}");
        let account: ServiceAccount = self.fetch(namespace, name, &object).await?;
        let names = account.image_pull_secrets.unwrap_or_default();
        Ok(names
            .into_iter()
            .map(|reference| reference.name)
            .take(MAX_PULL_SECRETS + 1)
            .collect())
    }

    async fn fetch<K>(
        &self,
        namespace: &str,
        name: &str,
        object: &str,
    ) -> Result<K, PullSecretError>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + k8s_openapi::Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        if !is_object_name(name) {
            return Err(PullSecretError::NotFound(object.to_owned()));
        }
        let party = FairQueueKey::new(Some(namespace), None);
        let _permit = self
            .reads
            .acquire_permit(&party)
            .await
            .map_err(|_| PullSecretError::Overloaded(object.to_owned()))?;
        if let Some(reviewer) = &self.reviewer
            && !Box::pin(reviewer.may_read::<K>(namespace, name)).await
        {
            return Err(PullSecretError::AccessDenied(object.to_owned()));
        }
        match Api::<K>::namespaced(self.client.clone(), namespace)
            .get_opt(name)
            .await
        {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(PullSecretError::NotFound(object.to_owned())),
            Err(kube::Error::Api(status)) if status.is_forbidden() => Err(match self.reviewer {
                Some(_) => PullSecretError::UserAccessDenied(object.to_owned()),
                None => PullSecretError::AccessDenied(object.to_owned()),
            }),
            Err(error) => Err(PullSecretError::Api {
                object: object.to_owned(),
                cause: error.to_string(),
            }),
        }
    }
}

/// An answer of the API server is remembered, also that there is no such object or no permission;
/// that it gave no answer is not.
async fn get_remembered<V: Clone + Send + Sync + 'static>(
    known: &Cache<ObjectKey, Result<V, PullSecretError>>,
    namespace: &str,
    name: &str,
    reading: impl Future<Output = Result<V, PullSecretError>>,
) -> Result<V, PullSecretError> {
    let key: ObjectKey = (namespace.into(), name.into());
    let found = Box::pin(known.get_with(key.clone(), Box::pin(reading))).await;
    if let Err(PullSecretError::Api { .. } | PullSecretError::Overloaded(_)) = found {
        known.invalidate(&key).await;
    }
    found
}

fn remembered<V: Clone + Send + Sync + 'static>() -> Cache<ObjectKey, V> {
    Cache::builder()
        .max_capacity(MAX_REMEMBERED)
        .time_to_live(SECRET_TTL)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader() -> PullSecretReader {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let nowhere = kube::Config::new("http://127.0.0.1:1".parse().expect("a URL"));
        PullSecretReader::new(Client::try_from(nowhere).expect("a client"))
    }

    #[tokio::test]
    async fn a_namespace_holds_a_bounded_number_of_configurations() {
        let reader = reader();
        let keep = async |namespace: &str| {
            let config = NamedDockerConfig::parse("Secret a/b", b"{}").expect("valid");
            reader.hold(namespace, config, "Secret a/b".into()).await
        };
        let mut held = Vec::new();
        for _ in 0..HELD_CONFIGS.namespace {
            held.push(keep("a").await.expect("within its bound"));
        }
        let error = keep("a").await.expect_err("one more");
        assert_eq!(error.reason(), Reason::Overloaded);
        held.push(keep("b").await.expect("another namespace"));
        let clone = held[0].clone();
        held.clear();
        let mut again = Vec::new();
        for _ in 1..HELD_CONFIGS.namespace {
            again.push(keep("a").await.expect("those before were dropped"));
        }
        keep("a").await.expect_err("a clone is still in use");
        assert_eq!(again.len() + 1, HELD_CONFIGS.namespace);
        drop(clone);
        keep("a").await.expect("and now it is not");
    }

    #[tokio::test]
    async fn what_is_no_name_is_not_asked_for() {
        let error = reader().read_pull_secret("a", "../b").await;
        let error = error.expect_err("not a name");
        assert_eq!(error.reason(), Reason::SourceNotFound, "{error}");
    }
}
