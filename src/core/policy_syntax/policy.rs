//! A policy: [`PolicyRules`] that were checked, or why they cannot be used.

use std::sync::Arc;

use crate::core::{digest::Digest, evidence::StoredSignatureFormat, reason::Reason};

use super::{
    BuilderRule, EnforcementMode, LockRule, PolicyAuthority, PolicyError, PolicyIdentity,
    PolicyMatcher, PolicyOrigin, PolicyRules, SlsaRules, TransparencyRequirement,
    validation::{check_matcher, check_rules},
};

/// A valid policy. The rules are private, so that no policy exists that [`Policy::new`] did not
/// check.
///
/// ```compile_fail
/// # use packgate::core::policy::{Policy, PolicyRules};
/// fn unchecked(rules: PolicyRules) -> Policy {
///     Policy { rules: rules.into(), fault: None, fault_reason: packgate::core::reason::Reason::InvalidSpec }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Policy {
    /// Shared, because each evaluation takes a snapshot of the policies.
    rules: Arc<PolicyRules>,
    /// Why the policy could not be compiled.
    fault: Option<String>,
    /// The reason code of `fault`.
    fault_reason: Reason,
}

/// What the flags of `packgate verify`, like `--key`, require.
#[derive(Clone, Debug)]
pub struct AdHocPolicyOptions {
    /// The authorities, one for each key and identity. One of them is enough.
    pub authorities: Vec<PolicyAuthority>,
    /// Provenance by this builder is required, signed by any of the authorities.
    pub builder_id: Option<String>,
    /// The digest of the canonical lock that the bundle must have been packed from.
    pub lock: Option<Digest>,
    /// Accepted signature formats.
    pub formats: Vec<StoredSignatureFormat>,
    /// Whether signatures must be in a transparency log.
    pub transparency: TransparencyRequirement,
}

impl Default for AdHocPolicyOptions {
    fn default() -> Self {
        Self {
            authorities: Vec::new(),
            builder_id: None,
            lock: None,
            formats: vec![StoredSignatureFormat::Bundle],
            transparency: TransparencyRequirement::Optional,
        }
    }
}

impl Policy {
    /// Checks the rules.
    ///
    /// Errors: the first invalid field.
    pub fn new(rules: PolicyRules) -> Result<Self, PolicyError> {
        check_rules(&rules)?;
        Ok(Self {
            rules: rules.into(),
            fault: None,
            fault_reason: Reason::InvalidSpec,
        })
    }

    /// A policy that exists but cannot be compiled. It denies every use that it governs; if not
    /// even its matcher is known, it denies every use. `fault` says why.
    pub fn new_unusable(
        name: &str,
        kind: PolicyOrigin,
        generation: i64,
        mode: EnforcementMode,
        matcher: Option<PolicyMatcher>,
        fault: impl Into<String>,
    ) -> Self {
        let rules = PolicyRules {
            name: name.to_owned(),
            kind,
            generation,
            mode,
            matcher: matcher
                .filter(|matcher| check_matcher(matcher).is_ok())
                .unwrap_or(PolicyMatcher::Everything),
            authorities: Vec::new(),
            threshold: 1,
            formats: vec![StoredSignatureFormat::Bundle],
            transparency: TransparencyRequirement::Optional,
            require_digest: true,
            bind_repository: None,
            slsa: None,
            attestations: Vec::new(),
            lock: None,
            revocations: Vec::new(),
            exemptions: Vec::new(),
        };
        Self {
            rules: rules.into(),
            fault: Some(fault.into()),
            fault_reason: Reason::InvalidSpec,
        }
    }

    /// The same policy, with another fault reason than `InvalidSpec`.
    #[must_use]
    pub fn with_fault_reason(self, reason: Reason) -> Self {
        Self {
            fault_reason: reason,
            ..self
        }
    }

    /// The policy that command-line flags describe: one signature by any one of the authorities,
    /// and, if a builder id is given, provenance.
    ///
    /// Errors: the flags name no authority.
    pub fn ad_hoc(wish: AdHocPolicyOptions) -> Result<Self, PolicyError> {
        let AdHocPolicyOptions {
            authorities,
            builder_id,
            lock,
            formats,
            transparency,
        } = wish;
        let lock_rule = if lock.is_some() {
            LockRule::Exact
        } else {
            LockRule::Unchecked
        };
        let slsa = builder_id.map(|id| ad_hoc_slsa(&id, &authorities, lock_rule));
        Self::new(PolicyRules {
            name: "command-line".into(),
            kind: PolicyOrigin::AdHoc,
            generation: 0,
            mode: EnforcementMode::Enforce,
            matcher: PolicyMatcher::Everything,
            authorities,
            threshold: 1,
            formats,
            transparency,
            require_digest: false,
            bind_repository: None,
            slsa,
            attestations: Vec::new(),
            lock,
            revocations: Vec::new(),
            exemptions: Vec::new(),
        })
    }

    /// Its name, without its kind and namespace.
    pub fn name(&self) -> &str {
        &self.rules.name
    }

    /// The identity of the policy, as in reports.
    pub fn identity(&self) -> PolicyIdentity {
        self.rules.identity()
    }

    /// What happens with its denials.
    pub fn mode(&self) -> EnforcementMode {
        self.rules.mode
    }

    /// Why the policy could not be compiled, if so. It then denies every use that it governs.
    pub fn fault_message(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// The reason code of [`Self::fault_message`].
    pub const fn fault_reason(&self) -> Reason {
        self.fault_reason
    }

    /// The rules that the policy was compiled from.
    pub fn rules(&self) -> &PolicyRules {
        &self.rules
    }

    /// True if signatures under cosign's tags count. If not, these tags need not be fetched.
    pub fn accepts_cosign_tags(&self) -> bool {
        self.rules.formats.iter().any(|format| {
            matches!(
                format,
                StoredSignatureFormat::Legacy | StoredSignatureFormat::LegacySetOnly
            )
        })
    }

    /// Settings that weaken it, for the report.
    pub fn unsafe_settings(&self) -> Vec<String> {
        self.rules.unsafe_settings()
    }
}

fn ad_hoc_slsa(id: &str, authorities: &[PolicyAuthority], lock: LockRule) -> SlsaRules {
    let builders = authorities.iter().map(|authority| BuilderRule {
        id: id.to_owned(),
        authority: authority.name.clone(),
        level: 0,
    });
    SlsaRules {
        minimum_level: 0,
        builders: builders.collect(),
        sources: Vec::new(),
        max_age: None,
        lock,
    }
}
