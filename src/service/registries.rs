//! Opens repositories for many tenants: each with its own credentials, and no others.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    fair_queue::FairQueuePermit,
    renewable_lookup::{CredentialRenewal, RenewableLookups},
};
use crate::{
    core::{
        digest::Digest,
        reason::{ClassifiedError, Reason},
        reference::ImageRepository,
    },
    oci::{
        ContentSource, OciError,
        credentials::{
            CredentialChain, CredentialLookup, CredentialStore, DockerConfig,
            RegistryCredentialError, RegistryCredentials,
        },
    },
};

/// An opened repository.
#[derive(Clone)]
pub struct OpenedRepository {
    /// Its content.
    pub source: Arc<dyn ContentSource>,
    /// The digest of all credentials that match the repository, in their order; `None` if it is
    /// read anonymously. What was read with some credentials is not known to those who have others.
    pub credentials: Option<Digest>,
    /// Whether it was read with renewed credentials since.
    pub renewal: CredentialRenewal,
}

/// For whom a repository is opened, with the credentials that they name.
#[derive(Clone, Copy, Debug)]
pub struct RepositoryRequester<'a> {
    /// The namespace of the object.
    pub namespace: &'a str,
    /// The docker configurations that it names.
    pub configs: &'a [NamedDockerConfig],
    /// The ServiceAccount of a Pod.
    pub service_account: Option<&'a str>,
}

/// A docker configuration that an object names, such as that of a Secret.
#[derive(Clone, Debug)]
pub struct NamedDockerConfig {
    config: Arc<DockerConfig>,
    /// Released with the last clone.
    _memory: Option<Arc<FairQueuePermit>>,
}

/// Opens repositories. Implemented where registry clients are made.
#[async_trait]
pub trait TenantRepositoryOpener: Send + Sync {
    /// The repository, for reading with the credentials for it in the requester's configurations,
    /// then with those of the installation, then with those of credential providers, else
    /// anonymously. Sends nothing to the registry yet. No credential helper of a configuration is
    /// ever run.
    async fn open_repository(
        &self,
        repository: &ImageRepository,
        requester: &RepositoryRequester<'_>,
    ) -> Result<OpenedRepository, RepositoryOpenError>;
}

/// Why a repository cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryOpenError {
    /// The docker configuration is invalid.
    #[error(transparent)]
    Auth(#[from] RegistryCredentialError),
    /// The repository cannot be opened.
    #[error(transparent)]
    Oci(#[from] OciError),
}

impl ClassifiedError for RepositoryOpenError {
    fn reason(&self) -> Reason {
        match self {
            Self::Auth(error) => error.reason(),
            Self::Oci(error) => error.reason(),
        }
    }
}

impl OpenedRepository {
    /// A repository that is read without credentials.
    pub fn anonymous(source: Arc<dyn ContentSource>) -> Self {
        Self {
            source,
            credentials: None,
            renewal: CredentialRenewal::default(),
        }
    }
}

impl NamedDockerConfig {
    /// Parses the `.dockerconfigjson` of a Secret. `source` names it in messages.
    pub fn parse(source: &str, bytes: &[u8]) -> Result<Self, RegistryCredentialError> {
        DockerConfig::parse(bytes).map(|config| Self::new(config, source))
    }

    /// Parses the older `.dockercfg`.
    pub fn parse_dockercfg(source: &str, bytes: &[u8]) -> Result<Self, RegistryCredentialError> {
        DockerConfig::parse_dockercfg(bytes).map(|config| Self::new(config, source))
    }

    fn new(config: DockerConfig, source: &str) -> Self {
        Self {
            config: Arc::new(config.with_source(source)),
            _memory: None,
        }
    }

    /// Keeps a permit for the memory that it takes, as long as it is used.
    #[must_use]
    pub fn with_memory_permit(self, permit: FairQueuePermit) -> Self {
        Self {
            _memory: Some(Arc::new(permit)),
            ..self
        }
    }

    /// The configuration, to look up credentials in.
    pub fn store(&self) -> Arc<dyn CredentialStore> {
        Arc::clone(&self.config) as Arc<dyn CredentialStore>
    }
}

/// The credentials in several configurations, in this order.
pub fn named_credentials(configs: &[NamedDockerConfig]) -> CredentialChain {
    CredentialChain::new(configs.iter().map(NamedDockerConfig::store).collect())
}

/// The digest of the credentials for several repositories: of one, and of where else it is read.
/// `None` if there are none for any of them.
pub fn combined_credentials_digest(lookups: &RenewableLookups) -> Option<Digest> {
    let digests: Vec<Option<Digest>> = lookups.lookups().map(credentials_digest).collect();
    match digests.as_slice() {
        [only] => *only,
        all if all.iter().all(Option::is_none) => None,
        all => Some(Digest::of_parts(all.iter().map(|digest| {
            digest
                .as_ref()
                .map_or(&[][..], |digest| digest.as_bytes().as_slice())
        }))),
    }
}

/// The digest of credentials, in their order; `None` if there are none.
pub fn credentials_digest(lookup: &CredentialLookup) -> Option<Digest> {
    if lookup.found.is_empty() {
        return None;
    }
    let parts = lookup.found.iter().flat_map(|found| {
        let (kind, name, secret) = match &found.credentials {
            RegistryCredentials::Password { username, password } => {
                ("password", username.as_str(), password)
            }
            RegistryCredentials::IdentityToken(token) => ("identity token", "", token),
            RegistryCredentials::RegistryToken(token) => ("registry token", "", token),
        };
        [kind, name, secret.expose()].map(str::as_bytes)
    });
    Some(Digest::of_parts(parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn digest_of(auths: &str) -> Option<Digest> {
        let config = format!(r#"{{"auths":{auths}}}"#);
        let config = NamedDockerConfig::parse("Secret a/b", config.as_bytes()).expect("valid");
        let repository = "r.example.com/team/app".parse().expect("valid");
        let lookup = named_credentials(&[config])
            .credentials_for_repository(&repository)
            .await;
        credentials_digest(&lookup)
    }

    #[tokio::test]
    async fn credentials_of_a_mirror_are_part_of_what_a_verdict_counts_for() {
        let both =
            r#"{"r.example.com":{"registrytoken":"a"},"m.example.com":{"registrytoken":"b"}}"#;
        let swapped =
            r#"{"r.example.com":{"registrytoken":"b"},"m.example.com":{"registrytoken":"a"}}"#;
        let one = r#"{"r.example.com":{"registrytoken":"a"}}"#;
        let mut seen = Vec::new();
        for (auths, hosts) in [
            (both, &["r.example.com", "m.example.com"][..]),
            (swapped, &["r.example.com", "m.example.com"]),
            (one, &["r.example.com", "m.example.com"]),
            (one, &["m.example.com", "r.example.com"]),
            (one, &["r.example.com"]),
            (one, &["m.example.com", "n.example.com"]),
        ] {
            let config = format!(r#"{{"auths":{auths}}}"#);
            let config = NamedDockerConfig::parse("a", config.as_bytes()).expect("valid");
            let repositories = hosts
                .iter()
                .map(|host| format!("{host}/a").parse().expect("valid"));
            let store = Arc::new(named_credentials(&[config]));
            let lookups = RenewableLookups::look_up(store, repositories.collect()).await;
            let digest = combined_credentials_digest(&lookups);
            assert!(!seen.contains(&digest), "{auths} {hosts:?}");
            seen.push(digest);
        }
        assert_eq!(seen.last(), Some(&None), "anonymous");
        assert_eq!(seen[4], digest_of(one).await);
    }

    #[tokio::test]
    async fn other_credentials_have_another_digest() {
        let shapes = [
            r#"{"r.example.com":{"username":"a","password":"bc"}}"#,
            r#"{"r.example.com":{"username":"ab","password":"c"}}"#,
            r#"{"r.example.com":{"username":"a","password":"c"}}"#,
            r#"{"r.example.com":{"identitytoken":"b"}}"#,
            r#"{"r.example.com":{"registrytoken":"b"}}"#,
            r#"{"r.example.com/team":{"username":"x","password":"y"},
                "r.example.com":{"username":"a","password":"b"}}"#,
            "{}",
        ];
        let mut seen = Vec::new();
        for auths in shapes {
            let digest = digest_of(auths).await;
            assert!(!seen.contains(&digest), "{auths}");
            seen.push(digest);
        }
        assert_eq!(seen.last(), Some(&None), "anonymous");
        let elsewhere = r#"{"other.example.com":{"username":"a","password":"b"}}"#;
        assert_eq!(digest_of(elsewhere).await, None);
        assert_eq!(digest_of(shapes[0]).await, seen[0]);
    }
}
