//! The policies that apply in a namespace, read and compiled.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use super::{reconcile_context::ReconcileContext, reconcile_error::ReconcileError};
use crate::{
    api::bundle_policy::{PolicyObject, PolicySnapshot},
    cluster_reader::{ClusterReadError, list_policies, read_policy_inputs},
    core::{
        policy::{Policy, PolicyOrigin},
        reason::Reason,
    },
    service::cpu_work::run_cpu_work,
};

/// How long the compiled policies are used for a policy with a missing or invalid reference, which
/// may have been resolved meanwhile.
const UNUSABLE_POLICY_TTL: Duration = Duration::from_millis(300);

/// All policies of the cluster and of the namespace. One that cannot be compiled denies every use
/// that it governs.
pub(super) async fn load_policies(
    namespace: &str,
    context: &ReconcileContext,
) -> Result<Vec<Policy>, ReconcileError> {
    let cluster = compile_policies(&PolicyOrigin::Cluster, context).await?;
    let own = compile_policies(&PolicyOrigin::Namespaced(namespace.to_owned()), context).await?;
    Ok(cluster
        .policies()
        .iter()
        .chain(own.policies())
        .cloned()
        .collect())
}

/// Checks that this policy can be enforced.
pub(super) async fn check_policy(
    object: PolicyObject,
    context: &ReconcileContext,
) -> Result<(), ReconcileError> {
    let kind = object
        .kind()
        .map_err(|error| ReconcileError::new(Reason::InvalidSpec, error.to_string()))?;
    let generation = object.metadata().generation.unwrap_or_default();
    let is_it = |policy: &&Policy| {
        policy.name() == object.name() && policy.rules().generation == generation
    };
    let is_still_so = |(age, snapshot): &(Duration, Arc<PolicySnapshot>)| {
        let found = snapshot.policies().iter().find(is_it);
        found.is_some_and(|policy| {
            *age < UNUSABLE_POLICY_TTL
                || policy.fault_message().is_none()
                || policy.fault_reason() == Reason::LimitExceeded
        })
    };
    let snapshot = match context
        .policy_cache
        .recent_snapshot(&kind)
        .filter(is_still_so)
    {
        Some((_, known)) => known,
        None => compile_policies(&kind, context).await?,
    };
    match snapshot.policies().iter().find(is_it).and_then(|policy| {
        Some((
            policy.identity(),
            policy.fault_message()?,
            policy.fault_reason(),
        ))
    }) {
        Some((name, fault, reason)) => Err(ReconcileError::new(
            reason,
            format!("{name} cannot be used, so everything that it may govern is denied: {fault}"),
        )),
        None => Ok(()),
    }
}

/// The current policies of the cluster, or of a namespace.
async fn compile_policies(
    kind: &PolicyOrigin,
    context: &ReconcileContext,
) -> Result<Arc<PolicySnapshot>, ReconcileError> {
    let system_namespace = &context.run_settings.system_namespace;
    let policies = list_policies(&context.client, kind).await?;
    let inputs = read_policy_inputs(&context.client, policies, system_namespace).await?;
    let (compiler, namespace, now) = (
        context.policy_cache.scope_compiler(kind),
        system_namespace.clone(),
        context.clock.now(),
    );
    let compiling = run_cpu_work(move || {
        compiler
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .compile_snapshot(&inputs, &namespace, now)
    });
    let snapshot = Arc::new(compiling.await.map_err(|error| {
        ReconcileError::new(
            Reason::Internal,
            format!("policies cannot be compiled: {error}"),
        )
    })?);
    context.policy_cache.store_snapshot(kind, &snapshot);
    Ok(snapshot)
}

impl From<ClusterReadError> for ReconcileError {
    fn from(error: ClusterReadError) -> Self {
        match error {
            ClusterReadError::Api { error, .. } => Self::Api(error),
            ClusterReadError::InvalidName { .. } => {
                Self::new(Reason::InvalidSpec, error.to_string())
            }
        }
    }
}
