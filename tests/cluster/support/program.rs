//! Runs programs, with a limit of time, and tells all that they said when they fail.

use std::{
    ffi::OsStr,
    io::{Read, Write},
    process::{Child, Command, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::Value;

/// Long enough for everything that does not say otherwise.
const TIMEOUT: Duration = Duration::from_mins(1);

/// A program that is about to run.
pub(crate) struct Program {
    command: Command,
    stdin: Vec<u8>,
    timeout: Duration,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Run {
    /// The program and its arguments.
    pub(crate) line: String,
    /// -1: ended by a signal, or out of time.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Program {
    /// A program in `PATH`, or by its path.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            command: Command::new(program),
            stdin: Vec::new(),
            timeout: TIMEOUT,
        }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    pub(crate) fn folder(mut self, folder: &std::path::Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    pub(crate) fn stdin(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.stdin = text.into();
        self
    }

    /// How long it may take, instead of a minute.
    pub(crate) const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs it to its end, however that is.
    pub(crate) fn run(mut self) -> Run {
        let line = line(&self.command);
        self.command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self
            .command
            .spawn()
            .unwrap_or_else(|e| panic!("{line}: {e}"));
        let mut stdin = child.stdin.take().expect("a pipe");
        let text = self.stdin;
        // A program that ends without reading all of it is not at fault.
        let writer = thread::spawn(move || drop(stdin.write_all(&text)));
        let (stdout, stderr) = (read(child.stdout.take()), read(child.stderr.take()));
        let code = end(&mut child, self.timeout);
        writer.join().expect("no panic");
        let (stdout, mut stderr) = (
            stdout.join().expect("no panic"),
            stderr.join().expect("no panic"),
        );
        if code.is_none() {
            stderr = format!("{stderr}\nended by a signal, or after {:?}", self.timeout);
        }
        Run {
            line,
            code: code.unwrap_or(-1),
            stdout,
            stderr,
        }
    }
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

fn read(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    let mut pipe = pipe.expect("a pipe");
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Its exit code; `None` if a signal ended it, or we did.
fn end(child: &mut Child, timeout: Duration) -> Option<i32> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status.code();
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

impl Run {
    /// Expects success; what was printed, without the final newline.
    #[track_caller]
    pub(crate) fn ok(&self) -> &str {
        assert_eq!(self.code, 0, "{self}");
        self.stdout.trim_end()
    }

    /// Expects success; the printed document.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(self.ok()).unwrap_or_else(|e| panic!("{e}: {self}"))
    }

    /// Expects failure, and this text somewhere in what was printed.
    #[track_caller]
    pub(crate) fn refused(&self, text: &str) -> &Self {
        assert_ne!(self.code, 0, "{self}");
        assert!(
            self.stderr.contains(text) || self.stdout.contains(text),
            "{text:?} is not said: {self}"
        );
        self
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            line,
            code,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "{line}\n-- exit code {code}, stdout:\n{}\n-- stderr:\n{}\n--",
            stdout.trim_end(),
            stderr.trim_end()
        )
    }
}
