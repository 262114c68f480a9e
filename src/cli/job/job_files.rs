//! The files that a Job reads: its frozen inputs, and credentials.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use tokio::task::spawn_blocking;

use crate::{
    cli::{error::CliError, input_file::InputFile},
    core::{
        job::{INPUTS_FILE, JobInputs, LOCK_FILE, MAX_SNAPSHOT},
        lockfile::Lockfile,
        reason::Reason,
    },
    oci::credentials::{AnonymousCredentials, CredentialStore, DockerConfig},
};

/// Bytes of a Docker configuration: the maximum size of a Secret.
const MAX_CONFIG: usize = 1 << 20;

/// Where a Job's inputs come from, and where its report goes.
#[derive(Clone, Debug, Args)]
pub(super) struct JobFileArgs {
    /// Folder with inputs.json and lock.json, as the controller froze them
    #[arg(long, value_name = "DIR")]
    pub(super) inputs: PathBuf,
    /// File for the report [default: /dev/termination-log]
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
}

/// The frozen inputs from the controller.
pub(super) struct JobSnapshot {
    pub(super) inputs: JobInputs,
    pub(super) lock: Lockfile,
}

impl JobSnapshot {
    /// Reads and checks both files. On a thread of its own: a blocked file system must not keep the
    /// Job from terminating.
    pub(super) async fn read_snapshot(folder: &Path) -> Result<Self, CliError> {
        let folder = folder.to_owned();
        let read = move || {
            let file = |name: &str| {
                InputFile::read_limited(&folder.join(name), MAX_SNAPSHOT, Reason::InvalidSpec)
            };
            let inputs = JobInputs::parse(&file(INPUTS_FILE)?.bytes)?;
            let lock = inputs.parse_lock(&file(LOCK_FILE)?.bytes)?;
            Ok(Self { inputs, lock })
        };
        run_blocking(read).await
    }
}

/// The credentials in a Docker configuration, none if there is no file. A configuration from a
/// Secret never starts a helper.
pub(super) async fn read_credentials(
    config: Option<&Path>,
) -> Result<Arc<dyn CredentialStore>, CliError> {
    let Some(path) = config.map(ToOwned::to_owned) else {
        return Ok(Arc::new(AnonymousCredentials));
    };
    let read = move || {
        let input = InputFile::read_limited(&path, MAX_CONFIG, Reason::InvalidSpec)?;
        let config = DockerConfig::parse(&input.bytes)
            .map_err(|error| input.prefix_file_name(error.into()))?;
        let store: Arc<dyn CredentialStore> = Arc::new(config);
        Ok(store)
    };
    run_blocking(read).await
}

pub(super) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CliError> + Send + 'static,
) -> Result<T, CliError> {
    spawn_blocking(work)
        .await
        .map_err(|e| CliError::internal(format!("the worker thread ended early: {e}")))?
}
