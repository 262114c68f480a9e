//! The policies that have a say in a namespace, read and compiled.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use kube::{Api, api::ListParams};
use tokio::task::spawn_blocking;

use super::{context::Context, trouble::Trouble};
use crate::{
    api::{
        bundle_policy::{
            BundlePolicy, ClusterBundlePolicy, Compiler, ConfigMapData, Gathered, PolicyObject,
            Snapshot,
        },
        trust_root::TrustRoot,
    },
    core::{
        class::Reason,
        policy::{Kind, Policy},
    },
};

/// How long policies of a namespace are told what was found when they were read together.
const TOGETHER: Duration = Duration::from_secs(2);
/// The same of one that misses something, or names something wrong: that may have come meanwhile.
const AT_ONCE: Duration = Duration::from_millis(300);

/// What was compiled lately: the policies of a namespace are counted together, so they are read
/// together, and told apart.
#[derive(Debug, Default)]
pub(super) struct Compiled {
    /// By namespace; the cluster's under an empty name.
    lately: Mutex<BTreeMap<String, Lately>>,
}

#[derive(Debug, Default)]
struct Lately {
    compiler: Arc<Mutex<Compiler>>,
    found: Option<(Instant, Arc<Snapshot>)>,
}

/// All of the cluster's policies, and the namespace's. One that cannot be used refuses all that it
/// governs.
pub(super) async fn load(namespace: &str, context: &Context) -> Result<Vec<Policy>, Trouble> {
    let cluster = all(&Kind::Cluster, context).await?;
    let own = all(&Kind::Namespaced(namespace.to_owned()), context).await?;
    Ok(cluster
        .policies()
        .iter()
        .chain(own.policies())
        .cloned()
        .collect())
}

/// Can this policy be used?
pub(super) async fn check(object: PolicyObject, context: &Context) -> Result<(), Trouble> {
    let kind = object
        .kind()
        .map_err(|error| Trouble::new(Reason::InvalidSpec, error.to_string()))?;
    let generation = object.metadata().generation.unwrap_or_default();
    let is_it = |policy: &&Policy| {
        policy.name() == object.name() && policy.rules().generation == generation
    };
    let is_still_so = |(age, snapshot): &(Duration, Arc<Snapshot>)| {
        let found = snapshot.policies().iter().find(is_it);
        found.is_some_and(|policy| {
            *age < AT_ONCE
                || policy.fault().is_none()
                || policy.fault_reason() == Reason::LimitExceeded
        })
    };
    let snapshot = match context.compiled.lately(&kind).filter(is_still_so) {
        Some((_, known)) => known,
        None => all(&kind, context).await?,
    };
    match snapshot
        .policies()
        .iter()
        .find(is_it)
        .and_then(|policy| Some((policy.identity(), policy.fault()?, policy.fault_reason())))
    {
        Some((name, fault, reason)) => Err(Trouble::new(
            reason,
            format!("{name} cannot be used, so nothing that it may govern passes: {fault}"),
        )),
        None => Ok(()),
    }
}

/// All policies of the cluster, or of a namespace, as they are now.
async fn all(kind: &Kind, context: &Context) -> Result<Arc<Snapshot>, Trouble> {
    let policies: Vec<PolicyObject> = match kind {
        Kind::Namespaced(namespace) => {
            let own = Api::<BundlePolicy>::namespaced(context.client.clone(), namespace)
                .list(&ListParams::default())
                .await?;
            own.items
                .into_iter()
                .map(|policy| PolicyObject::Namespaced(Arc::new(policy)))
                .collect()
        }
        Kind::Cluster | Kind::AdHoc => {
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
    let gathered = gather(policies, context).await?;
    let (compiler, namespace, now) = (
        context.compiled.compiler(kind),
        context.setup.system_namespace.clone(),
        context.clock.now(),
    );
    let compiling = spawn_blocking(move || {
        compiler
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .compile(&gathered, &namespace, now)
    });
    let snapshot = Arc::new(compiling.await.map_err(|error| {
        Trouble::new(
            Reason::Internal,
            format!("policies cannot be compiled: {error}"),
        )
    })?);
    context.compiled.remember(kind, &snapshot);
    Ok(snapshot)
}

impl Compiled {
    /// What was found, and how long ago.
    fn lately(&self, kind: &Kind) -> Option<(Duration, Arc<Snapshot>)> {
        let all = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, found) = all.get(scope(kind))?.found.as_ref()?;
        Some((since.elapsed(), Arc::clone(found))).filter(|(age, _)| *age < TOGETHER)
    }

    fn compiler(&self, kind: &Kind) -> Arc<Mutex<Compiler>> {
        let mut all = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&all.entry(scope(kind).to_owned()).or_default().compiler)
    }

    /// Keeps what was found, and forgets what is old: a process that does nothing holds nothing.
    fn remember(&self, kind: &Kind, snapshot: &Arc<Snapshot>) {
        let mut all = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, lately| {
            lately
                .found
                .as_ref()
                .is_none_or(|(since, _)| since.elapsed() < TOGETHER)
        });
        all.entry(scope(kind).to_owned()).or_default().found =
            Some((Instant::now(), Arc::clone(snapshot)));
    }
}

fn scope(kind: &Kind) -> &str {
    if let Kind::Namespaced(namespace) = kind {
        namespace
    } else {
        ""
    }
}

/// The policies with everything that they refer to.
async fn gather(policies: Vec<PolicyObject>, context: &Context) -> Result<Gathered, Trouble> {
    let needs_roots = policies
        .iter()
        .any(|policy| !policy.needs().trust_roots.is_empty());
    let trust_roots = if needs_roots {
        Api::<TrustRoot>::all(context.client.clone())
            .list(&ListParams::default())
            .await?
            .items
    } else {
        Vec::new()
    };
    let mut gathered = Gathered {
        policies,
        trust_roots,
        ..Gathered::default()
    };
    let mut config_maps = BTreeMap::new();
    for (namespace, name) in gathered.needed(&context.setup.system_namespace) {
        let found = match context
            .secrets
            .config_map(&namespace, &name, "spec.authorities[].key.configMapRef")
            .await
        {
            Ok(data) if namespace == context.setup.system_namespace => Some(data.into()),
            Ok(data) => Some(ConfigMapData::of_namespace(data)),
            // The compiler says which authority misses it.
            Err(Trouble::Told(failure)) if failure.reason == Reason::SourceNotFound => None,
            Err(error) => return Err(error),
        };
        config_maps.insert((namespace, name), found);
    }
    gathered.config_maps = config_maps;
    Ok(gathered)
}
