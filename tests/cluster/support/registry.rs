//! Registries of a test's own, beside the cluster's: with TLS and a password, or away for a while.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use super::{
    Test,
    cluster::Cluster,
    namespace::random_name,
    requests::{Request, RequestLog},
};

/// A registry that speaks TLS and wants a password. The installation knows its certificate
/// authority.
pub(crate) const LOCKED: &str = "locked.tls.test:5443";
/// Another one, which asks for the password itself (Basic). The installation has credentials for
/// it.
pub(crate) const SHARED: &str = "shared.tls.test:5448";
/// The user and the password that both want.
pub(crate) const USER: &str = "team";
/// See [`USER`]. No other test uses these words: their absence from all objects is asserted.
pub(crate) const PASSWORD: &str = "of-the-locked-registry";
/// A user of theirs whose passwords live for [`TIMED_LIFE`]: `SECONDS.HEX`, when it was issued, and
/// the SHA-256 of [`PASSWORD`] and that. What it buys ends with it.
pub(crate) const TIMED_USER: &str = "timed";
/// How long such a password lives.
pub(crate) const TIMED_LIFE: Duration = Duration::from_secs(30);
/// A registry without TLS, for the one test that has it go away.
pub(crate) const AWAY: &str = "away.test:5444";

/// A `test-registry`. It ends with this value, at the latest with the test program.
#[derive(Debug)]
pub(crate) struct OwnRegistry {
    child: Child,
    log: RequestLog,
}

/// [`LOCKED`], for all tests of this process.
pub(crate) fn locked(cluster: &Cluster) -> Option<&'static OwnRegistry> {
    static REGISTRY: OnceLock<OwnRegistry> = OnceLock::new();
    with_password(cluster, LOCKED, "token", &REGISTRY)
}

/// [`SHARED`], for all tests of this process.
pub(crate) fn shared(cluster: &Cluster) -> Option<&'static OwnRegistry> {
    static REGISTRY: OnceLock<OwnRegistry> = OnceLock::new();
    with_password(cluster, SHARED, "basic", &REGISTRY)
}

fn with_password(
    cluster: &Cluster,
    host: &str,
    scheme: &str,
    registry: &'static OnceLock<OwnRegistry>,
) -> Option<&'static OwnRegistry> {
    let pki = cluster.pki.as_deref()?;
    let file = |name: &str| pki.join(name).display().to_string();
    let (cert, key) = (file("test-server.crt"), file("test-server.key"));
    let life = format!("{}s", TIMED_LIFE.as_secs());
    let flags = [
        "-tls-cert",
        &cert,
        "-tls-key",
        &key,
        "-auth",
        scheme,
        "-user",
        USER,
        "-password",
        PASSWORD,
        "-timed-user",
        TIMED_USER,
        "-timed-life",
        &life,
    ];
    Some(
        registry.get_or_init(|| {
            OwnRegistry::start(cluster, host, &flags).expect("the cluster is ours")
        }),
    )
}

/// The docker configuration with one password for one host.
pub(crate) fn docker_config(host: &str, password: &str) -> String {
    serde_json::json!({"auths": {host: {"username": USER, "password": password}}}).to_string()
}

impl OwnRegistry {
    /// Starts it on the port of `host`, and waits until it listens. `None`: not in this cluster.
    /// Its log goes with the cluster.
    pub(crate) fn start(cluster: &Cluster, host: &str, flags: &[&str]) -> Option<Self> {
        let (ip, state) = (
            cluster.node_ip.as_deref()?,
            cluster.pki.as_deref()?.parent()?,
        );
        let path = state
            .join("requests")
            .join(format!("{}.jsonl", random_name()));
        std::fs::write(&path, "").expect("a file");
        let port = host.rsplit_once(':').expect("a port").1;
        let mut command = Command::new("test-registry");
        command
            .args(["-until-eof", "-listen", &format!("{ip}:{port}"), "-log"])
            .arg(&path)
            .args(flags);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("test-registry: {e}"));
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe"))
            .read_line(&mut line)
            .expect("a line");
        assert!(
            line.starts_with("listening "),
            "test-registry does not listen: {line:?}"
        );
        Some(Self {
            child,
            log: RequestLog::mark(&path),
        })
    }

    /// What it was asked about a repository, `HOST/PATH`, in order.
    pub(crate) fn requests(&self, repository: &str) -> Vec<Request> {
        let (_, path) = repository.split_once('/').expect("a repository");
        self.log.below(&format!("/v2/{path}/"))
    }
}

impl Drop for OwnRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Test {
    /// Has command line tools know the passwords of [`LOCKED`] and [`SHARED`].
    pub(crate) fn log_in(&self) -> PathBuf {
        let entry = serde_json::json!({"username": USER, "password": PASSWORD});
        let config = serde_json::json!({"auths": {LOCKED: entry, SHARED: entry}});
        self.write(".docker/config.json", config.to_string())
    }

    /// A Secret of this test's namespace to push or pull with.
    pub(crate) fn docker_secret(&self, name: &str, host: &str, password: &str) {
        self.namespace
            .docker_secret(name, &docker_config(host, password));
    }
}
