//! The rules of a policy, in types that cannot represent an incomplete rule.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::core::{
    digest::Digest, evidence::StoredSignatureFormat, public_key::VerificationKey,
    trusted_material::TrustRoot, x509::CertificateAuthority,
};

use super::{ClaimsRule, ImagePattern, PolicyError, RepositoryBinding, SubjectMatcher};

/// The maximum number of authorities in one policy.
pub const MAX_AUTHORITIES: usize = 16;
/// The maximum number of patterns in `references` and in `except`, each.
pub const MAX_REFERENCES: usize = 64;

/// The rules of a policy, unchecked. [`crate::core::policy::Policy::new`] checks them.
#[derive(Clone, Debug)]
pub struct PolicyRules {
    /// Name of the object, or of what made it.
    pub name: String,
    /// The kind of object, or the flags, that define the policy.
    pub kind: PolicyOrigin,
    /// `metadata.generation`; 0 if it is not from a cluster.
    pub generation: i64,
    /// What happens with a denial: enforced, or only a warning.
    pub mode: EnforcementMode,
    /// The uses that the policy governs.
    pub matcher: PolicyMatcher,
    /// The authorities: at least one, with distinct names.
    pub authorities: Vec<PolicyAuthority>,
    /// How many distinct authorities, with distinct keys, must have signed.
    pub threshold: usize,
    /// Accepted signature formats. At least one.
    pub formats: Vec<StoredSignatureFormat>,
    /// Whether signatures must be in a transparency log.
    pub transparency: TransparencyRequirement,
    /// Whether the reference must contain a digest.
    pub require_digest: bool,
    /// Whether signed statements must name the repository in use.
    pub bind_repository: Option<RepositoryBinding>,
    /// Requirements on the SLSA provenance; `None` requires no provenance.
    pub slsa: Option<SlsaRules>,
    /// Further attestations that are required.
    pub attestations: Vec<AttestationRule>,
    /// The canonical lock that the bundle must have been packed from.
    pub lock: Option<Digest>,
    /// Revoked digests, keys and builders.
    pub revocations: Vec<RevocationRule>,
    /// Digests that pass although they do not meet the policy.
    pub exemptions: Vec<ExemptionRule>,
}

/// The identity of a policy. A namespace's policy may have the same name as a cluster policy or one
/// in another namespace, so the name alone does not identify it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PolicyIdentity {
    /// The kind of its source.
    pub kind: PolicyOrigin,
    /// Its name within that source.
    pub name: String,
}

/// The source of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PolicyOrigin {
    /// A `ClusterBundlePolicy`.
    Cluster,
    /// `BundlePolicy` of a namespace.
    Namespaced(String),
    /// Flags of the command line.
    AdHoc,
}

/// What happens with a denial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EnforcementMode {
    /// The use is denied.
    #[default]
    Enforce,
    /// The use is admitted with a warning.
    Warn,
    /// The use is admitted with an audit annotation.
    Audit,
}

/// How an image is used.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub enum ReferenceUse {
    /// In a `PackedBundle`, or by a command-line user.
    #[default]
    PackedBundle,
    /// As a Pod's image volume.
    ImageVolume,
    /// As the image of a Pod's container.
    Container,
}

/// The uses that a policy governs.
#[derive(Clone, Debug)]
pub enum PolicyMatcher {
    /// Everything: for command-line users.
    Everything,
    /// Uses of images whose names match.
    Names {
        /// Image patterns; at least one.
        references: Vec<ImagePattern>,
        /// Exceptions: names that match these are not governed.
        except: Vec<ImagePattern>,
        /// Kinds of use; at least one.
        uses: Vec<ReferenceUse>,
    },
}

/// An authority: an identity whose signatures the policy accepts.
#[derive(Clone, Debug)]
pub struct PolicyAuthority {
    /// Its name, unique within the policy.
    pub name: String,
    /// How its signatures are recognised.
    pub kind: AuthorityKind,
}

/// How an authority is recognised.
#[derive(Clone, Debug)]
pub enum AuthorityKind {
    /// By a public key.
    Key {
        /// The public key.
        key: VerificationKey,
        /// The trust root whose transparency logs and timestamp authorities are trusted for
        /// signatures by this key. Without it no time evidence is trusted.
        root: Option<Arc<TrustRoot>>,
    },
    /// By the identity in a certificate from Fulcio or a like certificate authority.
    Keyless {
        /// The certificate's subject alternative name.
        subject: SubjectMatcher,
        /// The OIDC issuer, compared exactly.
        issuer: String,
        /// Further certificate claims that are required.
        claims: ClaimsRule,
        /// The trust root that the certificate must chain to.
        root: Arc<TrustRoot>,
    },
    /// By the identity in a certificate from a private certificate authority.
    Certificate {
        /// The certificate's subject alternative name.
        subject: SubjectMatcher,
        /// The private CA that the certificate must chain to.
        authority: Arc<CertificateAuthority>,
        /// The trust root whose transparency logs and timestamp authorities prove the signing time.
        /// Without it the certificate must be valid now.
        root: Option<Arc<TrustRoot>>,
    },
}

/// Whether signatures must be in a transparency log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransparencyRequirement {
    /// Accepted, not required.
    #[default]
    Optional,
    /// Required.
    Required,
}

/// Requirements on the SLSA provenance.
#[derive(Clone, Debug)]
pub struct SlsaRules {
    /// The minimum SLSA Build level, 0 to 3.
    pub minimum_level: u8,
    /// Trusted builders. At least one.
    pub builders: Vec<BuilderRule>,
    /// Allowed source repositories, normalised; empty allows any.
    pub sources: Vec<String>,
    /// The maximum age of the provenance.
    pub max_age: Option<Duration>,
    /// How its dependencies compare with the lock.
    pub lock: LockRule,
}

/// A builder id, and the authorities that may sign its provenance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuilderRule {
    /// `builder.id`, compared exactly.
    pub id: String,
    /// Name of the authority that signs its provenance.
    pub authority: String,
    /// The SLSA Build level of this builder, 0 to 3.
    pub level: u8,
}

/// How the provenance's dependencies compare with the lock in the bundle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockRule {
    /// Not compared.
    #[default]
    Unchecked,
    /// The same artifacts with the same digests, no fewer and no more.
    Exact,
}

/// A required attestation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestationRule {
    /// Its predicate type. Those of SPDX and `CycloneDX` may have a version appended.
    pub predicate_type: String,
    /// The authority that must have signed it; any authority of the policy if absent.
    pub authority: Option<String>,
}

/// A revocation.
#[derive(Clone, Debug)]
pub struct RevocationRule {
    /// The object that is revoked.
    pub what: RevocationTarget,
    /// Why it was revoked; free text.
    pub reason: String,
    /// When it takes effect; always if absent.
    pub since: Option<Timestamp>,
}

/// The object of a revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevocationTarget {
    /// A bundle, by its manifest digest.
    Digest(Digest),
    /// A key, by its fingerprint.
    Key(Digest),
    /// A builder, by its builder id.
    Builder(String),
}

/// An exemption of one digest from the policy.
#[derive(Clone, Debug)]
pub struct ExemptionRule {
    /// The manifest digest of the bundle.
    pub digest: Digest,
    /// Why it is exempted; free text.
    pub reason: String,
    /// When the exemption ends.
    pub expires: Timestamp,
}

impl PolicyRules {
    /// Settings that weaken the policy. For ad-hoc policies of the command line a tag is not one of
    /// them: the user is shown the digest.
    pub(in crate::core) fn unsafe_settings(&self) -> Vec<String> {
        let weak = self.kind != PolicyOrigin::AdHoc && !self.require_digest;
        weak.then(|| {
            format!(
                "{}: requireDigest is false, a tag may have moved since it was verified",
                self.identity()
            )
        })
        .into_iter()
        .collect()
    }

    /// The identity of the policy.
    pub fn identity(&self) -> PolicyIdentity {
        PolicyIdentity {
            kind: self.kind.clone(),
            name: self.name.clone(),
        }
    }
}

impl fmt::Display for PolicyIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            PolicyOrigin::Cluster => write!(f, "ClusterBundlePolicy {}", self.name),
            PolicyOrigin::Namespaced(namespace) => {
                write!(f, "BundlePolicy {namespace}/{}", self.name)
            }
            PolicyOrigin::AdHoc => f.write_str(&self.name),
        }
    }
}

impl PolicyAuthority {
    /// True if both authorities have the same signer, whatever their names.
    pub(super) fn is_same_signer(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (AuthorityKind::Key { key, .. }, AuthorityKind::Key { key: other, .. }) => {
                key.fingerprint() == other.fingerprint()
            }
            (
                AuthorityKind::Keyless {
                    subject,
                    issuer,
                    claims,
                    root,
                },
                AuthorityKind::Keyless {
                    subject: other_subject,
                    issuer: other_issuer,
                    claims: other_claims,
                    root: other_root,
                },
            ) => {
                subject == other_subject
                    && issuer == other_issuer
                    && claims == other_claims
                    && root.digest() == other_root.digest()
            }
            (
                AuthorityKind::Certificate {
                    subject, authority, ..
                },
                AuthorityKind::Certificate {
                    subject: other_subject,
                    authority: other,
                    ..
                },
            ) => subject == other_subject && authority.digest() == other.digest(),
            _ => false,
        }
    }
}

impl AttestationRule {
    /// True if an attestation of this type is of the required one. SPDX and `CycloneDX` append the
    /// version of their format to the type: `https://spdx.dev/Document/v2.3`.
    pub(in crate::core) fn is_of_type(&self, actual: &str) -> bool {
        let wanted = self.predicate_type.as_str();
        let versioned = matches!(
            wanted,
            "https://spdx.dev/Document" | "https://cyclonedx.org/bom"
        );
        let version = || {
            actual
                .strip_prefix(wanted)
                .and_then(|rest| rest.strip_prefix("/v"))
        };
        actual == wanted
            || (versioned
                && version().is_some_and(|v| {
                    !v.is_empty() && v.bytes().all(|b| b.is_ascii_digit() || b == b'.')
                }))
    }
}

impl RevocationRule {
    /// True if the revocation is in effect at `now`.
    pub fn is_in_effect(&self, now: Timestamp) -> bool {
        self.since.is_none_or(|since| since <= now)
    }
}

impl ReferenceUse {
    /// The name in configuration and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PackedBundle => "PackedBundle",
            Self::ImageVolume => "ImageVolume",
            Self::Container => "Container",
        }
    }
}

impl fmt::Display for ReferenceUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ReferenceUse {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        [Self::PackedBundle, Self::ImageVolume, Self::Container]
            .into_iter()
            .find(|known| known.as_str() == text)
            .ok_or_else(|| {
                PolicyError::new("use", "must be PackedBundle, ImageVolume or Container")
            })
    }
}

impl EnforcementMode {
    /// The name in configuration and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "Enforce",
            Self::Warn => "Warn",
            Self::Audit => "Audit",
        }
    }
}
