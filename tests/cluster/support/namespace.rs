//! One namespace per test.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    time::Duration,
};

use serde_json::Value;

use super::{
    program::{Program, Run},
    wait::wait_for,
};

/// A namespace with a random name. It is removed with this value; the cluster takes its time for
/// that, nobody waits.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) name: String,
}

/// `kubectl` with these arguments, in no particular namespace.
pub(crate) fn kubectl<'a>(args: impl IntoIterator<Item = &'a str>) -> Program {
    Program::new("kubectl").args(args)
}

/// `test-` and eight hexadecimal digits.
pub(crate) fn random_name() -> String {
    // A hasher without input gives its random seed.
    format!(
        "test-{:08x}",
        RandomState::new().build_hasher().finish() & 0xffff_ffff
    )
}

impl Namespace {
    /// Makes it, and waits for what every namespace is given: a Pod needs its `ServiceAccount`.
    pub(crate) fn create() -> Self {
        let name = random_name();
        kubectl(["create", "namespace", &name]).run().ok();
        let namespace = Self { name };
        wait_for(
            "the ServiceAccount default",
            Duration::from_secs(20),
            || namespace.get("serviceaccount", "default"),
        );
        namespace
    }

    /// `kubectl` with these arguments, in this namespace.
    pub(crate) fn kubectl<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Program {
        kubectl(["--namespace", &self.name]).args(args)
    }

    /// Lets packgate, which runs in `system`, read the Secrets of this namespace.
    #[track_caller]
    pub(crate) fn grant_secrets(&self, system: &str) {
        let account = |face: &str| format!("--serviceaccount={system}:packgate-{face}");
        let (controller, webhook) = (account("controller"), account("webhook"));
        let grant = [
            "create",
            "rolebinding",
            "packgate-controller",
            "--clusterrole",
            "packgate-tenant",
            &controller,
            &webhook,
        ];
        self.kubectl(grant).run().ok();
    }

    /// Makes a Secret with the password of a registry.
    #[track_caller]
    pub(crate) fn docker_secret(&self, name: &str, docker_config: &str) {
        let secret = serde_json::json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
            "metadata": {"name": name}, "stringData": {".dockerconfigjson": docker_config},
        });
        self.apply(&secret.to_string());
    }

    /// Applies YAML or JSON. How that ended is the caller's to judge.
    pub(crate) fn try_apply(&self, text: &str) -> Run {
        self.kubectl(["apply", "-f", "-"]).stdin(text).run()
    }

    /// Applies YAML or JSON.
    #[track_caller]
    pub(crate) fn apply(&self, text: &str) {
        self.try_apply(text).ok();
    }

    /// An object; `None` if there is none.
    #[track_caller]
    pub(crate) fn get(&self, kind: &str, name: &str) -> Option<Value> {
        let run = self
            .kubectl(["get", kind, name, "--ignore-not-found", "-o", "json"])
            .run();
        (!run.ok().is_empty()).then(|| run.json())
    }

    /// The objects that have these labels.
    #[track_caller]
    pub(crate) fn list(&self, kind: &str, labels: &str) -> Vec<Value> {
        items(
            &self
                .kubectl(["get", kind, "-l", labels, "-o", "json"])
                .run(),
        )
    }

    /// Waits for a condition, with `kubectl wait --for`.
    #[track_caller]
    pub(crate) fn wait(&self, object: &str, condition: &str, timeout: Duration) {
        let (condition, seconds) = (
            format!("--for={condition}"),
            format!("--timeout={}s", timeout.as_secs()),
        );
        self.kubectl(["wait", object, &condition, &seconds])
            .timeout(timeout + Duration::from_secs(10))
            .run()
            .ok();
    }

    /// What a Pod, or a Job's, printed.
    #[track_caller]
    pub(crate) fn logs(&self, object: &str) -> String {
        self.kubectl(["logs", object, "--all-containers"])
            .run()
            .ok()
            .to_owned()
    }
}

/// The objects of all namespaces that have these labels.
#[track_caller]
pub(crate) fn list_everywhere(kind: &str, labels: &str) -> Vec<Value> {
    items(&kubectl(["get", kind, "--all-namespaces", "-l", labels, "-o", "json"]).run())
}

#[track_caller]
fn items(run: &Run) -> Vec<Value> {
    match run.json()["items"].take() {
        Value::Array(items) => items,
        _ => panic!("no list: {run}"),
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        kubectl(["delete", "namespace", &self.name, "--wait=false"]).run();
    }
}
