//! Compiles [`PolicyRules`] into a [`Policy`]. A rule that could never have its intended effect is
//! refused, with the name of its field.

use std::collections::HashSet;

use crate::core::{
    digest::Digest,
    reason::{ClassifiedError, Reason},
    verify::StoredSignatureFormat,
};

use super::{
    AuthorityKind, BuilderRule, EnforcementMode, ImagePattern, LockRule, MAX_AUTHORITIES,
    MAX_REFERENCES, Policy, PolicyAuthority, PolicyMatcher, PolicyOrigin, PolicyRules, SlsaRules,
    TransparencyRequirement,
};

/// The field of a policy that is invalid, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct PolicyError {
    /// The field, as a path: `spec.authorities[1].key.pem`.
    pub field: String,
    /// What is wrong with it, and what to do.
    pub problem: String,
    /// True if an object that the field refers to does not exist, and nothing else is wrong.
    missing: bool,
    reason: Reason,
}

impl PolicyError {
    /// An error in `field`.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
            missing: false,
            reason: Reason::InvalidSpec,
        }
    }

    /// `field` refers to an object that does not exist. The policy becomes valid once it does.
    pub fn missing_object(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            missing: true,
            ..Self::new(field, problem)
        }
    }

    /// The same with another reason than `InvalidSpec`.
    #[must_use]
    pub fn with_reason(self, reason: Reason) -> Self {
        Self { reason, ..self }
    }

    /// True if an object that the field refers to does not exist, and nothing else is wrong.
    pub const fn is_missing_object(&self) -> bool {
        self.missing
    }

    /// A field whose behaviour is not implemented yet. It is never ignored.
    pub fn unsupported_field(field: impl Into<String>) -> Self {
        Self::new(field, "is not supported yet")
    }
}

impl ClassifiedError for PolicyError {
    fn reason(&self) -> Reason {
        self.reason
    }
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
        check_matcher(&rules.matcher)?;
        check_authorities(&rules)?;
        rules
            .slsa
            .as_ref()
            .map_or(Ok(()), |slsa| check_slsa(slsa, &rules.authorities))?;
        check_attestations(&rules)?;
        if rules.kind != PolicyOrigin::Cluster && !rules.exemptions.is_empty() {
            return Err(PolicyError::new(
                "spec.exemptions",
                "belong to a ClusterBundlePolicy",
            ));
        }
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

fn check_matcher(matcher: &PolicyMatcher) -> Result<(), PolicyError> {
    let PolicyMatcher::Names {
        references,
        except,
        uses,
    } = matcher
    else {
        return Ok(());
    };
    for (field, patterns) in [
        ("spec.match.references", references),
        ("spec.match.except", except),
    ] {
        if patterns.len() > MAX_REFERENCES {
            return Err(PolicyError::new(
                field,
                format!(
                    "has {} patterns, the limit is {MAX_REFERENCES}",
                    patterns.len()
                ),
            ));
        }
    }
    if references.is_empty() {
        return Err(PolicyError::new(
            "spec.match.references",
            "must have at least one pattern, otherwise nothing is governed",
        ));
    }
    if except.iter().any(ImagePattern::is_everything) {
        return Err(PolicyError::new(
            "spec.match.except",
            "must not be **, otherwise nothing is governed",
        ));
    }
    if uses.is_empty() {
        Err(PolicyError::new(
            "spec.match.uses",
            "must have at least one use, otherwise nothing is governed",
        ))
    } else {
        Ok(())
    }
}

fn check_authorities(rules: &PolicyRules) -> Result<(), PolicyError> {
    let authorities = &rules.authorities;
    if authorities.is_empty() {
        return Err(PolicyError::new(
            "spec.authorities",
            "must have at least one authority, otherwise there is nothing to trust",
        ));
    }
    if authorities.len() > MAX_AUTHORITIES && rules.kind != PolicyOrigin::AdHoc {
        return Err(PolicyError::new(
            "spec.authorities",
            format!(
                "has {} authorities, the limit is {MAX_AUTHORITIES}",
                authorities.len()
            ),
        ));
    }
    let mut names = HashSet::new();
    for (at, authority) in authorities.iter().enumerate() {
        if authority.name.is_empty() || !names.insert(&authority.name) {
            return Err(PolicyError::new(
                format!("spec.authorities[{at}].name"),
                "is required and must be unique",
            ));
        }
        check_authority_kind(authority, rules.transparency).map_err(|(field, problem)| {
            PolicyError::new(format!("spec.authorities[{at}].{field}"), problem)
        })?;
    }
    if rules.formats.is_empty() {
        return Err(PolicyError::new(
            "spec.signatureFormats",
            "must name at least one",
        ));
    }
    check_duplicate_rsa_keys(authorities)?;
    check_threshold(rules)
}

/// One RSA key that is listed both for PKCS#1 and for PSS would be two signers: it could meet a
/// threshold of two.
fn check_duplicate_rsa_keys(authorities: &[PolicyAuthority]) -> Result<(), PolicyError> {
    let keys: Vec<_> = authorities
        .iter()
        .enumerate()
        .filter_map(|(at, authority)| {
            if let AuthorityKind::Key { key, .. } = &authority.kind {
                Some((at, key))
            } else {
                None
            }
        })
        .collect();
    match keys.iter().find(|(_, key)| {
        keys.iter()
            .any(|(_, other)| key.differs_only_in_algorithm(other))
    }) {
        Some((at, _)) => Err(PolicyError::new(
            format!("spec.authorities[{at}].key"),
            "is the same RSA key as another authority's, for another padding; name one",
        )),
        None => Ok(()),
    }
}

const TRUST_ROOT_REQUIRED: &str =
    "must name the TrustRoot whose logs are trusted, because transparency is Required";

fn check_authority_kind(
    authority: &PolicyAuthority,
    transparency: TransparencyRequirement,
) -> Result<(), (&'static str, &'static str)> {
    match (&authority.kind, transparency) {
        (
            AuthorityKind::Keyless {
                subject, issuer, ..
            },
            _,
        ) if subject.as_str().is_empty() || issuer.is_empty() => {
            Err(("keyless", "subject and issuer must both be set"))
        }
        (AuthorityKind::Certificate { subject, .. }, _) if subject.as_str().is_empty() => {
            Err(("certificate", "subject must be set"))
        }
        (AuthorityKind::Key { root: None, .. }, TransparencyRequirement::Required) => {
            Err(("key.trustRootRef", TRUST_ROOT_REQUIRED))
        }
        (AuthorityKind::Certificate { root: None, .. }, TransparencyRequirement::Required) => {
            Err(("certificate.trustRootRef", TRUST_ROOT_REQUIRED))
        }
        _ => Ok(()),
    }
}

/// Two authorities with one key are one: a threshold that only both could meet can never be met.
fn check_threshold(rules: &PolicyRules) -> Result<(), PolicyError> {
    let distinct = (0..rules.authorities.len())
        .filter(|at| {
            !rules
                .authorities
                .iter()
                .take(*at)
                .any(|earlier| earlier.is_same_signer(&rules.authorities[*at]))
        })
        .count();
    if (1..=distinct).contains(&rules.threshold) {
        return Ok(());
    }
    let problem = format!(
        "is {}, it must be at least 1 and at most {distinct}, the number of distinct signers",
        rules.threshold
    );
    Err(PolicyError::new("spec.threshold", problem))
}

fn check_slsa(slsa: &SlsaRules, authorities: &[PolicyAuthority]) -> Result<(), PolicyError> {
    if slsa.minimum_level > 3 {
        return Err(PolicyError::new("spec.slsa.minimumLevel", "must be 0 to 3"));
    }
    if slsa.builders.is_empty() {
        return Err(PolicyError::new(
            "spec.slsa.builders",
            "must have at least one builder, otherwise nothing could pass",
        ));
    }
    for (at, builder) in slsa.builders.iter().enumerate() {
        let problem = |field, problem| {
            Err(PolicyError::new(
                format!("spec.slsa.builders[{at}].{field}"),
                problem,
            ))
        };
        if builder.id.is_empty() {
            return problem("id", "must not be empty");
        }
        if builder.level > 3 {
            return problem("level", "must be 0 to 3");
        }
        if !has_authority_named(authorities, &builder.authority) {
            return problem("authority", "must name one of spec.authorities");
        }
        if slsa
            .builders
            .iter()
            .take(at)
            .any(|other| other.id == builder.id && other.authority == builder.authority)
        {
            return problem("id", "is listed twice for one authority");
        }
    }
    Ok(())
}

fn check_attestations(rules: &PolicyRules) -> Result<(), PolicyError> {
    for (at, rule) in rules.attestations.iter().enumerate() {
        if rule.predicate_type.is_empty() {
            return Err(PolicyError::new(
                format!("spec.attestations[{at}].predicateType"),
                "must not be empty",
            ));
        }
        if rule
            .authority
            .as_ref()
            .is_some_and(|name| !has_authority_named(&rules.authorities, name))
        {
            return Err(PolicyError::new(
                format!("spec.attestations[{at}].authority"),
                "must name one of spec.authorities",
            ));
        }
    }
    Ok(())
}

fn has_authority_named(authorities: &[PolicyAuthority], name: &str) -> bool {
    authorities.iter().any(|authority| authority.name == name)
}
