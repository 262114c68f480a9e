//! Runs the real binary.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_packgate");

/// A folder to work in, with a private home.
pub(crate) struct Workspace {
    folder: tempfile::TempDir,
}

/// The result of a run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Workspace {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    /// A workspace with a lock of two files, `hello.sh` (0755) and `notes.txt`, in `lock.yaml`.
    pub(crate) fn with_lock() -> Self {
        let workspace = Self::new();
        workspace.write("files/hello.sh", HELLO);
        workspace.write("files/notes.txt", NOTES);
        workspace.write("lock.yaml", LOCK);
        workspace
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.file(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(path, content).expect("a file");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// The binary, in this folder, without the caller's environment.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear();
        if let Some(profile) = std::env::var_os("LLVM_PROFILE_FILE") {
            // so that coverage counts what the binary runs
            command.env("LLVM_PROFILE_FILE", profile);
        }
        command
            .current_dir(self.path())
            .env("PATH", path)
            .env("HOME", self.path())
            .env("COSIGN_PASSWORD", "test")
            .env("PACKGATE_RATE_LIMIT_WAIT", "0");
        command
    }

    /// Runs packgate with these arguments.
    pub(crate) fn packgate<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        Run::from(
            self.command(BINARY)
                .args(args)
                .output()
                .expect("the binary runs"),
        )
    }

    /// Runs packgate with a line of arguments, split at spaces.
    pub(crate) fn run(&self, line: &str) -> Run {
        self.packgate(line.split_whitespace())
    }

    /// Runs packgate once for each line, concurrently.
    pub(crate) fn at_once(&self, lines: impl IntoIterator<Item = String>) -> Vec<Run> {
        let mut children = Vec::new();
        for line in lines {
            let mut command = self.command(BINARY);
            command
                .args(line.split_whitespace())
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            children.push(command.spawn().expect("the binary runs"));
        }
        children
            .into_iter()
            .map(|child| Run::from(child.wait_with_output().expect("it ends")))
            .collect()
    }

    /// Runs another program and expects success.
    pub(crate) fn tool<S: AsRef<OsStr>>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Run {
        let output = self
            .command(program)
            .args(args)
            .output()
            .unwrap_or_else(|e| panic!("{program}: {e}; make tools gets it"));
        Run::from(output)
    }

    /// Makes `packgate.key` and `packgate.pub`.
    pub(crate) fn keys(&self) -> &Self {
        self.run("keys generate").ok();
        self
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Run {
    /// Expects success and returns the output, without the final newline.
    #[track_caller]
    pub(crate) fn ok(&self) -> &str {
        assert_eq!(self.code, 0, "{self:#?}");
        self.stdout.trim_end()
    }

    /// Expects this exit code, and this reason in the error or report.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, reason: &str) -> &Self {
        assert_eq!(self.code, code, "{self:#?}");
        let told = self.stderr.contains(reason) || self.stdout.contains(reason);
        assert!(told, "{reason} is not named: {self:#?}");
        self
    }

    /// Expects success and parses the printed document.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(self.ok()).unwrap_or_else(|e| panic!("{e}: {self:#?}"))
    }
}

pub(crate) const HELLO: &str = "#!/bin/sh\necho \"hello from a bundle\"\n";
pub(crate) const NOTES: &str = "Packed by packgate.\n";
pub(crate) const LOCK: &str = r#"apiVersion: packgate.dev/v1alpha1
kind: Lockfile
name: hello
version: 1.0.0
artifacts:
- name: hello
  type: file
  origin: files/hello.sh
  target: opt/hello/hello.sh
  checksum: sha256:438cd31d2c34e779160f3ffc22d3642012be09e0f903fcb92e5193b59822fe31
  size: 37
  mode: "0755"
- name: notes
  type: file
  origin: files/notes.txt
  target: opt/hello/notes.txt
  checksum: sha256:75e67071a45f0cc4b076cdbaee827706613a727bc2a900c03b05b78f4ee405c3
  size: 20
"#;
