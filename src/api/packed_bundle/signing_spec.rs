//! Who signs a bundle, and what is attested.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NameRef;

/// Who signs.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = (
        "self.mode != 'Namespace' || (has(self.keySecretRef) != has(self.keyless))",
        "mode Namespace needs exactly one of keySecretRef and keyless"
    ),
    validation = ("self.mode == 'Namespace' || (!has(self.keySecretRef) && \
        !has(self.keyless))", "keySecretRef and keyless are for mode Namespace"),
    validation = ("!has(self.keyless) || has(self.signingConfigRef)", "keyless needs \
        signingConfigRef: it names the certificate authority and the transparency log"),
    validation = ("self.mode == 'Namespace' || \
        !has(self.signingConfigRef)", "signingConfigRef is for mode Namespace")
)]
pub struct SigningSpec {
    /// `Platform`: the installation's key, out of the tenant's reach. `Namespace`: the tenant's key
    /// or identity, in this namespace and as another builder. `None`: nobody, only where the
    /// installation allows it; such a bundle gets no tag. Default: `Platform`.
    #[serde(default)]
    pub mode: SigningModeSpec,
    /// A Secret of this namespace with `cosign.key` and `cosign.password`, as `cosign
    /// generate-key-pair k8s://` makes it. Example: `{name: signing-key}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_secret_ref: Option<NameRef>,
    /// Signs with a short-lived certificate for this namespace's ServiceAccount `default`, which
    /// policies know as `https://kubernetes.io/namespaces/NAMESPACE/serviceaccounts/default`. Needs
    /// `signingConfigRef`. Example: `{}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyless: Option<KeylessSigningSpec>,
    /// A ConfigMap of this namespace with `signing_config.json` (which certificate authority, logs
    /// and timestamp authorities), `trusted_root.json` (what their answers are verified with) and,
    /// if they need it, `ca.crt` for TLS. Beside `keySecretRef` it has the key's signatures logged
    /// and timestamped. Default: none. Example: `{name: sigstore}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_config_ref: Option<NameRef>,
}

/// Whose key signs.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SigningModeSpec {
    /// The installation's.
    #[default]
    Platform,
    /// The tenant's.
    Namespace,
    /// Nobody's.
    None,
}

/// Signs with a short-lived certificate for a ServiceAccount.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct KeylessSigningSpec {}

/// Attestations that are attached in addition to the signature.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = ("self.provenance", "evidence.provenance: false is not supported yet, leave it \
        out")
)]
pub struct EvidenceSpec {
    /// SLSA provenance. Default: true. Only true is supported yet.
    #[serde(default = "default_provenance")]
    pub provenance: bool,
    /// A software bill of materials that the signer attests: `None`, `SPDX` (2.3) or `CycloneDX`
    /// (1.6). Default: `None`. Example: `SPDX`.
    #[serde(default)]
    pub sbom: SbomFormatSpec,
}

const fn default_provenance() -> bool {
    true
}

/// A software bill of materials.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SbomFormatSpec {
    /// None.
    #[default]
    None,
    /// SPDX 2.3.
    #[serde(rename = "SPDX")]
    Spdx,
    /// CycloneDX 1.6.
    CycloneDX,
}
