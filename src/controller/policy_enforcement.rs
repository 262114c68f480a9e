//! The policies in force: those that every replica of the webhook has loaded, with their
//! generations.

use std::collections::{BTreeMap, HashMap};

use crate::api::{
    bundle_policy::{PolicyObject, PolicySetRevision},
    webhook::replica_annotation,
};

/// The observed enforcement. Empty at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PolicyEnforcement {
    /// Generations that every replica has loaded, by UID. `None`: not known yet.
    enforced_generations: Option<HashMap<String, i64>>,
    /// Why others are not in force, by UID.
    waiting_for: HashMap<String, String>,
}

/// Whether a policy is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PolicyEnforcementState {
    /// Every replica has loaded this generation.
    Enforced,
    /// Not every replica has loaded it; the reason.
    Pending(String),
    /// Not known yet: the previous status stays.
    Unknown,
}

impl PolicyEnforcement {
    /// The state of this generation of a policy.
    pub(super) fn state_of_policy(&self, uid: &str, generation: i64) -> PolicyEnforcementState {
        match &self.enforced_generations {
            None => PolicyEnforcementState::Unknown,
            Some(carried) if carried.get(uid) == Some(&generation) => {
                PolicyEnforcementState::Enforced
            }
            Some(_) => PolicyEnforcementState::Pending(
                self.waiting_for
                    .get(uid)
                    .cloned()
                    .unwrap_or_else(|| "enforcement is not known yet".to_owned()),
            ),
        }
    }

    /// Updates from the replicas' announcements and the conditions in force. True if anything
    /// changed.
    ///
    /// The cluster's policies and those of each namespace are separate: changes in one namespace do
    /// not delay the enforcement of other policies.
    pub(super) fn update_from_replicas(
        &mut self,
        policies: &[PolicyObject],
        replicas: &[String],
        annotations: &BTreeMap<String, String>,
        is_asked: &dyn Fn(&PolicyObject) -> bool,
    ) -> bool {
        let before = self.clone();
        let wanted = PolicySetRevision::of_policies(policies);
        let announced: Vec<(&String, Option<PolicySetRevision>)> = replicas
            .iter()
            .map(|replica| {
                (
                    replica,
                    annotations
                        .get(&replica_annotation(replica))
                        .map(|announced| PolicySetRevision::parse(announced)),
                )
            })
            .collect();
        self.waiting_for.clear();
        let (mut carried, mut is_anything) = (HashMap::new(), false);
        for policy in policies {
            let agrees = |announced: &Option<PolicySetRevision>| {
                announced
                    .as_ref()
                    .is_some_and(|announced| announced.agrees_on_policy(&wanted, policy))
            };
            let why = match announced.iter().find(|(_, announced)| !agrees(announced)) {
                _ if replicas.is_empty() => "no replica of the webhook is ready".to_owned(),
                Some((replica, _)) => format!("{replica} has not loaded this generation yet"),
                None if !is_asked(policy) => {
                    "the API server does not call the webhook for it yet".to_owned()
                }
                None => {
                    carried.extend(uid_and_generation(policy));
                    is_anything = true;
                    continue;
                }
            };
            // A policy in force stays in force, in its old generation.
            let old = self
                .enforced_generations
                .as_ref()
                .zip(policy.metadata().uid.as_ref())
                .and_then(|(carried, uid)| carried.get_key_value(uid));
            carried.extend(old.map(|(uid, generation)| (uid.clone(), *generation)));
            self.waiting_for
                .extend(policy.metadata().uid.clone().map(|uid| (uid, why)));
        }
        // A policy that was in force before this process started may still be, but only if a
        // replica is there.
        let is_known = self.enforced_generations.is_some()
            || is_anything
            || policies.is_empty()
            || replicas.is_empty()
            || !policies.iter().any(is_asked);
        self.enforced_generations = is_known.then_some(carried);
        *self != before
    }
}

fn uid_and_generation(policy: &PolicyObject) -> Option<(String, i64)> {
    let metadata = policy.metadata();
    Some((metadata.uid.clone()?, metadata.generation?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
        PolicyObject::from_json(object).expect("a policy")
    }

    fn announced(replicas: &[(&str, &[PolicyObject])]) -> BTreeMap<String, String> {
        replicas
            .iter()
            .map(|(replica, policies)| {
                (
                    replica_annotation(replica),
                    PolicySetRevision::of_policies(*policies).to_string(),
                )
            })
            .collect()
    }

    #[test]
    fn a_generation_is_in_force_when_every_replica_carries_it() {
        let replicas = ["x".to_owned(), "y".to_owned()];
        let (old, new) = ([policy("a", 1)], [policy("a", 2)]);
        let mut enforcement = PolicyEnforcement::default();
        assert_eq!(
            enforcement.state_of_policy("a", 1),
            PolicyEnforcementState::Unknown
        );
        assert!(enforcement.update_from_replicas(
            &old,
            &replicas,
            &announced(&[("x", &old), ("y", &old)]),
            &|_| { true }
        ));
        assert_eq!(
            enforcement.state_of_policy("a", 1),
            PolicyEnforcementState::Enforced
        );
        assert!(enforcement.update_from_replicas(
            &new,
            &replicas,
            &announced(&[("x", &new), ("y", &old)]),
            &|_| { true }
        ));
        assert!(
            matches!(enforcement.state_of_policy("a", 2), PolicyEnforcementState::Pending(why) if why.starts_with("y "))
        );
        assert!(enforcement.update_from_replicas(
            &new,
            &replicas,
            &announced(&[("x", &new), ("y", &new)]),
            &|_| { true }
        ));
        assert_eq!(
            enforcement.state_of_policy("a", 2),
            PolicyEnforcementState::Enforced
        );
        assert!(
            !enforcement.update_from_replicas(
                &new,
                &replicas,
                &announced(&[("x", &new), ("y", &new)]),
                &|_| { true }
            ),
            "nothing changed"
        );
    }

    #[test]
    fn what_nobody_carries_is_not_in_force() {
        let policies = [policy("a", 1)];
        let mut enforcement = PolicyEnforcement::default();
        enforcement
            .update_from_replicas(&policies, &[], &announced(&[("x", &policies)]), &|_| true);
        assert!(
            matches!(enforcement.state_of_policy("a", 1), PolicyEnforcementState::Pending(why) if why.contains("no replica"))
        );
        let mut enforcement = PolicyEnforcement::default();
        enforcement.update_from_replicas(
            &policies,
            &["x".to_owned()],
            &announced(&[("x", &policies)]),
            &|_| false,
        );
        assert!(
            matches!(enforcement.state_of_policy("a", 1), PolicyEnforcementState::Pending(why) if why.contains("does not call"))
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
            PolicyObject::from_json(object).expect("a policy")
        };
        let replicas = ["x".to_owned()];
        let carried = [policy("c", 2), own("team-a", 2), own("team-b", 7)];
        let wanted = [policy("c", 2), own("team-a", 2), own("team-b", 8)];
        let mut enforcement = PolicyEnforcement::default();
        enforcement.update_from_replicas(
            &wanted,
            &replicas,
            &announced(&[("x", &carried)]),
            &|_| true,
        );
        assert_eq!(
            (
                enforcement.state_of_policy("c", 2),
                enforcement.state_of_policy("team-a", 2)
            ),
            (
                PolicyEnforcementState::Enforced,
                PolicyEnforcementState::Enforced
            ),
            "team-b never stops changing"
        );
        assert!(
            matches!(enforcement.state_of_policy("team-b", 8), PolicyEnforcementState::Pending(why) if why.starts_with("x "))
        );
        let not_b =
            |policy: &PolicyObject| policy.metadata().namespace.as_deref() != Some("team-b");
        enforcement.update_from_replicas(&wanted, &replicas, &announced(&[("x", &wanted)]), &not_b);
        assert!(
            matches!(enforcement.state_of_policy("team-b", 8), PolicyEnforcementState::Pending(why) if why.contains("does not call"))
        );
        assert_eq!(
            PolicySetRevision::parse(&PolicySetRevision::of_policies(&wanted).to_string()),
            PolicySetRevision::of_policies(&wanted)
        );
    }
}
