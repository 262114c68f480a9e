//! The helm chart: its output, the errors of its schema, and that it agrees with the commands.

use std::{fs, path::PathBuf};

use k8s_openapi::{
    api::{
        admissionregistration::v1::ValidatingWebhookConfiguration,
        apps::v1::Deployment,
        coordination::v1::Lease,
        core::v1::{ConfigMap, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
        rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::support::{
    cli::{Run, Workspace},
    tools,
};

const NAMESPACE: &str = "supply-chain";

/// helm, with the chart of this repository.
struct Chart {
    helm: PathBuf,
    workspace: Workspace,
}

fn root(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(root(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Compares with a file of the repository, or writes it.
fn golden(path: &str, text: &str) {
    if std::env::var_os("PACKGATE_WRITE_GOLDEN").is_some() {
        fs::create_dir_all(root(path).parent().expect("a folder")).expect("folders");
        fs::write(root(path), text).expect("a file");
    }
    let how = "PACKGATE_WRITE_GOLDEN=1 cargo test --test it chart:: writes it anew";
    assert!(
        fs::read_to_string(root(path)).is_ok_and(|expected| expected == text),
        "{path} is not what is rendered; {how}. It would be:\n{text}"
    );
}

impl Chart {
    fn new(test: &str) -> Option<Self> {
        Some(Self {
            helm: tools::helm(test)?,
            workspace: Workspace::new(),
        })
    }

    fn helm(&self, args: &[&str]) -> Run {
        self.workspace
            .tool(self.helm.to_str().expect("a path"), args)
    }

    fn template(&self, args: &[&str]) -> Run {
        let chart = root("charts/packgate");
        let mut all = vec![
            "template",
            "packgate",
            chart.to_str().expect("a path"),
            "--namespace",
            NAMESPACE,
        ];
        all.extend(args);
        self.helm(&all)
    }

    /// The objects rendered with these values.
    fn render(&self, args: &[&str]) -> Vec<Value> {
        documents(self.template(args).ok())
    }

    fn full(&self) -> Run {
        self.template(&[
            "--values",
            root("tests/data/chart/full.values.yaml")
                .to_str()
                .expect("a path"),
        ])
    }
}

fn documents(yaml: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(yaml).unwrap_or_else(|e| panic!("{e}:\n{yaml}"))
}

fn find<'a>(documents: &'a [Value], kind: &str, name: &str) -> &'a Value {
    documents
        .iter()
        .find(|document| document["kind"] == kind && document["metadata"]["name"] == name)
        .unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn kinds(documents: &[Value]) -> Vec<&str> {
    documents
        .iter()
        .filter_map(|document| document["kind"].as_str())
        .collect()
}

#[test]
fn the_chart_carries_the_definitions_of_the_repository() {
    let names = |folder: &str| {
        let mut names: Vec<_> = fs::read_dir(root(folder))
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        names.sort();
        names
    };
    assert_eq!(
        names("crds"),
        names("charts/packgate/files/crds"),
        "make generate"
    );
    for name in names("crds") {
        let name = name.to_str().expect("a name");
        assert_eq!(
            read(&format!("crds/{name}")),
            read(&format!("charts/packgate/files/crds/{name}")),
            "make generate"
        );
    }
}

#[test]
fn the_charts_roles_are_written_by_the_command() {
    let workspace = Workspace::new();
    let file = root("charts/packgate/templates/rbac.yaml");
    let file = file.to_str().expect("a path");
    workspace
        .packgate(["rbac", "--chart", "--check", file])
        .ok();
    workspace
        .packgate(["rbac", "--check", file])
        .refused(2, "make generate");
    workspace
        .run("rbac --chart --namespace other")
        .refused(2, "cannot be used with");
    workspace
        .run("rbac --namespace Other")
        .refused(2, "not the name of a namespace");
    golden("tests/data/chart/rbac.yaml", &workspace.run("rbac").stdout);
}

#[test]
fn templates_ask_no_cluster_and_run_no_hooks() {
    for entry in fs::read_dir(root("charts/packgate/templates")).expect("templates") {
        let path = entry.expect("an entry").path();
        let text = fs::read_to_string(&path).expect("a template");
        for word in [
            "lookup",
            "helm.sh/hook",
            "randAlpha",
            "genCA",
            "genSelfSigned",
            "now |",
        ] {
            assert!(!text.contains(word), "{}: {word}", path.display());
        }
    }
}

#[test]
fn helm_finds_nothing_to_complain_about() {
    let Some(chart) = Chart::new("helm_finds_nothing_to_complain_about") else {
        return;
    };
    let folder = root("charts/packgate");
    let values = root("tests/data/chart/full.values.yaml");
    let folder = folder.to_str().expect("a path");
    chart.helm(&["lint", "--strict", folder]).ok();
    chart
        .helm(&[
            "lint",
            "--strict",
            folder,
            "--values",
            values.to_str().expect("a path"),
        ])
        .ok();
}

#[test]
fn everything_is_rendered_as_before() {
    let Some(chart) = Chart::new("everything_is_rendered_as_before") else {
        return;
    };
    golden("tests/data/chart/full.yaml", &chart.full().stdout);
}

/// Helm's labels are omitted: they would claim that helm manages these objects.
#[test]
fn the_plain_manifest_is_the_chart_with_its_defaults() {
    let Some(chart) = Chart::new("the_plain_manifest_is_the_chart_with_its_defaults") else {
        return;
    };
    let mut text = "# All of packgate but what `packgate crds` and `packgate rbac` print \
            (docs/guides/install.md). A test compares it with the chart.\n"
        .to_owned();
    for template in [
        "serviceaccounts",
        "lease",
        "config",
        "deployment",
        "metrics",
    ] {
        text += &chart
            .template(&["--show-only", &format!("templates/{template}.yaml")])
            .stdout;
    }
    let of_helm = [
        "# Source: ",
        "    app.kubernetes.io/managed-by: ",
        "    app.kubernetes.io/instance: ",
        "    helm.sh/chart: ",
    ];
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.is_empty() && !of_helm.iter().any(|start| line.starts_with(start)))
        .collect();
    let plain = lines.join("\n").replace(
        &format!("namespace: \"{NAMESPACE}\""),
        "namespace: packgate-system",
    ) + "\n";
    golden("examples/install/packgate.yaml", &plain);
}

#[test]
fn rendered_objects_have_no_unknown_fields() {
    let Some(chart) = Chart::new("rendered_objects_have_no_unknown_fields") else {
        return;
    };
    for document in chart
        .render(&[])
        .into_iter()
        .chain(documents(chart.full().ok()))
    {
        match document["kind"].as_str().expect("a kind") {
            "Deployment" => survives::<Deployment>(&document),
            "ValidatingWebhookConfiguration" => {
                survives::<ValidatingWebhookConfiguration>(&document);
            }
            "Lease" => survives::<Lease>(&document),
            "ConfigMap" => survives::<ConfigMap>(&document),
            "Service" => survives::<Service>(&document),
            "ServiceAccount" => survives::<ServiceAccount>(&document),
            "PodDisruptionBudget" => survives::<PodDisruptionBudget>(&document),
            "ClusterRole" => survives::<ClusterRole>(&document),
            "ClusterRoleBinding" => survives::<ClusterRoleBinding>(&document),
            "Role" => survives::<Role>(&document),
            "RoleBinding" => survives::<RoleBinding>(&document),
            "CustomResourceDefinition" => survives::<CustomResourceDefinition>(&document),
            "NetworkPolicy" => survives::<NetworkPolicy>(&document),
            "ServiceMonitor" => {}
            kind => panic!("{kind} is new: list it here"),
        }
    }
}

/// A field that the type does not have is gone after reading and writing.
fn survives<T: DeserializeOwned + Serialize>(document: &Value) {
    let object: T =
        serde_json::from_value(document.clone()).unwrap_or_else(|e| panic!("{e}: {document:#}"));
    assert_eq!(&serde_json::to_value(object).expect("JSON"), document);
}

#[test]
fn everything_lies_in_the_namespace_of_the_release() {
    let Some(chart) = Chart::new("everything_lies_in_the_namespace_of_the_release") else {
        return;
    };
    let rendered = chart
        .template(&["--set", "tenants={team-a,supply-chain}"])
        .ok()
        .to_owned();
    assert!(!rendered.contains("packgate-system"), "{rendered}");
    let documents = documents(&rendered);
    for document in &documents {
        let kind = document["kind"].as_str().expect("a kind");
        let tenant = document["roleRef"]["name"] == "packgate-tenant";
        let expected = if ["Cluster", "CustomResource", "Validating"]
            .iter()
            .any(|of_all| kind.starts_with(of_all))
        {
            Value::Null
        } else {
            json!(NAMESPACE)
        };
        assert_eq!(
            document["metadata"]["namespace"],
            if tenant { json!("team-a") } else { expected },
            "{document:#}"
        );
        let labels = &document["metadata"]["labels"];
        assert!(
            kind == "CustomResourceDefinition"
                || labels["app.kubernetes.io/instance"] == "packgate",
            "{document:#}"
        );
    }
    let tenants = documents
        .iter()
        .filter(|document| document["roleRef"]["name"] == "packgate-tenant")
        .count();
    assert_eq!(
        tenants, 1,
        "the namespace of packgate itself needs no binding, and its name is taken there"
    );
}

#[test]
fn the_chart_grants_what_the_command_prints() {
    let Some(chart) = Chart::new("the_chart_grants_what_the_command_prints") else {
        return;
    };
    let printed = chart
        .workspace
        .run(&format!("rbac -o json --namespace {NAMESPACE}"))
        .json();
    let mut rendered = chart.render(&["--show-only", "templates/rbac.yaml"]);
    let mut printed = printed["items"].as_array().expect("items").clone();
    for object in rendered.iter_mut().chain(&mut printed) {
        let labels = object["metadata"]["labels"]
            .as_object_mut()
            .expect("labels");
        labels.retain(|name, _| name.starts_with("rbac.authorization.k8s.io/"));
    }
    let sort = |objects: &mut Vec<Value>| {
        objects.sort_by_key(|object| {
            (
                object["kind"].to_string(),
                object["metadata"]["name"].to_string(),
            )
        });
    };
    sort(&mut rendered);
    sort(&mut printed);
    assert_eq!(rendered, printed);
}

#[test]
fn the_definitions_are_rendered_byte_for_byte() {
    let Some(chart) = Chart::new("the_definitions_are_rendered_byte_for_byte") else {
        return;
    };
    let keep = "  annotations:\n    helm.sh/resource-policy: keep\n";
    let show = ["--show-only", "templates/crds.yaml"];
    let (kept, bare) = (
        chart.template(&show),
        chart.template(&[&show[..], &["--set", "crds.keep=false"]].concat()),
    );
    for entry in fs::read_dir(root("crds")).expect("crds") {
        let definition = fs::read_to_string(entry.expect("an entry").path()).expect("a definition");
        assert!(bare.ok().contains(definition.trim_end()));
        assert!(
            kept.ok().contains(
                definition
                    .trim_end()
                    .replacen("\nmetadata:\n", &format!("\nmetadata:\n{keep}"), 1)
                    .as_str()
            )
        );
    }
    assert!(!bare.stdout.contains("helm.sh/resource-policy"));
    let definitions = documents(kept.ok());
    assert!(
        definitions
            .iter()
            .all(|crd| crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep")
    );
    assert_eq!(
        definitions.len(),
        fs::read_dir(root("crds")).expect("crds").count()
    );
    assert!(
        !kinds(&chart.render(&["--set", "crds.enabled=false"]))
            .contains(&"CustomResourceDefinition")
    );
}

#[test]
fn the_schema_refuses_what_would_go_wrong_later() {
    let Some(chart) = Chart::new("the_schema_refuses_what_would_go_wrong_later") else {
        return;
    };
    for (value, place) in [
        (
            r#"registries=[{"host":"https://registry.example.com"}]"#,
            "/registries/0/host",
        ),
        (
            r#"registries=[{"host":"registry.example.com/team-a"}]"#,
            "/registries/0/host",
        ),
        (
            r#"registries=[{"host":"r.example.com","plainHttp":true}]"#,
            "/registries/0",
        ),
        (
            r#"registries=[{"host":"r.example.com","plainHTTP":"yes"}]"#,
            "/registries/0/plainHTTP",
        ),
        (
            r#"registries=[{"host":"r.example.com","caRef":{"kind":"File","name":"ca"}}]"#,
            "/registries/0/caRef/kind",
        ),
        (
            r#"registries=[{"host":"r.example.com","tokenServices":["auth.example.org"]}]"#,
            "/registries/0/tokenServices/0",
        ),
        (
            r#"registries=[{"host":"r.example.com","tokenServices":["https://me@auth.example.org"]}]"#,
            "/registries/0/tokenServices/0",
        ),
        (
            r#"registries=[{"host":"r.example.com","tokenServices":["https://a.test/?b"]}]"#,
            "/registries/0/tokenServices/0",
        ),
        (
            r#"registries=[{"host":"r.example.com","mirrors":["https://m.example.com"]}]"#,
            "/registries/0/mirrors/0",
        ),
        (
            r#"registries=[{"host":"r.example.com","mirrors":[{"url":"https://me@m.example.com"}]}]"#,
            "/registries/0/mirrors/0/url",
        ),
        (r#"registries=[{"plainHTTP":true}]"#, "/registries/0"),
        (r#"tenants=["Team_A"]"#, "/tenants/0"),
        (r#"tenants=["team-a","team-a"]"#, "/tenants"),
        (r#"noMatch.container="deny""#, "/noMatch/container"),
        ("noMatch.container=null", "/noMatch"),
        (
            r#"network.allowedPrivateCIDRs=["10.0.0.1"]"#,
            "/network/allowedPrivateCIDRs/0",
        ),
        (
            r#"network.allowedPrivateCIDRs=["10.0.0.0/33"]"#,
            "/network/allowedPrivateCIDRs/0",
        ),
        (
            r#"network.registryPrivateCIDRs=["10.0.0.0"]"#,
            "/network/registryPrivateCIDRs/0",
        ),
        ("jobs.sign.maxConcurrent=0", "/jobs/sign/maxConcurrent"),
        ("jobs.sign.timeoutSeconds=59", "/jobs/sign/timeoutSeconds"),
        (
            r#"jobs.sign.resources.limits.memory="lots""#,
            "/jobs/sign/resources/limits/memory",
        ),
        (r#"builder.id="https://ci.example.com/""#, "/builder/id"),
        (r#"builder.id="ci""#, "/builder/id"),
        (r#"image.digest="sha256:abc""#, "/image/digest"),
        (
            r#"image.repository="https://ghcr.io/packgate""#,
            "/image/repository",
        ),
        (r#"image.tag="v1@sha256""#, "/image/tag"),
        (r#"image.pullSecrets=["pull"]"#, "/image/pullSecrets/0"),
        ("controller.replicas=-1", "/controller/replicas"),
        ("controller.replica=1", "/controller"),
        (
            r#"controller.resources.limits.memory="lots""#,
            "/controller/resources/limits/memory",
        ),
        (r#"signing.allowNone="true""#, "/signing/allowNone"),
        (
            r#"metrics.serviceMonitor.interval="30""#,
            "/metrics/serviceMonitor/interval",
        ),
        ("webhooks={}", "webhooks"),
        ("webhook.timeoutSeconds=31", "/webhook/timeoutSeconds"),
        (
            r#"webhook.failurePolicy="Perhaps""#,
            "/webhook/failurePolicy",
        ),
        (r#"webhook.clientCA={"name":"ca"}"#, "/webhook/clientCA"),
        (
            r#"webhook.clientCA={"kind":"File","name":"ca"}"#,
            "/webhook/clientCA/kind",
        ),
        (
            r#"webhook.clientNames="kube-apiserver""#,
            "/webhook/clientNames",
        ),
        (r#"networkPolicy.enabled="yes""#, "/networkPolicy/enabled"),
        (
            r#"networkPolicy.apiServerCIDRs=["192.168.0.10"]"#,
            "/networkPolicy/apiServerCIDRs/0",
        ),
        (
            r#"networkPolicy.metricsFrom=[{"namespace":"monitoring"}]"#,
            "/networkPolicy/metricsFrom/0",
        ),
        (r#"metrics.names="all""#, "/metrics/names"),
        (
            r#"credentialProviders=[{"name":"ecr","command":"/a","defaultCacheDuration":"1h"}]"#,
            "/credentialProviders/0",
        ),
        (
            r#"credentialProviders=[{"name":"ecr","command":"/a","matchImages":["https://a"],"defaultCacheDuration":"1h"}]"#,
            "/credentialProviders/0/matchImages/0",
        ),
        (
            r#"credentialProviders=[{"name":"ecr","image":"r.example.com/a:v1","command":"/a","matchImages":["a"],"defaultCacheDuration":"1h"}]"#,
            "/credentialProviders/0/image",
        ),
        (
            r#"credentialProviders=[{"name":"ecr","command":"a","matchImages":["a"],"defaultCacheDuration":"1h"}]"#,
            "/credentialProviders/0/command",
        ),
        (
            r#"credentialProviders=[{"name":"ecr","command":"/a","matchImages":["a"],"defaultCacheDuration":"1d"}]"#,
            "/credentialProviders/0/defaultCacheDuration",
        ),
        (
            r#"credentialProviders=[{"name":"ecr","command":"/a","matchImages":["a"],"defaultCacheDuration":"1h","tokenAttributes":{"serviceAccountTokenAudience":"a","requireServiceAccount":true,"cacheType":"Pod"}}]"#,
            "/credentialProviders/0/tokenAttributes/cacheType",
        ),
        (
            r#"extraVolumes=[{"name":"config"}]"#,
            "/extraVolumes/0/name",
        ),
    ] {
        let run = chart.template(&["--set-json", value]);
        assert!(
            run.code != 0 && run.stdout.is_empty() && run.stderr.contains(place),
            "{value}: {run:#?}"
        );
    }
    chart
        .template(&[
            "--set-json",
            r#"global={"proxy":"x"}"#,
            "--set",
            "enabled=true",
        ])
        .ok();
}

/// The controller owns the entries: one that helm wrote would be put back by every upgrade, and one
/// that is there before a replica answers would stop the installation.
#[test]
fn the_webhooks_configuration_has_no_entries() {
    let Some(chart) = Chart::new("the_webhooks_configuration_has_no_entries") else {
        return;
    };
    let documents = chart.render(&[]);
    let object = find(&documents, "ValidatingWebhookConfiguration", "packgate");
    assert!(object.get("webhooks").is_none(), "{object:#}");
}

/// The chart's settings for sign Jobs.
fn sign_jobs(all: u32, of_one: u32, seconds: u32, memory: &str) -> Value {
    let resources = json!({
        "requests": {"cpu": "50m", "memory": "64Mi", "ephemeral-storage": "16Mi"},
        "limits": {"cpu": "1", "memory": memory, "ephemeral-storage": "64Mi"},
    });
    json!({
        "maxConcurrent": all,
        "maxConcurrentPerNamespace": of_one,
        "timeoutSeconds": seconds,
        "resources": resources,
    })
}

#[test]
fn the_configuration_says_what_the_values_say() {
    let Some(chart) = Chart::new("the_configuration_says_what_the_values_say") else {
        return;
    };
    let config = |documents: &[Value]| -> Value {
        let text = find(documents, "ConfigMap", "packgate-config")["data"]["config.yaml"]
            .as_str()
            .expect("a file")
            .to_owned();
        serde_saphyr::from_str(&text).expect("YAML")
    };
    let defaults = json!({
        "builder": {"id": ""}, "registries": [], "network": {
            "allowedPrivateCIDRs": [],
            "registryPrivateCIDRs": [],
        }, "signing": {"allowNone": false},
        "noMatch": {"packedBundle": "Deny", "imageVolume": "Warn", "container": "Allow"},
        "webhook": {"timeoutSeconds": 10, "failurePolicy": "Fail"},
        "jobs": {
            "imagePullPolicy": "IfNotPresent",
            "imagePullSecrets": [],
            "sign": sign_jobs(8, 2, 3_600, "256Mi"),
        },
    });
    assert_eq!(config(&chart.render(&[])), defaults);
    let full = config(&documents(chart.full().ok()));
    let registries = json!([
        {
            "host": "registry.example.com:5000",
            "plainHTTP": false,
            "caRef": {"kind": "ConfigMap", "name": "corp-ca"},
            "tokenServices": ["https://auth.example.org/token"],
        },
        {
            "host": "plain.test:5001",
            "plainHTTP": true,
            "mirrors": [
                {"url": "https://mirror.example.com/plain"},
                {"url": "http://other.test:5000"},
            ],
        },
        {
            "host": "[fd00::1]:5000",
            "plainHTTP": false,
            "caRef": {"kind": "Secret", "name": "other-ca"},
        },
    ]);
    assert_eq!(full["registries"], registries);
    let rendered = documents(chart.full().ok());
    let public = &find(&rendered, "ConfigMap", "packgate-verification")["data"]["config.yaml"];
    let public: Value = serde_saphyr::from_str(public.as_str().expect("a file")).expect("YAML");
    assert_eq!(public["registries"], registries);
    let role = &find(&rendered, "Role", "packgate-verification")["rules"];
    assert_eq!(
        role[0]["resourceNames"],
        json!(["packgate-verification", "corp-ca"])
    );
    let sign = sign_jobs(4, 1, 600, "512Mi");
    assert_eq!(
        full["jobs"],
        json!({"imagePullPolicy": "Always", "imagePullSecrets": [{"name": "pull"}], "sign": sign})
    );
    assert_eq!(
        full["network"]["registryPrivateCIDRs"],
        json!(["10.2.0.0/16"])
    );
    assert_eq!(full["builder"]["id"], "https://ci.example.com/packgate");
    assert_eq!(
        full["webhook"]["clientCARef"],
        json!({"kind": "ConfigMap", "name": "api-server-client-ca"})
    );
    assert_eq!(
        (&full["webhook"]["clientNames"], &full["metrics"]),
        (&json!(["kube-apiserver"]), &json!({"names": true}))
    );
}

#[test]
fn a_network_policy_lets_in_what_it_lists() {
    let Some(chart) = Chart::new("a_network_policy_lets_in_what_it_lists") else {
        return;
    };
    assert!(
        !kinds(&chart.render(&[])).contains(&"NetworkPolicy"),
        "by default there is none"
    );
    let bare = chart.render(&["--set", "networkPolicy.enabled=true"]);
    let webhook = &find(&bare, "NetworkPolicy", "packgate-webhook")["spec"];
    assert_eq!(
        webhook["ingress"],
        json!([{"ports": [{"port": "webhook", "protocol": "TCP"}]}]),
        "reviews from anywhere, metrics from nowhere"
    );
    assert_eq!(
        find(&bare, "NetworkPolicy", "packgate-controller")["spec"]["ingress"],
        json!([])
    );
    let full = documents(chart.full().ok());
    let from = json!([{
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}},
    }]);
    let metrics = json!({"ports": [{"port": "metrics", "protocol": "TCP"}], "from": from});
    let servers =
        json!([{"ipBlock": {"cidr": "192.168.0.10/32"}}, {"ipBlock": {"cidr": "fd00::10/128"}}]);
    let reviews = json!({"ports": [{"port": "webhook", "protocol": "TCP"}], "from": servers});
    assert_eq!(
        find(&full, "NetworkPolicy", "packgate-webhook")["spec"]["ingress"],
        json!([reviews, metrics])
    );
    assert_eq!(
        find(&full, "NetworkPolicy", "packgate-controller")["spec"]["ingress"],
        json!([metrics])
    );
    for name in ["packgate-webhook", "packgate-controller"] {
        let (policy, deployment) = (
            find(&full, "NetworkPolicy", name),
            find(&full, "Deployment", name),
        );
        assert_eq!(
            (
                &policy["spec"]["podSelector"],
                &policy["spec"]["policyTypes"]
            ),
            (&deployment["spec"]["selector"], &json!(["Ingress"]))
        );
    }
}

#[test]
fn pods_are_replaced_when_the_configuration_changes_and_only_then() {
    let Some(chart) = Chart::new("pods_are_replaced_when_the_configuration_changes_and_only_then")
    else {
        return;
    };
    let pods = |args: &[&str]| {
        find(&chart.render(args), "Deployment", "packgate-controller")["spec"]["template"].clone()
    };
    let before = pods(&[]);
    assert_ne!(before, pods(&["--set", "signing.allowNone=true"]));
    assert_eq!(
        before,
        pods(&[
            "--set",
            "controller.replicas=1",
            "--set",
            "tenants={team-a}",
            "--set",
            "crds.keep=false"
        ])
    );
}

#[test]
fn the_controller_runs_restricted() {
    let Some(chart) = Chart::new("the_controller_runs_restricted") else {
        return;
    };
    let documents = chart.render(&[]);
    let pod = &find(&documents, "Deployment", "packgate-controller")["spec"]["template"]["spec"];
    assert_eq!(
        (
            &pod["securityContext"]["runAsNonRoot"],
            &pod["securityContext"]["seccompProfile"]["type"]
        ),
        (&json!(true), &json!("RuntimeDefault"))
    );
    let container = &pod["containers"][0];
    let expected = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    });
    assert_eq!(container["securityContext"], expected);
    assert_eq!(container["args"], json!(["controller"]));
    let names: Vec<&str> = container["env"]
        .as_array()
        .expect("env")
        .iter()
        .filter_map(|entry| entry["name"].as_str())
        .collect();
    assert_eq!(
        names,
        [
            "PACKGATE_NAMESPACE",
            "PACKGATE_IDENTITY",
            "PACKGATE_IMAGE",
            "PACKGATE_CONFIG"
        ]
    );
    for account in ["packgate-controller", "packgate-signer"] {
        assert_eq!(
            find(&documents, "ServiceAccount", account)["automountServiceAccountToken"],
            false,
            "{account}"
        );
    }
}

#[test]
fn helm_never_touches_who_holds_the_lease() {
    let Some(chart) = Chart::new("helm_never_touches_who_holds_the_lease") else {
        return;
    };
    let documents = chart.render(&[]);
    let lease = find(&documents, "Lease", "packgate-controller")
        .as_object()
        .expect("an object");
    assert_eq!(
        lease.keys().collect::<Vec<_>>(),
        ["apiVersion", "kind", "metadata"]
    );
}

#[test]
fn an_image_is_named_by_tag_digest_or_version() {
    let Some(chart) = Chart::new("an_image_is_named_by_tag_digest_or_version") else {
        return;
    };
    let digest = format!("sha256:{}", "a".repeat(64));
    let (tag, pinned) = ("image.tag=v9".to_owned(), format!("image.digest={digest}"));
    for (values, image) in [
        (
            vec![],
            format!("ghcr.io/packgate/packgate:{}", env!("CARGO_PKG_VERSION")),
        ),
        (
            vec!["--set", &tag],
            "ghcr.io/packgate/packgate:v9".to_owned(),
        ),
        (
            vec!["--set", &pinned],
            format!("ghcr.io/packgate/packgate@{digest}"),
        ),
        (
            vec!["--set", &tag, "--set", &pinned],
            format!("ghcr.io/packgate/packgate:v9@{digest}"),
        ),
    ] {
        let documents = chart.render(&values);
        let container = &find(&documents, "Deployment", "packgate-controller")["spec"]["template"]
            ["spec"]["containers"][0];
        assert_eq!(
            (&container["image"], &container["env"][2]["value"]),
            (&json!(image), &json!(image))
        );
    }
}

#[test]
fn clusters_without_image_volumes_are_refused() {
    let Some(chart) = Chart::new("clusters_without_image_volumes_are_refused") else {
        return;
    };
    chart.template(&["--kube-version", "1.35.2-gke.1"]).ok();
    let old = chart.template(&["--kube-version", "1.34.9"]);
    assert!(
        old.code != 0 && old.stderr.contains("kubeVersion"),
        "{old:#?}"
    );
}

#[test]
fn the_notes_tell_the_next_commands() {
    let Some(chart) = Chart::new("the_notes_tell_the_next_commands") else {
        return;
    };
    let folder = root("charts/packgate");
    let notes = |values: &[&str]| {
        let base = [
            "install",
            "packgate",
            folder.to_str().expect("a path"),
            "--namespace",
            NAMESPACE,
            "--dry-run=client",
        ];
        chart
            .helm(&[&base[..], values].concat())
            .ok()
            .split_once("NOTES:")
            .expect("notes")
            .1
            .to_owned()
    };
    let text = notes(&[]);
    for part in [
        "kind: PackedBundle",
        "kubectl wait packedbundle/hello --for=condition=Ready",
        "packgate verify ",
        "kubectl get configmap packgate-platform-key --namespace supply-chain",
        "--clusterrole packgate-tenant --serviceaccount supply-chain:packgate-controller",
        "Uninstalling leaves that key, and all PackedBundles",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let other = notes(&[
        "--set",
        "tenants={team-a,team-b}",
        "--set",
        "crds.keep=false",
    ]);
    assert!(
        other.contains("Secrets of: team-a, team-b") && other.contains("deletes all PackedBundles"),
        "{other}"
    );
}

#[test]
fn credential_providers_are_mounted_and_may_do_what_they_need() {
    let name = "credential_providers_are_mounted_and_may_do_what_they_need";
    let Some(chart) = Chart::new(name) else {
        return;
    };
    let image = format!("r.example.com/ecr@sha256:{}", "0".repeat(64));
    let provider = |name: &str, image: Option<&str>, token: Option<&str>| {
        let mut value = json!({
            "name": name, "command": "/bin/plugin", "matchImages": ["*.example.com"],
            "args": ["get"], "env": [{"name": "A", "value": "b"}], "defaultCacheDuration": "1h",
            "timeoutSeconds": 5,
        });
        if let Some(image) = image {
            value["image"] = image.into();
        }
        if let Some(account) = token {
            value["tokenAttributes"] = json!({
                "serviceAccountTokenAudience": "sts", "requireServiceAccount": true,
                "cacheType": "ServiceAccount", "account": account,
            });
        }
        value
    };
    let render = |providers: &Value| {
        let providers = format!("credentialProviders={providers}");
        chart.render(&[
            "--set-json",
            &providers,
            "--set-json",
            r#"tenants=["team-a"]"#,
            "--set-json",
            r#"extraVolumes=[{"name":"own","emptyDir":{}}]"#,
            "--set-json",
            r#"extraVolumeMounts=[{"name":"own","mountPath":"/own"}]"#,
            "--set-json",
            r#"podLabels={"azure.workload.identity/use":"true"}"#,
            "--set-json",
            r#"serviceAccountAnnotations={"iam.gke.io/gcp-service-account":"a@b"}"#,
        ])
    };
    let documents = render(&json!([
        provider("ecr", Some(&image), None),
        provider("own", None, None)
    ]));
    let text = find(&documents, "ConfigMap", "packgate-config")["data"]["config.yaml"].clone();
    let text = text.as_str().expect("a file").to_owned();
    let read = packgate::api::installation::InstallationConfig::parse(text.as_bytes());
    let providers = read.expect("valid").credential_providers;
    let commands: Vec<_> = providers.iter().map(|p| p.command.as_deref()).collect();
    assert_eq!(
        commands,
        [
            Some("/credential-providers/ecr/bin/plugin"),
            Some("/bin/plugin")
        ]
    );
    assert_eq!(providers[0].timeout_seconds, Some(5));
    // What every user may read has no arguments and environments of programs.
    let public = &find(&documents, "ConfigMap", "packgate-verification")["data"]["config.yaml"];
    let public = public.as_str().expect("a file");
    let read = packgate::api::installation::InstallationConfig::parse(public.as_bytes());
    let published = read.expect("valid").credential_providers;
    assert_eq!(published.len(), 2);
    for (provider, all) in published.iter().zip(&providers) {
        assert_eq!(provider.name, all.name);
        assert_eq!(provider.match_images, all.match_images);
        assert!(
            provider.args.is_empty() && provider.env.is_empty(),
            "{provider:?}"
        );
    }
    for deployment in ["packgate-controller", "packgate-webhook"] {
        let pod = &find(&documents, "Deployment", deployment)["spec"]["template"];
        let volumes = json!([
            {"name": "config", "configMap": {"name": "packgate-config"}},
            {
                "name": "credential-provider-ecr",
                "image": {"reference": image, "pullPolicy": "IfNotPresent"},
            },
            {"name": "own", "emptyDir": {}},
        ]);
        assert_eq!(pod["spec"]["volumes"], volumes, "{deployment}");
        let mounts = json!([
            {"name": "config", "mountPath": "/etc/packgate", "readOnly": true},
            {
                "name": "credential-provider-ecr", "mountPath": "/credential-providers/ecr",
                "readOnly": true,
            },
            {"name": "own", "mountPath": "/own"},
        ]);
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["volumeMounts"], mounts, "{deployment}");
        assert_eq!(
            pod["metadata"]["labels"]["azure.workload.identity/use"],
            "true"
        );
        let account = find(&documents, "ServiceAccount", deployment);
        let annotation = &account["metadata"]["annotations"]["iam.gke.io/gcp-service-account"];
        assert_eq!(annotation, "a@b", "{deployment}");
    }
    let grants = |documents: &[Value]| -> Vec<String> {
        documents
            .iter()
            .filter(|document| {
                let name = document["metadata"]["name"].as_str().unwrap_or_default();
                name.ends_with("-token") || name == "packgate-tenant-tokens"
            })
            .map(|document| {
                let (kind, metadata) = (&document["kind"], &document["metadata"]);
                let part = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                format!(
                    "{} {}/{}",
                    part(kind),
                    part(&metadata["namespace"]),
                    part(&metadata["name"])
                )
            })
            .collect()
    };
    let role = "ClusterRole /packgate-tenant-tokens";
    assert_eq!(grants(&documents), [role], "bound nowhere");
    let of_pods = render(&json!([provider("ecr", Some(&image), Some("Pod"))]));
    assert_eq!(
        grants(&of_pods),
        [role, "RoleBinding team-a/packgate-tenant-tokens"]
    );
    let own = render(&json!([provider(
        "ecr",
        Some(&image),
        Some("Installation")
    )]));
    let mut granted = grants(&own);
    granted.sort();
    assert_eq!(
        granted,
        [
            role,
            &format!("Role {NAMESPACE}/packgate-controller-token"),
            &format!("Role {NAMESPACE}/packgate-webhook-token"),
            &format!("RoleBinding {NAMESPACE}/packgate-controller-token"),
            &format!("RoleBinding {NAMESPACE}/packgate-webhook-token"),
        ]
    );
    let rules = &find(&own, "Role", "packgate-webhook-token")["rules"];
    assert_eq!(
        *rules,
        json!([{"apiGroups": [""], "resources": ["serviceaccounts/token"],
            "resourceNames": ["packgate-webhook"], "verbs": ["create"]}])
    );
}
