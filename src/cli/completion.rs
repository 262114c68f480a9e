//! `packgate completion`

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use serde_json::json;

use super::{args::Cli, exit::CliError, output::CommandResult};

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

pub(super) fn run_completion(args: &CompletionArgs) -> Result<CommandResult, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "packgate", &mut script);
    let script = String::from_utf8(script).map_err(|e| CliError::internal(e.to_string()))?;
    CommandResult::new(
        script.clone(),
        "Completion",
        json!({"shell": args.shell.to_string(), "script": script}),
    )
}
