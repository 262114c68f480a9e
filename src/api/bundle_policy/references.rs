//! The objects that a policy refers to.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{ConfigMapData, ParsedMaterialCache, PolicyQuotaUsage};
use crate::core::{reason::Reason, verify::TrustRoot};

/// The objects that a policy may refer to, resolved for the policy's namespace.
#[derive(Clone, Debug, Default)]
pub struct ResolvedPolicyReferences {
    /// The `ConfigMap`s, by name.
    pub config_maps: BTreeMap<String, ConfigMapData>,
    /// Trust roots, by the name of their `TrustRoot`.
    pub trust_roots: BTreeMap<String, Arc<TrustRoot>>,
    /// Why other trust roots cannot be used, by the same name.
    pub lost_roots: BTreeMap<String, (Reason, String)>,
    /// The cache of parsed keys, certificates and lists.
    pub parts: ParsedMaterialCache,
    /// The quota usage of the policies of the same namespace.
    pub usage: PolicyQuotaUsage,
}

/// The names of the objects that a policy refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyReferenceNames {
    /// The names of `ConfigMap`s: in the system namespace, or in that of the `BundlePolicy`.
    pub config_maps: BTreeSet<String>,
    /// The names of `TrustRoot`s.
    pub trust_roots: BTreeSet<String>,
}
