//! The peak memory of a run of the real binary.

use std::{fs, process::Stdio, thread, time::Duration};

use super::cli::{BINARY, Run, Workspace};

/// Runs the binary with these arguments. Returns its result, and its peak resident set in KiB.
pub(crate) fn run_with_peak_memory(workspace: &Workspace, arguments: &[&str]) -> (Run, u64) {
    let child = workspace
        .command(BINARY)
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let status = format!("/proc/{}/status", child.id());
    // Concurrently with reading its output, which may exceed a pipe's capacity.
    let sampler = thread::spawn(move || {
        let mut peak = 0;
        while let Some(now) = fs::read_to_string(&status).ok().and_then(|s| peak_kib(&s)) {
            peak = now.max(peak);
            thread::sleep(Duration::from_millis(1));
        }
        peak
    });
    let run = Run::from(child.wait_with_output().expect("it ended"));
    let peak = sampler.join().expect("no panic");
    assert!(peak > 0, "its memory was never seen");
    (run, peak)
}

/// `None` once the process has ended.
fn peak_kib(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}
