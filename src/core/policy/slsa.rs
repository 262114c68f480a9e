//! SLSA provenance: the builder, whether an authority of that builder signed, the source, and the
//! build time.
//!
//! The checks run in one fixed order. Of several provenances the first that passes all of them
//! counts; if none does, the denial of the one that passed the most checks is reported.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::core::{
    evidence::sanitize_text,
    intoto::Statement,
    policy_findings::furthest_provenance_denial,
    provenance_claims::{
        claimed_artifacts, finished_on, lock_dependency, normalize_source, provenance_source,
        sha256_digest,
    },
    reason::Reason,
    slsa::{PROVENANCE_V1, Provenance},
    verify::Verified,
};

use super::{
    BuilderRule, BundleLock, Denial, LockRule, PolicyEvaluation, RevocationTarget, SlsaFinding,
    SlsaRules,
};

/// How far a builder's clock may be ahead of ours.
pub(super) const MAX_CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// The provenance that satisfies the rules, and what it proves.
pub(super) type ProvenanceMatch<'a> = (&'a Verified<Statement>, SlsaFinding);

/// Finds provenance that satisfies the policy's rules. `None` if it requires none.
pub(super) fn check_provenance<'a>(
    evaluation: &PolicyEvaluation<'a>,
) -> Result<Option<ProvenanceMatch<'a>>, Denial> {
    let Some(rules) = &evaluation.rules.slsa else {
        return Ok(None);
    };
    let mut denials = Vec::new();
    let statements = evaluation.statements.iter().copied();
    for statement in statements.filter(|statement| is_provenance(statement)) {
        match check_statement(evaluation, rules, statement) {
            Ok(finding) => return Ok(Some((statement, finding))),
            Err(denial) => denials.push(denial),
        }
    }
    Err(furthest_provenance_denial(evaluation, denials))
}

/// True if this is provenance that names a revoked builder.
pub(super) fn has_revoked_builder(
    evaluation: &PolicyEvaluation<'_>,
    statement: &Verified<Statement>,
) -> bool {
    is_provenance(statement)
        && parse_provenance(statement).is_some_and(|provenance| {
            is_revoked_builder(evaluation, &provenance.run_details.builder.id)
        })
}

fn check_statement(
    evaluation: &PolicyEvaluation<'_>,
    rules: &SlsaRules,
    statement: &Verified<Statement>,
) -> Result<SlsaFinding, Denial> {
    let provenance = parse_provenance(statement).ok_or_else(|| {
        evaluation.new_denial(
            Reason::MalformedEvidence,
            "the provenance does not have the fields of SLSA v1",
        )
    })?;
    let builder = &provenance.run_details.builder.id;
    if is_revoked_builder(evaluation, builder) {
        return Err(evaluation.new_denial(
            Reason::Revoked,
            format!("the builder {} is revoked", sanitize_text(builder)),
        ));
    }
    let level = bound_builder(evaluation, rules, builder, statement)?.level;
    if level < rules.minimum_level {
        return Err(evaluation.new_denial(
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

fn is_provenance(statement: &Verified<Statement>) -> bool {
    statement.claim().predicate_type == PROVENANCE_V1
}

fn parse_provenance(statement: &Verified<Statement>) -> Option<Provenance> {
    Provenance::deserialize(&statement.claim().predicate).ok()
}

fn is_revoked_builder(evaluation: &PolicyEvaluation<'_>, builder: &str) -> bool {
    let target = RevocationTarget::Builder(builder.to_owned());
    let revocation = evaluation.rules.revocation_of(&target, evaluation.now);
    revocation.is_some()
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
        return Err(evaluation.new_denial(
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
        authority
            .is_some_and(|authority| evaluation.rules.counts_for_authority(authority, statement))
    };
    let bound = trusted.iter().filter(speaks).max_by_key(|rule| rule.level);
    bound.copied().ok_or_else(|| {
        evaluation.new_denial(
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
        evaluation.new_denial(
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
    Err(evaluation.new_denial(
        Reason::SourceMismatch,
        format!(
            "the source {} is not one of the policy's",
            sanitize_text(source)
        ),
    ))
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
        evaluation.new_denial(
            Reason::NoTrustedTime,
            "the provenance does not say when it was made",
        )
    })?;
    let age = evaluation.now.duration_since(built);
    if age < -MAX_CLOCK_SKEW {
        return Err(evaluation.new_denial(
            Reason::NoTrustedTime,
            format!("the provenance says that it was made in the future, at {built}"),
        ));
    }
    let limit = SignedDuration::try_from(limit).unwrap_or(SignedDuration::MAX);
    if age > limit {
        Err(evaluation.new_denial(
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

fn check_lock(evaluation: &PolicyEvaluation<'_>, provenance: &Provenance) -> Result<(), Denial> {
    let deny = |message: String| evaluation.new_denial(Reason::LockMismatch, message);
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

/// The first difference between the artifacts of the provenance and those of the lockfile.
fn first_lock_difference(provenance: &Provenance, lock: &BundleLock<'_>) -> Option<String> {
    let claimed = match claimed_artifacts(provenance) {
        Ok(claimed) => claimed,
        Err(problem) => return Some(problem),
    };
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
