//! The real peers: programs and registries from `make tools`.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use super::cli::Workspace;

/// True if the peers are required (`make test-interop`); otherwise the test reports that it was
/// skipped.
pub(crate) fn wanted(test: &str) -> bool {
    let wanted = std::env::var_os("PACKGATE_REQUIRE_TOOLS").is_some();
    if !wanted {
        println!("{test}: not run, PACKGATE_REQUIRE_TOOLS is not set (make test-interop)");
    }
    wanted
}

/// helm, if the test cluster's programs are there (`make cluster-build PROGRAMS=helm`) or one is
/// installed. Elsewhere the test says that it was not run, and fails if the peers are required.
pub(crate) fn helm(test: &str) -> Option<PathBuf> {
    let script = concat!(
        ". ",
        env!("CARGO_MANIFEST_DIR"),
        "/tests/cluster/env/env.sh && command -v helm"
    );
    let output = Command::new("bash")
        .args(["-c", script])
        .output()
        .expect("bash runs");
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !path.is_empty() {
        return Some(PathBuf::from(path));
    }
    assert!(
        std::env::var_os("PACKGATE_REQUIRE_TOOLS").is_none(),
        "{test}: helm is missing (make cluster-build PROGRAMS=helm)"
    );
    println!("{test}: not run, helm is missing (make cluster-build PROGRAMS=helm)");
    None
}

/// The folder of the JSON schemas of image-spec.
pub(crate) fn schemas() -> PathBuf {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/get.sh");
    let output = Command::new(script)
        .arg("--schemas")
        .output()
        .expect("get.sh runs");
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

/// A registry in a process of its own, on a free port of the loopback interface. It ends with this
/// value.
pub(crate) struct Server {
    child: Child,
    pub(crate) host: String,
}

/// With and without the referrers API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Referrers,
    Distribution,
}

pub(crate) const KINDS: [Kind; 2] = [Kind::Referrers, Kind::Distribution];

impl Server {
    pub(crate) fn start(kind: Kind, workspace: &Workspace) -> Self {
        match kind {
            Kind::Referrers => Self::test_registry(workspace, &[]),
            Kind::Distribution => Self::distribution(workspace),
        }
    }

    pub(crate) fn test_registry(workspace: &Workspace, options: &[&str]) -> Self {
        let mut command = workspace.command("test-registry");
        // It ends with its stdin, so none is left behind when a test is killed.
        command
            .args(["-listen", "127.0.0.1:0", "-until-eof"])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command
            .spawn()
            .expect("test-registry starts; make tools gets it");
        let host = find(child.stdout.take().expect("a pipe"), "listening ");
        Self { child, host }
    }

    fn distribution(workspace: &Workspace) -> Self {
        workspace.write(
            "distribution.yml",
            "version: 0.1\nstorage: {inmemory: {}, delete: \
            {enabled: true}}\nhttp: {addr: \"127.0.0.1:0\"}\n",
        );
        let mut command = workspace.command("distribution");
        command
            .args(["serve", "distribution.yml"])
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .expect("distribution starts; make tools gets it");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe"))
            .lines()
            .map_while(Result::ok);
        let address = lines
            .find_map(|line| {
                Some(
                    line.split_once("listening on ")?
                        .1
                        .split('"')
                        .next()?
                        .to_owned(),
                )
            })
            .expect("an address");
        // Its output must be read, or the server blocks when the pipe is full.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            host: address,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn find(output: impl std::io::Read, prefix: &str) -> String {
    let mut lines = BufReader::new(output).lines().map_while(Result::ok);
    lines
        .find_map(|line| line.strip_prefix(prefix).map(ToOwned::to_owned))
        .expect("an address")
}

/// Files below a folder with their content and whether they are executable, by path.
pub(crate) fn tree(folder: &std::path::Path) -> Vec<(String, Vec<u8>, bool)> {
    let mut files = Vec::new();
    collect(folder, "", &mut files);
    files.sort();
    files
}

fn collect(folder: &std::path::Path, prefix: &str, files: &mut Vec<(String, Vec<u8>, bool)>) {
    use std::os::unix::fs::PermissionsExt;
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let entry = entry.expect("an entry");
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            collect(&entry.path(), &format!("{name}/"), files);
        } else {
            let mode = entry.metadata().expect("metadata").permissions().mode();
            files.push((
                name,
                fs::read(entry.path()).expect("a file"),
                mode & 0o111 != 0,
            ));
        }
    }
}
