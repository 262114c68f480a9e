//! Whom a subcommand trusts and for what, as written on the command line.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};

use crate::{
    cli::trust_root::TrustRootArgs,
    core::{
        policy::{ReferenceUse, TransparencyRequirement},
        pull_secret_names::PullSecretNames,
        reference::ImageRepository,
        verify::StoredSignatureFormat,
    },
};

/// Whom to trust, and for what.
#[derive(Debug, Args)]
#[command(next_help_heading = "Trust")]
#[command(group = ArgGroup::new("identity").args(["certificate_identity", "certificate_identity_regexp"]))]
#[command(group = ArgGroup::new("signer").args(["keys", "certificate_identity", "certificate_identity_regexp"]).multiple(true))]
#[command(group = ArgGroup::new("issuer").args(["certificate_oidc_issuer", "certificate_authority"]))]
pub(crate) struct TrustArgs {
    /// Public key that may have signed, in PEM, or NAME://KEY to ask the plug-in sigstore-kms-NAME
    /// for it; can be given several times, one signature is enough
    #[arg(long = "key", value_name = "PEM|NAME://KEY")]
    pub(super) keys: Vec<PathBuf>,
    /// Identity in the certificate that may have signed, exactly as it stands there
    #[arg(long, value_name = "IDENTITY", requires = "issuer")]
    pub(super) certificate_identity: Option<String>,
    /// The same as a regular expression for the whole identity; it is always anchored
    #[arg(
        long,
        value_name = "REGEXP",
        requires = "issuer",
        conflicts_with = "certificate_identity"
    )]
    pub(super) certificate_identity_regexp: Option<String>,
    /// Issuer of that identity, for certificates of Fulcio
    #[arg(long, value_name = "URL", requires = "identity")]
    pub(super) certificate_oidc_issuer: Option<String>,
    /// Certificates of a company's own authority, roots and intermediates in PEM, that the
    /// certificate must chain to
    #[arg(long, value_name = "FILE", requires = "identity")]
    pub(super) certificate_authority: Option<PathBuf>,
    /// That authority's revocation lists, in PEM, or one in DER. With them every certificate of the
    /// chain needs a fresh list of its issuer
    #[arg(long, value_name = "FILE", requires = "certificate_authority")]
    pub(super) certificate_revocation_list: Option<PathBuf>,
    #[command(flatten)]
    pub(super) root: TrustRootArgs,
    /// Must signatures be in a transparency log that the trusted root knows? Keyless ones always
    /// must
    #[arg(long, value_enum, ignore_case = true, value_name = "Required|Optional", default_value_t = TransparencyArg::Optional, hide_possible_values = true)]
    pub(super) transparency: TransparencyArg,
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
    pub(super) formats: Vec<AcceptedSignatureFormatArg>,
    /// Repository with the signatures and attestations, if they are not beside the bundle
    #[arg(
        long,
        value_name = "REPOSITORY",
        env = "PACKGATE_SIGNATURE_REPOSITORY",
        conflicts_with = "cluster"
    )]
    pub(super) signature_repository: Option<ImageRepository>,
    /// Require provenance by this builder, signed by one of the above
    #[arg(long, value_name = "ID")]
    pub(super) builder_id: Option<String>,
    /// Require that the bundle was packed from this lock
    #[arg(long, value_name = "LOCK")]
    pub(super) lock: Option<PathBuf>,
    /// Policies, and the ConfigMaps they name, in one or more YAML files; - for stdin
    #[arg(long = "policy", value_name = "FILE", conflicts_with_all = ["signer", "builder_id", "lock", "formats"])]
    pub(super) policies: Vec<PathBuf>,
    /// Use the policies of the current kubeconfig's cluster, and its webhook's registry settings: the
    /// verdict that admission would give. verify reads with the credentials that admission has, as
    /// far as you may read them, then with those of --registry-config, and none of your home folder
    #[arg(long, conflicts_with_all = ["signer", "builder_id", "lock", "formats", "policies"])]
    pub(super) cluster: bool,
    /// What the bundle is used as, for policies
    #[arg(long = "use", value_enum, ignore_case = true, default_value_t = UseArg::PackedBundle)]
    pub(super) used_as: UseArg,
    /// The namespace that it is used in, for policies
    #[arg(long, value_name = "NAMESPACE")]
    pub(super) namespace: Option<String>,
    /// The Secrets that the image is pulled with, of the commands that read as admission does.
    #[arg(skip)]
    pub(super) pull_secrets: PullSecretNames,
}

/// Whether a log is asked for, as it is written on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TransparencyArg {
    #[value(name = "Optional")]
    Optional,
    #[value(name = "Required")]
    Required,
}

/// A form of signatures, as it is written on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AcceptedSignatureFormatArg {
    #[value(name = "Bundle")]
    Bundle,
    #[value(name = "Legacy")]
    Legacy,
    #[value(name = "LegacySetOnly")]
    LegacySetOnly,
}

/// A use, as it is written on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum UseArg {
    #[value(name = "PackedBundle")]
    PackedBundle,
    #[value(name = "ImageVolume")]
    ImageVolume,
    #[value(name = "Container")]
    Container,
}

impl TrustArgs {
    /// The terms from `--policy` and similar options.
    pub(crate) fn from_policy_files(
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
            signature_repository: None,
            builder_id: None,
            lock: None,
            policies: files,
            cluster: false,
            used_as,
            namespace,
            pull_secrets: PullSecretNames::default(),
        }
    }

    /// True if the arguments name an authority or a policy.
    pub(crate) const fn is_given(&self) -> bool {
        self.cluster
            || !self.keys.is_empty()
            || self.certificate_identity.is_some()
            || self.certificate_identity_regexp.is_some()
            || !self.policies.is_empty()
    }
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
