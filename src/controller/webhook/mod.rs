//! Keeps the webhook's configuration: its certificate, its entries, and what every policy is told
//! about being in force.
//!
//! The chart makes the configuration object, without entries; they are added once a replica is
//! ready, and stay when none is: then everything that is governed is refused, and nothing else is
//! touched.

mod certificate;
mod enforced;
mod entries;

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

pub(super) use enforced::{Enforcement, InForce};

use self::certificate::{Certificates, Step};
use super::{build::MANAGER, context::Context, trouble::Trouble};
use crate::{
    api::{
        bundle_policy::{BundlePolicy, ClusterBundlePolicy, PolicyObject},
        webhook::{CONFIGURATION, SERVICE, TLS_SECRET},
    },
    core::{
        class::Reason,
        digest::Digest,
        policy::{Kind, Mode, Policy},
    },
};

/// How often it is looked whether there is anything to do. That alone sends no request.
const LOOK: Duration = Duration::from_millis(500);
/// How long API servers may take to act by a configuration that was changed. They watch it, so it
/// is a moment.
const HEARD: SignedDuration = SignedDuration::from_secs(1);
/// How often the configuration is changed for policies of namespaces alone.
const PACE: SignedDuration = SignedDuration::from_secs(2);
/// The same after the API server failed.
const AFTER_ERROR: Duration = Duration::from_secs(2);

/// Every policy.
pub(super) struct Policies {
    pub cluster: Store<DeserializeGuard<ClusterBundlePolicy>>,
    pub namespaced: Store<DeserializeGuard<BundlePolicy>>,
}

impl Policies {
    /// Those that can be read.
    fn objects(&self) -> Vec<PolicyObject> {
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

    /// What they govern. One that cannot be read may govern anything, a `BundlePolicy` in its own
    /// namespace.
    fn scopes(&self, readable: &[PolicyObject]) -> Vec<Policy> {
        let unreadable = |kind: Kind| {
            Policy::unusable(
                "unreadable",
                kind,
                0,
                Mode::Enforce,
                None,
                "it cannot be read",
            )
        };
        let cluster = self
            .cluster
            .state()
            .iter()
            .any(|guarded| guarded.0.is_err())
            .then_some(Kind::Cluster);
        let objects = self.namespaced.state();
        let unread_in: BTreeSet<String> = objects
            .iter()
            .filter(|guarded| guarded.0.is_err())
            .filter_map(|guarded| guarded.namespace())
            .collect();
        let readable = readable
            .iter()
            .map(|policy| policy.unusable("only what it governs is asked"));
        readable
            .chain(
                cluster
                    .into_iter()
                    .chain(unread_in.into_iter().map(Kind::Namespaced))
                    .map(unreadable),
            )
            .collect()
    }
}

/// What is known of an object.
#[derive(Clone, Debug)]
enum Seen<K> {
    /// The watch has not begun.
    Unknown,
    /// It is not there.
    Absent,
    /// This is it.
    There(K),
}

/// One object that is watched.
struct Watched<K> {
    object: watch::Receiver<Seen<K>>,
    _watching: AbortOnDropHandle<()>,
}

impl<K> Watched<K>
where
    K: Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    fn start(api: Api<K>, name: &'static str) -> Self {
        let (newest, object) = watch::channel(Seen::Unknown);
        let watching = tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher::watch_object(api, name));
            while let Some(event) = events.next().await {
                match event {
                    Ok(found) => drop(newest.send_replace(found.map_or(Seen::Absent, Seen::There))),
                    Err(error) => {
                        tracing::warn!(%error, name, kind = %K::kind(&()), "a watch failed, it \
                            begins again");
                        tokio::time::sleep(AFTER_ERROR).await;
                    }
                }
            }
        });
        Self {
            object,
            _watching: AbortOnDropHandle::new(watching),
        }
    }

    fn get(&self) -> Seen<K> {
        self.object.borrow().clone()
    }
}

/// What was done last.
#[derive(Default)]
struct Done {
    /// The Secret as it was written last, until the watch has seen it.
    unseen: Option<Secret>,
    /// The configuration that was applied, and the version that came of it.
    applied: Option<(Value, String)>,
    /// When it was applied last for a change of namespaces' policies alone.
    at: Option<Timestamp>,
    /// What is to be asked about, everywhere and in each namespace.
    wanted: BTreeMap<String, Digest>,
    /// What is asked about, and since when API servers can know that. Nothing for what they knew
    /// before this process began.
    asked: BTreeMap<String, (Digest, Option<Timestamp>)>,
    /// The authorities that API servers know, and since when.
    told: Option<(String, Timestamp)>,
}

impl Done {
    /// Every API server compiles a configuration that changed. Those who only may write policies in
    /// a namespace cannot have that done all the time.
    fn rests(&self, now: Timestamp) -> bool {
        let is_everywhere = self.asked.get("").map(|(print, _)| print) != self.wanted.get("");
        !is_everywhere
            && self
                .at
                .is_some_and(|at| now.duration_since(at) < PACE && now >= at)
    }

    /// What was wanted was applied: `since` now, or API servers had it already. What did not change
    /// was asked about before, unless somebody else had changed the configuration.
    fn take(&mut self, was_ours: bool, since: Option<Timestamp>, now: Timestamp) {
        let before = std::mem::take(&mut self.asked);
        let asked = |(scope, print): (&String, &Digest)| {
            let same = before
                .get(scope)
                .filter(|(known, _)| was_ours && known == print);
            (scope.clone(), same.copied().unwrap_or((*print, since)))
        };
        self.asked = self.wanted.iter().map(asked).collect();
        self.at = Some(now);
    }

    /// Do API servers ask about what this policy governs?
    fn is_asked(&self, policy: &PolicyObject, now: Timestamp) -> bool {
        let settled = |scope: &str| match (self.wanted.get(scope), self.asked.get(scope)) {
            (None, None) => true,
            (Some(wanted), Some((asked, since))) => {
                wanted == asked && since.is_none_or(|since| now.duration_since(since) >= HEARD)
            }
            _ => false,
        };
        self.applied.is_some()
            && settled("")
            && policy.metadata().namespace.as_deref().is_none_or(settled)
    }
}

/// What is watched.
struct World {
    secret: Watched<Secret>,
    configuration: Watched<ValidatingWebhookConfiguration>,
    lease: Watched<Lease>,
    endpoints: Store<EndpointSlice>,
    _endpoints: AbortOnDropHandle<()>,
}

impl World {
    fn start(context: &Context) -> Self {
        let (client, namespace) = (
            context.client.clone(),
            context.setup.system_namespace.as_str(),
        );
        let (endpoints, writer) = reflector::store();
        let slices = Api::<EndpointSlice>::namespaced(client.clone(), namespace);
        let of_service =
            watcher::Config::default().labels(&format!("kubernetes.io/service-name={SERVICE}"));
        let watching = tokio::spawn(async move {
            watcher(slices, of_service)
                .default_backoff()
                .reflect(writer)
                .for_each(|_| std::future::ready(()))
                .await;
        });
        Self {
            secret: Watched::start(Api::namespaced(client.clone(), namespace), TLS_SECRET),
            configuration: Watched::start(Api::all(client.clone()), CONFIGURATION),
            lease: Watched::start(Api::namespaced(client, namespace), SERVICE),
            endpoints,
            _endpoints: AbortOnDropHandle::new(watching),
        }
    }

    /// Names of the Pods that the API server may ask.
    fn replicas(&self) -> Vec<String> {
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

/// Keeps it until it is dropped.
pub(super) async fn manage_forever(context: &Arc<Context>, policies: &Policies) {
    let world = World::start(context);
    let mut done = Done::default();
    loop {
        let wait = match look(&world, &mut done, policies, context).await {
            Ok(()) => LOOK,
            Err(error) => {
                tracing::warn!(%error, "the webhook's configuration: tried again soon");
                AFTER_ERROR
            }
        };
        tokio::time::sleep(wait).await;
    }
}

async fn look(
    world: &World,
    done: &mut Done,
    policies: &Policies,
    context: &Context,
) -> Result<(), Trouble> {
    let Some(certificates) = certificates(world, done, context).await? else {
        return Ok(());
    };
    let replicas = world.replicas();
    let objects = policies.objects();
    if let Seen::There(configuration) = world.configuration.get() {
        let has_entries = configuration
            .webhooks
            .as_ref()
            .is_some_and(|entries| !entries.is_empty());
        if has_entries || !replicas.is_empty() {
            apply(
                &configuration,
                &certificates,
                &policies.scopes(&objects),
                done,
                context,
            )
            .await?;
        }
    }
    let now = context.clock.now();
    let is_asked = |policy: &PolicyObject| done.is_asked(policy, now);
    let carried = match world.lease.get() {
        Seen::There(lease) => lease.annotations().clone(),
        Seen::Unknown | Seen::Absent => BTreeMap::new(),
    };
    context
        .enforcement
        .send_if_modified(|known| known.update(&objects, &replicas, &carried, &is_asked));
    enforced::prune(&carried, &replicas, context).await
}

/// The certificates, after the next step with them. `None` while it is not known what there is.
async fn certificates(
    world: &World,
    done: &mut Done,
    context: &Context,
) -> Result<Option<Certificates>, Trouble> {
    let secret = match world.secret.get() {
        Seen::Unknown => return Ok(None),
        Seen::Absent => done.unseen.clone(),
        Seen::There(found) => {
            done.unseen = done
                .unseen
                .take()
                .filter(|written| is_newer(written, &found));
            Some(done.unseen.clone().unwrap_or(found))
        }
    };
    let now = context.clock.now();
    let requested = secret
        .as_ref()
        .and_then(certificate::requested)
        .map(ToOwned::to_owned);
    let current = secret.as_ref().and_then(Certificates::read);
    let namespace = &context.setup.system_namespace;
    let make = || {
        certificate::make(namespace, now)
            .map_err(|error| Trouble::new(Reason::Internal, error.to_string()))
    };
    let Some(found) = current else {
        let first = Certificates::only(make()?, requested);
        write(&first, done, context).await?;
        return Ok(Some(first));
    };
    let told = done
        .told
        .as_ref()
        .filter(|(authorities, _)| *authorities == found.authorities())
        .map(|(_, since)| *since);
    let next = match certificate::next(&found, requested.as_deref(), told, now) {
        Step::Rest => return Ok(Some(found)),
        Step::Make => Certificates::only(make()?, requested),
        Step::Stage => found.stage(make()?, requested.as_deref(), now),
        Step::Show => found.show(now),
        Step::Forget => found.forget(),
    };
    write(&next, done, context).await?;
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

async fn write(
    certificates: &Certificates,
    done: &mut Done,
    context: &Context,
) -> Result<(), Trouble> {
    let namespace = &context.setup.system_namespace;
    let secret = certificates.secret(namespace, context.setup.installation.clone());
    let secrets = Api::<Secret>::namespaced(context.client.clone(), namespace);
    let written = secrets
        .patch(
            TLS_SECRET,
            &PatchParams::apply(MANAGER).force(),
            &Patch::Apply(&secret),
        )
        .await?;
    tracing::info!(ends = %certificates.shown.not_after, staged = certificates.staged.is_some(), "the webhook's certificate was written");
    done.unseen = Some(written);
    Ok(())
}

async fn apply(
    there: &ValidatingWebhookConfiguration,
    certificates: &Certificates,
    scopes: &[Policy],
    done: &mut Done,
    context: &Context,
) -> Result<(), Trouble> {
    let authorities = certificates.authorities();
    let wanted = entries::configuration(
        scopes,
        &context.installation,
        &context.setup.system_namespace,
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
    done.wanted = wanted.prints;
    let rests = is_ours && done.rests(now);
    if !(is_done || rests) {
        let configurations = Api::<ValidatingWebhookConfiguration>::all(context.client.clone());
        let applied = configurations
            .patch(
                CONFIGURATION,
                &PatchParams::apply(MANAGER).force(),
                &Patch::Apply(&wanted.object),
            )
            .await?;
        let since = (applied.resource_version() != version).then_some(now);
        done.take(is_ours || done.applied.is_none(), since, now);
        done.applied = Some((
            wanted.object,
            applied.resource_version().unwrap_or_default(),
        ));
    }
    if done
        .told
        .as_ref()
        .is_none_or(|(told, _)| *told != authorities)
    {
        done.told = Some((authorities, context.clock.now()));
    }
    Ok(())
}
