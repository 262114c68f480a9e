//! `ClusterBundlePolicy` and `BundlePolicy`: what must be verified before a bundle is used.
//!
//! The types here are the API's; [`PolicyObject::compile_policy`] turns them into a
//! `core::policy::Policy`, or reports the invalid field. Fields whose behaviour is not implemented
//! yet are refused there, never ignored.

#![allow(
    clippy::doc_markdown,
    reason = "`kubectl explain` shows these texts as they are"
)]

mod authority;
mod compile;
mod compile_authority;
mod compiled_group;
mod config_map_data;
mod convert_rules;
mod incremental_compiler;
mod object;
mod parsed_material_cache;
mod policy_inputs;
mod policy_quota;
mod references;
mod revision;
mod rule_specs;
#[cfg(test)]
mod tests;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use authority::{
    AuthoritySpec, CertificateClaimsSpec, IdentityMatchSpec, KeyAuthoritySpec,
    KeylessAuthoritySpec, PrivateCaAuthoritySpec,
};
pub use config_map_data::{CA_CERTIFICATES_KEY, ConfigMapData};
pub use incremental_compiler::PolicyCompiler;
pub use object::{PolicyObject, PolicyObjectError};
pub use parsed_material_cache::ParsedMaterialCache;
pub use policy_inputs::{NamespacedName, PolicyInputs, PolicySnapshot};
pub use policy_quota::{PolicyQuota, PolicyQuotaUsage};
pub use references::{PolicyReferenceNames, ResolvedPolicyReferences};
pub use revision::PolicySetRevision;
pub use rule_specs::{AttestationSpec, ExemptionSpec, RevocationSpec, SlsaBuilderSpec, SlsaSpec};

/// Both kinds have the same fields, and the cluster's kind has more after them. `#[serde(flatten)]`
/// would do the same, but could not refuse unknown fields.
macro_rules! policy_spec {
    ($(#[$attribute:meta])* $name:ident { $($more:tt)* }) => {
        $(#[$attribute])*
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        #[x_kube(
            validation = ("self.threshold <= size(self.authorities)", "threshold must be at most \
                the number of authorities"),
            validation = (
                "!has(self.slsa) || self.slsa.builders.all(b, self.authorities.exists(a, a.name == \
                    b.authority))",
                "slsa.builders[].authority must name one of the authorities"
            )
        )]
        pub struct $name {
            /// What happens with a denial: `Enforce` denies, `Warn` lets it pass with a warning,
            /// `Audit` with an audit annotation. Default: `Enforce`.
            #[serde(default)]
            pub mode: PolicyModeSpec,
            /// What the policy governs. Example: `{references:
            /// ["registry.example.com/team-a/**"]}`.
            #[serde(rename = "match")]
            pub matches: PolicyMatchSpec,
            /// Who may sign: 1 to 16, with distinct names. One of them is enough unless `threshold`
            /// says more.
            #[schemars(length(min = 1, max = 16))]
            #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
            pub authorities: Vec<AuthoritySpec>,
            /// How many distinct authorities, with distinct keys, must have signed. Default: 1. At
            /// most the number of authorities.
            #[serde(default = "default_threshold")]
            #[schemars(range(min = 1, max = 16))]
            pub threshold: i32,
            /// Forms of signatures that count. Default: `[Bundle]`. `Legacy` are the `.sig` and
            /// `.att` tags of older cosign versions, as far as a key verifies them; `LegacySetOnly`
            /// those that rest on a log's promise without an inclusion proof, as all keyless ones
            /// do.
            #[serde(default = "default_signature_formats")]
            #[schemars(length(min = 1, max = 3))]
            pub signature_formats: Vec<SignatureFormatSpec>,
            /// Must the reference carry a digest? Default: true. With false, what was verified may
            /// not be what is pulled.
            #[serde(default = "default_require_digest")]
            pub require_digest: bool,
            /// Must a signature or provenance name the repository that is used, and none another?
            /// Default: false. cosign's own signatures carry no name, so they need provenance
            /// beside them.
            #[serde(default)]
            pub bind_repository: bool,
            /// Signed names that stand for others when `bindRepository` compares, by their first
            /// segments: at most 16. Example: `[{from: registry.example.com, to:
            /// mirror.example.com/r}]`.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            #[schemars(length(max = 16))]
            pub mirrors: Vec<MirrorSpec>,
            /// Must signatures be in a transparency log? `Required` or `Optional`. Default:
            /// `Optional`. Keyless signatures always are. With `Required` a key needs a
            /// `trustRootRef`.
            #[serde(default)]
            pub transparency: TransparencySpec,
            /// What SLSA provenance must say. Default: none is asked for.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub slsa: Option<SlsaSpec>,
            /// Further attestations that must be there: at most 16. Example: `[{predicateType:
            /// "https://spdx.dev/Document", authority: ci}]`.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            #[schemars(length(max = 16))]
            pub attestations: Vec<AttestationSpec>,
            /// What is no longer to be trusted: at most 256. Beats every cache, exception and
            /// exemption.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            #[schemars(length(max = 256))]
            pub revocations: Vec<RevocationSpec>,
            $($more)*
        }
    };
}

policy_spec! {
    /// What must be proved, in every namespace.
    #[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
    #[kube(
        group = "packgate.dev",
        version = "v1alpha1",
        kind = "ClusterBundlePolicy",
        doc = "ClusterBundlePolicy says what must be proved before a bundle is used, in every \
            namespace. All policies that match must agree.",
        plural = "clusterbundlepolicies",
        shortname = "cbpol",
        category = "packgate",
        status = "PolicyStatus",
        derive = "PartialEq",
        printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
        printcolumn(name = "Enforced", type_ = "string",
            json_path = ".status.conditions[?(@.type==\"Enforced\")].status"),
        printcolumn(name = "Ready", type_ = "string",
            json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
    )]
    ClusterBundlePolicySpec {
        /// Digests that this policy lets pass for a while: at most 256. They concern this policy
        /// only.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[schemars(length(max = 256))]
        pub exemptions: Vec<ExemptionSpec>,
    }
}

policy_spec! {
    /// What must be proved, in one namespace.
    #[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
    #[kube(
        group = "packgate.dev",
        version = "v1alpha1",
        kind = "BundlePolicy",
        doc = "BundlePolicy says what must be proved before a bundle is used in its own namespace. \
            It can only add to the cluster's policies.",
        plural = "bundlepolicies",
        shortname = "bpol",
        category = "packgate",
        namespaced,
        status = "PolicyStatus",
        derive = "PartialEq",
        printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
        printcolumn(name = "Enforced", type_ = "string",
            json_path = ".status.conditions[?(@.type==\"Enforced\")].status"),
        printcolumn(name = "Ready", type_ = "string",
            json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
    )]
    BundlePolicySpec {}
}

const fn default_threshold() -> i32 {
    1
}

const fn default_require_digest() -> bool {
    true
}

fn default_signature_formats() -> Vec<SignatureFormatSpec> {
    vec![SignatureFormatSpec::Bundle]
}

fn default_uses() -> Vec<ImageUseSpec> {
    vec![ImageUseSpec::PackedBundle, ImageUseSpec::ImageVolume]
}

/// What happens with a denial.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PolicyModeSpec {
    /// It denies.
    #[default]
    Enforce,
    /// It passes with a warning.
    Warn,
    /// It passes with an audit annotation.
    Audit,
}

/// What something is used as.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageUseSpec {
    /// A PackedBundle.
    PackedBundle,
    /// A Pod's image volume.
    ImageVolume,
    /// A Pod's container.
    Container,
}

/// The form in which a signature is stored.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureFormatSpec {
    /// A Sigstore bundle as an OCI 1.1 referrer.
    Bundle,
    /// A `.sig` or `.att` tag, verified by a key alone.
    Legacy,
    /// A `.sig` or `.att` tag that rests on a log's promise, without an inclusion proof.
    LegacySetOnly,
}

/// Must signatures be in a transparency log?
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransparencySpec {
    /// They may be.
    #[default]
    Optional,
    /// They must be.
    Required,
}

/// `Exact`: the provenance's dependencies must be the lock in the bundle, nothing missing and
/// nothing more. Default: not compared.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockComparisonSpec {
    /// Nothing missing, nothing more.
    Exact,
}

/// The kind of an object that holds certificates.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigObjectKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

/// What a policy governs.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = (
        "self.references.all(r, r == '**' || (r.contains('/') && !r.startsWith('*/')))",
        "a reference starts with a registry host, such as r.example.com/team-a/**"
    ),
    validation = ("!has(self.except) || !self.except.exists(r, r == \
        '**')", "except must not be **, otherwise nothing is governed")
)]
pub struct PolicyMatchSpec {
    /// Patterns of image names, without tag and digest: 1 to 64. `*` stands for characters but `/`,
    /// `**` for whole segments. Example: `["registry.example.com/team-a/**"]`.
    #[schemars(length(min = 1, max = 64), inner(length(min = 2, max = 512)))]
    pub references: Vec<String>,
    /// Patterns of names that are left out: at most 64. Default: none. Example:
    /// `["registry.example.com/dev/**"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 2, max = 512)))]
    pub except: Vec<String>,
    /// Uses that the policy governs. Default: `[PackedBundle, ImageVolume]`.
    #[serde(default = "default_uses")]
    #[schemars(length(min = 1, max = 3))]
    pub uses: Vec<ImageUseSpec>,
    /// Labels of the namespaces that are governed. Default: every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
}

/// What Kubernetes takes for a name of these objects. Anything else, such as `a/b` or
/// `a?watch=true`, would change what the API server is asked.
pub const OBJECT_NAME: &str = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";

/// An object, by its name.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NameRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
}

/// An object, by its kind and name.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigObjectRef {
    /// `ConfigMap` or `Secret`.
    pub kind: ConfigObjectKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
}

/// A name that stands for another.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MirrorSpec {
    /// Beginning of the signed name. Example: `registry.example.com`.
    #[schemars(length(min = 1, max = 255))]
    pub from: String,
    /// Beginning of the name that is used. Example: `mirror.example.com/r`.
    #[schemars(length(min = 1, max = 255))]
    pub to: String,
}

/// What the controller says about a policy.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// The generation that the conditions are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: it compiles. `Enforced`: the webhook carries this generation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
