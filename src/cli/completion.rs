//! `packgate completion`

use clap::{Args, Command};
use clap_complete::Shell;
use serde_json::json;

use super::{error::CliError, output::CommandResult};

const EXAMPLES: &str = "Examples:
  packgate completion bash > ~/.local/share/bash-completion/completions/packgate
  packgate completion zsh > \"${fpath[1]}/_packgate\"";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// The completion script for `command`, the whole command line.
pub(super) fn run_completion(
    args: &CompletionArgs,
    command: &mut Command,
) -> Result<CommandResult, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "packgate", &mut script);
    let script = String::from_utf8(script).map_err(|e| CliError::internal(e.to_string()))?;
    CommandResult::new(
        script.clone(),
        "Completion",
        json!({"shell": args.shell.to_string(), "script": script}),
    )
}
