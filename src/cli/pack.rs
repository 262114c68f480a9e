//! `packgate pack`

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::json;

use super::{
    certificate::CertificateArgs, context::Context, endorser::EndorserArgs, exit::CliError,
    lockfile::Input, output::Done, plain_http::host_of,
};
use crate::{
    core::{
        job::TagPolicy,
        lockfile::{Artifact, Lockfile},
        oci::Descriptor,
        pack::{Format, LayerCompression, Output, PACK_FORMAT, ZSTD_LEVEL},
        provenance::{self, Compressed, Run},
        reference::{Location, Reference, Tag},
        sbom::{self, Sbom},
        slsa::{CLI_BUILDER, Provenance},
    },
    fetch::Outside,
    oci::{LayoutTarget, Resolved, Store, Target, fetch},
    service::{
        pack::{PackService, Packed, deliver},
        publish::{Label, Published, Vouch, publish},
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
    #[arg(long, value_enum, ignore_case = true, default_value_t = FormatArg::Image)]
    format: FormatArg,
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
enum FormatArg {
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
    pub(super) fn output(&self) -> Result<Output, CliError> {
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
        Ok(Output {
            format: match self.format {
                FormatArg::Image => Format::Image,
                FormatArg::Artifact => Format::Artifact,
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
    to: Location,
    #[command(flatten)]
    output: OutputArgs,
    /// Let `file` origins lie outside of the lockfile's folder
    #[arg(long)]
    allow_outside: bool,
    /// Software bill of materials that is attested, too; needs a signer
    #[arg(long, value_enum, ignore_case = true, default_value_t = SbomArg::None)]
    sbom: SbomArg,
    #[command(flatten)]
    signer: EndorserArgs,
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
    /// Which one, if any. Nobody would vouch for one without a signer.
    fn format(self, is_signed: bool) -> Result<Option<sbom::Format>, CliError> {
        match self {
            Self::None => Ok(None),
            _ if !is_signed => Err(CliError::invalid(
                "--sbom needs --key or --identity-token: a software bill of materials is attested, \
                    not only attached",
            )),
            Self::Spdx => Ok(Some(sbom::Format::Spdx)),
            Self::CycloneDX => Ok(Some(sbom::Format::CycloneDX)),
        }
    }
}

pub(super) async fn run(args: PackArgs, context: &Context) -> Result<Done, CliError> {
    let input = Input::lock(&args.lock)?;
    let lock = input.parse()?;
    let output = args.output.output()?;
    refuse_digest(&args.to)?;
    let signer = args
        .signer
        .load(&CertificateArgs::default(), context)
        .await?;
    let format = args.sbom.format(signer.is_some())?;
    let started = context.clock().now();
    let outside = if args.allow_outside {
        Outside::Allowed
    } else {
        Outside::Refused
    };
    let origins = Arc::new(context.origins(input.folder.clone(), outside)?);
    lock.check_packable(args.allow_outside)
        .map_err(|error| input.blame(error.into()))?;
    let images: Vec<Reference> = lock
        .artifacts
        .iter()
        .filter_map(Artifact::oci_reference)
        .collect();
    context.speaks_with(
        host_of(&args.to)
            .into_iter()
            .chain(images.iter().map(|image| image.repository.host())),
    )?;
    let destination = Destination::new(&args.to, context)?;
    let service = PackService::new(destination.store(), origins, context.progress());
    let packed = service
        .pack(&lock, output.clone(), args.allow_outside)
        .await
        .map_err(|error| input.blame(error.into()))?;
    let (target, root) = destination.deliver(&packed.root, context).await?;
    let work = Work {
        args: &args,
        lock: &lock,
        output: &output,
        packed: &packed,
        started,
        finished: context.clock().now(),
    };
    let subject_name = subject_name(&args.to, lock.name.as_deref());
    let sbom = format
        .map(|format| Sbom::new(format, &lock, output.source_date_epoch))
        .transpose()?;
    let provenance = work.provenance(sbom.as_ref());
    let lock_digest = lock.canonical().digest;
    let vouch = signer.as_ref().map(|signer| Vouch {
        signer: &**signer,
        subject_name: &subject_name,
        provenance: &provenance,
        lock: lock_digest,
        sbom: sbom.as_ref(),
    });
    let tag = tag_for(&args.to)?;
    let label = tag.as_ref().map(|tag| Label {
        tag,
        policy: TagPolicy::Mutable,
    });
    let published = publish(
        &*target,
        &root,
        vouch,
        label,
        context.clock(),
        context.limits(),
    )
    .await?;
    answer(&args.to, &lock, &packed, &published)
}

/// What was done, as far as provenance tells it.
struct Work<'a> {
    args: &'a PackArgs,
    lock: &'a Lockfile,
    output: &'a Output,
    packed: &'a Packed,
    started: Timestamp,
    finished: Timestamp,
}

impl Work<'_> {
    fn provenance(&self, sbom: Option<&Sbom>) -> Provenance {
        let Output {
            format,
            compression,
            source_date_epoch,
            annotations,
        } = self.output;
        let lock_digest = self.lock.canonical().digest;
        let encoder = format!("libzstd {}", zstd::zstd_safe::version_string());
        let packed = provenance::Packed {
            lock: self.lock,
            lock_digest,
            pack_format: PACK_FORMAT,
            format: format.as_str(),
            compression: match compression {
                LayerCompression::None => Compressed::Not,
                LayerCompression::Zstd => Compressed::Zstd {
                    encoder: &encoder,
                    level: ZSTD_LEVEL,
                },
            },
            annotations,
            allow_outside: self.args.allow_outside,
            source_date_epoch: *source_date_epoch,
            downloads: &self.packed.download_locations.iter().cloned().collect(),
        };
        let run = Run {
            builder_id: CLI_BUILDER,
            version: env!("CARGO_PKG_VERSION"),
            invocation_id: &format!("cli/{}/{}", lock_digest.hex(), self.started),
            started_on: self.started,
            finished_on: self.finished,
            requested: None,
            sbom,
        };
        provenance::provenance(&packed, &run)
    }
}

/// Where a bundle is packed, and where it goes from there.
enum Destination {
    Local(Arc<dyn Store>),
    Remote {
        staging: Arc<dyn Store>,
        target: Arc<dyn Target>,
        _folder: tempfile::TempDir,
    },
}

impl Destination {
    fn new(to: &Location, context: &Context) -> Result<Self, CliError> {
        if let Some(store) = Context::create_store(to)? {
            return Ok(Self::Local(store));
        }
        let folder = tempfile::Builder::new()
            .prefix("packgate-")
            .tempdir()
            .map_err(|e| CliError::internal(format!("no temporary folder: {e}")))?;
        let layout = LayoutTarget::open_or_create(&folder.path().join("layout").to_string_lossy())?;
        Ok(Self::Remote {
            staging: Arc::new(layout),
            target: context.open(to)?,
            _folder: folder,
        })
    }

    fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Local(store) => Arc::clone(store),
            Self::Remote { staging, .. } => Arc::clone(staging),
        }
    }

    async fn deliver(
        &self,
        root: &Descriptor,
        context: &Context,
    ) -> Result<(Arc<dyn Target>, Resolved), CliError> {
        match self {
            Self::Local(store) => {
                let target: Arc<dyn Target> = Arc::<dyn Store>::clone(store);
                let bytes = fetch(&*target, root, context.limits().manifest_bytes).await?;
                Ok((
                    target,
                    Resolved {
                        descriptor: root.clone(),
                        bytes,
                    },
                ))
            }
            Self::Remote {
                staging, target, ..
            } => {
                let root = deliver(
                    &**staging,
                    &**target,
                    root,
                    context.limits(),
                    &*context.progress(),
                )
                .await?;
                Ok((Arc::clone(target), root))
            }
        }
    }
}

/// A digest follows from the content, so it cannot be asked for.
pub(super) fn refuse_digest(to: &Location) -> Result<(), CliError> {
    match to.digest() {
        Some(_) => Err(CliError::invalid(format!(
            "target {to} must not carry a digest, it follows from the content"
        ))),
        None => Ok(()),
    }
}

/// The tag that a target gets: on this machine `latest` if none is written, in a registry then
/// none.
pub(super) fn tag_for(to: &Location) -> Result<Option<Tag>, CliError> {
    match (to.tag(), to) {
        (Some(tag), _) => Ok(Some(tag.clone())),
        (None, Location::Registry(_)) => Ok(None),
        (None, _) => Ok(Some("latest".parse()?)),
    }
}

/// What an attestation calls its subject: the repository, or on this machine the lock's name.
pub(super) fn subject_name(to: &Location, lock_name: Option<&str>) -> String {
    match to {
        Location::Registry(reference) => reference.repository.to_string(),
        _ => lock_name.unwrap_or_default().to_owned(),
    }
}

fn answer(
    to: &Location,
    lock: &Lockfile,
    packed: &Packed,
    published: &Published,
) -> Result<Done, CliError> {
    let reference = to.clone().with_digest(packed.root.digest).to_string();
    let mut fields = json!({
        "reference": reference,
        "digest": packed.root.digest,
        "lockDigest": lock.canonical().digest,
        "size": packed.size,
        "layers": packed.layers,
        "signed": false,
    });
    if let Published::Signed {
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
    Done::new(reference, "PackResult", fields)
}
