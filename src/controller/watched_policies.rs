//! The policies that the controller watches.

use std::{collections::BTreeSet, sync::Arc};

use kube::{ResourceExt, core::DeserializeGuard, runtime::reflector::Store};

use crate::{
    api::bundle_policy::{BundlePolicy, ClusterBundlePolicy, PolicyObject},
    core::policy::{EnforcementMode, Policy, PolicyOrigin},
};

/// The watched policies of both kinds.
pub(super) struct WatchedPolicyStores {
    pub cluster: Store<DeserializeGuard<ClusterBundlePolicy>>,
    pub namespaced: Store<DeserializeGuard<BundlePolicy>>,
}

impl WatchedPolicyStores {
    /// The policies that can be parsed.
    pub(super) fn readable_policies(&self) -> Vec<PolicyObject> {
        let all = self.cluster.state();
        let cluster = all.iter().filter_map(|guarded| {
            Some(PolicyObject::Cluster(Arc::new(
                guarded.0.as_ref().ok()?.clone(),
            )))
        });
        let namespaced = self.namespaced.state();
        let namespaced = namespaced.iter().filter_map(|guarded| {
            Some(PolicyObject::Namespaced(Arc::new(
                guarded.0.as_ref().ok()?.clone(),
            )))
        });
        cluster.chain(namespaced).collect()
    }

    /// The scopes that they govern. A policy that cannot be parsed may govern anything, a
    /// `BundlePolicy` in its own namespace.
    pub(super) fn governed_scopes(&self, readable: &[PolicyObject]) -> Vec<Policy> {
        let unreadable = |kind: PolicyOrigin| {
            Policy::new_unusable(
                "unreadable",
                kind,
                0,
                EnforcementMode::Enforce,
                None,
                "it cannot be read",
            )
        };
        let cluster = self
            .cluster
            .state()
            .iter()
            .any(|guarded| guarded.0.is_err())
            .then_some(PolicyOrigin::Cluster);
        let objects = self.namespaced.state();
        let unread_in: BTreeSet<String> = objects
            .iter()
            .filter(|guarded| guarded.0.is_err())
            .filter_map(|guarded| guarded.namespace())
            .collect();
        let readable = readable
            .iter()
            .map(|policy| policy.to_deny_all_policy("only what it governs is asked"));
        readable
            .chain(
                cluster
                    .into_iter()
                    .chain(unread_in.into_iter().map(PolicyOrigin::Namespaced))
                    .map(unreadable),
            )
            .collect()
    }
}
