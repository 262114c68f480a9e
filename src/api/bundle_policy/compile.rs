//! From the fields that people write to the rules that are evaluated. What cannot be honoured is
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
    class::{Classified, Reason},
    digest::Digest,
    policy::{
        self, ClaimsRule, Kind, LockRule, MAX_MIRRORS, Matcher, Means, NameMatch, Pattern, Policy,
        PolicyError, RepositoryBinding, Revoked, Rules,
    },
    verify::{self, Format, TrustRoot, VerificationKey},
};

use super::{
    Attestation, Authority, Builder, BundlePolicySpec, Certificate, Claims,
    ClusterBundlePolicySpec, ConfigMapData, Exemption, IdentityMatch, Key, Keyless, KindRef,
    LockComparison, Match, Mirror, Mode, Parts, PolicyObject, Revocation, SignatureFormat, Slsa,
    SourceKind, Transparency, Usage, Use,
};

/// The key of a `ConfigMap` that holds a public key.
pub(super) const PUBLIC_KEY: &str = "cosign.pub";
/// The key of a `ConfigMap` that holds certificates.
pub(super) const CERTIFICATES: &str = "ca.crt";
/// The key of a `ConfigMap` that holds revocation lists.
pub(super) const REVOCATION_LISTS: &str = "ca.crl";

/// What a policy may refer to, already that of the namespace that its references are resolved in.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `ConfigMap`s, by name.
    pub config_maps: BTreeMap<String, ConfigMapData>,
    /// Trust roots, by the name of their `TrustRoot`.
    pub trust_roots: BTreeMap<String, Arc<TrustRoot>>,
    /// Why others cannot be used, by the same.
    pub lost_roots: BTreeMap<String, (Reason, String)>,
    /// What was parsed already.
    pub parts: Parts,
    /// What the policies of the same namespace take.
    pub usage: Usage,
}

/// The names of what a policy refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// `ConfigMap`s: of the system namespace, or of the `BundlePolicy`'s own.
    pub config_maps: BTreeSet<String>,
    /// `TrustRoot`s.
    pub trust_roots: BTreeSet<String>,
}

impl PolicyObject {
    /// The policy's name.
    pub fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    /// Compiles it.
    ///
    /// Errors: the first field that is wrong, not supported yet, or refers to something that is not
    /// in `sources`.
    pub fn compile(&self, sources: &Sources) -> Result<Policy, PolicyError> {
        if self.name().is_empty() {
            return Err(PolicyError::new("metadata.name", "must be set"));
        }
        let (spec, exemptions) = match self {
            Self::Cluster(policy) => (
                Common::from(&policy.spec),
                policy.spec.exemptions.as_slice(),
            ),
            Self::Namespaced(policy) => (Common::from(&policy.spec), [].as_slice()),
        };
        if spec.signature_formats.is_empty() {
            return Err(PolicyError::new(
                "spec.signatureFormats",
                "must name at least one",
            ));
        }
        let without_authorities = Rules {
            name: self.name().to_owned(),
            kind: self.kind()?,
            generation: self.metadata().generation.unwrap_or_default(),
            mode: mode(spec.mode),
            matcher: matcher(spec.matches)?,
            authorities: Vec::new(),
            threshold: usize::try_from(spec.threshold).unwrap_or_default(),
            formats: spec
                .signature_formats
                .iter()
                .map(|form| format(*form))
                .collect(),
            transparency: transparency(spec.transparency),
            require_digest: spec.require_digest,
            bind_repository: binding(spec.bind_repository, spec.mirrors)?,
            slsa: spec.slsa.map(slsa).transpose()?,
            attestations: each(spec.attestations, "spec.attestations", attestation)?,
            lock: None,
            revocations: each(spec.revocations, "spec.revocations", revocation)?,
            exemptions: each(exemptions, "spec.exemptions", exemption)?,
        };
        // Last, because what they name may not be there: every other fault is told first.
        let authorities = each(spec.authorities, "spec.authorities", |authority, at| {
            self::authority(authority, at, sources)
        })?;
        Policy::new(Rules {
            authorities,
            ..without_authorities
        })
    }

    /// Compiles it, or makes of it a policy that refuses all that it governs: a policy that is
    /// there is never left out.
    pub fn compile_or_refuse(&self, sources: &Sources) -> Policy {
        self.compile(sources)
            .unwrap_or_else(|error| self.unusable(error.to_string()).for_reason(error.reason()))
    }

    /// The policy while nobody knows what it says: it refuses all that it governs.
    pub fn unusable(&self, why: impl Into<String>) -> Policy {
        let (mode, matches) = match self {
            Self::Cluster(policy) => (policy.spec.mode, &policy.spec.matches),
            Self::Namespaced(policy) => (policy.spec.mode, &policy.spec.matches),
        };
        let kind = self.kind().unwrap_or(Kind::Cluster);
        let generation = self.metadata().generation.unwrap_or_default();
        Policy::unusable(
            self.name(),
            kind,
            generation,
            self::mode(mode),
            matcher(matches).ok(),
            why,
        )
    }

    /// What it refers to.
    pub fn needs(&self) -> Needs {
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
            .filter(|reference| reference.kind == SourceKind::ConfigMap);
        Needs {
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

    /// Whose it is. Errors: a `BundlePolicy` without a namespace.
    pub fn kind(&self) -> Result<Kind, PolicyError> {
        match self {
            Self::Cluster(_) => Ok(Kind::Cluster),
            Self::Namespaced(policy) => {
                let namespace = policy
                    .metadata
                    .namespace
                    .clone()
                    .filter(|namespace| !namespace.is_empty());
                namespace.map(Kind::Namespaced).ok_or_else(|| {
                    PolicyError::new(
                        "metadata.namespace",
                        "must be set: a BundlePolicy is for its own namespace",
                    )
                })
            }
        }
    }
}

/// The fields that both kinds have.
struct Common<'a> {
    mode: Mode,
    matches: &'a Match,
    authorities: &'a [Authority],
    threshold: i32,
    signature_formats: &'a [SignatureFormat],
    require_digest: bool,
    bind_repository: bool,
    mirrors: &'a [Mirror],
    transparency: Transparency,
    slsa: Option<&'a Slsa>,
    attestations: &'a [Attestation],
    revocations: &'a [Revocation],
}

/// No `..` here: a field that is forgotten is a rule that is ignored.
macro_rules! common {
    ($spec:ident { $($more:ident),* }) => {
        impl<'a> From<&'a $spec> for Common<'a> {
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

/// Mirrors are checked even where nothing is compared with them.
fn binding(bind: bool, mirrors: &[Mirror]) -> Result<Option<RepositoryBinding>, PolicyError> {
    if mirrors.len() > MAX_MIRRORS {
        return Err(PolicyError::new(
            "spec.mirrors",
            format!("has {} mirrors, the limit is {MAX_MIRRORS}", mirrors.len()),
        ));
    }
    let mirrors = each(mirrors, "spec.mirrors", |Mirror { from, to }, field| {
        policy::Mirror::new(from, to)
            .map_err(|error| PolicyError::new(format!("{field}.{}", error.field), error.problem))
    })?;
    Ok(bind.then_some(RepositoryBinding { mirrors }))
}

fn each<T, U>(
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

fn parse<T: FromStr<Err: std::fmt::Display>>(
    text: &str,
    field: impl Into<String>,
) -> Result<T, PolicyError> {
    text.parse()
        .map_err(|error: T::Err| PolicyError::new(field, error.to_string()))
}

const fn mode(mode: Mode) -> policy::Mode {
    match mode {
        Mode::Enforce => policy::Mode::Enforce,
        Mode::Warn => policy::Mode::Warn,
        Mode::Audit => policy::Mode::Audit,
    }
}

const fn format(format: SignatureFormat) -> Format {
    match format {
        SignatureFormat::Bundle => Format::Bundle,
        SignatureFormat::Legacy => Format::Legacy,
        SignatureFormat::LegacySetOnly => Format::LegacySetOnly,
    }
}

const fn transparency(transparency: Transparency) -> policy::Transparency {
    match transparency {
        Transparency::Optional => policy::Transparency::Optional,
        Transparency::Required => policy::Transparency::Required,
    }
}

fn matcher(matches: &Match) -> Result<Matcher, PolicyError> {
    let Match {
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
        return Err(PolicyError::unsupported("spec.match.namespaceSelector"));
    }
    let patterns = |texts: &[String], field: &str| {
        each(texts, field, |text, field| parse::<Pattern>(text, field))
    };
    let uses = uses.iter().map(|used_as| match used_as {
        Use::PackedBundle => policy::Use::PackedBundle,
        Use::ImageVolume => policy::Use::ImageVolume,
        Use::Container => policy::Use::Container,
    });
    Ok(Matcher::Names {
        references: patterns(references, "spec.match.references")?,
        except: patterns(except, "spec.match.except")?,
        uses: uses.collect(),
    })
}

fn authority(
    authority: &Authority,
    field: &str,
    sources: &Sources,
) -> Result<policy::Authority, PolicyError> {
    let Authority {
        name,
        key,
        keyless,
        certificate,
    } = authority;
    let means = match (key, keyless, certificate) {
        (Some(key), None, None) => self::key(key, &format!("{field}.key"), sources)?,
        (None, Some(keyless), None) => {
            self::keyless(keyless, &format!("{field}.keyless"), sources)?
        }
        (None, None, Some(certificate)) => {
            self::certificate(certificate, &format!("{field}.certificate"), sources)?
        }
        _ => {
            return Err(PolicyError::new(
                field,
                "must have exactly one of key, keyless and certificate",
            ));
        }
    };
    Ok(policy::Authority {
        name: name.clone(),
        means,
    })
}

fn key(key: &Key, field: &str, sources: &Sources) -> Result<Means, PolicyError> {
    let pem = match (&key.pem, &key.config_map_ref) {
        (Some(pem), None) => pem.as_str(),
        (None, Some(reference)) => {
            let map = sources.config_maps.get(&reference.name);
            let missing = || {
                PolicyError::missing(
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
        .map(|reference| trust_root(&reference.name, field, sources))
        .transpose()?;
    let key = VerificationKey::from_pem(pem)
        .map_err(|error| PolicyError::new(field, error.to_string()))?;
    sources.usage.count_part(
        key.fingerprint(),
        size_of::<VerificationKey>() + key.spki().len(),
    )?;
    Ok(Means::Key { key, root })
}

fn keyless(keyless: &Keyless, field: &str, sources: &Sources) -> Result<Means, PolicyError> {
    let Keyless {
        trust_root_ref,
        issuer,
        subject,
        claims,
    } = keyless;
    Ok(Means::Keyless {
        subject: name_match(subject, &format!("{field}.subject"), sources)?,
        issuer: issuer.clone(),
        claims: claims.as_ref().map(claims_rule).unwrap_or_default(),
        root: trust_root(&trust_root_ref.name, field, sources)?,
    })
}

fn certificate(
    certificate: &Certificate,
    field: &str,
    sources: &Sources,
) -> Result<Means, PolicyError> {
    let Certificate {
        ca_ref,
        crl_ref,
        subject,
        trust_root_ref,
    } = certificate;
    let subject = name_match(subject, &format!("{field}.subject"), sources)?;
    let certificates = public_data(ca_ref, CERTIFICATES, &format!("{field}.caRef"), sources)?;
    let lists = crl_ref
        .as_ref()
        .map(|lists| public_data(lists, REVOCATION_LISTS, &format!("{field}.crlRef"), sources))
        .transpose()?;
    Ok(Means::Certificate {
        subject,
        authority: sources
            .parts
            .authority(certificates, lists, field, &sources.usage)?,
        root: trust_root_ref
            .as_ref()
            .map(|reference| trust_root(&reference.name, field, sources))
            .transpose()?,
    })
}

/// What lies in a `ConfigMap`. Nobody who judges images may read Secrets for it.
fn public_data<'a>(
    reference: &KindRef,
    key: &str,
    field: &str,
    sources: &'a Sources,
) -> Result<&'a str, PolicyError> {
    let name = &reference.name;
    if reference.kind == SourceKind::Secret {
        let problem = format!(
            "must be of kind ConfigMap: certificates and revocation lists are public, and the \
                webhook reads no Secrets; put {key} into a ConfigMap {name}"
        );
        return Err(PolicyError::new(format!("{field}.kind"), problem));
    }
    let missing = || {
        PolicyError::missing(
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

fn trust_root(name: &str, field: &str, sources: &Sources) -> Result<Arc<TrustRoot>, PolicyError> {
    let field = format!("{field}.trustRootRef");
    let missing = || match sources.lost_roots.get(name) {
        Some((reason, why)) => {
            PolicyError::missing(&field, format!("TrustRoot {name}: {why}")).for_reason(*reason)
        }
        None => PolicyError::missing(&field, format!("there is no TrustRoot {name}")),
    };
    sources.trust_roots.get(name).cloned().ok_or_else(missing)
}

fn name_match(
    subject: &IdentityMatch,
    field: &str,
    sources: &Sources,
) -> Result<NameMatch, PolicyError> {
    let failed = |way: &'static str| {
        move |problem: String| PolicyError::new(format!("{field}.{way}"), problem)
    };
    match (&subject.exact, &subject.prefix, &subject.regexp) {
        (Some(exact), None, None) => NameMatch::exact(exact).map_err(failed("exact")),
        (None, Some(prefix), None) => NameMatch::prefix(prefix).map_err(failed("prefix")),
        (None, None, Some(regexp)) => {
            sources
                .parts
                .expression(regexp, &format!("{field}.regexp"), &sources.usage)
        }
        _ => Err(PolicyError::new(
            field,
            "must have exactly one of exact, prefix and regexp",
        )),
    }
}

fn claims_rule(claims: &Claims) -> ClaimsRule {
    let Claims {
        source_repository,
        reference,
        workflow,
        trigger,
        runner,
    } = claims.clone();
    ClaimsRule(verify::Claims {
        source_repository,
        source_ref: reference,
        workflow,
        trigger,
        runner,
    })
}

fn slsa(slsa: &Slsa) -> Result<policy::SlsaRules, PolicyError> {
    let Slsa {
        minimum_level,
        builders,
        sources,
        max_age,
        lock,
    } = slsa;
    Ok(policy::SlsaRules {
        minimum_level: level(*minimum_level, "spec.slsa.minimumLevel")?,
        builders: each(builders, "spec.slsa.builders", builder)?,
        sources: sources.clone(),
        max_age: max_age.as_deref().map(duration).transpose()?,
        lock: lock.map_or(LockRule::Unchecked, |LockComparison::Exact| LockRule::Exact),
    })
}

fn builder(builder: &Builder, field: &str) -> Result<policy::BuilderRule, PolicyError> {
    let Builder {
        id,
        authority,
        level,
    } = builder;
    Ok(policy::BuilderRule {
        id: id.clone(),
        authority: authority.clone(),
        level: self::level(*level, &format!("{field}.level"))?,
    })
}

fn level(level: i32, field: &str) -> Result<u8, PolicyError> {
    u8::try_from(level).map_err(|_| PolicyError::new(field, "must be 0 to 3"))
}

fn duration(text: &str) -> Result<Duration, PolicyError> {
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

fn attestation(
    attestation: &Attestation,
    field: &str,
) -> Result<policy::AttestationRule, PolicyError> {
    let Attestation {
        predicate_type,
        authority,
        cel,
    } = attestation;
    if cel.is_some() {
        return Err(PolicyError::unsupported(format!("{field}.cel")));
    }
    Ok(policy::AttestationRule {
        predicate_type: predicate_type.clone(),
        authority: authority.clone(),
    })
}

fn revocation(revocation: &Revocation, field: &str) -> Result<policy::Revocation, PolicyError> {
    let Revocation {
        digest,
        key_hash,
        builder,
        reason,
        since,
    } = revocation;
    let what = match (digest, key_hash, builder) {
        (Some(digest), None, None) => {
            Revoked::Digest(parse::<Digest>(digest, format!("{field}.digest"))?)
        }
        (None, Some(hash), None) => {
            Revoked::Key(parse::<Digest>(hash, format!("{field}.keyHash"))?)
        }
        (None, None, Some(builder)) => Revoked::Builder(builder.clone()),
        _ => {
            return Err(PolicyError::new(
                field,
                "must have exactly one of digest, keyHash and builder",
            ));
        }
    };
    let since = since
        .as_ref()
        .map(|since| parse::<Timestamp>(since, format!("{field}.since")))
        .transpose()?;
    Ok(policy::Revocation {
        what,
        reason: reason.clone(),
        since,
    })
}

fn exemption(exemption: &Exemption, field: &str) -> Result<policy::Exemption, PolicyError> {
    let Exemption {
        digest,
        reason,
        expires,
    } = exemption;
    Ok(policy::Exemption {
        digest: parse(digest, format!("{field}.digest"))?,
        reason: reason.clone(),
        expires: parse(expires, format!("{field}.expires"))?,
    })
}
