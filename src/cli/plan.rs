//! `packgate plan`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{context::Context, exit::CliError, lockfile::Input, output::Done, pack::OutputArgs};
use crate::core::pack::PackPlan;

const EXAMPLES: &str = "Examples:
  packgate plan lock.yaml --format Artifact
  packgate lock lock.yaml && packgate plan lock.yaml";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct PlanArgs {
    /// The lockfile, or - for stdin
    lock: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: &PlanArgs, _: &Context) -> Result<Done, CliError> {
    let input = Input::lock(&args.lock)?;
    let lock = input.parse()?;
    let output = args.output.output()?;
    let predict = || {
        lock.check_packable(true)?;
        let plan = PackPlan::new(&lock, output)?;
        Ok::<_, CliError>((plan.predict()?, plan.lock.digest))
    };
    let (digest, lock_digest) = predict().map_err(|error| input.blame(error))?;
    Done::new(
        digest.to_string(),
        "Plan",
        json!({"digest": digest, "lockDigest": lock_digest}),
    )
}
