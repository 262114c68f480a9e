//! The command line: the only place that connects traits with implementations.
//!
//! Results go to stdout, progress and logs to stderr. Exit codes: 0 done or admitted, 1 denied, 2
//! invalid input, 3 a dependency is unavailable, 4 bytes do not match a digest or format, 70 an
//! internal error.

mod attest;
mod bundle_signer;
mod certificate;
mod cluster;
mod command;
mod completion;
mod context;
mod controller;
mod copy;
mod crds;
mod credential_files;
mod credential_provider_file;
mod destination;
mod environment_variable;
mod error;
mod exit;
mod fetch_args;
mod fetch_credentials;
mod global_args;
mod in_cluster;
mod input_file;
mod inspect;
mod installation_credentials;
mod job;
mod keys;
mod lock;
mod output;
mod output_args;
mod pack;
mod plain_http;
mod plan;
mod policy;
mod policy_files;
mod progress;
mod rbac;
mod registry_clients;
mod registry_mirrors;
mod sign;
mod signer;
mod sigstore;
mod token_services;
mod trust_root;
mod unpack;
mod verify;
mod version;
mod webhook;

use std::{process::ExitCode, time::Duration};

use clap::Parser;

use command::Cli;
use context::CliContext;
use error::CliError;

/// How long the process waits for remaining threads at its end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Parses the arguments of this process, runs the subcommand, and returns the exit code.
pub fn run_cli() -> ExitCode {
    let cli = Cli::parse();
    if cli.command.is_server() {
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
    let outcome = runtime.block_on(async move {
        let context = CliContext::new(cli.global);
        cli.command.run_command(&context).await
    });
    // Threads that still wait for a disk or a network must not keep the process alive once it has a
    // result.
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    match outcome {
        Ok(done) => exit::print_result(&done, format),
        Err(error) => exit::print_error(&error, format),
    }
}
