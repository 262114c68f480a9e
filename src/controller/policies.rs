//! The policies that have a say in a namespace, read and compiled.

use std::collections::BTreeMap;

use kube::{Api, api::ListParams};

use super::{context::Context, trouble::Trouble};
use crate::{
    api::{
        bundle_policy::{BundlePolicy, ClusterBundlePolicy, Gathered, PolicyObject},
        trust_root::TrustRoot,
    },
    core::{class::Reason, policy::Policy},
};

/// All of the cluster's policies, and the namespace's. One that cannot be used refuses all that it governs.
pub(super) async fn load(namespace: &str, context: &Context) -> Result<Vec<Policy>, Trouble> {
    let cluster = Api::<ClusterBundlePolicy>::all(context.client.clone()).list(&ListParams::default()).await?;
    let own = Api::<BundlePolicy>::namespaced(context.client.clone(), namespace).list(&ListParams::default()).await?;
    let cluster = cluster.items.into_iter().map(|policy| PolicyObject::Cluster(Box::new(policy)));
    let own = own.items.into_iter().map(|policy| PolicyObject::Namespaced(Box::new(policy)));
    let gathered = gather(cluster.chain(own).collect(), context).await?;
    Ok(gathered.compile(&context.setup.system_namespace, context.clock.now()).policies().to_vec())
}

/// Can this policy be used?
pub(super) async fn check(object: PolicyObject, context: &Context) -> Result<(), Trouble> {
    let gathered = gather(vec![object], context).await?;
    let compiled = gathered.compile(&context.setup.system_namespace, context.clock.now());
    match compiled.policies().iter().find_map(|policy| Some((policy.name(), policy.fault()?, policy.fault_reason()))) {
        Some((name, fault, reason)) => {
            Err(Trouble::new(reason, format!("policy {name} cannot be used, so nothing that it may govern passes: {fault}")))
        }
        None => Ok(()),
    }
}

/// The policies with everything that they refer to.
async fn gather(policies: Vec<PolicyObject>, context: &Context) -> Result<Gathered, Trouble> {
    let needs_roots = policies.iter().any(|policy| !policy.needs().trust_roots.is_empty());
    let trust_roots = if needs_roots { Api::<TrustRoot>::all(context.client.clone()).list(&ListParams::default()).await?.items } else { Vec::new() };
    let mut gathered = Gathered { policies, trust_roots, ..Gathered::default() };
    let mut config_maps = BTreeMap::new();
    for (namespace, name) in gathered.needed(&context.setup.system_namespace) {
        let found = match context.secrets.config_map(&namespace, &name, "spec.authorities[].key.configMapRef").await {
            Ok(data) => Some(data),
            // The compiler says which authority misses it.
            Err(Trouble::Told(failure)) if failure.reason == Reason::SourceNotFound => None,
            Err(error) => return Err(error),
        };
        config_maps.insert((namespace, name), found);
    }
    gathered.config_maps = config_maps;
    Ok(gathered)
}
