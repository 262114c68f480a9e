//! `PackedBundle`: a lock to pack into a signed bundle in a registry, or an existing bundle.
//!
//! The types here are the API's; [`ValidatedPackedBundle`] is the validated form. Fields whose
//! behaviour is not implemented yet are refused by the schema's rules and by the validator, never
//! ignored.

#![allow(
    clippy::duplicated_attributes,
    reason = "columns of one type are no mistake"
)]
#![allow(
    clippy::doc_markdown,
    reason = "`kubectl explain` shows these texts as they are"
)]

mod fetch;
mod fetch_spec;
mod packing_request;
mod signing_spec;
mod source;
mod status;
#[cfg(test)]
mod tests;
mod validated;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::bundle_policy::{ConfigObjectKind, ConfigObjectRef, NameRef};
pub use fetch_spec::{FetchCredentialSpec, FetchMirrorSpec, FetchSpec};
pub use packing_request::{
    BundleAdoption, HistoryLimits, LockSource, PackedBundleSpecError, PackedBundleWork,
    PackingRequest, SigningParty, TenantSigner, TenantSigningIdentity, UnpackableLockError,
};
pub use signing_spec::{
    EvidenceSpec, KeylessSigningSpec, SbomFormatSpec, SigningModeSpec, SigningSpec,
};
pub use status::{
    BundleStatus, EvidenceStatus, LockStatus, MAX_HISTORY, PackedBundleStatus, RunHistoryEntry,
};
pub use validated::ValidatedPackedBundle;

/// The annotation whose change requests a reconcile; any text, usually the time.
pub const RECONCILE_REQUESTED: &str = "packgate.dev/reconcile-requested-at";

/// A lock that is to become a signed bundle in a registry.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "packgate.dev",
    version = "v1alpha1",
    kind = "PackedBundle",
    doc = "PackedBundle packs what a lockfile names into an OCI bundle, has it signed and \
        attested, and tags it last; or adopts a bundle that is already there.",
    plural = "packedbundles",
    shortname = "pb",
    category = "packgate",
    namespaced,
    status = "PackedBundleStatus",
    derive = "PartialEq",
    validation = ("self.metadata.name.size() <= 63", "metadata.name must have at most 63 \
        characters, it becomes a label"),
    printcolumn(name = "Ready", type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Verified", type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Verified\")].status"),
    printcolumn(name = "Tag", type_ = "string", json_path = ".status.bundle.tag"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Repository", type_ = "string", json_path = ".spec.destination.repository",
        priority = 1),
    printcolumn(name = "Digest", type_ = "string", json_path = ".status.bundle.digest",
        priority = 1),
    printcolumn(name = "Message", type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1)
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = ("has(self.source.bundle) || has(self.destination)", "destination must say where \
        the bundle goes, unless source.bundle adopts one"),
    validation = (
        "!has(self.source.bundle) || (!has(self.destination) && !has(self.output) && \
            !has(self.signing))",
        "source.bundle adopts a bundle as it is: destination, output and signing must be left out"
    ),
    validation = (
        "!has(self.evidence) || !has(self.evidence.sbom) || self.evidence.sbom == 'None' || \
            (!has(self.source.bundle) && (!has(self.signing) || self.signing.mode != 'None'))",
        "evidence.sbom must be None where nobody signs: with signing mode None, and with \
            source.bundle"
    )
)]
pub struct PackedBundleSpec {
    /// Stops all work on this object until it is false again. What runs already ends. Default:
    /// false.
    #[serde(default)]
    pub suspend: bool,
    /// How often the source is resolved again and the bundle verified again, in hours, minutes and
    /// seconds. Default: `1h`. `0s`: never.
    #[serde(default = "default_interval")]
    #[schemars(length(min = 2, max = 24), regex(pattern = super::duration::PATTERN))]
    pub interval: String,
    /// How long each Job may take, in hours, minutes and seconds; at least `10s`. Default: `15m`.
    #[serde(default = "default_timeout")]
    #[schemars(length(min = 2, max = 24), regex(pattern = super::duration::PATTERN))]
    pub timeout: String,
    /// Where the lock comes from. Exactly one of inline, configMapRef, ociRef and bundle.
    pub source: BundleSourceSpec,
    /// How artifacts are fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetch: Option<FetchSpec>,
    /// Where the bundle goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<DestinationSpec>,
    /// The bundle's form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputSpec>,
    /// Who signs. Default: the platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<SigningSpec>,
    /// Attestations that are attached in addition to the signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EvidenceSpec>,
    /// How many finished Jobs are kept.
    #[serde(default)]
    pub history: HistoryLimitsSpec,
    /// The Pod of the pack Job. It never reaches the Pod that signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack_pod: Option<PackPodSpec>,
}

fn default_interval() -> String {
    "1h".into()
}

fn default_timeout() -> String {
    "15m".into()
}

fn default_lock_file_name() -> String {
    "lock.yaml".into()
}

const fn default_history_limit() -> i32 {
    3
}

/// Where the lock comes from.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = (
    "[has(self.inline), has(self.configMapRef), has(self.ociRef), has(self.bundle)].filter(x, \
        x).size() == 1",
    "exactly one of inline, configMapRef, ociRef and bundle"
))]
pub struct BundleSourceSpec {
    /// The lock itself, as YAML or JSON: at most 900,000 characters. Its artifacts must not be
    /// files: they have no place to come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 900_000))]
    pub inline: Option<String>,
    /// A ConfigMap of this namespace that holds the lock. Example: `{name: siem-lock}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<ConfigMapKeyRef>,
    /// A context artifact: lock and files together, as `oras push` makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oci_ref: Option<ContextArtifactRef>,
    /// A bundle that is already there. It is verified and never packed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<AdoptedBundleRef>,
}

/// A key of a ConfigMap of this namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigMapKeyRef {
    /// Its name. Example: `siem-lock`.
    #[schemars(length(min = 1, max = 253), regex(pattern = super::bundle_policy::OBJECT_NAME))]
    pub name: String,
    /// The key that holds the lock. Default: `lock.yaml`.
    #[serde(default = "default_lock_file_name")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A context artifact.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContextArtifactRef {
    /// The repository, without scheme, tag and digest. Example: `registry.example.com/team-a/ctx`.
    #[schemars(length(min = 3, max = 512))]
    #[x_kube(validation = ("!self.contains('://') && !self.contains('@')", "repository must not \
        have a scheme, tag or digest"))]
    pub repository: String,
    /// Its digest. Example: `sha256:` and 64 hexadecimal digits.
    #[schemars(length(max = 71), regex(pattern = r"^sha256:[a-f0-9]{64}$"))]
    pub digest: String,
    /// The path of the lock in it. `file` origins are relative to its folder. Default: `lock.yaml`.
    #[serde(default = "default_lock_file_name")]
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// A Secret of this namespace, type kubernetes.io/dockerconfigjson, to pull it with. Default:
    /// none. Example: `{name: pull}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<NameRef>,
    /// Must the artifact satisfy the policies that govern its name, as a PackedBundle's? Ungoverned
    /// is refused then. Default: false.
    #[serde(default)]
    pub verify: bool,
}

/// A bundle that is already there.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdoptedBundleRef {
    /// Its name with its digest. Example: `registry.example.com/x/siem@sha256:` and 64 hexadecimal
    /// digits.
    #[schemars(length(min = 3, max = 1024))]
    #[x_kube(validation = ("self.matches('@sha256:[a-f0-9]{64}$')", "reference must end in \
        @sha256: and 64 hexadecimal digits"))]
    pub reference: String,
    /// A Secret of this namespace, type kubernetes.io/dockerconfigjson, to read it with. Default:
    /// none. Example: `{name: pull}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<NameRef>,
}

/// Where the bundle goes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DestinationSpec {
    /// The repository, without scheme, tag and digest. It cannot be changed. Example:
    /// `registry.example.com/team-a/siem`.
    #[schemars(
        length(min = 3, max = 512),
        regex(pattern = r"^[A-Za-z0-9.\[\]:-]+(/[a-z0-9._-]+)+$")
    )]
    #[x_kube(validation = ("self == oldSelf", "destination.repository cannot be changed, make a \
        new PackedBundle"))]
    pub repository: String,
    /// The tag. Default: `lock-` and the first 12 digits of the lock's digest. Example: `v1.4.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 128),
        regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")
    )]
    pub tag: Option<String>,
    /// May the tag be moved from one bundle to another? `Immutable` or `Mutable`. Default:
    /// `Immutable`.
    #[serde(default)]
    pub tag_policy: TagPolicySpec,
    /// A Secret of this namespace, type kubernetes.io/dockerconfigjson, to push with. Default:
    /// none. Example: `{name: push}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<NameRef>,
}

/// May the tag be moved?
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TagPolicySpec {
    /// No.
    #[default]
    Immutable,
    /// Yes.
    Mutable,
}

/// The bundle's form. All of it is covered by its digest.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = ("self.format != 'Artifact' || self.compression == \
    'None'", "an Artifact is not compressed: compression must be None"))]
pub struct OutputSpec {
    /// `Image` can be mounted as an image volume, `Artifact` is for `oras pull`. Default: `Image`.
    #[serde(default)]
    pub format: OutputFormatSpec,
    /// Compression of the layers of an Image: `None` or `Zstd`. Default: `None`.
    #[serde(default)]
    pub compression: CompressionSpec,
    /// Creation time in seconds since 1970. 0 is a value. Default: the bundle carries none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 253_402_300_799_i64))]
    pub source_date_epoch: Option<i64>,
    /// Further annotations of the manifest: at most 64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
}

/// The shape of the manifest.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputFormatSpec {
    /// Image-shaped, with tar layers.
    #[default]
    Image,
    /// One raw blob for each file.
    Artifact,
}

/// Compression of layers.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompressionSpec {
    /// None.
    #[default]
    None,
    /// Zstandard.
    Zstd,
}

/// How many finished Jobs are kept.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HistoryLimitsSpec {
    /// Runs that succeeded: 0 to 100. Default: 3.
    #[serde(default = "default_history_limit")]
    #[schemars(range(min = 0, max = 100))]
    pub succeeded: i32,
    /// Runs that failed: 0 to 100. Default: 3.
    #[serde(default = "default_history_limit")]
    #[schemars(range(min = 0, max = 100))]
    pub failed: i32,
}

impl Default for HistoryLimitsSpec {
    fn default() -> Self {
        Self {
            succeeded: default_history_limit(),
            failed: default_history_limit(),
        }
    }
}

/// The Pod of the pack Job.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PackPodSpec {
    /// Its container's resources. Default: 50m CPU and 64Mi memory requested, no limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Labels of the nodes that it may run on. Default: any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that it tolerates: at most 32. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// Its ServiceAccount, whose image pull secrets it uses. It gets no token. Default: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
}
