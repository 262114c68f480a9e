//! The cluster that the tests run in, and what each test gets of it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, Once, PoisonError},
    thread,
};

use super::{
    installation::{self, Installation},
    namespace::Namespace,
    program::{Program, Run},
    requests::RequestLog,
};

/// The binary under test, as a user of the command line has it.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_packgate");

/// The root of the repository.
pub(crate) const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What `exec.sh` tells about the cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// Ours, or somebody's (`PACKGATE_USE_CLUSTER=1`)? Request logs and scripted failures are only
    /// in ours.
    pub(crate) own: bool,
    /// `HOST:PORT` of the registry that has the referrers API.
    pub(crate) registry: String,
    /// `HOST:PORT` of the registry that has not. An existing cluster may have none.
    pub(crate) plain: Option<String>,
    /// An image with busybox.
    pub(crate) busybox: String,
    /// Packgate's image, by digest.
    pub(crate) packgate: String,
    /// Do both registries speak plain http?
    pub(crate) plain_http: bool,
    /// Where servers of tests listen.
    pub(crate) node_ip: Option<String>,
    /// A folder with `ca.crt`, and `test-server.crt` and its key for every name under `.test`.
    pub(crate) pki: Option<PathBuf>,
    /// The folder of the private Sigstore.
    pub(crate) sigstore: Option<PathBuf>,
    log: Option<PathBuf>,
    plain_log: Option<PathBuf>,
}

impl Cluster {
    /// The cluster that this process runs in. `None`: in none.
    fn from_environment() -> Option<Self> {
        let kind = variable("PACKGATE_CLUSTER")?;
        variable("PACKGATE_CLUSTER_INSIDE")?;
        let required = |name| {
            variable(name).unwrap_or_else(|| {
                panic!("{name} is not set: run the tests with make test-cluster")
            })
        };
        let registry = required("PACKGATE_CLUSTER_REGISTRY");
        Some(Self {
            own: kind == "own",
            plain_http: kind == "own" || speaks_plain_http(&registry),
            registry,
            plain: variable("PACKGATE_CLUSTER_PLAIN_REGISTRY"),
            busybox: required("PACKGATE_CLUSTER_IMAGE"),
            packgate: required("PACKGATE_TEST_IMAGE"),
            node_ip: variable("PACKGATE_CLUSTER_NODE_IP"),
            pki: variable("PACKGATE_CLUSTER_PKI").map(PathBuf::from),
            sigstore: variable("PACKGATE_CLUSTER_SIGSTORE").map(PathBuf::from),
            log: variable("PACKGATE_CLUSTER_REGISTRY_LOG").map(PathBuf::from),
            plain_log: variable("PACKGATE_CLUSTER_PLAIN_REGISTRY_LOG").map(PathBuf::from),
        })
    }

    /// The command line's flag for these registries.
    pub(crate) const fn http_flag(&self) -> &'static str {
        if self.plain_http { "--plain-http" } else { "" }
    }
}

/// A server that wants TLS answers 400, or nothing.
fn speaks_plain_http(registry: &str) -> bool {
    let url = format!("http://{registry}/v2/");
    let run = Program::new("curl")
        .args([
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--max-time",
            "5",
            &url,
        ])
        .run();
    ["200", "401"].contains(&run.stdout.trim())
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What a test works with: the cluster, a namespace of its own, which ends with this value, and a
/// folder for files.
#[derive(Debug)]
pub(crate) struct Test {
    pub(crate) cluster: Cluster,
    pub(crate) namespace: Namespace,
    name: &'static str,
    folder: tempfile::TempDir,
}

impl Test {
    /// `None`, and the reason is printed, where there is no cluster; where one is required, that is
    /// a failure.
    pub(crate) fn start(name: &'static str) -> Option<Self> {
        let Some(cluster) = Cluster::from_environment() else {
            assert!(
                variable("PACKGATE_REQUIRE_CLUSTER").is_none_or(|value| value != "1"),
                "{name}: not in a cluster, and one is required"
            );
            println!("{name}: not run, this is not inside of a test cluster (make test-cluster)");
            return None;
        };
        remember_panics();
        let folder = tempfile::tempdir().expect("a temporary folder");
        Some(Self {
            cluster,
            namespace: Namespace::create(),
            name,
            folder,
        })
    }

    /// The packgate that runs in the cluster. The first test that asks installs it.
    pub(crate) fn installation(&self) -> &'static Installation {
        installation::installed(&self.cluster)
    }

    /// What it is called.
    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    /// What the registry with the referrers API is asked from now on. `None`, and the reason is
    /// printed, in an existing cluster.
    pub(crate) fn requests(&self) -> Option<RequestLog> {
        self.mark(self.cluster.log.as_deref())
    }

    /// What the registry without the referrers API is asked from now on.
    pub(crate) fn plain_requests(&self) -> Option<RequestLog> {
        self.mark(self.cluster.plain_log.as_deref())
    }

    fn mark(&self, log: Option<&Path>) -> Option<RequestLog> {
        if log.is_none() {
            println!(
                "{}: requests are not looked at, this cluster has no request log",
                self.name
            );
        }
        log.map(RequestLog::mark)
    }

    /// A name in a registry that no other test uses: `REGISTRY/NAMESPACE/NAME`.
    pub(crate) fn repository(&self, registry: &str, name: &str) -> String {
        format!("{registry}/{}/{name}", self.namespace.name)
    }

    /// A path in this test's folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file into this test's folder.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.file(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(&path, content).expect("a file");
        path
    }

    /// Runs the command line in this test's folder, with this line of arguments, split at spaces.
    pub(crate) fn packgate(&self, line: &str) -> Run {
        self.tool(BINARY, line)
    }

    /// Runs another program in this test's folder, with this line of arguments, split at spaces.
    pub(crate) fn tool(&self, program: &str, line: &str) -> Run {
        self.program(program, line).run()
    }

    /// The same before it runs. It trusts the certificates of this cluster's servers, and keys have
    /// no password.
    pub(crate) fn program(&self, program: &str, line: &str) -> Program {
        let program = Program::new(program)
            .args(line.split_whitespace())
            .folder(self.folder.path())
            .env("HOME", self.folder.path());
        let program = program.env("COSIGN_PASSWORD", "");
        match &self.cluster.pki {
            Some(pki) => program.env("SSL_CERT_FILE", pki.join("ca.crt")),
            None => program,
        }
    }
}

/// What each thread failed with.
static PANICS: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

fn remember_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let thread = format!("{:?}", thread::current().id());
            PANICS
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(thread, panic.to_string());
            told(panic);
        }));
    });
}

impl Drop for Test {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("{}: the cluster when the test failed:", self.name);
            for namespace in [self.namespace.name.as_str(), installation::NAMESPACE] {
                let shown = Program::new(format!("{ROOT}/tests/cluster/env/show.sh"))
                    .arg(namespace)
                    .run();
                println!("{}{}", shown.stdout, shown.stderr);
            }
            println!(
                "{}",
                Program::new("kubectl")
                    .args(["get", "packedbundles", "-A", "-o", "yaml"])
                    .run()
                    .stdout
            );
            // Once more: it stands far above by now.
            let why = PANICS
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&format!("{:?}", thread::current().id()));
            println!("{} failed: {}", self.name, why.unwrap_or_default());
        }
    }
}
