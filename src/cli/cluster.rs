//! The policies in force in a cluster, and its webhook's registry settings: for verdicts equal to
//! those at admission.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};

use super::{
    error::CliError,
    in_cluster::{admission_http_options, cluster_http_options, kube_client},
    installation_credentials::InstallationCredentials,
    registry_clients::RegistryClients,
};
use crate::{
    api::{installation::InstallationConfig, rbac::SYSTEM_NAMESPACE},
    cluster_reader::{
        CaCertificatesError, ClusterReadError, PullSecretReader, RegistryCaAccess, RegistryCaError,
        list_policies, read_policy_inputs, read_registries,
    },
    core::{
        policy::{Policy, PolicyOrigin},
        pull_secret_names::PullSecretNames,
        reason::Reason,
        reference::ImageRepository,
    },
    http::{ConnectionErrorDetail, HttpOptions},
    oci::credentials::{CredentialChain, CredentialLookup, CredentialStore},
    service::registries::named_credentials,
};

/// The `ConfigMap` and key with the chart's values.
const CONFIG: (&str, &str) = ("packgate-config", "config.yaml");

/// A cluster, with the permissions of a user.
pub(super) struct ClusterClient {
    client: Client,
    installation: InstallationConfig,
}

impl ClusterClient {
    /// Connects to the cluster of the current kubeconfig. Configuration that the user may not read
    /// has its defaults.
    pub(super) async fn connect_to_cluster() -> Result<Self, CliError> {
        let client = kube_client().await?;
        let installation =
            match read_config_map_key(&client, SYSTEM_NAMESPACE, CONFIG.0, CONFIG.1).await {
                Ok(Some(text)) => InstallationConfig::parse(text.as_bytes())?,
                Ok(None) => InstallationConfig::default(),
                Err(error) => {
                    tracing::warn!(
                        %error,
                        "packgate's configuration in this cluster cannot be read; registries are \
                            accessed with the default settings"
                    );
                    InstallationConfig::default()
                }
            };
        Ok(Self {
            client,
            installation,
        })
    }

    /// The deadline of a review.
    pub(super) fn admission_deadline(&self) -> Duration {
        self.installation.webhook.review_deadline()
    }

    /// The policies of the cluster and of the namespace, as the webhook has them.
    pub(super) async fn list_policies(
        &self,
        namespace: Option<&str>,
        now: Timestamp,
    ) -> Result<Vec<Policy>, CliError> {
        let mut policies = list_policies(&self.client, &PolicyOrigin::Cluster).await?;
        if let Some(namespace) = namespace {
            let own = PolicyOrigin::Namespaced(namespace.to_owned());
            policies.extend(list_policies(&self.client, &own).await?);
        }
        let inputs = read_policy_inputs(&self.client, policies, SYSTEM_NAMESPACE).await?;
        Ok(inputs
            .compile_snapshot(SYSTEM_NAMESPACE, now)
            .policies()
            .to_vec())
    }

    /// The credentials in the Secrets that an image is pulled with. One that the user may not read
    /// is left out, and told.
    async fn read_pull_secrets(
        &self,
        namespace: &str,
        names: &PullSecretNames,
    ) -> Arc<dyn CredentialStore> {
        let reader = PullSecretReader::new(self.client.clone());
        let found = reader.read_pull_credentials(namespace, names).await;
        for error in &found.unusable {
            warn_of_other_verdict(error);
        }
        Arc::new(named_credentials(&found.configs))
    }

    /// The installation's own credentials, as far as the user may read them.
    fn installation_credentials(&self) -> Result<Arc<dyn CredentialStore>, CliError> {
        let (client, registries) = (self.client.clone(), &self.installation.registries);
        let own = InstallationCredentials::new(client, SYSTEM_NAMESPACE, registries)?;
        Ok(Arc::new(ReadableCredentials(own)))
    }

    /// Registry clients with the webhook's settings.
    pub(super) async fn registry_clients(&self) -> Result<RegistryClients, CliError> {
        let (settings, access) = (&self.installation, RegistryCaAccess::User);
        let known = read_registries(&self.client, settings, SYSTEM_NAMESPACE, access).await?;
        let options = admission_http_options(cluster_http_options(&[])?.addresses);
        RegistryClients::new(
            &known,
            &HttpOptions {
                connection_error_detail: ConnectionErrorDetail::FullCause,
                ..options
            },
        )
    }
}

/// The installation's credentials, without those that the user may not read.
struct ReadableCredentials(InstallationCredentials);

#[async_trait]
impl CredentialStore for ReadableCredentials {
    async fn credentials_for_repository(&self, repository: &ImageRepository) -> CredentialLookup {
        let CredentialLookup { found, failures } =
            self.0.credentials_for_repository(repository).await;
        for error in &failures {
            warn_of_other_verdict(error);
        }
        CredentialLookup {
            found,
            failures: Vec::new(),
        }
    }
}

/// Admission has permissions and Secrets that the user may not have.
fn warn_of_other_verdict(error: &dyn std::fmt::Display) {
    tracing::warn!(
        "{error}; admission reads it with its own permissions, so its verdict may be another one \
            if the registry asks for these credentials: let somebody verify who may read it, or \
            give credentials with --registry-config"
    );
}

async fn read_config_map_key(
    client: &Client,
    namespace: &str,
    name: &str,
    key: &str,
) -> kube::Result<Option<String>> {
    let map = Api::<ConfigMap>::namespaced(client.clone(), namespace)
        .get_opt(name)
        .await?;
    Ok(map
        .and_then(|map| map.data)
        .and_then(|mut data| data.remove(key)))
}

fn cluster_read_error(what: &str, error: &kube::Error) -> CliError {
    let reason = match error {
        kube::Error::Api(status) if status.is_forbidden() => Reason::InvalidSpec,
        _ => Reason::RegistryUnavailable,
    };
    CliError::new(
        reason,
        format!("{what} of the cluster cannot be read: {error}"),
    )
}

impl From<ClusterReadError> for CliError {
    fn from(error: ClusterReadError) -> Self {
        match error {
            ClusterReadError::Api { what, error } => cluster_read_error(&what, &error),
            ClusterReadError::InvalidName { .. } => {
                Self::new(Reason::InvalidSpec, error.to_string())
            }
        }
    }
}

impl From<RegistryCaError> for CliError {
    fn from(RegistryCaError { reference, error }: RegistryCaError) -> Self {
        let what = format!("{:?} {SYSTEM_NAMESPACE}/{}", reference.kind, reference.name);
        match error {
            CaCertificatesError::Api(error) => cluster_read_error(&what, &error),
            error => Self::new(Reason::InvalidSpec, format!("{what}: {error}")),
        }
    }
}

/// Everything that a cluster's verdict depends on, except for the bundle.
pub(super) struct ClusterAdmissionSettings {
    pub policies: Vec<Policy>,
    pub registries: Arc<RegistryClients>,
    pub credentials: Arc<dyn CredentialStore>,
    pub deadline: Duration,
}

/// Reads only the policies.
pub(super) async fn load_policies(
    namespace: Option<&str>,
    now: Timestamp,
) -> Result<Vec<Policy>, CliError> {
    let cluster = ClusterClient::connect_to_cluster().await?;
    cluster.list_policies(namespace, now).await
}

/// Reads all settings. `pull_secrets`: those of the namespace that the image is pulled with;
/// `further`: credentials for what admission may read and the user may not.
pub(super) async fn load_admission_settings(
    namespace: Option<&str>,
    pull_secrets: &PullSecretNames,
    further: Arc<dyn CredentialStore>,
    now: Timestamp,
) -> Result<ClusterAdmissionSettings, CliError> {
    let cluster = ClusterClient::connect_to_cluster().await?;
    let mut credentials: Vec<Arc<dyn CredentialStore>> = Vec::new();
    if let Some(namespace) = namespace {
        credentials.push(cluster.read_pull_secrets(namespace, pull_secrets).await);
    }
    credentials.push(cluster.installation_credentials()?);
    credentials.push(further);
    Ok(ClusterAdmissionSettings {
        policies: cluster.list_policies(namespace, now).await?,
        registries: Arc::new(cluster.registry_clients().await?),
        credentials: Arc::new(CredentialChain::new(credentials)),
        deadline: cluster.admission_deadline(),
    })
}
