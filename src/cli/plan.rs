//! `packgate plan`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{
    context::CliContext, error::CliError, input_file::InputFile, output::CommandResult,
    output_args::OutputArgs,
};
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

pub(super) fn run_plan(args: &PlanArgs, _: &CliContext) -> Result<CommandResult, CliError> {
    let input = InputFile::read_lockfile(&args.lock)?;
    let lock = input.parse_lockfile()?;
    let output = args.output.bundle_output()?;
    let predict = || {
        lock.check_packable(true)?;
        let plan = PackPlan::new(&lock, output)?;
        Ok::<_, CliError>((plan.predict_digest()?, plan.lock.digest))
    };
    let (digest, lock_digest) = predict().map_err(|error| input.prefix_file_name(error))?;
    CommandResult::new(
        digest.to_string(),
        "Plan",
        json!({"digest": digest, "lockDigest": lock_digest}),
    )
}
