//! What provenance and attestations must say, what is revoked, and what is exempt.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LockComparisonSpec;

/// What SLSA provenance must say.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SlsaSpec {
    /// The least SLSA Build level, 0 to 3, as `builders` gives it. Example: 2.
    #[schemars(range(min = 0, max = 3))]
    pub minimum_level: i32,
    /// Trusted builders, each bound to the authority that speaks for it: 1 to 16.
    #[schemars(length(min = 1, max = 16))]
    pub builders: Vec<SlsaBuilderSpec>,
    /// Allowed origins of the lock: at most 64. Default: any. Example:
    /// `["https://git.example.com/org/siem"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 2048)))]
    pub sources: Vec<String>,
    /// How old the provenance may be, in hours, minutes and seconds. Default: any age. Example:
    /// `2160h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 2, max = 32),
        regex(pattern = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$")
    )]
    pub max_age: Option<String>,
    /// `Exact`: the provenance's dependencies must be the lock in the bundle, nothing missing and
    /// nothing more. Default: not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<LockComparisonSpec>,
}

/// A builder, and who speaks for it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SlsaBuilderSpec {
    /// `builder.id`, compared exactly. Example: `https://ci.example.com/packgate/platform@v1`.
    #[schemars(length(min = 1, max = 2048))]
    pub id: String,
    /// Name of the authority that must have signed its provenance. Example: `platform`.
    #[schemars(length(min = 1, max = 63))]
    pub authority: String,
    /// The SLSA Build level that this builder is worth, 0 to 3.
    #[schemars(range(min = 0, max = 3))]
    pub level: i32,
}

/// An attestation that must be there.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AttestationSpec {
    /// Its predicate type. Example: `https://spdx.dev/Document`.
    #[schemars(length(min = 1, max = 2048))]
    pub predicate_type: String,
    /// Name of the authority that must have signed it. Default: any of the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub authority: Option<String>,
    /// A CEL expression over `predicate` that must be true. Default: none. Example:
    /// `predicate.spdxVersion == 'SPDX-2.3'`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub cel: Option<String>,
}

/// What is no longer to be trusted: exactly one of digest, keyHash and builder.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = (
    "[has(self.digest), has(self.keyHash), has(self.builder)].filter(x, x).size() == 1",
    "exactly one of digest, keyHash and builder"
))]
pub struct RevocationSpec {
    /// A bundle. Example: `sha256:` and 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), regex(pattern = r"^sha256:[a-f0-9]{64}$"))]
    pub digest: Option<String>,
    /// A key, by the SHA-256 of its SPKI in DER, as reports show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), regex(pattern = r"^sha256:[a-f0-9]{64}$"))]
    pub key_hash: Option<String>,
    /// A builder, by its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub builder: Option<String>,
    /// Why. Example: `leak-7`.
    #[schemars(length(min = 1, max = 256))]
    pub reason: String,
    /// From when on, RFC 3339. Default: always. Example: `2026-11-01T00:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub since: Option<String>,
}

/// A digest that passes for a while.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExemptionSpec {
    /// The bundle. Example: `sha256:` and 64 hexadecimal digits.
    #[schemars(length(max = 71), regex(pattern = r"^sha256:[a-f0-9]{64}$"))]
    pub digest: String,
    /// Why. Example: `INC-42`.
    #[schemars(length(min = 1, max = 256))]
    pub reason: String,
    /// Until when, RFC 3339. Example: `2027-01-01T00:00:00Z`.
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub expires: String,
}
