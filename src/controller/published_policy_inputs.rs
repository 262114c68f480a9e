//! Lets every user read the `ConfigMap`s of the system namespace that policies refer to, so that
//! `packgate verify --cluster` gives the verdict of the webhook to whoever it denies something.
//!
//! The chart creates the Role, without rules, and binds it to all authenticated users.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use k8s_openapi::api::rbac::v1::{PolicyRule, Role};
use kube::{
    Api,
    api::{Patch, PatchParams},
    core::{DeserializeGuard, ObjectMeta},
    runtime::reflector::Store,
};

use super::{
    reconcile_context::ReconcileContext, reconcile_error::ReconcileError, resources::MANAGER,
    watched_policies::WatchedPolicyStores,
};
use crate::{
    api::{bundle_policy::PolicyInputs, rbac::POLICY_INPUTS_ROLE, trust_root::TrustRoot},
    cluster_reader::is_object_name,
};

/// The interval of checks for work. A check alone sends no request.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The delay after an error of the API server.
const ERROR_RETRY_DELAY: Duration = Duration::from_secs(10);
/// The interval at which the Role is applied again, whoever changed it.
const REAPPLY_INTERVAL: Duration = Duration::from_mins(10);

/// Keeps the Role's rules until it is dropped.
pub(super) async fn publish_policy_inputs_forever(
    context: &ReconcileContext,
    policies: &WatchedPolicyStores,
    trust_roots: &Store<DeserializeGuard<TrustRoot>>,
) {
    let mut applied: Option<(BTreeSet<String>, Instant)> = None;
    loop {
        let names = referenced_config_maps(context, policies, trust_roots);
        let is_done = applied
            .as_ref()
            .is_some_and(|(known, at)| *known == names && at.elapsed() < REAPPLY_INTERVAL);
        let mut wait = POLL_INTERVAL;
        if !is_done {
            match apply_role(&names, context).await {
                Ok(()) => applied = Some((names, Instant::now())),
                Err(error) => {
                    tracing::warn!(
                        %error,
                        role = POLICY_INPUTS_ROLE,
                        "users may not read what policies refer to; retrying soon"
                    );
                    wait = ERROR_RETRY_DELAY;
                }
            }
        }
        tokio::time::sleep(wait).await;
    }
}

/// The names of the `ConfigMap`s of the system namespace.
fn referenced_config_maps(
    context: &ReconcileContext,
    policies: &WatchedPolicyStores,
    trust_roots: &Store<DeserializeGuard<TrustRoot>>,
) -> BTreeSet<String> {
    let roots = trust_roots.state();
    let readable = roots.iter().filter_map(|root| root.0.as_ref().ok());
    let inputs = PolicyInputs {
        policies: policies.readable_policies(),
        trust_roots: readable.cloned().collect(),
        ..PolicyInputs::default()
    };
    let system = &context.run_settings.system_namespace;
    let needed = inputs.needed_config_maps(system).into_iter();
    needed
        // With a name that is none the API server would refuse the whole Role.
        .filter(|(namespace, name)| namespace == system && is_object_name(name))
        .map(|(_, name)| name)
        .collect()
}

async fn apply_role(
    names: &BTreeSet<String>,
    context: &ReconcileContext,
) -> Result<(), ReconcileError> {
    let system = &context.run_settings.system_namespace;
    let roles = Api::<Role>::namespaced(context.client.clone(), system);
    let apply = PatchParams::apply(MANAGER).force();
    roles
        .patch(POLICY_INPUTS_ROLE, &apply, &Patch::Apply(&role(names)))
        .await?;
    Ok(())
}

fn role(names: &BTreeSet<String>) -> Role {
    // A rule without names would be one for all of them.
    let rules = (!names.is_empty()).then(|| PolicyRule {
        api_groups: Some(vec![String::new()]),
        resources: Some(vec!["configmaps".to_owned()]),
        resource_names: Some(names.iter().cloned().collect()),
        verbs: vec!["get".to_owned()],
        ..PolicyRule::default()
    });
    Role {
        metadata: ObjectMeta {
            name: Some(POLICY_INPUTS_ROLE.to_owned()),
            ..ObjectMeta::default()
        },
        rules: Some(rules.into_iter().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_granted_and_no_name_grants_nothing() {
        assert_eq!(role(&BTreeSet::new()).rules, Some(Vec::new()));
        let names = ["keys", "roots"].map(ToOwned::to_owned);
        let rules = role(&names.clone().into()).rules.expect("rules");
        let [rule] = rules.as_slice() else {
            panic!("{rules:?}")
        };
        assert_eq!(rule.resource_names.as_deref(), Some(&names[..]));
        assert_eq!(
            rule.resources.as_deref(),
            Some(&["configmaps".to_owned()][..])
        );
        assert_eq!(rule.verbs, ["get"]);
    }
}
