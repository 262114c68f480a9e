//! Watches everything that policies consist of, and puts each new state in force at once.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
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
use tokio_util::task::AbortOnDropHandle;

use super::policies::Policies;
use crate::{
    api::{
        bundle_policy::{BundlePolicy, ClusterBundlePolicy, Gathered, Name, PolicyObject},
        trust_root::TrustRoot,
    },
    clock::Clock,
    core::policy::Kind,
};

/// How long changes are gathered: a policy and its key are often applied together.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// How often the clock is looked at while something waits for it: clocks are set.
const LOOK: Duration = Duration::from_mins(1);

type Data = BTreeMap<String, String>;

/// What is known of a `ConfigMap`.
#[derive(Clone, Debug)]
enum Seen {
    /// The watch has not begun.
    Unknown,
    /// It is not there.
    Absent,
    /// It holds this.
    There(Data),
}

/// A `ConfigMap` that is watched.
struct Watched {
    data: Arc<Mutex<Seen>>,
    _watching: AbortOnDropHandle<()>,
}

/// Everything that is watched.
pub(super) struct Loader {
    client: Client,
    system_namespace: String,
    cluster: Store<DeserializeGuard<ClusterBundlePolicy>>,
    namespaced: Store<DeserializeGuard<BundlePolicy>>,
    roots: Store<DeserializeGuard<TrustRoot>>,
    maps: BTreeMap<Name, Watched>,
    clock: Arc<dyn Clock>,
    changed: watch::Receiver<u64>,
    change: watch::Sender<u64>,
    watching: JoinSet<()>,
}

impl Loader {
    /// Begins to watch.
    pub(super) fn start(client: Client, system_namespace: String, clock: Arc<dyn Clock>) -> Self {
        let (change, changed) = watch::channel(0);
        let mut watching = JoinSet::new();
        let cluster = follow(Api::all(client.clone()), &change, &mut watching);
        let namespaced = follow(Api::all(client.clone()), &change, &mut watching);
        let roots = follow(Api::all(client.clone()), &change, &mut watching);
        Self { client, system_namespace, cluster, namespaced, roots, maps: BTreeMap::new(), clock, changed, change, watching }
    }

    /// Waits until everything was read once, puts it in force, and does so again whenever something changes. `loaded` is called each time.
    /// Returns only if a watch has ended, which a process must not survive: it would judge by yesterday's policies.
    pub(super) async fn run(mut self, policies: &Policies, loaded: impl Fn()) {
        let ready = async { tokio::try_join!(self.cluster.wait_until_ready(), self.namespaced.wait_until_ready(), self.roots.wait_until_ready()) };
        if ready.await.is_err() {
            return;
        }
        loop {
            self.changed.borrow_and_update();
            let gathered = self.gather();
            let now = self.clock.now();
            let snapshot = gathered.compile(&self.system_namespace, now);
            let ends = snapshot.ends();
            policies.set(snapshot);
            if gathered.config_maps.len() == self.maps.len() {
                loaded();
            }
            tokio::select! {
                changed = self.changed.changed() => if changed.is_err() { return },
                _ = self.watching.join_next() => return,
                () = over(&*self.clock, ends) => (),
            }
            tokio::time::sleep(DEBOUNCE).await;
        }
    }

    /// What there is now. `ConfigMap`s that nobody names any more are no longer watched, new ones are from now on.
    fn gather(&mut self) -> Gathered {
        let mut gathered = Gathered::default();
        for guarded in self.cluster.state() {
            match &guarded.0 {
                Ok(policy) => gathered.policies.push(PolicyObject::Cluster(Box::new(policy.clone()))),
                Err(_) => gathered.unreadable.push((Kind::Cluster, guarded.name_any())),
            }
        }
        for guarded in self.namespaced.state() {
            match &guarded.0 {
                Ok(policy) => gathered.policies.push(PolicyObject::Namespaced(Box::new(policy.clone()))),
                Err(_) => gathered.unreadable.push((Kind::Namespaced(guarded.namespace().unwrap_or_default()), guarded.name_any())),
            }
        }
        // A trust root that cannot be read is missed by the policies that name it.
        gathered.trust_roots = self.roots.state().iter().filter_map(|guarded| guarded.0.as_ref().ok().cloned()).collect();
        let needed = gathered.needed(&self.system_namespace);
        self.maps.retain(|name, _| needed.contains(name));
        for name in needed {
            self.maps.entry(name).or_insert_with_key(|(namespace, name)| watch_map(&self.client, namespace, name, &self.change));
        }
        let known = |(name, watched): (&Name, &Watched)| {
            let seen = watched.data.lock().unwrap_or_else(PoisonError::into_inner).clone();
            match seen {
                Seen::Unknown => None,
                Seen::Absent => Some((name.clone(), None)),
                Seen::There(data) => Some((name.clone(), Some(data))),
            }
        };
        gathered.config_maps = self.maps.iter().filter_map(known).collect();
        gathered
    }
}

/// Waits until time alone has changed something: for ever, if it never does.
async fn over(clock: &dyn Clock, ends: Option<Timestamp>) {
    let Some(ends) = ends else { return std::future::pending().await };
    while let Some(left) = Duration::try_from(ends.duration_since(clock.now())).ok().filter(|left| !left.is_zero()) {
        tokio::time::sleep(left.min(LOOK)).await;
    }
}

/// Keeps all objects of a kind.
fn follow<K>(api: Api<DeserializeGuard<K>>, change: &watch::Sender<u64>, watching: &mut JoinSet<()>) -> Store<DeserializeGuard<K>>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let change = change.clone();
    watching.spawn(async move {
        let events = watcher(api, watcher::Config::default().any_semantic()).default_backoff().reflect(writer);
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(_) => change.send_modify(|count| *count += 1),
                Err(error) => tracing::warn!(%error, kind = %K::kind(&()), "a watch failed, it begins again"),
            }
        }
    });
    store
}

fn watch_map(client: &Client, namespace: &str, name: &str, change: &watch::Sender<u64>) -> Watched {
    let data = Arc::new(Mutex::new(Seen::Unknown));
    let (api, name, change, shared) = (Api::<ConfigMap>::namespaced(client.clone(), namespace), name.to_owned(), change.clone(), Arc::clone(&data));
    let watching = tokio::spawn(async move {
        let mut events = std::pin::pin!(watcher::watch_object(api, &name));
        while let Some(event) = events.next().await {
            match event {
                Ok(map) => {
                    let seen = map.map_or(Seen::Absent, |map: ConfigMap| Seen::There(map.data.unwrap_or_default()));
                    *shared.lock().unwrap_or_else(PoisonError::into_inner) = seen;
                    change.send_modify(|count| *count += 1);
                }
                Err(error) => {
                    tracing::warn!(%error, name, "the watch of a ConfigMap failed, it begins again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    });
    Watched { data, _watching: AbortOnDropHandle::new(watching) }
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
        let is_over = async |ends| tokio::time::timeout(Duration::from_millis(20), over(&clock, ends)).await.is_ok();
        assert!(is_over(Some(at("2026-11-21T12:00:00Z"))).await && is_over(Some(at("2026-11-20T12:00:00Z"))).await);
        assert!(!is_over(Some(at("2026-11-22T12:00:00Z"))).await && !is_over(None).await);
    }
}
