//! The registries' request logs (tests/cluster/env/README.md, "Registries").

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// What a registry was asked since a moment. Tests run side by side: ask for paths of your own.
#[derive(Debug)]
pub(crate) struct RequestLog {
    path: PathBuf,
    offset: u64,
}

/// One request, and how it was answered.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) status: u16,
    /// Did it carry credentials?
    pub(crate) authorization: bool,
}

/// Requests that the registry keeps waiting.
#[derive(Debug)]
pub(crate) struct Held(PathBuf);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl RequestLog {
    /// From now on.
    pub(crate) fn mark(path: &Path) -> Self {
        let offset = fs::metadata(path).map_or(0, |metadata| metadata.len());
        Self {
            path: path.into(),
            offset,
        }
    }

    /// Every request since then whose path starts so, in order.
    pub(crate) fn below(&self, prefix: &str) -> Vec<Request> {
        let requests = parse(&self.text());
        requests
            .into_iter()
            .filter(|request| request.path.starts_with(prefix))
            .collect()
    }

    /// The requests of one repository, `PATH` of `HOST/PATH`, that did what they were to do.
    pub(crate) fn done(&self, repository: &str, method: &str) -> Vec<Request> {
        let path = repository
            .split_once('/')
            .map_or(repository, |(_, path)| path);
        let requests = self.below(&format!("/v2/{path}/"));
        requests
            .into_iter()
            .filter(|request| request.method == method && request.succeeded())
            .collect()
    }

    /// Keeps requests to the registry with the referrers API waiting: `METHOD PATH-PREFIX` each.
    /// The programs that make them stand still, for as long as the value lives.
    pub(crate) fn hold(&self, requests: &[String]) -> Held {
        let file = self.path.with_extension("hold");
        fs::write(&file, requests.join("\n")).expect("a file");
        Held(file)
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut file =
            File::open(&self.path).unwrap_or_else(|e| panic!("{}: {e}", self.path.display()));
        file.seek(SeekFrom::Start(self.offset)).expect("a file");
        file.read_to_string(&mut text).expect("text");
        text
    }
}

impl Request {
    pub(crate) const fn succeeded(&self) -> bool {
        self.status >= 200 && self.status < 300
    }
}

/// A line that is being written is not looked at.
fn parse(text: &str) -> Vec<Request> {
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    complete
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

#[test]
fn only_whole_lines_after_the_mark_are_read() {
    let line = |path: &str, status: u16| {
        format!(
            r#"{{"time":"t","method":"PUT","path":"{path}","status":{status},"authorization":true}}"#
        )
    };
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), line("/v2/a/b/manifests/old", 201) + "\n").expect("a file");
    let log = RequestLog::mark(file.path());
    let more = [
        line("/v2/a/b/manifests/1", 201),
        line("/v2/a/bc/manifests/2", 201),
        line("/v2/a/b/manifests/3", 404),
        line("/v2/a/b/manifests/4", 201),
    ];
    fs::write(
        file.path(),
        format!(
            "{}\n{}",
            line("/v2/a/b/manifests/old", 201),
            more.join("\n")
        ),
    )
    .expect("a file");
    let paths = |requests: Vec<Request>| {
        requests
            .into_iter()
            .map(|request| request.path)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        paths(log.below("/v2/a/b/")),
        ["/v2/a/b/manifests/1", "/v2/a/b/manifests/3"]
    );
    assert_eq!(
        paths(log.done("r.test:5000/a/b", "PUT")),
        ["/v2/a/b/manifests/1"]
    );
    assert!(log.done("r.test:5000/a/b", "GET").is_empty());
}
