//! Trust roots of the cluster, and policies that name them.

use std::{fs, thread, time::Duration};

use serde_json::{Value, json};

use super::scene::Scene;
use crate::support::{
    Test,
    installation::NAMESPACE,
    namespace::kubectl,
    sigstore::{AUDIENCE, ISSUER, REKORS, Sigstore},
    wait::wait_for,
};

/// A trust root with a `ConfigMap` of the same name. Both go with this value, and so do the
/// namespace's policies: they would keep the root.
pub(crate) struct Root {
    pub name: String,
    namespace: String,
}

impl Root {
    /// One that lies in its `ConfigMap`.
    pub(crate) fn given(test: &Test, name: &str, document: &Value) -> Self {
        let root = Self::named(test, name);
        root.holds(document);
        root.apply(&json!({"trustedRoot": {"configMapRef": {"name": root.name}}}));
        root
    }

    /// One of a TUF repository that is asked every ten seconds. It is used for `grace` after it
    /// expired.
    pub(crate) fn fetched(test: &Test, url: &str, first_root: &[u8], grace: &str) -> Self {
        let root = Self::named(test, "tuf");
        root.keep("root.json", std::str::from_utf8(first_root).expect("JSON"));
        root.apply(&json!({
            "tuf": {
                "url": url,
                "root": {"configMapRef": {"name": root.name}},
                "interval": "10s",
                "maxStaleness": grace,
            },
        }));
        root
    }

    fn named(test: &Test, name: &str) -> Self {
        let namespace = test.namespace.name.clone();
        Self {
            name: format!("{name}-{namespace}"),
            namespace,
        }
    }

    fn apply(&self, spec: &Value) {
        let object = json!({
            "apiVersion": "packgate.dev/v1alpha1",
            "kind": "TrustRoot",
            "metadata": {"name": self.name},
            "spec": spec,
        });
        kubectl(["apply", "-f", "-"])
            .stdin(object.to_string())
            .run()
            .ok();
    }

    /// Puts another root into its `ConfigMap`.
    pub(crate) fn holds(&self, document: &Value) {
        self.keep("trusted_root.json", &document.to_string());
    }

    fn keep(&self, key: &str, text: &str) {
        let map = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": self.name, "namespace": NAMESPACE},
            "data": {key: text},
        });
        kubectl(["apply", "-f", "-"])
            .stdin(map.to_string())
            .run()
            .ok();
    }

    /// What became of it.
    pub(crate) fn status(&self) -> Value {
        kubectl(["get", "trustroot", &self.name, "-o", "json"])
            .run()
            .json()["status"]
            .take()
    }

    /// Waits until `Ready` is this, for this reason, with a message that says this.
    #[track_caller]
    pub(crate) fn becomes(&self, ready: &str, reason: &str, says: &str) -> Value {
        wait_for(
            &format!("{ready} {reason} {says:?}"),
            Duration::from_mins(1),
            || {
                let status = self.status();
                let condition = &status["conditions"][0];
                let is_so = condition["status"] == ready
                    && condition["reason"] == reason
                    && condition["message"].as_str()?.contains(says);
                is_so.then_some(status)
            },
        )
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let everything = [
            &[
                "--namespace",
                &self.namespace,
                "delete",
                "bundlepolicy",
                "--all",
            ][..],
            &["delete", "trustroot", &self.name],
            &["--namespace", NAMESPACE, "delete", "configmap", &self.name],
        ];
        for what in everything {
            let delete = || {
                kubectl(what.iter().copied())
                    .args(["--ignore-not-found", "--timeout=30s"])
                    .run()
            };
            let mut run = delete();
            // The webhook refuses to let the root go until it knows that the policy is gone.
            for _ in 0..20 {
                if run.code == 0 {
                    break;
                }
                thread::sleep(Duration::from_millis(100));
                run = delete();
            }
            assert!(
                run.code == 0 || thread::panicking(),
                "what this test leaves, others find: {run}"
            );
        }
    }
}

/// What the private Sigstore is believed by.
pub(crate) fn document(sigstore: &Sigstore) -> Value {
    serde_json::from_slice(&fs::read(sigstore.trusted_root()).expect("a trust root")).expect("JSON")
}

/// A policy for repositories of this pattern: what this account of the namespace signed is
/// admitted, as far as the root believes it.
pub(crate) fn keyless_policy(
    scene: &Scene,
    name: &str,
    pattern: &str,
    root: &Root,
    account: &str,
) -> Value {
    let keyless = json!({
        "trustRootRef": {"name": root.name}, "issuer": ISSUER, "subject": {
            "exact": scene.test.service_account_identity(account),
        },
    });
    json!({
        "apiVersion": "packgate.dev/v1alpha1", "kind": "BundlePolicy", "metadata": {"name": name},
        "spec": {
            "match": {"references": [scene.repository(pattern)]},
            "authorities": [{"name": "account", "keyless": keyless}],
        },
    })
}

impl Scene {
    /// Packs the lock into a repository, signed by the namespace's default account; returns
    /// `REPOSITORY@DIGEST`.
    pub(crate) fn pack_keyless(&self, name: &str, sigstore: &Sigstore) -> String {
        let reference = self.pack(name, None);
        self.sign_keyless(&reference, sigstore);
        reference
    }

    /// Signs what is there as the namespace's default account.
    pub(crate) fn sign_keyless(&self, reference: &str, sigstore: &Sigstore) {
        self.test.service_account_token("token", AUDIENCE);
        let (config, root) = (sigstore.signing_config(REKORS[0]), sigstore.trusted_root());
        let signer =
            format!("--identity-token-file token --signing-config {config} --trusted-root {root}");
        self.test
            .packgate(&format!(
                "sign {reference} {signer} {}",
                self.test.cluster.http_flag()
            ))
            .ok();
    }
}
