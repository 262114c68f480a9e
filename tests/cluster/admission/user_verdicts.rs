//! The verdict on the command line, for a user who may work in one namespace and nowhere else.

use std::{path::PathBuf, time::Duration};

use serde_json::{Value, json};

use super::{
    scene::{CLI_BUILDER, Scene},
    timely::ClusterPolicy,
};
use crate::support::{
    cluster::BINARY,
    installation::NAMESPACE,
    namespace::kubectl,
    program::Run,
    registry::{LOCKED, PASSWORD, locked},
    wait::wait_for,
};

/// What policies name can be read after this time.
const SOON: Duration = Duration::from_secs(20);

/// A `ConfigMap` in packgate's namespace. It goes with this value.
struct SystemConfigMap(String);

impl SystemConfigMap {
    fn apply(name: &str, key: &str, text: &str) -> Self {
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {key: text},
            "metadata": {"name": name, "namespace": NAMESPACE},
        });
        kubectl(["apply", "-f", "-"])
            .stdin(map.to_string())
            .run()
            .ok();
        Self(name.to_owned())
    }
}

impl Drop for SystemConfigMap {
    fn drop(&mut self) {
        kubectl(["--namespace", NAMESPACE, "delete", "configmap", &self.0]).run();
    }
}

/// A user without any permission but those of a ClusterRole in the test's namespace.
struct NamespaceUser<'a> {
    scene: &'a Scene,
    name: String,
    config: PathBuf,
}

impl<'a> NamespaceUser<'a> {
    fn create(scene: &'a Scene, role: &str) -> Self {
        let test = &scene.test;
        let name = format!("{role}-of-{}", test.namespace.name);
        let binding = ["create", "rolebinding", role, "--clusterrole", role];
        let user = format!("--user={name}");
        test.namespace
            .kubectl(binding.into_iter().chain([user.as_str()]))
            .run()
            .ok();
        let view = [
            "config",
            "view",
            "--raw",
            "--minify",
            "--flatten",
            "-o",
            "json",
        ];
        let mut config: Value = kubectl(view).run().json();
        config["users"][0]["user"]["as"] = name.as_str().into();
        let config = test.write(&format!("{role}.kubeconfig"), config.to_string());
        Self {
            scene,
            name,
            config,
        }
    }

    fn may_read_config_map(&self, name: &str) -> bool {
        let map = format!("configmap/{name}");
        let question = ["auth", "can-i", "get", map.as_str()];
        let run = kubectl(["--as", &self.name, "--namespace", NAMESPACE])
            .args(question)
            .run();
        run.stdout.trim() == "yes"
    }

    /// The reason of the denial; `None`: admitted.
    fn verdict(&self, reference: &str, options: &str) -> (Option<String>, Run) {
        let test = &self.scene.test;
        let namespace = &test.namespace.name;
        let line = format!(
            "verify {reference} --use ImageVolume --namespace {namespace} {options} --cluster -o json"
        );
        let packgate = test.program(BINARY, &line);
        let run = packgate.env("KUBECONFIG", &self.config).run();
        let report: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{run}"));
        let reason = report["denials"][0]["reason"].as_str();
        (reason.map(ToOwned::to_owned), run)
    }
}

#[test]
fn a_user_of_one_namespace_has_the_verdict_of_admission() {
    let Some(scene) = Scene::start("a_user_of_one_namespace_has_the_verdict_of_admission") else {
        return;
    };
    let test = &scene.test;
    if locked(&test.cluster).is_none() {
        return;
    }
    test.log_in();
    test.grant();
    test.docker_secret("pull", LOCKED, PASSWORD);
    let public = std::fs::read_to_string(test.file("keys-a/packgate.pub")).expect("a key");
    let name = format!("{}-users", test.namespace.name);
    let _key = SystemConfigMap::apply(&name, "cosign.pub", &public);
    let pattern = format!("{LOCKED}/{}/**", test.namespace.name);
    let mut policy = scene.policy("ignored", &pattern, &["a"], CLI_BUILDER, "a");
    policy["kind"] = "ClusterBundlePolicy".into();
    policy["metadata"]["name"] = name.as_str().into();
    policy["spec"]["authorities"][0]["key"] = json!({"configMapRef": {"name": name}});
    let policy = ClusterPolicy::apply(&name, &policy);
    let signed = scene.pack_to(&test.repository(LOCKED, "signed"), Some("a"));
    let unsigned = scene.pack_to(&test.repository(LOCKED, "unsigned"), None);

    let editor = NamespaceUser::create(&scene, "edit");
    wait_for("the key can be read", SOON, || {
        editor.may_read_config_map(&name).then_some(())
    });
    for secret in ["packgate-config", "kube-root-ca.crt"] {
        assert!(!editor.may_read_config_map(secret), "{secret}");
    }
    let admin = NamespaceUser::create(&scene, "admin");
    for (user, is_warned) in [(&editor, true), (&admin, false)] {
        for (reference, options, expected) in [
            (&signed, "--image-pull-secret pull", None),
            (&unsigned, "--image-pull-secret pull", Some("NoSignatures")),
            (&signed, "", Some("RegistryDenied")),
            (
                &signed,
                "--image-pull-secret absent",
                Some("SecretAccessDenied"),
            ),
        ] {
            let (reason, run) = user.verdict(reference, options);
            assert_eq!(
                reason.as_deref(),
                expected,
                "{} {options}: {run}",
                user.name
            );
            let has_secret = options.ends_with(" pull");
            assert_eq!(
                run.stderr.contains("could not be asked"),
                is_warned && has_secret,
                "{} {options}: {run}",
                user.name
            );
            assert!(!run.stderr.contains("default settings"), "{run}");
        }
    }
    drop(policy);
    wait_for("the key is nobody's business again", SOON, || {
        (!editor.may_read_config_map(&name)).then_some(())
    });
}
