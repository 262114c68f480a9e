//! The command line: the only place that connects traits with implementations.
//!
//! Results go to stdout, progress and logs to stderr. Exit codes: 0 done or admitted, 1 denied, 2
//! invalid input, 3 a dependency is unavailable, 4 bytes do not match a digest or format, 70 an
//! internal error.

mod args;
mod attest;
mod bundle_signer;
mod certificate;
mod cluster;
mod completion;
mod context;
mod controller;
mod copy;
mod crds;
mod exit;
mod in_cluster;
mod input_file;
mod inspect;
mod job;
mod keys;
mod lock;
mod output;
mod pack;
mod plain_http;
mod plan;
mod policy;
mod policy_files;
mod progress;
mod rbac;
mod registry_clients;
mod sign;
mod signer;
mod sigstore;
mod trust_root;
mod unpack;
mod verify;
mod version;
mod webhook;

use std::{process::ExitCode, time::Duration};

use clap::Parser;

use args::{Cli, CliCommand};
use context::CliContext;
use exit::CliError;
use output::CommandResult;

/// How long the process waits for remaining threads at its end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Parses the arguments of this process, runs the subcommand, and returns the exit code.
pub fn run_cli() -> ExitCode {
    let cli = Cli::parse();
    if matches!(
        cli.command,
        CliCommand::Controller(_) | CliCommand::Webhook(_)
    ) {
        crate::telemetry::init_json_logging(cli.global.verbose);
    } else {
        crate::telemetry::init_logging(cli.global.verbose);
    }
    let format = cli.global.output;
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return exit::print_error(
                &CliError::internal(format!("the async runtime cannot start: {error}")),
                format,
            );
        }
    };
    let outcome = runtime.block_on(dispatch_command(cli));
    // Threads that still wait for a disk or a network must not keep the process alive once it has a
    // result.
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    match outcome {
        Ok(done) => exit::print_result(&done, format),
        Err(error) => exit::print_error(&error, format),
    }
}

async fn dispatch_command(cli: Cli) -> Result<CommandResult, CliError> {
    let context = CliContext::new(cli.global);
    match cli.command {
        CliCommand::Pack(args) => pack::run_pack(args, &context).await,
        CliCommand::Plan(args) => plan::run_plan(&args, &context),
        CliCommand::Lock(args) => lock::run_lock(args, &context).await,
        CliCommand::Inspect(args) => inspect::run_inspect(args, &context).await,
        CliCommand::Unpack(args) => unpack::run_unpack(args, &context).await,
        CliCommand::Sign(args) => sign::run_sign(args, &context).await,
        CliCommand::Attest(args) => attest::run_attest(args, &context).await,
        CliCommand::Sigstore(args) => sigstore::run_sigstore(args, &context).await,
        CliCommand::Verify(args) => verify::run_verify(args, &context).await,
        CliCommand::Copy(args) => copy::run_copy(args, &context).await,
        CliCommand::Keys(args) => keys::run_keys(args).await,
        CliCommand::Policy(args) => policy::run_policy(args, &context).await,
        CliCommand::Job(args) => Box::pin(job::run_job(args, &context)).await,
        CliCommand::Controller(args) => Box::pin(controller::run_controller(args)).await,
        CliCommand::Webhook(args) => Box::pin(webhook::run_webhook(args)).await,
        CliCommand::Crds(args) => crds::run_crds(&args),
        CliCommand::Rbac(args) => rbac::run_rbac(&args),
        CliCommand::Completion(args) => completion::run_completion(&args),
        CliCommand::Version => Ok(version::run_version()),
    }
}
