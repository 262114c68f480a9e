//! `packgate verify`

mod report_builder;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::{ArgGroup, Args, ValueEnum};

use self::report_builder::VerificationReportBuilder;
use super::{
    cluster::{self, ClusterAdmissionSettings},
    context::CliContext,
    exit::CliError,
    input_file::InputFile,
    output::CommandResult,
    policy_files::PolicyFiles,
    registry_clients::RegistryClients,
    signer::load_kms_signer,
    trust_root::TrustRootArgs,
};
use crate::{
    core::{
        limits::InputLimits,
        lockfile::Lockfile,
        policy::{
            AdHocPolicyOptions, AuthorityKind, ClaimsRule, Clearance, Policy, PolicyAuthority,
            ReferenceUse, SubjectMatcher, TransparencyRequirement,
        },
        reason::Reason,
        reference::BundleLocation,
        report::AdmissionReport,
        verify::{CertificateAuthority, StoredSignatureFormat, TrustRoot, VerificationKey},
    },
    oci::{ContentSource, ResolvedManifest},
    service::{
        verdict,
        verify::{self, EvidenceDepth, VerificationRequest},
    },
};

const EXAMPLES: &str = "Examples:
  packgate verify oci:out:v1 --key packgate.pub
  packgate verify registry.example.com/team-a/siem@sha256:… --key packgate.pub --builder-id \
  https://packgate.dev/builder/cli
  packgate verify registry.example.com/team-a/siem@sha256:… --certificate-authority corp-ca.pem \
  --certificate-identity spiffe://corp.example.com/release
  packgate verify registry.example.com/team-a/siem:v1.4.0 --policy policy.yaml --use ImageVolume \
  --namespace team-a
  packgate verify registry.example.com/team-a/siem@sha256:… --use ImageVolume --namespace team-a \
  --cluster

Exit code 0: admitted. 1: denied, or governed by no policy. 3: a registry did not answer. 4: bytes \
contradict a digest.";

/// The size of a public key file that is read.
const MAX_KEY: usize = 64 << 10;
/// The size of a file with certificates or revocation lists that is read.
const MAX_AUTHORITY: usize = 4 << 20;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct VerifyArgs {
    /// The bundle or image
    reference: BundleLocation,
    #[command(flatten)]
    trust: TrustArgs,
}

/// Whom to trust, and for what.
#[derive(Debug, Args)]
#[command(next_help_heading = "Trust")]
#[command(group = ArgGroup::new("identity").args(["certificate_identity", "certificate_identity_regexp"]))]
#[command(group = ArgGroup::new("signer").args(["keys", "certificate_identity", "certificate_identity_regexp"]).multiple(true))]
#[command(group = ArgGroup::new("issuer").args(["certificate_oidc_issuer", "certificate_authority"]))]
pub(super) struct TrustArgs {
    /// Public key that may have signed, in PEM, or NAME://KEY to ask the plug-in sigstore-kms-NAME
    /// for it; can be given several times, one signature is enough
    #[arg(long = "key", value_name = "PEM|NAME://KEY")]
    keys: Vec<PathBuf>,
    /// Identity in the certificate that may have signed, exactly as it stands there
    #[arg(long, value_name = "IDENTITY", requires = "issuer")]
    certificate_identity: Option<String>,
    /// The same as a regular expression for the whole identity; it is always anchored
    #[arg(
        long,
        value_name = "REGEXP",
        requires = "issuer",
        conflicts_with = "certificate_identity"
    )]
    certificate_identity_regexp: Option<String>,
    /// Issuer of that identity, for certificates of Fulcio
    #[arg(long, value_name = "URL", requires = "identity")]
    certificate_oidc_issuer: Option<String>,
    /// Certificates of a company's own authority, roots and intermediates in PEM, that the
    /// certificate must chain to
    #[arg(long, value_name = "FILE", requires = "identity")]
    certificate_authority: Option<PathBuf>,
    /// That authority's revocation lists, in PEM, or one in DER. With them every certificate of the
    /// chain needs a fresh list of its issuer
    #[arg(long, value_name = "FILE", requires = "certificate_authority")]
    certificate_revocation_list: Option<PathBuf>,
    #[command(flatten)]
    root: TrustRootArgs,
    /// Must signatures be in a transparency log that the trusted root knows? Keyless ones always
    /// must
    #[arg(long, value_enum, ignore_case = true, value_name = "Required|Optional", default_value_t = TransparencyArg::Optional, hide_possible_values = true)]
    transparency: TransparencyArg,
    /// Signature format to accept; can be given several times. Legacy: the tag-based .sig and .att signatures
    /// of older cosign versions, LegacySetOnly: those with a signed entry timestamp (SET) of a log but no
    /// inclusion proof. Default: Bundle only
    #[arg(
        long = "signature-format",
        value_enum,
        ignore_case = true,
        value_name = "Bundle|Legacy|LegacySetOnly",
        hide_possible_values = true
    )]
    formats: Vec<AcceptedSignatureFormatArg>,
    /// Require provenance by this builder, signed by one of the above
    #[arg(long, value_name = "ID")]
    builder_id: Option<String>,
    /// Require that the bundle was packed from this lock
    #[arg(long, value_name = "LOCK")]
    lock: Option<PathBuf>,
    /// Policies, and the ConfigMaps they name, in one or more YAML files; - for stdin
    #[arg(long = "policy", value_name = "FILE", conflicts_with_all = ["signer", "builder_id", "lock", "formats"])]
    policies: Vec<PathBuf>,
    /// Use the policies of the current kubeconfig's cluster, and its webhook's registry settings: the
    /// verdict that admission would give. Registry credentials come from --registry-config and
    /// nowhere else
    #[arg(long, conflicts_with_all = ["signer", "builder_id", "lock", "formats", "policies"])]
    cluster: bool,
    /// What the bundle is used as, for policies
    #[arg(long = "use", value_enum, ignore_case = true, default_value_t = UseArg::PackedBundle)]
    used_as: UseArg,
    /// The namespace that it is used in, for policies
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,
}

/// Whether a log is asked for, as it is written on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum TransparencyArg {
    #[value(name = "Optional")]
    Optional,
    #[value(name = "Required")]
    Required,
}

/// A form of signatures, as it is written on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum AcceptedSignatureFormatArg {
    #[value(name = "Bundle")]
    Bundle,
    #[value(name = "Legacy")]
    Legacy,
    #[value(name = "LegacySetOnly")]
    LegacySetOnly,
}

/// A use, as it is written on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum UseArg {
    #[value(name = "PackedBundle")]
    PackedBundle,
    #[value(name = "ImageVolume")]
    ImageVolume,
    #[value(name = "Container")]
    Container,
}

pub(super) async fn run_verify(
    args: VerifyArgs,
    context: &CliContext,
) -> Result<CommandResult, CliError> {
    verify_and_report(&args.trust, &args.reference, context).await
}

/// The report, as a subcommand's result.
pub(super) async fn verify_and_report(
    trust: &TrustArgs,
    reference: &BundleLocation,
    context: &CliContext,
) -> Result<CommandResult, CliError> {
    let report = trust.verify_reference(reference, context).await?;
    let class = report.class();
    let json = serde_json::to_value(&report).map_err(|e| CliError::internal(e.to_string()))?;
    Ok(CommandResult {
        text: report.to_text(),
        json,
        class,
    })
}

impl TrustArgs {
    /// The terms from `--policy` and similar options.
    pub(super) fn from_policy_files(
        files: Vec<PathBuf>,
        used_as: UseArg,
        namespace: Option<String>,
    ) -> Self {
        Self {
            keys: Vec::new(),
            certificate_identity: None,
            certificate_identity_regexp: None,
            certificate_oidc_issuer: None,
            certificate_authority: None,
            certificate_revocation_list: None,
            root: TrustRootArgs::default(),
            transparency: TransparencyArg::Optional,
            formats: Vec::new(),
            builder_id: None,
            lock: None,
            policies: files,
            cluster: false,
            used_as,
            namespace,
        }
    }

    /// True if the arguments name an authority or a policy.
    pub(super) const fn is_given(&self) -> bool {
        self.cluster
            || !self.keys.is_empty()
            || self.certificate_identity.is_some()
            || self.certificate_identity_regexp.is_some()
            || !self.policies.is_empty()
    }

    /// The terms from the arguments. Errors: no authority, an invalid file, a cluster that is
    /// unavailable.
    async fn load_terms(&self, context: &CliContext) -> Result<VerificationTerms, CliError> {
        if self.cluster {
            let ClusterAdmissionSettings {
                policies,
                registries,
                deadline,
            } = cluster::load_admission_settings(self.namespace.as_deref(), context.clock().now())
                .await?;
            return Ok(VerificationTerms {
                policies,
                admission: Some((registries, deadline)),
            });
        }
        Ok(VerificationTerms {
            policies: self.load_policies(context).await?,
            admission: None,
        })
    }

    async fn load_policies(&self, context: &CliContext) -> Result<Vec<Policy>, CliError> {
        if !self.policies.is_empty() {
            return PolicyFiles::read_files(&self.policies)?
                .compile_policies(!self.root.offline, context)
                .await;
        }
        if !self.is_given() {
            return Err(CliError::invalid(
                "no trusted key, identity or policy is given: give --key FILE, --policy FILE or --cluster, or \
                    --certificate-identity with its issuer or its certificate authority",
            ));
        }
        let lock = self
            .lock
            .as_ref()
            .map(|path| InputFile::read_lockfile(path)?.parse_lockfile())
            .transpose()?;
        let wish = AdHocPolicyOptions {
            authorities: self.load_authorities(context).await?,
            builder_id: self.builder_id.clone(),
            lock: lock
                .as_ref()
                .map(|lock: &Lockfile| lock.to_canonical().digest),
            transparency: self.transparency.into(),
            ..AdHocPolicyOptions::default()
        };
        let formats: Vec<StoredSignatureFormat> = self
            .formats
            .iter()
            .copied()
            .map(StoredSignatureFormat::from)
            .collect();
        let wish = if formats.is_empty() {
            wish
        } else {
            AdHocPolicyOptions { formats, ..wish }
        };
        Ok(vec![Policy::ad_hoc(wish)?])
    }

    async fn load_authorities(
        &self,
        context: &CliContext,
    ) -> Result<Vec<PolicyAuthority>, CliError> {
        let own = self.load_certificate_authority()?;
        let root = self
            .root
            .load_trust_root(self.identity_is_given() && own.is_none(), context)
            .await?;
        let mut authorities = Vec::new();
        for key in &self.keys {
            authorities.push(key_authority(key, root.clone()).await?);
        }
        let Some(subject) = self.identity_match()? else {
            return Ok(authorities);
        };
        let name = subject.as_str().to_owned();
        let kind = match (own, &self.certificate_oidc_issuer, root) {
            (Some(authority), _, root) => AuthorityKind::Certificate {
                subject,
                authority: Arc::new(authority),
                root,
            },
            (None, Some(issuer), Some(root)) => AuthorityKind::Keyless {
                subject,
                issuer: issuer.clone(),
                claims: ClaimsRule::default(),
                root,
            },
            _ => {
                return Err(CliError::invalid(
                    "--certificate-identity needs --certificate-oidc-issuer, or \
                        --certificate-authority",
                ));
            }
        };
        authorities.push(PolicyAuthority { name, kind });
        Ok(authorities)
    }

    fn load_certificate_authority(&self) -> Result<Option<CertificateAuthority>, CliError> {
        let Some(path) = &self.certificate_authority else {
            return Ok(None);
        };
        let certificates = InputFile::read_limited(path, MAX_AUTHORITY, Reason::InvalidSpec)?;
        let lists = self
            .certificate_revocation_list
            .as_ref()
            .map(|path| InputFile::read_limited(path, MAX_AUTHORITY, Reason::InvalidSpec))
            .transpose()?;
        let lists = lists.as_ref().map(|lists| lists.bytes.as_slice());
        let authority =
            CertificateAuthority::parse(&certificates.bytes, lists, &InputLimits::DEFAULT);
        authority
            .map(Some)
            .map_err(|error| certificates.prefix_file_name(error.into()))
    }

    const fn identity_is_given(&self) -> bool {
        self.certificate_identity.is_some() || self.certificate_identity_regexp.is_some()
    }

    fn identity_match(&self) -> Result<Option<SubjectMatcher>, CliError> {
        let wrong = |flag: &'static str| {
            move |problem: String| CliError::invalid(format!("{flag} {problem}"))
        };
        match (
            &self.certificate_identity,
            &self.certificate_identity_regexp,
        ) {
            (Some(exact), _) => SubjectMatcher::exact(exact)
                .map(Some)
                .map_err(wrong("--certificate-identity")),
            (None, Some(regexp)) => SubjectMatcher::regexp(regexp)
                .map(Some)
                .map_err(wrong("--certificate-identity-regexp")),
            (None, None) => Ok(None),
        }
    }

    /// Resolves a reference and evaluates the result. Without a governing policy nothing is
    /// fetched.
    async fn verify_reference(
        &self,
        reference: &BundleLocation,
        context: &CliContext,
    ) -> Result<AdmissionReport, CliError> {
        let VerificationTerms {
            policies,
            admission,
        } = self.load_terms(context).await?;
        let written = reference.to_string();
        let request = self.verification_request(
            &written,
            reference,
            &policies,
            EvidenceDepth::Needed,
            context,
        );
        let mut inquiry = VerificationReportBuilder::begin_report(self, reference, context);
        if !request.is_governed() {
            inquiry.inputs.digest = reference.digest();
            return Ok(inquiry.report_ungoverned(&request));
        }
        let (source, deadline): (Arc<dyn ContentSource>, _) = match (&admission, reference) {
            (Some((registries, deadline)), BundleLocation::Registry(named)) => (
                Arc::new(
                    registries.open_target(&named.repository, context.explicit_credentials()?)?,
                ),
                Some(*deadline),
            ),
            _ => (context.open_target(reference)?, None),
        };
        let answer = verdict::evaluate_reference(
            &source,
            &reference.tag_or_digest(),
            &request,
            deadline,
            context.limits(),
        )
        .await;
        Ok(inquiry.report_verdict(&answer))
    }

    /// Evaluates a resolved bundle, for a subcommand that continues only with a clearance. Without
    /// one the report says why. Reads every stored blob.
    pub(super) async fn evaluate_resolved(
        &self,
        source: &dyn ContentSource,
        reference: &BundleLocation,
        root: &ResolvedManifest,
        context: &CliContext,
    ) -> Result<Result<Clearance, AdmissionReport>, CliError> {
        let VerificationTerms { policies, .. } = self.load_terms(context).await?;
        let written = reference.to_string();
        let request = self.verification_request(
            &written,
            reference,
            &policies,
            EvidenceDepth::EveryBlob,
            context,
        );
        let mut inquiry = VerificationReportBuilder::begin_report(self, reference, context);
        inquiry.inputs.digest = Some(root.descriptor.digest);
        if !request.is_governed() {
            return Ok(Err(inquiry.report_ungoverned(&request)));
        }
        let evaluated = verify::evaluate_bundle(source, root, &request, context.limits()).await;
        Ok(match evaluated {
            Ok(evaluation) => evaluation
                .decision
                .clearance(&root.descriptor.digest)
                .ok_or_else(|| inquiry.report_evaluation(&evaluation)),
            Err(error) => Err(inquiry.report_error(&error)),
        })
    }

    fn verification_request<'a>(
        &'a self,
        written: &'a str,
        reference: &'a BundleLocation,
        policies: &'a [Policy],
        reading: EvidenceDepth,
        context: &CliContext,
    ) -> VerificationRequest<'a> {
        let repository = match reference {
            BundleLocation::Registry(reference) => Some(&reference.repository),
            BundleLocation::Layout(_) | BundleLocation::Archive(_) => None,
        };
        VerificationRequest {
            policies,
            reference: written,
            repository,
            had_digest: reference.digest().is_some(),
            used_as: self.used_as.into(),
            namespace: self.namespace.as_deref(),
            now: context.clock().now(),
            reading,
        }
    }
}

/// The policies, and the settings of reading evidence as at admission.
struct VerificationTerms {
    policies: Vec<Policy>,
    admission: Option<(Arc<RegistryClients>, Duration)>,
}

async fn key_authority(
    path: &Path,
    root: Option<Arc<TrustRoot>>,
) -> Result<PolicyAuthority, CliError> {
    let key = match load_kms_signer(path).await? {
        Some(signer) => signer.key().clone(),
        None => read_key(path)?,
    };
    Ok(PolicyAuthority {
        name: path.display().to_string(),
        kind: AuthorityKind::Key { key, root },
    })
}

fn read_key(path: &Path) -> Result<VerificationKey, CliError> {
    let input = InputFile::read_limited(path, MAX_KEY, Reason::InvalidSpec)?;
    let pem = String::from_utf8_lossy(&input.bytes);
    VerificationKey::from_pem(&pem).map_err(|error| input.prefix_file_name(error.into()))
}

impl From<TransparencyArg> for TransparencyRequirement {
    fn from(arg: TransparencyArg) -> Self {
        match arg {
            TransparencyArg::Optional => Self::Optional,
            TransparencyArg::Required => Self::Required,
        }
    }
}

impl From<AcceptedSignatureFormatArg> for StoredSignatureFormat {
    fn from(arg: AcceptedSignatureFormatArg) -> Self {
        match arg {
            AcceptedSignatureFormatArg::Bundle => Self::Bundle,
            AcceptedSignatureFormatArg::Legacy => Self::Legacy,
            AcceptedSignatureFormatArg::LegacySetOnly => Self::LegacySetOnly,
        }
    }
}

impl From<UseArg> for ReferenceUse {
    fn from(arg: UseArg) -> Self {
        match arg {
            UseArg::PackedBundle => Self::PackedBundle,
            UseArg::ImageVolume => Self::ImageVolume,
            UseArg::Container => Self::Container,
        }
    }
}
