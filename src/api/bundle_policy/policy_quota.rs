//! Quotas on the policies of one namespace, or of the cluster: users who may write policies in one
//! namespace must not use up memory or time of another.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{ConfigMapData, PolicyObject};
use crate::core::{
    digest::Digest,
    policy::{PolicyError, PolicyOrigin},
    reason::Reason,
};

/// The quota of a set of policies. Over it, all of them deny every use that they govern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyQuota {
    /// The number of policies.
    pub policies: usize,
    /// The number of authorities in all of them.
    pub authorities: usize,
    /// The number of `ConfigMap`s that they refer to.
    pub config_maps: usize,
    /// Bytes in those `ConfigMap`s, under the keys that policies read.
    pub config_map_bytes: usize,
    /// Bytes of memory for the policies, and for every distinct key, certificate authority,
    /// revocation list and expression.
    pub bytes: usize,
}

impl PolicyQuota {
    /// For one namespace's `BundlePolicy`s.
    pub const NAMESPACE: Self = Self {
        policies: 64,
        authorities: 256,
        config_maps: 64,
        config_map_bytes: 2 << 20,
        bytes: 2 << 20,
    };
    /// For all `ClusterBundlePolicy`s, with the trust roots that policies refer to.
    pub const CLUSTER: Self = Self {
        policies: 1_024,
        authorities: 4_096,
        config_maps: 1_024,
        config_map_bytes: 16 << 20,
        bytes: 16 << 20,
    };

    /// For a namespace's policies, or the cluster's.
    pub const fn for_kind(kind: &PolicyOrigin) -> Self {
        match kind {
            PolicyOrigin::Cluster | PolicyOrigin::AdHoc => Self::CLUSTER,
            PolicyOrigin::Namespaced(_) => Self::NAMESPACE,
        }
    }
}

/// The usage of one namespace's policies so far. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub struct PolicyQuotaUsage(Option<Arc<Mutex<PolicyQuotaCounts>>>);

#[derive(Debug)]
struct PolicyQuotaCounts {
    budget: PolicyQuota,
    whose: String,
    policies: usize,
    authorities: usize,
    bytes: usize,
    config_maps: BTreeMap<String, usize>,
    /// The digests of the contents that were counted.
    parts: BTreeSet<Digest>,
    /// The first limit that was exceeded.
    excess: Option<String>,
}

impl PolicyQuotaUsage {
    /// No usage yet. The default counts nothing and has no limits.
    pub fn for_kind(kind: &PolicyOrigin) -> Self {
        let whose = match kind {
            PolicyOrigin::Namespaced(namespace) => {
                format!("the BundlePolicies of namespace {namespace}")
            }
            PolicyOrigin::Cluster | PolicyOrigin::AdHoc => "the ClusterBundlePolicies".to_owned(),
        };
        let counted = PolicyQuotaCounts {
            budget: PolicyQuota::for_kind(kind),
            whose,
            policies: 0,
            authorities: 0,
            bytes: 0,
            config_maps: BTreeMap::new(),
            parts: BTreeSet::new(),
            excess: None,
        };
        Self(Some(Arc::new(Mutex::new(counted))))
    }

    /// Counts a policy, before anything in it is parsed: itself (`bytes` long), its authorities,
    /// and its existing `ConfigMap`s.
    ///
    /// Errors: `LimitExceeded`, and from then on always.
    pub fn count_policy(
        &self,
        policy: &PolicyObject,
        bytes: usize,
        config_maps: &BTreeMap<String, ConfigMapData>,
    ) -> Result<(), PolicyError> {
        let Some(mut counted) = self.lock_counts() else {
            return Ok(());
        };
        counted.policies += 1;
        counted.authorities += policy.authorities().len();
        counted.bytes += bytes;
        for name in policy.referenced_names().config_maps {
            let size = config_maps
                .get(&name)
                .map_or(0, ConfigMapData::size_in_bytes);
            counted.config_maps.insert(name, size);
        }
        counted.check_limits()
    }

    /// Counts parsed material, once for each content.
    ///
    /// Errors: as [`Self::count_policy`].
    pub(super) fn count_parsed_material(
        &self,
        content: Digest,
        bytes: usize,
    ) -> Result<(), PolicyError> {
        let Some(mut counted) = self.lock_counts() else {
            return Ok(());
        };
        if counted.parts.insert(content) {
            counted.bytes += bytes;
        }
        counted.check_limits()
    }

    /// The message, once a limit was exceeded.
    pub fn exceeded_limit(&self) -> Option<String> {
        self.lock_counts()?.excess.clone()
    }

    fn lock_counts(&self) -> Option<MutexGuard<'_, PolicyQuotaCounts>> {
        Some(
            self.0
                .as_ref()?
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

impl PolicyQuotaCounts {
    fn check_limits(&mut self) -> Result<(), PolicyError> {
        let budget = self.budget;
        let bounds = [
            (self.policies, budget.policies, "policies"),
            (self.authorities, budget.authorities, "authorities"),
            (
                self.config_maps.len(),
                budget.config_maps,
                "ConfigMaps that they name",
            ),
            (
                self.config_maps.values().sum(),
                budget.config_map_bytes,
                "bytes in the ConfigMaps that they name",
            ),
            (
                self.bytes,
                budget.bytes,
                "bytes of rules, keys, certificates, revocation lists and expressions, each \
                    content counted once",
            ),
        ];
        if self.excess.is_none() {
            let passed = bounds.into_iter().find(|(found, limit, _)| found > limit);
            self.excess = passed.map(|(found, limit, what)| {
                format!(
                    "{} have {found} {what}, the limit is {limit}; \
                    delete some, or make them smaller",
                    self.whose
                )
            });
        }
        match &self.excess {
            None => Ok(()),
            Some(excess) => {
                Err(PolicyError::new("spec", excess.clone()).with_reason(Reason::LimitExceeded))
            }
        }
    }
}
