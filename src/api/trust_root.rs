//! `TrustRoot`: what certificates and log entries must chain to.
//!
//! Policies that name one are refused until keyless verification comes; the object itself is checked already.

#![allow(unreachable_pub, reason = "kube's KubeSchema copies each struct, `pub` included, into a function")]
#![allow(clippy::duplicated_attributes, reason = "columns of one type are no mistake")]
#![allow(clippy::doc_markdown, reason = "`kubectl explain` shows these texts as they are")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bundle_policy::NameRef;

/// The key of the ConfigMap that holds the root.
pub const TRUSTED_ROOT_KEY: &str = "trusted_root.json";

/// What certificates and log entries must chain to.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "packgate.dev",
    version = "v1alpha1",
    kind = "TrustRoot",
    doc = "TrustRoot says which certificate authorities, transparency logs and timestamp authorities of a Sigstore instance are trusted.",
    plural = "trustroots",
    category = "packgate",
    status = "TrustRootStatus",
    derive = "PartialEq",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Source", type_ = "string", json_path = ".status.source"),
    printcolumn(name = "Expires", type_ = "date", json_path = ".status.notAfter"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = (
        "[has(self.trustedRoot), has(self.tuf), has(self.publicGood)].filter(x, x).size() == 1",
        "exactly one of trustedRoot, tuf and publicGood"
    ),
    validation = ("!has(self.tuf)", "tuf is not supported yet, use trustedRoot"),
    validation = ("!has(self.publicGood)", "publicGood is not supported yet, use trustedRoot")
)]
pub struct TrustRootSpec {
    /// A root that lies in the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted_root: Option<TrustedRootSource>,
    /// Not supported yet. A root that an own TUF repository gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuf: Option<Tuf>,
    /// Not supported yet. The root of Sigstore's public instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_good: Option<PublicGood>,
}

/// A root that lies in the cluster.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustedRootSource {
    /// A ConfigMap in the system namespace, key `trusted_root.json`. Example: `{name: trusted-root}`.
    pub config_map_ref: NameRef,
}

/// A root that an own TUF repository gives.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tuf {
    /// The repository. Example: `https://tuf.example.com`.
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,
    /// Its initial root.
    pub root: TrustedRootSource,
    /// How often it is refreshed. Default: `24h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 24), regex(pattern = super::duration::PATTERN))]
    pub interval: Option<String>,
    /// How long the last good state is used after it expired. Default: `168h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 24), regex(pattern = super::duration::PATTERN))]
    pub max_staleness: Option<String>,
}

/// The root of Sigstore's public instance.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicGood {}

/// What became of a TrustRoot.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TrustRootStatus {
    /// The generation that the conditions are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the root comes from: `ConfigMap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// SHA-256 of the root in force. A verdict that used another is not reused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_hash: Option<String>,
    /// When the first of its authorities ends, in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
    /// Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl TrustRoot {
    /// The `ConfigMap` of the system namespace that holds the root, if it lies in the cluster.
    pub fn config_map(&self) -> Option<&str> {
        Some(self.spec.trusted_root.as_ref()?.config_map_ref.name.as_str())
    }
}
