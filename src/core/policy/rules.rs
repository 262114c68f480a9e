//! What a policy says, in types that cannot hold half of a rule.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::core::{
    digest::Digest,
    verify::{
        CertificateAuthority, SignerIdentity, StoredSignatureFormat, TimeEvidenceStatus, TrustRoot,
        VerificationKey, Verified,
    },
};

use super::{ClaimsRule, ImagePattern, PolicyError, RepositoryBinding, SubjectMatcher};

/// Authorities in one policy.
pub const MAX_AUTHORITIES: usize = 16;
/// Patterns in `references` and in `except`, each.
pub const MAX_REFERENCES: usize = 64;

/// What a policy says. [`super::Policy::new`] checks it.
#[derive(Clone, Debug)]
pub struct PolicyRules {
    /// Name of the object, or of what made it.
    pub name: String,
    /// Where it comes from.
    pub kind: PolicyOrigin,
    /// `metadata.generation`; 0 if it never was in a cluster.
    pub generation: i64,
    /// What happens with a denial.
    pub mode: EnforcementMode,
    /// What it governs.
    pub matcher: PolicyMatcher,
    /// Who may sign. At least one, with distinct names.
    pub authorities: Vec<PolicyAuthority>,
    /// How many distinct authorities, with distinct keys, must have signed.
    pub threshold: usize,
    /// Forms of signatures that count. At least one.
    pub formats: Vec<StoredSignatureFormat>,
    /// Must signatures be in a transparency log?
    pub transparency: TransparencyRequirement,
    /// Must the reference carry a digest?
    pub require_digest: bool,
    /// Must what was signed name the repository that is used?
    pub bind_repository: Option<RepositoryBinding>,
    /// What the provenance must say.
    pub slsa: Option<SlsaRules>,
    /// Which further attestations there must be.
    pub attestations: Vec<AttestationRule>,
    /// The canonical lock that the bundle must have been packed from.
    pub lock: Option<Digest>,
    /// What is no longer to be trusted.
    pub revocations: Vec<RevocationRule>,
    /// What passes all the same.
    pub exemptions: Vec<ExemptionRule>,
}

/// Which policy. A namespace's policy may be called as one of the cluster, or of another namespace,
/// is called: the name alone says nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PolicyIdentity {
    /// Where it comes from.
    pub kind: PolicyOrigin,
    /// Its name there.
    pub name: String,
}

/// Where a policy comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PolicyOrigin {
    /// `ClusterBundlePolicy`
    Cluster,
    /// `BundlePolicy` of a namespace.
    Namespaced(String),
    /// Flags of the command line.
    AdHoc,
}

/// What happens with a denial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EnforcementMode {
    /// It denies.
    #[default]
    Enforce,
    /// It becomes a warning.
    Warn,
    /// It becomes an audit annotation.
    Audit,
}

/// What something is used as.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub enum ReferenceUse {
    /// A `PackedBundle`, or a person who asks.
    #[default]
    PackedBundle,
    /// A Pod's image volume.
    ImageVolume,
    /// A Pod's container.
    Container,
}

/// What a policy governs.
#[derive(Clone, Debug)]
pub enum PolicyMatcher {
    /// Everything: what a person names on the command line.
    Everything,
    /// Uses of names.
    Names {
        /// At least one.
        references: Vec<ImagePattern>,
        /// Names that are left out.
        except: Vec<ImagePattern>,
        /// At least one.
        uses: Vec<ReferenceUse>,
    },
}

/// Somebody who may sign.
#[derive(Clone, Debug)]
pub struct PolicyAuthority {
    /// Its name in this policy.
    pub name: String,
    /// How it is recognised.
    pub kind: AuthorityKind,
}

/// How an authority is recognised.
#[derive(Clone, Debug)]
pub enum AuthorityKind {
    /// By a key.
    Key {
        /// The key.
        key: VerificationKey,
        /// Whose logs and timestamp authorities are believed about its signatures. Without it
        /// nobody else's word on time is taken.
        root: Option<Arc<TrustRoot>>,
    },
    /// By what a certificate says.
    Keyless {
        /// The certificate's subject alternative name.
        subject: SubjectMatcher,
        /// The OIDC issuer, letter by letter.
        issuer: String,
        /// What else it must say.
        claims: ClaimsRule,
        /// What the certificate must chain to.
        root: Arc<TrustRoot>,
    },
    /// By what a certificate of a company's own authority says.
    Certificate {
        /// The certificate's subject alternative name.
        subject: SubjectMatcher,
        /// What the certificate must chain to.
        authority: Arc<CertificateAuthority>,
        /// Whose logs and timestamp authorities are believed about when it signed. Without it the
        /// certificate must hold now.
        root: Option<Arc<TrustRoot>>,
    },
}

/// Must signatures be in a transparency log?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransparencyRequirement {
    /// They may be.
    #[default]
    Optional,
    /// They must be.
    Required,
}

/// What the provenance must say.
#[derive(Clone, Debug)]
pub struct SlsaRules {
    /// SLSA Build level, 0 to 3.
    pub minimum_level: u8,
    /// Trusted builders. At least one.
    pub builders: Vec<BuilderRule>,
    /// Allowed sources, normalised; empty means any.
    pub sources: Vec<String>,
    /// How old the provenance may be.
    pub max_age: Option<Duration>,
    /// How its dependencies compare with the lock.
    pub lock: LockRule,
}

/// A builder, and who may speak for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuilderRule {
    /// `builder.id`, letter by letter.
    pub id: String,
    /// Name of the authority that signs its provenance.
    pub authority: String,
    /// The SLSA Build level that this builder is worth, 0 to 3.
    pub level: u8,
}

/// How the provenance's dependencies compare with the lock in the bundle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockRule {
    /// They are not compared.
    #[default]
    Unchecked,
    /// The same artifacts with the same digests, nothing missing, nothing more.
    Exact,
}

/// An attestation that must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestationRule {
    /// Its predicate type. SPDX's and `CycloneDX`'s may have a version behind them.
    pub predicate_type: String,
    /// Who must have signed it; any authority of the policy if absent.
    pub authority: Option<String>,
}

/// What is no longer to be trusted.
#[derive(Clone, Debug)]
pub struct RevocationRule {
    /// What.
    pub what: RevocationTarget,
    /// Why.
    pub reason: String,
    /// From when on; always if absent.
    pub since: Option<Timestamp>,
}

/// The object of a revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevocationTarget {
    /// A bundle.
    Digest(Digest),
    /// A key, by its fingerprint.
    Key(Digest),
    /// A builder, by its id.
    Builder(String),
}

/// What passes all the same.
#[derive(Clone, Debug)]
pub struct ExemptionRule {
    /// The bundle.
    pub digest: Digest,
    /// Why.
    pub reason: String,
    /// Until when.
    pub expires: Timestamp,
}

impl PolicyRules {
    /// Settings that weaken it. A person who names a tag on the command line is told the digest, so
    /// that is none.
    pub(super) fn unsafe_settings(&self) -> Vec<String> {
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

    /// Which policy it is.
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
    /// Can this signer be the authority? Its trust root and its claims are not looked at.
    pub fn matches_signer(&self, signer: &SignerIdentity) -> bool {
        match (&self.kind, signer) {
            (AuthorityKind::Key { key, .. }, SignerIdentity::Key { fingerprint }) => {
                key.fingerprint() == *fingerprint
            }
            (
                AuthorityKind::Keyless {
                    subject, issuer, ..
                },
                SignerIdentity::Identity { san, issuer: found },
            ) => issuer == found && subject.matches_name(san),
            (
                AuthorityKind::Certificate {
                    subject, authority, ..
                },
                SignerIdentity::Certificate {
                    san,
                    authority: found,
                },
            ) => authority.digest() == *found && subject.matches_name(san),
            _ => false,
        }
    }

    /// Is `statement` the authority's: its signer, its trust root, its claims?
    ///
    /// A key or a company's authority with a trust root does not take signatures whose log entries
    /// and timestamps that root does not vouch for; one that has none is as good as it ever was.
    pub fn accepts_statement<T>(&self, statement: &Verified<T>) -> bool {
        self.matches_signer(statement.signer())
            && match &self.kind {
                AuthorityKind::Key { root: None, .. }
                | AuthorityKind::Certificate { root: None, .. } => statement.trust_root().is_none(),
                AuthorityKind::Key {
                    root: Some(root), ..
                }
                | AuthorityKind::Certificate {
                    root: Some(root), ..
                } => {
                    statement.time_evidence() == TimeEvidenceStatus::Absent
                        || statement.trust_root() == Some(&root.digest())
                            && statement.time_evidence() == TimeEvidenceStatus::Verified
                }
                AuthorityKind::Keyless { root, claims, .. } => {
                    statement.trust_root() == Some(&root.digest())
                        && claims.is_met_by(statement.certificate_claims())
                }
            }
    }

    /// Is it the same as another, whatever its name?
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

impl RevocationRule {
    /// Has it begun?
    pub fn is_in_effect(&self, now: Timestamp) -> bool {
        self.since.is_none_or(|since| since <= now)
    }
}

impl ReferenceUse {
    /// As it is written.
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
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "Enforce",
            Self::Warn => "Warn",
            Self::Audit => "Audit",
        }
    }
}
