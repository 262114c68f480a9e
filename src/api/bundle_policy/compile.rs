//! Compiles the API's policy types into the rules that are evaluated. What cannot be honoured is
//! refused, with the field.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use crate::api::duration::parse as parse_duration;
use crate::core::{
    digest::Digest,
    policy::{
        self, AuthorityKind, ClaimsRule, ImagePattern, LockRule, MAX_MIRRORS, Policy, PolicyError,
        PolicyMatcher, PolicyOrigin, PolicyRules, RepositoryBinding, RevocationTarget,
        SubjectMatcher,
    },
    reason::{ClassifiedError, Reason},
    verify::{self, StoredSignatureFormat, TrustRoot, VerificationKey},
};

use super::{
    AttestationSpec, AuthoritySpec, BundlePolicySpec, CertificateClaimsSpec,
    ClusterBundlePolicySpec, ConfigMapData, ConfigObjectKind, ConfigObjectRef, ExemptionSpec,
    IdentityMatchSpec, ImageUseSpec, KeyAuthoritySpec, KeylessAuthoritySpec, LockComparisonSpec,
    MirrorSpec, ParsedMaterialCache, PolicyMatchSpec, PolicyModeSpec, PolicyObject,
    PolicyQuotaUsage, PrivateCaAuthoritySpec, RevocationSpec, SignatureFormatSpec, SlsaBuilderSpec,
    SlsaSpec, TransparencySpec,
};

/// The key of a public key in a `ConfigMap`.
pub(super) const PUBLIC_KEY: &str = "cosign.pub";
/// The key of CA certificates in a `ConfigMap`.
pub(super) const CERTIFICATES: &str = "ca.crt";
/// The key of revocation lists in a `ConfigMap`.
pub(super) const REVOCATION_LISTS: &str = "ca.crl";

/// The objects that a policy may refer to, resolved for the policy's namespace.
#[derive(Clone, Debug, Default)]
pub struct ResolvedPolicyReferences {
    /// The `ConfigMap`s, by name.
    pub config_maps: BTreeMap<String, ConfigMapData>,
    /// Trust roots, by the name of their `TrustRoot`.
    pub trust_roots: BTreeMap<String, Arc<TrustRoot>>,
    /// Why other trust roots cannot be used, by the same name.
    pub lost_roots: BTreeMap<String, (Reason, String)>,
    /// The cache of parsed keys, certificates and lists.
    pub parts: ParsedMaterialCache,
    /// The quota usage of the policies of the same namespace.
    pub usage: PolicyQuotaUsage,
}

/// The names of the objects that a policy refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyReferenceNames {
    /// The names of `ConfigMap`s: in the system namespace, or in that of the `BundlePolicy`.
    pub config_maps: BTreeSet<String>,
    /// The names of `TrustRoot`s.
    pub trust_roots: BTreeSet<String>,
}

impl PolicyObject {
    /// The policy's name.
    pub fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    /// Compiles it.
    ///
    /// Errors: the first field that is invalid, not supported yet, or refers to an object that is
    /// not in `sources`.
    pub fn compile_policy(
        &self,
        sources: &ResolvedPolicyReferences,
    ) -> Result<Policy, PolicyError> {
        if self.name().is_empty() {
            return Err(PolicyError::new("metadata.name", "must be set"));
        }
        let (spec, exemptions) = match self {
            Self::Cluster(policy) => (
                CommonPolicySpec::from(&policy.spec),
                policy.spec.exemptions.as_slice(),
            ),
            Self::Namespaced(policy) => (CommonPolicySpec::from(&policy.spec), [].as_slice()),
        };
        if spec.signature_formats.is_empty() {
            return Err(PolicyError::new(
                "spec.signatureFormats",
                "must name at least one",
            ));
        }
        let without_authorities = PolicyRules {
            name: self.name().to_owned(),
            kind: self.kind()?,
            generation: self.metadata().generation.unwrap_or_default(),
            mode: convert_mode(spec.mode),
            matcher: convert_matcher(spec.matches)?,
            authorities: Vec::new(),
            threshold: usize::try_from(spec.threshold).unwrap_or_default(),
            formats: spec
                .signature_formats
                .iter()
                .map(|form| convert_signature_format(*form))
                .collect(),
            transparency: convert_transparency(spec.transparency),
            require_digest: spec.require_digest,
            bind_repository: convert_repository_binding(spec.bind_repository, spec.mirrors)?,
            slsa: spec.slsa.map(convert_slsa_rules).transpose()?,
            attestations: convert_each(
                spec.attestations,
                "spec.attestations",
                convert_attestation_rule,
            )?,
            lock: None,
            revocations: convert_each(spec.revocations, "spec.revocations", convert_revocation)?,
            exemptions: convert_each(exemptions, "spec.exemptions", convert_exemption)?,
        };
        // Last, because the objects that they name may be absent: every other error is reported
        // first.
        let authorities = convert_each(spec.authorities, "spec.authorities", |authority, at| {
            compile_authority(authority, at, sources)
        })?;
        Policy::new(PolicyRules {
            authorities,
            ..without_authorities
        })
    }

    /// Compiles it, or returns a policy that denies every use that it governs: an existing policy
    /// is never left out.
    pub fn compile_or_deny_all(&self, sources: &ResolvedPolicyReferences) -> Policy {
        self.compile_policy(sources).unwrap_or_else(|error| {
            self.to_deny_all_policy(error.to_string())
                .with_fault_reason(error.reason())
        })
    }

    /// The policy while it cannot be compiled: it denies every use that it governs.
    pub fn to_deny_all_policy(&self, why: impl Into<String>) -> Policy {
        let (mode, matches) = match self {
            Self::Cluster(policy) => (policy.spec.mode, &policy.spec.matches),
            Self::Namespaced(policy) => (policy.spec.mode, &policy.spec.matches),
        };
        let kind = self.kind().unwrap_or(PolicyOrigin::Cluster);
        let generation = self.metadata().generation.unwrap_or_default();
        Policy::new_unusable(
            self.name(),
            kind,
            generation,
            convert_mode(mode),
            convert_matcher(matches).ok(),
            why,
        )
    }

    /// The names of the objects that it refers to.
    pub fn referenced_names(&self) -> PolicyReferenceNames {
        let authorities = self.authorities();
        let keys = authorities
            .iter()
            .filter_map(|authority| authority.key.as_ref()?.config_map_ref.as_ref());
        let roots = authorities
            .iter()
            .filter_map(|authority| Some(&authority.keyless.as_ref()?.trust_root_ref));
        let vouching = authorities
            .iter()
            .filter_map(|authority| authority.key.as_ref()?.trust_root_ref.as_ref());
        let certificates = || {
            authorities
                .iter()
                .filter_map(|authority| authority.certificate.as_ref())
        };
        let vouching = vouching
            .chain(certificates().filter_map(|certificate| certificate.trust_root_ref.as_ref()));
        let lists = certificates().filter_map(|certificate| certificate.crl_ref.as_ref());
        let kinds = certificates()
            .map(|certificate| &certificate.ca_ref)
            .chain(lists)
            .filter(|reference| reference.kind == ConfigObjectKind::ConfigMap);
        PolicyReferenceNames {
            config_maps: keys
                .map(|key| key.name.clone())
                .chain(kinds.map(|reference| reference.name.clone()))
                .collect(),
            trust_roots: roots
                .chain(vouching)
                .map(|root| root.name.clone())
                .collect(),
        }
    }

    /// The origin of the policy. Errors: a `BundlePolicy` without a namespace.
    pub fn kind(&self) -> Result<PolicyOrigin, PolicyError> {
        match self {
            Self::Cluster(_) => Ok(PolicyOrigin::Cluster),
            Self::Namespaced(policy) => {
                let namespace = policy
                    .metadata
                    .namespace
                    .clone()
                    .filter(|namespace| !namespace.is_empty());
                namespace.map(PolicyOrigin::Namespaced).ok_or_else(|| {
                    PolicyError::new(
                        "metadata.namespace",
                        "must be set: a BundlePolicy is for its own namespace",
                    )
                })
            }
        }
    }
}

/// The fields common to both kinds.
struct CommonPolicySpec<'a> {
    mode: PolicyModeSpec,
    matches: &'a PolicyMatchSpec,
    authorities: &'a [AuthoritySpec],
    threshold: i32,
    signature_formats: &'a [SignatureFormatSpec],
    require_digest: bool,
    bind_repository: bool,
    mirrors: &'a [MirrorSpec],
    transparency: TransparencySpec,
    slsa: Option<&'a SlsaSpec>,
    attestations: &'a [AttestationSpec],
    revocations: &'a [RevocationSpec],
}

/// No `..` here: a forgotten field would be an ignored rule.
macro_rules! common {
    ($spec:ident { $($more:ident),* }) => {
        impl<'a> From<&'a $spec> for CommonPolicySpec<'a> {
            fn from(spec: &'a $spec) -> Self {
                let $spec {
                    mode, matches, authorities, threshold, signature_formats, require_digest, bind_repository, mirrors, transparency, slsa,
                    attestations, revocations $(, $more: _)*
                } = spec;
                Self {
                    mode: *mode,
                    matches,
                    authorities,
                    threshold: *threshold,
                    signature_formats,
                    require_digest: *require_digest,
                    bind_repository: *bind_repository,
                    mirrors,
                    transparency: *transparency,
                    slsa: slsa.as_ref(),
                    attestations,
                    revocations,
                }
            }
        }
    };
}

common!(ClusterBundlePolicySpec { exemptions });
common!(BundlePolicySpec {});

/// Mirrors are checked even if `bindRepository` is not set.
fn convert_repository_binding(
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

fn convert_each<T, U>(
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

const fn convert_mode(mode: PolicyModeSpec) -> policy::EnforcementMode {
    match mode {
        PolicyModeSpec::Enforce => policy::EnforcementMode::Enforce,
        PolicyModeSpec::Warn => policy::EnforcementMode::Warn,
        PolicyModeSpec::Audit => policy::EnforcementMode::Audit,
    }
}

const fn convert_signature_format(format: SignatureFormatSpec) -> StoredSignatureFormat {
    match format {
        SignatureFormatSpec::Bundle => StoredSignatureFormat::Bundle,
        SignatureFormatSpec::Legacy => StoredSignatureFormat::Legacy,
        SignatureFormatSpec::LegacySetOnly => StoredSignatureFormat::LegacySetOnly,
    }
}

const fn convert_transparency(transparency: TransparencySpec) -> policy::TransparencyRequirement {
    match transparency {
        TransparencySpec::Optional => policy::TransparencyRequirement::Optional,
        TransparencySpec::Required => policy::TransparencyRequirement::Required,
    }
}

fn convert_matcher(matches: &PolicyMatchSpec) -> Result<PolicyMatcher, PolicyError> {
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

fn compile_authority(
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
    let certificates =
        resolve_config_map_data(ca_ref, CERTIFICATES, &format!("{field}.caRef"), sources)?;
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

fn convert_slsa_rules(slsa: &SlsaSpec) -> Result<policy::SlsaRules, PolicyError> {
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

fn convert_attestation_rule(
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

fn convert_revocation(
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

fn convert_exemption(
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
