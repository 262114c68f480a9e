//! What tenants may do, and what packgate itself may: each account no more than its part needs.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{
    Test,
    bundle::packed_bundle,
    cluster::ROOT,
    installation::{NAMESPACE, PLATFORM_KEY, SIGN_JOBS},
    namespace::{kubectl, list_everywhere, random_name},
    program::Program,
    refusal::{Tenant, condition},
};

#[test]
fn a_tenant_does_not_reach_the_platform() {
    let Some(test) = Test::start("a_tenant_does_not_reach_the_platform") else {
        return;
    };
    test.installation();
    let tenant = test.tenant("admin");
    let forbidden = |args: &[&str]| {
        tenant
            .kubectl_in(NAMESPACE, args.iter().copied())
            .run()
            .refused("is forbidden");
    };
    forbidden(&["get", "secret", PLATFORM_KEY]);
    forbidden(&["get", "secrets"]);
    forbidden(&["get", "configmaps"]);
    forbidden(&["get", "jobs"]);
    forbidden(&["create", "token", "packgate-signer"]);
    forbidden(&["create", "token", "packgate-controller"]);
    forbidden(&["delete", "configmap", PLATFORM_KEY]);
    for object in [
        pod(&test, "packgate-signer"),
        job(&test, "packgate-signer"),
        grant(&test),
    ] {
        let run = tenant
            .kubectl_in(NAMESPACE, ["create", "-f", "-"])
            .stdin(object.to_string())
            .run();
        run.refused("is forbidden");
    }
    // The public half is for everybody.
    tenant
        .kubectl_in(NAMESPACE, ["get", "configmap", PLATFORM_KEY])
        .run()
        .ok();
    // A Secret of another namespace cannot be mounted, nor can its account be used: both are looked
    // for here, and are not here.
    tenant
        .create(&pod(&test, "packgate-signer"))
        .refused("serviceaccount \"packgate-signer\" not found");
}

fn pod(test: &Test, account: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "thief"},
        "spec": pod_spec(test, account),
    })
}

fn job(test: &Test, account: &str) -> Value {
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "thief"},
        "spec": {"template": {"spec": pod_spec(test, account)}},
    })
}

fn pod_spec(test: &Test, account: &str) -> Value {
    json!({
        "restartPolicy": "Never", "serviceAccountName": account,
        "containers": [
            {
                "name": "thief",
                "image": test.cluster.busybox,
                "volumeMounts": [{"name": "key", "mountPath": "/key"}],
            },
        ],
        "volumes": [{"name": "key", "secret": {"secretName": PLATFORM_KEY}}],
    })
}

fn grant(test: &Test) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "thief"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "admin",
        },
        "subjects": [
            {"kind": "ServiceAccount", "name": "default", "namespace": test.namespace.name},
        ],
    })
}

#[test]
fn who_may_edit_does_not_write_the_status() {
    let Some(test) = Test::start("who_may_edit_does_not_write_the_status") else {
        return;
    };
    test.installation();
    let tenant = test.tenant("edit");
    let mut object = packed_bundle(
        "own",
        "none",
        &test.repository(&test.cluster.registry, "own"),
    );
    object["spec"]["suspend"] = json!(true);
    object["status"] = json!({"bundle": {"reference": "r.test/x", "digest": "sha256:00"}});
    tenant.create(&object).ok();
    let status = r#"{"status":{"lock":{"digest":"sha256:00","artifacts":1}}}"#;
    tenant
        .kubectl([
            "patch",
            "packedbundle",
            "own",
            "--subresource=status",
            "--type=merge",
            "-p",
            status,
        ])
        .run()
        .refused("is forbidden");
    tenant
        .kubectl(["patch", "packedbundle", "own", "--type=merge", "-p", status])
        .run()
        .ok();
    tenant
        .kubectl([
            "patch",
            "packedbundle",
            "own",
            "--type=merge",
            "-p",
            r#"{"spec":{"interval":"2h"}}"#,
        ])
        .run()
        .ok();
    let object = test.namespace.get("packedbundle", "own").expect("it");
    assert!(
        object["status"]["lock"].is_null() && object["status"]["bundle"].is_null(),
        "{object:#}"
    );
    tenant.kubectl(["delete", "packedbundle", "own"]).run().ok();
    for kind in ["clusterbundlepolicies", "trustroots"] {
        tenant.kubectl(["get", kind]).run().ok();
        tenant
            .kubectl(["delete", kind, "any"])
            .run()
            .refused("is forbidden");
    }

    let viewer = test.tenant_who_views();
    viewer.kubectl(["get", "packedbundles"]).run().ok();
    viewer
        .create(&packed_bundle(
            "own",
            "none",
            &test.repository(&test.cluster.registry, "own"),
        ))
        .refused("is forbidden");
}

/// The message names the command; the command is all that it takes.
#[test]
fn a_secret_needs_leave() {
    let Some(test) = Test::start("a_secret_needs_leave") else {
        return;
    };
    test.installation();
    let lock = test.lock(&test.cluster.registry, "leave", &[("a", "leave\n")]);
    let repository = test.repository(&test.cluster.registry, "leave");
    test.namespace.apply(&lock.config_map("lock"));
    push_secret(&test, &test.namespace.name);
    let mut bundle = packed_bundle("leave", "lock", &repository);
    bundle["spec"]["destination"]["secretRef"] = json!({"name": "push"});
    test.namespace.apply(&bundle.to_string());
    let message = test.refusal("leave", "SecretAccessDenied");
    assert!(message.contains("spec.destination.secretRef"), "{message}");
    test.nothing_is_signed(&repository, &[]);
    assert!(
        test.namespace
            .list("jobs", "packgate.dev/bundle=leave")
            .is_empty(),
        "it packs without leave"
    );

    run_printed_command(&message);
    test.request("leave");
    let ready = test.ready("leave");
    let uid = ready["metadata"]["uid"].as_str().expect("a uid");
    let copies = kubectl([
        "--namespace",
        NAMESPACE,
        "get",
        "secrets",
        "-l",
        &format!("packgate.dev/bundle-uid={uid}"),
        "-o",
        "name",
    ])
    .run();
    assert_eq!(copies.ok(), "", "the copy of the push credential is left");
}

/// Runs the command in a message, and no more than that.
fn run_printed_command(message: &str) {
    let command = message
        .split_once("kubectl ")
        .expect("a command")
        .1
        .split(';')
        .next()
        .expect("text");
    assert!(
        command.starts_with("create rolebinding packgate-controller "),
        "{message}"
    );
    kubectl(command.split_whitespace()).run().ok();
}

fn push_secret(test: &Test, namespace: &str) {
    let auths = json!({
        "auths": {test.cluster.registry.as_str(): {"username": "team", "password": "hunter2"}},
    })
    .to_string();
    let literal = format!("--from-literal=.dockerconfigjson={auths}");
    let type_ = "--type=kubernetes.io/dockerconfigjson";
    kubectl([
        "--namespace",
        namespace,
        "create",
        "secret",
        "generic",
        "push",
        type_,
        &literal,
    ])
    .run()
    .ok();
}

/// A Secret is looked for beside the object that names it, whoever else has one of that name, with
/// leave to read it.
#[test]
fn a_secret_of_another_namespace_has_no_effect() {
    let Some(test) = Test::start("a_secret_of_another_namespace_has_no_effect") else {
        return;
    };
    let Some(other) =
        Test::start("a_secret_of_another_namespace_has_no_effect (the other namespace)")
    else {
        return;
    };
    test.installation();
    push_secret(&other, &other.namespace.name);
    other.grant();
    let lock = test.lock(&test.cluster.registry, "borrow", &[("a", "borrow\n")]);
    test.namespace.apply(&lock.config_map("lock"));
    let repository = test.repository(&test.cluster.registry, "borrow");
    let mut bundle = packed_bundle("borrow", "lock", &repository);
    bundle["spec"]["destination"]["secretRef"] = json!({"name": "push"});
    test.namespace.apply(&bundle.to_string());
    let secret = format!("Secret {}/push", test.namespace.name);
    let message = test.refusal("borrow", "SecretAccessDenied");
    assert!(message.contains(&secret), "{message}");
    run_printed_command(&message);
    test.request("borrow");
    let message = test.refusal("borrow", "SourceNotFound");
    assert!(message.contains(&secret), "{message}");
    test.nothing_is_signed(&repository, &[]);

    // There is no way to write another namespace.
    for name in [
        format!("{}/push", other.namespace.name),
        format!("../../{}/secrets/push", other.namespace.name),
        "push?watch=true&x=".to_owned(),
    ] {
        bundle["spec"]["destination"]["secretRef"] = json!({"name": name});
        test.namespace
            .try_apply(&bundle.to_string())
            .refused("spec.destination.secretRef.name");
    }
    bundle["spec"]["destination"]["secretRef"] =
        json!({"name": "push", "namespace": other.namespace.name});
    test.namespace
        .try_apply(&bundle.to_string())
        .refused("unknown field");
}

#[test]
fn a_namespace_that_lets_no_pods_in() {
    let Some(test) = Test::start("a_namespace_that_lets_no_pods_in") else {
        return;
    };
    test.installation();
    test.namespace.forbid_pods();
    let lock = test.lock(&test.cluster.registry, "quota", &[("a", "quota\n")]);
    let repository = test.repository(&test.cluster.registry, "quota");
    test.namespace.apply(&lock.config_map("lock"));
    test.namespace
        .apply(&packed_bundle("quota", "lock", &repository).to_string());
    let message = test.refusal("quota", "PodDenied");
    assert!(message.contains("exceeded quota"), "{message}");
    test.nothing_is_signed(&repository, &[]);
    test.namespace.allow_pods();
    let bundle = test.ready("quota");
    assert_ne!(
        condition(&bundle, "Stalled")["status"],
        "True",
        "{bundle:#}"
    );
}

#[test]
fn a_namespace_with_the_strictest_pod_security() {
    let Some(test) = Test::start("a_namespace_with_the_strictest_pod_security") else {
        return;
    };
    test.installation();
    let labels = ["enforce", "warn", "audit"]
        .map(|mode| format!("pod-security.kubernetes.io/{mode}=restricted"));
    let mut label = vec!["label", "namespace", test.namespace.name.as_str()];
    label.extend(labels.iter().map(String::as_str));
    kubectl(label).run().ok();
    let tenant_pod = test.namespace.try_apply(&pod(&test, "default").to_string());
    tenant_pod.refused("violates PodSecurity");
    let lock = test.lock(&test.cluster.registry, "strict", &[("a", "strict\n")]);
    test.namespace.apply(&lock.config_map("lock"));
    test.namespace.apply(
        &packed_bundle(
            "strict",
            "lock",
            &test.repository(&test.cluster.registry, "strict"),
        )
        .to_string(),
    );
    test.ready("strict");
}

/// The tenant's own key: another builder, which nobody takes for the platform's.
#[test]
fn a_namespace_signs_for_itself() {
    let Some(test) = Test::start("a_namespace_signs_for_itself") else {
        return;
    };
    let installation = test.installation();
    signing_secret(&test);
    let lock = test.lock(&test.cluster.registry, "own", &[("a", "own\n")]);
    let repository = test.repository(&test.cluster.registry, "own");
    test.namespace.apply(&lock.config_map("lock"));
    let mut bundle = packed_bundle("own", "lock", &repository);
    bundle["spec"]["signing"] = json!({"mode": "Namespace", "keySecretRef": {"name": "signing"}});
    test.namespace.apply(&bundle.to_string());
    let message = test.refusal("own", "SecretAccessDenied");
    assert!(message.contains("spec.signing.keySecretRef"), "{message}");
    test.nothing_is_signed(&repository, &[]);
    run_printed_command(&message);
    test.request("own");
    let ready = test.ready("own");

    let uid = ready["metadata"]["uid"].as_str().expect("a uid");
    let pods = list_everywhere(
        "pods",
        &format!("app.kubernetes.io/component=sign,packgate.dev/bundle-uid={uid}"),
    );
    assert!(!pods.is_empty(), "there is no sign Pod");
    for pod in pods {
        assert_eq!(
            pod["metadata"]["namespace"],
            test.namespace.name.as_str(),
            "{pod:#}"
        );
        assert_eq!(pod["spec"]["serviceAccountName"], "default", "{pod:#}");
        assert!(!pod.to_string().contains(PLATFORM_KEY), "{pod:#}");
    }
    let platform = &installation.builder_id;
    let own = format!(
        "{}/namespace/{}",
        platform
            .strip_suffix("/platform")
            .expect("the platform's builder"),
        test.namespace.name
    );
    let reference = format!(
        "{repository}@{}",
        ready["status"]["bundle"]["digest"]
            .as_str()
            .expect("a digest")
    );
    test.write("platform.pub", &installation.public_key);
    let verify = |key: &str, builder: &str| {
        test.packgate(&format!(
            "verify {reference} --key {key} --builder-id {builder} {}",
            test.cluster.http_flag()
        ))
    };
    verify("packgate.pub", &own).ok();
    verify("packgate.pub", platform).refused("BuilderNotTrusted");
    verify("platform.pub", platform).refused("NoMatchingAuthority");
    verify("platform.pub", &own).refused("NoMatchingAuthority");
}

/// `signing`, with a key pair of the command line, which is in `packgate.key` and `packgate.pub`
/// too.
fn signing_secret(test: &Test) {
    let folder = test.file("");
    let generate = Program::new(env!("CARGO_BIN_EXE_packgate"))
        .args(["keys", "generate"])
        .env("COSIGN_PASSWORD", "hunter2");
    generate.folder(&folder).run().ok();
    let read = |name: &str| std::fs::read_to_string(test.file(name)).expect("a key");
    let data = json!({
        "cosign.key": read("packgate.key"),
        "cosign.pub": read("packgate.pub"),
        "cosign.password": "hunter2",
    });
    test.namespace.apply(
        &json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "signing"},
            "stringData": data,
        })
        .to_string(),
    );
}

#[test]
fn nobody_signs_without_leave_of_the_installation() {
    let Some(test) = Test::start("nobody_signs_without_leave_of_the_installation") else {
        return;
    };
    test.installation();
    let lock = test.lock(&test.cluster.registry, "unsigned", &[("a", "unsigned\n")]);
    let repository = test.repository(&test.cluster.registry, "unsigned");
    test.namespace.apply(&lock.config_map("lock"));
    let mut bundle = packed_bundle("unsigned", "lock", &repository);
    bundle["spec"]["signing"] = json!({"mode": "None"});
    test.namespace.apply(&bundle.to_string());
    let message = test.refusal("unsigned", "InvalidSpec");
    assert!(message.contains("signing.allowNone"), "{message}");
    test.nothing_is_signed(&repository, &[]);
    assert!(
        test.namespace
            .list("jobs", "packgate.dev/bundle=unsigned")
            .is_empty()
    );
}

/// `kubectl auth can-i --list` of each account, less what every account may do.
#[test]
fn what_packgates_accounts_may_do() {
    let Some(test) = Test::start("what_packgates_accounts_may_do") else {
        return;
    };
    test.installation();
    for (account, namespace, golden) in [
        (
            "packgate-controller",
            NAMESPACE,
            "controller-in-its-namespace",
        ),
        (
            "packgate-controller",
            test.namespace.name.as_str(),
            "controller-elsewhere",
        ),
        ("packgate-webhook", NAMESPACE, "webhook-in-its-namespace"),
        (
            "packgate-webhook",
            test.namespace.name.as_str(),
            "webhook-elsewhere",
        ),
        ("packgate-signer", NAMESPACE, "signer-in-its-namespace"),
        (
            "packgate-signer",
            test.namespace.name.as_str(),
            "signer-elsewhere",
        ),
    ] {
        let nobody = rights(&random_name(), namespace);
        let rights: Vec<_> = rights(account, namespace)
            .difference(&nobody)
            .cloned()
            .collect();
        let found = rights.join("\n");
        let path = format!("{ROOT}/tests/cluster/golden/{golden}.txt");
        if std::env::var_os("PACKGATE_WRITE_GOLDEN").is_some() {
            std::fs::write(&path, format!("{found}\n")).expect("a golden file");
        }
        let expected = std::fs::read_to_string(&path)
            .unwrap_or_else(|e| panic!("{path}: {e}; write it with PACKGATE_WRITE_GOLDEN=1"));
        assert_eq!(
            found,
            expected.trim_end(),
            "{golden}: say why in the commit, and write it with PACKGATE_WRITE_GOLDEN=1"
        );
        if namespace != NAMESPACE {
            assert!(
                !found.contains("secrets"),
                "a cluster-wide rule for Secrets: {found}"
            );
        }
    }
    no_cluster_role_of_ours_reads_secrets();
}

/// Lines of `RESOURCES URLS NAMES VERBS`, spaces made single.
fn rights(account: &str, namespace: &str) -> BTreeSet<String> {
    let user = format!("system:serviceaccount:{NAMESPACE}:{account}");
    let list = kubectl([
        "--as",
        &user,
        "--namespace",
        namespace,
        "auth",
        "can-i",
        "--list",
        "--no-headers",
    ])
    .run();
    list.ok()
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

/// Whatever the bindings are in the cluster, no ClusterRoleBinding gives packgate's accounts a role
/// that names Secrets or everything.
fn no_cluster_role_of_ours_reads_secrets() {
    let bindings = kubectl(["get", "clusterrolebindings", "-o", "json"])
        .run()
        .json();
    let ours = |binding: &&Value| {
        binding["subjects"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|subject| subject["namespace"] == NAMESPACE && subject["kind"] == "ServiceAccount")
    };
    let bindings: Vec<&Value> = bindings["items"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(ours)
        .collect();
    assert_eq!(bindings.len(), 2, "{bindings:#?}");
    for binding in bindings {
        let role = kubectl([
            "get",
            "clusterrole",
            binding["roleRef"]["name"].as_str().expect("a name"),
            "-o",
            "json",
        ])
        .run()
        .json();
        for rule in role["rules"].as_array().expect("rules") {
            let resources = rule["resources"].as_array().expect("resources");
            assert!(
                resources
                    .iter()
                    .all(|resource| resource != "secrets" && resource != "*"),
                "{rule:#}"
            );
        }
    }
}

impl Test {
    /// Somebody who may only look.
    fn tenant_who_views(&self) -> Tenant {
        self.tenant_of("view", ("get", "packedbundles.packgate.dev"))
    }
}

/// What another namespace writes down blocks nobody: neither an object that never packed, nor one
/// that failed.
#[test]
fn a_squatter_in_another_namespace_blocks_nobody() {
    let Some(test) = Test::start("a_squatter_in_another_namespace_blocks_nobody") else {
        return;
    };
    let installation = test.installation();
    let lock = test.lock(&test.cluster.registry, "product", &[("a", "product\n")]);
    let repository = test.repository(&test.cluster.registry, "product");
    let elsewhere = crate::support::namespace::Namespace::create();
    elsewhere.apply(&lock.config_map("lock"));
    let mut squatter = packed_bundle("squat", "lock", &repository);
    squatter["spec"]["destination"]["tag"] = json!("v1");
    squatter["spec"]["suspend"] = json!(true);
    elsewhere.apply(&squatter.to_string());
    std::thread::sleep(std::time::Duration::from_millis(1_100)); // ages have whole seconds
    test.namespace.apply(&lock.config_map("lock"));
    let mut product = packed_bundle("product", "lock", &repository);
    product["spec"]["destination"]["tag"] = json!("v1");
    test.namespace.apply(&product.to_string());
    let bundle = test.ready("product");
    installation.vouches_for(
        &test,
        &format!(
            "{repository}@{}",
            bundle["status"]["bundle"]["digest"]
                .as_str()
                .expect("a digest")
        ),
    );
    assert!(
        !test.bundle("product").to_string().contains(&elsewhere.name),
        "a foreign object is named"
    );
}

/// More bundles than places: at no time more sign Jobs than the chart's value, and all of them are
/// signed in the end.
#[test]
fn sign_jobs_of_one_namespace_wait_for_each_other() {
    const MANY: usize = SIGN_JOBS + 4;
    let Some(test) = Test::start("sign_jobs_of_one_namespace_wait_for_each_other") else {
        return;
    };
    test.installation();
    let names: Vec<String> = (0..MANY).map(|n| format!("many-{n}")).collect();
    for name in &names {
        let lock = test.lock(&test.cluster.registry, name, &[("a", name)]);
        test.namespace.apply(&lock.config_map(name));
        test.namespace.apply(
            &packed_bundle(name, name, &test.repository(&test.cluster.registry, name)).to_string(),
        );
    }
    let labels = format!(
        "app.kubernetes.io/component=sign,packgate.dev/bundle-namespace={}",
        test.namespace.name
    );
    let begun = std::time::Instant::now();
    loop {
        let jobs = list_everywhere("jobs", &labels);
        let over = |job: &&Value| {
            job["status"]["conditions"].as_array().is_some_and(|all| {
                all.iter()
                    .any(|one| one["type"] == "Complete" || one["type"] == "Failed")
            })
        };
        let running = jobs.iter().filter(|job| !over(job)).count();
        assert!(running <= SIGN_JOBS, "{running} sign Jobs at once");
        for job in &jobs {
            let container = &job["spec"]["template"]["spec"]["containers"][0];
            assert!(
                container["resources"]["limits"]["memory"].is_string(),
                "{container:#}"
            );
        }
        if jobs.len() == MANY && running == 0 {
            break;
        }
        assert!(
            begun.elapsed().as_secs() < 300,
            "{} of {MANY} sign Jobs",
            jobs.len()
        );
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    for name in &names {
        test.ready(name);
    }
}
