//! Compiles the API's policy types into the rules that are evaluated. What cannot be honoured is
//! refused, with the field.

use super::{
    AttestationSpec, AuthoritySpec, BundlePolicySpec, ClusterBundlePolicySpec, ConfigObjectKind,
    MirrorSpec, PolicyMatchSpec, PolicyModeSpec, PolicyObject, PolicyReferenceNames,
    ResolvedPolicyReferences, RevocationSpec, SignatureFormatSpec, SlsaSpec, TransparencySpec,
    compile_authority::compile_authority,
    convert_rules::{
        convert_attestation_rule, convert_each, convert_exemption, convert_matcher, convert_mode,
        convert_repository_binding, convert_revocation, convert_signature_format,
        convert_slsa_rules, convert_transparency,
    },
};
use crate::core::{
    policy::{Policy, PolicyError, PolicyOrigin, PolicyRules},
    reason::ClassifiedError,
};

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
