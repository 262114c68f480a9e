//! `packgate verify`

mod inquiry;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::{ArgGroup, Args, ValueEnum};

use self::inquiry::Inquiry;
use super::{
    cluster::{self, InForce},
    context::Context,
    exit::CliError,
    lockfile::Input,
    output::Done,
    policies::Policies,
    registries::Registries,
    signer::kms_key,
    trust::RootArgs,
};
use crate::{
    core::{
        class::Reason,
        limits::Limits,
        lockfile::Lockfile,
        policy::{AdHoc, Authority, ClaimsRule, Means, NameMatch, Policy, Transparency, Use},
        reference::Location,
        report::Report,
        verify::{CertificateAuthority, Format, TrustRoot, VerificationKey},
    },
    oci::{Resolved, Source},
    service::{
        verdict,
        verify::{self, Question, Reading},
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
    reference: Location,
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
    root: RootArgs,
    /// Must signatures be in a transparency log that the trusted root knows? Keyless ones always
    /// must
    #[arg(long, value_enum, ignore_case = true, value_name = "Required|Optional", default_value_t = TransparencyArg::Optional, hide_possible_values = true)]
    transparency: TransparencyArg,
    /// Form of signatures that counts; can be given several times. Legacy: the .sig and .att tags
    /// of older cosign versions, LegacySetOnly: those that rest on a promise of a log without an
    /// inclusion proof. Default: Bundle only
    #[arg(
        long = "signature-format",
        value_enum,
        ignore_case = true,
        value_name = "Bundle|Legacy|LegacySetOnly",
        hide_possible_values = true
    )]
    formats: Vec<FormatArg>,
    /// Require provenance by this builder, signed by one of the above
    #[arg(long, value_name = "ID")]
    builder_id: Option<String>,
    /// Require that the bundle was packed from this lock
    #[arg(long, value_name = "LOCK")]
    lock: Option<PathBuf>,
    /// Policies, and the ConfigMaps they name, in one or more YAML files; - for stdin
    #[arg(long = "policy", value_name = "FILE", conflicts_with_all = ["signer", "builder_id", "lock", "formats"])]
    policies: Vec<PathBuf>,
    /// The policies of the cluster that kubectl speaks to, and its webhook's way to registries: the
    /// verdict that admission would give. Registries are shown what --registry-config says, and
    /// nothing else
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
pub(super) enum FormatArg {
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

pub(super) async fn run(args: VerifyArgs, context: &Context) -> Result<Done, CliError> {
    report_on(&args.trust, &args.reference, context).await
}

/// The report, as a verb's result.
pub(super) async fn report_on(
    trust: &TrustArgs,
    reference: &Location,
    context: &Context,
) -> Result<Done, CliError> {
    let report = trust.verify(reference, context).await?;
    let class = report.class();
    let json = serde_json::to_value(&report).map_err(|e| CliError::internal(e.to_string()))?;
    Ok(Done {
        text: report.to_text(),
        json,
        class,
    })
}

impl TrustArgs {
    /// What `--policy` and its like stand for.
    pub(super) fn policies_in(
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
            root: RootArgs::default(),
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

    /// Says the arguments whom to trust?
    pub(super) const fn is_given(&self) -> bool {
        self.cluster
            || !self.keys.is_empty()
            || self.certificate_identity.is_some()
            || self.certificate_identity_regexp.is_some()
            || !self.policies.is_empty()
    }

    /// What the arguments stand for. Errors: nothing to trust, a file that cannot mean what it
    /// says, a cluster that does not answer.
    async fn terms(&self, context: &Context) -> Result<Terms, CliError> {
        if self.cluster {
            let InForce {
                policies,
                registries,
                deadline,
            } = cluster::in_force(self.namespace.as_deref(), context.clock().now()).await?;
            return Ok(Terms {
                policies,
                admission: Some((registries, deadline)),
            });
        }
        Ok(Terms {
            policies: self.policies(context).await?,
            admission: None,
        })
    }

    async fn policies(&self, context: &Context) -> Result<Vec<Policy>, CliError> {
        if !self.policies.is_empty() {
            return Policies::read(&self.policies)?
                .compile(!self.root.offline, context)
                .await;
        }
        if !self.is_given() {
            return Err(CliError::invalid(
                "nothing says whom to trust: give --key FILE, --policy FILE or --cluster, or \
                    --certificate-identity with its issuer or its certificate authority",
            ));
        }
        let lock = self
            .lock
            .as_ref()
            .map(|path| Input::lock(path)?.parse())
            .transpose()?;
        let wish = AdHoc {
            authorities: self.authorities(context).await?,
            builder_id: self.builder_id.clone(),
            lock: lock.as_ref().map(|lock: &Lockfile| lock.canonical().digest),
            transparency: self.transparency.into(),
            ..AdHoc::default()
        };
        let formats: Vec<Format> = self.formats.iter().copied().map(Format::from).collect();
        let wish = if formats.is_empty() {
            wish
        } else {
            AdHoc { formats, ..wish }
        };
        Ok(vec![Policy::ad_hoc(wish)?])
    }

    async fn authorities(&self, context: &Context) -> Result<Vec<Authority>, CliError> {
        let own = self.certificate_authority()?;
        let root = self
            .root
            .load(self.identity_is_given() && own.is_none(), context)
            .await?;
        let mut authorities = Vec::new();
        for key in &self.keys {
            authorities.push(key_authority(key, root.clone()).await?);
        }
        let Some(subject) = self.subject()? else {
            return Ok(authorities);
        };
        let name = subject.text().to_owned();
        let means = match (own, &self.certificate_oidc_issuer, root) {
            (Some(authority), _, root) => Means::Certificate {
                subject,
                authority: Arc::new(authority),
                root,
            },
            (None, Some(issuer), Some(root)) => Means::Keyless {
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
        authorities.push(Authority { name, means });
        Ok(authorities)
    }

    fn certificate_authority(&self) -> Result<Option<CertificateAuthority>, CliError> {
        let Some(path) = &self.certificate_authority else {
            return Ok(None);
        };
        let certificates = Input::read(path, MAX_AUTHORITY, Reason::InvalidSpec)?;
        let lists = self
            .certificate_revocation_list
            .as_ref()
            .map(|path| Input::read(path, MAX_AUTHORITY, Reason::InvalidSpec))
            .transpose()?;
        let lists = lists.as_ref().map(|lists| lists.bytes.as_slice());
        let authority = CertificateAuthority::parse(&certificates.bytes, lists, &Limits::DEFAULT);
        authority
            .map(Some)
            .map_err(|error| certificates.blame(error.into()))
    }

    const fn identity_is_given(&self) -> bool {
        self.certificate_identity.is_some() || self.certificate_identity_regexp.is_some()
    }

    fn subject(&self) -> Result<Option<NameMatch>, CliError> {
        let wrong = |flag: &'static str| {
            move |problem: String| CliError::invalid(format!("{flag} {problem}"))
        };
        match (
            &self.certificate_identity,
            &self.certificate_identity_regexp,
        ) {
            (Some(exact), _) => NameMatch::exact(exact)
                .map(Some)
                .map_err(wrong("--certificate-identity")),
            (None, Some(regexp)) => NameMatch::regexp(regexp)
                .map(Some)
                .map_err(wrong("--certificate-identity-regexp")),
            (None, None) => Ok(None),
        }
    }

    /// Resolves a reference and judges what it names. Nothing is fetched for what no policy
    /// governs.
    async fn verify(&self, reference: &Location, context: &Context) -> Result<Report, CliError> {
        let Terms {
            policies,
            admission,
        } = self.terms(context).await?;
        let written = reference.to_string();
        let question = self.question(&written, reference, &policies, Reading::Needed, context);
        let mut inquiry = Inquiry::begin(self, reference, context);
        if !question.is_governed() {
            inquiry.asked.digest = reference.digest();
            return Ok(inquiry.ungoverned());
        }
        let (source, deadline): (Arc<dyn Source>, _) = match (&admission, reference) {
            (Some((registries, deadline)), Location::Registry(named)) => (
                Arc::new(registries.open(&named.repository, context.named_credentials()?)?),
                Some(*deadline),
            ),
            _ => (context.open(reference)?, None),
        };
        let answer = verdict::give(
            &source,
            &reference.selector(),
            &question,
            deadline,
            context.limits(),
        )
        .await;
        Ok(inquiry.answer(&answer))
    }

    /// Judges what was resolved already, for a verb that goes on only if it is admitted. Looks at
    /// every blob that is stored.
    pub(super) async fn judge(
        &self,
        source: &dyn Source,
        reference: &Location,
        root: &Resolved,
        context: &Context,
    ) -> Result<Report, CliError> {
        let Terms { policies, .. } = self.terms(context).await?;
        let written = reference.to_string();
        let question = self.question(&written, reference, &policies, Reading::EveryBlob, context);
        let mut inquiry = Inquiry::begin(self, reference, context);
        inquiry.asked.digest = Some(root.descriptor.digest);
        if !question.is_governed() {
            return Ok(inquiry.ungoverned());
        }
        let judged = verify::judge(source, root, &question, context.limits()).await;
        Ok(inquiry.judged(judged))
    }

    fn question<'a>(
        &'a self,
        written: &'a str,
        reference: &'a Location,
        policies: &'a [Policy],
        reading: Reading,
        context: &Context,
    ) -> Question<'a> {
        let repository = match reference {
            Location::Registry(reference) => Some(&reference.repository),
            Location::Layout(_) | Location::Archive(_) => None,
        };
        Question {
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

/// Whom to trust, and how the evidence is gathered if it is as at admission.
struct Terms {
    policies: Vec<Policy>,
    admission: Option<(Arc<Registries>, Duration)>,
}

async fn key_authority(path: &Path, root: Option<Arc<TrustRoot>>) -> Result<Authority, CliError> {
    let key = match kms_key(path).await? {
        Some(signer) => signer.key().clone(),
        None => read_key(path)?,
    };
    Ok(Authority {
        name: path.display().to_string(),
        means: Means::Key { key, root },
    })
}

fn read_key(path: &Path) -> Result<VerificationKey, CliError> {
    let input = Input::read(path, MAX_KEY, Reason::InvalidSpec)?;
    let pem = String::from_utf8_lossy(&input.bytes);
    VerificationKey::from_pem(&pem).map_err(|error| input.blame(error.into()))
}

impl From<TransparencyArg> for Transparency {
    fn from(arg: TransparencyArg) -> Self {
        match arg {
            TransparencyArg::Optional => Self::Optional,
            TransparencyArg::Required => Self::Required,
        }
    }
}

impl From<FormatArg> for Format {
    fn from(arg: FormatArg) -> Self {
        match arg {
            FormatArg::Bundle => Self::Bundle,
            FormatArg::Legacy => Self::Legacy,
            FormatArg::LegacySetOnly => Self::LegacySetOnly,
        }
    }
}

impl From<UseArg> for Use {
    fn from(arg: UseArg) -> Self {
        match arg {
            UseArg::PackedBundle => Self::PackedBundle,
            UseArg::ImageVolume => Self::ImageVolume,
            UseArg::Container => Self::Container,
        }
    }
}
