//! The policies in force in a cluster, and its webhook's registry settings: for verdicts equal to
//! those at admission.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, api::ListParams};

use super::{
    error::CliError,
    in_cluster::{admission_http_options, cluster_http_options, kube_client},
    registry_clients::RegistryClients,
};
use crate::{
    api::{
        bundle_policy::{
            BundlePolicy, ClusterBundlePolicy, ConfigMapData, ConfigObjectKind, ConfigObjectRef,
            PolicyInputs, PolicyObject,
        },
        installation::InstallationConfig,
        rbac::SYSTEM_NAMESPACE,
        trust_root::TrustRoot,
    },
    core::{job::JobRegistry, policy::Policy, reason::Reason},
    http::{ConnectionErrorDetail, HttpOptions},
};

/// The `ConfigMap` and key with the chart's values.
const CONFIG: (&str, &str) = ("packgate-config", "config.yaml");
/// The key of CA certificates.
const CA_KEY: &str = "ca.crt";

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
        let cluster = Api::<ClusterBundlePolicy>::all(self.client.clone())
            .list(&ListParams::default())
            .await;
        let cluster =
            cluster.map_err(|error| cluster_read_error("ClusterBundlePolicies", &error))?;
        let mut policies: Vec<_> = cluster
            .items
            .into_iter()
            .map(|policy| PolicyObject::Cluster(Arc::new(policy)))
            .collect();
        if let Some(namespace) = namespace {
            let own = Api::<BundlePolicy>::namespaced(self.client.clone(), namespace)
                .list(&ListParams::default())
                .await;
            let own = own.map_err(|error| cluster_read_error("BundlePolicies", &error))?;
            policies.extend(
                own.items
                    .into_iter()
                    .map(|policy| PolicyObject::Namespaced(Arc::new(policy))),
            );
        }
        let inputs = self.resolve_policy_inputs(policies).await?;
        Ok(inputs
            .compile_snapshot(SYSTEM_NAMESPACE, now)
            .policies()
            .to_vec())
    }

    /// Registry clients with the webhook's settings.
    pub(super) async fn registry_clients(&self) -> Result<RegistryClients, CliError> {
        let mut known = Vec::new();
        for registry in &self.installation.registries {
            let ca = match &registry.ca_ref {
                Some(ConfigObjectRef {
                    kind: ConfigObjectKind::ConfigMap,
                    name,
                }) => {
                    let found =
                        read_config_map_key(&self.client, SYSTEM_NAMESPACE, name, CA_KEY).await;
                    found.map_err(|error| {
                        cluster_read_error(&format!("ConfigMap {SYSTEM_NAMESPACE}/{name}"), &error)
                    })?
                }
                // A user is not expected to read Secrets of packgate's own namespace; --ca-file has
                // the same effect.
                Some(ConfigObjectRef {
                    kind: ConfigObjectKind::Secret,
                    ..
                })
                | None => None,
            };
            known.push(JobRegistry {
                host: registry.host.clone(),
                plain_http: registry.plain_http,
                ca,
            });
        }
        let options = admission_http_options(cluster_http_options(&[])?.addresses);
        RegistryClients::new(
            &known,
            &HttpOptions {
                connection_error_detail: ConnectionErrorDetail::FullCause,
                ..options
            },
        )
    }

    async fn resolve_policy_inputs(
        &self,
        policies: Vec<PolicyObject>,
    ) -> Result<PolicyInputs, CliError> {
        let needs_roots = policies
            .iter()
            .any(|policy| !policy.referenced_names().trust_roots.is_empty());
        let mut inputs = PolicyInputs {
            policies,
            ..PolicyInputs::default()
        };
        if needs_roots {
            let roots = Api::<TrustRoot>::all(self.client.clone())
                .list(&ListParams::default())
                .await;
            inputs.trust_roots = roots
                .map_err(|error| cluster_read_error("TrustRoots", &error))?
                .items;
        }
        for (namespace, name) in inputs.needed_config_maps(SYSTEM_NAMESPACE) {
            let maps = Api::<ConfigMap>::namespaced(self.client.clone(), &namespace);
            let map = maps.get_opt(&name).await.map_err(|error| {
                cluster_read_error(&format!("ConfigMap {namespace}/{name}"), &error)
            })?;
            let data = |map: ConfigMap| map.data.unwrap_or_default();
            let read = |data: BTreeMap<String, String>| {
                if namespace == SYSTEM_NAMESPACE {
                    ConfigMapData::from(data)
                } else {
                    ConfigMapData::with_policy_keys_only(data)
                }
            };
            let found = map.map(data).map(read);
            inputs.config_maps.insert((namespace, name), found);
        }
        Ok(inputs)
    }
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

/// Everything that a cluster's verdict depends on, except for the bundle.
pub(super) struct ClusterAdmissionSettings {
    pub policies: Vec<Policy>,
    pub registries: Arc<RegistryClients>,
    pub deadline: Duration,
}

/// Reads all settings.
pub(super) async fn load_admission_settings(
    namespace: Option<&str>,
    now: Timestamp,
) -> Result<ClusterAdmissionSettings, CliError> {
    let cluster = ClusterClient::connect_to_cluster().await?;
    Ok(ClusterAdmissionSettings {
        policies: cluster.list_policies(namespace, now).await?,
        registries: Arc::new(cluster.registry_clients().await?),
        deadline: cluster.admission_deadline(),
    })
}
