//! The controller: reconciles every `PackedBundle` by Jobs, and reports progress in its status.
//!
//! It never packs, signs or pushes itself. One replica is the leader; one that loses the Lease ends
//! its process, because nothing else reliably stops it from writing.

mod apply;
mod bundle_tracker;
mod cached_bundle;
mod duplicate_destination;
mod garbage_collector;
mod job_state;
pub mod leader_election;
mod lock_source;
mod metrics;
mod next_step;
mod observe;
mod platform_key;
mod policy_cache;
mod policy_status;
mod read_limiter;
mod reconcile;
mod reconcile_context;
mod reconcile_error;
pub mod resources;
mod secrets;
mod sign_queue;
mod status;
mod tenant_sigstore;
mod trust_root_refresh;
mod verify;
mod webhook_configuration;

use std::{collections::HashSet, pin::pin, sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::{
    api::{
        batch::v1::Job,
        coordination::v1::Lease,
        core::v1::{Namespace, Pod, ServiceAccount},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        Controller, controller,
        events::Reporter,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

pub use cached_bundle::CachedBundle;
pub use metrics::ControllerMetrics;
pub use platform_key::{PlatformKeyGenerator, PlatformKeyPair};

use self::{
    bundle_tracker::BundleTracker,
    leader_election::{LeaderElectionTimings, LeaderElector},
    policy_status::ReadinessControllers,
    read_limiter::ReadLimiter,
    reconcile_context::ReconcileContext,
    reconcile_error::ReconcileError,
    resources::{BUNDLE, BUNDLE_NAMESPACE, MANAGED_BY, MANAGER, RunSettings},
    secrets::ReferencedObjectReader,
    sign_queue::SignQueue,
    trust_root_refresh::TrustRootRefresher,
};
use crate::{
    api::installation::InstallationConfig,
    clock::Clock,
    core::{
        job::{JobRegistry, PackerImage},
        reason::{ClassifiedError, Reason},
        reference::ImageReference,
    },
    service::{registries::TenantRepositoryOpener, trust_root::TrustSource},
    telemetry::events::EventRecorder,
};

/// Name of the Deployment, the account and the Lease.
pub const NAME: &str = "packgate-controller";
/// The number of objects that are reconciled concurrently.
const CONCURRENCY: u16 = 16;
/// Objects per page of a list. Each may have a lock of over a megabyte, which is dropped as soon as
/// its page was read; only a list from the newest state has pages.
const LIST_PAGE_SIZE: u32 = 4;
/// How long changes of one object are collected before it is reconciled.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// The interval of searches for orphans.
const GARBAGE_COLLECTION_INTERVAL: Duration = Duration::from_mins(10);
/// The interval of checks for deleted objects.
const DELETION_CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// The delay after an error of the API server.
const ERROR_RETRY_DELAY: Duration = Duration::from_secs(5);

/// Makes registry clients.
pub type RegistryClientsFactory =
    dyn Fn(&[JobRegistry]) -> Result<Arc<dyn TenantRepositoryOpener>, String> + Send + Sync;

/// Makes clients of TUF repositories; those on a registry's host trust the same CAs as the
/// registry's client.
pub type TrustSourceFactory =
    dyn Fn(&[JobRegistry]) -> Result<Arc<dyn TrustSource>, String> + Send + Sync;

/// The options of the controller.
pub struct ControllerOptions {
    /// The namespace that it runs in.
    pub namespace: String,
    /// Its own image, which Jobs use as well.
    pub image: String,
    /// The unique identity of this replica.
    pub identity: String,
    /// The installation's settings from the chart's values.
    pub installation: InstallationConfig,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Makes registry clients.
    pub registries: Box<RegistryClientsFactory>,
    /// Makes clients of TUF repositories.
    pub trust: Box<TrustSourceFactory>,
    /// Generates the platform key.
    pub make_key: Box<PlatformKeyGenerator>,
}

/// Why the controller stopped.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// Another replica leads, or the Lease could not be renewed in time.
    #[error("the Lease {NAME} was lost; another replica takes over")]
    LeaseLost,
    /// It cannot start; the message.
    #[error("cannot start: {0}")]
    Start(String),
    /// The configuration is invalid.
    #[error("configuration: {0}")]
    Configuration(String),
    /// All watches have ended.
    #[error("internal: all watches ended")]
    WatchesEnded,
}

impl ClassifiedError for ControllerError {
    fn reason(&self) -> Reason {
        match self {
            Self::LeaseLost | Self::Start(_) => Reason::DeadlineExceeded,
            Self::Configuration(_) => Reason::InvalidSpec,
            Self::WatchesEnded => Reason::Internal,
        }
    }
}

impl From<ReconcileError> for ControllerError {
    fn from(error: ReconcileError) -> Self {
        Self::Start(error.to_string())
    }
}

/// Waits for the Lease, then reconciles until `stop` or until the Lease is lost. `heard` is called
/// after each response of the API server while waiting: the replica is then ready to lead or to
/// take over.
pub async fn run_controller(
    client: Client,
    options: ControllerOptions,
    metrics: ControllerMetrics,
    heard: impl Fn(),
    stop: CancellationToken,
) -> Result<(), ControllerError> {
    let leases = Api::<Lease>::namespaced(client.clone(), &options.namespace);
    let elector = LeaderElector::new(
        leases,
        NAME,
        &options.identity,
        LeaderElectionTimings::default(),
        Arc::clone(&options.clock),
    );
    tokio::select! {
        () = stop.cancelled() => return Ok(()),
        () = elector.acquire_lease(heard) => tracing::info!(identity = options.identity, "leading"),
    }
    let term = elector.first_term();
    // On a task of its own: the Lease is renewed under any load.
    let mut renewing = AbortOnDropHandle::new(tokio::spawn({
        let (elector, term) = (elector.clone(), term.clone());
        async move { elector.renew_until_lost(&term).await }
    }));
    let led = tokio::select! {
        biased;
        _ = &mut renewing => Err(ControllerError::LeaseLost),
        led = term.run_within_term(reconcile_until_stopped(client, options, metrics, stop)) => led.unwrap_or(Err(ControllerError::LeaseLost)),
    };
    drop(renewing);
    if !matches!(led, Err(ControllerError::LeaseLost)) {
        elector.release_lease().await;
    }
    led
}

/// Reconciles until `stop`.
async fn reconcile_until_stopped(
    client: Client,
    options: ControllerOptions,
    metrics: ControllerMetrics,
    stop: CancellationToken,
) -> Result<(), ControllerError> {
    let make_key = options.make_key;
    let bundles = Api::<DeserializeGuard<CachedBundle>>::all(client.clone());
    let config = controller::Config::default()
        .concurrency(CONCURRENCY)
        .debounce(DEBOUNCE);
    let controller = Controller::new(
        bundles,
        watcher::Config::default().page_size(LIST_PAGE_SIZE),
    )
    .with_config(config);
    let store = controller.store();
    metrics.watch_bundles(store.clone());
    let opening = ReconcileContextBuilder {
        namespace: options.namespace,
        image: options.image,
        identity: options.identity,
        installation: options.installation,
    };
    let context = Arc::new(
        opening
            .build_context(
                client.clone(),
                metrics,
                store,
                options.clock,
                (&*options.registries, &*options.trust),
            )
            .await?,
    );
    match platform_key::ensure_platform_key(&context, &*make_key).await {
        Ok(()) => (),
        // A user must resolve it; bundles that a tenant's key signs need not wait for that.
        Err(ReconcileError::StatusFailure(failure)) => tracing::error!(
            why = failure.message,
            "there is no usable platform key; PackedBundles that need it report NoSigner"
        ),
        // The key would not be generated later, so the process must restart.
        Err(error) => return Err(error.into()),
    }
    let ours = || {
        watcher::Config::default()
            .labels(&format!("{MANAGED_BY}={MANAGER}"))
            .any_semantic()
    };
    let mut events = pin!(
        controller
            .watches(
                Api::<Job>::all(client.clone()),
                ours(),
                |job| owning_bundle(&job)
            )
            .watches(
                Api::<Pod>::all(client.clone()),
                ours(),
                |pod| owning_bundle(&pod)
            )
            .graceful_shutdown_on(stop.clone().cancelled_owned())
            .run(
                reconcile::reconcile_bundle,
                |object, error, _| requeue_after_error(&object, error),
                Arc::clone(&context)
            )
    );
    let checks = ReadinessControllers::new(&client);
    let policies = checks.policy_stores();
    let names = context.installation.metrics.names;
    context.metrics.watch_policies(&policies, names);
    context
        .metrics
        .watch_trust_roots(checks.trust_root_store(), names);
    let mut sweeping = pin!(collect_garbage_forever(&context));
    let mut checking = pin!(checks.run_all(&context, &stop));
    let mut managing = pin!(manage_webhook_configuration(&context, &policies));
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(_)) => (),
                Some(Err(error)) => tracing::debug!(%error, "a reconciliation failed"),
                None if stop.is_cancelled() => return Ok(()),
                None => return Err(ControllerError::WatchesEnded),
            },
            () = &mut sweeping => return Err(ControllerError::WatchesEnded),
            () = &mut checking, if !stop.is_cancelled() => return Err(ControllerError::WatchesEnded),
            () = &mut managing => return Err(ControllerError::WatchesEnded),
        }
    }
}

fn requeue_after_error(
    object: &DeserializeGuard<CachedBundle>,
    error: &ReconcileError,
) -> controller::Action {
    tracing::warn!(namespace = object.namespace(), name = object.name_any(), %error, "reconciliation failed; retrying \
        soon");
    controller::Action::requeue(ERROR_RETRY_DELAY)
}

/// The object that a child belongs to, by its labels. A wrong label only costs one reconcile.
fn owning_bundle<K: Resource>(child: &K) -> Option<ObjectRef<DeserializeGuard<CachedBundle>>> {
    let labels = child.meta().labels.as_ref()?;
    Some(ObjectRef::new(labels.get(BUNDLE)?).within(labels.get(BUNDLE_NAMESPACE)?))
}

/// Manages the webhook's configuration, as soon as every policy is known: without a policy its
/// entries would let its uses pass unchecked.
async fn manage_webhook_configuration(
    context: &Arc<ReconcileContext>,
    policies: &webhook_configuration::WatchedPolicyStores,
) {
    if tokio::try_join!(
        policies.cluster.wait_until_ready(),
        policies.namespaced.wait_until_ready()
    )
    .is_ok()
    {
        webhook_configuration::manage_configuration_forever(context, policies).await;
    }
}

/// Collects orphans at the start, after deletions, and periodically.
async fn collect_garbage_forever(context: &ReconcileContext) {
    let mut known: Option<HashSet<String>> = None;
    let mut last = tokio::time::Instant::now();
    let ready = context.bundle_store.wait_until_ready().await;
    while ready.is_ok() {
        let there: HashSet<String> = context
            .bundle_store
            .state()
            .iter()
            .filter_map(|object| object.uid())
            .collect();
        let gone = known
            .as_ref()
            .is_none_or(|known| known.difference(&there).next().is_some());
        if gone || last.elapsed() >= GARBAGE_COLLECTION_INTERVAL {
            last = tokio::time::Instant::now();
            if let Err(error) = garbage_collector::delete_orphans(&there, context).await {
                tracing::warn!(%error, "orphans were not removed; retrying later");
            } else {
                known = Some(there);
            }
        } else {
            known = Some(there);
        }
        tokio::time::sleep(DELETION_CHECK_INTERVAL).await;
    }
}

/// The parts that the context is built from.
struct ReconcileContextBuilder {
    namespace: String,
    image: String,
    identity: String,
    installation: InstallationConfig,
}

impl ReconcileContextBuilder {
    async fn build_context(
        self,
        client: Client,
        metrics: ControllerMetrics,
        store: Store<DeserializeGuard<CachedBundle>>,
        clock: Arc<dyn Clock>,
        (open, open_trust): (&RegistryClientsFactory, &TrustSourceFactory),
    ) -> Result<ReconcileContext, ControllerError> {
        let Self {
            namespace,
            image,
            identity,
            installation,
        } = self;
        let secrets = ReferencedObjectReader::new(client.clone(), namespace.clone());
        let job_registries = load_job_registries(&installation, &namespace, &secrets).await?;
        let reporter = Reporter {
            controller: NAME.to_owned(),
            instance: Some(identity),
        };
        Ok(ReconcileContext {
            cluster_uid: cluster_uid(&client).await?,
            run_settings: RunSettings {
                installation: installation_owner(&client, &namespace).await?,
                system_namespace: namespace,
                image_pull_policy: installation.jobs.image_pull_policy.clone(),
                image_pull_secrets: installation
                    .jobs
                    .image_pull_secrets
                    .iter()
                    .map(|secret| secret.name.clone())
                    .collect(),
                packer: packer_from_image(&image),
                sign_jobs: installation.jobs.sign.clone(),
                image,
            },
            installation,
            clock,
            registries: open(&job_registries).map_err(ControllerError::Configuration)?,
            trust_root_refresher: TrustRootRefresher::new(
                open_trust(&job_registries).map_err(ControllerError::Configuration)?,
            ),
            job_registries,
            bundle_store: store,
            read_limiter: ReadLimiter::default(),
            bundle_tracker: BundleTracker::default(),
            queue: SignQueue::default(),
            metrics,
            events: EventRecorder::new(client.clone(), reporter),
            secrets,
            policy_cache: policy_cache::CompiledPolicyCache::default(),
            enforcement: watch::Sender::new(webhook_configuration::PolicyEnforcement::default()),
            client,
        })
    }
}

/// The chart's registries, with their CA certificates.
async fn load_job_registries(
    installation: &InstallationConfig,
    namespace: &str,
    secrets: &ReferencedObjectReader,
) -> Result<Vec<JobRegistry>, ControllerError> {
    let mut all = Vec::new();
    for registry in &installation.registries {
        let ca = match &registry.ca_ref {
            Some(reference) => Some(
                secrets
                    .read_ca_certificates(namespace, reference, "registries[].caRef")
                    .await?,
            ),
            None => None,
        };
        all.push(JobRegistry {
            host: registry.host.clone(),
            plain_http: registry.plain_http,
            ca,
        });
    }
    Ok(all)
}

async fn cluster_uid(client: &Client) -> Result<String, ControllerError> {
    let system = Api::<Namespace>::all(client.clone())
        .get("kube-system")
        .await
        .map_err(ReconcileError::from)?;
    system
        .uid()
        .ok_or_else(|| ControllerError::Start("the namespace kube-system has no UID".into()))
}

/// The ServiceAccount that the chart created: objects that it owns are deleted when the chart is
/// uninstalled.
async fn installation_owner(
    client: &Client,
    namespace: &str,
) -> Result<OwnerReference, ControllerError> {
    let account = Api::<ServiceAccount>::namespaced(client.clone(), namespace)
        .get(NAME)
        .await
        .map_err(ReconcileError::from)?;
    account.owner_ref(&()).ok_or_else(|| {
        ControllerError::Start(format!("ServiceAccount {namespace}/{NAME} has no UID"))
    })
}

/// The image of the pack Job, if its name has a digest.
fn packer_from_image(image: &str) -> Option<PackerImage> {
    let reference: ImageReference = image.parse().ok()?;
    Some(PackerImage {
        uri: format!("oci://{}", reference.repository),
        digest: reference.digest?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packer_is_known_by_its_digest() {
        let digest = crate::core::digest::Digest::of_bytes(b"image");
        let packer =
            packer_from_image(&format!("r.example.com/packgate:v1@{digest}")).expect("a digest");
        assert_eq!(
            (packer.uri.as_str(), packer.digest),
            ("oci://r.example.com/packgate", digest)
        );
        assert_eq!(packer_from_image("r.example.com/packgate:v1"), None);
    }

    #[test]
    fn children_lead_to_their_object() {
        let labels = [
            (BUNDLE.to_owned(), "siem".to_owned()),
            (BUNDLE_NAMESPACE.to_owned(), "team-a".to_owned()),
        ]
        .into();
        let metadata = kube::core::ObjectMeta {
            labels: Some(labels),
            ..Default::default()
        };
        let owner = owning_bundle(&Pod {
            metadata,
            ..Pod::default()
        })
        .expect("an owner");
        assert_eq!(
            (owner.name.as_str(), owner.namespace.as_deref()),
            ("siem", Some("team-a"))
        );
        assert!(owning_bundle(&Pod::default()).is_none());
    }
}
