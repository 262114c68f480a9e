//! The cluster objects of a run: pure functions from a frozen run to objects.

mod config_maps_and_secrets;
#[cfg(test)]
mod fetch_tests;
mod jobs;
mod pod;
mod scratch_storage;
mod sign_job_signer;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};

pub use config_maps_and_secrets::{
    DOCKER_CONFIG_KEY, RunSnapshot, pack_config_map, push_secret_copy, snapshot_config_map,
};
pub use jobs::{build_pack_job, build_sign_job};
pub use scratch_storage::ScratchStorage;
pub use sign_job_signer::{SIGNING_CONFIG_KEY, SignJobSigner, SigstoreServicesConfigMap};

use crate::{
    api::{installation::SignJobsConfig, packed_bundle::PackedBundle},
    core::job::{JobRunKey, PackerImage},
};

/// The field manager of the controller's objects, and the value of their label
/// `app.kubernetes.io/managed-by`.
pub const MANAGER: &str = "packgate-controller";
/// Label: the object's name.
pub const BUNDLE: &str = "packgate.dev/bundle";
/// Label: the object's namespace.
pub const BUNDLE_NAMESPACE: &str = "packgate.dev/bundle-namespace";
/// Label: the object's UID.
pub const BUNDLE_UID: &str = "packgate.dev/bundle-uid";
/// Label: the run.
pub const RUN: &str = "packgate.dev/run";
/// Label: the component of a run.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// Label: the manager of an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The one container of each Pod.
pub const CONTAINER: &str = "packgate";

/// The settings of every run.
#[derive(Clone, Debug)]
pub struct RunSettings {
    /// The namespace that packgate runs in.
    pub system_namespace: String,
    /// packgate's own image, used for Jobs.
    pub image: String,
    /// The same, in the form for provenance.
    pub packer: Option<PackerImage>,
    /// `imagePullPolicy`; empty for the cluster's default.
    pub image_pull_policy: String,
    /// Secrets of the system namespace that the image is pulled with.
    pub image_pull_secrets: Vec<String>,
    /// The settings of sign Jobs in the system namespace.
    pub sign_jobs: SignJobsConfig,
    /// The owner of everything in the system namespace, so that it is deleted with the
    /// installation.
    pub installation: OwnerReference,
}

/// The component of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunComponent {
    /// The frozen lock.
    Lock,
    /// The pack step.
    Pack,
    /// The sign step.
    Sign,
}

impl RunComponent {
    /// The value in labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Pack => "pack",
            Self::Sign => "sign",
        }
    }
}

/// The labels of an object of a run.
pub fn run_labels(
    owner: &PackedBundle,
    run: &JobRunKey,
    component: RunComponent,
) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), "packgate".to_owned()),
        (COMPONENT.to_owned(), component.as_str().to_owned()),
        (MANAGED_BY.to_owned(), MANAGER.to_owned()),
        (BUNDLE.to_owned(), owner.name_any()),
        (
            BUNDLE_NAMESPACE.to_owned(),
            owner.namespace().unwrap_or_default(),
        ),
        (BUNDLE_UID.to_owned(), owner.uid().unwrap_or_default()),
        (RUN.to_owned(), run.to_string()),
    ])
}

/// An owner reference to the `PackedBundle`, for objects in its namespace. It does not block the
/// owner's deletion, so no permission on finalizers is needed where the cluster checks that.
pub fn bundle_owner_references(owner: &PackedBundle) -> Vec<OwnerReference> {
    let reference = owner.controller_owner_ref(&());
    reference
        .map(|reference| OwnerReference {
            block_owner_deletion: None,
            ..reference
        })
        .into_iter()
        .collect()
}
