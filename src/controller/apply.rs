//! Applies the steps of a run: creates and deletes its objects. Every function is idempotent, and
//! may be interrupted after any request.

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Secret},
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    lock_source,
    packing_run::FrozenLock,
    platform_key,
    reconcile_context::ReconcileContext,
    reconcile_error::{ReconcileError, is_already_exists, is_forbidden, is_not_found},
    resources::{
        self, COMPONENT, MANAGED_BY, MANAGER, RunComponent, RunSnapshot, ScratchStorage,
        SignJobSigner,
    },
    sign_queue::{SignQueueEntry, SignQueueWait},
    tenant_sigstore,
};
use crate::{
    api::packed_bundle::{
        PackedBundle, PackingRequest, SigningParty, TenantSigner, TenantSigningIdentity,
    },
    core::{
        digest::Digest,
        job::{JobInputs, JobRunKey},
        lockfile::Lockfile,
        reason::Reason,
    },
};

/// Freezes the lock, unless `known` is the frozen one: from now on no change of a source reaches
/// the run.
pub(super) async fn freeze_lock(
    object: &PackedBundle,
    packing: &PackingRequest,
    resolved: &lock_source::ResolvedLock,
    known: Option<&FrozenLock>,
    context: &ReconcileContext,
) -> Result<JobRunKey, ReconcileError> {
    resolve_signer(object, packing, context).await?;
    let inputs = lock_source::build_run_inputs(object, packing, resolved, context).await?;
    if known.is_some_and(|known| known.run == inputs.run) {
        return Ok(inputs.run); // unchanged, so it is not written again
    }
    let data = RunSnapshot::new(&resolved.canonical, &inputs)
        .map_err(|error| ReconcileError::from_classified(&error))?;
    let map = resources::snapshot_config_map(object, &inputs, data, &context.run_settings);
    create_if_absent(
        &Api::namespaced(
            context.client.clone(),
            &context.run_settings.system_namespace,
        ),
        &map,
    )
    .await?;
    Ok(inputs.run)
}

/// Starts the pack Job, if it does not exist.
pub(super) async fn start_pack_job(
    object: &PackedBundle,
    packing: &PackingRequest,
    frozen: &FrozenLock,
    context: &ReconcileContext,
) -> Result<(), ReconcileError> {
    let namespace = object.namespace().unwrap_or_default();
    if let Some(secret) = &packing.push_secret {
        // Read before any Job starts, so that the user learns immediately what the sign Job would
        // lack.
        context
            .secrets
            .read_docker_config(&namespace, secret, "spec.destination.secretRef")
            .await?;
    }
    let (inputs, data, lock) = load_snapshot(frozen, context).await?;
    create_if_absent(
        &Api::namespaced(context.client.clone(), &namespace),
        &resources::pack_config_map(object, &inputs, data),
    )
    .await?;
    let job = resources::build_pack_job(
        object,
        packing,
        &inputs,
        ScratchStorage::for_lock(&lock),
        &context.run_settings,
    );
    create_job(&namespace, &job, context).await
}

/// Starts the sign Job for `digest`, if it does not exist and a slot is free. Otherwise says what
/// it waits for.
pub(super) async fn try_start_sign_job(
    object: &PackedBundle,
    packing: &PackingRequest,
    frozen: &FrozenLock,
    digest: &Digest,
    context: &ReconcileContext,
) -> Result<Option<SignQueueWait>, ReconcileError> {
    let with = resolve_signer(object, packing, context).await?;
    if matches!(with, SignJobSigner::Namespace { .. }) {
        return start_sign_job(object, packing, frozen, digest, with, context)
            .await
            .map(|()| None);
    }
    let turn = context.queue.slot_count_lock.lock().await;
    if let Some(wait) = request_sign_slot(object, frozen, context).await? {
        return Ok(Some(wait));
    }
    let _place = context.queue.take_slot(
        object.uid().unwrap_or_default(),
        object.namespace().unwrap_or_default(),
    );
    drop(turn);
    start_sign_job(object, packing, frozen, digest, with, context)
        .await
        .map(|()| None)
}

/// What prevents an object from signing in the system namespace. Its successful Jobs are not even
/// listed.
async fn request_sign_slot(
    object: &PackedBundle,
    frozen: &FrozenLock,
    context: &ReconcileContext,
) -> Result<Option<SignQueueWait>, ReconcileError> {
    let signing = format!(
        "{MANAGED_BY}={MANAGER},{COMPONENT}={}",
        RunComponent::Sign.as_str()
    );
    let starting = context.queue.starting_jobs();
    let under_way = ListParams::default()
        .labels(&signing)
        .fields("status.successful=0");
    let jobs = Api::<Job>::namespaced(
        context.client.clone(),
        &context.run_settings.system_namespace,
    )
    .list(&under_way)
    .await?
    .items;
    let own = SignQueueEntry {
        namespace: object.namespace().unwrap_or_default(),
        since: frozen.at,
        asked: context.clock.now(),
    };
    Ok(context.queue.request_slot(
        &object.uid().unwrap_or_default(),
        &own,
        &jobs,
        &starting,
        &context.run_settings.sign_jobs,
    ))
}

async fn start_sign_job(
    object: &PackedBundle,
    packing: &PackingRequest,
    frozen: &FrozenLock,
    digest: &Digest,
    with: SignJobSigner,
    context: &ReconcileContext,
) -> Result<(), ReconcileError> {
    let (inputs, ..) = load_snapshot(frozen, context).await?;
    let namespace = object.namespace().unwrap_or_default();
    let place = if matches!(with, SignJobSigner::Namespace { .. }) {
        namespace.as_str()
    } else {
        context.run_settings.system_namespace.as_str()
    };
    if let (Some(secret), SignJobSigner::Platform(_) | SignJobSigner::Unsigned) =
        (&packing.push_secret, &with)
    {
        let docker_config = context
            .secrets
            .read_docker_config(&namespace, secret, "spec.destination.secretRef")
            .await?;
        let secrets = Api::<Secret>::namespaced(context.client.clone(), place);
        create_if_absent(
            &secrets,
            &resources::push_secret_copy(object, &inputs, docker_config, &context.run_settings),
        )
        .await?;
    }
    create_job(
        place,
        &resources::build_sign_job(
            object,
            packing,
            &inputs,
            digest,
            &with,
            &context.run_settings,
        ),
        context,
    )
    .await
}

/// Resolves the signer; fails before any Job starts if there is none.
async fn resolve_signer(
    object: &PackedBundle,
    packing: &PackingRequest,
    context: &ReconcileContext,
) -> Result<SignJobSigner, ReconcileError> {
    Ok(match &packing.signing {
        SigningParty::Platform => {
            platform_key::public_key(context).await?;
            SignJobSigner::Platform(platform_key::NAME.to_owned())
        }
        SigningParty::Namespace(TenantSigner { identity, services }) => {
            let namespace = object.namespace().unwrap_or_default();
            if let TenantSigningIdentity::Key(secret) = identity {
                context
                    .secrets
                    .read_secret_text(
                        &namespace,
                        secret,
                        "spec.signing.keySecretRef",
                        platform_key::PUBLIC,
                    )
                    .await
                    .map_err(as_no_signer_error)?;
            }
            let services = match services {
                Some(name) => Some(
                    tenant_sigstore::check_services(&namespace, name, context)
                        .await
                        .map_err(as_no_signer_error)?,
                ),
                None => None,
            };
            SignJobSigner::Namespace {
                identity: identity.clone(),
                services,
            }
        }
        SigningParty::Unsigned => SignJobSigner::Unsigned,
    })
}

/// A signer with a missing part is reported as `NoSigner`.
fn as_no_signer_error(error: ReconcileError) -> ReconcileError {
    match error {
        ReconcileError::StatusFailure(failure) if failure.reason == Reason::SourceNotFound => {
            ReconcileError::new(Reason::NoSigner, failure.message)
        }
        other => other,
    }
}

/// Reads the snapshot of a run.
async fn load_snapshot(
    frozen: &FrozenLock,
    context: &ReconcileContext,
) -> Result<(JobInputs, RunSnapshot, Lockfile), ReconcileError> {
    let name = frozen.run.lock_snapshot_name();
    let map = Api::<ConfigMap>::namespaced(
        context.client.clone(),
        &context.run_settings.system_namespace,
    )
    .get(&name)
    .await?;
    let snapshot = RunSnapshot::from_config_map(&map).ok_or_else(|| {
        ReconcileError::new(
            Reason::Internal,
            format!("ConfigMap {name} is not a snapshot"),
        )
    })?;
    let inputs = JobInputs::parse(snapshot.inputs.as_bytes())
        .map_err(|error| ReconcileError::from_classified(&error))?;
    let lock = inputs
        .parse_lock(snapshot.lock.as_bytes())
        .map_err(|error| ReconcileError::from_classified(&error))?;
    Ok((inputs, snapshot, lock))
}

/// Deletes the Jobs of a run, and the objects that only they use, so that it starts again.
pub(super) async fn delete_run_jobs(
    object: &PackedBundle,
    run: &JobRunKey,
    context: &ReconcileContext,
) -> Result<(), ReconcileError> {
    let own = object.namespace().unwrap_or_default();
    let system = &context.run_settings.system_namespace;
    for (namespace, name) in [
        (&own, run.pack_job_name()),
        (&own, run.sign_job_name()),
        (system, run.sign_job_name()),
    ] {
        delete_if_exists(
            &Api::<Job>::namespaced(context.client.clone(), namespace),
            &name,
        )
        .await?;
    }
    delete_push_secret_copy(run, context).await
}

/// Deletes the copy of the push credential.
pub(super) async fn delete_push_secret_copy(
    run: &JobRunKey,
    context: &ReconcileContext,
) -> Result<(), ReconcileError> {
    delete_if_exists(
        &Api::<Secret>::namespaced(
            context.client.clone(),
            &context.run_settings.system_namespace,
        ),
        &run.sign_job_name(),
    )
    .await
}

/// Deletes an object that may be gone already, with its dependents.
pub(super) async fn delete_if_exists<K>(api: &Api<K>, name: &str) -> Result<(), ReconcileError>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    match api.delete(name, &DeleteParams::background()).await {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn create_job(
    namespace: &str,
    job: &Job,
    context: &ReconcileContext,
) -> Result<(), ReconcileError> {
    create_if_absent(&Api::namespaced(context.client.clone(), namespace), job).await
}

/// Creates an object that may exist already: names follow from content, so the existing one is
/// equal.
async fn create_if_absent<K>(api: &Api<K>, object: &K) -> Result<(), ReconcileError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    match api
        .create(
            &PostParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PostParams::default()
            },
            object,
        )
        .await
    {
        Ok(_) => Ok(()),
        Err(error) if is_already_exists(&error) => Ok(()),
        Err(error) if is_forbidden(&error) => {
            let what = format!(
                "{} {}/{}",
                K::kind(&()),
                object.namespace().unwrap_or_default(),
                object.name_any()
            );
            Err(ReconcileError::new(
                Reason::PodDenied,
                format!("the cluster denies {what}: {error}"),
            ))
        }
        Err(error) => Err(error.into()),
    }
}
