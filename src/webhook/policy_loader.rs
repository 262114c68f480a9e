//! Watches all inputs of policies, and puts each new state in force immediately.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use jiff::Timestamp;
use kube::{
    Api, Client, Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt,
        reflector::{self, Store},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use tokio::{sync::watch, task::JoinSet};

use super::{active_policies::ActivePolicies, config_maps::ConfigMapWatcher};
use crate::{
    api::{
        bundle_policy::{
            BundlePolicy, ClusterBundlePolicy, PolicyCompiler, PolicyInputs, PolicyObject,
        },
        trust_root::TrustRoot,
    },
    clock::Clock,
    core::policy::PolicyOrigin,
    service::cpu_work::run_cpu_work,
};

/// How long changes are collected: a policy and its key are often applied together.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// Objects per page of a list: each may have a megabyte.
const LIST_PAGE_SIZE: u32 = 16;

/// How long to wait for tenants' `ConfigMap`s before the first review.
const FIRST_LOAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The interval of clock checks while waiting for a time: clocks may be set.
const CLOCK_CHECK_INTERVAL: Duration = Duration::from_mins(1);

/// A parsed policy with the object that it was parsed from, for reuse while that is unchanged.
type CachedPolicies<K> = BTreeMap<(String, String), (Arc<DeserializeGuard<K>>, PolicyObject)>;

/// Parsed policies, so that unchanged ones are not copied again.
#[derive(Default)]
struct PolicyReadCache {
    cluster: CachedPolicies<ClusterBundlePolicy>,
    namespaced: CachedPolicies<BundlePolicy>,
}

/// All watches that policies depend on.
pub(super) struct PolicyLoader {
    system_namespace: String,
    cluster: Store<DeserializeGuard<ClusterBundlePolicy>>,
    namespaced: Store<DeserializeGuard<BundlePolicy>>,
    roots: Store<DeserializeGuard<TrustRoot>>,
    maps: ConfigMapWatcher,
    read: PolicyReadCache,
    clock: Arc<dyn Clock>,
    changed: watch::Receiver<u64>,
    watching: JoinSet<()>,
}

impl PolicyLoader {
    /// Starts the watches.
    pub(super) fn start_watching(
        client: Client,
        system_namespace: String,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (change, changed) = watch::channel(0);
        let mut watching = JoinSet::new();
        let cluster = watch_objects(Api::all(client.clone()), &change, &mut watching);
        let namespaced = watch_objects(Api::all(client.clone()), &change, &mut watching);
        let roots = watch_objects(Api::all(client.clone()), &change, &mut watching);
        let maps = ConfigMapWatcher::new(client, system_namespace.clone(), change);
        Self {
            system_namespace,
            cluster,
            namespaced,
            roots,
            maps,
            read: PolicyReadCache::default(),
            clock,
            changed,
            watching,
        }
    }

    /// Waits until everything was read once, puts the policies in force, and again after every
    /// change. `loaded` is called each time. Returns only if a watch has ended; the process must
    /// then exit, because its policies would be outdated.
    pub(super) async fn run_until_watch_ends(
        mut self,
        policies: &ActivePolicies,
        loaded: impl Fn(),
    ) {
        let ready = async {
            tokio::try_join!(
                self.cluster.wait_until_ready(),
                self.namespaced.wait_until_ready(),
                self.roots.wait_until_ready()
            )
        };
        if ready.await.is_err() {
            return;
        }
        let (mut compiler, mut is_complete, begun) =
            (PolicyCompiler::default(), false, Instant::now());
        loop {
            self.changed.borrow_and_update();
            let inputs = self.observe_inputs();
            let are_known = |of_system| self.maps.are_all_observed(of_system, &inputs.config_maps);
            // After the first complete read, a newly named object does not delay the announcement
            // of other policies.
            is_complete = are_known(true)
                && (is_complete || are_known(false) || begun.elapsed() >= FIRST_LOAD_TIMEOUT);
            let again = self
                .maps
                .next_reread()
                .into_iter()
                .chain((!is_complete).then(|| begun + FIRST_LOAD_TIMEOUT));
            let (now, at, namespace) = (
                self.clock.now(),
                Instant::now(),
                self.system_namespace.clone(),
            );
            // Reviews are served meanwhile.
            let compiling = run_cpu_work(move || {
                let (snapshot, turn) = compiler.compile_rate_limited(&inputs, &namespace, now, at);
                (compiler, snapshot, turn)
            });
            let Ok((used, snapshot, turn)) = compiling.await else {
                return;
            };
            compiler = used;
            let ends = snapshot.valid_until();
            policies.set(snapshot);
            if is_complete {
                loaded();
            }
            tokio::select! {
                changed = self.changed.changed() => if changed.is_err() { return },
                _ = self.watching.join_next() => return,
                () = wait_until_expired(&*self.clock, ends) => (),
                () = wait_for_turn(turn.into_iter().chain(again).filter(|turn| *turn > at).min()) => (),
            }
            tokio::time::sleep(DEBOUNCE).await;
        }
    }

    /// The current inputs. `ConfigMap`s that are no longer named are no longer watched, and newly
    /// named ones are.
    fn observe_inputs(&mut self) -> PolicyInputs {
        let mut inputs = PolicyInputs::default();
        let cluster = self.cluster.state();
        let unreadable = cluster
            .iter()
            .filter(|guarded| guarded.0.is_err())
            .map(|guarded| (PolicyOrigin::Cluster, guarded.name_any()));
        inputs.unreadable.extend(unreadable);
        let namespaced = self.namespaced.state();
        let unreadable = namespaced.iter().filter(|guarded| guarded.0.is_err());
        inputs.unreadable.extend(unreadable.map(|guarded| {
            (
                PolicyOrigin::Namespaced(guarded.namespace().unwrap_or_default()),
                guarded.name_any(),
            )
        }));
        refresh_cached_policies(&mut self.read.cluster, &cluster, |policy| {
            PolicyObject::Cluster(Arc::new(policy))
        });
        refresh_cached_policies(&mut self.read.namespaced, &namespaced, |policy| {
            PolicyObject::Namespaced(Arc::new(policy))
        });
        let policies = self
            .read
            .cluster
            .values()
            .map(|(_, policy)| policy)
            .chain(self.read.namespaced.values().map(|(_, policy)| policy));
        inputs.policies = policies.cloned().collect();
        // A trust root that cannot be parsed is missing for the policies that refer to it.
        inputs.trust_roots = self
            .roots
            .state()
            .iter()
            .filter_map(|guarded| guarded.0.as_ref().ok().cloned())
            .collect();
        let needed = inputs.needed_config_maps(&self.system_namespace);
        inputs.config_maps = self.maps.sync_watches(&needed);
        inputs
    }
}

/// Reuses unchanged policies, and copies changed ones.
fn refresh_cached_policies<K>(
    known: &mut CachedPolicies<K>,
    objects: &[Arc<DeserializeGuard<K>>],
    of: impl Fn(K) -> PolicyObject,
) where
    K: Resource<DynamicType = ()> + Clone,
{
    let mut before = std::mem::take(known);
    for guarded in objects {
        let name = (guarded.namespace().unwrap_or_default(), guarded.name_any());
        let same = before
            .remove(&name)
            .filter(|(old, _)| Arc::ptr_eq(old, guarded));
        let read =
            same.or_else(|| Some((Arc::clone(guarded), of(guarded.0.as_ref().ok()?.clone()))));
        known.extend(read.map(|read| (name, read)));
    }
}

/// Waits until a namespace that changes too often may be compiled.
async fn wait_for_turn(turn: Option<Instant>) {
    match turn {
        None => std::future::pending().await,
        Some(turn) => tokio::time::sleep_until(turn.into()).await,
    }
}

/// Waits until time alone has changed something, which may be never.
async fn wait_until_expired(clock: &dyn Clock, ends: Option<Timestamp>) {
    let Some(ends) = ends else {
        return std::future::pending().await;
    };
    while let Some(left) = Duration::try_from(ends.duration_since(clock.now()))
        .ok()
        .filter(|left| !left.is_zero())
    {
        tokio::time::sleep(left.min(CLOCK_CHECK_INTERVAL)).await;
    }
}

/// Watches all objects of a kind.
fn watch_objects<K>(
    api: Api<DeserializeGuard<K>>,
    change: &watch::Sender<u64>,
    watching: &mut JoinSet<()>,
) -> Store<DeserializeGuard<K>>
where
    K: Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (store, writer) = reflector::store();
    let change = change.clone();
    watching.spawn(async move {
        let config = watcher::Config::default()
            .any_semantic()
            .page_size(LIST_PAGE_SIZE);
        let events = watcher(api, config)
            .default_backoff()
            .modify(strip_metadata)
            .reflect(writer);
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(_) => change.send_modify(|count| *count += 1),
                Err(error) => {
                    tracing::warn!(%error, kind = %K::kind(&()), "a watch failed, it restarts");
                }
            }
        }
    });
    store
}

/// Drops managed fields, which are most of an object's size.
fn strip_metadata<K: Resource>(object: &mut DeserializeGuard<K>) {
    let metadata = match &mut object.0 {
        Ok(object) => object.meta_mut(),
        Err(error) => &mut error.metadata,
    };
    metadata.managed_fields = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct At(Timestamp);

    impl Clock for At {
        fn now(&self) -> Timestamp {
            self.0
        }
    }

    #[tokio::test]
    async fn time_alone_is_waited_for_only_where_it_changes_something() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let clock = At(at("2026-11-21T12:00:00Z"));
        let is_over = async |ends| {
            tokio::time::timeout(Duration::from_millis(20), wait_until_expired(&clock, ends))
                .await
                .is_ok()
        };
        assert!(
            is_over(Some(at("2026-11-21T12:00:00Z"))).await
                && is_over(Some(at("2026-11-20T12:00:00Z"))).await
        );
        assert!(!is_over(Some(at("2026-11-22T12:00:00Z"))).await && !is_over(None).await);
    }
}
