//! Locks whose artifacts lie in a registry, and the objects that ask for their bundles.

use std::{path::PathBuf, time::Duration};

use packgate::core::digest::Digest;
use serde_json::{Value, json};

use super::cluster::Test;

/// From `kubectl apply` to `Ready`: two Jobs, each some seconds, with others beside them.
pub(crate) const PACKED: Duration = Duration::from_mins(3);

/// A lock on disk.
#[derive(Debug)]
pub(crate) struct Lock {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl Lock {
    /// A `ConfigMap` with the lock under the key that a `PackedBundle` looks for.
    pub(crate) fn config_map(&self, name: &str) -> String {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name},
            "data": {"lock.yaml": self.text},
        })
        .to_string()
    }
}

/// The smallest `PackedBundle`: packs the lock in this `ConfigMap` into this repository.
pub(crate) fn packed_bundle(name: &str, lock: &str, repository: &str) -> Value {
    json!({
        "apiVersion": "packgate.dev/v1alpha1",
        "kind": "PackedBundle",
        "metadata": {"name": name},
        "spec": {
            "source": {"configMapRef": {"name": lock}},
            "destination": {"repository": repository},
        },
    })
}

impl Test {
    /// Puts files, target and content, into a registry, and returns a lock of them, with what its
    /// layers will be. In a cluster a lock cannot name files of somebody's disk, so the files are
    /// the blobs of an artifact, which packgate itself makes.
    #[track_caller]
    pub(crate) fn lock(&self, registry: &str, name: &str, files: &[(&str, &str)]) -> Lock {
        let stored = self.store(registry, name, files);
        let artifacts = files.iter().map(|(target, content)| {
            let blob = Digest::of_bytes(content.as_bytes()).to_string();
            json!({
                "name": target.replace('/', "-"),
                "origin": format!("oci://{stored}"),
                "target": target,
                "oci": {"blob": blob},
            })
        });
        self.lock_of(name, &artifacts.collect::<Vec<_>>())
    }

    /// A lock of these artifacts, which need `name`, `origin` and `target` only.
    #[track_caller]
    pub(crate) fn lock_of(&self, name: &str, artifacts: &[Value]) -> Lock {
        let manifest = json!({
            "apiVersion": "packgate.dev/v1alpha1",
            "kind": "LockManifest",
            "name": name,
            "artifacts": artifacts,
        });
        self.write(&format!("{name}.json"), manifest.to_string());
        let file = format!("{name}.lock.yaml");
        self.packgate(&format!(
            "lock {name}.json -f {file} {}",
            self.cluster.http_flag()
        ))
        .ok();
        let path = self.file(&file);
        Lock {
            text: std::fs::read_to_string(&path).expect("a lock"),
            path,
        }
    }

    /// `REPOSITORY:TAG@DIGEST` of an artifact whose blobs are these files.
    fn store(&self, registry: &str, name: &str, files: &[(&str, &str)]) -> String {
        let artifacts = files.iter().map(|(target, content)| {
            self.write(&format!("{name}-files/{target}"), content);
            json!({
                "name": target.replace('/', "-"),
                "origin": format!("{name}-files/{target}"),
                "target": target,
            })
        });
        let lock = self.lock_of(&format!("{name}-files"), &artifacts.collect::<Vec<_>>());
        let to = self.repository(registry, &format!("{name}-files"));
        self.packgate(&format!(
            "pack {} --format Artifact --to {to}:v1 {}",
            lock.path.display(),
            self.cluster.http_flag()
        ))
        .ok()
        .to_owned()
    }

    /// Waits until a `PackedBundle` is ready, as users do, and returns it.
    #[track_caller]
    pub(crate) fn ready(&self, name: &str) -> Value {
        self.namespace
            .wait(&format!("packedbundle/{name}"), "condition=Ready", PACKED);
        self.namespace
            .get("packedbundle", name)
            .expect("a PackedBundle")
    }
}
