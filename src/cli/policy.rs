//! `packgate policy`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{context::Context, exit::CliError, output::Done, policies::Policies};

const EXAMPLES: &str = "Examples:
  packgate policy check policy.yaml
  kubectl get cbpol -o yaml | packgate policy check -";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Say whether policies can mean what they say, with the code that evaluates them
    Check {
        /// YAML files with policies and the ConfigMaps and TrustRoots that they name; - for stdin
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

pub(super) fn run(args: PolicyArgs, _: &Context) -> Result<Done, CliError> {
    let PolicyCommand::Check { files } = args.command;
    let policies = Policies::read(&files)?;
    let compiled = policies.compile()?;
    let warnings: Vec<String> = compiled.iter().flat_map(crate::core::policy::Policy::unsafe_settings).collect();
    let names: Vec<&str> = policies.names().collect();
    let mut lines: Vec<String> = names.iter().map(|name| format!("{name}: valid")).collect();
    lines.extend(warnings.iter().map(|warning| format!("unsafe: {warning}")));
    Done::new(lines.join("\n"), "PolicyCheck", json!({"policies": names, "unsafe": warnings}))
}
