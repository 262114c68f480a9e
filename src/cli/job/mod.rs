//! `packgate job`: what the controller's Jobs run. However one ends, its last words are a
//! [`JobReport`] in the termination message.

mod pack;
mod sign;

use std::{
    fs::OpenOptions,
    io::Write,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, Subcommand};
use futures::FutureExt;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
};

use super::{context::Context, exit::CliError, lockfile::Input, output::Done};
use crate::{
    core::{
        class::Reason,
        job::{Failure, INPUTS_FILE, Inputs, JobReport, LOCK_FILE, MAX_SNAPSHOT, Step, Success},
        lockfile::Lockfile,
    },
    oci::auth::{Anonymous, CredentialStore, DockerConfig},
    telemetry::stderr::line,
};

const EXAMPLES: &str = "Examples:
  packgate job pack --inputs /inputs --work /work --registry-config /push/.dockerconfigjson
  packgate job sign --inputs /inputs --digest sha256:… --registry-config /push/.dockerconfigjson \\
    --key /key/cosign.key --key-password-file /key/cosign.password

The controller starts these in Jobs. Credentials come from the files that are named and from \
nowhere else. Both write a report of one JSON document, at most 4,096 bytes.";

/// Where the kubelet looks for the last words of a container. It is there in every container, so it
/// is never made.
const TERMINATION_LOG: &str = "/dev/termination-log";
/// Bytes of a Docker configuration: what a Secret can hold.
const MAX_CONFIG: usize = 1 << 20;

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

/// Where a Job's inputs come from, and where its report goes.
#[derive(Clone, Debug, Args)]
struct Ends {
    /// Folder with inputs.json and lock.json, as the controller froze them
    #[arg(long, value_name = "DIR")]
    inputs: PathBuf,
    /// File for the report [default: /dev/termination-log]
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// What the controller froze.
struct Snapshot {
    inputs: Inputs,
    lock: Lockfile,
}

pub(super) async fn run(args: JobArgs, context: &Context) -> Result<Done, CliError> {
    let (step, file) = match &args.command {
        JobCommand::Pack(pack) => (Step::Pack, pack.ends.report.clone()),
        JobCommand::Sign(sign) => (Step::Sign, sign.ends.report.clone()),
    };
    let outcome = match terminated() {
        Ok(signal) => until(Box::pin(perform(args.command, context)), signal).await,
        Err(error) => Err(error),
    };
    let report = report(step, &outcome);
    tell(&report, file.as_deref());
    Done::new(outcome?.digest.to_string(), "JobReport", report)
}

async fn perform(command: JobCommand, context: &Context) -> Result<Success, CliError> {
    refuse_ignored(context)?;
    match command {
        JobCommand::Pack(args) => pack::run(args, context).await,
        JobCommand::Sign(args) => sign::run(args, context).await,
    }
}

/// Does the work until it is done, it panics, or it is to stop.
async fn until(
    work: impl Future<Output = Result<Success, CliError>>,
    stop: impl Future<Output = ()>,
) -> Result<Success, CliError> {
    tokio::select! {
        biased;
        () = stop => Err(CliError::new(
            Reason::DeadlineExceeded,
            "stopped before it was done: its time was up (spec.timeout), or its Pod was deleted or \
                evicted",
        )),
        outcome = AssertUnwindSafe(work).catch_unwind() => outcome.unwrap_or_else(|_| Err(CliError::internal("a panic; the log tells where"))),
    }
}

/// Waits for SIGTERM. It is listened for from this call on, not only when the future is polled:
/// process 1 has no default for it.
fn terminated() -> Result<impl Future<Output = ()>, CliError> {
    let mut signal = signal(SignalKind::terminate())
        .map_err(|e| CliError::internal(format!("SIGTERM cannot be listened for: {e}")))?;
    Ok(async move { _ = signal.recv().await })
}

/// Options that would be ignored in silence.
fn refuse_ignored(context: &Context) -> Result<(), CliError> {
    let global = context.global();
    if !global.plain_http.is_empty() || global.ca_file.is_some() {
        return Err(CliError::invalid(format!(
            "--plain-http and --ca-file do not count in a Job, {INPUTS_FILE} says how registries \
                are spoken to"
        )));
    }
    Ok(())
}

fn report(step: Step, outcome: &Result<Success, CliError>) -> JobReport {
    let result = match outcome {
        Ok(success) => Ok(success.clone()),
        Err(error) => Err(Failure::new(error.reason, &error.message)),
    };
    JobReport { step, result }
}

/// Writes the report and logs it. What goes wrong here is logged and changes nothing: the exit code
/// must stay what it is.
fn tell(report: &JobReport, path: Option<&Path>) {
    match report.to_message() {
        Ok(message) => {
            line(&message);
            if let Err(error) = write(path, &message) {
                let path = path.unwrap_or_else(|| Path::new(TERMINATION_LOG));
                line(format_args!(
                    "warning: the report could not be written: {}: {error}",
                    path.display()
                ));
            }
        }
        Err(error) => line(format_args!("warning: there is no report: {error}")),
    }
}

fn write(path: Option<&Path>, message: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).truncate(true).create(path.is_some());
    options
        .open(path.unwrap_or_else(|| Path::new(TERMINATION_LOG)))?
        .write_all(message.as_bytes())
}

impl Snapshot {
    /// Reads and checks both files. On a thread of its own: a folder that hangs must not keep the
    /// Job from ending when it is told to.
    async fn read(folder: &Path) -> Result<Self, CliError> {
        let folder = folder.to_owned();
        let read = move || {
            let file =
                |name: &str| Input::read(&folder.join(name), MAX_SNAPSHOT, Reason::InvalidSpec);
            let inputs = Inputs::parse(&file(INPUTS_FILE)?.bytes)?;
            let lock = inputs.lock(&file(LOCK_FILE)?.bytes)?;
            Ok(Self { inputs, lock })
        };
        off_thread(read).await
    }
}

/// The credentials in a Docker configuration, none if there is no file. A file out of a Secret
/// never starts a helper.
async fn credentials(config: Option<&Path>) -> Result<Arc<dyn CredentialStore>, CliError> {
    let Some(path) = config.map(ToOwned::to_owned) else {
        return Ok(Arc::new(Anonymous));
    };
    let read = move || {
        let input = Input::read(&path, MAX_CONFIG, Reason::InvalidSpec)?;
        let config =
            DockerConfig::parse(&input.bytes).map_err(|error| input.blame(error.into()))?;
        let store: Arc<dyn CredentialStore> = Arc::new(config);
        Ok(store)
    };
    off_thread(read).await
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CliError> + Send + 'static,
) -> Result<T, CliError> {
    spawn_blocking(work)
        .await
        .map_err(|e| CliError::internal(format!("the worker thread ended early: {e}")))?
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;
    use crate::core::digest::Digest;

    fn success() -> Success {
        let digest = Digest::of(b"bundle");
        Success {
            lock_digest: Digest::of(b"lock"),
            digest,
            size: 1,
            layers: 2,
            artifacts: 1,
            evidence: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_job_that_is_stopped_says_so() {
        let stopped = until(pending(), ready(())).await;
        let Err(failure) = report(Step::Pack, &stopped).result else {
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
        let panicked = until(async { panic!("a defect") }, pending()).await;
        assert_eq!(panicked.expect_err("a panic").reason, Reason::Internal);
        assert_eq!(
            until(ready(Ok(success())), pending()).await.expect("done"),
            success()
        );
    }

    #[test]
    fn a_report_replaces_what_was_there_and_a_path_that_cannot_be_written_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("report");
        std::fs::write(&path, "x".repeat(10_000)).expect("written");
        let report = JobReport {
            step: Step::Sign,
            result: Ok(success()),
        };
        tell(&report, Some(&path));
        let written =
            JobReport::parse(&std::fs::read_to_string(&path).expect("there")).expect("a report");
        assert_eq!(written, report);
        tell(&report, Some(&folder.path().join("none/report")));
        assert!(write(Some(folder.path()), "x").is_err());
    }
}
