//! Resolves the source of a lock, once for a run, and freezes the result.

use kube::{Api, ResourceExt};

use super::{
    packing_run::bundle_tag, read_limiter::LockMemoryPermit, reconcile_context::ReconcileContext,
    reconcile_error::ReconcileError, verify,
};
use crate::{
    api::packed_bundle::{
        ConfigObjectRef, LockSource, PackedBundle, PackingRequest, SigningParty, TagPolicySpec,
    },
    core::{
        job::{
            INPUTS_VERSION, JobDestination, JobInputs, JobLockSource, JobRecordedLayer, JobRunKey,
            JobSigning, JobSigningMode, PackedBundleIdentity,
        },
        limits::InputLimits,
        lockfile::{CanonicalLock, Lockfile},
        reason::Reason,
        reference::PinnedReference,
    },
    service::{context_artifact, registries::RepositoryRequester},
};

/// A lock with its source.
pub(super) struct ResolvedLock {
    /// The parsed lock.
    pub lock: Lockfile,
    /// Its canonical form.
    pub canonical: CanonicalLock,
    /// Where it came from.
    pub origin: JobLockSource,
    /// Its reservation in the memory budget for locks.
    _share: LockMemoryPermit,
}

/// Reads the lock and checks that it can be packed in a cluster.
pub(super) async fn resolve_lock(
    object: &PackedBundle,
    packing: &PackingRequest,
    context: &ReconcileContext,
) -> Result<ResolvedLock, ReconcileError> {
    let namespace = object.namespace().unwrap_or_default();
    let (bytes, origin) = match &packing.source {
        LockSource::Inline(_) => (
            read_inline_lock(object, context).await?.into_bytes(),
            kubernetes_origin(format!(
                "k8s://{namespace}/packedbundles.packgate.dev/{}",
                object.name_any()
            )),
        ),
        LockSource::ConfigMap { name, key } => {
            let text = read_config_map_lock(&namespace, name, key, context).await?;
            (
                text.into_bytes(),
                kubernetes_origin(format!("k8s://{namespace}/configmaps/{name}")),
            )
        }
        LockSource::Context {
            reference,
            path,
            secret,
            verify,
        } => {
            let bytes = read_lock_from_context(
                &namespace,
                reference,
                path,
                secret.as_deref(),
                *verify,
                context,
            )
            .await?;
            let origin = JobLockSource {
                uri: format!("oci://{reference}"),
                context: Some(reference.to_string()),
                lock_path: Some(path.clone()),
            };
            (bytes, origin)
        }
    };
    let share = context.read_limiter.acquire_lock_permit(bytes.len()).await;
    let lock = Lockfile::parse(&bytes, &InputLimits::DEFAULT)
        .map_err(|error| ReconcileError::from_classified(&error))?;
    drop(bytes);
    packing
        .check_lock(&lock)
        .map_err(|error| ReconcileError::from_classified(&error))?;
    Ok(ResolvedLock {
        canonical: lock.to_canonical(),
        lock,
        origin,
        _share: share,
    })
}

const fn kubernetes_origin(uri: String) -> JobLockSource {
    JobLockSource {
        uri,
        context: None,
        lock_path: None,
    }
}

/// The current inline lock of the object. If it changed meanwhile, the reconcile starts again.
async fn read_inline_lock(
    object: &PackedBundle,
    context: &ReconcileContext,
) -> Result<String, ReconcileError> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let api = Api::<PackedBundle>::namespaced(context.client.clone(), &namespace);
    let _whole = context.read_limiter.acquire_object_permit().await;
    let now = api.get_opt(&name).await?.filter(|now| {
        (now.uid(), now.metadata.generation) == (object.uid(), object.metadata.generation)
    });
    let text = now.and_then(|now| now.spec.source.inline);
    text.ok_or_else(|| {
        ReconcileError::new(
            Reason::SourceNotFound,
            format!(
                "PackedBundle {namespace}/{name} was changed while it was read; it is read again"
            ),
        )
    })
}

async fn read_config_map_lock(
    namespace: &str,
    name: &str,
    key: &str,
    context: &ReconcileContext,
) -> Result<String, ReconcileError> {
    let mut data = context
        .secrets
        .read_config_map(namespace, name, "spec.source.configMapRef")
        .await?;
    data.remove(key).ok_or_else(|| {
        ReconcileError::new(
            Reason::SourceNotFound,
            format!(
                "ConfigMap {namespace}/{name} has no key {key}; add it, or correct \
                spec.source.configMapRef.key"
            ),
        )
    })
}

async fn read_lock_from_context(
    namespace: &str,
    reference: &PinnedReference,
    path: &str,
    secret: Option<&str>,
    is_judged: bool,
    context: &ReconcileContext,
) -> Result<Vec<u8>, ReconcileError> {
    let field = "spec.source.ociRef.secretRef";
    let configs = verify::read_docker_config(namespace, secret, field, context).await?;
    if is_judged {
        verify::verify_context_artifact(namespace, reference, &configs, context).await?;
    }
    let requester = RepositoryRequester {
        namespace,
        configs: &configs,
        service_account: None,
    };
    let opened = context
        .registries
        .open_repository(reference.repository(), &requester)
        .await
        .map_err(|error| ReconcileError::from_classified(&error))?;
    let limits = InputLimits::DEFAULT;
    let bytes = context_artifact::read_context_file(
        &*opened.source,
        &reference.digest(),
        path,
        limits.lock_bytes,
        &limits,
    )
    .await
    .map_err(|error| ReconcileError::from_classified(&error))?;
    Ok(bytes.to_vec())
}

/// All inputs of the run other than the lock.
pub(super) async fn build_run_inputs(
    object: &PackedBundle,
    packing: &PackingRequest,
    resolved: &ResolvedLock,
    context: &ReconcileContext,
) -> Result<JobInputs, ReconcileError> {
    let namespace = object.namespace().unwrap_or_default();
    let uid = object.uid().unwrap_or_default();
    let generation = object.metadata.generation.unwrap_or_default();
    let lock_digest = resolved.canonical.digest;
    Ok(JobInputs {
        v: INPUTS_VERSION,
        run: JobRunKey::new(&uid, generation, &lock_digest),
        cluster: context.cluster_uid.clone(),
        started_on: context.clock.now(),
        source: resolved.origin.clone(),
        lock_digest,
        layers: resolved
            .lock
            .layers
            .iter()
            .cloned()
            .map(JobRecordedLayer::from)
            .collect(),
        signed_origins: resolved
            .lock
            .signed_origins()
            .map(|(_, artifact, signed)| (artifact.name.clone(), signed.clone()))
            .collect(),
        output: packing.output.clone(),
        destination: JobDestination {
            repository: packing.repository.to_string(),
            tag: bundle_tag(packing, &lock_digest).map(|tag| tag.to_string()),
            tag_policy: match packing.tag_policy {
                TagPolicySpec::Immutable => crate::core::job::JobTagPolicy::Immutable,
                TagPolicySpec::Mutable => crate::core::job::JobTagPolicy::Mutable,
            },
        },
        registries: context.job_registries.clone(),
        private_networks: context.installation.network.allowed_private_cidrs.clone(),
        registry_networks: context.installation.network.registry_private_cidrs.clone(),
        fetch_ca: read_fetch_ca(&namespace, packing.fetch_ca.as_ref(), context).await?,
        fetch: packing.fetch.clone(),
        signing: job_signing(packing, &namespace, context),
        sbom: packing.sbom,
        packer: context.run_settings.packer.clone(),
        bundle: PackedBundleIdentity {
            namespace,
            name: object.name_any(),
            uid,
            generation,
        },
    })
}

fn job_signing(
    packing: &PackingRequest,
    namespace: &str,
    context: &ReconcileContext,
) -> JobSigning {
    let (installation, cluster) = (&context.installation, &context.cluster_uid);
    match &packing.signing {
        SigningParty::Platform => JobSigning {
            mode: JobSigningMode::Platform,
            builder_id: installation.platform_builder(cluster),
        },
        SigningParty::Namespace(_) => JobSigning {
            mode: JobSigningMode::Namespace,
            builder_id: installation.namespace_builder(cluster, namespace),
        },
        SigningParty::Unsigned => JobSigning {
            mode: JobSigningMode::None,
            builder_id: String::new(),
        },
    }
}

async fn read_fetch_ca(
    namespace: &str,
    reference: Option<&ConfigObjectRef>,
    context: &ReconcileContext,
) -> Result<Option<String>, ReconcileError> {
    match reference {
        Some(reference) => Ok(Some(
            context
                .secrets
                .read_ca_certificates(namespace, reference, "spec.fetch.caRef")
                .await?,
        )),
        None => Ok(None),
    }
}
