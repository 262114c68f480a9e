//! The policies that have a say in a namespace, read and compiled.

use std::collections::{BTreeMap, BTreeSet};

use kube::{Api, api::ListParams};

use super::{context::Context, trouble::Trouble};
use crate::{
    api::bundle_policy::{Authority, BundlePolicy, ClusterBundlePolicy, PolicyObject, Sources},
    core::{class::Reason, policy::Policy},
};

/// All of the cluster's policies, and the namespace's. One that does not compile refuses everything: nobody knows what it would say.
pub(super) async fn load(namespace: &str, context: &Context) -> Result<Vec<Policy>, Trouble> {
    let cluster = Api::<ClusterBundlePolicy>::all(context.client.clone()).list(&ListParams::default()).await?;
    let own = Api::<BundlePolicy>::namespaced(context.client.clone(), namespace).list(&ListParams::default()).await?;
    let mut policies = Vec::new();
    for policy in cluster.items {
        let named = named(&policy.spec.authorities);
        policies.push(compile(&PolicyObject::Cluster(Box::new(policy)), &named, &context.setup.system_namespace, context).await?);
    }
    for policy in own.items {
        let named = named(&policy.spec.authorities);
        policies.push(compile(&PolicyObject::Namespaced(Box::new(policy)), &named, namespace, context).await?);
    }
    Ok(policies)
}

/// Compiles a policy whose references are those of `namespace`.
pub(super) async fn compile(object: &PolicyObject, named: &BTreeSet<String>, namespace: &str, context: &Context) -> Result<Policy, Trouble> {
    let mut config_maps = BTreeMap::new();
    for name in named {
        match context.secrets.config_map(namespace, name, "spec.authorities[].key.configMapRef").await {
            Ok(data) => drop(config_maps.insert(name.clone(), data)),
            // The compiler says which authority misses it.
            Err(Trouble::Told(failure)) if failure.reason == Reason::SourceNotFound => (),
            Err(error) => return Err(error),
        }
    }
    let sources = Sources { config_maps, ..Sources::default() };
    object.compile(&sources).map_err(|error| {
        Trouble::new(Reason::InvalidSpec, format!("policy {} cannot be used, so nothing it may govern passes: {error}", object.name()))
    })
}

/// The `ConfigMaps` that authorities name.
pub(super) fn named(authorities: &[Authority]) -> BTreeSet<String> {
    let keys = authorities.iter().filter_map(|authority| authority.key.as_ref());
    keys.filter_map(|key| Some(key.config_map_ref.as_ref()?.name.clone())).collect()
}
