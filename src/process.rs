//! EFFECT. Runs helper programs: credential helpers and providers of registries, plug-ins with keys.
//!
//! Each has a limit for its time and its output, and none inherits a secret of this process.

use std::{
    io,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, copy, sink},
    process::Child,
    time::timeout,
};

pub use tokio::process::Command;

use crate::core::environment::SECRET_VARIABLES;

/// The limits of one run.
#[derive(Clone, Copy, Debug)]
pub struct ProcessLimits {
    /// The time until its end.
    pub timeout: Duration,
    /// Bytes of its stdout. With more it is killed.
    pub stdout_bytes: usize,
    /// Bytes of its stderr that are kept; the rest is read and dropped. With 0 it has no stderr.
    pub stderr_bytes: usize,
    /// Whether the programs that it starts are killed with it. It then has a process group of its
    /// own, and cannot ask at the terminal.
    pub kills_group: bool,
}

/// How a program ended.
#[derive(Debug)]
pub struct ProcessOutput {
    /// Its stdout, complete unless it was killed for its length.
    pub stdout: Vec<u8>,
    /// The beginning of its stderr.
    pub stderr: Vec<u8>,
    /// `None` if it was killed because its stdout is over the limit.
    pub status: Option<ExitStatus>,
}

/// Why there is no output.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started.
    #[error("it cannot be run: {0}")]
    Start(io::Error),
    /// Reading its output failed.
    #[error(transparent)]
    Io(io::Error),
    /// It did not end in time, and was killed.
    #[error("no response within {} s", .0.as_secs())]
    Timeout(Duration),
}

/// Runs `command` with `input` on its stdin until it ends. Dropping the future kills it.
pub async fn run_helper_process(
    mut command: Command,
    input: &[u8],
    limits: ProcessLimits,
) -> Result<ProcessOutput, ProcessError> {
    // The program inherits the environment, with its own secrets, but without ours.
    for secret in SECRET_VARIABLES {
        command.env_remove(secret);
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(if limits.stderr_bytes > 0 {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .kill_on_drop(true);
    if limits.kills_group {
        command.process_group(0);
    }
    let child = command.spawn().map_err(ProcessError::Start)?;
    let _group = ProcessGroupGuard(child.id().filter(|_| limits.kills_group));
    timeout(limits.timeout, collect_output(child, input, limits))
        .await
        .map_err(|_| ProcessError::Timeout(limits.timeout))?
        .map_err(ProcessError::Io)
}

/// Kills a process group when it is dropped: what a program has left running, too.
struct ProcessGroupGuard(Option<u32>);

impl Drop for ProcessGroupGuard {
    fn drop(&mut self) {
        let id = self.0.and_then(|id| i32::try_from(id).ok());
        if let Some(group) = id.and_then(Pid::from_raw) {
            // An error means that nothing is left of it.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

async fn collect_output(
    mut child: Child,
    input: &[u8],
    limits: ProcessLimits,
) -> io::Result<ProcessOutput> {
    let stderr = child.stderr.take();
    // Output beyond the limit is read and dropped, or the program would block.
    let (ended, stderr) = tokio::join!(
        exchange_input(&mut child, input, limits.stdout_bytes),
        async {
            let mut stderr = stderr?;
            let kept = read_limited(&mut stderr, limits.stderr_bytes).await.ok()?;
            let _ = copy(&mut stderr, &mut sink()).await;
            Some(kept)
        }
    );
    let (stdout, status) = ended?;
    Ok(ProcessOutput {
        stdout,
        stderr: stderr.unwrap_or_default(),
        status,
    })
}

async fn exchange_input(
    child: &mut Child,
    input: &[u8],
    limit: usize,
) -> io::Result<(Vec<u8>, Option<ExitStatus>)> {
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // A program may close its input without reading it: its response is more useful than
            // the broken pipe.
            let _ = stdin.write_all(input).await;
        }
    };
    let read = async {
        match stdout {
            Some(mut stdout) => read_limited(&mut stdout, limit + 1).await,
            None => Ok(Vec::new()),
        }
    };
    tokio::pin!(write, read);
    let stdout = tokio::select! {
        read = &mut read => read,
        () = &mut write => read.await,
    }?;
    if stdout.len() > limit {
        child.kill().await?;
        return Ok((stdout, None));
    }
    Ok((stdout, Some(child.wait().await?)))
}

async fn read_limited(from: &mut (impl AsyncRead + Unpin), limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(limit as u64).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_over_the_limit_ends_a_program() {
        let limits = ProcessLimits {
            timeout: Duration::from_secs(30),
            stdout_bytes: 10,
            stderr_bytes: 3,
            kills_group: false,
        };
        let run = async |script: &str| {
            let mut shell = Command::new("sh");
            shell.args(["-c", script]);
            run_helper_process(shell, b"in", limits).await
        };
        let output = run("cat; echo error >&2; exit 3").await.expect("it runs");
        assert_eq!(
            (output.stdout.as_slice(), output.stderr.as_slice()),
            (b"in".as_slice(), b"err".as_slice())
        );
        assert_eq!(output.status.and_then(|status| status.code()), Some(3));
        let endless = run("yes").await.expect("it runs");
        assert!(endless.status.is_none() && endless.stdout.len() == 11);
    }

    #[tokio::test]
    async fn what_a_program_has_started_ends_with_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let alive = folder.path().join("alive");
        let script = format!(
            "(while :; do touch {0}; sleep 0.1; done) & wait",
            alive.display()
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]);
        let limits = ProcessLimits {
            timeout: Duration::from_millis(500),
            stdout_bytes: 10,
            stderr_bytes: 10,
            kills_group: true,
        };
        let error = run_helper_process(shell, b"", limits).await;
        assert!(matches!(error, Err(ProcessError::Timeout(_))), "{error:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
        std::fs::remove_file(&alive).expect("it ran");
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!alive.exists(), "it still runs");
    }
}
