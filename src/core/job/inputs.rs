//! Everything that a run of Jobs depends on, frozen before the first of them starts.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::core::{
    class::{Classified, Reason},
    digest::Digest,
    json,
    limits::Limits,
    lockfile::{LockError, Lockfile, RecordedLayer},
    oci::Platform,
    pack::Output,
    reference::{PinnedReference, Reference, ReferenceError, Repository, Tag},
    sbom,
};

/// The file, and the key of the `ConfigMap`, that holds the canonical lock.
pub const LOCK_FILE: &str = "lock.json";
/// The file, and the key of the `ConfigMap`, that holds the [`Inputs`].
pub const INPUTS_FILE: &str = "inputs.json";
/// Bytes of lock and inputs together. A `ConfigMap` holds at most 1 MiB.
pub const MAX_SNAPSHOT: usize = 1_000_000;
/// The one version of [`Inputs`] that there is.
pub const INPUTS_VERSION: u32 = 1;

/// What makes a run: the same object, generation and lock give the same name, so nothing is started
/// twice.
///
/// First 16 hexadecimal digits of the SHA-256 of `UID/GENERATION/LOCKDIGEST` (formats page, "In the
/// cluster").
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunKey(String);

impl RunKey {
    /// The key of the run that packs this lock for this generation of the object.
    pub fn new(uid: &str, generation: i64, lock: &Digest) -> Self {
        Self(Digest::of(format!("{uid}/{generation}/{lock}").as_bytes()).hex()[..16].to_owned())
    }

    /// As it stands in names.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The snapshot in the system namespace: `packgate-K-lock`.
    pub fn snapshot_name(&self) -> String {
        format!("packgate-{self}-lock")
    }

    /// The pack Job and its `ConfigMap`: `packgate-K-pack`.
    pub fn pack_name(&self) -> String {
        format!("packgate-{self}-pack")
    }

    /// The sign Job and its Secret: `packgate-K-sign`.
    pub fn sign_name(&self) -> String {
        format!("packgate-{self}-sign")
    }
}

impl fmt::Display for RunKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a run of Jobs depends on beside the lock. `inputs.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Inputs {
    /// [`INPUTS_VERSION`].
    pub v: u32,
    /// The name of the run.
    pub run: RunKey,
    /// The object that asked for it.
    pub bundle: BundleIdentity,
    /// UID of the namespace `kube-system`: which cluster this is.
    pub cluster: String,
    /// When the lock was frozen.
    pub started_on: Timestamp,
    /// Where the lock came from.
    pub source: SourceOrigin,
    /// Digest of the canonical lock.
    pub lock_digest: Digest,
    /// What the lock has recorded about its layers; it is no part of the canonical lock.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Recorded>,
    /// The bundle's form.
    pub output: Output,
    /// Where the bundle goes.
    pub destination: Destination,
    /// How registries are spoken to that are not found the ordinary way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registries: Vec<Registry>,
    /// Networks of private addresses that downloads may come from, such as `10.0.0.0/8`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub private_networks: Vec<String>,
    /// Networks of private addresses that registries may be in; all of them if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registry_networks: Vec<String>,
    /// Further certificate authorities for downloads, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetch_ca: Option<String>,
    /// Who signs.
    pub signing: Signing,
    /// The software bill of materials that is attested, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sbom: Option<sbom::Format>,
    /// The image that packs, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packer: Option<Packer>,
}

/// A `PackedBundle` in one of its generations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BundleIdentity {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: i64,
}

/// Where the lock came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SourceOrigin {
    /// For provenance: `k8s://NAMESPACE/configmaps/NAME` and the like.
    pub uri: String,
    /// The context artifact that `file` origins are in: `REPOSITORY@DIGEST`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// The path of the lock in the context artifact. Origins are relative to its folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_path: Option<String>,
}

/// What the lock has recorded about one layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Recorded {
    /// How many artifacts it holds.
    pub artifacts: usize,
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The platform's bundle that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// Where the bundle goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Destination {
    /// `HOST[:PORT]/PATH`
    pub repository: String,
    /// The tag that it gets at last. Without one it is known by its digest only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// May the tag move?
    pub tag_policy: TagPolicy,
}

/// May a tag that names something be made to name something else?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TagPolicy {
    /// No.
    #[default]
    Immutable,
    /// Yes.
    Mutable,
}

/// How one registry is spoken to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Registry {
    /// `HOST[:PORT]`
    pub host: String,
    /// Without TLS.
    #[serde(default, rename = "plainHTTP")]
    pub plain_http: bool,
    /// Further certificate authorities, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// Who signs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Signing {
    /// Whose key.
    pub mode: SigningMode,
    /// `builder.id` of the provenance.
    pub builder_id: String,
}

/// Whose key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SigningMode {
    /// The installation's.
    Platform,
    /// The tenant's.
    Namespace,
    /// Nobody's: the bundle is checked, not signed, not attested and not tagged.
    None,
}

/// The image that packs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Packer {
    /// `oci://REPOSITORY`
    pub uri: String,
    /// Its digest.
    pub digest: Digest,
}

/// Why inputs cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InputsError {
    /// Not JSON, too large, or with unknown or missing fields.
    #[error("{INPUTS_FILE}: {0}")]
    Shape(String),
    /// Written by another release.
    #[error(
        "{INPUTS_FILE} has version {0}, this release reads {INPUTS_VERSION}; the controller and \
            its Jobs must be of one release"
    )]
    Version(u32),
    /// The lock is none, or not canonical.
    #[error("{LOCK_FILE}: {0}")]
    Lock(#[from] LockError),
    /// The lock is another one.
    #[error("{LOCK_FILE} has the digest {actual}, {INPUTS_FILE} says {expected}")]
    OtherLock {
        /// What the inputs say.
        expected: Digest,
        /// What is there.
        actual: Digest,
    },
    /// A name that is none.
    #[error("{INPUTS_FILE}: {0}")]
    Reference(#[from] ReferenceError),
}

impl Classified for InputsError {
    fn reason(&self) -> Reason {
        match self {
            Self::Shape(_) | Self::Version(_) => Reason::InvalidSpec,
            Self::Lock(error) => error.reason(),
            Self::OtherLock { .. } => Reason::LockMismatch,
            Self::Reference(error) => error.reason(),
        }
    }
}

impl Inputs {
    /// Reads `inputs.json`.
    pub fn parse(bytes: &[u8]) -> Result<Self, InputsError> {
        let inputs: Self = json::parse(bytes, MAX_SNAPSHOT, Limits::DEFAULT.json_depth)
            .map_err(|e| InputsError::Shape(e.to_string()))?;
        if inputs.v == INPUTS_VERSION {
            Ok(inputs)
        } else {
            Err(InputsError::Version(inputs.v))
        }
    }

    /// Reads `lock.json`, which must be the lock that these inputs are about, and gives it its
    /// recorded layers back.
    pub fn lock(&self, bytes: &[u8]) -> Result<Lockfile, InputsError> {
        let actual = Digest::of(bytes);
        if actual != self.lock_digest {
            return Err(InputsError::OtherLock {
                expected: self.lock_digest,
                actual,
            });
        }
        let mut lock = Lockfile::from_canonical(bytes, &Limits::DEFAULT)?;
        lock.layers = self
            .layers
            .iter()
            .cloned()
            .map(RecordedLayer::from)
            .collect();
        Ok(lock)
    }

    /// The repository that the bundle goes to.
    pub fn repository(&self) -> Result<Repository, InputsError> {
        let reference: Reference = self.destination.repository.parse()?;
        Ok(reference.repository)
    }

    /// The tag that it gets at last.
    pub fn tag(&self) -> Result<Option<Tag>, InputsError> {
        Ok(self
            .destination
            .tag
            .as_deref()
            .map(str::parse)
            .transpose()?)
    }

    /// The context artifact.
    pub fn context(&self) -> Result<Option<PinnedReference>, InputsError> {
        let context = self
            .source
            .context
            .as_deref()
            .map(str::parse::<Reference>)
            .transpose()?;
        Ok(context.map(|reference| reference.pinned()).transpose()?)
    }
}

impl From<Recorded> for RecordedLayer {
    fn from(
        Recorded {
            artifacts,
            diff_id,
            size,
            platform,
        }: Recorded,
    ) -> Self {
        Self {
            artifacts,
            diff_id,
            size,
            platform,
        }
    }
}

impl From<RecordedLayer> for Recorded {
    fn from(
        RecordedLayer {
            artifacts,
            diff_id,
            size,
            platform,
        }: RecordedLayer,
    ) -> Self {
        Self {
            artifacts,
            diff_id,
            size,
            platform,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_named_by_object_generation_and_lock() {
        let lock = Digest::of(b"lock");
        let key = RunKey::new("u-1", 3, &lock);
        assert_eq!(
            key.as_str(),
            &Digest::of(format!("u-1/3/{lock}").as_bytes()).hex()[..16]
        );
        assert_eq!(key, RunKey::new("u-1", 3, &lock));
        for other in [
            RunKey::new("u-2", 3, &lock),
            RunKey::new("u-1", 4, &lock),
            RunKey::new("u-1", 3, &Digest::of(b"other")),
        ] {
            assert_ne!(key, other);
        }
        assert_eq!(key.sign_name(), format!("packgate-{key}-sign"));
    }
}
