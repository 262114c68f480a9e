//! The validated form of a [`PackedBundle`]. The webhook and the controller both use it, so nothing
//! is accepted that cannot be acted on.

use std::{str::FromStr, time::Duration};

use crate::{
    api::duration,
    core::{
        digest::Digest,
        lockfile::{Lockfile, LockfileError},
        pack,
        reason::{ClassifiedError, Reason},
        reference::{ImageReference, ImageRepository, ImageTag, PinnedReference},
        sbom,
    },
};

use super::{
    BundleSourceSpec, CompressionSpec, ConfigObjectRef, DestinationSpec, EvidenceSpec, FetchSpec,
    HistoryLimitsSpec, OutputFormatSpec, OutputSpec, PackPodSpec, PackedBundle, PackedBundleSpec,
    SbomFormatSpec, SigningModeSpec, SigningSpec, TagPolicySpec,
};

const MIN_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_TIMEOUT: Duration = Duration::from_hours(24);
const MIN_INTERVAL: Duration = Duration::from_secs(10);
const MAX_NAME: usize = 63;

/// A `PackedBundle` that is valid.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedPackedBundle {
    /// True if no work may be done.
    pub suspend: bool,
    /// The interval of verification; `None`: never again.
    pub interval: Option<Duration>,
    /// The work to do.
    pub work: PackedBundleWork,
}

/// The work to do.
#[derive(Clone, Debug, PartialEq)]
pub enum PackedBundleWork {
    /// Pack a lock.
    Pack(Box<PackingRequest>),
    /// Verify an existing bundle.
    Adopt(BundleAdoption),
}

/// An existing bundle to verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleAdoption {
    /// Its repository and digest.
    pub reference: PinnedReference,
    /// The name of the Secret to pull it with.
    pub secret: Option<String>,
}

/// How a lock is packed.
#[derive(Clone, Debug, PartialEq)]
pub struct PackingRequest {
    /// The source of the lock.
    pub source: LockSource,
    /// The destination repository.
    pub repository: ImageRepository,
    /// The requested tag; the default is derived from the lock.
    pub tag: Option<ImageTag>,
    /// Whether the tag may be moved.
    pub tag_policy: TagPolicySpec,
    /// The name of the Secret to push with.
    pub push_secret: Option<String>,
    /// The format and layout of the bundle.
    pub output: pack::PackOptions,
    /// Who signs.
    pub signing: SigningParty,
    /// The format of the SBOM to attest, if any.
    pub sbom: Option<sbom::SbomFormat>,
    /// CA certificates for downloads.
    pub fetch_ca: Option<ConfigObjectRef>,
    /// The timeout of each Job.
    pub timeout: Duration,
    /// How many finished runs are kept.
    pub history_limits: HistoryLimits,
    /// The settings of the pack Job's Pod.
    pub pod: PackPodSpec,
}

/// The source of a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockSource {
    /// The text in the object.
    Inline(String),
    /// A `ConfigMap` of the object's namespace.
    ConfigMap {
        /// The name of the `ConfigMap`.
        name: String,
        /// The key in it.
        key: String,
    },
    /// A file in a context artifact.
    Context {
        /// The repository and digest of the artifact.
        reference: PinnedReference,
        /// The path of the lock in it.
        path: String,
        /// The name of the Secret to pull it with.
        secret: Option<String>,
        /// Whether policies must admit the artifact.
        verify: bool,
    },
}

/// Who signs a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SigningParty {
    /// The installation, with the platform key.
    Platform,
    /// The tenant, in its namespace.
    Namespace(TenantSigner),
    /// The bundle is not signed.
    Unsigned,
}

/// A tenant's own signer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantSigner {
    /// The key or identity.
    pub identity: TenantSigningIdentity,
    /// The `ConfigMap` of its namespace with Sigstore's services and their trust root. Always set
    /// for a ServiceAccount.
    pub services: Option<String>,
}

/// The key or identity that a tenant signs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenantSigningIdentity {
    /// The key in this Secret of its namespace.
    Key(String),
    /// The ServiceAccount [`TenantSigner::ACCOUNT`] of its namespace.
    ServiceAccount,
}

impl TenantSigner {
    /// The ServiceAccount of every sign Job in a tenant's namespace.
    pub const ACCOUNT: &str = "default";

    /// The ServiceAccount's name in a certificate (Fulcio, issuer type `kubernetes`).
    pub fn service_account_identity(namespace: &str) -> String {
        format!(
            "https://kubernetes.io/namespaces/{namespace}/serviceaccounts/{}",
            Self::ACCOUNT
        )
    }
}

/// How many finished runs are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Successful runs that are kept.
    pub succeeded: usize,
    /// Failed runs that are kept.
    pub failed: usize,
}

/// Why a `PackedBundle` is invalid: a field, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct PackedBundleSpecError {
    /// The path of the field.
    pub field: String,
    /// What is wrong, and how to resolve it.
    pub message: String,
}

impl ClassifiedError for PackedBundleSpecError {
    fn reason(&self) -> Reason {
        Reason::InvalidSpec
    }
}

fn invalid_field(field: &str, message: &(impl ToString + ?Sized)) -> PackedBundleSpecError {
    PackedBundleSpecError {
        field: field.to_owned(),
        message: message.to_string(),
    }
}

fn unsupported_field(field: &str) -> PackedBundleSpecError {
    invalid_field(field, "is not supported yet, leave it out")
}

/// Why a lock cannot be packed for an object.
#[derive(Debug, thiserror::Error)]
pub enum UnpackableLockError {
    /// Its origin is a file path.
    #[error(
        "{field}: {origin:?} is a file, and a path means nothing in a cluster; push lock and files \
            together (oras push) and name them in spec.source.ociRef"
    )]
    File {
        /// The field of the artifact.
        field: String,
        /// The path.
        origin: String,
    },
    /// The lock is invalid.
    #[error(transparent)]
    Lock(#[from] LockfileError),
    /// It cannot be packed in this format.
    #[error(transparent)]
    Plan(#[from] pack::PackError),
}

impl ClassifiedError for UnpackableLockError {
    fn reason(&self) -> Reason {
        match self {
            Self::File { .. } => Reason::InvalidLock,
            Self::Lock(error) => error.reason(),
            Self::Plan(error) => error.reason(),
        }
    }
}

impl PackingRequest {
    /// Checks that this lock can be packed with these options.
    pub fn check_lock(&self, lock: &Lockfile) -> Result<(), UnpackableLockError> {
        let has_files = matches!(self.source, LockSource::Context { .. });
        if let (Some((field, origin)), false) = (lock.first_file_origin(), has_files) {
            return Err(UnpackableLockError::File {
                field,
                origin: origin.to_owned(),
            });
        }
        lock.check_packable(false)?;
        pack::PackPlan::new(lock, self.output.clone())?;
        Ok(())
    }
}

impl TryFrom<&PackedBundle> for ValidatedPackedBundle {
    type Error = PackedBundleSpecError;

    fn try_from(object: &PackedBundle) -> Result<Self, PackedBundleSpecError> {
        if object
            .metadata
            .name
            .as_ref()
            .is_some_and(|name| name.len() > MAX_NAME)
        {
            return Err(invalid_field(
                "metadata.name",
                "must have at most 63 characters, it becomes a label",
            ));
        }
        Self::try_from(&object.spec)
    }
}

impl TryFrom<&PackedBundleSpec> for ValidatedPackedBundle {
    type Error = PackedBundleSpecError;

    fn try_from(spec: &PackedBundleSpec) -> Result<Self, PackedBundleSpecError> {
        let PackedBundleSpec {
            suspend,
            interval,
            timeout,
            source,
            fetch,
            destination,
            output,
            signing,
            evidence,
            history,
            pack_pod,
        } = spec;
        let sbom = convert_sbom_format(evidence.as_ref())?;
        let interval = parse_interval(interval)?;
        let timeout = parse_timeout(timeout)?;
        let work = match parse_source(source)? {
            Ok(lock) => {
                let destination = destination.as_ref().ok_or_else(|| {
                    invalid_field(
                        "spec.destination",
                        "must be set: it names the repository to push the bundle to",
                    )
                })?;
                let form = OptionalPackingFields {
                    fetch: fetch.as_ref(),
                    output: output.as_ref(),
                    signing: signing.as_ref(),
                    sbom,
                    history,
                    pod: pack_pod.as_ref(),
                };
                PackedBundleWork::Pack(Box::new(build_packing_request(
                    lock,
                    destination,
                    &form,
                    timeout,
                )?))
            }
            Err(adoption) => {
                let left_out = [
                    (destination.is_some(), "spec.destination"),
                    (output.is_some(), "spec.output"),
                    (signing.is_some(), "spec.signing"),
                ];
                if let Some((_, field)) = left_out.into_iter().find(|(is_set, _)| *is_set) {
                    return Err(invalid_field(
                        field,
                        "must be left out: source.bundle adopts a bundle as it is",
                    ));
                }
                if sbom.is_some() {
                    return Err(invalid_field(
                        "spec.evidence.sbom",
                        "must be None: source.bundle adopts a bundle as it is",
                    ));
                }
                PackedBundleWork::Adopt(adoption)
            }
        };
        Ok(Self {
            suspend: *suspend,
            interval,
            work,
        })
    }
}

fn parse_interval(text: &str) -> Result<Option<Duration>, PackedBundleSpecError> {
    let field = "spec.interval";
    match duration::parse(text) {
        Some(Duration::ZERO) => Ok(None),
        Some(interval) if interval >= MIN_INTERVAL => Ok(Some(interval)),
        Some(_) => Err(invalid_field(
            field,
            "must be at least 10s, or 0s for never",
        )),
        None => Err(invalid_field(
            field,
            "must be a duration of hours, minutes and seconds, such as 1h, or 0s for never",
        )),
    }
}

fn parse_timeout(text: &str) -> Result<Duration, PackedBundleSpecError> {
    let fits = |timeout: &Duration| (MIN_TIMEOUT..=MAX_TIMEOUT).contains(timeout);
    duration::parse(text).filter(fits).ok_or_else(|| {
        invalid_field(
            "spec.timeout",
            "must be a duration of hours, minutes and seconds from 10s to 24h, such as 15m",
        )
    })
}

/// The lock to pack, or the bundle to adopt.
fn parse_source(
    source: &BundleSourceSpec,
) -> Result<Result<LockSource, BundleAdoption>, PackedBundleSpecError> {
    match source {
        BundleSourceSpec {
            inline: Some(text),
            config_map_ref: None,
            oci_ref: None,
            bundle: None,
        } => Ok(Ok(LockSource::Inline(text.clone()))),
        BundleSourceSpec {
            inline: None,
            config_map_ref: Some(map),
            oci_ref: None,
            bundle: None,
        } => Ok(Ok(LockSource::ConfigMap {
            name: map.name.clone(),
            key: map.key.clone(),
        })),
        BundleSourceSpec {
            inline: None,
            config_map_ref: None,
            oci_ref: Some(context),
            bundle: None,
        } => {
            let repository =
                parse_repository("spec.source.ociRef.repository", &context.repository)?;
            let digest = Digest::from_str(&context.digest)
                .map_err(|e| invalid_field("spec.source.ociRef.digest", &e))?;
            Ok(Ok(LockSource::Context {
                reference: repository.pin_to_digest(digest),
                path: context.path.clone(),
                secret: context
                    .secret_ref
                    .as_ref()
                    .map(|secret| secret.name.clone()),
                verify: context.verify,
            }))
        }
        BundleSourceSpec {
            inline: None,
            config_map_ref: None,
            oci_ref: None,
            bundle: Some(bundle),
        } => {
            let reference: ImageReference = bundle
                .reference
                .parse()
                .map_err(|e| invalid_field("spec.source.bundle.reference", &e))?;
            let reference = reference
                .to_pinned()
                .map_err(|e| invalid_field("spec.source.bundle.reference", &e))?;
            Ok(Err(BundleAdoption {
                reference,
                secret: bundle.secret_ref.as_ref().map(|secret| secret.name.clone()),
            }))
        }
        _ => Err(invalid_field(
            "spec.source",
            "must have exactly one of inline, configMapRef, ociRef and bundle",
        )),
    }
}

/// The optional fields of a packing request.
struct OptionalPackingFields<'a> {
    fetch: Option<&'a FetchSpec>,
    output: Option<&'a OutputSpec>,
    signing: Option<&'a SigningSpec>,
    sbom: Option<sbom::SbomFormat>,
    history: &'a HistoryLimitsSpec,
    pod: Option<&'a PackPodSpec>,
}

fn build_packing_request(
    source: LockSource,
    destination: &DestinationSpec,
    form: &OptionalPackingFields<'_>,
    timeout: Duration,
) -> Result<PackingRequest, PackedBundleSpecError> {
    let DestinationSpec {
        repository: name,
        tag,
        tag_policy,
        secret_ref,
    } = destination;
    let signing = resolve_signing_party(form.signing)?;
    Ok(PackingRequest {
        source,
        repository: parse_repository("spec.destination.repository", name)?,
        tag: tag
            .as_deref()
            .map(ImageTag::from_str)
            .transpose()
            .map_err(|e| invalid_field("spec.destination.tag", &e))?,
        tag_policy: *tag_policy,
        push_secret: secret_ref.as_ref().map(|secret| secret.name.clone()),
        output: convert_output(form.output)?,
        sbom: require_sbom_signer(form.sbom, &signing)?,
        signing,
        fetch_ca: fetch_ca(form.fetch)?,
        timeout,
        history_limits: HistoryLimits {
            succeeded: convert_history_limit(form.history.succeeded),
            failed: convert_history_limit(form.history.failed),
        },
        pod: form.pod.cloned().unwrap_or_default(),
    })
}

fn convert_history_limit(number: i32) -> usize {
    usize::try_from(number).unwrap_or_default()
}

/// Parses a name without tag and digest.
fn parse_repository(field: &str, text: &str) -> Result<ImageRepository, PackedBundleSpecError> {
    let reference: ImageReference = text.parse().map_err(|e| invalid_field(field, &e))?;
    match reference {
        ImageReference {
            repository,
            tag: None,
            digest: None,
        } => Ok(repository),
        _ => Err(invalid_field(
            field,
            "must be a repository without tag and digest",
        )),
    }
}

fn convert_output(output: Option<&OutputSpec>) -> Result<pack::PackOptions, PackedBundleSpecError> {
    let OutputSpec {
        format,
        compression,
        source_date_epoch,
        annotations,
    } = output.cloned().unwrap_or_default();
    let output = pack::PackOptions {
        format: match format {
            OutputFormatSpec::Image => pack::BundleFormat::Image,
            OutputFormatSpec::Artifact => pack::BundleFormat::Artifact,
        },
        compression: match compression {
            CompressionSpec::None => pack::LayerCompression::None,
            CompressionSpec::Zstd => pack::LayerCompression::Zstd,
        },
        source_date_epoch,
        annotations,
    };
    output
        .check_options()
        .map_err(|e| invalid_field("spec.output", &e))?;
    Ok(output)
}

fn resolve_signing_party(
    signing: Option<&SigningSpec>,
) -> Result<SigningParty, PackedBundleSpecError> {
    let Some(SigningSpec {
        mode,
        key_secret_ref,
        keyless,
        signing_config_ref,
    }) = signing
    else {
        return Ok(SigningParty::Platform);
    };
    let services = signing_config_ref
        .as_ref()
        .map(|reference| reference.name.clone());
    if *mode != SigningModeSpec::Namespace {
        let given = [
            (key_secret_ref.is_some(), "spec.signing.keySecretRef"),
            (keyless.is_some(), "spec.signing.keyless"),
            (services.is_some(), "spec.signing.signingConfigRef"),
        ];
        if let Some((_, field)) = given.into_iter().find(|(is_set, _)| *is_set) {
            return Err(invalid_field(field, "is for mode Namespace only"));
        }
        return Ok(if *mode == SigningModeSpec::Platform {
            SigningParty::Platform
        } else {
            SigningParty::Unsigned
        });
    }
    let identity = match (key_secret_ref, keyless) {
        (Some(secret), None) => TenantSigningIdentity::Key(secret.name.clone()),
        (None, Some(_)) if services.is_none() => {
            return Err(invalid_field(
                "spec.signing.signingConfigRef",
                "is needed by keyless: it names the certificate authority and the transparency log",
            ));
        }
        (None, Some(_)) => TenantSigningIdentity::ServiceAccount,
        _ => {
            return Err(invalid_field(
                "spec.signing",
                "mode Namespace needs exactly one of keySecretRef and keyless",
            ));
        }
    };
    Ok(SigningParty::Namespace(TenantSigner { identity, services }))
}

fn fetch_ca(fetch: Option<&FetchSpec>) -> Result<Option<ConfigObjectRef>, PackedBundleSpecError> {
    let Some(FetchSpec {
        credentials,
        ca_ref,
        proxy_secret_ref,
        mirrors,
    }) = fetch
    else {
        return Ok(None);
    };
    let later = [
        (!credentials.is_empty(), "spec.fetch.credentials"),
        (proxy_secret_ref.is_some(), "spec.fetch.proxySecretRef"),
        (!mirrors.is_empty(), "spec.fetch.mirrors"),
    ];
    match later.into_iter().find(|(is_set, _)| *is_set) {
        Some((_, field)) => Err(unsupported_field(field)),
        None => Ok(ca_ref.clone()),
    }
}

fn convert_sbom_format(
    evidence: Option<&EvidenceSpec>,
) -> Result<Option<sbom::SbomFormat>, PackedBundleSpecError> {
    match evidence {
        Some(EvidenceSpec {
            provenance: false, ..
        }) => Err(invalid_field(
            "spec.evidence.provenance",
            "false is not supported yet, leave it out",
        )),
        None
        | Some(EvidenceSpec {
            sbom: SbomFormatSpec::None,
            ..
        }) => Ok(None),
        Some(EvidenceSpec {
            sbom: SbomFormatSpec::Spdx,
            ..
        }) => Ok(Some(sbom::SbomFormat::Spdx)),
        Some(EvidenceSpec {
            sbom: SbomFormatSpec::CycloneDX,
            ..
        }) => Ok(Some(sbom::SbomFormat::CycloneDX)),
    }
}

/// An SBOM needs a signer that attests it.
fn require_sbom_signer(
    sbom: Option<sbom::SbomFormat>,
    signing: &SigningParty,
) -> Result<Option<sbom::SbomFormat>, PackedBundleSpecError> {
    match (sbom, signing) {
        (Some(_), SigningParty::Unsigned) => Err(invalid_field(
            "spec.evidence.sbom",
            "must be None with signing mode None: there is no signer to attest it",
        )),
        _ => Ok(sbom),
    }
}
