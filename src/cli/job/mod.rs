//! `packgate job`: the processes of the controller's Jobs. Each one ends with a [`JobReport`] in
//! the termination message.

mod downloads;
mod job_files;
mod pack;
mod sign;

use std::{fs::OpenOptions, io::Write, panic::AssertUnwindSafe, path::Path};

use clap::{Args, Subcommand};
use futures::FutureExt;
use tokio::signal::unix::{SignalKind, signal};

use super::{context::CliContext, error::CliError, output::CommandResult};
use crate::{
    core::{
        job::{INPUTS_FILE, JobFailure, JobReport, JobStep, JobSuccess},
        reason::Reason,
    },
    telemetry::stderr::write_line,
};

const EXAMPLES: &str = "Examples:
  packgate job pack --inputs /inputs --work /work --registry-config /push/.dockerconfigjson
  packgate job sign --inputs /inputs --digest sha256:… --registry-config /push/.dockerconfigjson \\
    --key /key/cosign.key --key-password-file /key/cosign.password

The controller starts these in Jobs. Credentials come from the files that are named and from \
nowhere else. Both write a report: one JSON document of at most 4,096 bytes.";

/// Where the kubelet reads a container's termination message. The file exists in every container,
/// so it is never created.
const TERMINATION_LOG: &str = "/dev/termination-log";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct JobArgs {
    #[command(subcommand)]
    command: JobCommand,
}

#[derive(Debug, Subcommand)]
enum JobCommand {
    /// Fetch what the frozen lock names, pack it and push it by digest; tags and signs nothing
    Pack(pack::PackJobArgs),
    /// Re-derive a pushed bundle from the frozen lock; then sign, attest, verify and tag it
    Sign(sign::SignJobArgs),
}

pub(super) async fn run_job(
    args: JobArgs,
    context: &CliContext,
) -> Result<CommandResult, CliError> {
    let (step, file) = match &args.command {
        JobCommand::Pack(pack) => (JobStep::Pack, pack.ends.report.clone()),
        JobCommand::Sign(sign) => (JobStep::Sign, sign.ends.report.clone()),
    };
    let outcome = match listen_for_sigterm() {
        Ok(signal) => run_until_signal(Box::pin(run_step(args.command, context)), signal).await,
        Err(error) => Err(error),
    };
    let report = job_report(step, &outcome);
    emit_report(&report, file.as_deref());
    CommandResult::new(outcome?.digest.to_string(), "JobReport", report)
}

async fn run_step(command: JobCommand, context: &CliContext) -> Result<JobSuccess, CliError> {
    reject_ignored_options(context)?;
    match command {
        JobCommand::Pack(args) => pack::run_pack_job(args, context).await,
        JobCommand::Sign(args) => sign::run_sign_job(args, context).await,
    }
}

/// Runs the work until it is done, panics, or the process is stopped.
async fn run_until_signal(
    work: impl Future<Output = Result<JobSuccess, CliError>>,
    stop: impl Future<Output = ()>,
) -> Result<JobSuccess, CliError> {
    tokio::select! {
        biased;
        () = stop => Err(CliError::new(
            Reason::DeadlineExceeded,
            "stopped before it was done: its time was up (spec.timeout), or its Pod was deleted or \
                evicted",
        )),
        outcome = AssertUnwindSafe(work).catch_unwind() => outcome.unwrap_or_else(|_| Err(CliError::internal("panic; see the log for its location"))),
    }
}

/// Waits for SIGTERM. The handler is installed by this call, not when the future is polled: process
/// 1 has no default handler.
fn listen_for_sigterm() -> Result<impl Future<Output = ()>, CliError> {
    let mut signal = signal(SignalKind::terminate())
        .map_err(|e| CliError::internal(format!("cannot install the SIGTERM handler: {e}")))?;
    Ok(async move { _ = signal.recv().await })
}

/// Refuses options that would be ignored silently.
fn reject_ignored_options(context: &CliContext) -> Result<(), CliError> {
    let global = context.global_args();
    let of_registries = [
        &global.plain_http,
        &global.token_service,
        &global.registry_mirror,
    ];
    if global.ca_file.is_some() || of_registries.into_iter().any(|values| !values.is_empty()) {
        return Err(CliError::invalid(format!(
            "--plain-http, --ca-file, --token-service and --registry-mirror are not used in a Job, \
                {INPUTS_FILE} configures how registries are accessed"
        )));
    }
    Ok(())
}

fn job_report(step: JobStep, outcome: &Result<JobSuccess, CliError>) -> JobReport {
    let result = match outcome {
        Ok(success) => Ok(success.clone()),
        Err(error) => Err(JobFailure::new(error.reason, &error.message)),
    };
    JobReport { step, result }
}

/// Writes the report and logs it. Errors are only logged: the exit code must not change.
fn emit_report(report: &JobReport, path: Option<&Path>) {
    match report.to_termination_message() {
        Ok(message) => {
            write_line(&message);
            if let Err(error) = write_report(path, &message) {
                let path = path.unwrap_or_else(|| Path::new(TERMINATION_LOG));
                write_line(format_args!(
                    "warning: the report could not be written: {}: {error}",
                    path.display()
                ));
            }
        }
        Err(error) => write_line(format_args!("warning: no report was written: {error}")),
    }
}

fn write_report(path: Option<&Path>, message: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).truncate(true).create(path.is_some());
    options
        .open(path.unwrap_or_else(|| Path::new(TERMINATION_LOG)))?
        .write_all(message.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;
    use crate::core::digest::Digest;

    fn success() -> JobSuccess {
        let digest = Digest::of_bytes(b"bundle");
        JobSuccess {
            lock_digest: Digest::of_bytes(b"lock"),
            digest,
            size: 1,
            layers: 2,
            artifacts: 1,
            evidence: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_job_that_is_stopped_says_so() {
        let stopped = run_until_signal(pending(), ready(())).await;
        let Err(failure) = job_report(JobStep::Pack, &stopped).result else {
            panic!("it was stopped")
        };
        assert_eq!(
            (failure.reason, failure.class().exit_code()),
            (Reason::DeadlineExceeded, 3)
        );
        assert!(failure.message.starts_with("stopped before it was done"));
    }

    #[tokio::test]
    async fn a_panic_is_a_report_too() {
        let panicked = run_until_signal(async { panic!("a defect") }, pending()).await;
        assert_eq!(panicked.expect_err("a panic").reason, Reason::Internal);
        assert_eq!(
            run_until_signal(ready(Ok(success())), pending())
                .await
                .expect("done"),
            success()
        );
    }

    #[test]
    fn a_report_replaces_what_was_there_and_a_path_that_cannot_be_written_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("report");
        std::fs::write(&path, "x".repeat(10_000)).expect("written");
        let report = JobReport {
            step: JobStep::Sign,
            result: Ok(success()),
        };
        emit_report(&report, Some(&path));
        let written =
            JobReport::parse(&std::fs::read_to_string(&path).expect("there")).expect("a report");
        assert_eq!(written, report);
        emit_report(&report, Some(&folder.path().join("none/report")));
        assert!(write_report(Some(folder.path()), "x").is_err());
    }
}
