//! `ConfigMaps` and Secrets of a run.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{ResourceExt, core::ObjectMeta};

use super::{Component, Setup, labels, owned_by};
use crate::{
    api::packed_bundle::PackedBundle,
    core::{
        class::{Classified, Reason},
        job::{INPUTS_FILE, Inputs, LOCK_FILE, MAX_SNAPSHOT},
        lockfile::CanonicalLock,
    },
};

/// Annotation of a snapshot: the generation that it was frozen for.
pub const SNAPSHOT_GENERATION: &str = "packgate.dev/generation";
/// The type and key of a registry Secret.
pub(super) const DOCKER_CONFIG_TYPE: &str = "kubernetes.io/dockerconfigjson";
/// The key of a registry Secret.
pub const DOCKER_CONFIG_KEY: &str = ".dockerconfigjson";

/// What both Jobs read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// `lock.json`
    pub lock: String,
    /// `inputs.json`
    pub inputs: String,
}

/// Why a run cannot be frozen.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It does not fit into a `ConfigMap`.
    #[error(
        "lock and inputs have {0} bytes together, the limit in a cluster is {MAX_SNAPSHOT}; split \
            the lock in two"
    )]
    TooLarge(usize),
    /// Our bug.
    #[error("cannot serialise: {0}")]
    Serialise(String),
}

impl Classified for SnapshotError {
    fn reason(&self) -> Reason {
        match self {
            Self::TooLarge(_) => Reason::InvalidLock,
            Self::Serialise(_) => Reason::Internal,
        }
    }
}

impl Snapshot {
    /// The frozen run, if it fits.
    pub fn new(lock: &CanonicalLock, inputs: &Inputs) -> Result<Self, SnapshotError> {
        let serialise = |error: &dyn std::fmt::Display| SnapshotError::Serialise(error.to_string());
        let lock = String::from_utf8(lock.bytes.clone()).map_err(|e| serialise(&e))?;
        let inputs = serde_json::to_string(inputs).map_err(|e| serialise(&e))?;
        match lock.len() + inputs.len() {
            fits if fits <= MAX_SNAPSHOT => Ok(Self { lock, inputs }),
            size => Err(SnapshotError::TooLarge(size)),
        }
    }

    /// Out of a `ConfigMap` that [`snapshot`] made.
    pub fn read(map: &ConfigMap) -> Option<Self> {
        let data = map.data.as_ref()?;
        Some(Self {
            lock: data.get(LOCK_FILE)?.clone(),
            inputs: data.get(INPUTS_FILE)?.clone(),
        })
    }

    fn data(self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (LOCK_FILE.to_owned(), self.lock),
            (INPUTS_FILE.to_owned(), self.inputs),
        ])
    }
}

/// The frozen run in the system namespace, out of the tenant's reach. Immutable.
pub fn snapshot(owner: &PackedBundle, inputs: &Inputs, data: Snapshot, setup: &Setup) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(inputs.run.snapshot_name()),
            namespace: Some(setup.system_namespace.clone()),
            labels: Some(labels(owner, &inputs.run, Component::Lock)),
            annotations: Some(BTreeMap::from([(
                SNAPSHOT_GENERATION.to_owned(),
                inputs.bundle.generation.to_string(),
            )])),
            owner_references: Some(vec![setup.installation.clone()]),
            ..ObjectMeta::default()
        },
        data: Some(data.data()),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}

/// The same for the pack Job, in the tenant's namespace. What a tenant changes here is found by the
/// sign Job.
pub fn pack_config(owner: &PackedBundle, inputs: &Inputs, data: Snapshot) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(inputs.run.pack_name()),
            namespace: owner.namespace(),
            labels: Some(labels(owner, &inputs.run, Component::Pack)),
            owner_references: Some(owned_by(owner)),
            ..ObjectMeta::default()
        },
        data: Some(data.data()),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}

/// A copy of the push credential for the sign Job. It goes with the run.
pub fn push_secret(
    owner: &PackedBundle,
    inputs: &Inputs,
    docker_config: Vec<u8>,
    setup: &Setup,
) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(inputs.run.sign_name()),
            namespace: Some(setup.system_namespace.clone()),
            labels: Some(labels(owner, &inputs.run, Component::Sign)),
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
