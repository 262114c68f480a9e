//! Watches the `ConfigMap`s that policies name. Their size per namespace is limited before they are
//! stored.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    ops::ControlFlow,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use tokio::sync::{Semaphore, watch};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    api::bundle_policy::{ConfigMapData, NamespacedName, PolicyQuota},
    cluster_reader::{WatchedObjectState, follow_object},
};

/// Initial lists that are read at the same time: each may have a megabyte.
const CONCURRENT_FIRST_READS: usize = 4;
/// How soon dropped content is read again, once it is no longer too large.
const REREAD_INTERVAL: Duration = Duration::from_secs(5);
/// The delay after an error of the API server.
const WATCH_RETRY_DELAY: Duration = Duration::from_secs(1);

type ObservedConfigMap = WatchedObjectState<ConfigMapData>;

/// The data of each namespace's `ConfigMap`s, by name.
type ObservedConfigMaps = Arc<Mutex<BTreeMap<String, BTreeMap<String, ObservedConfigMap>>>>;

/// Every watched `ConfigMap`.
pub(super) struct ConfigMapWatcher {
    client: Client,
    system_namespace: String,
    change: watch::Sender<u64>,
    observed: ObservedConfigMaps,
    watching: BTreeMap<NamespacedName, (Instant, AbortOnDropHandle<()>)>,
    first: Arc<Semaphore>,
    again: Option<Instant>,
}

impl ConfigMapWatcher {
    /// Watches nothing yet. `change` is notified of every change.
    pub(super) fn new(
        client: Client,
        system_namespace: String,
        change: watch::Sender<u64>,
    ) -> Self {
        let first = Arc::new(Semaphore::new(CONCURRENT_FIRST_READS));
        Self {
            client,
            system_namespace,
            change,
            observed: ObservedConfigMaps::default(),
            watching: BTreeMap::new(),
            first,
            again: None,
        }
    }

    /// True if those of the system namespace, or all others, are observed.
    pub(super) fn are_all_observed(
        &self,
        of_system: bool,
        known: &BTreeMap<NamespacedName, Option<ConfigMapData>>,
    ) -> bool {
        let asked = self
            .watching
            .keys()
            .filter(|(namespace, _)| (*namespace == self.system_namespace) == of_system);
        asked.into_iter().all(|name| known.contains_key(name))
    }

    /// When dropped content is due to be read again.
    pub(super) const fn next_reread(&self) -> Option<Instant> {
        self.again
    }

    /// The data of these `ConfigMap`s; `None` for those that do not exist. Watches of others are
    /// stopped, and new ones are started.
    pub(super) fn sync_watches(
        &mut self,
        needed: &BTreeSet<NamespacedName>,
    ) -> BTreeMap<NamespacedName, Option<ConfigMapData>> {
        self.watching.retain(|name, _| needed.contains(name));
        let mut lost = Vec::new();
        {
            let mut held = self.observed.lock().unwrap_or_else(PoisonError::into_inner);
            held.retain(|namespace, maps| {
                maps.retain(|name, _| needed.contains(&(namespace.clone(), name.clone())));
                !maps.is_empty()
            });
            for (namespace, maps) in held
                .iter()
                .filter(|(_, maps)| !exceed_namespace_quota(maps))
            {
                let dropped = maps.iter().filter(
                    |(_, seen)| matches!(seen, ObservedConfigMap::Present(data) if data.is_without_content()),
                );
                lost.extend(dropped.map(|(name, _)| (namespace.clone(), name.clone())));
            }
        }
        self.reread_dropped(lost);
        for name in needed {
            if !self.watching.contains_key(name) {
                let watching = self.watch_config_map(name);
                self.watching
                    .insert(name.clone(), (Instant::now(), watching));
            }
        }
        self.observed_config_maps()
    }

    /// Reads dropped `ConfigMap`s again, after a delay: growing and shrinking them in a loop must
    /// not cause constant reads.
    fn reread_dropped(&mut self, lost: Vec<NamespacedName>) {
        let now = Instant::now();
        self.again = None;
        for name in lost {
            let due = self
                .watching
                .get(&name)
                .map_or(now, |(since, _)| *since + REREAD_INTERVAL);
            if due <= now {
                self.watching.remove(&name);
            } else {
                self.again = Some(self.again.map_or(due, |again| again.min(due)));
            }
        }
    }

    fn observed_config_maps(&self) -> BTreeMap<NamespacedName, Option<ConfigMapData>> {
        let held = self.observed.lock().unwrap_or_else(PoisonError::into_inner);
        let all = held.iter().flat_map(|(namespace, maps)| {
            maps.iter()
                .map(move |(name, seen)| ((namespace.clone(), name.clone()), seen))
        });
        let known = |(name, seen): (NamespacedName, &ObservedConfigMap)| match seen {
            ObservedConfigMap::Unknown => None,
            ObservedConfigMap::Absent => Some((name, None)),
            ObservedConfigMap::Present(data) => Some((name, Some(data.clone()))),
        };
        all.filter_map(known).collect()
    }

    fn watch_config_map(&self, (namespace, name): &NamespacedName) -> AbortOnDropHandle<()> {
        let is_of_system = *namespace == self.system_namespace;
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), namespace);
        let (held, change, first) = (
            Arc::clone(&self.observed),
            self.change.clone(),
            Arc::clone(&self.first),
        );
        let (namespace, name) = (namespace.clone(), name.clone());
        store_observed(
            &held,
            &namespace,
            &name,
            ObservedConfigMap::Unknown,
            is_of_system,
        );
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut permit = first.acquire_owned().await.ok();
            let observe = |map| {
                drop(permit.take());
                if let Some(seen) = observe_config_map(map, is_of_system) {
                    store_observed(&held, &namespace, &name, seen, is_of_system);
                    change.send_modify(|count| *count += 1);
                }
                ControlFlow::<Infallible>::Continue(())
            };
            follow_object(api, &name, WATCH_RETRY_DELAY, observe).await;
        }))
    }
}

/// `None` while the watch fails: what was seen before stays.
fn observe_config_map(
    map: WatchedObjectState<ConfigMap>,
    is_of_system: bool,
) -> Option<ObservedConfigMap> {
    match map {
        WatchedObjectState::Unknown => None,
        WatchedObjectState::Absent => Some(ObservedConfigMap::Absent),
        WatchedObjectState::Present(map) => {
            let data = map.data.unwrap_or_default();
            let data = ConfigMapData::for_policies(data, is_of_system);
            Some(ObservedConfigMap::Present(data))
        }
    }
}

/// Stores an observed `ConfigMap`. If it exceeds the budget together with the others of its
/// namespace, only its size is stored.
fn store_observed(
    held: &ObservedConfigMaps,
    namespace: &str,
    name: &str,
    seen: ObservedConfigMap,
    is_of_system: bool,
) {
    let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
    let maps = held.entry(namespace.to_owned()).or_default();
    maps.insert(name.to_owned(), seen);
    if !is_of_system && exceed_namespace_quota(maps) {
        for seen in maps.values_mut() {
            if let ObservedConfigMap::Present(data) = seen {
                *data = ConfigMapData::without_content(data.size_in_bytes());
            }
        }
    }
}

fn exceed_namespace_quota(maps: &BTreeMap<String, ObservedConfigMap>) -> bool {
    let size = |seen: &ObservedConfigMap| {
        if let ObservedConfigMap::Present(data) = seen {
            data.size_in_bytes()
        } else {
            0
        }
    };
    maps.values().map(size).sum::<usize>() > PolicyQuota::NAMESPACE.config_map_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(bytes: usize) -> ObservedConfigMap {
        ObservedConfigMap::Present(ConfigMapData::with_policy_keys_only(
            [
                ("ca.crl".to_owned(), "x".repeat(bytes)),
                ("other".to_owned(), "y".repeat(1 << 20)),
            ]
            .into(),
        ))
    }

    fn has_content(held: &ObservedConfigMaps, namespace: &str, name: &str) -> bool {
        matches!(&held.lock().expect("no panic")[namespace][name], ObservedConfigMap::Present(data) if !data.is_without_content())
    }

    #[test]
    fn what_one_namespace_has_too_much_of_is_not_kept() {
        let held = ObservedConfigMaps::default();
        let large = 900 << 10;
        for name in ["a", "b"] {
            store_observed(&held, "greedy", name, list(large), false);
        }
        store_observed(&held, "modest", "a", list(large), false);
        assert!(
            has_content(&held, "greedy", "a") && has_content(&held, "greedy", "b"),
            "within the budget, whatever lies beside it"
        );
        store_observed(&held, "greedy", "c", list(large), false);
        for name in ["a", "b", "c"] {
            assert!(!has_content(&held, "greedy", name), "{name}");
        }
        assert!(has_content(&held, "modest", "a"));
        let sizes = held.lock().expect("no panic")["greedy"]
            .values()
            .map(|seen| {
                if let ObservedConfigMap::Present(data) = seen {
                    data.size_in_bytes()
                } else {
                    0
                }
            })
            .sum::<usize>();
        assert!(sizes > 3 * large, "{sizes}");
        store_observed(&held, "packgate-system", "a", list(4 << 20), true);
        assert!(
            has_content(&held, "packgate-system", "a"),
            "the cluster's own are counted when they are compiled"
        );
    }
}
