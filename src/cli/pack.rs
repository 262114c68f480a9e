//! `packgate pack`

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::json;

use super::{
    bundle_signer::BundleSignerArgs, certificate::CertificateArgs, context::CliContext,
    exit::CliError, input_file::InputFile, output::CommandResult, plain_http::registry_host,
};
use crate::{
    core::{
        job::JobTagPolicy,
        lockfile::{LockedArtifact, Lockfile},
        oci::Descriptor,
        pack::{BundleFormat, LayerCompression, PACK_FORMAT, PackOptions, ZSTD_LEVEL},
        provenance::{self, BuildRun, RecordedCompression},
        reference::{BundleLocation, ImageReference, ImageTag},
        sbom::{self, SbomDocument},
        slsa::{CLI_BUILDER, Provenance},
    },
    fetch::OutsideFolderPolicy,
    oci::{ContentTarget, LocalContentStore, OciLayoutTarget, ResolvedManifest, fetch_content},
    service::{
        pack::{PackService, StoredBundle, push_bundle},
        publish::{PublishOutcome, SigningRequest, TagAssignment, publish_bundle},
    },
};

const EXAMPLES: &str = "Examples:
  packgate pack lock.yaml --to oci:out:v1
  packgate pack lock.yaml --to registry.example.com/team-a/siem:v1.4.0 --key packgate.key
  packgate pack lock.yaml --to registry.example.com/team-a/siem:v1.4.0 --key packgate.key --sbom \
  SPDX
  packgate pack lock.yaml --to oci-archive:siem.tar:v1 --format Artifact";

/// Options that shape the bundle's bytes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct OutputArgs {
    /// Shape of the bundle: Image can be mounted as an image volume, Artifact is for `oras pull`
    #[arg(long, value_enum, ignore_case = true, default_value_t = BundleFormatArg::Image)]
    format: BundleFormatArg,
    /// Compression of the layers
    #[arg(long, value_enum, ignore_case = true, default_value_t = CompressionArg::None)]
    compression: CompressionArg,
    /// Further annotation of the manifest; can be given several times
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    annotations: Vec<String>,
    /// Creation time in seconds since 1970; without it the bundle carries none
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    source_date_epoch: Option<i64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BundleFormatArg {
    #[value(name = "Image")]
    Image,
    #[value(name = "Artifact")]
    Artifact,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CompressionArg {
    #[value(name = "None")]
    None,
    #[value(name = "Zstd")]
    Zstd,
}

impl OutputArgs {
    pub(super) fn bundle_output(&self) -> Result<PackOptions, CliError> {
        let mut annotations = BTreeMap::new();
        for pair in &self.annotations {
            let (key, value) = pair.split_once('=').ok_or_else(|| {
                CliError::invalid(format!("annotation {pair:?} must be KEY=VALUE"))
            })?;
            if annotations
                .insert(key.to_owned(), value.to_owned())
                .is_some()
            {
                return Err(CliError::invalid(format!(
                    "annotation {key:?} is given twice"
                )));
            }
        }
        Ok(PackOptions {
            format: match self.format {
                BundleFormatArg::Image => BundleFormat::Image,
                BundleFormatArg::Artifact => BundleFormat::Artifact,
            },
            compression: match self.compression {
                CompressionArg::None => LayerCompression::None,
                CompressionArg::Zstd => LayerCompression::Zstd,
            },
            source_date_epoch: self.source_date_epoch,
            annotations,
        })
    }
}

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct PackArgs {
    /// The lockfile, or - for stdin
    lock: PathBuf,
    /// Where the bundle goes: REGISTRY/REPOSITORY[:TAG], oci:DIR[:TAG] or oci-archive:FILE[:TAG]
    #[arg(long, value_name = "TARGET")]
    to: BundleLocation,
    #[command(flatten)]
    output: OutputArgs,
    /// Let `file` origins lie outside of the lockfile's folder
    #[arg(long)]
    allow_outside: bool,
    /// Software bill of materials that is attested, too; needs a signer
    #[arg(long, value_enum, ignore_case = true, default_value_t = SbomArg::None)]
    sbom: SbomArg,
    #[command(flatten)]
    signer: BundleSignerArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SbomArg {
    #[value(name = "None")]
    None,
    #[value(name = "SPDX")]
    Spdx,
    #[value(name = "CycloneDX")]
    CycloneDX,
}

impl SbomArg {
    /// The format, if any. An SBOM is not attested without a signer.
    fn sbom_format(self, is_signed: bool) -> Result<Option<sbom::SbomFormat>, CliError> {
        match self {
            Self::None => Ok(None),
            _ if !is_signed => Err(CliError::invalid(
                "--sbom needs --key or --identity-token: a software bill of materials is attested, \
                    not only attached",
            )),
            Self::Spdx => Ok(Some(sbom::SbomFormat::Spdx)),
            Self::CycloneDX => Ok(Some(sbom::SbomFormat::CycloneDX)),
        }
    }
}

pub(super) async fn run_pack(
    args: PackArgs,
    context: &CliContext,
) -> Result<CommandResult, CliError> {
    let input = InputFile::read_lockfile(&args.lock)?;
    let lock = input.parse_lockfile()?;
    let output = args.output.bundle_output()?;
    reject_digest(&args.to)?;
    let signer = args
        .signer
        .load_bundle_signer(&CertificateArgs::default(), context)
        .await?;
    let format = args.sbom.sbom_format(signer.is_some())?;
    let started = context.clock().now();
    let outside = if args.allow_outside {
        OutsideFolderPolicy::Allowed
    } else {
        OutsideFolderPolicy::Refused
    };
    let origins = Arc::new(context.artifact_origins(input.folder.clone(), outside)?);
    lock.check_packable(args.allow_outside)
        .map_err(|error| input.prefix_file_name(error.into()))?;
    let images: Vec<ImageReference> = lock
        .artifacts
        .iter()
        .filter_map(LockedArtifact::oci_reference)
        .collect();
    context.check_plain_http_hosts(
        registry_host(&args.to)
            .into_iter()
            .chain(images.iter().map(|image| image.repository.host())),
    )?;
    let destination = PackDestination::new(&args.to, context)?;
    let service = PackService::new(
        destination.packing_store(),
        origins,
        context.progress_reporter(),
    );
    let packed = service
        .pack_lock(&lock, output.clone(), args.allow_outside)
        .await
        .map_err(|error| input.prefix_file_name(error.into()))?;
    let (target, root) = destination.deliver_bundle(&packed.root, context).await?;
    let work = PackRun {
        args: &args,
        lock: &lock,
        output: &output,
        packed: &packed,
        started,
        finished: context.clock().now(),
    };
    let subject_name = subject_name(&args.to, lock.name.as_deref());
    let sbom = format
        .map(|format| SbomDocument::new(format, &lock, output.source_date_epoch))
        .transpose()?;
    let provenance = work.build_provenance(sbom.as_ref());
    let lock_digest = lock.to_canonical().digest;
    let signing = signer.as_ref().map(|signer| SigningRequest {
        signer: &**signer,
        subject_name: &subject_name,
        provenance: &provenance,
        lock: lock_digest,
        sbom: sbom.as_ref(),
    });
    let tag = destination_tag(&args.to)?;
    let label = tag.as_ref().map(|tag| TagAssignment {
        tag,
        policy: JobTagPolicy::Mutable,
    });
    let published = publish_bundle(
        &*target,
        &root,
        signing,
        label,
        context.clock(),
        context.limits(),
    )
    .await?;
    pack_result(&args.to, &lock, &packed, &published)
}

/// What was done, in the form for provenance.
struct PackRun<'a> {
    args: &'a PackArgs,
    lock: &'a Lockfile,
    output: &'a PackOptions,
    packed: &'a StoredBundle,
    started: Timestamp,
    finished: Timestamp,
}

impl PackRun<'_> {
    fn build_provenance(&self, sbom: Option<&SbomDocument>) -> Provenance {
        let PackOptions {
            format,
            compression,
            source_date_epoch,
            annotations,
        } = self.output;
        let lock_digest = self.lock.to_canonical().digest;
        let encoder = format!("libzstd {}", zstd::zstd_safe::version_string());
        let packed = provenance::BuildParameters {
            lock: self.lock,
            lock_digest,
            pack_format: PACK_FORMAT,
            format: format.as_str(),
            compression: match compression {
                LayerCompression::None => RecordedCompression::Uncompressed,
                LayerCompression::Zstd => RecordedCompression::Zstd {
                    encoder: &encoder,
                    level: ZSTD_LEVEL,
                },
            },
            annotations,
            allow_outside: self.args.allow_outside,
            source_date_epoch: *source_date_epoch,
            downloads: &self.packed.download_locations.iter().cloned().collect(),
        };
        let run = BuildRun {
            builder_id: CLI_BUILDER,
            version: env!("CARGO_PKG_VERSION"),
            invocation_id: &format!("cli/{}/{}", lock_digest.hex_digits(), self.started),
            started_on: self.started,
            finished_on: self.finished,
            requested: None,
            sbom,
        };
        provenance::build_provenance(&packed, &run)
    }
}

/// Where a bundle is packed, and where it is pushed to.
enum PackDestination {
    Local(Arc<dyn LocalContentStore>),
    Remote {
        staging: Arc<dyn LocalContentStore>,
        target: Arc<dyn ContentTarget>,
        _folder: tempfile::TempDir,
    },
}

impl PackDestination {
    fn new(to: &BundleLocation, context: &CliContext) -> Result<Self, CliError> {
        if let Some(store) = CliContext::create_local_store(to)? {
            return Ok(Self::Local(store));
        }
        let folder = tempfile::Builder::new()
            .prefix("packgate-")
            .tempdir()
            .map_err(|e| CliError::internal(format!("no temporary folder: {e}")))?;
        let layout =
            OciLayoutTarget::open_or_create(&folder.path().join("layout").to_string_lossy())?;
        Ok(Self::Remote {
            staging: Arc::new(layout),
            target: context.open_target(to)?,
            _folder: folder,
        })
    }

    fn packing_store(&self) -> Arc<dyn LocalContentStore> {
        match self {
            Self::Local(store) => Arc::clone(store),
            Self::Remote { staging, .. } => Arc::clone(staging),
        }
    }

    async fn deliver_bundle(
        &self,
        root: &Descriptor,
        context: &CliContext,
    ) -> Result<(Arc<dyn ContentTarget>, ResolvedManifest), CliError> {
        match self {
            Self::Local(store) => {
                let target: Arc<dyn ContentTarget> = Arc::<dyn LocalContentStore>::clone(store);
                let bytes = fetch_content(&*target, root, context.limits().manifest_bytes).await?;
                Ok((
                    target,
                    ResolvedManifest {
                        descriptor: root.clone(),
                        bytes,
                    },
                ))
            }
            Self::Remote {
                staging, target, ..
            } => {
                let root = push_bundle(
                    &**staging,
                    &**target,
                    root,
                    context.limits(),
                    &*context.progress_reporter(),
                )
                .await?;
                Ok((Arc::clone(target), root))
            }
        }
    }
}

/// A digest follows from the content, so it cannot be requested.
pub(super) fn reject_digest(to: &BundleLocation) -> Result<(), CliError> {
    match to.digest() {
        Some(_) => Err(CliError::invalid(format!(
            "target {to} must not carry a digest, it follows from the content"
        ))),
        None => Ok(()),
    }
}

/// The default tag of a target: `latest` on this machine, none in a registry.
pub(super) fn destination_tag(to: &BundleLocation) -> Result<Option<ImageTag>, CliError> {
    match (to.tag(), to) {
        (Some(tag), _) => Ok(Some(tag.clone())),
        (None, BundleLocation::Registry(_)) => Ok(None),
        (None, _) => Ok(Some("latest".parse()?)),
    }
}

/// The name of an attestation's subject: the repository, or on this machine the lock's name.
pub(super) fn subject_name(to: &BundleLocation, lock_name: Option<&str>) -> String {
    match to {
        BundleLocation::Registry(reference) => reference.repository.to_string(),
        _ => lock_name.unwrap_or_default().to_owned(),
    }
}

fn pack_result(
    to: &BundleLocation,
    lock: &Lockfile,
    packed: &StoredBundle,
    published: &PublishOutcome,
) -> Result<CommandResult, CliError> {
    let reference = to.clone().with_digest(packed.root.digest).to_string();
    let mut fields = json!({
        "reference": reference,
        "digest": packed.root.digest,
        "lockDigest": lock.to_canonical().digest,
        "size": packed.size,
        "layers": packed.layers,
        "signed": false,
    });
    if let PublishOutcome::Signed {
        signature,
        provenance,
        sbom,
    } = published
    {
        fields["signed"] = true.into();
        fields["signature"] = json!(signature);
        fields["provenance"] = json!(provenance);
        if let Some(sbom) = sbom {
            fields["sbom"] = json!(sbom);
        }
    }
    CommandResult::new(reference, "PackResult", fields)
}
