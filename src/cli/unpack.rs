//! `packgate unpack`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{context::Context, exit::CliError, output::Done, verify::TrustArgs};
use crate::{
    core::{class::Reason, glob::PathGlob, oci::Platform, reference::Location},
    outdir::Staging,
    service::{
        contents,
        unpack::{self, Selection},
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
    reference: Location,
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
    /// Unsafe: do not ask who signed the bundle (digests and the lock are checked all the same)
    #[arg(long)]
    insecure_skip_verify: bool,
}

pub(super) async fn run(args: UnpackArgs, context: &Context) -> Result<Done, CliError> {
    let limits = context.limits();
    let globs = args
        .select
        .iter()
        .map(|glob| {
            glob.parse::<PathGlob>()
                .map_err(|e| CliError::invalid(e.to_string()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    if args.insecure_skip_verify == args.trust.is_given() {
        let say = if args.insecure_skip_verify {
            "--insecure-skip-verify and something to verify with exclude each other"
        } else {
            NOTHING_TO_TRUST
        };
        return Err(CliError::invalid(say));
    }
    let source = context.open(&args.reference)?;
    let root = source.resolve(&args.reference.selector(), limits).await?;
    if !args.insecure_skip_verify {
        let report = args
            .trust
            .judge(&*source, &args.reference, &root, context)
            .await?;
        if let Some(first) = report.denials.first() {
            let why = format!(
                "{} is not unpacked: {}; to see everything: {}",
                args.reference, first.message, report.reproduce
            );
            return Err(CliError::new(first.reason, why));
        }
        if report.class().is_some() {
            return Err(CliError::new(
                Reason::Ungoverned,
                format!("{} is not unpacked: no policy governs it", args.reference),
            ));
        }
    }
    let contents = contents::open(&*source, &root, limits).await?;
    let staging = Staging::create(&args.to)?;
    let selection = Selection {
        globs,
        platform: args.platform,
    };
    let (staging, files) = unpack::unpack(
        &*source,
        &contents,
        &selection,
        staging,
        limits,
        context.progress(),
    )
    .await?;
    staging.commit()?;
    let path = args.to.display().to_string();
    let reference = args
        .reference
        .with_digest(root.descriptor.digest)
        .to_string();
    Done::new(
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

const NOTHING_TO_TRUST: &str = "nothing says whom to trust: give --key FILE or --policy FILE, or \
    (unsafe) --insecure-skip-verify";
