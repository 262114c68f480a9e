//! What is refused: the condition that says so, and a registry in which nothing came of it.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    bundle::PACKED,
    cluster::Test,
    namespace::{Namespace, kubectl},
    program::{Program, Run},
    wait::wait_for,
};

/// A condition of a `PackedBundle`; null if it has none of that type.
pub(crate) fn condition<'a>(bundle: &'a Value, type_: &str) -> &'a Value {
    let conditions = bundle["status"]["conditions"].as_array();
    conditions
        .and_then(|conditions| {
            conditions
                .iter()
                .find(|condition| condition["type"] == type_)
        })
        .unwrap_or(&Value::Null)
}

impl Test {
    /// Waits until a `PackedBundle` is `Stalled` with this reason, and says the same under `Ready`.
    /// The object is returned.
    #[track_caller]
    pub(crate) fn stalled(&self, name: &str, reason: &str) -> Value {
        let mut last = Value::Null;
        let deadline = std::time::Instant::now() + PACKED;
        loop {
            let bundle = self
                .namespace
                .get("packedbundle", name)
                .expect("a PackedBundle");
            let stalled = condition(&bundle, "Stalled");
            if stalled["status"] == "True"
                && stalled["reason"] == reason
                && generation_is_seen(&bundle)
            {
                assert_eq!(condition(&bundle, "Ready")["status"], "False", "{bundle:#}");
                assert_eq!(condition(&bundle, "Ready")["reason"], reason, "{bundle:#}");
                return bundle;
            }
            last.clone_from(&bundle["status"]["conditions"]);
            assert!(
                std::time::Instant::now() < deadline,
                "{name} is not Stalled with {reason} within {PACKED:?}: {last:#}"
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// What the condition `Stalled` says in words, once it is there with this reason.
    #[track_caller]
    pub(crate) fn refusal(&self, name: &str, reason: &str) -> String {
        condition(&self.stalled(name, reason), "Stalled")["message"]
            .as_str()
            .expect("a message")
            .to_owned()
    }

    /// The tags of a repository; none, if there is no such repository. The registries without the
    /// referrers API have one for each subject.
    #[track_caller]
    pub(crate) fn tags(&self, repository: &str) -> Vec<String> {
        let run = self.tool("crane", &format!("ls --insecure {repository}"));
        assert!(
            run.code == 0 || run.stderr.contains("NAME_UNKNOWN"),
            "{run}"
        );
        run.stdout.lines().map(ToOwned::to_owned).collect()
    }

    /// The referrers of a manifest.
    #[track_caller]
    pub(crate) fn referrers(&self, repository: &str, digest: &str) -> Vec<Value> {
        self.registry_says(repository, &format!("referrers/{digest}"))["manifests"]
            .as_array()
            .expect("an index")
            .clone()
    }

    /// Neither a tag nor evidence came of it. Only for the registry that has the referrers API.
    #[track_caller]
    pub(crate) fn nothing_is_signed(&self, repository: &str, digests: &[&str]) {
        assert_eq!(self.tags(repository), [""; 0], "tags of {repository}");
        for digest in digests {
            assert!(
                self.referrers(repository, digest).is_empty(),
                "{repository}@{digest} has referrers"
            );
        }
    }

    #[track_caller]
    fn registry_says(&self, repository: &str, what: &str) -> Value {
        let (host, path) = repository.split_once('/').expect("a host");
        let scheme = if self.cluster.plain_http {
            "http"
        } else {
            "https"
        };
        let url = format!("{scheme}://{host}/v2/{path}/{what}");
        Program::new("curl")
            .args(["-s", "-k", "--max-time", "10", &url])
            .run()
            .json()
    }

    /// Somebody who may do in this namespace what the ClusterRole `role` allows, and nothing
    /// elsewhere.
    #[track_caller]
    pub(crate) fn tenant(&self, role: &str) -> Tenant {
        self.tenant_of(role, ("create", "packedbundles.packgate.dev"))
    }

    /// The same; they are there once they may do this.
    #[track_caller]
    pub(crate) fn tenant_of(&self, role: &str, (verb, resource): (&str, &str)) -> Tenant {
        let user = format!("{role}@{}", self.namespace.name);
        self.namespace
            .kubectl([
                "create",
                "rolebinding",
                &format!("tenant-{role}"),
                "--clusterrole",
                role,
                "--user",
                &user,
            ])
            .run()
            .ok();
        let tenant = Tenant {
            user,
            namespace: self.namespace.name.clone(),
        };
        // A RoleBinding acts a moment later.
        wait_for("the tenant's rights", Duration::from_secs(20), || {
            tenant.may(verb, resource).then_some(())
        });
        tenant
    }
}

fn generation_is_seen(bundle: &Value) -> bool {
    bundle["status"]["observedGeneration"] == bundle["metadata"]["generation"]
}

/// A user of the cluster with rights in one namespace.
#[derive(Debug)]
pub(crate) struct Tenant {
    user: String,
    namespace: String,
}

impl Tenant {
    /// `kubectl` as this user, in their namespace.
    pub(crate) fn kubectl<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Program {
        self.kubectl_in(&self.namespace, args)
    }

    /// `kubectl` as this user, elsewhere.
    pub(crate) fn kubectl_in<'a>(
        &self,
        namespace: &str,
        args: impl IntoIterator<Item = &'a str>,
    ) -> Program {
        kubectl(["--as", &self.user, "--namespace", namespace]).args(args)
    }

    /// Creates, and does not change what is there.
    pub(crate) fn create(&self, object: &Value) -> Run {
        self.kubectl(["create", "-f", "-"])
            .stdin(object.to_string())
            .run()
    }

    fn may(&self, verb: &str, resource: &str) -> bool {
        self.kubectl(["auth", "can-i", verb, resource]).run().code == 0
    }
}

impl Namespace {
    /// Pods may be made, or none.
    #[track_caller]
    pub(crate) fn forbid_pods(&self) {
        self.apply(
            &json!({
                "apiVersion": "v1",
                "kind": "ResourceQuota",
                "metadata": {"name": "no-pods"},
                "spec": {"hard": {"pods": "0"}},
            })
            .to_string(),
        );
        wait_for("the quota to act", Duration::from_secs(20), || {
            (self.get("resourcequota", "no-pods")?["status"]["hard"]["pods"] == "0").then_some(())
        });
    }

    /// Pods may be made again.
    #[track_caller]
    pub(crate) fn allow_pods(&self) {
        self.kubectl(["delete", "resourcequota", "no-pods"])
            .run()
            .ok();
    }
}
