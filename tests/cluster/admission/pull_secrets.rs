//! Images in a registry that wants a password: read with the Secrets that they are pulled with.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{
    refused::cause,
    scene::{As, CLI_BUILDER, KINDS, Scene, field, object},
};
use crate::support::{
    api::{Api, Store},
    installation::NAMESPACE,
    namespace::Namespace,
    program::Run,
    registry::{LOCKED, OwnRegistry, PASSWORD, SHARED, docker_config, locked, shared},
};

/// A changed Secret counts after this time: a Secret is remembered for 5 seconds.
const SOON: Duration = Duration::from_secs(20);
/// And in every replica after this: each remembers a refusal for itself, and any of them answers.
const EVERYWHERE: Duration = Duration::from_secs(7);

/// A signed and an unsigned image in the registry with a password, governed by a policy.
struct PrivateImages {
    scene: Scene,
    api: Api,
    registry: &'static OwnRegistry,
    signed: String,
    unsigned: String,
}

impl PrivateImages {
    fn start(name: &'static str, host: &str) -> Option<Self> {
        let scene = Scene::start(name)?;
        let registry = if host == LOCKED {
            locked(&scene.test.cluster)?
        } else {
            shared(&scene.test.cluster)?
        };
        scene.test.log_in();
        let pattern = format!("{host}/{}/**", scene.test.namespace.name);
        scene.enforce(&[scene.policy("private", &pattern, &["a"], CLI_BUILDER, "a")]);
        let signed = scene.pack_to(&scene.test.repository(host, "signed"), Some("a"));
        let unsigned = scene.pack_to(&scene.test.repository(host, "unsigned"), None);
        Some(Self {
            api: Api::new(),
            scene,
            registry,
            signed,
            unsigned,
        })
    }

    /// An object of a kind whose image is pulled with these Secrets, or as this account.
    fn object(
        &self,
        kind: &str,
        reference: &str,
        secrets: &[&str],
        account: Option<&str>,
    ) -> Value {
        let mut object = object(&self.scene.test, kind, "private", reference, As::Volume);
        let prefix = KINDS.iter().find(|(name, _)| *name == kind).expect(kind).1;
        let path = format!("/{}", prefix.replace('.', "/"));
        let pod = object.pointer_mut(&path).expect("a Pod");
        if !secrets.is_empty() {
            let named: Vec<Value> = secrets.iter().map(|name| json!({"name": name})).collect();
            pod["imagePullSecrets"] = named.into();
        }
        if let Some(account) = account {
            pod["serviceAccountName"] = account.into();
        }
        object
    }

    /// `None`: it would be admitted; else the reason and the message.
    fn verdict(&self, object: &Value) -> Option<(String, String)> {
        let namespace = &self.scene.test.namespace.name;
        let status = self.api.create(namespace, object, Store::No).err()?;
        let (reason, at) = cause(&status);
        let kind = object["kind"].as_str().expect("a kind");
        let prefix = KINDS.iter().find(|(name, _)| *name == kind).expect(kind).1;
        assert_eq!(at, field(prefix, As::Volume), "{status:?}");
        Some((reason, status.message))
    }

    #[track_caller]
    fn is_admitted(&self, object: &Value) {
        assert_eq!(self.verdict(object), None, "{object}");
    }

    /// Returns the message.
    #[track_caller]
    fn is_refused(&self, object: &Value, expected: &str) -> String {
        let (reason, message) = self.verdict(object).expect("a refusal");
        assert_eq!(reason, expected, "{message}");
        assert!(!message.contains(PASSWORD), "{message}");
        message
    }

    /// Expects a reason of the command line; `None`: admitted. Returns the run and its report.
    #[track_caller]
    fn command_line_verdict(
        &self,
        reference: &str,
        options: &str,
        expected: Option<&str>,
    ) -> (Run, Value) {
        let test = &self.scene.test;
        let namespace = &test.namespace.name;
        let line = format!("verify {reference} --use ImageVolume --namespace {namespace}");
        let run = test.packgate(&format!("{line}{options} --cluster -o json"));
        let report: Value = serde_json::from_str(&run.stdout).expect("a report");
        let denial = &report["denials"][0];
        assert_eq!(denial["reason"].as_str(), expected, "{options}: {run}");
        (run, report)
    }

    /// The command line gives the same verdicts with the same Secrets, and the line in a refusal
    /// has them.
    fn command_line_agrees(&self) {
        for (reference, options, expected) in [
            (&self.signed, " --image-pull-secret pull", None),
            (&self.signed, " --service-account builder", None),
            (
                &self.unsigned,
                " --image-pull-secret pull",
                Some("NoSignatures"),
            ),
            (
                &self.signed,
                " --image-pull-secret wrong",
                Some("RegistryDenied"),
            ),
            (&self.signed, "", Some("RegistryDenied")),
            (
                &self.signed,
                " --image-pull-secret absent",
                Some("SecretAccessDenied"),
            ),
        ] {
            let (run, report) = self.command_line_verdict(reference, options, expected);
            let reproduce = report["reproduce"].as_str().expect("a command");
            assert!(reproduce.contains(options), "{reproduce}");
            assert!(!run.to_string().contains(PASSWORD), "{run}");
        }
        let object = self.object("Pod", &self.unsigned, &["pull"], None);
        let told = self.is_refused(&object, "NoSignatures");
        assert!(
            told.contains(" --image-pull-secret pull --cluster"),
            "{told}"
        );
    }

    /// Waits until the verdict has this reason.
    #[track_caller]
    fn becomes(&self, object: &Value, expected: Option<&str>) {
        let end = Instant::now() + SOON;
        loop {
            let reason = self.verdict(object).map(|(reason, _)| reason);
            if reason.as_deref() == expected {
                return;
            }
            assert!(Instant::now() < end, "still {reason:?}, not {expected:?}");
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

#[test]
fn an_image_is_read_with_the_secrets_that_it_is_pulled_with() {
    let name = "an_image_is_read_with_the_secrets_that_it_is_pulled_with";
    let Some(images) = PrivateImages::start(name, LOCKED) else {
        return;
    };
    let test = &images.scene.test;
    test.docker_secret("pull", LOCKED, PASSWORD);
    test.docker_secret("wrong", LOCKED, "not-the-password");
    test.docker_secret("elsewhere", "elsewhere.example.com", PASSWORD);

    // Nobody let packgate read Secrets here: told by name, with what mends it.
    let pod = images.object("Pod", &images.signed, &["pull"], None);
    let told = images.is_refused(&pod, "SecretAccessDenied");
    for part in ["Secret", "pull", "tenants", "kubectl create rolebinding"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    // Whoever verifies may read the Secret, and has admission's verdict all the same.
    let denied = Some("SecretAccessDenied");
    let (_, report) =
        images.command_line_verdict(&images.signed, " --image-pull-secret pull", denied);
    let told = report["denials"][0]["message"].to_string();
    assert!(told.contains("packgate may not read Secret"), "{told}");
    test.grant();
    images.becomes(&pod, None);
    std::thread::sleep(EVERYWHERE);

    for kind in KINDS.map(|(kind, _)| kind) {
        for secrets in [&["pull"][..], &["wrong", "elsewhere", "pull"]] {
            images.is_admitted(&images.object(kind, &images.signed, secrets, None));
            let unsigned = images.object(kind, &images.unsigned, secrets, None);
            images.is_refused(&unsigned, "NoSignatures");
        }
        for secrets in [&[][..], &["elsewhere"], &["wrong"]] {
            let object = images.object(kind, &images.signed, secrets, None);
            let told = images.is_refused(&object, "RegistryDenied");
            assert!(!told.contains("docker login"), "{told}");
        }
        let absent = images.object(kind, &images.signed, &["absent"], None);
        let told = images.is_refused(&absent, "SecretAccessDenied");
        assert!(told.contains("absent does not exist"), "{told}");
    }
    let shown = images.registry.requests(&test.repository(LOCKED, "signed"));
    assert!(
        shown
            .iter()
            .all(|request| !request.succeeded() || request.authorization),
        "without a password: {shown:?}"
    );

    // Secrets of the ServiceAccount: the API server adds them to Pods, templates name the account.
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "builder"},
        "imagePullSecrets": [{"name": "pull"}],
    });
    test.namespace.apply(&account.to_string());
    for kind in KINDS.map(|(kind, _)| kind) {
        images.becomes(
            &images.object(kind, &images.signed, &[], Some("builder")),
            None,
        );
        let unsigned = images.object(kind, &images.unsigned, &[], Some("builder"));
        images.is_refused(&unsigned, "NoSignatures");
    }

    images.command_line_agrees();

    // A Secret that changes counts at once, in both directions.
    test.docker_secret("pull", LOCKED, "not-the-password");
    images.becomes(&pod, Some("RegistryDenied"));
    test.docker_secret("pull", LOCKED, PASSWORD);
    images.becomes(&pod, None);
}

#[test]
fn two_namespaces_never_share_a_verdict_that_one_may_not_have() {
    let name = "two_namespaces_never_share_a_verdict_that_one_may_not_have";
    let Some(images) = PrivateImages::start(name, LOCKED) else {
        return;
    };
    let test = &images.scene.test;
    test.docker_secret("pull", LOCKED, PASSWORD);
    test.grant();
    let pod = images.object("Pod", &images.signed, &["pull"], None);
    images.becomes(&pod, None);
    let other = Namespace::create();
    other.docker_secret("pull", &docker_config(LOCKED, "of-another-team"));
    other.grant_secrets(NAMESPACE);
    // The same policy there: the verdict of the first namespace lies in the cache.
    let policy = images.scene.test.namespace.get("bundlepolicy", "private");
    let mut policy = policy.expect("a policy");
    policy["metadata"] = json!({"name": "private"});
    policy["status"] = Value::Null;
    other.apply(&policy.to_string());
    other.wait("bundlepolicy/private", "condition=Enforced", SOON);
    for (secrets, expected) in [(&["pull"][..], "RegistryDenied"), (&[], "RegistryDenied")] {
        let object = images.object("Pod", &images.signed, secrets, None);
        let end = Instant::now() + SOON;
        loop {
            let status = images
                .api
                .create(&other.name, &object, Store::No)
                .expect_err("another team's credentials");
            let (reason, _) = cause(&status);
            // Until the RoleBinding counts, the Secret cannot be read.
            if reason == expected {
                break;
            }
            assert_eq!(reason, "SecretAccessDenied", "{status:?}");
            assert!(Instant::now() < end, "{status:?}");
            std::thread::sleep(Duration::from_millis(500));
        }
        images.is_admitted(&pod);
    }
}

#[test]
fn the_installations_own_credentials_read_evidence_for_every_namespace() {
    let name = "the_installations_own_credentials_read_evidence_for_every_namespace";
    let Some(images) = PrivateImages::start(name, SHARED) else {
        return;
    };
    let test = &images.scene.test;
    test.docker_secret("wrong", SHARED, "not-the-password");
    for kind in KINDS.map(|(kind, _)| kind) {
        images.becomes(&images.object(kind, &images.signed, &[], None), None);
        // A Secret that packgate may not read, and then one that the registry refuses.
        images.is_admitted(&images.object(kind, &images.signed, &["wrong"], None));
        let unsigned = images.object(kind, &images.unsigned, &[], None);
        images.is_refused(&unsigned, "NoSignatures");
    }
    test.grant();
    images.becomes(
        &images.object("Pod", &images.signed, &["wrong"], None),
        None,
    );
    let shown = images.registry.requests(&test.repository(SHARED, "signed"));
    assert!(
        shown
            .iter()
            .all(|request| !request.succeeded() || request.authorization),
        "without a password: {shown:?}"
    );
}
