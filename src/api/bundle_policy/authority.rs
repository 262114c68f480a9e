//! The authorities of a policy, as API types.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigObjectRef, NameRef};

/// An authority that may sign: exactly one of key, keyless and certificate.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = (
    "[has(self.key), has(self.keyless), has(self.certificate)].filter(x, x).size() == 1",
    "exactly one of key, keyless and certificate"
))]
pub struct AuthoritySpec {
    /// Name, unique in the policy, at most 63 characters. Example: `platform`.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The holder of a private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyAuthoritySpec>,
    /// An OIDC identity, authenticated by a short-lived certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyless: Option<KeylessAuthoritySpec>,
    /// The holder of a certificate of a private certificate authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PrivateCaAuthoritySpec>,
}

/// A public key: exactly one of pem and configMapRef.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = ("has(self.pem) != \
    has(self.configMapRef)", "exactly one of pem and configMapRef"))]
pub struct KeyAuthoritySpec {
    /// The key itself, one PEM block `PUBLIC KEY`: ECDSA P-256, P-384, P-521, Ed25519, or RSA of
    /// 2048 to 4096 bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16384))]
    pub pem: Option<String>,
    /// A ConfigMap that holds it under `cosign.pub`. A ClusterBundlePolicy's lies in the system
    /// namespace. Example: `{name: packgate-platform-key}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<NameRef>,
    /// The TrustRoot whose transparency logs and timestamp authorities are trusted for when the
    /// key signed. Default: none, and the time of a signature stays unknown. Needed where
    /// `transparency` is `Required`. Example: `{name: corp}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_root_ref: Option<NameRef>,
}

/// An OIDC identity that may sign.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeylessAuthoritySpec {
    /// The TrustRoot that the certificate must chain to. Example: `{name: corp}`.
    pub trust_root_ref: NameRef,
    /// The OIDC issuer, compared exactly. Example: `https://oidc.example.com`.
    #[schemars(length(min = 1, max = 2048))]
    pub issuer: String,
    /// The certificate's subject alternative name.
    pub subject: IdentityMatchSpec,
    /// What else the certificate must say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<CertificateClaimsSpec>,
}

/// A name, compared in exactly one of three ways.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = (
    "[has(self.exact), has(self.prefix), has(self.regexp)].filter(x, x).size() == 1",
    "exactly one of exact, prefix and regexp"
))]
pub struct IdentityMatchSpec {
    /// The whole name, compared exactly. Example: `release@example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub exact: Option<String>,
    /// Its beginning, up to and including a `/`. Example: `https://git.example.com/org/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub prefix: Option<String>,
    /// A regular expression for the whole name; it is always anchored. Example:
    /// `https://git\.example\.com/org/[a-z]+`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub regexp: Option<String>,
}

/// Claims of a certificate for a workload, each compared exactly.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateClaimsSpec {
    /// The source repository. Example: `https://git.example.com/org/siem`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub source_repository: Option<String>,
    /// The source's ref. Example: `refs/heads/main`.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub reference: Option<String>,
    /// The workflow that ran. Example:
    /// `https://git.example.com/org/siem/.ci/release.yml@refs/heads/main`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub workflow: Option<String>,
    /// What started it. Example: `push`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub trigger: Option<String>,
    /// What it ran on. Example: `self-hosted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub runner: Option<String>,
}

/// A certificate of a private certificate authority.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PrivateCaAuthoritySpec {
    /// A ConfigMap with the authority's certificates in PEM, roots and intermediates, under
    /// `ca.crt`: at most 64. A ClusterBundlePolicy's lies in the system namespace. A Secret is
    /// refused: certificates are public, and the webhook reads no Secrets. Example: `{kind:
    /// ConfigMap, name: corp-ca}`.
    pub ca_ref: ConfigObjectRef,
    /// A ConfigMap with revocation lists in PEM under `ca.crl`. Default: none, and nothing is
    /// revoked. With them every certificate of a chain needs a fresh list of its issuer. Example:
    /// `{kind: ConfigMap, name: corp-crl}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl_ref: Option<ConfigObjectRef>,
    /// The certificate's only subject alternative name, a URI, an email address or a DNS name.
    /// Example: `{exact: "spiffe://corp/release"}`.
    pub subject: IdentityMatchSpec,
    /// The TrustRoot whose transparency logs and timestamp authorities are trusted for when a
    /// certificate signed; the chain must have been valid then. Default: none, and the chain must
    /// be valid now. Needed where `transparency` is `Required`. Example: `{name: corp}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_root_ref: Option<NameRef>,
}
