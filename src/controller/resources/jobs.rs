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
        OptionalSecret, PodVolumeMount, build_pod_spec, default_resources, sign_job_resources,
        with_ephemeral_storage,
    },
    run_labels,
    sign_job_signer::{SignJobSigner, add_signer_arguments},
};
use crate::{
    api::packed_bundle::{LockSource, PackedBundle, PackingRequest, TenantSigner},
    core::{
        digest::Digest,
        job::{
            FETCH_CREDENTIAL_KEYS, FETCH_PROXY_FOLDER, FETCH_PROXY_KEYS, JobFetch, JobInputs,
            JobRunKey,
        },
        reason::Class,
    },
};

/// Retries of a Pod whose dependency was unavailable.
const BACKOFF_LIMIT: i32 = 3;
const INPUTS: &str = "/inputs";
const WORK: &str = "/work";
const REGISTRY: &str = "/credentials/registry";
const CONTEXT: &str = "/credentials/context";
const FETCH: &str = "/credentials/fetch";
const CONFIG: &str = "config.json";
/// The ServiceAccount of the platform's sign Jobs. It has no permissions.
const SIGNER_ACCOUNT: &str = "packgate-signer";

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
    if let Some(secrets) = fetch_secrets_mount(&inputs.fetch) {
        args.extend(to_strings(&["--fetch-secrets", FETCH]));
        mounts.push(secrets);
    }
    let wish = &packing.pod;
    let account = wish.service_account_name.as_deref().unwrap_or("default");
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
            account.to_owned(),
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
    let (mut args, mut mounts) = sign_job_inputs(packing, run, digest, in_namespace);
    add_signer_arguments(with, &mut args, &mut mounts);
    if in_namespace {
        // The tenant's own quota and deadline apply.
        let account = TenantSigner::ACCOUNT.to_owned();
        let spec = build_pod_spec(args, mounts, sign_job_resources(), account, setup);
        let place = JobPlacement {
            name: run.sign_job_name(),
            namespace: owner.namespace(),
            owners: bundle_owner_references(owner),
            component: RunComponent::Sign,
        };
        return build_job(owner, run, place, spec, packing.timeout);
    }
    let resources = setup.sign_jobs.resources.clone();
    let resources = resources.unwrap_or_else(sign_job_resources);
    let pull_secrets = setup.image_pull_secrets.iter();
    let pull_secrets: Vec<_> = pull_secrets
        .map(|name| LocalObjectReference { name: name.clone() })
        .collect();
    let spec = PodSpec {
        image_pull_secrets: Some(pull_secrets).filter(|secrets| !secrets.is_empty()),
        ..build_pod_spec(args, mounts, resources, SIGNER_ACCOUNT.to_owned(), setup)
    };
    let place = JobPlacement {
        name: run.sign_job_name(),
        namespace: Some(setup.system_namespace.clone()),
        owners: vec![setup.installation.clone()],
        component: RunComponent::Sign,
    };
    // The platform's key is mounted here.
    let longest = Duration::from_secs(setup.sign_jobs.timeout_seconds.into());
    build_job(owner, run, place, spec, packing.timeout.min(longest))
}

/// The arguments of the sign Job but for its signer, with its files.
fn sign_job_inputs(
    packing: &PackingRequest,
    run: &JobRunKey,
    digest: &Digest,
    in_namespace: bool,
) -> (Vec<String>, Vec<PodVolumeMount>) {
    let digest = digest.to_string();
    let mut args = to_strings(&["job", "sign", "--inputs", INPUTS, "--digest", &digest]);
    let frozen = if in_namespace {
        run.pack_job_name()
    } else {
        run.lock_snapshot_name()
    };
    let mut mounts = vec![PodVolumeMount::config_map("inputs", frozen, INPUTS)];
    if let Some(secret) = &packing.push_secret {
        let copy = run.sign_job_name();
        let secret = if in_namespace { secret } else { &copy };
        args.extend([
            String::from("--registry-config"),
            format!("{REGISTRY}/{CONFIG}"),
        ]);
        mounts.push(registry_config_mount("registry", secret, REGISTRY));
    }
    (args, mounts)
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

/// The Secrets of downloads, for the pack Job only: nobody copies them, and the Pod that signs has
/// none of them.
fn fetch_secrets_mount(fetch: &JobFetch) -> Option<PodVolumeMount> {
    let credentials = fetch.credentials.iter().enumerate();
    let credentials = credentials.map(|(index, credential)| OptionalSecret {
        name: credential.secret.clone(),
        folder: index.to_string(),
        keys: &FETCH_CREDENTIAL_KEYS,
    });
    let proxy = fetch.proxy_secret.iter().map(|name| OptionalSecret {
        name: name.clone(),
        folder: FETCH_PROXY_FOLDER.to_owned(),
        keys: &FETCH_PROXY_KEYS,
    });
    let secrets: Vec<_> = credentials.chain(proxy).collect();
    (!secrets.is_empty()).then(|| PodVolumeMount::optional_secrets("fetch", secrets, FETCH))
}

fn to_strings(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}
