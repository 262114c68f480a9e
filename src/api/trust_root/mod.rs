//! `TrustRoot`: the trust root that certificates and log entries must chain to.
//!
//! Its content is always in a `ConfigMap` of the system namespace: a user's, or one in which the
//! controller stores the content of a TUF repository. Verifiers read that `ConfigMap`, and never a
//! repository.

#![allow(
    clippy::duplicated_attributes,
    reason = "columns of one type are no mistake"
)]
#![allow(
    clippy::doc_markdown,
    reason = "`kubectl explain` shows these texts as they are"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod trust_root_state;

pub use trust_root_state::{
    ActiveTrustRoot, ConfigMapLookup, METADATA_KEY, ROOTS_KEY, STATE_KEY, TrustRootFetchState,
    TrustRootStateError,
};

use super::bundle_policy::NameRef;

/// The key of the root in a ConfigMap.
pub const TRUSTED_ROOT_KEY: &str = "trusted_root.json";
/// The key of the first root of a TUF repository in a ConfigMap.
pub const TUF_ROOT_KEY: &str = "root.json";

/// What certificates and log entries must chain to.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "packgate.dev",
    version = "v1alpha1",
    kind = "TrustRoot",
    doc = "TrustRoot says which certificate authorities, transparency logs and timestamp \
        authorities of a Sigstore instance are trusted.",
    plural = "trustroots",
    category = "packgate",
    status = "TrustRootStatus",
    derive = "PartialEq",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Source", type_ = "string", json_path = ".status.source"),
    printcolumn(name = "Expires", type_ = "date", json_path = ".status.notAfter"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = (
        "[has(self.trustedRoot), has(self.tuf), has(self.publicGood)].filter(x, x).size() == 1",
        "exactly one of trustedRoot, tuf and publicGood"
    )
)]
pub struct TrustRootSpec {
    /// A trusted root in a ConfigMap of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted_root: Option<TrustedRootSource>,
    /// A root that a TUF repository gives. The controller asks it; whoever judges uses what it gave
    /// last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuf: Option<TufRepositorySource>,
    /// The root of Sigstore's public instance, from its TUF repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_good: Option<PublicGoodSource>,
}

/// A trusted root in a ConfigMap of the cluster.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustedRootSource {
    /// A ConfigMap in the system namespace, key `trusted_root.json`. Example: `{name:
    /// trusted-root}`.
    pub config_map_ref: NameRef,
}

/// A root that a TUF repository gives.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TufRepositorySource {
    /// The repository; its metadata is signed, so `http` is possible. Example:
    /// `https://tuf.example.com`.
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^https?://"))]
    pub url: String,
    /// Its initial root.json, which the chain of trust starts from.
    pub root: TufRootSource,
    /// How often it is asked, at least `10s`. Default: `24h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 24), regex(pattern = super::duration::PATTERN))]
    pub interval: Option<String>,
    /// How long the last good root is used after it expired. Then whatever names it is refused.
    /// Default: `168h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 24), regex(pattern = super::duration::PATTERN))]
    pub max_staleness: Option<String>,
}

/// The first root of a TUF repository.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TufRootSource {
    /// A ConfigMap in the system namespace, key `root.json`. Example: `{name: tuf-root}`.
    pub config_map_ref: NameRef,
}

/// The root of Sigstore's public instance.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicGoodSource {}

/// What became of a TrustRoot.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TrustRootStatus {
    /// The generation that the conditions are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the root comes from: `ConfigMap`, `Tuf` or `PublicGood`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// SHA-256 of the root in force. A verdict that used another is not reused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_hash: Option<String>,
    /// When it expires, in UTC: the TUF metadata that covers it, or the last of its certificate
    /// authorities, logs or timestamp authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
    /// Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
