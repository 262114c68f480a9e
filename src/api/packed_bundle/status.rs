//! The status that the controller writes. It is never evidence: every verifier verifies the bundle
//! itself.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Entries that [`PackedBundleStatus::history`] keeps.
pub const MAX_HISTORY: usize = 10;

/// What became of a PackedBundle.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PackedBundleStatus {
    /// The generation that the conditions are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The annotation packgate.dev/reconcile-requested-at that was acted on last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// The lock that is packed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<LockStatus>,
    /// The bundle that was packed and verified last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<BundleStatus>,
    /// What was found attached to it, and verified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<EvidenceStatus>,
    /// Ready, and where they hold Reconciling, Stalled and Verified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The last runs, newest first: at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<RunHistoryEntry>,
}

/// The lock that is packed.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LockStatus {
    /// Digest of its canonical form.
    pub digest: String,
    /// How many artifacts it names.
    pub artifacts: i64,
}

/// The bundle.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BundleStatus {
    /// Its name with tag and digest, to be copied into a Pod.
    pub reference: String,
    /// Its digest.
    pub digest: String,
    /// Its tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Bytes of all its blobs and manifests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
    /// Layers of its first manifest, with the lock's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<i64>,
    /// The version of the packing rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack_format: Option<String>,
}

/// Something attached to the bundle.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceStatus {
    /// What it claims.
    pub predicate_type: String,
    /// Digest of the referrer.
    pub digest: String,
    /// The authority that signed it.
    pub signer: String,
}

/// One run.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RunHistoryEntry {
    /// The run, as it stands in the names of its Jobs.
    pub run: String,
    /// The bundle, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The lock.
    pub lock_digest: String,
    /// When it began, in UTC.
    pub started: String,
    /// When it ended, in UTC.
    pub finished: String,
    /// How: `Succeeded`, or the reason.
    pub reason: String,
}
