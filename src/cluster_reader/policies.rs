//! Policies, and the objects that they refer to.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, api::ListParams};

use super::object_name::is_object_name;
use crate::{
    api::{
        bundle_policy::{
            BundlePolicy, ClusterBundlePolicy, ConfigMapData, PolicyInputs, PolicyObject,
        },
        trust_root::TrustRoot,
    },
    core::policy::PolicyOrigin,
};

/// Why policies cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ClusterReadError {
    /// The API server's error.
    #[error("{what} cannot be read: {error}")]
    Api {
        /// The kind in the plural, or the object.
        what: String,
        /// The error.
        error: Box<kube::Error>,
    },
    /// A policy refers to a `ConfigMap` whose name is not that of an object.
    #[error("{field}.name: {name:?} is not a valid object name; correct it")]
    InvalidName {
        /// The path of the field, without the policy.
        field: &'static str,
        /// The name.
        name: String,
    },
}

impl ClusterReadError {
    fn reading(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |error| Self::Api {
            what,
            error: Box::new(error),
        }
    }
}

/// The policies of the cluster, or of a namespace.
pub async fn list_policies(
    client: &Client,
    origin: &PolicyOrigin,
) -> Result<Vec<PolicyObject>, ClusterReadError> {
    let all = ListParams::default();
    Ok(match origin {
        PolicyOrigin::Namespaced(namespace) => {
            let own = Api::<BundlePolicy>::namespaced(client.clone(), namespace);
            let own = own.list(&all).await;
            let own = own.map_err(ClusterReadError::reading("BundlePolicies"))?;
            let of = |policy| PolicyObject::Namespaced(Arc::new(policy));
            own.items.into_iter().map(of).collect()
        }
        PolicyOrigin::Cluster | PolicyOrigin::AdHoc => {
            let cluster = Api::<ClusterBundlePolicy>::all(client.clone());
            let cluster = cluster.list(&all).await;
            let cluster = cluster.map_err(ClusterReadError::reading("ClusterBundlePolicies"))?;
            let of = |policy| PolicyObject::Cluster(Arc::new(policy));
            cluster.items.into_iter().map(of).collect()
        }
    })
}

/// The policies with the objects that they refer to. Objects that do not exist are `None`: the
/// compiler reports which authority refers to them.
pub async fn read_policy_inputs(
    client: &Client,
    policies: Vec<PolicyObject>,
    system_namespace: &str,
) -> Result<PolicyInputs, ClusterReadError> {
    let names_roots = |policy: &PolicyObject| !policy.referenced_names().trust_roots.is_empty();
    let mut inputs = PolicyInputs::default();
    if policies.iter().any(names_roots) {
        let roots = Api::<TrustRoot>::all(client.clone());
        let roots = roots.list(&ListParams::default()).await;
        inputs.trust_roots = roots
            .map_err(ClusterReadError::reading("TrustRoots"))?
            .items;
    }
    inputs.policies = policies;
    for (namespace, name) in inputs.needed_config_maps(system_namespace) {
        if !is_object_name(&name) {
            let field = "spec.authorities[].key.configMapRef";
            return Err(ClusterReadError::InvalidName { field, name });
        }
        let maps = Api::<ConfigMap>::namespaced(client.clone(), &namespace);
        let map = maps.get_opt(&name).await;
        let map = map.map_err(ClusterReadError::reading(format!(
            "ConfigMap {namespace}/{name}"
        )))?;
        let found = map.map(|map| {
            let data = map.data.unwrap_or_default();
            ConfigMapData::for_policies(data, namespace == system_namespace)
        });
        inputs.config_maps.insert((namespace, name), found);
    }
    Ok(inputs)
}
