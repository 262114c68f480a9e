//! Converts the API's rules into those that are evaluated.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use jiff::Timestamp;

use super::{
    AttestationSpec, ExemptionSpec, ImageUseSpec, LockComparisonSpec, MirrorSpec, PolicyMatchSpec,
    PolicyModeSpec, RevocationSpec, SignatureFormatSpec, SlsaBuilderSpec, SlsaSpec,
    TransparencySpec,
};
use crate::{
    api::duration::parse as parse_duration,
    core::{
        digest::Digest,
        policy::{
            self, ImagePattern, LockRule, MAX_MIRRORS, PolicyError, PolicyMatcher,
            RepositoryBinding, RevocationTarget,
        },
        verify::StoredSignatureFormat,
    },
};

/// Mirrors are checked even if `bindRepository` is not set.
pub(super) fn convert_repository_binding(
    bind: bool,
    mirrors: &[MirrorSpec],
) -> Result<Option<RepositoryBinding>, PolicyError> {
    if mirrors.len() > MAX_MIRRORS {
        return Err(PolicyError::new(
            "spec.mirrors",
            format!("has {} mirrors, the limit is {MAX_MIRRORS}", mirrors.len()),
        ));
    }
    let mirrors = convert_each(mirrors, "spec.mirrors", |MirrorSpec { from, to }, field| {
        policy::RepositoryMirror::new(from, to)
            .map_err(|error| PolicyError::new(format!("{field}.{}", error.field), error.problem))
    })?;
    Ok(bind.then_some(RepositoryBinding { mirrors }))
}

pub(super) fn convert_each<T, U>(
    items: &[T],
    field: &str,
    mut convert: impl FnMut(&T, &str) -> Result<U, PolicyError>,
) -> Result<Vec<U>, PolicyError> {
    items
        .iter()
        .enumerate()
        .map(|(at, item)| convert(item, &format!("{field}[{at}]")))
        .collect()
}

fn parse_field<T: FromStr<Err: std::fmt::Display>>(
    text: &str,
    field: impl Into<String>,
) -> Result<T, PolicyError> {
    text.parse()
        .map_err(|error: T::Err| PolicyError::new(field, error.to_string()))
}

pub(super) const fn convert_mode(mode: PolicyModeSpec) -> policy::EnforcementMode {
    match mode {
        PolicyModeSpec::Enforce => policy::EnforcementMode::Enforce,
        PolicyModeSpec::Warn => policy::EnforcementMode::Warn,
        PolicyModeSpec::Audit => policy::EnforcementMode::Audit,
    }
}

pub(super) const fn convert_signature_format(format: SignatureFormatSpec) -> StoredSignatureFormat {
    match format {
        SignatureFormatSpec::Bundle => StoredSignatureFormat::Bundle,
        SignatureFormatSpec::Legacy => StoredSignatureFormat::Legacy,
        SignatureFormatSpec::LegacySetOnly => StoredSignatureFormat::LegacySetOnly,
    }
}

pub(super) const fn convert_transparency(
    transparency: TransparencySpec,
) -> policy::TransparencyRequirement {
    match transparency {
        TransparencySpec::Optional => policy::TransparencyRequirement::Optional,
        TransparencySpec::Required => policy::TransparencyRequirement::Required,
    }
}

pub(super) fn convert_matcher(matches: &PolicyMatchSpec) -> Result<PolicyMatcher, PolicyError> {
    let PolicyMatchSpec {
        references,
        except,
        uses,
        namespace_selector,
    } = matches;
    let everywhere = namespace_selector.as_ref().is_none_or(|s| {
        s.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
            && s.match_expressions.as_ref().is_none_or(Vec::is_empty)
    });
    if !everywhere {
        return Err(PolicyError::unsupported_field(
            "spec.match.namespaceSelector",
        ));
    }
    let patterns = |texts: &[String], field: &str| {
        convert_each(texts, field, |text, field| {
            parse_field::<ImagePattern>(text, field)
        })
    };
    let uses = uses.iter().map(|used_as| match used_as {
        ImageUseSpec::PackedBundle => policy::ReferenceUse::PackedBundle,
        ImageUseSpec::ImageVolume => policy::ReferenceUse::ImageVolume,
        ImageUseSpec::Container => policy::ReferenceUse::Container,
    });
    Ok(PolicyMatcher::Names {
        references: patterns(references, "spec.match.references")?,
        except: patterns(except, "spec.match.except")?,
        uses: uses.collect(),
    })
}

pub(super) fn convert_slsa_rules(slsa: &SlsaSpec) -> Result<policy::SlsaRules, PolicyError> {
    let SlsaSpec {
        minimum_level,
        builders,
        sources,
        max_age,
        lock,
    } = slsa;
    Ok(policy::SlsaRules {
        minimum_level: parse_slsa_level(*minimum_level, "spec.slsa.minimumLevel")?,
        builders: convert_each(builders, "spec.slsa.builders", convert_builder_rule)?,
        sources: sources.clone(),
        max_age: max_age.as_deref().map(parse_max_age).transpose()?,
        lock: lock.map_or(LockRule::Unchecked, |LockComparisonSpec::Exact| {
            LockRule::Exact
        }),
    })
}

fn convert_builder_rule(
    builder: &SlsaBuilderSpec,
    field: &str,
) -> Result<policy::BuilderRule, PolicyError> {
    let SlsaBuilderSpec {
        id,
        authority,
        level,
    } = builder;
    Ok(policy::BuilderRule {
        id: id.clone(),
        authority: authority.clone(),
        level: parse_slsa_level(*level, &format!("{field}.level"))?,
    })
}

fn parse_slsa_level(level: i32, field: &str) -> Result<u8, PolicyError> {
    u8::try_from(level).map_err(|_| PolicyError::new(field, "must be 0 to 3"))
}

fn parse_max_age(text: &str) -> Result<Duration, PolicyError> {
    let wrong = || {
        PolicyError::new(
            "spec.slsa.maxAge",
            "must be a duration of hours, minutes and seconds, more than nothing, such as 2160h",
        )
    };
    parse_duration(text)
        .filter(|duration| !duration.is_zero())
        .ok_or_else(wrong)
}

pub(super) fn convert_attestation_rule(
    attestation: &AttestationSpec,
    field: &str,
) -> Result<policy::AttestationRule, PolicyError> {
    let AttestationSpec {
        predicate_type,
        authority,
        cel,
    } = attestation;
    if cel.is_some() {
        return Err(PolicyError::unsupported_field(format!("{field}.cel")));
    }
    Ok(policy::AttestationRule {
        predicate_type: predicate_type.clone(),
        authority: authority.clone(),
    })
}

pub(super) fn convert_revocation(
    revocation: &RevocationSpec,
    field: &str,
) -> Result<policy::RevocationRule, PolicyError> {
    let RevocationSpec {
        digest,
        key_hash,
        builder,
        reason,
        since,
    } = revocation;
    let what = match (digest, key_hash, builder) {
        (Some(digest), None, None) => {
            RevocationTarget::Digest(parse_field::<Digest>(digest, format!("{field}.digest"))?)
        }
        (None, Some(hash), None) => {
            RevocationTarget::Key(parse_field::<Digest>(hash, format!("{field}.keyHash"))?)
        }
        (None, None, Some(builder)) => RevocationTarget::Builder(builder.clone()),
        _ => {
            return Err(PolicyError::new(
                field,
                "must have exactly one of digest, keyHash and builder",
            ));
        }
    };
    let since = since
        .as_ref()
        .map(|since| parse_field::<Timestamp>(since, format!("{field}.since")))
        .transpose()?;
    Ok(policy::RevocationRule {
        what,
        reason: reason.clone(),
        since,
    })
}

pub(super) fn convert_exemption(
    exemption: &ExemptionSpec,
    field: &str,
) -> Result<policy::ExemptionRule, PolicyError> {
    let ExemptionSpec {
        digest,
        reason,
        expires,
    } = exemption;
    Ok(policy::ExemptionRule {
        digest: parse_field(digest, format!("{field}.digest"))?,
        reason: reason.clone(),
        expires: parse_field(expires, format!("{field}.expires"))?,
    })
}
