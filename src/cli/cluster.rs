//! The policies in force in a cluster, and its webhook's registry settings: for verdicts equal to
//! those at admission.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};

use super::{
    error::CliError,
    in_cluster::{admission_http_options, cluster_http_options, kube_client},
    installation_credentials::{InstallationCredentials, UnaskedProviders, warn_of_other_verdict},
    registry_clients::RegistryClients,
};
use crate::{
    api::{installation::InstallationConfig, rbac::SYSTEM_NAMESPACE},
    cluster_reader::{
        AdmissionAccessReviewer, CaCertificatesError, ClusterReadError, PullCredentials,
        PullSecretReader, RegistryCaAccess, RegistryCaError, list_policies, read_policy_inputs,
        read_registries,
    },
    core::{
        policy::{Policy, PolicyOrigin},
        pull_secret_names::PullSecretNames,
        reason::Reason,
    },
    http::{ConnectionErrorDetail, HttpOptions},
    oci::credentials::{CredentialChain, CredentialStore},
    service::registries::named_credentials,
};

/// The `ConfigMap` with the chart's values, and the one with those of them that every user may read:
/// what a verdict depends on.
const CONFIG_MAPS: [&str; 2] = ["packgate-config", "packgate-verification"];
/// The key of both.
const CONFIG_KEY: &str = "config.yaml";

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
        let installation = read_installation(&client).await?;
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

    /// Reads Secrets with the user's permissions, and only what the webhook may read, too.
    fn pull_secret_reader(&self, reviewer: &Arc<AdmissionAccessReviewer>) -> PullSecretReader {
        PullSecretReader::for_user(self.client.clone(), Arc::clone(reviewer))
    }

    /// The credentials in the Secrets that an image is pulled with. What the user may not read is
    /// left out, and told.
    async fn read_pull_secrets(&self, namespace: &str, names: &PullSecretNames) -> PullCredentials {
        let reviewer = self.reviewer();
        let reader = self.pull_secret_reader(&reviewer);
        let mut found = reader.read_pull_credentials(namespace, names).await;
        for error in &found.take_failures_of_user() {
            warn_of_other_verdict(error);
        }
        if reviewer.is_unknown() && !found.configs.is_empty() {
            tracing::warn!(
                "whether packgate may read the Secrets of namespace {namespace} could not be asked \
                    (localsubjectaccessreviews, of the ClusterRole admin); if it may not, \
                    admission denies what needs them"
            );
        }
        found
    }

    fn reviewer(&self) -> Arc<AdmissionAccessReviewer> {
        let system = SYSTEM_NAMESPACE.to_owned();
        Arc::new(AdmissionAccessReviewer::new(self.client.clone(), system))
    }

    /// The installation's own credentials, as far as the user may read them.
    fn installation_credentials(&self) -> Result<Arc<dyn CredentialStore>, CliError> {
        let reader = self.pull_secret_reader(&self.reviewer());
        let registries = &self.installation.registries;
        let own = InstallationCredentials::new(reader, SYSTEM_NAMESPACE, registries)?;
        Ok(Arc::new(own))
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

/// The chart's values, as far as the user may read them.
async fn read_installation(client: &Client) -> Result<InstallationConfig, CliError> {
    let mut failure = None;
    for name in CONFIG_MAPS {
        match read_config_map_key(client, SYSTEM_NAMESPACE, name, CONFIG_KEY).await {
            Ok(Some(text)) => return Ok(InstallationConfig::parse(text.as_bytes())?),
            Ok(None) => {}
            Err(error) => failure = Some(error),
        }
    }
    if let Some(error) = failure {
        tracing::warn!(
            %error,
            "packgate's configuration in this cluster cannot be read; registries are accessed with \
                the default settings"
        );
    }
    Ok(InstallationConfig::default())
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
    /// Those of the Secrets that the image is pulled with.
    pub pulled: PullCredentials,
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
    let pulled = match namespace {
        Some(namespace) => cluster.read_pull_secrets(namespace, pull_secrets).await,
        None => PullCredentials::default(),
    };
    let credentials: Vec<Arc<dyn CredentialStore>> = vec![
        Arc::new(named_credentials(&pulled.configs)),
        cluster.installation_credentials()?,
        Arc::new(UnaskedProviders::new(
            cluster.installation.credential_providers.clone(),
        )),
        further,
    ];
    Ok(ClusterAdmissionSettings {
        policies: cluster.list_policies(namespace, now).await?,
        registries: Arc::new(cluster.registry_clients().await?),
        credentials: Arc::new(CredentialChain::new(credentials)),
        pulled,
        deadline: cluster.admission_deadline(),
    })
}
