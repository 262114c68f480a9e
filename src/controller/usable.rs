//! Says of every policy and trust root whether it can be used: the condition `Ready`. What they
//! judge is not looked at here.

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
    build::MANAGER,
    context::Context,
    policies,
    trouble::{Trouble, is_not_found},
    trust,
    webhook::{InForce, Policies},
};
use crate::{
    api::{
        bundle_policy::{BundlePolicy, ClusterBundlePolicy, PolicyObject},
        condition::{self, ENFORCED, PENDING, READY, SUCCEEDED, Wanted},
        trust_root::TrustRoot,
    },
    core::{class::Reason, job::Failure},
};

/// What an object names may change without it, so it is looked at again after this time.
const LOOK_AGAIN: Duration = Duration::from_mins(5);
const AFTER_ERROR: Duration = Duration::from_secs(10);

/// A kind that can be usable or not.
trait Usable:
    Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static
{
    /// What is known of it, or why it cannot be used.
    fn check(&self, context: &Context) -> impl Future<Output = Result<Checked, Trouble>> + Send;

    /// The status as it is stored.
    fn status(&self) -> Value;

    /// The condition `Enforced`, of a kind that the webhook carries.
    fn enforced(&self, _: &[Condition], _: &Context) -> Option<Wanted> {
        None
    }

    /// The conditions as they are stored.
    fn conditions(&self) -> Vec<Condition> {
        serde_json::from_value(self.status()["conditions"].clone()).unwrap_or_default()
    }
}

/// What is known of an object.
#[derive(Debug)]
pub(super) struct Checked {
    /// Fields of the status beside the conditions.
    pub fields: Value,
    /// Why it cannot be used, if so.
    pub failure: Option<Failure>,
    /// What is told of it otherwise.
    pub message: String,
    /// When it is looked at again.
    pub again: Duration,
}

impl Checked {
    /// It can be used.
    pub(super) fn good(fields: Value) -> Self {
        Self {
            fields,
            failure: None,
            message: "it can be used".to_owned(),
            again: LOOK_AGAIN,
        }
    }

    /// It cannot.
    pub(super) fn bad(fields: Value, failure: Failure) -> Self {
        // What is too much together changes with objects that are not looked at here.
        let again = if failure.reason == Reason::LimitExceeded {
            AFTER_ERROR
        } else {
            LOOK_AGAIN
        };
        Self {
            failure: Some(failure),
            again,
            ..Self::good(fields)
        }
    }

    fn ready(&self) -> Wanted {
        match &self.failure {
            None => ready(true, SUCCEEDED, &self.message),
            Some(failure) => ready(false, failure.reason.as_str(), &failure.message),
        }
    }
}

/// The checks of all kinds.
pub(super) struct Checks {
    cluster: Check<ClusterBundlePolicy>,
    namespaced: Check<BundlePolicy>,
    roots: Check<TrustRoot>,
}

type Check<K> = Controller<DeserializeGuard<K>>;

impl Checks {
    /// Watches them.
    pub(super) fn new(client: &Client) -> Self {
        Self {
            cluster: check(client),
            namespaced: check(client),
            roots: check(client),
        }
    }

    /// Every policy that is watched.
    pub(super) fn policies(&self) -> Policies {
        Policies {
            cluster: self.cluster.store(),
            namespaced: self.namespaced.store(),
        }
    }

    /// Every trust root that is watched.
    pub(super) fn roots(&self) -> Store<DeserializeGuard<TrustRoot>> {
        self.roots.store()
    }

    /// Checks them until `stop`.
    pub(super) async fn run(self, context: &Arc<Context>, stop: &CancellationToken) {
        join3(
            run(self.cluster, context, stop),
            run(self.namespaced, context, stop),
            run(self.roots, context, stop),
        )
        .await;
    }
}

fn check<K: Usable>(client: &Client) -> Check<K> {
    let config = controller::Config::default()
        .concurrency(2)
        .debounce(Duration::from_millis(50));
    Controller::new(
        Api::all(client.clone()),
        watcher::Config::default().any_semantic(),
    )
    .with_config(config)
}

async fn run<K: Usable>(controller: Check<K>, context: &Arc<Context>, stop: &CancellationToken) {
    let carried = WatchStream::from_changes(context.enforcement.subscribe()).map(|_| ());
    controller
        .reconcile_all_on(carried)
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(
            |guarded, context| async move { tell(&guarded, &context).await },
            |_, error, _| {
                tracing::warn!(%error, kind = %K::kind(&()), "tried again soon");
                Action::requeue(AFTER_ERROR)
            },
            Arc::clone(context),
        )
        .for_each(|_| std::future::ready(()))
        .await;
}

async fn tell<K: Usable>(
    guarded: &DeserializeGuard<K>,
    context: &Context,
) -> Result<Action, Trouble> {
    let Ok(object) = &guarded.0 else {
        return Ok(Action::await_change());
    };
    let checked = match object.check(context).await {
        Ok(checked) => checked,
        Err(Trouble::Told(failure)) => Checked::bad(json!({}), failure),
        Err(error) => return Err(error),
    };
    let (wanted, again, mut status) = (checked.ready(), checked.again, checked.fields);
    let generation = object.meta().generation.unwrap_or_default();
    status["observedGeneration"] = generation.into();
    let old = object.conditions();
    let wanted: Vec<Wanted> = [Some(wanted), object.enforced(&old, context)]
        .into_iter()
        .flatten()
        .collect();
    status["conditions"] = json!(condition::merge(
        &old,
        &wanted,
        generation,
        context.clock.now()
    ));
    if object.status() != status {
        write::<K>(object, &status, context).await?;
    }
    Ok(Action::requeue(again))
}

fn ready(status: bool, reason: &str, message: &str) -> Wanted {
    Wanted {
        type_: READY,
        status,
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

async fn write<K: Usable>(object: &K, status: &Value, context: &Context) -> Result<(), Trouble> {
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
    let request = request.map_err(|error| Trouble::new(Reason::Internal, error.to_string()))?;
    match context.client.request::<Value>(request).await {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Does the webhook carry this generation?
fn in_force(metadata: &ObjectMeta, old: &[Condition], context: &Context) -> Option<Wanted> {
    let generation = metadata.generation.unwrap_or_default();
    let enforced = |status, reason: &str, message: String| {
        Some(Wanted {
            type_: ENFORCED,
            status,
            reason: reason.to_owned(),
            message,
        })
    };
    let known = context
        .enforcement
        .borrow()
        .of(metadata.uid.as_deref().unwrap_or_default(), generation);
    match known {
        InForce::Yes => enforced(
            true,
            SUCCEEDED,
            "every replica of the webhook carries it".to_owned(),
        ),
        InForce::NotYet(why) => enforced(false, PENDING, why),
        InForce::Unknown => {
            let said = old.iter().find(|said| {
                said.type_ == ENFORCED && said.observed_generation == Some(generation)
            });
            said.map_or_else(
                || enforced(false, PENDING, "not known yet".to_owned()),
                |said| enforced(said.status == "True", &said.reason, said.message.clone()),
            )
        }
    }
}

fn stored(status: &impl serde::Serialize) -> Value {
    serde_json::to_value(status)
        .ok()
        .filter(|status| !status.is_null())
        .unwrap_or_else(|| json!({}))
}

impl Usable for ClusterBundlePolicy {
    async fn check(&self, context: &Context) -> Result<Checked, Trouble> {
        policies::check(PolicyObject::Cluster(Arc::new(self.clone())), context)
            .await
            .map(|()| Checked::good(json!({})))
    }

    fn status(&self) -> Value {
        stored(&self.status)
    }

    fn enforced(&self, old: &[Condition], context: &Context) -> Option<Wanted> {
        in_force(self.meta(), old, context)
    }
}

impl Usable for BundlePolicy {
    async fn check(&self, context: &Context) -> Result<Checked, Trouble> {
        policies::check(PolicyObject::Namespaced(Arc::new(self.clone())), context)
            .await
            .map(|()| Checked::good(json!({})))
    }

    fn status(&self) -> Value {
        stored(&self.status)
    }

    fn enforced(&self, old: &[Condition], context: &Context) -> Option<Wanted> {
        in_force(self.meta(), old, context)
    }
}

impl Usable for TrustRoot {
    async fn check(&self, context: &Context) -> Result<Checked, Trouble> {
        trust::check(self, context).await
    }

    fn status(&self) -> Value {
        stored(&self.status)
    }
}
