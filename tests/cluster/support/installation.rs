//! Packgate in the cluster, installed from its chart as users do, once for all tests.

use std::{sync::OnceLock, time::Duration};

use serde_json::{Value, json};

use super::{
    cluster::{Cluster, ROOT, Test},
    namespace::kubectl,
    program::{Program, Run},
    registry::{AWAY, LOCKED, PASSWORD, SHARED, TIMED_USER, docker_config},
    wait::wait_for,
};
use crate::admission::scene::{SILENT, STOPPED};

/// The namespace that it runs in.
pub(crate) const NAMESPACE: &str = "packgate-system";
/// The `ConfigMap` with the certificate authority of the tests' own registries.
const REGISTRY_CA: &str = "test-registry-ca";
/// The Secret with the installation's credentials for the registry `SHARED`.
const REGISTRY_READER: &str = "test-registry-reader";
/// The Secret and the `ConfigMap` of the platform's key.
pub(crate) const PLATFORM_KEY: &str = "packgate-platform-key";

/// The first part of the paths in [`LOCKED`] that the installation's credential provider is for.
pub(crate) const PROVIDED: &str = "provided";
/// How long what it gives counts: a little less than it lives.
const PROVIDER_CACHE: Duration = Duration::from_secs(25);
/// The Secret that it makes passwords from, and where it finds it.
const PROVIDER_SECRET: &str = "test-provider";
const PROVIDER_SECRET_FOLDER: &str = "/test-provider-secret";
/// The objects of tests in packgate's namespace, which no release owns.
pub(crate) const TEST_OBJECTS: [&str; 3] = [REGISTRY_CA, REGISTRY_READER, PROVIDER_SECRET];

/// Sign Jobs of one namespace at once.
pub(crate) const SIGN_JOBS: usize = 6;

/// What it has published about itself.
#[derive(Debug)]
pub(crate) struct Installation {
    /// The public half of the platform's key, in PEM.
    pub(crate) public_key: String,
    /// The builder of what the platform signs.
    pub(crate) builder_id: String,
}

/// Installs it, unless another test did, and waits until it is ready. When that failed once, every
/// later test fails at once.
pub(crate) fn installed(cluster: &Cluster) -> &'static Installation {
    static INSTALLED: OnceLock<Result<Installation, String>> = OnceLock::new();
    match INSTALLED.get_or_init(|| install(cluster)) {
        Ok(installation) => installation,
        Err(why) => panic!("packgate is not installed: {why}"),
    }
}

fn install(cluster: &Cluster) -> Result<Installation, String> {
    prepare(cluster);
    let helm = helm(cluster, &["upgrade", "--install", "--wait"], &json!({}));
    if helm.code != 0 {
        let pods = kubectl(["--namespace", NAMESPACE, "describe", "pods"]).run();
        let logs = kubectl([
            "--namespace",
            NAMESPACE,
            "logs",
            "deployment/packgate-controller",
            "--tail=50",
        ])
        .run();
        return Err(format!("{helm}\n{pods}\n{logs}"));
    }
    Ok(Installation {
        public_key: published("cosign.pub"),
        builder_id: published("builder.id"),
    })
}

/// The namespace, and in it the certificate authority of the tests' own registries.
fn prepare(cluster: &Cluster) {
    let mut objects =
        vec![json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})];
    if let Some(pki) = &cluster.pki {
        let ca = std::fs::read_to_string(pki.join("ca.crt")).expect("a certificate");
        let metadata = json!({"name": REGISTRY_CA, "namespace": NAMESPACE});
        objects.push(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata,
            "data": {"ca.crt": ca},
        }));
        let metadata = json!({"name": REGISTRY_READER, "namespace": NAMESPACE});
        objects.push(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/dockerconfigjson",
            "metadata": metadata,
            "stringData": {".dockerconfigjson": docker_config(SHARED, PASSWORD)},
        }));
        objects.push(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": PROVIDER_SECRET, "namespace": NAMESPACE},
            "stringData": {"password": PASSWORD},
        }));
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    kubectl(["apply", "-f", "-"])
        .stdin(list.to_string())
        .run()
        .ok();
}

/// `helm ARGS packgate CHART`, with the values of the tests and these instead of theirs, at the
/// top.
pub(crate) fn helm(cluster: &Cluster, args: &[&str], changes: &Value) -> Run {
    let chart = format!("{ROOT}/charts/packgate");
    let mut values = values(cluster);
    for (key, value) in changes.as_object().expect("values") {
        values[key] = value.clone();
    }
    let args = args.iter().copied().chain([
        "packgate",
        &chart,
        "--namespace",
        NAMESPACE,
        "--timeout",
        "120s",
        "-f",
        "-",
    ]);
    Program::new("helm")
        .args(args)
        .stdin(values.to_string())
        .timeout(Duration::from_secs(150))
        .run()
}

/// The chart's values. The tests' own servers are on the node's private address.
fn values(cluster: &Cluster) -> Value {
    let (repository, digest) = cluster
        .packgate
        .split_once('@')
        .expect("an image by digest");
    let hosts = std::iter::once(&cluster.registry).chain(&cluster.plain);
    let mut registries: Vec<_> = hosts
        .map(|host| json!({"host": host, "plainHTTP": cluster.plain_http}))
        .collect();
    if cluster.pki.is_some() {
        let ca = json!({"kind": "ConfigMap", "name": REGISTRY_CA});
        let reader = json!({"name": REGISTRY_READER});
        registries.push(json!({"host": LOCKED, "caRef": ca}));
        registries.push(json!({"host": SHARED, "caRef": ca, "secretRef": reader}));
        registries
            .extend([AWAY, STOPPED, SILENT].map(|host| json!({"host": host, "plainHTTP": true})));
    }
    let networks: Vec<_> = cluster
        .node_ip
        .iter()
        .map(|ip| format!("{ip}/32"))
        .collect();
    let own = |make: fn(&Cluster) -> Value| cluster.pki.iter().map(|_| make(cluster)).collect();
    let providers: Vec<Value> = own(provider);
    let volumes: Vec<Value> =
        own(|_| json!({"name": PROVIDER_SECRET, "secret": {"secretName": PROVIDER_SECRET}}));
    let mounts: Vec<Value> = own(
        |_| json!({"name": PROVIDER_SECRET, "mountPath": PROVIDER_SECRET_FOLDER, "readOnly": true}),
    );
    json!({
        "image": {"repository": repository, "digest": digest},
        "credentialProviders": providers,
        "extraVolumes": volumes,
        "extraVolumeMounts": mounts,
        "registries": registries,
        "network": {"allowedPrivateCIDRs": networks},
        "metrics": {"names": true},
        // Four of one namespace stand still in some tests (alone/crashes.rs), and others go on
        // meanwhile.
        "jobs": {"sign": {"maxConcurrentPerNamespace": SIGN_JOBS}},
    })
}

/// A credential provider that is a script, run by busybox from the image of that.
fn provider(cluster: &Cluster) -> Value {
    let image = &cluster.busybox;
    let digest = Program::new("crane")
        .args(["digest", "--insecure", image.as_str()])
        .run();
    let repository = image.rsplit_once(':').expect("a tag").0;
    let (name, command) = ("test-provider", "/bin/busybox");
    let seconds = PROVIDER_CACHE.as_secs();
    let response = json!({
        "kind": "CredentialProviderResponse",
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "cacheKeyType": "Registry", "cacheDuration": format!("{seconds}s"),
        "auth": {LOCKED: {"username": TIMED_USER, "password": "%s"}},
    });
    let script = format!(
        "box=/credential-providers/{name}{command}
        at=$($box date +%s) secret=$($box cat {PROVIDER_SECRET_FOLDER}/password)
        sum=$(printf %s \"$secret$at\" | $box sha256sum | $box cut -c 1-64)
        printf '{response}' \"$at.$sum\""
    );
    json!({
        "name": name, "image": format!("{repository}@{}", digest.ok()), "command": command,
        "args": ["sh", "-c", script], "matchImages": [format!("{LOCKED}/{PROVIDED}/")],
        "defaultCacheDuration": "0s",
    })
}

/// A key of the public `ConfigMap`. The controller makes it when it starts for the first time.
pub(crate) fn published(key: &str) -> String {
    let path = format!("jsonpath={{.data.{}}}", key.replace('.', "\\."));
    let value = wait_for(
        &format!("{key} in the ConfigMap {PLATFORM_KEY}"),
        Duration::from_mins(1),
        || {
            let run = kubectl([
                "--namespace",
                NAMESPACE,
                "get",
                "configmap",
                PLATFORM_KEY,
                "-o",
                &path,
            ])
            .run();
            (run.code == 0 && !run.stdout.trim().is_empty()).then_some(run.stdout)
        },
    );
    value.trim_end().to_owned()
}

impl Installation {
    /// Verifies `REPOSITORY@DIGEST` with the published key, by cosign and by packgate, which wants
    /// the platform's provenance too.
    #[track_caller]
    pub(crate) fn vouches_for(&self, test: &Test, reference: &str) {
        test.write("platform.pub", &self.public_key);
        let http = if test.cluster.plain_http {
            "--allow-http-registry"
        } else {
            ""
        };
        for verb in ["verify", "verify-attestation --type slsaprovenance1"] {
            test.tool(
                "cosign",
                &format!("{verb} --key platform.pub --insecure-ignore-tlog {http} {reference}"),
            )
            .ok();
        }
        let flags = test.cluster.http_flag();
        test.packgate(&format!(
            "verify {reference} --key platform.pub --builder-id {} {flags}",
            self.builder_id
        ))
        .ok();
    }
}
