//! Compiles the authorities of a policy.

use std::sync::Arc;

use super::{
    AuthoritySpec, CertificateClaimsSpec, ConfigObjectKind, ConfigObjectRef, IdentityMatchSpec,
    KeyAuthoritySpec, KeylessAuthoritySpec, PrivateCaAuthoritySpec, ResolvedPolicyReferences,
    config_map_data::{CA_CERTIFICATES_KEY, PUBLIC_KEY, REVOCATION_LISTS},
};
use crate::core::{
    policy::{self, AuthorityKind, ClaimsRule, PolicyError, SubjectMatcher},
    verify::{self, TrustRoot, VerificationKey},
};

/// One authority, with the objects that it refers to.
pub(super) fn compile_authority(
    authority: &AuthoritySpec,
    field: &str,
    sources: &ResolvedPolicyReferences,
) -> Result<policy::PolicyAuthority, PolicyError> {
    let AuthoritySpec {
        name,
        key,
        keyless,
        certificate,
    } = authority;
    let kind = match (key, keyless, certificate) {
        (Some(key), None, None) => compile_key_authority(key, &format!("{field}.key"), sources)?,
        (None, Some(keyless), None) => {
            compile_keyless_authority(keyless, &format!("{field}.keyless"), sources)?
        }
        (None, None, Some(certificate)) => {
            compile_private_ca_authority(certificate, &format!("{field}.certificate"), sources)?
        }
        _ => {
            return Err(PolicyError::new(
                field,
                "must have exactly one of key, keyless and certificate",
            ));
        }
    };
    Ok(policy::PolicyAuthority {
        name: name.clone(),
        kind,
    })
}

fn compile_key_authority(
    key: &KeyAuthoritySpec,
    field: &str,
    sources: &ResolvedPolicyReferences,
) -> Result<AuthorityKind, PolicyError> {
    let pem = match (&key.pem, &key.config_map_ref) {
        (Some(pem), None) => pem.as_str(),
        (None, Some(reference)) => {
            let map = sources.config_maps.get(&reference.name);
            let missing = || {
                PolicyError::missing_object(
                    format!("{field}.configMapRef"),
                    format!(
                        "there is no ConfigMap {} with {PUBLIC_KEY} in it",
                        reference.name
                    ),
                )
            };
            map.and_then(|map| map.get(PUBLIC_KEY))
                .ok_or_else(missing)?
        }
        _ => {
            return Err(PolicyError::new(
                field,
                "must have exactly one of pem and configMapRef",
            ));
        }
    };
    let root = key
        .trust_root_ref
        .as_ref()
        .map(|reference| resolve_trust_root(&reference.name, field, sources))
        .transpose()?;
    let key = VerificationKey::from_pem(pem)
        .map_err(|error| PolicyError::new(field, error.to_string()))?;
    sources.usage.count_parsed_material(
        key.fingerprint(),
        size_of::<VerificationKey>() + key.spki_der().len(),
    )?;
    Ok(AuthorityKind::Key { key, root })
}

fn compile_keyless_authority(
    keyless: &KeylessAuthoritySpec,
    field: &str,
    sources: &ResolvedPolicyReferences,
) -> Result<AuthorityKind, PolicyError> {
    let KeylessAuthoritySpec {
        trust_root_ref,
        issuer,
        subject,
        claims,
    } = keyless;
    Ok(AuthorityKind::Keyless {
        subject: compile_name_match(subject, &format!("{field}.subject"), sources)?,
        issuer: issuer.clone(),
        claims: claims.as_ref().map(convert_claims_rule).unwrap_or_default(),
        root: resolve_trust_root(&trust_root_ref.name, field, sources)?,
    })
}

fn compile_private_ca_authority(
    certificate: &PrivateCaAuthoritySpec,
    field: &str,
    sources: &ResolvedPolicyReferences,
) -> Result<AuthorityKind, PolicyError> {
    let PrivateCaAuthoritySpec {
        ca_ref,
        crl_ref,
        subject,
        trust_root_ref,
    } = certificate;
    let subject = compile_name_match(subject, &format!("{field}.subject"), sources)?;
    let certificates = resolve_config_map_data(
        ca_ref,
        CA_CERTIFICATES_KEY,
        &format!("{field}.caRef"),
        sources,
    )?;
    let lists = crl_ref
        .as_ref()
        .map(|lists| {
            resolve_config_map_data(lists, REVOCATION_LISTS, &format!("{field}.crlRef"), sources)
        })
        .transpose()?;
    Ok(AuthorityKind::Certificate {
        subject,
        authority: sources.parts.get_or_parse_authority(
            certificates,
            lists,
            field,
            &sources.usage,
        )?,
        root: trust_root_ref
            .as_ref()
            .map(|reference| resolve_trust_root(&reference.name, field, sources))
            .transpose()?,
    })
}

/// The data of a `ConfigMap`. Secrets are not allowed: the webhook must not read Secrets for
/// policies.
fn resolve_config_map_data<'a>(
    reference: &ConfigObjectRef,
    key: &str,
    field: &str,
    sources: &'a ResolvedPolicyReferences,
) -> Result<&'a str, PolicyError> {
    let name = &reference.name;
    if reference.kind == ConfigObjectKind::Secret {
        let problem = format!(
            "must be of kind ConfigMap: certificates and revocation lists are public, and the \
                webhook reads no Secrets; put {key} into a ConfigMap {name}"
        );
        return Err(PolicyError::new(format!("{field}.kind"), problem));
    }
    let missing = || {
        PolicyError::missing_object(
            field,
            format!("there is no ConfigMap {name} with {key} in it"),
        )
    };
    sources
        .config_maps
        .get(name)
        .and_then(|map| map.get(key))
        .ok_or_else(missing)
}

fn resolve_trust_root(
    name: &str,
    field: &str,
    sources: &ResolvedPolicyReferences,
) -> Result<Arc<TrustRoot>, PolicyError> {
    let field = format!("{field}.trustRootRef");
    let missing = || match sources.lost_roots.get(name) {
        Some((reason, why)) => {
            PolicyError::missing_object(&field, format!("TrustRoot {name}: {why}"))
                .with_reason(*reason)
        }
        None => PolicyError::missing_object(&field, format!("there is no TrustRoot {name}")),
    };
    sources.trust_roots.get(name).cloned().ok_or_else(missing)
}

fn compile_name_match(
    subject: &IdentityMatchSpec,
    field: &str,
    sources: &ResolvedPolicyReferences,
) -> Result<SubjectMatcher, PolicyError> {
    let failed = |way: &'static str| {
        move |problem: String| PolicyError::new(format!("{field}.{way}"), problem)
    };
    match (&subject.exact, &subject.prefix, &subject.regexp) {
        (Some(exact), None, None) => SubjectMatcher::exact(exact).map_err(failed("exact")),
        (None, Some(prefix), None) => SubjectMatcher::prefix(prefix).map_err(failed("prefix")),
        (None, None, Some(regexp)) => sources.parts.get_or_parse_expression(
            regexp,
            &format!("{field}.regexp"),
            &sources.usage,
        ),
        _ => Err(PolicyError::new(
            field,
            "must have exactly one of exact, prefix and regexp",
        )),
    }
}

fn convert_claims_rule(claims: &CertificateClaimsSpec) -> ClaimsRule {
    let CertificateClaimsSpec {
        source_repository,
        reference,
        workflow,
        trigger,
        runner,
    } = claims.clone();
    ClaimsRule(verify::CertificateClaims {
        source_repository,
        source_ref: reference,
        workflow,
        trigger,
        runner,
    })
}
