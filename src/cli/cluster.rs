//! The policies that are in force in a cluster, and how its webhook reaches registries: for
//! verdicts that are the same as admission's.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, api::ListParams};

use super::{
    exit::CliError,
    in_cluster::{admission_http_options, client, http_options},
    registries::Registries,
};
use crate::{
    api::{
        bundle_policy::{
            BundlePolicy, ClusterBundlePolicy, ConfigMapData, Gathered, KindRef, PolicyObject,
            SourceKind,
        },
        installation::Installation,
        rbac::SYSTEM_NAMESPACE,
        trust_root::TrustRoot,
    },
    core::{class::Reason, job::Registry, policy::Policy},
    http::{Discretion, HttpOptions},
};

/// Where the chart writes its values.
const CONFIG: (&str, &str) = ("packgate-config", "config.yaml");
/// The key that holds certificates.
const CA_KEY: &str = "ca.crt";

/// A cluster, as its users see it.
pub(super) struct Cluster {
    client: Client,
    installation: Installation,
}

impl Cluster {
    /// The cluster of the current kubeconfig. What may not be read of its configuration has every
    /// default.
    pub(super) async fn connect() -> Result<Self, CliError> {
        let client = client().await?;
        let installation = match config_map(&client, SYSTEM_NAMESPACE, CONFIG.0, CONFIG.1).await {
            Ok(Some(text)) => Installation::parse(text.as_bytes())?,
            Ok(None) => Installation::default(),
            Err(error) => {
                tracing::warn!(
                    %error,
                    "packgate's configuration in this cluster cannot be read; registries are \
                        reached with every default"
                );
                Installation::default()
            }
        };
        Ok(Self {
            client,
            installation,
        })
    }

    /// How long a review may take.
    pub(super) fn deadline(&self) -> Duration {
        self.installation.webhook.deadline()
    }

    /// The cluster's policies, and those of the namespace, as the webhook has them.
    pub(super) async fn policies(
        &self,
        namespace: Option<&str>,
        now: Timestamp,
    ) -> Result<Vec<Policy>, CliError> {
        let cluster = Api::<ClusterBundlePolicy>::all(self.client.clone())
            .list(&ListParams::default())
            .await;
        let cluster = cluster.map_err(|error| failed("ClusterBundlePolicies", &error))?;
        let mut policies: Vec<_> = cluster
            .items
            .into_iter()
            .map(|policy| PolicyObject::Cluster(Arc::new(policy)))
            .collect();
        if let Some(namespace) = namespace {
            let own = Api::<BundlePolicy>::namespaced(self.client.clone(), namespace)
                .list(&ListParams::default())
                .await;
            let own = own.map_err(|error| failed("BundlePolicies", &error))?;
            policies.extend(
                own.items
                    .into_iter()
                    .map(|policy| PolicyObject::Namespaced(Arc::new(policy))),
            );
        }
        let gathered = self.gather(policies).await?;
        Ok(gathered.compile(SYSTEM_NAMESPACE, now).policies().to_vec())
    }

    /// Registries, reached as the webhook does.
    pub(super) async fn registries(&self) -> Result<Registries, CliError> {
        let mut known = Vec::new();
        for registry in &self.installation.registries {
            let ca = match &registry.ca_ref {
                Some(KindRef {
                    kind: SourceKind::ConfigMap,
                    name,
                }) => {
                    let found = config_map(&self.client, SYSTEM_NAMESPACE, name, CA_KEY).await;
                    found.map_err(|error| {
                        failed(&format!("ConfigMap {SYSTEM_NAMESPACE}/{name}"), &error)
                    })?
                }
                // A person is not expected to read Secrets of packgate's own namespace; --ca-file
                // says the same.
                Some(KindRef {
                    kind: SourceKind::Secret,
                    ..
                })
                | None => None,
            };
            known.push(Registry {
                host: registry.host.clone(),
                plain_http: registry.plain_http,
                ca,
            });
        }
        let options = admission_http_options(http_options(&[])?.addresses);
        Registries::new(
            &known,
            &HttpOptions {
                discretion: Discretion::Cause,
                ..options
            },
        )
    }

    async fn gather(&self, policies: Vec<PolicyObject>) -> Result<Gathered, CliError> {
        let needs_roots = policies
            .iter()
            .any(|policy| !policy.needs().trust_roots.is_empty());
        let mut gathered = Gathered {
            policies,
            ..Gathered::default()
        };
        if needs_roots {
            let roots = Api::<TrustRoot>::all(self.client.clone())
                .list(&ListParams::default())
                .await;
            gathered.trust_roots = roots.map_err(|error| failed("TrustRoots", &error))?.items;
        }
        for (namespace, name) in gathered.needed(SYSTEM_NAMESPACE) {
            let maps = Api::<ConfigMap>::namespaced(self.client.clone(), &namespace);
            let map = maps
                .get_opt(&name)
                .await
                .map_err(|error| failed(&format!("ConfigMap {namespace}/{name}"), &error))?;
            let data = |map: ConfigMap| map.data.unwrap_or_default();
            let read = |data: BTreeMap<String, String>| {
                if namespace == SYSTEM_NAMESPACE {
                    ConfigMapData::from(data)
                } else {
                    ConfigMapData::of_namespace(data)
                }
            };
            let found = map.map(data).map(read);
            gathered.config_maps.insert((namespace, name), found);
        }
        Ok(gathered)
    }
}

async fn config_map(
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

fn failed(what: &str, error: &kube::Error) -> CliError {
    let reason = match error {
        kube::Error::Api(status) if status.is_forbidden() => Reason::InvalidSpec,
        _ => Reason::RegistryUnavailable,
    };
    CliError::new(
        reason,
        format!("{what} of the cluster cannot be read: {error}"),
    )
}

/// What a verdict of a cluster depends on beside the bundle.
pub(super) struct InForce {
    pub policies: Vec<Policy>,
    pub registries: Arc<Registries>,
    pub deadline: Duration,
}

/// Reads everything.
pub(super) async fn in_force(namespace: Option<&str>, now: Timestamp) -> Result<InForce, CliError> {
    let cluster = Cluster::connect().await?;
    Ok(InForce {
        policies: cluster.policies(namespace, now).await?,
        registries: Arc::new(cluster.registries().await?),
        deadline: cluster.deadline(),
    })
}
