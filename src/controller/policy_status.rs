//! Sets the condition `Ready` of every policy and trust root: whether it can be used. What they
//! admit is not checked here.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, future::join3};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::{DeserializeGuard, ObjectMeta},
    runtime::{
        Controller,
        controller::{self, Action},
        reflector::Store,
        watcher,
    },
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;

use super::{
    applicable_policies::check_policy,
    policy_enforcement::PolicyEnforcementState,
    readiness::{ERROR_RETRY_DELAY, ReadinessResult},
    reconcile_context::ReconcileContext,
    reconcile_error::{ReconcileError, is_not_found},
    resources::MANAGER,
    trust_root_refresh,
    watched_policies::WatchedPolicyStores,
};
use crate::{
    api::{
        bundle_policy::{BundlePolicy, ClusterBundlePolicy, PolicyObject},
        condition::{self, DesiredCondition, ENFORCED, PENDING, SUCCEEDED},
        trust_root::TrustRoot,
    },
    core::reason::Reason,
};

/// A kind with a `Ready` condition.
trait ReadinessCheckedResource:
    Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static
{
    /// The result of the check, or why the object cannot be used.
    fn check_readiness(
        &self,
        context: &ReconcileContext,
    ) -> impl Future<Output = Result<ReadinessResult, ReconcileError>> + Send;

    /// The status as stored.
    fn stored_status(&self) -> Value;

    /// The condition `Enforced`, for kinds that the webhook loads.
    fn enforced_condition(
        &self,
        _: &[Condition],
        _: &ReconcileContext,
    ) -> Option<DesiredCondition> {
        None
    }

    /// The conditions as stored.
    fn stored_conditions(&self) -> Vec<Condition> {
        serde_json::from_value(self.stored_status()["conditions"].clone()).unwrap_or_default()
    }
}

/// The readiness controllers of all kinds.
pub(super) struct ReadinessControllers {
    cluster: ReadinessController<ClusterBundlePolicy>,
    namespaced: ReadinessController<BundlePolicy>,
    roots: ReadinessController<TrustRoot>,
}

type ReadinessController<K> = Controller<DeserializeGuard<K>>;

impl ReadinessControllers {
    /// Starts their watches.
    pub(super) fn new(client: &Client) -> Self {
        Self {
            cluster: new_controller(client),
            namespaced: new_controller(client),
            roots: new_controller(client),
        }
    }

    /// Every watched policy.
    pub(super) fn policy_stores(&self) -> WatchedPolicyStores {
        WatchedPolicyStores {
            cluster: self.cluster.store(),
            namespaced: self.namespaced.store(),
        }
    }

    /// Every watched trust root.
    pub(super) fn trust_root_store(&self) -> Store<DeserializeGuard<TrustRoot>> {
        self.roots.store()
    }

    /// Runs them until `stop`.
    pub(super) async fn run_all(self, context: &Arc<ReconcileContext>, stop: &CancellationToken) {
        join3(
            run_controller(self.cluster, context, stop),
            run_controller(self.namespaced, context, stop),
            run_controller(self.roots, context, stop),
        )
        .await;
    }
}

fn new_controller<K: ReadinessCheckedResource>(client: &Client) -> ReadinessController<K> {
    let config = controller::Config::default()
        .concurrency(2)
        .debounce(Duration::from_millis(50));
    Controller::new(
        Api::all(client.clone()),
        watcher::Config::default().any_semantic(),
    )
    .with_config(config)
}

async fn run_controller<K: ReadinessCheckedResource>(
    controller: ReadinessController<K>,
    context: &Arc<ReconcileContext>,
    stop: &CancellationToken,
) {
    let carried = WatchStream::from_changes(context.enforcement.subscribe()).map(|_| ());
    controller
        .reconcile_all_on(carried)
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(
            |guarded, context| async move { update_status(&guarded, &context).await },
            |_, error, _| {
                tracing::warn!(%error, kind = %K::kind(&()), "readiness check failed; retrying soon");
                Action::requeue(ERROR_RETRY_DELAY)
            },
            Arc::clone(context),
        )
        .for_each(|_| std::future::ready(()))
        .await;
}

async fn update_status<K: ReadinessCheckedResource>(
    guarded: &DeserializeGuard<K>,
    context: &ReconcileContext,
) -> Result<Action, ReconcileError> {
    let Ok(object) = &guarded.0 else {
        return Ok(Action::await_change());
    };
    let checked = match object.check_readiness(context).await {
        Ok(checked) => checked,
        Err(ReconcileError::StatusFailure(failure)) => {
            ReadinessResult::with_failure(json!({}), failure)
        }
        Err(error) => return Err(error),
    };
    let (wanted, again, mut status) = (checked.ready_condition(), checked.again, checked.fields);
    let generation = object.meta().generation.unwrap_or_default();
    status["observedGeneration"] = generation.into();
    let old = object.stored_conditions();
    let wanted: Vec<DesiredCondition> = [Some(wanted), object.enforced_condition(&old, context)]
        .into_iter()
        .flatten()
        .collect();
    status["conditions"] = json!(condition::merge_conditions(
        &old,
        &wanted,
        generation,
        context.clock.now()
    ));
    if object.stored_status() != status {
        apply_status::<K>(object, &status, context).await?;
    }
    Ok(Action::requeue(again))
}

async fn apply_status<K: ReadinessCheckedResource>(
    object: &K,
    status: &Value,
    context: &ReconcileContext,
) -> Result<(), ReconcileError> {
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": object.name_any(), "namespace": object.namespace()},
        "status": status,
    });
    let parameters = PatchParams::apply(MANAGER).force();
    let uri = K::url_path(&(), object.namespace().as_deref());
    let request = kube::core::Request::new(uri).patch_subresource(
        "status",
        &object.name_any(),
        &parameters,
        &Patch::Apply(&patch),
    );
    let request =
        request.map_err(|error| ReconcileError::new(Reason::Internal, error.to_string()))?;
    match context.client.request::<Value>(request).await {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The condition `Enforced`, for whether the webhook has loaded this generation.
fn build_enforced_condition(
    metadata: &ObjectMeta,
    old: &[Condition],
    context: &ReconcileContext,
) -> Option<DesiredCondition> {
    let generation = metadata.generation.unwrap_or_default();
    let enforced = |status, reason: &str, message: String| {
        Some(DesiredCondition {
            type_: ENFORCED,
            status,
            reason: reason.to_owned(),
            message,
        })
    };
    let known = context
        .enforcement
        .borrow()
        .state_of_policy(metadata.uid.as_deref().unwrap_or_default(), generation);
    match known {
        PolicyEnforcementState::Enforced => enforced(
            true,
            SUCCEEDED,
            "every replica of the webhook has loaded it".to_owned(),
        ),
        PolicyEnforcementState::Pending(why) => enforced(false, PENDING, why),
        PolicyEnforcementState::Unknown => {
            let said = old.iter().find(|said| {
                said.type_ == ENFORCED && said.observed_generation == Some(generation)
            });
            said.map_or_else(
                || enforced(false, PENDING, "enforcement is not known yet".to_owned()),
                |said| enforced(said.status == "True", &said.reason, said.message.clone()),
            )
        }
    }
}

fn status_as_json(status: &impl serde::Serialize) -> Value {
    serde_json::to_value(status)
        .ok()
        .filter(|status| !status.is_null())
        .unwrap_or_else(|| json!({}))
}

macro_rules! policy_readiness {
    ($policy:ty, $origin:ident) => {
        impl ReadinessCheckedResource for $policy {
            async fn check_readiness(
                &self,
                context: &ReconcileContext,
            ) -> Result<ReadinessResult, ReconcileError> {
                check_policy(PolicyObject::$origin(Arc::new(self.clone())), context)
                    .await
                    .map(|()| ReadinessResult::with_fields(json!({})))
            }

            fn stored_status(&self) -> Value {
                status_as_json(&self.status)
            }

            fn enforced_condition(
                &self,
                old: &[Condition],
                context: &ReconcileContext,
            ) -> Option<DesiredCondition> {
                build_enforced_condition(self.meta(), old, context)
            }
        }
    };
}

policy_readiness!(ClusterBundlePolicy, Cluster);
policy_readiness!(BundlePolicy, Namespaced);

impl ReadinessCheckedResource for TrustRoot {
    async fn check_readiness(
        &self,
        context: &ReconcileContext,
    ) -> Result<ReadinessResult, ReconcileError> {
        trust_root_refresh::check_trust_root(self, context).await
    }

    fn stored_status(&self) -> Value {
        status_as_json(&self.status)
    }
}
