//! What a [`PackedBundle`] means. The webhook and the controller both go through here, so nothing
//! is accepted that cannot be acted on.

use std::{str::FromStr, time::Duration};

use crate::{
    api::duration,
    core::{
        class::{Classified, Reason},
        digest::Digest,
        lockfile::{LockError, Lockfile},
        pack,
        reference::{PinnedReference, Reference, Repository, Tag},
        sbom,
    },
};

use super::{
    Compression, Destination, Evidence, Fetch, Format, History, KindRef, Output, PackPod,
    PackedBundle, PackedBundleSpec, Sbom, Signing, SigningMode, Source, TagPolicy,
};

const MIN_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_TIMEOUT: Duration = Duration::from_hours(24);
const MIN_INTERVAL: Duration = Duration::from_secs(10);
const MAX_NAME: usize = 63;

/// A `PackedBundle` that can be acted on.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedPackedBundle {
    /// No work, please.
    pub suspend: bool,
    /// When to look again; `None`: never.
    pub interval: Option<Duration>,
    /// What is to be done.
    pub work: Work,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Pack a lock.
    Pack(Box<Packing>),
    /// Verify what is there already.
    Adopt(Adoption),
}

/// A bundle that is there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adoption {
    /// Its name.
    pub reference: PinnedReference,
    /// The Secret to read it with.
    pub secret: Option<String>,
}

/// How a lock is packed.
#[derive(Clone, Debug, PartialEq)]
pub struct Packing {
    /// Where the lock comes from.
    pub source: LockSource,
    /// Where the bundle goes.
    pub repository: Repository,
    /// The tag that was asked for; the default follows from the lock.
    pub tag: Option<Tag>,
    /// May the tag move?
    pub tag_policy: TagPolicy,
    /// The Secret to push with.
    pub push_secret: Option<String>,
    /// The bundle's form.
    pub output: pack::Output,
    /// Who signs.
    pub signing: ToSign,
    /// The software bill of materials that is attested.
    pub sbom: Option<sbom::Format>,
    /// Certificate authorities for downloads.
    pub fetch_ca: Option<KindRef>,
    /// How long each Job may take.
    pub timeout: Duration,
    /// How many finished runs are kept.
    pub kept: Kept,
    /// How the Pod is run that packs.
    pub pod: PackPod,
}

/// Where a lock comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockSource {
    /// It stands in the object.
    Inline(String),
    /// A `ConfigMap` of the object's namespace.
    ConfigMap {
        /// Its name.
        name: String,
        /// Its key.
        key: String,
    },
    /// A context artifact.
    Context {
        /// Its name.
        reference: PinnedReference,
        /// Where the lock lies in it.
        path: String,
        /// The Secret to pull it with.
        secret: Option<String>,
        /// Must policies admit it?
        verify: bool,
    },
}

/// Who signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToSign {
    /// The installation.
    Platform,
    /// The tenant, in its namespace.
    Namespace(TenantSigner),
    /// Nobody.
    Nobody,
}

/// How a tenant signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantSigner {
    /// With what.
    pub identity: TenantIdentity,
    /// The `ConfigMap` of its namespace that names Sigstore's services and what they are verified
    /// with. A ServiceAccount always has one.
    pub services: Option<String>,
}

/// With what a tenant signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenantIdentity {
    /// The key in this Secret of its namespace.
    Key(String),
    /// The ServiceAccount [`TenantSigner::ACCOUNT`] of its namespace.
    ServiceAccount,
}

impl TenantSigner {
    /// The ServiceAccount of every sign Job in a tenant's namespace.
    pub const ACCOUNT: &str = "default";

    /// What a certificate calls the ServiceAccount (Fulcio, issuer type `kubernetes`).
    pub fn account_name(namespace: &str) -> String {
        format!(
            "https://kubernetes.io/namespaces/{namespace}/serviceaccounts/{}",
            Self::ACCOUNT
        )
    }
}

/// How many finished runs are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Those that succeeded.
    pub succeeded: usize,
    /// Those that failed.
    pub failed: usize,
}

/// Why a `PackedBundle` cannot be acted on: a field, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct SpecError {
    /// The field.
    pub field: String,
    /// What is wrong, and the way out.
    pub message: String,
}

impl Classified for SpecError {
    fn reason(&self) -> Reason {
        Reason::InvalidSpec
    }
}

fn wrong(field: &str, message: &(impl ToString + ?Sized)) -> SpecError {
    SpecError {
        field: field.to_owned(),
        message: message.to_string(),
    }
}

fn unsupported(field: &str) -> SpecError {
    wrong(field, "is not supported yet, leave it out")
}

/// Why a lock cannot be packed for an object.
#[derive(Debug, thiserror::Error)]
pub enum UnfitLock {
    /// It names files.
    #[error(
        "{field}: {origin:?} is a file, and a path means nothing in a cluster; push lock and files \
            together (oras push) and name them in spec.source.ociRef"
    )]
    File {
        /// The artifact's field.
        field: String,
        /// The path.
        origin: String,
    },
    /// It is none.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// It cannot be packed in this form.
    #[error(transparent)]
    Plan(#[from] pack::PackError),
}

impl Classified for UnfitLock {
    fn reason(&self) -> Reason {
        match self {
            Self::File { .. } => Reason::InvalidLock,
            Self::Lock(error) => error.reason(),
            Self::Plan(error) => error.reason(),
        }
    }
}

impl Packing {
    /// Can this lock be packed as asked?
    pub fn check_lock(&self, lock: &Lockfile) -> Result<(), UnfitLock> {
        let has_files = matches!(self.source, LockSource::Context { .. });
        if let (Some((field, origin)), false) = (lock.first_file_origin(), has_files) {
            return Err(UnfitLock::File {
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
    type Error = SpecError;

    fn try_from(object: &PackedBundle) -> Result<Self, SpecError> {
        if object
            .metadata
            .name
            .as_ref()
            .is_some_and(|name| name.len() > MAX_NAME)
        {
            return Err(wrong(
                "metadata.name",
                "must have at most 63 characters, it becomes a label",
            ));
        }
        Self::try_from(&object.spec)
    }
}

impl TryFrom<&PackedBundleSpec> for ValidatedPackedBundle {
    type Error = SpecError;

    fn try_from(spec: &PackedBundleSpec) -> Result<Self, SpecError> {
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
        let sbom = sbom_of(evidence.as_ref())?;
        let interval = interval_of(interval)?;
        let timeout = timeout_of(timeout)?;
        let work = match lock_source(source)? {
            Ok(lock) => {
                let destination = destination
                    .as_ref()
                    .ok_or_else(|| wrong("spec.destination", "must say where the bundle goes"))?;
                let form = Form {
                    fetch: fetch.as_ref(),
                    output: output.as_ref(),
                    signing: signing.as_ref(),
                    sbom,
                    history,
                    pod: pack_pod.as_ref(),
                };
                Work::Pack(Box::new(packing(lock, destination, &form, timeout)?))
            }
            Err(adoption) => {
                let left_out = [
                    (destination.is_some(), "spec.destination"),
                    (output.is_some(), "spec.output"),
                    (signing.is_some(), "spec.signing"),
                ];
                if let Some((_, field)) = left_out.into_iter().find(|(is_set, _)| *is_set) {
                    return Err(wrong(
                        field,
                        "must be left out: source.bundle adopts a bundle as it is",
                    ));
                }
                if sbom.is_some() {
                    return Err(wrong(
                        "spec.evidence.sbom",
                        "must be None: source.bundle adopts a bundle as it is",
                    ));
                }
                Work::Adopt(adoption)
            }
        };
        Ok(Self {
            suspend: *suspend,
            interval,
            work,
        })
    }
}

fn interval_of(text: &str) -> Result<Option<Duration>, SpecError> {
    let field = "spec.interval";
    match duration::parse(text) {
        Some(Duration::ZERO) => Ok(None),
        Some(interval) if interval >= MIN_INTERVAL => Ok(Some(interval)),
        Some(_) => Err(wrong(field, "must be at least 10s, or 0s for never")),
        None => Err(wrong(
            field,
            "must be a duration of hours, minutes and seconds, such as 1h, or 0s for never",
        )),
    }
}

fn timeout_of(text: &str) -> Result<Duration, SpecError> {
    let fits = |timeout: &Duration| (MIN_TIMEOUT..=MAX_TIMEOUT).contains(timeout);
    duration::parse(text).filter(fits).ok_or_else(|| {
        wrong(
            "spec.timeout",
            "must be a duration of hours, minutes and seconds from 10s to 24h, such as 15m",
        )
    })
}

/// The lock to pack, or the bundle to adopt.
fn lock_source(source: &Source) -> Result<Result<LockSource, Adoption>, SpecError> {
    match source {
        Source {
            inline: Some(text),
            config_map_ref: None,
            oci_ref: None,
            bundle: None,
        } => Ok(Ok(LockSource::Inline(text.clone()))),
        Source {
            inline: None,
            config_map_ref: Some(map),
            oci_ref: None,
            bundle: None,
        } => Ok(Ok(LockSource::ConfigMap {
            name: map.name.clone(),
            key: map.key.clone(),
        })),
        Source {
            inline: None,
            config_map_ref: None,
            oci_ref: Some(context),
            bundle: None,
        } => {
            let repository = repository("spec.source.ociRef.repository", &context.repository)?;
            let digest = Digest::from_str(&context.digest)
                .map_err(|e| wrong("spec.source.ociRef.digest", &e))?;
            Ok(Ok(LockSource::Context {
                reference: repository.pin(digest),
                path: context.path.clone(),
                secret: context
                    .secret_ref
                    .as_ref()
                    .map(|secret| secret.name.clone()),
                verify: context.verify,
            }))
        }
        Source {
            inline: None,
            config_map_ref: None,
            oci_ref: None,
            bundle: Some(bundle),
        } => {
            let reference: Reference = bundle
                .reference
                .parse()
                .map_err(|e| wrong("spec.source.bundle.reference", &e))?;
            let reference = reference
                .pinned()
                .map_err(|e| wrong("spec.source.bundle.reference", &e))?;
            Ok(Err(Adoption {
                reference,
                secret: bundle.secret_ref.as_ref().map(|secret| secret.name.clone()),
            }))
        }
        _ => Err(wrong(
            "spec.source",
            "must have exactly one of inline, configMapRef, ociRef and bundle",
        )),
    }
}

/// The optional parts that shape the packing.
struct Form<'a> {
    fetch: Option<&'a Fetch>,
    output: Option<&'a Output>,
    signing: Option<&'a Signing>,
    sbom: Option<sbom::Format>,
    history: &'a History,
    pod: Option<&'a PackPod>,
}

fn packing(
    source: LockSource,
    destination: &Destination,
    form: &Form<'_>,
    timeout: Duration,
) -> Result<Packing, SpecError> {
    let Destination {
        repository: name,
        tag,
        tag_policy,
        secret_ref,
    } = destination;
    let signing = to_sign(form.signing)?;
    Ok(Packing {
        source,
        repository: repository("spec.destination.repository", name)?,
        tag: tag
            .as_deref()
            .map(Tag::from_str)
            .transpose()
            .map_err(|e| wrong("spec.destination.tag", &e))?,
        tag_policy: *tag_policy,
        push_secret: secret_ref.as_ref().map(|secret| secret.name.clone()),
        output: output_of(form.output)?,
        sbom: attested(form.sbom, &signing)?,
        signing,
        fetch_ca: fetch_ca(form.fetch)?,
        timeout,
        kept: Kept {
            succeeded: count(form.history.succeeded),
            failed: count(form.history.failed),
        },
        pod: form.pod.cloned().unwrap_or_default(),
    })
}

fn count(number: i32) -> usize {
    usize::try_from(number).unwrap_or_default()
}

/// A name without tag and digest.
fn repository(field: &str, text: &str) -> Result<Repository, SpecError> {
    let reference: Reference = text.parse().map_err(|e| wrong(field, &e))?;
    match reference {
        Reference {
            repository,
            tag: None,
            digest: None,
        } => Ok(repository),
        _ => Err(wrong(field, "must be a repository without tag and digest")),
    }
}

fn output_of(output: Option<&Output>) -> Result<pack::Output, SpecError> {
    let Output {
        format,
        compression,
        source_date_epoch,
        annotations,
    } = output.cloned().unwrap_or_default();
    let output = pack::Output {
        format: match format {
            Format::Image => pack::Format::Image,
            Format::Artifact => pack::Format::Artifact,
        },
        compression: match compression {
            Compression::None => pack::LayerCompression::None,
            Compression::Zstd => pack::LayerCompression::Zstd,
        },
        source_date_epoch,
        annotations,
    };
    output.check().map_err(|e| wrong("spec.output", &e))?;
    Ok(output)
}

fn to_sign(signing: Option<&Signing>) -> Result<ToSign, SpecError> {
    let Some(Signing {
        mode,
        key_secret_ref,
        keyless,
        signing_config_ref,
    }) = signing
    else {
        return Ok(ToSign::Platform);
    };
    let services = signing_config_ref
        .as_ref()
        .map(|reference| reference.name.clone());
    if *mode != SigningMode::Namespace {
        let given = [
            (key_secret_ref.is_some(), "spec.signing.keySecretRef"),
            (keyless.is_some(), "spec.signing.keyless"),
            (services.is_some(), "spec.signing.signingConfigRef"),
        ];
        if let Some((_, field)) = given.into_iter().find(|(is_set, _)| *is_set) {
            return Err(wrong(field, "is for mode Namespace only"));
        }
        return Ok(if *mode == SigningMode::Platform {
            ToSign::Platform
        } else {
            ToSign::Nobody
        });
    }
    let identity = match (key_secret_ref, keyless) {
        (Some(secret), None) => TenantIdentity::Key(secret.name.clone()),
        (None, Some(_)) if services.is_none() => {
            return Err(wrong(
                "spec.signing.signingConfigRef",
                "is needed by keyless: who certifies, who records",
            ));
        }
        (None, Some(_)) => TenantIdentity::ServiceAccount,
        _ => {
            return Err(wrong(
                "spec.signing",
                "mode Namespace needs exactly one of keySecretRef and keyless",
            ));
        }
    };
    Ok(ToSign::Namespace(TenantSigner { identity, services }))
}

fn fetch_ca(fetch: Option<&Fetch>) -> Result<Option<KindRef>, SpecError> {
    let Some(Fetch {
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
        Some((_, field)) => Err(unsupported(field)),
        None => Ok(ca_ref.clone()),
    }
}

fn sbom_of(evidence: Option<&Evidence>) -> Result<Option<sbom::Format>, SpecError> {
    match evidence {
        Some(Evidence {
            provenance: false, ..
        }) => Err(wrong(
            "spec.evidence.provenance",
            "false is not supported yet, leave it out",
        )),
        None
        | Some(Evidence {
            sbom: Sbom::None, ..
        }) => Ok(None),
        Some(Evidence {
            sbom: Sbom::Spdx, ..
        }) => Ok(Some(sbom::Format::Spdx)),
        Some(Evidence {
            sbom: Sbom::CycloneDX,
            ..
        }) => Ok(Some(sbom::Format::CycloneDX)),
    }
}

/// Somebody has to attest it.
fn attested(
    sbom: Option<sbom::Format>,
    signing: &ToSign,
) -> Result<Option<sbom::Format>, SpecError> {
    match (sbom, signing) {
        (Some(_), ToSign::Nobody) => Err(wrong(
            "spec.evidence.sbom",
            "must be None with signing mode None: nobody would attest it",
        )),
        _ => Ok(sbom),
    }
}
