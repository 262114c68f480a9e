//! Bundles of every kind that is refused, the policies that refuse them, and objects that use them.

use std::{
    collections::BTreeMap,
    net::{TcpListener, TcpStream},
    sync::OnceLock,
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{Test, bundle::Lock};

/// Nobody listens there.
pub(crate) const STOPPED: &str = "stopped.test:5447";
/// Somebody listens there, and never answers.
pub(crate) const SILENT: &str = "silent.test:5446";
/// What the command line says that it is.
pub(crate) const CLI_BUILDER: &str = "https://packgate.dev/builder/cli";
/// What the bundle's file says.
pub(crate) const CONTENT: &str = "one\n";

/// A reference, and the reason for which it is refused. `None`: it is admitted.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub name: &'static str,
    pub reference: String,
    pub reason: Option<&'static str>,
}

/// What a test of admission works with.
pub(crate) struct Scene {
    pub test: Test,
    lock: Lock,
    keys: BTreeMap<&'static str, String>,
}

impl Scene {
    /// Two keys that policies may know, `a` and `b`, and one that none knows, `c`.
    pub(crate) fn start(name: &'static str) -> Option<Self> {
        let test = Test::start(name)?;
        test.installation();
        let lock = test.lock(&test.cluster.registry, "admission", &[("a.txt", CONTENT)]);
        let mut keys = BTreeMap::new();
        for key in ["a", "b", "c"] {
            test.packgate(&format!("keys generate --out-dir keys-{key}"))
                .ok();
            keys.insert(
                key,
                std::fs::read_to_string(test.file(&format!("keys-{key}/packgate.pub")))
                    .expect("a key"),
            );
        }
        Some(Self { test, lock, keys })
    }

    /// `REGISTRY/NAMESPACE/NAME`
    pub(crate) fn repository(&self, name: &str) -> String {
        self.test.repository(&self.test.cluster.registry, name)
    }

    /// Packs the lock into a repository, signed by a key if one is given; returns
    /// `REPOSITORY@DIGEST`.
    pub(crate) fn pack(&self, name: &str, key: Option<&str>) -> String {
        self.pack_to(&self.repository(name), key)
    }

    /// The same into a repository of any registry.
    pub(crate) fn pack_to(&self, repository: &str, key: Option<&str>) -> String {
        let cluster = &self.test.cluster;
        let sign = key
            .map(|key| format!("--key keys-{key}/packgate.key"))
            .unwrap_or_default();
        // The files come from the cluster's registry, whatever the target is.
        let registries = if repository.starts_with(&cluster.registry) {
            self.http().to_owned()
        } else {
            let ca = cluster.pki.as_deref().expect("ours").join("ca.crt");
            let http = self.http();
            let from = if http.is_empty() {
                String::new()
            } else {
                format!("{http}={}", cluster.registry)
            };
            format!("{from} --ca-file {}", ca.display())
        };
        let line = format!(
            "pack {} --to {repository}:v1 {sign} {registries}",
            self.lock.path.display()
        );
        let packed = self.test.packgate(&line).ok().to_owned();
        let digest = packed.rsplit_once('@').expect("a digest").1.to_owned();
        format!("{repository}@{digest}")
    }

    /// Signs what is there, without provenance.
    pub(crate) fn sign(&self, reference: &str, key: &str) {
        self.test
            .packgate(&format!(
                "sign {reference} --key keys-{key}/packgate.key {}",
                self.http()
            ))
            .ok();
    }

    /// Attests provenance that names another lock.
    fn attest_another_lock(&self, reference: &str, key: &str) {
        let wrong = json!({
            "buildDefinition": {
                "buildType": "https://packgate.dev/pack/v1",
                "externalParameters": {},
                "resolvedDependencies": [{"name": "lock", "digest": {"sha256": "0".repeat(64)}}],
            },
            "runDetails": {"builder": {"id": CLI_BUILDER}},
        });
        self.test.write("wrong.json", wrong.to_string());
        let line = format!(
            "attest {reference} --predicate wrong.json --type https://slsa.dev/provenance/v1 --key \
                keys-{key}/packgate.key {}",
            self.http()
        );
        self.test.packgate(&line).ok();
    }

    const fn http(&self) -> &'static str {
        self.test.cluster.http_flag()
    }

    /// A policy of this namespace for repositories whose names begin so. Provenance by the command
    /// line, signed by `speaker`, is asked for.
    pub(crate) fn policy(
        &self,
        name: &str,
        pattern: &str,
        authorities: &[&str],
        builder: &str,
        speaker: &str,
    ) -> Value {
        let authorities: Vec<Value> = authorities
            .iter()
            .map(|key| json!({"name": key, "key": {"pem": self.keys[key]}}))
            .collect();
        json!({
            "apiVersion": "packgate.dev/v1alpha1",
            "kind": "BundlePolicy",
            "metadata": {"name": name},
            "spec": {
                "match": {
                    "references": [pattern],
                    "uses": ["PackedBundle", "ImageVolume", "Container"],
                },
                "authorities": authorities,
                "slsa": {
                    "minimumLevel": 1,
                    "builders": [{"id": builder, "authority": speaker, "level": 1}],
                    "lock": "Exact",
                },
            },
        })
    }

    /// Applies policies, and waits until each is enforced in this very generation.
    #[track_caller]
    pub(crate) fn enforce(&self, policies: &[Value]) {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": policies});
        self.test.namespace.apply(&list.to_string());
        for policy in policies {
            self.enforced(policy["metadata"]["name"].as_str().expect("a name"));
        }
    }

    /// Waits until a policy is enforced in its generation.
    #[track_caller]
    pub(crate) fn enforced(&self, name: &str) {
        let generation = self
            .test
            .namespace
            .get("bundlepolicy", name)
            .expect("a policy")["metadata"]["generation"]
            .clone();
        let condition = "jsonpath={.status.conditions[?(@.type==\"Enforced\")].observedGeneration}";
        self.test.namespace.wait(
            &format!("bundlepolicy/{name}"),
            &format!("{condition}={generation}"),
            Duration::from_secs(20),
        );
        self.test.namespace.wait(
            &format!("bundlepolicy/{name}"),
            "condition=Enforced",
            Duration::from_secs(20),
        );
    }

    /// Everything that is refused, with the policies that do it, and one that is admitted.
    pub(crate) fn cases(&self) -> Vec<Case> {
        let everything = |host: &str| format!("{host}/{}/**", self.test.namespace.name);
        let good =
            |name: &str, pattern: String| self.policy(name, &pattern, &["a"], CLI_BUILDER, "a");
        self.enforce(&[
            good("base", self.repository("base/**")),
            self.policy(
                "foreign-builder",
                &self.repository("foreign/**"),
                &["a"],
                "https://ci.example.com/other",
                "a",
            ),
            self.policy(
                "other-speaker",
                &self.repository("speaker/**"),
                &["a", "b"],
                CLI_BUILDER,
                "b",
            ),
            good("stopped", everything(STOPPED)),
            good("silent", everything(SILENT)),
        ]);
        let signed = self.pack("base/signed", Some("a"));
        let without_provenance = self.pack("base/no-provenance", None);
        self.sign(&without_provenance, "a");
        let mismatch = self.pack("base/mismatch", None);
        self.sign(&mismatch, "a");
        self.attest_another_lock(&mismatch, "a");
        let digest = signed.rsplit_once('@').expect("a digest").1;
        let elsewhere = |host: &str| format!("{host}/{}/x@{digest}", self.test.namespace.name);
        let case = |name, reference, reason| Case {
            name,
            reference,
            reason,
        };
        vec![
            case("signed", signed.clone(), None),
            case(
                "unsigned",
                self.pack("base/unsigned", None),
                Some("NoSignatures"),
            ),
            case(
                "wrong key",
                self.pack("base/wrong-key", Some("c")),
                Some("NoMatchingAuthority"),
            ),
            case("no provenance", without_provenance, Some("NoProvenance")),
            case(
                "untrusted builder",
                self.pack("foreign/x", Some("a")),
                Some("BuilderNotTrusted"),
            ),
            case(
                "builder of another signer",
                self.pack("speaker/x", Some("a")),
                Some("BuilderNotBoundToSigner"),
            ),
            case("lock mismatch", mismatch, Some("LockMismatch")),
            case(
                "tag only",
                format!("{}:v1", self.repository("base/signed")),
                Some("DigestRequired"),
            ),
            case(
                "absent",
                format!("{}@{digest}", self.repository("base/absent")),
                Some("SourceNotFound"),
            ),
            case(
                "stopped registry",
                elsewhere(STOPPED),
                Some("RegistryUnavailable"),
            ),
            case(
                "silent registry",
                elsewhere(SILENT),
                Some("DeadlineExceeded"),
            ),
        ]
    }
}

/// How an image is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum As {
    Volume,
    Container,
}

impl As {
    pub(crate) const fn used_as(self) -> &'static str {
        match self {
            Self::Volume => "ImageVolume",
            Self::Container => "Container",
        }
    }
}

/// Kinds that use images, with the prefix of their Pod's fields.
pub(crate) const KINDS: [(&str, &str); 3] = [
    ("Pod", "spec"),
    ("Deployment", "spec.template.spec"),
    ("CronJob", "spec.jobTemplate.spec.template.spec"),
];

/// Where the reference stands.
pub(crate) fn field(prefix: &str, used: As) -> String {
    match used {
        As::Volume => format!("{prefix}.volumes[0].image.reference"),
        As::Container => format!("{prefix}.containers[0].image"),
    }
}

/// An object that uses an image. Its container reads the bundle's file, if it mounts one.
pub(crate) fn object(test: &Test, kind: &str, name: &str, reference: &str, used: As) -> Value {
    let pod = match used {
        As::Volume => json!({
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main", "image": test.cluster.busybox, "command": ["cat", "/bundle/a.txt"],
                "volumeMounts": [{"name": "bundle", "mountPath": "/bundle", "readOnly": true}],
            }],
            "volumes": [{"name": "bundle", "image": {"reference": reference}}],
        }),
        As::Container => json!({
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "containers": [{"name": "main", "image": reference, "command": ["true"]}],
        }),
    };
    let metadata = json!({"name": name, "labels": {"app": name}});
    match kind {
        "Pod" => json!({"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": pod}),
        "Deployment" => {
            let mut pod = pod;
            pod["restartPolicy"] = "Always".into();
            let template = json!({"metadata": metadata, "spec": pod});
            let spec = json!({
                "replicas": 0,
                "selector": {"matchLabels": {"app": name}},
                "template": template,
            });
            json!({"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec})
        }
        "CronJob" => {
            let template = json!({"spec": {"template": {"metadata": metadata, "spec": pod}}});
            json!({
                "apiVersion": "batch/v1",
                "kind": kind,
                "metadata": metadata,
                "spec": {"schedule": "0 0 1 1 *", "jobTemplate": template},
            })
        }
        kind => panic!("{kind} is nothing that uses images here"),
    }
}

/// A `PackedBundle` that adopts a bundle.
pub(crate) fn adopting(name: &str, reference: &str) -> Value {
    json!({
        "apiVersion": "packgate.dev/v1alpha1", "kind": "PackedBundle", "metadata": {"name": name},
        "spec": {
            "source": {"bundle": {"reference": reference}},
        },
    })
}

/// Somebody who accepts every connection at [`SILENT`], and never answers, until the tests end.
/// `false`: not in this cluster.
pub(crate) fn silence(test: &Test) -> bool {
    static KEPT: OnceLock<()> = OnceLock::new();
    let Some(ip) = test.cluster.node_ip.as_deref() else {
        return false;
    };
    KEPT.get_or_init(|| {
        let port: u16 = SILENT
            .rsplit_once(':')
            .expect("a port")
            .1
            .parse()
            .expect("a port");
        let listener = TcpListener::bind((ip, port)).unwrap_or_else(|e| panic!("{ip}:{port}: {e}"));
        thread::spawn(move || {
            listener
                .incoming()
                .map_while(Result::ok)
                .collect::<Vec<TcpStream>>()
        });
    });
    true
}
