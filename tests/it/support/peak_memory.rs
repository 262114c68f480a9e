//! The peak memory of a run of the real binary.

use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use super::cli::{BINARY, Run, Workspace};

/// Stops itself, and becomes the program once it is continued.
const WAIT: &str = r#"kill -STOP $$; exec "$0" "$@""#;

/// Runs the binary with these arguments. Returns its result, and its peak resident set in KiB.
///
/// It starts when its memory is looked at already: on a busy machine a short run would else be over
/// before.
pub(crate) fn run_with_peak_memory(workspace: &Workspace, arguments: &[&str]) -> (Run, u64) {
    let child = workspace
        .command("sh")
        .args(["-c", WAIT, BINARY])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a shell runs");
    let process = child.id().to_string();
    let status = format!("/proc/{process}/status");
    let read = move || fs::read_to_string(&status).unwrap_or_default();
    loop {
        match field(&read(), "State") {
            Some("T (stopped)") => break,
            Some(state) if !state.starts_with('Z') => thread::sleep(Duration::from_millis(1)),
            ended => panic!("the shell did not stop itself: {ended:?}"),
        }
    }
    // Concurrently with reading its output, which may exceed a pipe's capacity.
    let sampler = thread::spawn(move || {
        let continued = Command::new("kill").args(["-CONT", &process]).status();
        assert!(continued.expect("kill runs").success());
        let mut peak = 0;
        while let Some((name, now)) = name_and_peak(&read()) {
            if name != "sh" {
                peak = now.max(peak);
            }
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
fn name_and_peak(status: &str) -> Option<(&str, u64)> {
    let peak = field(status, "VmHWM")?.strip_suffix(" kB")?.trim();
    Some((field(status, "Name")?, peak.parse().ok()?))
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = status.lines().filter_map(|line| line.split_once(':'));
    fields
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.trim())
}
