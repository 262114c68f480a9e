//! Resolves the source of a lock, once for a run, and freezes what came out.

use kube::{Api, ResourceExt};

use super::{context::Context, reading::LockShare, step::tag, trouble::Trouble, verify};
use crate::{
    api::packed_bundle::{KindRef, LockSource, PackedBundle, Packing, TagPolicy, ToSign},
    core::{
        class::Reason,
        job::{
            BundleIdentity, Destination, INPUTS_VERSION, Inputs, Recorded, RunKey, Signing,
            SigningMode, SourceOrigin,
        },
        limits::Limits,
        lockfile::{CanonicalLock, Lockfile},
        reference::PinnedReference,
    },
    service::context::read_file,
};

/// A lock, and where it came from.
pub(super) struct Resolved {
    /// The lock.
    pub lock: Lockfile,
    /// Its canonical form.
    pub canonical: CanonicalLock,
    /// Where it came from.
    pub origin: SourceOrigin,
    /// Its share of the locks that are in memory.
    _share: LockShare,
}

/// Reads the lock and checks that it can be packed here.
pub(super) async fn resolve(
    object: &PackedBundle,
    packing: &Packing,
    context: &Context,
) -> Result<Resolved, Trouble> {
    let namespace = object.namespace().unwrap_or_default();
    let (bytes, origin) = match &packing.source {
        LockSource::Inline(_) => (
            inline(object, context).await?.into_bytes(),
            from(format!(
                "k8s://{namespace}/packedbundles.packgate.dev/{}",
                object.name_any()
            )),
        ),
        LockSource::ConfigMap { name, key } => {
            let text = config_map(&namespace, name, key, context).await?;
            (
                text.into_bytes(),
                from(format!("k8s://{namespace}/configmaps/{name}")),
            )
        }
        LockSource::Context {
            reference,
            path,
            secret,
            verify,
        } => {
            let bytes = context_file(
                &namespace,
                reference,
                path,
                secret.as_deref(),
                *verify,
                context,
            )
            .await?;
            let origin = SourceOrigin {
                uri: format!("oci://{reference}"),
                context: Some(reference.to_string()),
                lock_path: Some(path.clone()),
            };
            (bytes, origin)
        }
    };
    let share = context.reading.lock(bytes.len()).await;
    let lock = Lockfile::parse(&bytes, &Limits::DEFAULT).map_err(|error| Trouble::of(&error))?;
    drop(bytes);
    packing
        .check_lock(&lock)
        .map_err(|error| Trouble::of(&error))?;
    Ok(Resolved {
        canonical: lock.canonical(),
        lock,
        origin,
        _share: share,
    })
}

const fn from(uri: String) -> SourceOrigin {
    SourceOrigin {
        uri,
        context: None,
        lock_path: None,
    }
}

/// The lock that stands in the object now. One that was changed meanwhile is looked at again from
/// the beginning.
async fn inline(object: &PackedBundle, context: &Context) -> Result<String, Trouble> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let api = Api::<PackedBundle>::namespaced(context.client.clone(), &namespace);
    let _whole = context.reading.object().await;
    let now = api.get_opt(&name).await?.filter(|now| {
        (now.uid(), now.metadata.generation) == (object.uid(), object.metadata.generation)
    });
    let text = now.and_then(|now| now.spec.source.inline);
    text.ok_or_else(|| {
        Trouble::new(
            Reason::SourceNotFound,
            format!(
                "PackedBundle {namespace}/{name} was changed while it was read; it is read again"
            ),
        )
    })
}

async fn config_map(
    namespace: &str,
    name: &str,
    key: &str,
    context: &Context,
) -> Result<String, Trouble> {
    let mut data = context
        .secrets
        .config_map(namespace, name, "spec.source.configMapRef")
        .await?;
    data.remove(key).ok_or_else(|| {
        Trouble::new(
            Reason::SourceNotFound,
            format!(
                "ConfigMap {namespace}/{name} has no key {key}; add it, or correct \
                spec.source.configMapRef.key"
            ),
        )
    })
}

async fn context_file(
    namespace: &str,
    reference: &PinnedReference,
    path: &str,
    secret: Option<&str>,
    is_judged: bool,
    context: &Context,
) -> Result<Vec<u8>, Trouble> {
    let docker_config = match secret {
        Some(name) => Some(
            context
                .secrets
                .docker_config(namespace, name, "spec.source.ociRef.secretRef")
                .await?,
        ),
        None => None,
    };
    if is_judged {
        verify::context_artifact(namespace, reference, docker_config.as_deref(), context).await?;
    }
    let source = context
        .registries
        .open(reference.repository(), docker_config.as_deref())
        .map_err(|error| Trouble::of(&error))?;
    let limits = Limits::DEFAULT;
    let bytes = read_file(
        &*source,
        &reference.digest(),
        path,
        limits.lock_bytes,
        &limits,
    )
    .await
    .map_err(|error| Trouble::of(&error))?;
    Ok(bytes.to_vec())
}

/// Everything that the run depends on beside the lock.
pub(super) async fn inputs(
    object: &PackedBundle,
    packing: &Packing,
    resolved: &Resolved,
    context: &Context,
) -> Result<Inputs, Trouble> {
    let namespace = object.namespace().unwrap_or_default();
    let uid = object.uid().unwrap_or_default();
    let generation = object.metadata.generation.unwrap_or_default();
    let lock_digest = resolved.canonical.digest;
    let signing = match &packing.signing {
        ToSign::Platform => Signing {
            mode: SigningMode::Platform,
            builder_id: context.installation.platform_builder(&context.cluster),
        },
        ToSign::Namespace(_) => Signing {
            mode: SigningMode::Namespace,
            builder_id: context
                .installation
                .namespace_builder(&context.cluster, &namespace),
        },
        ToSign::Nobody => Signing {
            mode: SigningMode::None,
            builder_id: String::new(),
        },
    };
    Ok(Inputs {
        v: INPUTS_VERSION,
        run: RunKey::new(&uid, generation, &lock_digest),
        cluster: context.cluster.clone(),
        started_on: context.clock.now(),
        source: resolved.origin.clone(),
        lock_digest,
        layers: resolved
            .lock
            .layers
            .iter()
            .cloned()
            .map(Recorded::from)
            .collect(),
        output: packing.output.clone(),
        destination: Destination {
            repository: packing.repository.to_string(),
            tag: tag(packing, &lock_digest).map(|tag| tag.to_string()),
            tag_policy: match packing.tag_policy {
                TagPolicy::Immutable => crate::core::job::TagPolicy::Immutable,
                TagPolicy::Mutable => crate::core::job::TagPolicy::Mutable,
            },
        },
        registries: context.job_registries.clone(),
        private_networks: context.installation.network.allowed_private_cidrs.clone(),
        registry_networks: context.installation.network.registry_private_cidrs.clone(),
        fetch_ca: fetch_ca(&namespace, packing.fetch_ca.as_ref(), context).await?,
        signing,
        sbom: packing.sbom,
        packer: context.setup.packer.clone(),
        bundle: BundleIdentity {
            namespace,
            name: object.name_any(),
            uid,
            generation,
        },
    })
}

async fn fetch_ca(
    namespace: &str,
    reference: Option<&KindRef>,
    context: &Context,
) -> Result<Option<String>, Trouble> {
    match reference {
        Some(reference) => Ok(Some(
            context
                .secrets
                .ca(namespace, reference, "spec.fetch.caRef")
                .await?,
        )),
        None => Ok(None),
    }
}
