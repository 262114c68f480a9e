//! The kinds of the group `packgate.dev`: their fields as `kubectl explain` shows them, and what
//! they compile to.

pub mod bundle_policy;
pub mod condition;
mod crd_descriptions;
pub mod duration;
pub mod installation;
pub mod packed_bundle;
pub mod rbac;
pub mod trust_root;
pub mod webhook;

use kube::CustomResourceExt;

use bundle_policy::{BundlePolicy, ClusterBundlePolicy};
use packed_bundle::PackedBundle;
use trust_root::TrustRoot;

/// Group and version of every kind.
pub const API_VERSION: &str = "packgate.dev/v1alpha1";

/// The custom resource definitions: a file name, and its YAML.
///
/// Errors: only if a definition cannot be written as YAML, which is a defect.
pub fn crd_manifests() -> Result<Vec<(String, String)>, serde_saphyr::ser::Error> {
    [
        PackedBundle::crd(),
        BundlePolicy::crd(),
        ClusterBundlePolicy::crd(),
        TrustRoot::crd(),
    ]
    .into_iter()
    .map(|mut crd| {
        crd_descriptions::join_description_lines(&mut crd);
        let name = format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural);
        Ok((name, serde_saphyr::to_string(&crd)?))
    })
    .collect()
}
