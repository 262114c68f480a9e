//! `packgate pack`

use std::{path::PathBuf, sync::Arc};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{
    bundle_signer::BundleSignerArgs,
    certificate::CertificateArgs,
    context::CliContext,
    destination::{destination_tag, registry_host, reject_digest, subject_name},
    error::CliError,
    fetch_args::FetchArgs,
    input_file::InputFile,
    output::CommandResult,
    output_args::OutputArgs,
};
use crate::{
    core::{
        digest::Digest,
        job::JobTagPolicy,
        lockfile::{LockedArtifact, Lockfile},
        reference::{BundleLocation, ImageReference},
        sbom::SbomFormat,
        slsa::CLI_BUILDER,
    },
    fetch::{OriginDispatcher, OutsideFolderPolicy},
    oci::{ContentTarget, OciLayoutTarget},
    service::{
        pack::StoredBundle,
        publish::{PublishOutcome, TagAssignment},
        release::{self, BuildRecord, PackRequest, PackingStore, ReleaseError, SignRequest},
    },
};

const EXAMPLES: &str = "Examples:
  packgate pack lock.yaml --to oci:out:v1
  packgate pack lock.yaml --to registry.example.com/team-a/siem:v1.4.0 --key packgate.key
  packgate pack lock.yaml --to registry.example.com/team-a/siem:v1.4.0 --key packgate.key --sbom \
  SPDX
  packgate pack lock.yaml --to oci-archive:siem.tar:v1 --format Artifact
  packgate pack lock.yaml --to oci:out:v1 --fetch-credentials credentials.yaml --mirror \
  up.example.org=mirror.example.com/up";

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
    #[command(flatten)]
    fetch: FetchArgs,
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
    fn sbom_format(self, is_signed: bool) -> Result<Option<SbomFormat>, CliError> {
        match self {
            Self::None => Ok(None),
            _ if !is_signed => Err(CliError::invalid(
                "--sbom needs --key or --identity-token: a software bill of materials is attested, \
                    not only attached",
            )),
            Self::Spdx => Ok(Some(SbomFormat::Spdx)),
            Self::CycloneDX => Ok(Some(SbomFormat::CycloneDX)),
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
    let sbom = args.sbom.sbom_format(signer.is_some())?;
    let started_on = context.clock().now();
    let origins = args.artifact_origins(&input, &lock, context)?;
    let destination = PackDestination::new(&args.to, context)?;
    let release = context.release_context(&*destination.target);
    let request = PackRequest {
        lock: &lock,
        output: &output,
        allow_outside: args.allow_outside,
    };
    let pushed = release::pack_and_push(&release, &destination.packing, origins, request)
        .await
        .map_err(|error| match error {
            ReleaseError::Pack(error) => input.prefix_file_name(error.into()),
            error => error.into(),
        })?;
    let lock_digest = lock.to_canonical().digest;
    let tag = destination_tag(&args.to)?;
    let request = SignRequest {
        root: &pushed.root,
        build: BuildRecord {
            request,
            lock_digest,
            zstd_encoder: Some(&format!("libzstd {}", zstd::zstd_safe::version_string())),
            downloads: &pushed.stored.download_locations.iter().cloned().collect(),
            builder_id: CLI_BUILDER,
            invocation_id: &format!("cli/{}/{started_on}", lock_digest.hex_digits()),
            started_on,
            requested: None,
        },
        sbom,
        signer: signer.as_deref(),
        subject_name: &subject_name(&args.to, lock.name.as_deref()),
        tag: tag.as_ref().map(|tag| TagAssignment {
            tag,
            policy: JobTagPolicy::Mutable,
        }),
    };
    let released = release::sign_and_tag(&release, request).await?;
    pack_result(&args.to, lock_digest, &pushed.stored, &released.published)
}

impl PackArgs {
    /// Where the artifacts come from, once it is clear that all of them may be fetched.
    fn artifact_origins(
        &self,
        input: &InputFile,
        lock: &Lockfile,
        context: &CliContext,
    ) -> Result<Arc<OriginDispatcher>, CliError> {
        let outside = if self.allow_outside {
            OutsideFolderPolicy::Allowed
        } else {
            OutsideFolderPolicy::Refused
        };
        let downloads = self.fetch.download_access(context)?;
        let origins = context.artifact_origins(input.folder.clone(), outside, downloads)?;
        lock.check_packable(self.allow_outside)
            .map_err(|error| input.prefix_file_name(error.into()))?;
        let images: Vec<ImageReference> = lock
            .artifacts
            .iter()
            .filter_map(LockedArtifact::oci_reference)
            .collect();
        context.check_plain_http_hosts(
            registry_host(&self.to)
                .into_iter()
                .chain(images.iter().map(|image| image.repository.host())),
        )?;
        Ok(Arc::new(origins))
    }
}

/// Where a bundle is packed, and where it goes.
struct PackDestination {
    packing: PackingStore,
    target: Arc<dyn ContentTarget>,
    _staging_folder: Option<tempfile::TempDir>,
}

impl PackDestination {
    fn new(to: &BundleLocation, context: &CliContext) -> Result<Self, CliError> {
        if let Some(store) = CliContext::create_local_store(to)? {
            return Ok(Self {
                packing: PackingStore::Target(Arc::clone(&store)),
                target: store,
                _staging_folder: None,
            });
        }
        let folder = tempfile::Builder::new()
            .prefix("packgate-")
            .tempdir()
            .map_err(|e| CliError::internal(format!("no temporary folder: {e}")))?;
        let layout =
            OciLayoutTarget::open_or_create(&folder.path().join("layout").to_string_lossy())?;
        Ok(Self {
            packing: PackingStore::Staging(Arc::new(layout)),
            target: context.open_signing_target(to)?,
            _staging_folder: Some(folder),
        })
    }
}

fn pack_result(
    to: &BundleLocation,
    lock_digest: Digest,
    packed: &StoredBundle,
    published: &PublishOutcome,
) -> Result<CommandResult, CliError> {
    let reference = to.clone().with_digest(packed.root.digest).to_string();
    let mut fields = json!({
        "reference": reference,
        "digest": packed.root.digest,
        "lockDigest": lock_digest,
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
