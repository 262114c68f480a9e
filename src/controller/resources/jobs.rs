//! The pack Job and the sign Job of a run.

use std::time::Duration;

use k8s_openapi::{
    api::{
        batch::v1::{
            Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
            PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
        },
        core::v1::{LocalObjectReference, PodSpec, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{ResourceExt, core::ObjectMeta};

use super::{
    CONTAINER, RunComponent, RunSettings, ScratchStorage, bundle_owner_references,
    config_maps_and_secrets::DOCKER_CONFIG_KEY,
    pod::{
        PodVolumeMount, build_pod_spec, default_resources, sign_job_resources,
        with_ephemeral_storage,
    },
    run_labels,
};
use crate::{
    api::{
        packed_bundle::{
            LockSource, PackedBundle, PackingRequest, TenantSigner, TenantSigningIdentity,
        },
        trust_root::TRUSTED_ROOT_KEY,
    },
    core::{
        digest::Digest,
        job::{JobInputs, JobRunKey},
        reason::Class,
    },
};

/// Retries of a Pod whose dependency was unavailable.
const BACKOFF_LIMIT: i32 = 3;
const INPUTS: &str = "/inputs";
const WORK: &str = "/work";
const REGISTRY: &str = "/credentials/registry";
const CONTEXT: &str = "/credentials/context";
const KEY: &str = "/signing";
const CONFIG: &str = "config.json";
const SERVICES: &str = "/services";
const IDENTITY: &str = "/identity";
/// The audience of identity tokens: the one that Fulcio requires.
const AUDIENCE: &str = "sigstore";
/// The ServiceAccount of the platform's sign Jobs. It has no permissions.
const SIGNER_ACCOUNT: &str = "packgate-signer";

/// The signer of a sign Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignJobSigner {
    /// The platform's key, a Secret of the system namespace.
    Platform(String),
    /// The tenant's own signer, in its namespace.
    Namespace {
        /// The signing identity.
        identity: TenantSigningIdentity,
        /// The Sigstore services to sign with.
        services: Option<SigstoreServicesConfigMap>,
    },
    /// No signer: the bytes are compared only.
    Unsigned,
}

/// A `ConfigMap` of the tenant's namespace with Sigstore's services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigstoreServicesConfigMap {
    /// The name of the `ConfigMap`.
    pub name: String,
    /// True if it contains certificate authorities for TLS.
    pub has_ca: bool,
}

/// Key in a [`SigstoreServicesConfigMap`]: the services.
pub const SIGNING_CONFIG_KEY: &str = "signing_config.json";
/// Key in a [`SigstoreServicesConfigMap`]: CA certificates for TLS, in PEM.
pub const CA_KEY: &str = "ca.crt";

/// The pack Job, in the tenant's namespace: with the tenant's credentials, without any API token or
/// key.
pub fn build_pack_job(
    owner: &PackedBundle,
    packing: &PackingRequest,
    inputs: &JobInputs,
    scratch: ScratchStorage,
    setup: &RunSettings,
) -> Job {
    let run = &inputs.run;
    let mut args = to_strings(&["job", "pack", "--inputs", INPUTS, "--work", WORK]);
    let mut mounts = vec![
        PodVolumeMount::config_map("inputs", run.pack_job_name(), INPUTS),
        PodVolumeMount::scratch_directory("work", scratch.limit, WORK),
    ];
    if let Some(secret) = &packing.push_secret {
        args.extend([
            String::from("--registry-config"),
            format!("{REGISTRY}/{CONFIG}"),
        ]);
        mounts.push(registry_config_mount("registry", secret, REGISTRY));
    }
    if let LockSource::Context {
        secret: Some(secret),
        ..
    } = &packing.source
    {
        args.extend([
            String::from("--context-config"),
            format!("{CONTEXT}/{CONFIG}"),
        ]);
        mounts.push(registry_config_mount("context", secret, CONTEXT));
    }
    let wish = &packing.pod;
    let account = wish
        .service_account_name
        .clone()
        .unwrap_or_else(|| "default".to_owned());
    let spec = PodSpec {
        node_selector: Some(wish.node_selector.clone()).filter(|selector| !selector.is_empty()),
        tolerations: Some(wish.tolerations.clone()).filter(|tolerations| !tolerations.is_empty()),
        ..build_pod_spec(
            args,
            mounts,
            with_ephemeral_storage(
                wish.resources.clone().unwrap_or_else(default_resources),
                scratch,
            ),
            account,
            setup,
        )
    };
    let place = JobPlacement {
        name: run.pack_job_name(),
        namespace: owner.namespace(),
        owners: bundle_owner_references(owner),
        component: RunComponent::Pack,
    };
    build_job(owner, run, place, spec, packing.timeout)
}

/// The sign Job: derives every byte again, then signs, attests, verifies and tags `digest`. Of the
/// tenant's data only the frozen run and a copy of the push credential reach its Pod.
pub fn build_sign_job(
    owner: &PackedBundle,
    packing: &PackingRequest,
    inputs: &JobInputs,
    digest: &Digest,
    with: &SignJobSigner,
    setup: &RunSettings,
) -> Job {
    let run = &inputs.run;
    let in_namespace = matches!(with, SignJobSigner::Namespace { .. });
    let mut args = to_strings(&[
        "job",
        "sign",
        "--inputs",
        INPUTS,
        "--digest",
        &digest.to_string(),
    ]);
    let frozen = if in_namespace {
        run.pack_job_name()
    } else {
        run.lock_snapshot_name()
    };
    let mut mounts = vec![PodVolumeMount::config_map("inputs", frozen, INPUTS)];
    if let Some(secret) = &packing.push_secret {
        let secret = if in_namespace {
            secret.clone()
        } else {
            run.sign_job_name()
        };
        args.extend([
            String::from("--registry-config"),
            format!("{REGISTRY}/{CONFIG}"),
        ]);
        mounts.push(registry_config_mount("registry", &secret, REGISTRY));
    }
    add_signer_arguments(with, &mut args, &mut mounts);
    let account = if in_namespace {
        TenantSigner::ACCOUNT
    } else {
        SIGNER_ACCOUNT
    };
    let resources = if in_namespace {
        None
    } else {
        setup.sign_jobs.resources.clone()
    };
    let mut spec = build_pod_spec(
        args,
        mounts,
        resources.unwrap_or_else(sign_job_resources),
        account.to_owned(),
        setup,
    );
    let place = if in_namespace {
        JobPlacement {
            name: run.sign_job_name(),
            namespace: owner.namespace(),
            owners: bundle_owner_references(owner),
            component: RunComponent::Sign,
        }
    } else {
        let secrets = setup
            .image_pull_secrets
            .iter()
            .map(|name| LocalObjectReference { name: name.clone() });
        spec.image_pull_secrets =
            Some(secrets.collect()).filter(|secrets: &Vec<_>| !secrets.is_empty());
        let owners = vec![setup.installation.clone()];
        JobPlacement {
            name: run.sign_job_name(),
            namespace: Some(setup.system_namespace.clone()),
            owners,
            component: RunComponent::Sign,
        }
    };
    // In the tenant's namespace its own quota and deadline apply. Here the platform's key is
    // mounted.
    let longest = if in_namespace {
        packing.timeout
    } else {
        packing
            .timeout
            .min(Duration::from_secs(setup.sign_jobs.timeout_seconds.into()))
    };
    build_job(owner, run, place, spec, longest)
}

/// The arguments of the sign Job for its signer, with the paths of its files.
fn add_signer_arguments(
    with: &SignJobSigner,
    args: &mut Vec<String>,
    mounts: &mut Vec<PodVolumeMount>,
) {
    match with {
        SignJobSigner::Platform(secret)
        | SignJobSigner::Namespace {
            identity: TenantSigningIdentity::Key(secret),
            ..
        } => {
            args.extend(to_strings(&[
                "--key",
                "/signing/cosign.key",
                "--key-password-file",
                "/signing/cosign.password",
            ]));
            let keys = [
                ("cosign.key", "cosign.key"),
                ("cosign.password", "cosign.password"),
            ];
            mounts.push(PodVolumeMount::secret_keys(
                "key",
                secret.clone(),
                &keys,
                KEY,
            ));
        }
        SignJobSigner::Namespace {
            identity: TenantSigningIdentity::ServiceAccount,
            ..
        } => {
            args.extend(to_strings(&["--identity-token-file", "/identity/token"]));
            mounts.push(PodVolumeMount::service_account_token(
                "identity", AUDIENCE, "token", IDENTITY,
            ));
        }
        SignJobSigner::Unsigned => (),
    }
    if let SignJobSigner::Namespace {
        services: Some(SigstoreServicesConfigMap { name, has_ca }),
        ..
    } = with
    {
        let flags = [
            ("--signing-config", SIGNING_CONFIG_KEY),
            ("--trusted-root", TRUSTED_ROOT_KEY),
            ("--ca-file", CA_KEY),
        ];
        let used = if *has_ca {
            flags.as_slice()
        } else {
            &flags[..2]
        };
        args.extend(
            used.iter()
                .flat_map(|(flag, key)| [(*flag).to_owned(), format!("{SERVICES}/{key}")]),
        );
        let keys: Vec<&str> = used.iter().map(|(_, key)| *key).collect();
        mounts.push(PodVolumeMount::config_map_keys(
            "services",
            name.clone(),
            &keys,
            SERVICES,
        ));
    }
}

struct JobPlacement {
    name: String,
    namespace: Option<String>,
    owners: Vec<OwnerReference>,
    component: RunComponent,
}

fn build_job(
    owner: &PackedBundle,
    run: &JobRunKey,
    place: JobPlacement,
    spec: PodSpec,
    longest: Duration,
) -> Job {
    let JobPlacement {
        name,
        namespace,
        owners,
        component,
    } = place;
    let labels = run_labels(owner, run, component);
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels.clone()),
            ..ObjectMeta::default()
        }),
        spec: Some(spec),
    };
    Job {
        metadata: ObjectMeta {
            name: Some(name),
            namespace,
            labels: Some(labels),
            owner_references: Some(owners),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            parallelism: Some(1),
            completions: Some(1),
            backoff_limit: Some(BACKOFF_LIMIT),
            active_deadline_seconds: Some(i64::try_from(longest.as_secs()).unwrap_or(i64::MAX)),
            pod_failure_policy: Some(pod_failure_policy()),
            template,
            ..JobSpec::default()
        }),
        ..Job::default()
    }
}

/// Only exit code 3, an unavailable dependency, is retried; an evicted Pod does not count.
fn pod_failure_policy() -> PodFailurePolicy {
    let codes = |classes: &[Class]| {
        classes
            .iter()
            .map(|class| i32::from(class.exit_code()))
            .collect()
    };
    let on = |classes: &[Class]| {
        Some(PodFailurePolicyOnExitCodesRequirement {
            container_name: Some(CONTAINER.to_owned()),
            operator: "In".to_owned(),
            values: codes(classes),
        })
    };
    let rule = |action: &str| PodFailurePolicyRule {
        action: action.to_owned(),
        ..PodFailurePolicyRule::default()
    };
    let disrupted = PodFailurePolicyOnPodConditionsPattern {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
    };
    let fatal = [
        Class::Denied,
        Class::Invalid,
        Class::Corrupt,
        Class::Internal,
    ];
    PodFailurePolicy {
        rules: vec![
            PodFailurePolicyRule {
                on_exit_codes: on(&fatal),
                ..rule("FailJob")
            },
            PodFailurePolicyRule {
                on_pod_conditions: Some(vec![disrupted]),
                ..rule("Ignore")
            },
            PodFailurePolicyRule {
                on_exit_codes: on(&[Class::Unavailable]),
                ..rule("Count")
            },
        ],
    }
}

fn registry_config_mount(name: &str, secret: &str, path: &'static str) -> PodVolumeMount {
    PodVolumeMount::secret_keys(
        name,
        secret.to_owned(),
        &[(DOCKER_CONFIG_KEY, CONFIG)],
        path,
    )
}

fn to_strings(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}
