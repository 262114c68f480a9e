//! `packgate unpack`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{context::CliContext, error::CliError, output::CommandResult, verify::TrustArgs};
use crate::{
    core::{
        oci::Platform, path_glob::PathGlob, reason::Reason, reference::BundleLocation,
        report::AdmissionReport,
    },
    oci::{ContentSource, ResolvedManifest},
    outdir::OutDirStaging,
    service::{
        bundle_contents,
        unpack::{self, UnpackPermission, UnpackRequest, UnpackSelection},
    },
};

const EXAMPLES: &str = "Examples:
  packgate unpack oci:out:v1 --to files --key packgate.pub
  packgate unpack registry.example.com/team-a/siem:v1.4.0 --to siem --key packgate.pub --select \
  'opt/siem/**'";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct UnpackArgs {
    /// The bundle
    reference: BundleLocation,
    /// A folder that does not exist yet
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Only files whose path matches; * stays inside of a folder, ** crosses folders; can be given
    /// several times
    #[arg(long, value_name = "GLOB")]
    select: Vec<String>,
    /// Which platform's files, for a bundle that has several
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    #[command(flatten)]
    trust: TrustArgs,
    /// Unsafe: do not verify signatures (digests and the lock are still verified)
    #[arg(long)]
    insecure_skip_verify: bool,
}

pub(super) async fn run_unpack(
    args: UnpackArgs,
    context: &CliContext,
) -> Result<CommandResult, CliError> {
    let limits = context.limits();
    let selection = args.selection()?;
    args.check_trust()?;
    let source = args.trust.open_with_signatures(&args.reference, context)?;
    let root = source
        .resolve_manifest(&args.reference.tag_or_digest(), limits)
        .await?;
    let permission = args.permission(&*source, &root, context).await?;
    let contents = bundle_contents::open_bundle(&*source, &root, limits).await?;
    let staging = OutDirStaging::create(&args.to)?;
    let request = UnpackRequest {
        source: &*source,
        root: &root,
        contents: &contents,
        selection,
        limits,
        progress: context.progress_reporter(),
    };
    let (staging, files) = unpack::unpack_bundle(request, permission, staging).await?;
    staging.commit_folder()?;
    let path = args.to.display().to_string();
    let reference = args
        .reference
        .with_digest(root.descriptor.digest)
        .to_string();
    CommandResult::new(
        path.clone(),
        "UnpackResult",
        json!({
            "path": path,
            "reference": reference,
            "files": files,
            "verified": !args.insecure_skip_verify,
        }),
    )
}

impl UnpackArgs {
    fn selection(&self) -> Result<UnpackSelection, CliError> {
        let globs = self
            .select
            .iter()
            .map(|glob| {
                glob.parse::<PathGlob>()
                    .map_err(|e| CliError::invalid(e.to_string()))
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(UnpackSelection {
            globs,
            platform: self.platform.clone(),
        })
    }

    /// Refuses arguments that neither say whom to trust nor that nobody is asked, or both.
    fn check_trust(&self) -> Result<(), CliError> {
        if self.insecure_skip_verify != self.trust.is_given() {
            return Ok(());
        }
        Err(CliError::invalid(if self.insecure_skip_verify {
            "--insecure-skip-verify conflicts with keys and policies to verify with"
        } else {
            NOTHING_TO_TRUST
        }))
    }

    async fn permission(
        &self,
        source: &dyn ContentSource,
        root: &ResolvedManifest,
        context: &CliContext,
    ) -> Result<UnpackPermission, CliError> {
        if self.insecure_skip_verify {
            return Ok(UnpackPermission::WithoutVerification);
        }
        self.trust
            .evaluate_resolved(source, &self.reference, root, context)
            .await?
            .map(UnpackPermission::Cleared)
            .map_err(|report| not_cleared_error(&self.reference, &report))
    }
}

fn not_cleared_error(reference: &BundleLocation, report: &AdmissionReport) -> CliError {
    report.denials().first().map_or_else(
        || {
            let why = format!("{reference} is not unpacked: no policy governs it");
            CliError::new(Reason::Ungoverned, why)
        },
        |first| {
            let why = format!(
                "{reference} is not unpacked: {}; to see everything: {}",
                first.message,
                report.reproduce_command()
            );
            CliError::new(first.reason, why)
        },
    )
}

const NOTHING_TO_TRUST: &str = "no trusted key or policy is given: give --key FILE or --policy FILE, or \
    (unsafe) --insecure-skip-verify";
