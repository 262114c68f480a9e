//! The command line: the only place that puts implementations together.
//!
//! Results go to stdout, progress and logs to stderr. Exit codes: 0 done or admitted, 1 denied, 2
//! invalid input, 3 a dependency did not answer, 4 bytes contradict a digest or format, 70 our bug.

mod args;
mod attest;
mod certificate;
mod cluster;
mod completion;
mod context;
mod controller;
mod copy;
mod crds;
mod endorser;
mod exit;
mod in_cluster;
mod inspect;
mod job;
mod keys;
mod lock;
mod lockfile;
mod output;
mod pack;
mod plain_http;
mod plan;
mod policies;
mod policy;
mod progress;
mod rbac;
mod registries;
mod sign;
mod signer;
mod sigstore;
mod trust;
mod unpack;
mod verify;
mod version;
mod webhook;

use std::{process::ExitCode, time::Duration};

use clap::Parser;

use args::{Cli, Command};
use context::Context;
use exit::CliError;
use output::Done;

/// How long threads are waited for that were left behind.
const LAST_BREATH: Duration = Duration::from_secs(2);

/// Parses the arguments of this process, does what they say, and returns the exit code.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, Command::Controller(_) | Command::Webhook(_)) {
        crate::telemetry::init_json(cli.global.verbose);
    } else {
        crate::telemetry::init(cli.global.verbose);
    }
    let format = cli.global.output;
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return exit::fail(
                &CliError::internal(format!("the async runtime cannot start: {error}")),
                format,
            );
        }
    };
    let outcome = runtime.block_on(dispatch(cli));
    // Threads that still wait for a disk or a network must not keep a process alive that has its
    // answer.
    runtime.shutdown_timeout(LAST_BREATH);
    match outcome {
        Ok(done) => exit::finish(&done, format),
        Err(error) => exit::fail(&error, format),
    }
}

async fn dispatch(cli: Cli) -> Result<Done, CliError> {
    let context = Context::new(cli.global);
    match cli.command {
        Command::Pack(args) => pack::run(args, &context).await,
        Command::Plan(args) => plan::run(&args, &context),
        Command::Lock(args) => lock::run(args, &context).await,
        Command::Inspect(args) => inspect::run(args, &context).await,
        Command::Unpack(args) => unpack::run(args, &context).await,
        Command::Sign(args) => sign::run(args, &context).await,
        Command::Attest(args) => attest::run(args, &context).await,
        Command::Sigstore(args) => sigstore::run(args, &context).await,
        Command::Verify(args) => verify::run(args, &context).await,
        Command::Copy(args) => copy::run(args, &context).await,
        Command::Keys(args) => keys::run(args).await,
        Command::Policy(args) => policy::run(args, &context).await,
        Command::Job(args) => Box::pin(job::run(args, &context)).await,
        Command::Controller(args) => Box::pin(controller::run(args)).await,
        Command::Webhook(args) => Box::pin(webhook::run(args)).await,
        Command::Crds(args) => crds::run(&args),
        Command::Rbac(args) => rbac::run(&args),
        Command::Completion(args) => completion::run(&args),
        Command::Version => Ok(version::run()),
    }
}
