//! Prometheus metrics of the controller.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{ResourceExt, core::DeserializeGuard, runtime::reflector::Store};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{counter::Counter, family::Family, gauge::ConstGauge, histogram::Histogram},
    registry::Registry,
};

use super::{cached_bundle::CachedBundle, watched_policies::WatchedPolicyStores};
use crate::api::{
    bundle_policy::{BundlePolicy, ClusterBundlePolicy, PolicyStatus},
    condition::{ENFORCED, READY},
    trust_root::TrustRoot,
};

/// The metrics of the controller.
#[derive(Clone, Debug)]
pub struct ControllerMetrics {
    jobs: Family<JobDurationLabels, Histogram, fn() -> Histogram>,
    reconciles: Family<ReconcileResultLabels, Counter>,
    objects: PackedBundleCollector,
    policies: PolicyEnforcedCollector,
    roots: TrustRootExpiryCollector,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct JobDurationLabels {
    step: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReconcileResultLabels {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PackedBundleReadyLabels {
    ready: String,
    reason: String,
}

fn duration_histogram() -> Histogram {
    Histogram::new([1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0])
}

impl ControllerMetrics {
    /// Registers all metrics in `registry`, with the prefix `packgate`.
    pub fn new(registry: &mut Registry) -> Self {
        let new: fn() -> Histogram = duration_histogram;
        let metrics = Self {
            jobs: Family::new_with_constructor(new),
            reconciles: Family::default(),
            objects: PackedBundleCollector::default(),
            policies: PolicyEnforcedCollector::default(),
            roots: TrustRootExpiryCollector::default(),
        };
        registry.register_collector(Box::new(metrics.objects.clone()));
        registry.register_collector(Box::new(metrics.policies.clone()));
        registry.register_collector(Box::new(metrics.roots.clone()));
        let registry = registry.sub_registry_with_prefix("packgate");
        registry.register(
            "job_duration_seconds",
            "Time from the frozen lock to the end of a Job",
            metrics.jobs.clone(),
        );
        registry.register(
            "reconciles",
            "Reconciliations by result",
            metrics.reconciles.clone(),
        );
        metrics
    }

    /// Counts these objects from now on, at each scrape.
    pub fn watch_bundles(&self, store: Store<DeserializeGuard<CachedBundle>>) {
        // A second store would mean a second controller in one process, which does not exist.
        let _ = self.objects.0.set(store);
    }

    /// Reports at each scrape whether these policies are enforced: each by its name, or all of a
    /// kind together.
    pub(super) fn watch_policies(&self, policies: &WatchedPolicyStores, names: bool) {
        let _ = self
            .policies
            .0
            .set((policies.cluster.clone(), policies.namespaced.clone(), names));
    }

    /// Reports at each scrape when these trust roots expire: each by its name, or the first to
    /// expire.
    pub(super) fn watch_trust_roots(&self, roots: Store<DeserializeGuard<TrustRoot>>, names: bool) {
        let _ = self.roots.0.set((roots, names));
    }

    /// Records the duration of a completed Job.
    pub fn observe_job_duration(&self, step: &'static str, succeeded: bool, took: Duration) {
        let result = if succeeded { "Succeeded" } else { "Failed" };
        self.jobs
            .get_or_create(&JobDurationLabels { step, result })
            .observe(took.as_secs_f64());
    }

    /// Counts a completed reconciliation.
    pub fn record_reconcile(&self, succeeded: bool) {
        let result = if succeeded { "ok" } else { "error" };
        self.reconciles
            .get_or_create(&ReconcileResultLabels { result })
            .inc();
    }
}

/// Counts the objects at each scrape: `packgate_packedbundles{ready,reason}`.
#[derive(Clone, Default)]
struct PackedBundleCollector(Arc<OnceLock<Store<DeserializeGuard<CachedBundle>>>>);

impl PackedBundleCollector {
    fn count_by_readiness(&self) -> BTreeMap<(String, String), u64> {
        let mut counts = BTreeMap::new();
        for object in self.0.get().map(Store::state).unwrap_or_default() {
            *counts.entry(ready_status_and_reason(&object)).or_default() += 1;
        }
        counts
    }
}

impl std::fmt::Debug for PackedBundleCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PackedBundleCollector")
    }
}

fn ready_status_and_reason(object: &DeserializeGuard<CachedBundle>) -> (String, String) {
    let Ok(object) = &object.0 else {
        return ("False".into(), "InvalidSpec".into());
    };
    let conditions = object.0.status.iter().flat_map(|status| &status.conditions);
    let ready = conditions
        .into_iter()
        .find(|condition| condition.type_ == READY);
    ready.map_or_else(
        || ("Unknown".into(), "Pending".into()),
        |ready| (ready.status.clone(), ready.reason.clone()),
    )
}

impl Collector for PackedBundleCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let gauge = ConstGauge::new(0_u64);
        let mut family = encoder.encode_descriptor(
            "packgate_packedbundles",
            "PackedBundles by their condition Ready",
            None,
            gauge.metric_type(),
        )?;
        for ((ready, reason), count) in self.count_by_readiness() {
            let labels = PackedBundleReadyLabels { ready, reason };
            ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// `packgate_policy_enforced{kind,name}`: 1 if every replica of the webhook has loaded the policy's
/// generation. Without names one number for all policies of a kind, 0 if any of them is not
/// enforced: any client that reaches the port could otherwise read which policies each namespace
/// has.
#[derive(Clone, Default)]
struct PolicyEnforcedCollector(Arc<OnceLock<PolicyStores>>);

type PolicyStores = (
    Store<DeserializeGuard<ClusterBundlePolicy>>,
    Store<DeserializeGuard<BundlePolicy>>,
    bool,
);

#[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct KindAndNameLabels {
    kind: &'static str,
    name: String,
}

impl PolicyEnforcedCollector {
    fn enforced_values(&self) -> Vec<(KindAndNameLabels, u64)> {
        let Some((cluster, namespaced, names)) = self.0.get() else {
            return Vec::new();
        };
        let cluster = cluster.state().into_iter().filter_map(|guarded| {
            let policy = guarded.0.as_ref().ok()?;
            let labels = KindAndNameLabels {
                kind: "ClusterBundlePolicy",
                name: policy.name_any(),
            };
            Some((
                labels,
                enforced_value(policy.status.as_ref(), policy.metadata.generation),
            ))
        });
        let namespaced = namespaced.state().into_iter().filter_map(|guarded| {
            let policy = guarded.0.as_ref().ok()?;
            let name = format!(
                "{}/{}",
                policy.namespace().unwrap_or_default(),
                policy.name_any()
            );
            Some((
                KindAndNameLabels {
                    kind: "BundlePolicy",
                    name,
                },
                enforced_value(policy.status.as_ref(), policy.metadata.generation),
            ))
        });
        minimum_per_kind(cluster.chain(namespaced), *names)
    }
}

/// The values by kind and name, or the minimum of each kind.
fn minimum_per_kind<T: Copy + Ord>(
    all: impl Iterator<Item = (KindAndNameLabels, T)>,
    names: bool,
) -> Vec<(KindAndNameLabels, T)> {
    if names {
        return all.collect();
    }
    let mut least = BTreeMap::new();
    for (KindAndNameLabels { kind, .. }, value) in all {
        least
            .entry(KindAndNameLabels {
                kind,
                name: String::new(),
            })
            .and_modify(|known: &mut T| *known = value.min(*known))
            .or_insert(value);
    }
    least.into_iter().collect()
}

impl std::fmt::Debug for PolicyEnforcedCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PolicyEnforcedCollector")
    }
}

fn enforced_value(status: Option<&PolicyStatus>, generation: Option<i64>) -> u64 {
    let conditions = status.into_iter().flat_map(|status| &status.conditions);
    let holds = |condition: &Condition| {
        condition.type_ == ENFORCED
            && condition.status == "True"
            && condition.observed_generation == generation
    };
    u64::from(conditions.into_iter().any(holds))
}

impl Collector for PolicyEnforcedCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let gauge = ConstGauge::new(0_u64);
        let help =
            "1 if every replica of the webhook has loaded the current generation of the policy";
        let mut family = encoder.encode_descriptor(
            "packgate_policy_enforced",
            help,
            None,
            gauge.metric_type(),
        )?;
        for (labels, value) in self.enforced_values() {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// The expiry of trust roots, at each scrape: `packgate_expiry_timestamp_seconds{kind,name}`.
#[derive(Clone, Default)]
struct TrustRootExpiryCollector(Arc<OnceLock<(Store<DeserializeGuard<TrustRoot>>, bool)>>);

impl std::fmt::Debug for TrustRootExpiryCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TrustRootExpiryCollector")
    }
}

impl Collector for TrustRootExpiryCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let gauge = ConstGauge::new(0_i64);
        let help = "Expiry time, as a Unix timestamp in seconds";
        let mut family = encoder.encode_descriptor(
            "packgate_expiry_timestamp_seconds",
            help,
            None,
            gauge.metric_type(),
        )?;
        let Some((roots, names)) = self.0.get() else {
            return Ok(());
        };
        let ends = roots.state().into_iter().filter_map(|guarded| {
            let root = guarded.0.as_ref().ok()?;
            let end = root
                .status
                .as_ref()?
                .not_after
                .as_ref()?
                .parse::<Timestamp>()
                .ok()?;
            Some((
                KindAndNameLabels {
                    kind: "TrustRoot",
                    name: root.name_any(),
                },
                end.as_second(),
            ))
        });
        for (labels, end) in minimum_per_kind(ends, *names) {
            ConstGauge::new(end).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::{reflector, watcher::Event};
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn names_and_labels_are_the_contract() {
        let text = numbers(true);
        for line in [
            "packgate_packedbundles{ready=\"False\",reason=\"Packing\"} 1",
            "packgate_job_duration_seconds_count{step=\"pack\",result=\"Succeeded\"} 1",
            "packgate_reconciles_total{result=\"ok\"} 1",
            "packgate_expiry_timestamp_seconds{kind=\"TrustRoot\",name=\"corp\"} 1795867200",
            "packgate_policy_enforced{kind=\"ClusterBundlePolicy\",name=\"p\"} 1",
            "packgate_policy_enforced{kind=\"ClusterBundlePolicy\",name=\"pending\"} 0",
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
    }

    #[test]
    fn nothing_is_named_that_was_not_to_be() {
        let text = numbers(false);
        for line in [
            "packgate_expiry_timestamp_seconds{kind=\"TrustRoot\",name=\"\"} 1795867200",
            "packgate_policy_enforced{kind=\"ClusterBundlePolicy\",name=\"\"} 0",
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
        assert!(
            !["corp", "\"p\"", "pending"]
                .iter()
                .any(|name| text.contains(name)),
            "{text}"
        );
    }

    fn policy(name: &str, enforced: &str) -> ClusterBundlePolicy {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "packgate.dev/v1alpha1", "kind": "ClusterBundlePolicy", "metadata": {
                "name": name,
                "generation": 2,
            },
            "spec": {
                "match": {"references": ["r.example.com/**"]},
                "authorities": [{"name": "a", "key": {"configMapRef": {"name": "k"}}}],
            },
            "status": {
                "conditions": [
                    {
                        "type": "Enforced",
                        "status": enforced,
                        "reason": "Succeeded",
                        "message": "",
                        "observedGeneration": 2,
                        "lastTransitionTime": "2026-11-21T12:00:00Z",
                    },
                ],
            }
        }))
        .expect("a policy")
    }

    fn numbers(names: bool) -> String {
        let (store, mut writer) = reflector::store();
        let object: CachedBundle = serde_json::from_value(serde_json::json!({
            "apiVersion": "packgate.dev/v1alpha1", "kind": "PackedBundle", "metadata": {
                "name": "a",
                "namespace": "b",
            },
            "spec": {"source": {"inline": "x"}, "destination": {"repository": "r.example.com/a"}},
            "status": {
                "conditions": [
                    {
                        "type": "Ready",
                        "status": "False",
                        "reason": "Packing",
                        "message": "",
                        "lastTransitionTime": "2026-11-21T12:00:00Z",
                    },
                ],
            }
        }))
        .expect("an object");
        writer.apply_watcher_event(&Event::Apply(DeserializeGuard(Ok(object))));
        let (cluster, mut writer) = reflector::store();
        for policy in [policy("p", "True"), policy("pending", "False")] {
            writer.apply_watcher_event(&Event::Apply(DeserializeGuard(Ok(policy))));
        }
        let mut registry = Registry::default();
        let metrics = ControllerMetrics::new(&mut registry);
        metrics.watch_bundles(store);
        metrics.watch_policies(
            &WatchedPolicyStores {
                cluster,
                namespaced: reflector::store().0,
            },
            names,
        );
        let (roots, mut writer) = reflector::store();
        let root: TrustRoot = serde_json::from_value(serde_json::json!({
            "apiVersion": "packgate.dev/v1alpha1", "kind": "TrustRoot",
            "metadata": {"name": "corp"},
            "spec": {"publicGood": {}}, "status": {"notAfter": "2026-11-28T12:00:00Z"}
        }))
        .expect("a trust root");
        writer.apply_watcher_event(&Event::Apply(DeserializeGuard(Ok(root))));
        metrics.watch_trust_roots(roots, names);
        metrics.observe_job_duration("pack", true, Duration::from_secs(3));
        metrics.record_reconcile(true);
        let mut text = String::new();
        encode(&mut text, &registry).expect("encoded");
        text
    }
}
