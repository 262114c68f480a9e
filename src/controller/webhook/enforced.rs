//! Which policies are in force: those that every replica of the webhook carries, in the generation
//! that it carries.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    api::{
        bundle_policy::{PolicyObject, Revision},
        webhook::{SERVICE, replica_annotation, replica_of},
    },
    controller::{context::Context, trouble::Trouble},
};

/// Annotations of replicas that are gone, before they are removed. A replica that starts is not
/// among the Service's endpoints yet.
const MAX_GONE: usize = 8;

/// What is known about it. At the start: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::controller) struct Enforcement {
    /// Generations that every replica carries, by UID. `None`: not known yet.
    carried: Option<HashMap<String, i64>>,
    /// Why others are not, by UID.
    waiting_for: HashMap<String, String>,
}

/// Is a policy in force?
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::controller) enum InForce {
    /// Every replica carries this generation.
    Yes,
    /// Not every one, and why.
    NotYet(String),
    /// Nobody knows yet: what was said before still holds.
    Unknown,
}

impl Enforcement {
    /// Is this generation of a policy in force?
    pub(in crate::controller) fn of(&self, uid: &str, generation: i64) -> InForce {
        match &self.carried {
            None => InForce::Unknown,
            Some(carried) if carried.get(uid) == Some(&generation) => InForce::Yes,
            Some(_) => InForce::NotYet(
                self.waiting_for
                    .get(uid)
                    .cloned()
                    .unwrap_or_else(|| "not known yet".to_owned()),
            ),
        }
    }

    /// Takes in what the replicas say, and which policies API servers ask for. Says whether
    /// anything changed.
    ///
    /// The cluster's policies and those of each namespace are looked at apart: nobody's changes
    /// keep another's from being in force.
    pub(super) fn update(
        &mut self,
        policies: &[PolicyObject],
        replicas: &[String],
        annotations: &BTreeMap<String, String>,
        is_asked: &dyn Fn(&PolicyObject) -> bool,
    ) -> bool {
        let before = self.clone();
        let wanted = Revision::of(policies);
        let told: Vec<(&String, Option<Revision>)> = replicas
            .iter()
            .map(|replica| {
                (
                    replica,
                    annotations
                        .get(&replica_annotation(replica))
                        .map(|told| Revision::read(told)),
                )
            })
            .collect();
        self.waiting_for.clear();
        let (mut carried, mut is_anything) = (HashMap::new(), false);
        for policy in policies {
            let agrees = |told: &Option<Revision>| {
                told.as_ref()
                    .is_some_and(|told| told.agrees(&wanted, policy))
            };
            let why = match told.iter().find(|(_, told)| !agrees(told)) {
                _ if replicas.is_empty() => "no replica of the webhook is ready".to_owned(),
                Some((replica, _)) => format!("{replica} does not carry this generation yet"),
                None if !is_asked(policy) => {
                    "the API server does not ask the webhook yet".to_owned()
                }
                None => {
                    carried.extend(generation_of(policy));
                    is_anything = true;
                    continue;
                }
            };
            // What was in force is so still, in the generation that was.
            let old = self
                .carried
                .as_ref()
                .zip(policy.metadata().uid.as_ref())
                .and_then(|(carried, uid)| carried.get_key_value(uid));
            carried.extend(old.map(|(uid, generation)| (uid.clone(), *generation)));
            self.waiting_for
                .extend(policy.metadata().uid.clone().map(|uid| (uid, why)));
        }
        // What was in force before this process began may be so still, but only if somebody is
        // there to carry it.
        let is_known = self.carried.is_some()
            || is_anything
            || policies.is_empty()
            || replicas.is_empty()
            || !policies.iter().any(is_asked);
        self.carried = is_known.then_some(carried);
        *self != before
    }
}

fn generation_of(policy: &PolicyObject) -> Option<(String, i64)> {
    let metadata = policy.metadata();
    Some((metadata.uid.clone()?, metadata.generation?))
}

/// Removes what replicas said that are gone.
pub(super) async fn prune(
    annotations: &BTreeMap<String, String>,
    replicas: &[String],
    context: &Context,
) -> Result<(), Trouble> {
    let gone: Vec<&String> = annotations
        .keys()
        .filter(|key| {
            replica_of(key).is_some_and(|replica| !replicas.iter().any(|name| name == replica))
        })
        .collect();
    if gone.len() < MAX_GONE || replicas.is_empty() {
        return Ok(());
    }
    let nothing: serde_json::Map<String, Value> = gone
        .into_iter()
        .map(|key| (key.clone(), Value::Null))
        .collect();
    let patch = json!({"metadata": {"annotations": nothing}});
    let leases = Api::<Lease>::namespaced(context.client.clone(), &context.setup.system_namespace);
    leases
        .patch(SERVICE, &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(uid: &str, generation: i64) -> PolicyObject {
        let object = json!({
            "apiVersion": "packgate.dev/v1alpha1", "kind": "ClusterBundlePolicy",
            "metadata": {"name": uid, "uid": uid, "generation": generation},
            "spec": {
                "match": {"references": ["r.example.com/**"]},
                "authorities": [{"name": "a", "key": {"configMapRef": {"name": "k"}}}],
            },
        });
        PolicyObject::read(object).expect("a policy")
    }

    fn told(replicas: &[(&str, &[PolicyObject])]) -> BTreeMap<String, String> {
        replicas
            .iter()
            .map(|(replica, policies)| {
                (
                    replica_annotation(replica),
                    Revision::of(*policies).to_string(),
                )
            })
            .collect()
    }

    #[test]
    fn a_generation_is_in_force_when_every_replica_carries_it() {
        let replicas = ["x".to_owned(), "y".to_owned()];
        let (old, new) = ([policy("a", 1)], [policy("a", 2)]);
        let mut enforcement = Enforcement::default();
        assert_eq!(enforcement.of("a", 1), InForce::Unknown);
        assert!(
            enforcement.update(&old, &replicas, &told(&[("x", &old), ("y", &old)]), &|_| {
                true
            })
        );
        assert_eq!(enforcement.of("a", 1), InForce::Yes);
        assert!(
            enforcement.update(&new, &replicas, &told(&[("x", &new), ("y", &old)]), &|_| {
                true
            })
        );
        assert!(matches!(enforcement.of("a", 2), InForce::NotYet(why) if why.starts_with("y ")));
        assert!(
            enforcement.update(&new, &replicas, &told(&[("x", &new), ("y", &new)]), &|_| {
                true
            })
        );
        assert_eq!(enforcement.of("a", 2), InForce::Yes);
        assert!(
            !enforcement.update(&new, &replicas, &told(&[("x", &new), ("y", &new)]), &|_| {
                true
            }),
            "nothing changed"
        );
    }

    #[test]
    fn what_nobody_carries_is_not_in_force() {
        let policies = [policy("a", 1)];
        let mut enforcement = Enforcement::default();
        enforcement.update(&policies, &[], &told(&[("x", &policies)]), &|_| true);
        assert!(
            matches!(enforcement.of("a", 1), InForce::NotYet(why) if why.contains("no replica"))
        );
        let mut enforcement = Enforcement::default();
        enforcement.update(
            &policies,
            &["x".to_owned()],
            &told(&[("x", &policies)]),
            &|_| false,
        );
        assert!(
            matches!(enforcement.of("a", 1), InForce::NotYet(why) if why.contains("does not ask"))
        );
    }

    #[test]
    fn nobody_elses_changes_keep_a_policy_from_being_in_force() {
        let own = |namespace: &str, generation: i64| {
            let object = json!({
                "apiVersion": "packgate.dev/v1alpha1", "kind": "BundlePolicy",
                "metadata": {
                    "name": "p",
                    "namespace": namespace,
                    "uid": namespace,
                    "generation": generation,
                },
                "spec": {
                    "match": {"references": ["r.example.com/**"]},
                    "authorities": [{"name": "a", "key": {"configMapRef": {"name": "k"}}}],
                },
            });
            PolicyObject::read(object).expect("a policy")
        };
        let replicas = ["x".to_owned()];
        let carried = [policy("c", 2), own("team-a", 2), own("team-b", 7)];
        let wanted = [policy("c", 2), own("team-a", 2), own("team-b", 8)];
        let mut enforcement = Enforcement::default();
        enforcement.update(&wanted, &replicas, &told(&[("x", &carried)]), &|_| true);
        assert_eq!(
            (enforcement.of("c", 2), enforcement.of("team-a", 2)),
            (InForce::Yes, InForce::Yes),
            "team-b never stops changing"
        );
        assert!(
            matches!(enforcement.of("team-b", 8), InForce::NotYet(why) if why.starts_with("x "))
        );
        let not_b =
            |policy: &PolicyObject| policy.metadata().namespace.as_deref() != Some("team-b");
        enforcement.update(&wanted, &replicas, &told(&[("x", &wanted)]), &not_b);
        assert!(
            matches!(enforcement.of("team-b", 8), InForce::NotYet(why) if why.contains("does not ask"))
        );
        assert_eq!(
            Revision::read(&Revision::of(&wanted).to_string()),
            Revision::of(&wanted)
        );
    }
}
