//! Acts: makes and removes what a run consists of. Every function may be repeated, and may be cut
//! off after any of its requests.

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
    build::{self, COMPONENT, Component, MANAGED_BY, MANAGER, Scratch, SignWith, Snapshot},
    context::Context,
    platform_key,
    queue::{Wait, Waiting},
    sigstore, source,
    step::Frozen,
    trouble::{Trouble, is_already_exists, is_forbidden, is_not_found},
};
use crate::{
    api::packed_bundle::{PackedBundle, Packing, TenantIdentity, TenantSigner, ToSign},
    core::{
        class::Reason,
        digest::Digest,
        job::{Inputs, RunKey},
        lockfile::Lockfile,
    },
};

/// Freezes the lock, unless `known` is what it froze before: after this, nothing that anybody
/// changes reaches the run.
pub(super) async fn freeze(
    object: &PackedBundle,
    packing: &Packing,
    resolved: &source::Resolved,
    known: Option<&Frozen>,
    context: &Context,
) -> Result<RunKey, Trouble> {
    signer(object, packing, context).await?;
    let inputs = source::inputs(object, packing, resolved, context).await?;
    if known.is_some_and(|known| known.run == inputs.run) {
        return Ok(inputs.run); // looked at now and then, it is not written again
    }
    let data = Snapshot::new(&resolved.canonical, &inputs).map_err(|error| Trouble::of(&error))?;
    let map = build::snapshot(object, &inputs, data, &context.setup);
    create(
        &Api::namespaced(context.client.clone(), &context.setup.system_namespace),
        &map,
    )
    .await?;
    Ok(inputs.run)
}

/// Starts the pack Job, if it is not there.
pub(super) async fn pack(
    object: &PackedBundle,
    packing: &Packing,
    frozen: &Frozen,
    context: &Context,
) -> Result<(), Trouble> {
    let namespace = object.namespace().unwrap_or_default();
    if let Some(secret) = &packing.push_secret {
        // Read before anything starts, so that a person is told at once what the sign Job would
        // miss.
        context
            .secrets
            .docker_config(&namespace, secret, "spec.destination.secretRef")
            .await?;
    }
    let (inputs, data, lock) = thaw(frozen, context).await?;
    create(
        &Api::namespaced(context.client.clone(), &namespace),
        &build::pack_config(object, &inputs, data),
    )
    .await?;
    let job = build::pack_job(object, packing, &inputs, Scratch::of(&lock), &context.setup);
    create_job(&namespace, &job, context).await
}

/// Starts the sign Job on `digest`, if it is not there, and if there is a place for it. Otherwise
/// says what is waited for.
pub(super) async fn sign(
    object: &PackedBundle,
    packing: &Packing,
    frozen: &Frozen,
    digest: &Digest,
    context: &Context,
) -> Result<Option<Wait>, Trouble> {
    let with = signer(object, packing, context).await?;
    if matches!(with, SignWith::Namespace { .. }) {
        return start_sign(object, packing, frozen, digest, with, context)
            .await
            .map(|()| None);
    }
    let turn = context.queue.turn.lock().await;
    if let Some(wait) = place_to_sign(object, frozen, context).await? {
        return Ok(Some(wait));
    }
    let _place = context.queue.take(
        object.uid().unwrap_or_default(),
        object.namespace().unwrap_or_default(),
    );
    drop(turn);
    start_sign(object, packing, frozen, digest, with, context)
        .await
        .map(|()| None)
}

/// What keeps an object from signing in the system namespace. Its Jobs that succeeded are not even
/// listed.
async fn place_to_sign(
    object: &PackedBundle,
    frozen: &Frozen,
    context: &Context,
) -> Result<Option<Wait>, Trouble> {
    let signing = format!(
        "{MANAGED_BY}={MANAGER},{COMPONENT}={}",
        Component::Sign.as_str()
    );
    let starting = context.queue.starting();
    let under_way = ListParams::default()
        .labels(&signing)
        .fields("status.successful=0");
    let jobs = Api::<Job>::namespaced(context.client.clone(), &context.setup.system_namespace)
        .list(&under_way)
        .await?
        .items;
    let own = Waiting {
        namespace: object.namespace().unwrap_or_default(),
        since: frozen.at,
        asked: context.clock.now(),
    };
    Ok(context.queue.ask(
        &object.uid().unwrap_or_default(),
        &own,
        &jobs,
        &starting,
        &context.setup.sign_jobs,
    ))
}

async fn start_sign(
    object: &PackedBundle,
    packing: &Packing,
    frozen: &Frozen,
    digest: &Digest,
    with: SignWith,
    context: &Context,
) -> Result<(), Trouble> {
    let (inputs, ..) = thaw(frozen, context).await?;
    let namespace = object.namespace().unwrap_or_default();
    let place = if matches!(with, SignWith::Namespace { .. }) {
        namespace.as_str()
    } else {
        context.setup.system_namespace.as_str()
    };
    if let (Some(secret), SignWith::Platform(_) | SignWith::Nothing) = (&packing.push_secret, &with)
    {
        let docker_config = context
            .secrets
            .docker_config(&namespace, secret, "spec.destination.secretRef")
            .await?;
        let secrets = Api::<Secret>::namespaced(context.client.clone(), place);
        create(
            &secrets,
            &build::push_secret(object, &inputs, docker_config, &context.setup),
        )
        .await?;
    }
    create_job(
        place,
        &build::sign_job(object, packing, &inputs, digest, &with, &context.setup),
        context,
    )
    .await
}

/// Is there somebody to sign? Asked before anything starts.
async fn signer(
    object: &PackedBundle,
    packing: &Packing,
    context: &Context,
) -> Result<SignWith, Trouble> {
    Ok(match &packing.signing {
        ToSign::Platform => {
            platform_key::public_key(context).await?;
            SignWith::Platform(platform_key::NAME.to_owned())
        }
        ToSign::Namespace(TenantSigner { identity, services }) => {
            let namespace = object.namespace().unwrap_or_default();
            if let TenantIdentity::Key(secret) = identity {
                context
                    .secrets
                    .text(
                        &namespace,
                        secret,
                        "spec.signing.keySecretRef",
                        platform_key::PUBLIC,
                    )
                    .await
                    .map_err(no_signer)?;
            }
            let services = match services {
                Some(name) => Some(
                    sigstore::services(&namespace, name, context)
                        .await
                        .map_err(no_signer)?,
                ),
                None => None,
            };
            SignWith::Namespace {
                identity: identity.clone(),
                services,
            }
        }
        ToSign::Nobody => SignWith::Nothing,
    })
}

/// What a signer consists of and is not there: nobody can sign.
fn no_signer(trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Told(failure) if failure.reason == Reason::SourceNotFound => {
            Trouble::new(Reason::NoSigner, failure.message)
        }
        other => other,
    }
}

/// Reads the snapshot of a run.
async fn thaw(frozen: &Frozen, context: &Context) -> Result<(Inputs, Snapshot, Lockfile), Trouble> {
    let name = frozen.run.snapshot_name();
    let map = Api::<ConfigMap>::namespaced(context.client.clone(), &context.setup.system_namespace)
        .get(&name)
        .await?;
    let snapshot = Snapshot::read(&map).ok_or_else(|| {
        Trouble::new(Reason::Internal, format!("ConfigMap {name} is no snapshot"))
    })?;
    let inputs = Inputs::parse(snapshot.inputs.as_bytes()).map_err(|error| Trouble::of(&error))?;
    let lock = inputs
        .lock(snapshot.lock.as_bytes())
        .map_err(|error| Trouble::of(&error))?;
    Ok((inputs, snapshot, lock))
}

/// Removes the Jobs of a run, and what belongs to them alone, so that it begins again.
pub(super) async fn restart(
    object: &PackedBundle,
    run: &RunKey,
    context: &Context,
) -> Result<(), Trouble> {
    let own = object.namespace().unwrap_or_default();
    let system = &context.setup.system_namespace;
    for (namespace, name) in [
        (&own, run.pack_name()),
        (&own, run.sign_name()),
        (system, run.sign_name()),
    ] {
        delete(
            &Api::<Job>::namespaced(context.client.clone(), namespace),
            &name,
        )
        .await?;
    }
    forget_credential(run, context).await
}

/// Removes the copy of the push credential.
pub(super) async fn forget_credential(run: &RunKey, context: &Context) -> Result<(), Trouble> {
    delete(
        &Api::<Secret>::namespaced(context.client.clone(), &context.setup.system_namespace),
        &run.sign_name(),
    )
    .await
}

/// Deletes what may be gone already. What it owns goes with it.
pub(super) async fn delete<K>(api: &Api<K>, name: &str) -> Result<(), Trouble>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    match api.delete(name, &DeleteParams::background()).await {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn create_job(namespace: &str, job: &Job, context: &Context) -> Result<(), Trouble> {
    create(&Api::namespaced(context.client.clone(), namespace), job).await
}

/// Makes what may be there already: names follow from content, so what is there is the same.
async fn create<K>(api: &Api<K>, object: &K) -> Result<(), Trouble>
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
            Err(Trouble::new(
                Reason::PodDenied,
                format!("the cluster refuses {what}: {error}"),
            ))
        }
        Err(error) => Err(error.into()),
    }
}
