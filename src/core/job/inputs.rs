//! The inputs of a run of Jobs, frozen before the first of them starts.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{fetch::JobFetch, recorded_layer::JobRecordedLayer};
use crate::core::{
    digest::Digest,
    json,
    limits::InputLimits,
    lockfile::{Lockfile, LockfileError, RecordedLayer, SignedOrigin},
    pack::PackOptions,
    reason::{Reason, classify},
    reference::{ImageReference, ImageReferenceError, ImageRepository, ImageTag, PinnedReference},
    sbom,
};

/// The file, and the key in the `ConfigMap`, of the canonical lock.
pub const LOCK_FILE: &str = "lock.json";
/// The file, and the key in the `ConfigMap`, of the [`JobInputs`].
pub const INPUTS_FILE: &str = "inputs.json";
/// The maximum size in bytes of lock and inputs together. A `ConfigMap` may have 1 MiB.
pub const MAX_SNAPSHOT: usize = 1_000_000;
/// The only version of [`JobInputs`].
pub const INPUTS_VERSION: u32 = 1;

/// The key of a run: the same object, generation and lock have the same key, so no run is started
/// twice.
///
/// The first 16 hexadecimal digits of the SHA-256 of `UID/GENERATION/LOCKDIGEST`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobRunKey(String);

impl JobRunKey {
    /// The key of the run that packs this lock for this generation of the object.
    pub fn new(uid: &str, generation: i64, lock: &Digest) -> Self {
        Self(
            Digest::of_bytes(format!("{uid}/{generation}/{lock}").as_bytes()).hex_digits()[..16]
                .to_owned(),
        )
    }

    /// The key as part of object names.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The snapshot in the system namespace: `packgate-K-lock`.
    pub fn lock_snapshot_name(&self) -> String {
        format!("packgate-{self}-lock")
    }

    /// The pack Job and its `ConfigMap`: `packgate-K-pack`.
    pub fn pack_job_name(&self) -> String {
        format!("packgate-{self}-pack")
    }

    /// The sign Job and its Secret: `packgate-K-sign`.
    pub fn sign_job_name(&self) -> String {
        format!("packgate-{self}-sign")
    }
}

impl fmt::Display for JobRunKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// All inputs of a run other than the lock: `inputs.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobInputs {
    /// The version, [`INPUTS_VERSION`].
    pub v: u32,
    /// The key of the run.
    pub run: JobRunKey,
    /// The object that requested the run.
    pub bundle: PackedBundleIdentity,
    /// The cluster: the UID of the namespace `kube-system`.
    pub cluster: String,
    /// When the lock was frozen.
    pub started_on: Timestamp,
    /// The source of the lock.
    pub source: JobLockSource,
    /// Digest of the canonical lock.
    pub lock_digest: Digest,
    /// The recorded layers of the lock, which are not part of the canonical lock.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<JobRecordedLayer>,
    /// By name of their artifacts, origins with a credential, which the canonical lock has not.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub signed_origins: BTreeMap<String, SignedOrigin>,
    /// The format and layout of the bundle.
    pub output: PackOptions,
    /// The destination of the bundle.
    pub destination: JobDestination,
    /// Registries with special settings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registries: Vec<JobRegistry>,
    /// Private networks that downloads may come from, such as `10.0.0.0/8`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub private_networks: Vec<String>,
    /// Private networks that registries may be in; all of them if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registry_networks: Vec<String>,
    /// CA certificates for downloads, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetch_ca: Option<String>,
    /// Credentials, proxy and mirrors of downloads.
    #[serde(default, skip_serializing_if = "JobFetch::is_empty")]
    pub fetch: JobFetch,
    /// Who signs.
    pub signing: JobSigning,
    /// The format of the SBOM to attest, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sbom: Option<sbom::SbomFormat>,
    /// The image of the packer, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packer: Option<PackerImage>,
}

/// A `PackedBundle` in one of its generations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PackedBundleIdentity {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its `metadata.generation`.
    pub generation: i64,
}

/// The source of the lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobLockSource {
    /// For provenance: `k8s://NAMESPACE/configmaps/NAME` and the like.
    pub uri: String,
    /// The context artifact that `file` origins are in: `REPOSITORY@DIGEST`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// The path of the lock in the context artifact. Origins are relative to its folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_path: Option<String>,
}

/// The destination of the bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobDestination {
    /// The repository, `HOST[:PORT]/PATH`.
    pub repository: String,
    /// The tag to set at the end. Without one the bundle is only referenced by its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Whether the tag may be moved.
    pub tag_policy: JobTagPolicy,
}

/// Whether an existing tag may be moved to another digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobTagPolicy {
    /// The tag must not be moved.
    #[default]
    Immutable,
    /// The tag may be moved.
    Mutable,
}

/// The settings of one registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobRegistry {
    /// The host, `HOST[:PORT]`.
    pub host: String,
    /// Use HTTP without TLS.
    #[serde(default, rename = "plainHTTP")]
    pub plain_http: bool,
    /// Its CA certificates, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Token services of other owners that its credentials may be sent to, as URLs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub token_services: Vec<String>,
    /// Mirrors that it is read from first, as URLs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
}

/// The signing of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobSigning {
    /// Whose key signs.
    pub mode: JobSigningMode,
    /// `builder.id` of the provenance.
    pub builder_id: String,
}

/// Whose key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobSigningMode {
    /// The installation's key.
    Platform,
    /// The tenant's key.
    Namespace,
    /// No key: the bundle is checked, but not signed, attested or tagged.
    None,
}

/// The image of the pack Job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PackerImage {
    /// Its URI, `oci://REPOSITORY`.
    pub uri: String,
    /// Its digest.
    pub digest: Digest,
}

/// Why inputs are invalid.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum JobInputsError {
    /// Not JSON, too large, or with unknown or missing fields.
    #[error("{INPUTS_FILE}: {0}")]
    Shape(String),
    #[error(
        "{INPUTS_FILE} has version {0}, this release supports {INPUTS_VERSION}; the controller and \
            its Jobs must be of one release"
    )]
    Version(u32),
    #[error("{LOCK_FILE}: {0}")]
    Lock(#[from] LockfileError),
    #[error("{LOCK_FILE} has the digest {actual}, {INPUTS_FILE} says {expected}")]
    LockDigestMismatch { expected: Digest, actual: Digest },
    #[error(
        "{INPUTS_FILE}: signedOrigins: {0:?} is not what the artifact of this name has as its origin"
    )]
    SignedOrigin(String),
    #[error("{INPUTS_FILE}: {0}")]
    Reference(#[from] ImageReferenceError),
}

classify!(JobInputsError, |error| match error {
    Self::Shape(_) | Self::Version(_) | Self::SignedOrigin(_) => Reason::InvalidSpec,
    Self::Lock(error) => error.reason(),
    Self::LockDigestMismatch { .. } => Reason::LockMismatch,
    Self::Reference(error) => error.reason(),
});

impl JobInputs {
    /// Parses `inputs.json`.
    pub fn parse(bytes: &[u8]) -> Result<Self, JobInputsError> {
        let inputs: Self = json::parse_strict(bytes, MAX_SNAPSHOT, InputLimits::DEFAULT.json_depth)
            .map_err(|e| JobInputsError::Shape(e.to_string()))?;
        if inputs.v == INPUTS_VERSION {
            Ok(inputs)
        } else {
            Err(JobInputsError::Version(inputs.v))
        }
    }

    /// Parses `lock.json`, which must be the lock of these inputs, and restores its recorded
    /// layers and its credentials.
    pub fn parse_lock(&self, bytes: &[u8]) -> Result<Lockfile, JobInputsError> {
        let actual = Digest::of_bytes(bytes);
        if actual != self.lock_digest {
            return Err(JobInputsError::LockDigestMismatch {
                expected: self.lock_digest,
                actual,
            });
        }
        let mut lock = Lockfile::from_canonical(bytes, &InputLimits::DEFAULT)?;
        lock.layers = self
            .layers
            .iter()
            .cloned()
            .map(RecordedLayer::from)
            .collect();
        for (name, signed) in &self.signed_origins {
            restore_signed_origin(&mut lock, name, signed)?;
        }
        Ok(lock)
    }

    /// The repository that the bundle goes to.
    pub fn destination_repository(&self) -> Result<ImageRepository, JobInputsError> {
        let reference: ImageReference = self.destination.repository.parse()?;
        Ok(reference.repository)
    }

    /// The tag to set at the end.
    pub fn destination_tag(&self) -> Result<Option<ImageTag>, JobInputsError> {
        Ok(self
            .destination
            .tag
            .as_deref()
            .map(str::parse)
            .transpose()?)
    }

    /// The context artifact, if the lock came from one.
    pub fn context_reference(&self) -> Result<Option<PinnedReference>, JobInputsError> {
        let context = self
            .source
            .context
            .as_deref()
            .map(str::parse::<ImageReference>)
            .transpose()?;
        Ok(context.map(|reference| reference.to_pinned()).transpose()?)
    }
}

/// The published part of the origin must be the one of the lock: that is what is signed.
fn restore_signed_origin(
    lock: &mut Lockfile,
    name: &str,
    signed: &SignedOrigin,
) -> Result<(), JobInputsError> {
    let published = SignedOrigin::separate(signed.expose()).map(|(published, _)| published);
    let artifact = lock
        .artifacts
        .iter_mut()
        .find(|artifact| artifact.name == name)
        .filter(|artifact| published.as_ref() == Some(&artifact.origin))
        .ok_or_else(|| JobInputsError::SignedOrigin(name.to_owned()))?;
    artifact.signed_origin = Some(signed.clone());
    Ok(())
}
