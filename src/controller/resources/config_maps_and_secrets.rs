//! `ConfigMaps` and Secrets of a run.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{ResourceExt, core::ObjectMeta};

use super::{RunComponent, RunSettings, bundle_owner_references, run_labels};
use crate::{
    api::packed_bundle::PackedBundle,
    core::{
        job::{INPUTS_FILE, JobInputs, LOCK_FILE, MAX_SNAPSHOT},
        lockfile::CanonicalLock,
        reason::{ClassifiedError, Reason},
    },
};

/// Annotation of a snapshot: the generation that it was frozen for.
pub const SNAPSHOT_GENERATION: &str = "packgate.dev/generation";
/// The type and key of a registry Secret.
pub(super) const DOCKER_CONFIG_TYPE: &str = "kubernetes.io/dockerconfigjson";
/// The key of a registry Secret.
pub const DOCKER_CONFIG_KEY: &str = ".dockerconfigjson";

/// The inputs of both Jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunSnapshot {
    /// The content of `lock.json`.
    pub lock: String,
    /// The content of `inputs.json`.
    pub inputs: String,
}

/// Why a run cannot be frozen.
#[derive(Debug, thiserror::Error)]
pub enum RunSnapshotError {
    /// It does not fit into a `ConfigMap`.
    #[error(
        "lock and inputs have {0} bytes together, the limit in a cluster is {MAX_SNAPSHOT}; split \
            the lock in two"
    )]
    TooLarge(usize),
    /// It cannot be serialised, which is a bug.
    #[error("cannot serialise: {0}")]
    Serialise(String),
}

impl ClassifiedError for RunSnapshotError {
    fn reason(&self) -> Reason {
        match self {
            Self::TooLarge(_) => Reason::InvalidLock,
            Self::Serialise(_) => Reason::Internal,
        }
    }
}

impl RunSnapshot {
    /// The frozen run, if it fits into a `ConfigMap`.
    pub fn new(lock: &CanonicalLock, inputs: &JobInputs) -> Result<Self, RunSnapshotError> {
        let serialise =
            |error: &dyn std::fmt::Display| RunSnapshotError::Serialise(error.to_string());
        let lock = String::from_utf8(lock.bytes.clone()).map_err(|e| serialise(&e))?;
        let inputs = serde_json::to_string(inputs).map_err(|e| serialise(&e))?;
        match lock.len() + inputs.len() {
            fits if fits <= MAX_SNAPSHOT => Ok(Self { lock, inputs }),
            size => Err(RunSnapshotError::TooLarge(size)),
        }
    }

    /// The run in a `ConfigMap` made by [`snapshot_config_map`].
    pub fn from_config_map(map: &ConfigMap) -> Option<Self> {
        let data = map.data.as_ref()?;
        Some(Self {
            lock: data.get(LOCK_FILE)?.clone(),
            inputs: data.get(INPUTS_FILE)?.clone(),
        })
    }

    fn into_data(self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (LOCK_FILE.to_owned(), self.lock),
            (INPUTS_FILE.to_owned(), self.inputs),
        ])
    }
}

/// The frozen run in the system namespace, which no tenant can access. Immutable.
pub fn snapshot_config_map(
    owner: &PackedBundle,
    inputs: &JobInputs,
    data: RunSnapshot,
    setup: &RunSettings,
) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(inputs.run.lock_snapshot_name()),
            namespace: Some(setup.system_namespace.clone()),
            labels: Some(run_labels(owner, &inputs.run, RunComponent::Lock)),
            annotations: Some(BTreeMap::from([(
                SNAPSHOT_GENERATION.to_owned(),
                inputs.bundle.generation.to_string(),
            )])),
            owner_references: Some(vec![setup.installation.clone()]),
            ..ObjectMeta::default()
        },
        data: Some(data.into_data()),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}

/// The same for the pack Job, in the tenant's namespace. The sign Job detects changes by the
/// tenant.
pub fn pack_config_map(owner: &PackedBundle, inputs: &JobInputs, data: RunSnapshot) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(inputs.run.pack_job_name()),
            namespace: owner.namespace(),
            labels: Some(run_labels(owner, &inputs.run, RunComponent::Pack)),
            owner_references: Some(bundle_owner_references(owner)),
            ..ObjectMeta::default()
        },
        data: Some(data.into_data()),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}

/// A copy of the push credential for the sign Job. It is deleted with the run.
pub fn push_secret_copy(
    owner: &PackedBundle,
    inputs: &JobInputs,
    docker_config: Vec<u8>,
    setup: &RunSettings,
) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(inputs.run.sign_job_name()),
            namespace: Some(setup.system_namespace.clone()),
            labels: Some(run_labels(owner, &inputs.run, RunComponent::Sign)),
            owner_references: Some(vec![setup.installation.clone()]),
            ..ObjectMeta::default()
        },
        type_: Some(DOCKER_CONFIG_TYPE.to_owned()),
        data: Some(BTreeMap::from([(
            DOCKER_CONFIG_KEY.to_owned(),
            ByteString(docker_config),
        )])),
        immutable: Some(true),
        ..Secret::default()
    }
}
