use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use super::*;
use crate::{
    api::installation::SignJobsConfig,
    api::packed_bundle::{
        PackedBundleSpec, PackedBundleWork, PackingRequest, TenantSigningIdentity,
        ValidatedPackedBundle,
    },
    core::{
        digest::Digest,
        job::{
            INPUTS_VERSION, JobDestination, JobFetch, JobInputs, JobLockSource, JobSigning,
            JobSigningMode, JobTagPolicy, PackedBundleIdentity,
        },
        lockfile::CanonicalLock,
        pack::PackOptions,
    },
};

fn owner(spec: Value) -> (PackedBundle, PackingRequest) {
    let spec: PackedBundleSpec = serde_json::from_value(spec).expect("a spec");
    let mut object = PackedBundle::new("siem", spec);
    object.metadata.namespace = Some("team-a".into());
    object.metadata.uid = Some("uid-1".into());
    object.metadata.generation = Some(1);
    let PackedBundleWork::Pack(packing) = ValidatedPackedBundle::try_from(&object)
        .expect("valid")
        .work
    else {
        panic!("no packing")
    };
    (object, *packing)
}

pub(super) fn with_secrets() -> (PackedBundle, PackingRequest) {
    owner(json!({
        "source": {
            "ociRef": {
                "repository": "r.example.com/ctx",
                "digest": Digest::of_bytes(b"ctx"),
                "secretRef": {"name": "pull"},
            },
        },
        "destination": {"repository": "r.example.com/team-a/siem", "secretRef": {"name": "push"}},
        "packPod": {
            "nodeSelector": {"a": "b"},
            "serviceAccountName": "packer",
            "resources": {"limits": {"memory": "1Gi"}},
        },
        "timeout": "90s"
    }))
}

pub(super) const SCRATCH: ScratchStorage = ScratchStorage {
    needed: 1_000,
    limit: 2_000,
};

pub(super) fn setup() -> RunSettings {
    RunSettings {
        system_namespace: "packgate-system".into(),
        image: "r.example.com/packgate:v1".into(),
        packer: None,
        image_pull_policy: String::new(),
        image_pull_secrets: vec!["image".into()],
        sign_jobs: SignJobsConfig::default(),
        installation: OwnerReference {
            name: "packgate-controller".into(),
            kind: "ServiceAccount".into(),
            ..OwnerReference::default()
        },
    }
}

pub(super) fn inputs() -> JobInputs {
    let lock_digest = Digest::of_bytes(b"{}");
    JobInputs {
        v: INPUTS_VERSION,
        run: JobRunKey::new("uid-1", 1, &lock_digest),
        bundle: PackedBundleIdentity {
            namespace: "team-a".into(),
            name: "siem".into(),
            uid: "uid-1".into(),
            generation: 1,
        },
        cluster: "cluster".into(),
        started_on: "2026-11-21T12:00:00Z".parse().expect("a time"),
        source: JobLockSource {
            uri: "k8s://team-a/configmaps/x".into(),
            context: None,
            lock_path: None,
        },
        lock_digest,
        layers: Vec::new(),
        signed_origins: BTreeMap::new(),
        output: PackOptions::default(),
        destination: JobDestination {
            repository: "r.example.com/team-a/siem".into(),
            tag: Some("v1".into()),
            tag_policy: JobTagPolicy::Immutable,
        },
        registries: Vec::new(),
        private_networks: Vec::new(),
        registry_networks: Vec::new(),
        fetch_ca: None,
        fetch: JobFetch::default(),
        signing: JobSigning {
            mode: JobSigningMode::Platform,
            builder_id: "https://b.example.com/platform".into(),
        },
        sbom: None,
        packer: None,
    }
}

pub(super) fn json(object: &impl serde::Serialize) -> Value {
    serde_json::to_value(object).expect("JSON")
}

/// The rules of the restricted pod security standard that a manifest can violate, and no API token.
pub(super) fn assert_restricted(job: &Value) {
    let pod = &job["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(
        pod["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    assert_eq!(
        container["securityContext"]["allowPrivilegeEscalation"],
        false
    );
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(
        container["securityContext"]["capabilities"]["drop"],
        json!(["ALL"])
    );
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        assert_eq!(pod[field], Value::Null);
    }
    assert_eq!(pod["containers"].as_array().expect("a list").len(), 1);
}

fn secrets(job: &Value) -> Vec<&str> {
    let volumes = job["spec"]["template"]["spec"]["volumes"]
        .as_array()
        .expect("volumes");
    volumes
        .iter()
        .filter_map(|volume| volume["secret"]["secretName"].as_str())
        .collect()
}

#[test]
fn the_pack_job_has_the_tenants_credentials_and_nothing_else() {
    let (object, packing) = with_secrets();
    let job = json(&build_pack_job(
        &object,
        &packing,
        &inputs(),
        SCRATCH,
        &setup(),
    ));
    assert_restricted(&job);
    assert_eq!(secrets(&job), ["push", "pull"]);
    assert_eq!(job["metadata"]["namespace"], "team-a");
    assert_eq!(
        job["metadata"]["name"],
        format!("packgate-{}-pack", inputs().run)
    );
    assert_eq!(job["metadata"]["ownerReferences"][0]["uid"], "uid-1");
    assert_eq!(
        job["metadata"]["ownerReferences"][0]["blockOwnerDeletion"],
        Value::Null
    );
    assert_eq!(job["spec"]["activeDeadlineSeconds"], 90);
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(
        (
            pod["serviceAccountName"].as_str(),
            pod["nodeSelector"]["a"].as_str()
        ),
        (Some("packer"), Some("b"))
    );
    assert_eq!(pod["containers"][0]["resources"]["limits"]["memory"], "1Gi");
    assert_eq!(
        pod["imagePullSecrets"],
        Value::Null,
        "Secrets of the system namespace do not exist in the tenant's"
    );
    let expected = [
        "job",
        "pack",
        "--inputs",
        "/inputs",
        "--work",
        "/work",
        "--registry-config",
        "/credentials/registry/config.json",
        "--context-config",
        "/credentials/context/config.json",
    ];
    assert_eq!(pod["containers"][0]["args"], json!(expected));
}

#[test]
fn the_sign_job_is_out_of_the_tenants_reach() {
    let (object, packing) = with_secrets();
    let digest = Digest::of_bytes(b"bundle");
    let with = SignJobSigner::Platform("packgate-platform-key".into());
    let job = json(&build_sign_job(
        &object,
        &packing,
        &inputs(),
        &digest,
        &with,
        &setup(),
    ));
    assert_restricted(&job);
    let copy = format!("packgate-{}-sign", inputs().run);
    assert_eq!(secrets(&job), [copy.as_str(), "packgate-platform-key"]);
    assert_eq!(job["metadata"]["namespace"], "packgate-system");
    assert_eq!(
        job["metadata"]["ownerReferences"][0]["kind"],
        "ServiceAccount"
    );
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(pod["serviceAccountName"], "packgate-signer");
    for field in ["nodeSelector", "tolerations"] {
        assert_eq!(pod[field], Value::Null, "packPod never reaches it");
    }
    let (requests, limits) = (
        &pod["containers"][0]["resources"]["requests"],
        &pod["containers"][0]["resources"]["limits"],
    );
    for resource in ["cpu", "memory", "ephemeral-storage"] {
        assert!(
            requests[resource].is_string() && limits[resource].is_string(),
            "no quota of a tenant counts here: {resource}"
        );
    }
    assert_eq!(
        pod["volumes"][0]["configMap"]["name"],
        format!("packgate-{}-lock", inputs().run)
    );
    assert!(
        pod["containers"][0]["args"]
            .as_array()
            .expect("a list")
            .contains(&json!(digest.to_string()))
    );
}

#[test]
fn a_sign_job_has_a_deadline_and_resources_of_the_installation() {
    let (object, mut packing) = with_secrets();
    let mut setup = setup();
    setup.sign_jobs = SignJobsConfig {
        timeout_seconds: 600,
        resources: Some(
            serde_json::from_value(json!({"limits": {"memory": "1Gi"}})).expect("resources"),
        ),
        ..SignJobsConfig::default()
    };
    let deadline = |job: &Value| {
        job["spec"]["activeDeadlineSeconds"]
            .as_i64()
            .expect("a deadline")
    };
    let key = || TenantSigningIdentity::Key("key".into());
    for (timeout, platform, tenant) in [(90, 90, 90), (86_400, 600, 86_400)] {
        packing.timeout = Duration::from_secs(timeout);
        let sign = |with: &SignJobSigner| {
            json(&build_sign_job(
                &object,
                &packing,
                &inputs(),
                &Digest::of_bytes(b"bundle"),
                with,
                &setup,
            ))
        };
        let job = sign(&SignJobSigner::Platform("packgate-platform-key".into()));
        assert_eq!(deadline(&job), platform);
        assert_eq!(
            job["spec"]["template"]["spec"]["containers"][0]["resources"],
            json!({"limits": {"memory": "1Gi"}})
        );
        let job = sign(&SignJobSigner::Namespace {
            identity: key(),
            services: None,
        });
        assert_eq!(
            deadline(&job),
            tenant,
            "in the tenant's namespace its quota counts"
        );
        assert!(
            job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
                == "256Mi"
        );
    }
}

#[test]
fn the_pack_job_takes_no_more_room_on_its_node_than_its_lock_needs() {
    let (object, mut packing) = with_secrets();
    let resources = |packing: &PackingRequest| {
        let job = json(&build_pack_job(
            &object,
            packing,
            &inputs(),
            SCRATCH,
            &setup(),
        ));
        let pod = job["spec"]["template"]["spec"].clone();
        let volumes = pod["volumes"].as_array().expect("volumes");
        let work = volumes
            .iter()
            .find(|volume| volume["name"] == "work")
            .expect("the folder");
        assert_eq!(work["emptyDir"]["sizeLimit"], "2000");
        pod["containers"][0]["resources"].clone()
    };
    let found = resources(&packing);
    assert_eq!(found["requests"]["ephemeral-storage"], "1000");
    assert_eq!(
        (
            &found["limits"]["ephemeral-storage"],
            &found["limits"]["memory"]
        ),
        (&json!((2_000 + (64 << 20)).to_string()), &json!("1Gi"))
    );
    let own = json!({"requests": {"ephemeral-storage": "1Ti"}});
    packing.pod.resources = Some(serde_json::from_value(own.clone()).expect("resources"));
    assert_eq!(resources(&packing), own, "what the object says counts");
}

#[test]
fn a_tenants_key_signs_in_the_tenants_namespace() {
    let (object, packing) = with_secrets();
    let with = SignJobSigner::Namespace {
        identity: TenantSigningIdentity::Key("key".into()),
        services: None,
    };
    let job = json(&build_sign_job(
        &object,
        &packing,
        &inputs(),
        &Digest::of_bytes(b"bundle"),
        &with,
        &setup(),
    ));
    assert_restricted(&job);
    assert_eq!(secrets(&job), ["push", "key"]);
    assert_eq!(job["metadata"]["namespace"], "team-a");
    assert_eq!(
        job["metadata"]["ownerReferences"][0]["kind"],
        "PackedBundle"
    );
    assert_eq!(
        job["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"],
        format!("packgate-{}-pack", inputs().run)
    );
    assert_eq!(
        job["spec"]["template"]["spec"]["imagePullSecrets"],
        Value::Null
    );
}

#[test]
fn without_a_signer_there_is_no_key() {
    let (object, packing) = with_secrets();
    let job = json(&build_sign_job(
        &object,
        &packing,
        &inputs(),
        &Digest::of_bytes(b"bundle"),
        &SignJobSigner::Unsigned,
        &setup(),
    ));
    let args = job["spec"]["template"]["spec"]["containers"][0]["args"].to_string();
    assert!(
        !args.contains("--key") && secrets(&job).len() == 1,
        "{args}"
    );
}

#[test]
fn only_a_dependency_that_did_not_answer_is_tried_again() {
    let (object, packing) = with_secrets();
    let job = json(&build_pack_job(
        &object,
        &packing,
        &inputs(),
        SCRATCH,
        &setup(),
    ));
    let rules = &job["spec"]["podFailurePolicy"]["rules"];
    assert_eq!(
        rules[0],
        json!({
            "action": "FailJob",
            "onExitCodes": {"containerName": "packgate", "operator": "In", "values": [1, 2, 4, 70]},
        })
    );
    assert_eq!(rules[1]["action"], "Ignore");
    assert_eq!(
        rules[2],
        json!({
            "action": "Count",
            "onExitCodes": {"containerName": "packgate", "operator": "In", "values": [3]},
        })
    );
    assert_eq!(
        (
            &job["spec"]["backoffLimit"],
            &job["spec"]["template"]["spec"]["restartPolicy"]
        ),
        (&json!(3), &json!("Never"))
    );
}

#[test]
fn every_object_of_a_run_carries_the_labels_of_its_owner() {
    let (object, packing) = with_secrets();
    let lock = CanonicalLock {
        bytes: b"{}".to_vec(),
        digest: inputs().lock_digest,
    };
    let data = || RunSnapshot::new(&lock, &inputs()).expect("it fits");
    let all = [
        json(&snapshot_config_map(&object, &inputs(), data(), &setup())),
        json(&pack_config_map(&object, &inputs(), data())),
        json(&push_secret_copy(
            &object,
            &inputs(),
            b"{}".to_vec(),
            &setup(),
        )),
        json(&build_pack_job(
            &object,
            &packing,
            &inputs(),
            SCRATCH,
            &setup(),
        )),
    ];
    for made in &all {
        let labels = &made["metadata"]["labels"];
        assert_eq!(
            (
                &labels[BUNDLE],
                &labels[BUNDLE_NAMESPACE],
                &labels[BUNDLE_UID]
            ),
            (&json!("siem"), &json!("team-a"), &json!("uid-1"))
        );
        assert_eq!(
            (&labels[MANAGED_BY], &labels[RUN]),
            (&json!(MANAGER), &json!(inputs().run.as_str()))
        );
    }
    assert!(all[..3].iter().all(|made| made["immutable"] == true));
    assert_eq!(all[0]["metadata"]["namespace"], "packgate-system");
    assert_eq!(all[1]["metadata"]["namespace"], "team-a");
    let map = serde_json::from_value(all[0].clone()).expect("a ConfigMap");
    assert_eq!(RunSnapshot::from_config_map(&map), Some(data()));
}

#[test]
fn a_lock_that_no_config_map_holds_is_refused() {
    use crate::core::reason::{ClassifiedError, Reason};
    let lock = CanonicalLock {
        bytes: vec![b'x'; 1_000_000],
        digest: inputs().lock_digest,
    };
    assert_eq!(
        RunSnapshot::new(&lock, &inputs())
            .expect_err("too large")
            .reason(),
        Reason::InvalidLock
    );
}

#[test]
fn a_tenant_without_a_key_signs_as_its_service_account() {
    let (object, packing) = with_secrets();
    let services = |has_ca| {
        Some(SigstoreServicesConfigMap {
            name: "sigstore".into(),
            has_ca,
        })
    };
    let sign = |with: &SignJobSigner| {
        json(&build_sign_job(
            &object,
            &packing,
            &inputs(),
            &Digest::of_bytes(b"bundle"),
            with,
            &setup(),
        ))
    };
    let job = sign(&SignJobSigner::Namespace {
        identity: TenantSigningIdentity::ServiceAccount,
        services: services(false),
    });
    assert_eq!(
        (
            &job["metadata"]["namespace"],
            &job["spec"]["template"]["spec"]["serviceAccountName"]
        ),
        (&json!("team-a"), &json!("default"))
    );
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], json!(false));
    let args: Vec<&str> = pod["containers"][0]["args"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let expected = [
        "--identity-token-file",
        "/identity/token",
        "--signing-config",
        "/services/signing_config.json",
        "--trusted-root",
        "/services/trusted_root.json",
    ];
    assert!(args.ends_with(&expected), "{args:?}");
    let volumes = pod["volumes"].as_array().expect("a list");
    let token = json!({"name": "identity", "projected": {"defaultMode": 0o440,
    "sources": [
        {
            "serviceAccountToken": {
                "audience": "sigstore",
                "expirationSeconds": 600,
                "path": "token",
            },
        },
    ]}});
    assert!(volumes.contains(&token), "{volumes:?}");
    assert!(
        !volumes.iter().any(|volume| volume["name"] == "key"),
        "{volumes:?}"
    );
    let job = sign(&SignJobSigner::Namespace {
        identity: TenantSigningIdentity::Key("key".into()),
        services: services(true),
    });
    let text = job.to_string();
    assert!(
        text.contains("--key")
            && text.contains("/services/ca.crt")
            && !text.contains("/identity/token"),
        "{text}"
    );
}
