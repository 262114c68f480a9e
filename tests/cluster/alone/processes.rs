//! Packgate's processes in Pods, as the node sees them. Only in a cluster of our own.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::support::{program::Program, wait::wait_for};

/// Clock ticks in a second, as `/proc/PID/stat` counts them.
const TICKS: f64 = 100.0;

/// How long a new process may still become another.
const SETTLED: Duration = Duration::from_secs(5);

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pid: String,
    started: u64,
}

impl Process {
    /// The packgate that was started with this variable.
    pub(crate) fn find(variable: &str, value: impl Fn(&str) -> bool) -> Option<Self> {
        pids()
            .filter(|pid| is_packgate(pid))
            .filter(|pid| environment(pid, variable).is_some_and(|found| value(&found)))
            .find_map(Self::of)
    }

    /// The controller in this Pod.
    pub(crate) fn controller(pod: &str) -> Option<Self> {
        Self::find("PACKGATE_IDENTITY", |identity| identity == pod)
    }

    fn of(pid: String) -> Option<Self> {
        let started = stat(&pid)?.1;
        Some(Self { pid, started })
    }

    /// Sends a signal, as `KILL`.
    #[track_caller]
    pub(crate) fn signal(&self, name: &str) {
        Program::new("kill")
            .args([&format!("-{name}"), &self.pid])
            .run()
            .ok();
    }

    /// Does it run, and may it go on?
    pub(crate) fn is_there(&self) -> bool {
        stat(&self.pid)
            .is_some_and(|(state, started)| started == self.started && state != 'Z' && state != 'X')
    }

    /// Ends it as a power cut would, and waits until it is gone.
    #[track_caller]
    pub(crate) fn kill(&self) {
        self.signal("KILL");
        wait_for(
            "the end of a killed process",
            Duration::from_secs(10),
            || (!self.is_there()).then_some(()),
        );
    }

    /// Resident memory, in KiB.
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("a process");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("VmRSS");
        line.trim()
            .trim_end_matches(" kB")
            .parse()
            .expect("a number")
    }

    /// Seconds since it was started, to a hundredth.
    pub(crate) fn age(&self) -> f64 {
        let uptime = fs::read_to_string("/proc/uptime").expect("/proc/uptime");
        let uptime: f64 = uptime
            .split(' ')
            .next()
            .and_then(|seconds| seconds.parse().ok())
            .expect("a number");
        let ticks = u32::try_from(self.started).expect("a machine that was started lately");
        uptime - f64::from(ticks) / TICKS
    }
}

/// Stops the packgate of each of these Pods as soon as it is there. Each lives for some hundredths
/// of a second, so nothing here may be slow: processes that are known to be something else are not
/// looked at again, and the shell that sends the signals runs already.
pub(crate) fn stop_each(hosts: &[String], timeout: Duration) -> Vec<Process> {
    let mut shell = Command::new("bash")
        .stdin(Stdio::piped())
        .spawn()
        .expect("bash");
    let mut signals = shell.stdin.take().expect("a pipe");
    let (mut stopped, mut known) = (BTreeMap::new(), BTreeMap::<String, Instant>::new());
    let deadline = Instant::now() + timeout;
    while stopped.len() < hosts.len() {
        assert!(
            Instant::now() < deadline,
            "of {hosts:?} only {:?} were seen",
            stopped.keys()
        );
        for pid in pids() {
            let since = *known.entry(pid.clone()).or_insert_with(Instant::now);
            // A process that was just made has the name and the variables of whoever made it.
            if since.elapsed() > SETTLED || !is_packgate(&pid) {
                continue;
            }
            let Some(host) = environment(&pid, "HOSTNAME")
                .and_then(|found| hosts.iter().find(|host| found.starts_with(*host)))
            else {
                continue;
            };
            if !stopped.contains_key(host) {
                writeln!(signals, "kill -STOP {pid}").expect("a shell");
                stopped.extend(Process::of(pid).map(|process| (host, process)));
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    drop(signals);
    shell.wait().expect("bash");
    stopped.into_values().collect()
}

fn pids() -> impl Iterator<Item = String> {
    let entries = fs::read_dir("/proc").expect("/proc");
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|b| b.is_ascii_digit()))
}

fn is_packgate(pid: &str) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"/packgate\0"))
}

fn environment(pid: &str, variable: &str) -> Option<String> {
    let all = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut pairs = all.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    pairs.find_map(|pair| {
        pair.strip_prefix(variable)?
            .strip_prefix('=')
            .map(ToOwned::to_owned)
    })
}

/// Its state, and when it was started, in ticks since boot.
fn stat(pid: &str) -> Option<(char, u64)> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let mut fields = line.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}
