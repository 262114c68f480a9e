//! The controller: reconciles every `PackedBundle` by Jobs, and reports progress in its status.
//!
//! It never packs, signs or pushes itself. One replica is the leader; one that loses the Lease ends
//! its process, because nothing else reliably stops it from writing.

mod accepted_bundle;
mod applicable_policies;
mod apply;
mod bundle_tracker;
mod cached_bundle;
mod context_builder;
mod duplicate_destination;
mod garbage_collector;
mod job_state;
pub mod leader_election;
mod lock_source;
mod metrics;
mod next_step;
mod observe;
mod options;
mod packing_run;
mod platform_key;
mod policy_cache;
mod policy_enforcement;
mod policy_status;
mod published_policy_inputs;
mod read_limiter;
mod readiness;
mod reconcile;
mod reconcile_context;
mod reconcile_error;
pub mod resources;
mod secrets;
mod sign_queue;
mod signer_policy;
mod status;
mod tenant_sigstore;
#[cfg(test)]
mod testing;
mod trust_root_refresh;
mod trust_root_refresher;
mod verify;
mod watched_policies;
mod webhook_configuration;

use std::{pin::pin, sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::{batch::v1::Job, coordination::v1::Lease, core::v1::Pod};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        Controller, controller,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

pub use cached_bundle::CachedBundle;
pub use metrics::ControllerMetrics;
pub use options::{ControllerError, ControllerOptions, NAME};
pub use platform_key::{PlatformKeyGenerator, PlatformKeyPair};

use self::{
    context_builder::ReconcileContextBuilder,
    garbage_collector::collect_garbage_forever,
    leader_election::{LeaderElectionTimings, LeaderElector},
    policy_status::ReadinessControllers,
    published_policy_inputs::publish_policy_inputs_forever,
    reconcile_context::ReconcileContext,
    reconcile_error::ReconcileError,
    resources::{BUNDLE, BUNDLE_NAMESPACE, MANAGED_BY, MANAGER},
    watched_policies::WatchedPolicyStores,
    webhook_configuration::manage_configuration_forever,
};
use crate::api::trust_root::TrustRoot;

/// The number of objects that are reconciled concurrently.
const CONCURRENCY: u16 = 16;
/// Objects per page of a list. Each may have a lock of over a megabyte, which is dropped as soon as
/// its page was read; only a list from the newest state has pages.
const LIST_PAGE_SIZE: u32 = 4;
/// How long changes of one object are collected before it is reconciled.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// The delay after an error of the API server.
const ERROR_RETRY_DELAY: Duration = Duration::from_secs(5);

/// Waits for the Lease, then reconciles until `stop` or until the Lease is lost.
///
/// `responded` is called after each response of the API server while waiting: the replica is then
/// ready to lead or to take over.
pub async fn run_controller(
    client: Client,
    options: ControllerOptions,
    metrics: ControllerMetrics,
    responded: impl Fn(),
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
        () = elector.acquire_lease(responded) => tracing::info!(identity = options.identity, "leading"),
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
    let controller = new_bundle_controller(&client);
    let store = controller.store();
    metrics.watch_bundles(store.clone());
    let opening = ReconcileContextBuilder {
        namespace: options.namespace,
        image: options.image,
        identity: options.identity,
        installation: options.installation,
    };
    let factories = (&*options.registries, &*options.trust);
    let context = opening
        .build_context(client.clone(), metrics, store, options.clock, factories)
        .await?;
    let context = Arc::new(context);
    ensure_platform_key(&context, &*options.make_key).await?;
    let bundles = reconcile_bundles(controller, client.clone(), &context, &stop);
    let checks = ReadinessControllers::new(&client);
    let policies = checks.policy_stores();
    let trust_roots = checks.trust_root_store();
    let names = context.installation.metrics.names;
    context.metrics.watch_policies(&policies, names);
    context
        .metrics
        .watch_trust_roots(trust_roots.clone(), names);
    let checking = async {
        checks.run_all(&context, &stop).await;
        if stop.is_cancelled() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        ended = bundles => ended,
        () = collect_garbage_forever(&context) => Err(ControllerError::WatchesEnded),
        () = checking => Err(ControllerError::WatchesEnded),
        () = manage_webhook_configuration(&context, &policies) => Err(ControllerError::WatchesEnded),
        () = publish_policy_inputs(&context, &policies, &trust_roots) => Err(ControllerError::WatchesEnded),
    }
}

type BundleController = Controller<DeserializeGuard<CachedBundle>>;

fn new_bundle_controller(client: &Client) -> BundleController {
    let bundles = Api::<DeserializeGuard<CachedBundle>>::all(client.clone());
    let config = controller::Config::default()
        .concurrency(CONCURRENCY)
        .debounce(DEBOUNCE);
    let pages = watcher::Config::default().page_size(LIST_PAGE_SIZE);
    Controller::new(bundles, pages).with_config(config)
}

/// Without a usable platform key only bundles that a tenant's key signs can be packed.
async fn ensure_platform_key(
    context: &ReconcileContext,
    make_key: &PlatformKeyGenerator,
) -> Result<(), ControllerError> {
    match platform_key::ensure_platform_key(context, make_key).await {
        Ok(()) => Ok(()),
        // A user must resolve it; bundles that a tenant's key signs need not wait for that.
        Err(ReconcileError::StatusFailure(failure)) => {
            tracing::error!(
                why = failure.message,
                "there is no usable platform key; PackedBundles that need it report NoSigner"
            );
            Ok(())
        }
        // The key would not be generated later, so the process must restart.
        Err(error) => Err(error.into()),
    }
}

/// Reconciles every `PackedBundle` until `stop`.
async fn reconcile_bundles(
    controller: BundleController,
    client: Client,
    context: &Arc<ReconcileContext>,
    stop: &CancellationToken,
) -> Result<(), ControllerError> {
    let of_runs = || {
        watcher::Config::default()
            .labels(&format!("{MANAGED_BY}={MANAGER}"))
            .any_semantic()
    };
    let (jobs, pods) = (Api::<Job>::all(client.clone()), Api::<Pod>::all(client));
    let mut events = pin!(
        controller
            .watches(jobs, of_runs(), |job| owning_bundle(&job))
            .watches(pods, of_runs(), |pod| owning_bundle(&pod))
            .graceful_shutdown_on(stop.clone().cancelled_owned())
            .run(
                reconcile::reconcile_bundle,
                |object, error, _| requeue_after_error(&object, error),
                Arc::clone(context)
            )
    );
    while let Some(event) = events.next().await {
        if let Err(error) = event {
            tracing::debug!(%error, "a reconciliation failed");
        }
    }
    if stop.is_cancelled() {
        Ok(())
    } else {
        Err(ControllerError::WatchesEnded)
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
async fn publish_policy_inputs(
    context: &ReconcileContext,
    policies: &WatchedPolicyStores,
    trust_roots: &Store<DeserializeGuard<TrustRoot>>,
) {
    if tokio::try_join!(
        policies.cluster.wait_until_ready(),
        policies.namespaced.wait_until_ready(),
        trust_roots.wait_until_ready()
    )
    .is_ok()
    {
        publish_policy_inputs_forever(context, policies, trust_roots).await;
    }
}

async fn manage_webhook_configuration(
    context: &Arc<ReconcileContext>,
    policies: &WatchedPolicyStores,
) {
    if tokio::try_join!(
        policies.cluster.wait_until_ready(),
        policies.namespaced.wait_until_ready()
    )
    .is_ok()
    {
        manage_configuration_forever(context, policies).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
