//! SLSA provenance: the builder, whether an authority of that builder signed, the source, and the
//! build time.
//!
//! The checks run in one fixed order. Of several provenances the first that passes all of them
//! counts; if none does, the denial of the one that passed the most checks is reported.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::core::{
    digest::Digest,
    intoto::Statement,
    reason::Reason,
    slsa::{BUILD_TYPE, Provenance, ResourceDescriptor},
    verify::{Verified, sanitize_text},
};

use super::{
    BuilderRule, Denial, LockRule, RevocationTarget, SlsaFinding, SlsaRules,
    evaluate::{BundleLock, PolicyEvaluation},
};

/// How far a builder's clock may be ahead of ours.
pub(super) const MAX_CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

type ProvenanceMatch<'a> = (&'a Verified<Statement>, SlsaFinding);

/// Finds provenance that satisfies `rules`.
pub(super) fn evaluate_provenance<'a>(
    evaluation: &PolicyEvaluation<'a>,
    rules: &SlsaRules,
) -> Result<ProvenanceMatch<'a>, Denial> {
    let mut furthest: Option<Denial> = None;
    for statement in evaluation.provenance_statements() {
        match check_provenance(evaluation, rules, statement) {
            Ok(finding) => return Ok((statement, finding)),
            Err(denial)
                if furthest
                    .as_ref()
                    .is_none_or(|known| check_stage(denial.reason) > check_stage(known.reason)) =>
            {
                furthest = Some(denial);
            }
            Err(_) => {}
        }
    }
    Err(furthest.unwrap_or_else(|| missing_provenance_denial(evaluation)))
}

/// True if this provenance names a revoked builder.
pub(super) fn has_revoked_builder(
    evaluation: &PolicyEvaluation<'_>,
    statement: &Verified<Statement>,
) -> bool {
    parse_provenance(statement).is_some_and(|provenance| {
        is_revoked_builder(evaluation, &provenance.run_details.builder.id)
    })
}

fn missing_provenance_denial(evaluation: &PolicyEvaluation<'_>) -> Denial {
    if evaluation.has_other_attestation() {
        evaluation.missing_evidence_denial(
            Reason::PredicateTypeMismatch,
            "there are attestations, but none is SLSA provenance v1",
        )
    } else {
        evaluation.missing_evidence_denial(Reason::NoProvenance, "no SLSA provenance was found")
    }
}

/// The rank of a reason: the later its check, the higher.
const fn check_stage(reason: Reason) -> u8 {
    match reason {
        Reason::MalformedEvidence => 0,
        Reason::BuilderNotTrusted => 1,
        Reason::BuilderNotBoundToSigner => 2,
        Reason::LevelTooLow => 3,
        Reason::SourceMismatch => 4,
        Reason::NoTrustedTime => 5,
        Reason::ProvenanceTooOld => 6,
        Reason::LockMismatch => 7,
        _ => 8,
    }
}

fn check_provenance(
    evaluation: &PolicyEvaluation<'_>,
    rules: &SlsaRules,
    statement: &Verified<Statement>,
) -> Result<SlsaFinding, Denial> {
    let provenance = parse_provenance(statement).ok_or_else(|| {
        evaluation.policy_denial(
            Reason::MalformedEvidence,
            "the provenance does not have the fields of SLSA v1",
        )
    })?;
    let builder = &provenance.run_details.builder.id;
    if is_revoked_builder(evaluation, builder) {
        return Err(evaluation.policy_denial(
            Reason::Revoked,
            format!("the builder {} is revoked", sanitize_text(builder)),
        ));
    }
    let level = bound_builder(evaluation, rules, builder, statement)?.level;
    if level < rules.minimum_level {
        return Err(evaluation.policy_denial(
            Reason::LevelTooLow,
            format!(
                "{builder} is rated SLSA Build level {level}, {} is required",
                rules.minimum_level
            ),
        ));
    }
    check_source(evaluation, rules, &provenance)?;
    check_age(evaluation, rules, &provenance, statement)?;
    if rules.lock == LockRule::Exact {
        check_lock(evaluation, &provenance)?;
    }
    Ok(SlsaFinding {
        builder: builder.clone(),
        level,
        lock_checked: rules.lock == LockRule::Exact,
    })
}

fn parse_provenance(statement: &Verified<Statement>) -> Option<Provenance> {
    Provenance::deserialize(&statement.claim().predicate).ok()
}

fn is_revoked_builder(evaluation: &PolicyEvaluation<'_>, builder: &str) -> bool {
    let revokes =
        |what: &RevocationTarget| matches!(what, RevocationTarget::Builder(id) if id == builder);
    evaluation
        .rules
        .revocations
        .iter()
        .any(|revocation| revokes(&revocation.what) && revocation.is_in_effect(evaluation.now))
}

/// A builder id only counts if the authority that the policy binds to it signed.
fn bound_builder<'r>(
    evaluation: &PolicyEvaluation<'_>,
    rules: &'r SlsaRules,
    builder: &str,
    statement: &Verified<Statement>,
) -> Result<&'r BuilderRule, Denial> {
    let trusted: Vec<&BuilderRule> = rules
        .builders
        .iter()
        .filter(|rule| rule.id == builder)
        .collect();
    if trusted.is_empty() {
        return Err(evaluation.policy_denial(
            Reason::BuilderNotTrusted,
            format!(
                "the builder {} is not one of the policy's",
                sanitize_text(builder)
            ),
        ));
    }
    let speaks = |rule: &&&BuilderRule| {
        let authority = evaluation
            .rules
            .authorities
            .iter()
            .find(|authority| authority.name == rule.authority);
        authority.is_some_and(|authority| evaluation.counts_for_authority(authority, statement))
    };
    let bound = trusted.iter().filter(speaks).max_by_key(|rule| rule.level);
    bound.copied().ok_or_else(|| {
        evaluation.policy_denial(
            Reason::BuilderNotBoundToSigner,
            format!(
                "{} signed as the builder {builder}, which the policy does not bind to that signer",
                statement.signer()
            ),
        )
    })
}

fn check_source(
    evaluation: &PolicyEvaluation<'_>,
    rules: &SlsaRules,
    provenance: &Provenance,
) -> Result<(), Denial> {
    if rules.sources.is_empty() {
        return Ok(());
    }
    let source = provenance_source(provenance).ok_or_else(|| {
        evaluation.policy_denial(
            Reason::SourceMismatch,
            "the provenance names no source that packgate knows",
        )
    })?;
    if rules
        .sources
        .iter()
        .any(|allowed| normalize_source(allowed) == normalize_source(source))
    {
        return Ok(());
    }
    Err(evaluation.policy_denial(
        Reason::SourceMismatch,
        format!(
            "the source {} is not one of the policy's",
            sanitize_text(source)
        ),
    ))
}

/// The source of the lockfile itself. Sources of artifacts do not count: the author of a lockfile
/// chooses them.
fn provenance_source(provenance: &Provenance) -> Option<&str> {
    let ours = provenance.build_definition.build_type == BUILD_TYPE;
    lock_dependency(provenance).filter(|_| ours)?.uri.as_deref()
}

/// Without `git+`, the revision behind `@`, `.git` and a final slash.
fn normalize_source(uri: &str) -> &str {
    let uri = uri.strip_prefix("git+").unwrap_or(uri);
    let path = uri.find("://").map_or(0, |at| at + 3);
    let end = uri
        .get(path..)
        .and_then(|rest| rest.rfind('@').filter(|at| rest[..*at].contains('/')))
        .map_or(uri.len(), |at| path + at);
    let uri = uri.get(..end).unwrap_or(uri).trim_end_matches('/');
    uri.strip_suffix(".git").unwrap_or(uri)
}

fn check_age(
    evaluation: &PolicyEvaluation<'_>,
    rules: &SlsaRules,
    provenance: &Provenance,
    statement: &Verified<Statement>,
) -> Result<(), Denial> {
    let Some(limit) = rules.max_age else {
        return Ok(());
    };
    let built = build_time(provenance, statement);
    let built = built.ok_or_else(|| {
        evaluation.policy_denial(
            Reason::NoTrustedTime,
            "the provenance does not say when it was made",
        )
    })?;
    let age = evaluation.now.duration_since(built);
    if age < -MAX_CLOCK_SKEW {
        return Err(evaluation.policy_denial(
            Reason::NoTrustedTime,
            format!("the provenance says that it was made in the future, at {built}"),
        ));
    }
    let limit = SignedDuration::try_from(limit).unwrap_or(SignedDuration::MAX);
    if age > limit {
        Err(evaluation.policy_denial(
            Reason::ProvenanceTooOld,
            format!("the provenance is of {built}, older than {limit:#}"),
        ))
    } else {
        Ok(())
    }
}

/// When it was built, as far as somebody other than the builder says so; otherwise as the builder
/// says. `None` for what is no provenance, or does not say.
pub(super) fn built_at(statement: &Verified<Statement>) -> Option<Timestamp> {
    build_time(&parse_provenance(statement)?, statement)
}

fn build_time(provenance: &Provenance, statement: &Verified<Statement>) -> Option<Timestamp> {
    statement
        .signing_time()
        .timestamp()
        .or_else(|| finished_on(provenance))
}

fn finished_on(provenance: &Provenance) -> Option<Timestamp> {
    provenance
        .run_details
        .metadata
        .as_ref()?
        .finished_on
        .as_ref()?
        .parse()
        .ok()
}

fn check_lock(evaluation: &PolicyEvaluation<'_>, provenance: &Provenance) -> Result<(), Denial> {
    let deny = |message: String| evaluation.policy_denial(Reason::LockMismatch, message);
    let lock = evaluation
        .subject
        .lock
        .ok_or_else(|| deny("the bundle carries no lock to compare the provenance with".into()))?;
    let claimed = lock_dependency(provenance)
        .and_then(sha256_digest)
        .ok_or_else(|| deny("the provenance names no single lock with a digest".into()))?;
    if claimed != lock.digest {
        return Err(deny(format!(
            "the provenance names the lock {claimed}, the bundle holds {}",
            lock.digest
        )));
    }
    match first_lock_difference(provenance, &lock) {
        Some(difference) => Err(deny(difference)),
        None => Ok(()),
    }
}

/// The dependency `lock`, if there is exactly one.
fn lock_dependency(provenance: &Provenance) -> Option<&ResourceDescriptor> {
    let mut locks = provenance
        .build_definition
        .resolved_dependencies
        .iter()
        .filter(|dependency| dependency.name.as_deref() == Some("lock"));
    locks.next().filter(|_| locks.next().is_none())
}

fn sha256_digest(dependency: &ResourceDescriptor) -> Option<Digest> {
    format!("sha256:{}", dependency.digest.get("sha256")?)
        .parse()
        .ok()
}

/// The first difference between the artifacts of the provenance and those of the lockfile.
fn first_lock_difference(provenance: &Provenance, lock: &BundleLock<'_>) -> Option<String> {
    let mut claimed = BTreeSet::new();
    for dependency in &provenance.build_definition.resolved_dependencies {
        let Some(name) = dependency
            .name
            .as_deref()
            .and_then(|name| name.strip_prefix("artifact/"))
        else {
            continue;
        };
        let Some(digest) = sha256_digest(dependency) else {
            return Some(format!(
                "the provenance gives artifact {} no sha256",
                sanitize_text(name)
            ));
        };
        if !claimed.insert((name, digest)) {
            return Some(format!(
                "the provenance names artifact {} twice",
                sanitize_text(name)
            ));
        }
    }
    let locked: BTreeSet<_> = lock
        .lock
        .artifacts
        .iter()
        .map(|artifact| (artifact.name.as_str(), artifact.checksum))
        .collect();
    let missing = locked.difference(&claimed).next().map(|(name, digest)| {
        format!("artifact {name} of the lock, {digest}, is not in the provenance")
    });
    let extra = || {
        claimed.difference(&locked).next().map(|(name, digest)| {
            format!(
                "artifact {} of the provenance, {digest}, is not in the lock",
                sanitize_text(name)
            )
        })
    };
    missing.or_else(extra)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_compared_without_revision_and_suffix() {
        for (uri, normal) in [
            (
                "https://git.example.com/org/siem",
                "https://git.example.com/org/siem",
            ),
            (
                "git+https://git.example.com/org/siem.git@refs/heads/main",
                "https://git.example.com/org/siem",
            ),
            (
                "git+ssh://git@git.example.com/org/siem.git",
                "ssh://git@git.example.com/org/siem",
            ),
            (
                "https://git.example.com/org/siem/",
                "https://git.example.com/org/siem",
            ),
            (
                "oci://r.example.com/ctx@sha256:00",
                "oci://r.example.com/ctx",
            ),
            (
                "k8s://team-a/configmaps/siem-lock",
                "k8s://team-a/configmaps/siem-lock",
            ),
            ("", ""),
        ] {
            assert_eq!(normalize_source(uri), normal);
        }
        assert_ne!(
            normalize_source("https://git.example.com/org/siem2"),
            normalize_source("https://git.example.com/org/siem")
        );
        assert_ne!(
            normalize_source("https://git.example.com@evil.example.com/org/siem"),
            normalize_source("https://git.example.com/org/siem")
        );
    }
}
