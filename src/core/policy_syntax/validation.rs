//! Checks [`PolicyRules`]. A rule that could never have its intended effect is refused, with the
//! name of its field.

use std::collections::HashSet;

use super::{
    AuthorityKind, ImagePattern, MAX_AUTHORITIES, MAX_REFERENCES, PolicyAuthority, PolicyError,
    PolicyMatcher, PolicyOrigin, PolicyRules, SlsaRules, TransparencyRequirement,
};

/// Errors: the first invalid field.
pub(super) fn check_rules(rules: &PolicyRules) -> Result<(), PolicyError> {
    check_matcher(&rules.matcher)?;
    check_authorities(rules)?;
    rules
        .slsa
        .as_ref()
        .map_or(Ok(()), |slsa| check_slsa(slsa, &rules.authorities))?;
    check_attestations(rules)?;
    if rules.kind != PolicyOrigin::Cluster && !rules.exemptions.is_empty() {
        return Err(PolicyError::new(
            "spec.exemptions",
            "belong to a ClusterBundlePolicy",
        ));
    }
    Ok(())
}

pub(super) fn check_matcher(matcher: &PolicyMatcher) -> Result<(), PolicyError> {
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
