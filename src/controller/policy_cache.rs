//! The policies that apply in a namespace, read and compiled.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use kube::{Api, api::ListParams};
use tokio::task::spawn_blocking;

use super::{reconcile_context::ReconcileContext, reconcile_error::ReconcileError};
use crate::{
    api::{
        bundle_policy::{
            BundlePolicy, ClusterBundlePolicy, ConfigMapData, PolicyCompiler, PolicyInputs,
            PolicyObject, PolicySnapshot,
        },
        trust_root::TrustRoot,
    },
    core::{
        policy::{Policy, PolicyOrigin},
        reason::Reason,
    },
};

/// How long the compiled policies of a namespace are used for its other policies.
const COMPILED_POLICY_TTL: Duration = Duration::from_secs(2);
/// The same for a policy with a missing or invalid reference, which may have been resolved
/// meanwhile.
const UNUSABLE_POLICY_TTL: Duration = Duration::from_millis(300);

/// Recently compiled policies: those of a namespace share a budget, so they are read and compiled
/// together, and reported one by one.
#[derive(Debug, Default)]
pub(super) struct CompiledPolicyCache {
    /// By namespace; the cluster's under an empty name.
    entries: Mutex<BTreeMap<String, CompiledPolicyCacheEntry>>,
}

#[derive(Debug, Default)]
struct CompiledPolicyCacheEntry {
    compiler: Arc<Mutex<PolicyCompiler>>,
    found: Option<(Instant, Arc<PolicySnapshot>)>,
}

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
    let policies: Vec<PolicyObject> = match kind {
        PolicyOrigin::Namespaced(namespace) => {
            let own = Api::<BundlePolicy>::namespaced(context.client.clone(), namespace)
                .list(&ListParams::default())
                .await?;
            own.items
                .into_iter()
                .map(|policy| PolicyObject::Namespaced(Arc::new(policy)))
                .collect()
        }
        PolicyOrigin::Cluster | PolicyOrigin::AdHoc => {
            let cluster = Api::<ClusterBundlePolicy>::all(context.client.clone())
                .list(&ListParams::default())
                .await?;
            cluster
                .items
                .into_iter()
                .map(|policy| PolicyObject::Cluster(Arc::new(policy)))
                .collect()
        }
    };
    let inputs = resolve_policy_inputs(policies, context).await?;
    let (compiler, namespace, now) = (
        context.policy_cache.scope_compiler(kind),
        context.run_settings.system_namespace.clone(),
        context.clock.now(),
    );
    let compiling = spawn_blocking(move || {
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

impl CompiledPolicyCache {
    /// A cached snapshot, if it is recent.
    fn recent_snapshot(&self, kind: &PolicyOrigin) -> Option<(Duration, Arc<PolicySnapshot>)> {
        let all = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, found) = all.get(scope_key(kind))?.found.as_ref()?;
        Some((since.elapsed(), Arc::clone(found))).filter(|(age, _)| *age < COMPILED_POLICY_TTL)
    }

    fn scope_compiler(&self, kind: &PolicyOrigin) -> Arc<Mutex<PolicyCompiler>> {
        let mut all = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&all.entry(scope_key(kind).to_owned()).or_default().compiler)
    }

    /// Caches a snapshot and drops expired ones: an idle process keeps none.
    fn store_snapshot(&self, kind: &PolicyOrigin, snapshot: &Arc<PolicySnapshot>) {
        let mut all = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, lately| {
            lately
                .found
                .as_ref()
                .is_none_or(|(since, _)| since.elapsed() < COMPILED_POLICY_TTL)
        });
        all.entry(scope_key(kind).to_owned()).or_default().found =
            Some((Instant::now(), Arc::clone(snapshot)));
    }
}

fn scope_key(kind: &PolicyOrigin) -> &str {
    if let PolicyOrigin::Namespaced(namespace) = kind {
        namespace
    } else {
        ""
    }
}

/// The policies with the objects that they refer to.
async fn resolve_policy_inputs(
    policies: Vec<PolicyObject>,
    context: &ReconcileContext,
) -> Result<PolicyInputs, ReconcileError> {
    let needs_roots = policies
        .iter()
        .any(|policy| !policy.referenced_names().trust_roots.is_empty());
    let trust_roots = if needs_roots {
        Api::<TrustRoot>::all(context.client.clone())
            .list(&ListParams::default())
            .await?
            .items
    } else {
        Vec::new()
    };
    let mut inputs = PolicyInputs {
        policies,
        trust_roots,
        ..PolicyInputs::default()
    };
    let mut config_maps = BTreeMap::new();
    for (namespace, name) in inputs.needed_config_maps(&context.run_settings.system_namespace) {
        let found = match context
            .secrets
            .read_config_map(&namespace, &name, "spec.authorities[].key.configMapRef")
            .await
        {
            Ok(data) if namespace == context.run_settings.system_namespace => Some(data.into()),
            Ok(data) => Some(ConfigMapData::with_policy_keys_only(data)),
            // The compiler reports which authority refers to it.
            Err(ReconcileError::StatusFailure(failure))
                if failure.reason == Reason::SourceNotFound =>
            {
                None
            }
            Err(error) => return Err(error),
        };
        config_maps.insert((namespace, name), found);
    }
    inputs.config_maps = config_maps;
    Ok(inputs)
}
