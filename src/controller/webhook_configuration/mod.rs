//! Maintains the webhook's configuration: its certificate, its entries, and the status of every
//! policy's enforcement.
//!
//! The chart creates the configuration object, without entries; they are added once a replica is
//! ready, and stay when none is: then every governed use is denied, and nothing else is affected.

mod certificate_rotation;
mod entries;
mod policy_enforcement;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    admissionregistration::v1::ValidatingWebhookConfiguration, coordination::v1::Lease,
    core::v1::Secret, discovery::v1::EndpointSlice,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt,
        reflector::{self, Store},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

pub(super) use policy_enforcement::{PolicyEnforcement, PolicyEnforcementState};

use self::certificate_rotation::{CertificateRotationStep, WebhookCertificates};
use super::{
    reconcile_context::ReconcileContext, reconcile_error::ReconcileError, resources::MANAGER,
};
use crate::{
    api::{
        bundle_policy::{BundlePolicy, ClusterBundlePolicy, PolicyObject},
        webhook::{TLS_SECRET, WEBHOOK_CONFIGURATION_NAME, WEBHOOK_SERVICE_NAME},
    },
    core::{
        digest::Digest,
        policy::{EnforcementMode, Policy, PolicyOrigin},
        reason::Reason,
    },
};

/// The interval of checks for work. A check alone sends no request.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How long API servers may take to load a changed configuration. They watch it, so it takes a
/// moment.
const CONFIGURATION_PROPAGATION_DELAY: SignedDuration = SignedDuration::from_secs(1);
/// The minimum interval between changes for namespaces' policies alone.
const MIN_NAMESPACED_UPDATE_INTERVAL: SignedDuration = SignedDuration::from_secs(2);
/// The delay after an error of the API server.
const ERROR_RETRY_DELAY: Duration = Duration::from_secs(2);

/// The watched policies of both kinds.
pub(super) struct WatchedPolicyStores {
    pub cluster: Store<DeserializeGuard<ClusterBundlePolicy>>,
    pub namespaced: Store<DeserializeGuard<BundlePolicy>>,
}

impl WatchedPolicyStores {
    /// The policies that can be parsed.
    fn readable_policies(&self) -> Vec<PolicyObject> {
        let all = self.cluster.state();
        let cluster = all.iter().filter_map(|guarded| {
            Some(PolicyObject::Cluster(Arc::new(
                guarded.0.as_ref().ok()?.clone(),
            )))
        });
        let namespaced = self.namespaced.state();
        let namespaced = namespaced.iter().filter_map(|guarded| {
            Some(PolicyObject::Namespaced(Arc::new(
                guarded.0.as_ref().ok()?.clone(),
            )))
        });
        cluster.chain(namespaced).collect()
    }

    /// The scopes that they govern. A policy that cannot be parsed may govern anything, a
    /// `BundlePolicy` in its own namespace.
    fn governed_scopes(&self, readable: &[PolicyObject]) -> Vec<Policy> {
        let unreadable = |kind: PolicyOrigin| {
            Policy::new_unusable(
                "unreadable",
                kind,
                0,
                EnforcementMode::Enforce,
                None,
                "it cannot be read",
            )
        };
        let cluster = self
            .cluster
            .state()
            .iter()
            .any(|guarded| guarded.0.is_err())
            .then_some(PolicyOrigin::Cluster);
        let objects = self.namespaced.state();
        let unread_in: BTreeSet<String> = objects
            .iter()
            .filter(|guarded| guarded.0.is_err())
            .filter_map(|guarded| guarded.namespace())
            .collect();
        let readable = readable
            .iter()
            .map(|policy| policy.to_deny_all_policy("only what it governs is asked"));
        readable
            .chain(
                cluster
                    .into_iter()
                    .chain(unread_in.into_iter().map(PolicyOrigin::Namespaced))
                    .map(unreadable),
            )
            .collect()
    }
}

/// The observed state of an object.
#[derive(Clone, Debug)]
enum WatchedObjectState<K> {
    /// The watch has not started.
    Unknown,
    /// The object does not exist.
    Absent,
    /// The object as observed.
    Present(K),
}

/// One watched object.
struct WatchedObject<K> {
    object: watch::Receiver<WatchedObjectState<K>>,
    _watching: AbortOnDropHandle<()>,
}

impl<K> WatchedObject<K>
where
    K: Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    fn start_watch(api: Api<K>, name: &'static str) -> Self {
        let (newest, object) = watch::channel(WatchedObjectState::Unknown);
        let watching = tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher::watch_object(api, name));
            while let Some(event) = events.next().await {
                match event {
                    Ok(found) => drop(newest.send_replace(
                        found.map_or(WatchedObjectState::Absent, WatchedObjectState::Present),
                    )),
                    Err(error) => {
                        tracing::warn!(%error, name, kind = %K::kind(&()), "a watch failed, it is \
                            restarted");
                        tokio::time::sleep(ERROR_RETRY_DELAY).await;
                    }
                }
            }
        });
        Self {
            object,
            _watching: AbortOnDropHandle::new(watching),
        }
    }

    fn get(&self) -> WatchedObjectState<K> {
        self.object.borrow().clone()
    }
}

/// The state that was applied last.
#[derive(Default)]
struct AppliedWebhookState {
    /// The Secret as last written, until the watch has seen it.
    written_secret: Option<Secret>,
    /// The applied configuration, and its resource version.
    applied: Option<(Value, String)>,
    /// When it was last applied only for namespaces' policies.
    at: Option<Timestamp>,
    /// The digests of the conditions to apply, everywhere and in each namespace.
    desired_digests: BTreeMap<String, Digest>,
    /// The digests of the conditions in force, and since when API servers can know them. No time
    /// for those from before this process started.
    active_digests: BTreeMap<String, (Digest, Option<Timestamp>)>,
    /// The CAs that API servers know, and since when.
    trusted_authorities: Option<(String, Timestamp)>,
}

impl AppliedWebhookState {
    /// Every API server compiles a changed configuration. Users who may only write policies in a
    /// namespace must not be able to cause that all the time.
    fn is_throttled(&self, now: Timestamp) -> bool {
        let is_everywhere =
            self.active_digests.get("").map(|(print, _)| print) != self.desired_digests.get("");
        !is_everywhere
            && self.at.is_some_and(|at| {
                now.duration_since(at) < MIN_NAMESPACED_UPDATE_INTERVAL && now >= at
            })
    }

    /// Records that the wanted configuration was applied: `since` now, or earlier if it was
    /// unchanged. Unchanged conditions were in force before, unless another client had changed the
    /// configuration.
    fn mark_applied(&mut self, was_ours: bool, since: Option<Timestamp>, now: Timestamp) {
        let before = std::mem::take(&mut self.active_digests);
        let asked = |(scope, print): (&String, &Digest)| {
            let same = before
                .get(scope)
                .filter(|(known, _)| was_ours && known == print);
            (scope.clone(), same.copied().unwrap_or((*print, since)))
        };
        self.active_digests = self.desired_digests.iter().map(asked).collect();
        self.at = Some(now);
    }

    /// True if API servers send the uses that this policy governs.
    fn is_active_for(&self, policy: &PolicyObject, now: Timestamp) -> bool {
        let settled = |scope: &str| match (
            self.desired_digests.get(scope),
            self.active_digests.get(scope),
        ) {
            (None, None) => true,
            (Some(wanted), Some((asked, since))) => {
                wanted == asked
                    && since.is_none_or(|since| {
                        now.duration_since(since) >= CONFIGURATION_PROPAGATION_DELAY
                    })
            }
            _ => false,
        };
        self.applied.is_some()
            && settled("")
            && policy.metadata().namespace.as_deref().is_none_or(settled)
    }
}

/// The watches of the webhook configuration.
struct WebhookWatches {
    secret: WatchedObject<Secret>,
    configuration: WatchedObject<ValidatingWebhookConfiguration>,
    lease: WatchedObject<Lease>,
    endpoints: Store<EndpointSlice>,
    _endpoints: AbortOnDropHandle<()>,
}

impl WebhookWatches {
    fn start_all(context: &ReconcileContext) -> Self {
        let (client, namespace) = (
            context.client.clone(),
            context.run_settings.system_namespace.as_str(),
        );
        let (endpoints, writer) = reflector::store();
        let slices = Api::<EndpointSlice>::namespaced(client.clone(), namespace);
        let of_service = watcher::Config::default().labels(&format!(
            "kubernetes.io/service-name={WEBHOOK_SERVICE_NAME}"
        ));
        let watching = tokio::spawn(async move {
            watcher(slices, of_service)
                .default_backoff()
                .reflect(writer)
                .for_each(|_| std::future::ready(()))
                .await;
        });
        Self {
            secret: WatchedObject::start_watch(
                Api::namespaced(client.clone(), namespace),
                TLS_SECRET,
            ),
            configuration: WatchedObject::start_watch(
                Api::all(client.clone()),
                WEBHOOK_CONFIGURATION_NAME,
            ),
            lease: WatchedObject::start_watch(
                Api::namespaced(client, namespace),
                WEBHOOK_SERVICE_NAME,
            ),
            endpoints,
            _endpoints: AbortOnDropHandle::new(watching),
        }
    }

    /// The names of the Pods that the API server may call.
    fn ready_replicas(&self) -> Vec<String> {
        let slices = self.endpoints.state();
        let ready = slices
            .iter()
            .flat_map(|slice| &slice.endpoints)
            .filter(|endpoint| {
                endpoint
                    .conditions
                    .as_ref()
                    .is_some_and(|conditions| conditions.ready == Some(true))
            });
        ready
            .filter_map(|endpoint| endpoint.target_ref.as_ref()?.name.clone())
            .collect()
    }
}

/// Manages it until it is dropped.
pub(super) async fn manage_configuration_forever(
    context: &Arc<ReconcileContext>,
    policies: &WatchedPolicyStores,
) {
    let world = WebhookWatches::start_all(context);
    let mut done = AppliedWebhookState::default();
    loop {
        let wait = match reconcile_configuration(&world, &mut done, policies, context).await {
            Ok(()) => POLL_INTERVAL,
            Err(error) => {
                tracing::warn!(%error, "the webhook's configuration was not reconciled; retrying soon");
                ERROR_RETRY_DELAY
            }
        };
        tokio::time::sleep(wait).await;
    }
}

async fn reconcile_configuration(
    world: &WebhookWatches,
    done: &mut AppliedWebhookState,
    policies: &WatchedPolicyStores,
    context: &ReconcileContext,
) -> Result<(), ReconcileError> {
    let Some(certificates) = reconcile_certificates(world, done, context).await? else {
        return Ok(());
    };
    let replicas = world.ready_replicas();
    let objects = policies.readable_policies();
    if let WatchedObjectState::Present(configuration) = world.configuration.get() {
        let has_entries = configuration
            .webhooks
            .as_ref()
            .is_some_and(|entries| !entries.is_empty());
        if has_entries || !replicas.is_empty() {
            apply_configuration(
                &configuration,
                &certificates,
                &policies.governed_scopes(&objects),
                done,
                context,
            )
            .await?;
        }
    }
    let now = context.clock.now();
    let is_asked = |policy: &PolicyObject| done.is_active_for(policy, now);
    let carried = match world.lease.get() {
        WatchedObjectState::Present(lease) => lease.annotations().clone(),
        WatchedObjectState::Unknown | WatchedObjectState::Absent => BTreeMap::new(),
    };
    context.enforcement.send_if_modified(|known| {
        known.update_from_replicas(&objects, &replicas, &carried, &is_asked)
    });
    policy_enforcement::remove_gone_replicas(&carried, &replicas, context).await
}

/// The certificates, after their next step. `None` while their state is unknown.
async fn reconcile_certificates(
    world: &WebhookWatches,
    done: &mut AppliedWebhookState,
    context: &ReconcileContext,
) -> Result<Option<WebhookCertificates>, ReconcileError> {
    let secret = match world.secret.get() {
        WatchedObjectState::Unknown => return Ok(None),
        WatchedObjectState::Absent => done.written_secret.clone(),
        WatchedObjectState::Present(found) => {
            done.written_secret = done
                .written_secret
                .take()
                .filter(|written| is_newer(written, &found));
            Some(done.written_secret.clone().unwrap_or(found))
        }
    };
    let now = context.clock.now();
    let requested = secret
        .as_ref()
        .and_then(certificate_rotation::rotation_request)
        .map(ToOwned::to_owned);
    let current = secret.as_ref().and_then(WebhookCertificates::from_secret);
    let namespace = &context.run_settings.system_namespace;
    let make = || {
        certificate_rotation::generate_certificate(namespace, now)
            .map_err(|error| ReconcileError::new(Reason::Internal, error.to_string()))
    };
    let Some(found) = current else {
        let first = WebhookCertificates::from_single(make()?, requested);
        write_certificate_secret(&first, done, context).await?;
        return Ok(Some(first));
    };
    let told = done
        .trusted_authorities
        .as_ref()
        .filter(|(authorities, _)| *authorities == found.ca_bundle())
        .map(|(_, since)| *since);
    let next =
        match certificate_rotation::next_rotation_step(&found, requested.as_deref(), told, now) {
            CertificateRotationStep::Idle => return Ok(Some(found)),
            CertificateRotationStep::Create => WebhookCertificates::from_single(make()?, requested),
            CertificateRotationStep::Stage => found.stage_next(make()?, requested.as_deref(), now),
            CertificateRotationStep::Promote => found.promote_staged(now),
            CertificateRotationStep::DropOldAuthority => found.drop_old_authority(),
        };
    write_certificate_secret(&next, done, context).await?;
    Ok(Some(next))
}

fn is_newer(written: &Secret, seen: &Secret) -> bool {
    let version = |secret: &Secret| {
        secret
            .resource_version()
            .and_then(|version| version.parse::<u64>().ok())
    };
    version(written) > version(seen)
}

async fn write_certificate_secret(
    certificates: &WebhookCertificates,
    done: &mut AppliedWebhookState,
    context: &ReconcileContext,
) -> Result<(), ReconcileError> {
    let namespace = &context.run_settings.system_namespace;
    let secret = certificates.to_secret(namespace, context.run_settings.installation.clone());
    let secrets = Api::<Secret>::namespaced(context.client.clone(), namespace);
    let written = secrets
        .patch(
            TLS_SECRET,
            &PatchParams::apply(MANAGER).force(),
            &Patch::Apply(&secret),
        )
        .await?;
    tracing::info!(ends = %certificates.serving.not_after, staged = certificates.staged.is_some(), "the webhook's certificate was written");
    done.written_secret = Some(written);
    Ok(())
}

async fn apply_configuration(
    there: &ValidatingWebhookConfiguration,
    certificates: &WebhookCertificates,
    scopes: &[Policy],
    done: &mut AppliedWebhookState,
    context: &ReconcileContext,
) -> Result<(), ReconcileError> {
    let authorities = certificates.ca_bundle();
    let wanted = entries::render_configuration(
        scopes,
        &context.installation,
        &context.run_settings.system_namespace,
        &authorities,
    );
    let (version, now) = (there.resource_version(), context.clock.now());
    let is_ours = done
        .applied
        .as_ref()
        .is_some_and(|(_, at)| version.as_ref() == Some(at));
    let is_done = is_ours
        && done
            .applied
            .as_ref()
            .is_some_and(|(applied, _)| *applied == wanted.object);
    done.desired_digests = wanted.scope_digests;
    let rests = is_ours && done.is_throttled(now);
    if !(is_done || rests) {
        let configurations = Api::<ValidatingWebhookConfiguration>::all(context.client.clone());
        let applied = configurations
            .patch(
                WEBHOOK_CONFIGURATION_NAME,
                &PatchParams::apply(MANAGER).force(),
                &Patch::Apply(&wanted.object),
            )
            .await?;
        let since = (applied.resource_version() != version).then_some(now);
        done.mark_applied(is_ours || done.applied.is_none(), since, now);
        done.applied = Some((
            wanted.object,
            applied.resource_version().unwrap_or_default(),
        ));
    }
    if done
        .trusted_authorities
        .as_ref()
        .is_none_or(|(told, _)| *told != authorities)
    {
        done.trusted_authorities = Some((authorities, context.clock.now()));
    }
    Ok(())
}
