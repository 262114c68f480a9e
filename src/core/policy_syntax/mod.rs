//! What a policy says: its rules, the patterns and matchers in them, and which rules are refused.
//!
//! Nothing here decides that a policy is satisfied. That is `core::policy`.

mod applicability;
mod error;
mod image_pattern;
mod policy;
mod repository_mirror;
mod rules;
mod subject_matcher;
mod trusted_material;
mod validation;

pub use applicability::PolicyApplicability;
pub use error::PolicyError;
pub use image_pattern::{ImagePattern, ImagePatternError};
pub use policy::{AdHocPolicyOptions, Policy};
pub(in crate::core) use repository_mirror::parse_repository_name;
pub use repository_mirror::{MAX_MIRRORS, RepositoryBinding, RepositoryMirror};
pub use rules::{
    AttestationRule, AuthorityKind, BuilderRule, EnforcementMode, ExemptionRule, LockRule,
    MAX_AUTHORITIES, MAX_REFERENCES, PolicyAuthority, PolicyIdentity, PolicyMatcher, PolicyOrigin,
    PolicyRules, ReferenceUse, RevocationRule, RevocationTarget, SlsaRules,
    TransparencyRequirement,
};
pub use subject_matcher::{AnchoredRegex, ClaimsRule, SubjectMatcher};
pub use trusted_material::trusted_material;
