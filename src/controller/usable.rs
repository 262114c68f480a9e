//! Says of every policy and trust root whether it can be used: the condition `Ready`. What they judge is not looked at here.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, future::join3};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::DeserializeGuard,
    runtime::{
        Controller,
        controller::{self, Action},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    build::MANAGER,
    context::Context,
    policies::{compile, named},
    trouble::{Trouble, is_not_found},
};
use crate::{
    api::{
        bundle_policy::{BundlePolicy, ClusterBundlePolicy, PolicyObject},
        condition::{self, READY, SUCCEEDED, Wanted},
        trust_root::{TRUSTED_ROOT_KEY, TrustRoot},
    },
    core::{class::Reason, limits::Limits},
};

/// What an object names may change without it, so it is looked at again after this time.
const LOOK_AGAIN: Duration = Duration::from_mins(5);
const AFTER_ERROR: Duration = Duration::from_secs(10);

/// A kind that can be usable or not.
trait Usable: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static {
    /// Fields of the status beside the conditions, or why it cannot be used.
    fn check(&self, context: &Context) -> impl Future<Output = Result<Value, Trouble>> + Send;

    /// The status as it is stored.
    fn status(&self) -> Value;

    /// The conditions as they are stored.
    fn conditions(&self) -> Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
        serde_json::from_value(self.status()["conditions"].clone()).unwrap_or_default()
    }
}

/// Checks them until `stop`.
pub(crate) async fn check_forever(client: Client, context: &Arc<Context>, stop: &CancellationToken) {
    join3(
        check_kind::<ClusterBundlePolicy>(client.clone(), context, stop),
        check_kind::<BundlePolicy>(client.clone(), context, stop),
        check_kind::<TrustRoot>(client, context, stop),
    )
    .await;
}

async fn check_kind<K: Usable>(client: Client, context: &Arc<Context>, stop: &CancellationToken) {
    let config = controller::Config::default().concurrency(2).debounce(Duration::from_millis(50));
    let controller = Controller::new(Api::<DeserializeGuard<K>>::all(client), watcher::Config::default().any_semantic()).with_config(config);
    controller
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

async fn tell<K: Usable>(guarded: &DeserializeGuard<K>, context: &Context) -> Result<Action, Trouble> {
    let Ok(object) = &guarded.0 else { return Ok(Action::await_change()) };
    let (wanted, mut status) = match object.check(context).await {
        Ok(fields) => (ready(true, SUCCEEDED, "it can be used"), fields),
        Err(Trouble::Told(failure)) => (ready(false, failure.reason.as_str(), &failure.message), json!({})),
        Err(error) => return Err(error),
    };
    let generation = object.meta().generation.unwrap_or_default();
    status["observedGeneration"] = generation.into();
    status["conditions"] = json!(condition::merge(&object.conditions(), &[wanted], generation, context.clock.now()));
    if object.status() != status {
        write::<K>(object, &status, context).await?;
    }
    Ok(Action::requeue(LOOK_AGAIN))
}

fn ready(status: bool, reason: &str, message: &str) -> Wanted {
    Wanted { type_: READY, status, reason: reason.to_owned(), message: message.to_owned() }
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
    let request = kube::core::Request::new(uri).patch_subresource("status", &object.name_any(), &parameters, &Patch::Apply(&patch));
    let request = request.map_err(|error| Trouble::new(Reason::Internal, error.to_string()))?;
    match context.client.request::<Value>(request).await {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn stored(status: &impl serde::Serialize) -> Value {
    serde_json::to_value(status).ok().filter(|status| !status.is_null()).unwrap_or_else(|| json!({}))
}

impl Usable for ClusterBundlePolicy {
    async fn check(&self, context: &Context) -> Result<Value, Trouble> {
        let object = PolicyObject::Cluster(Box::new(self.clone()));
        compile(&object, &named(&self.spec.authorities), &context.setup.system_namespace, context).await?;
        Ok(json!({}))
    }

    fn status(&self) -> Value {
        stored(&self.status)
    }
}

impl Usable for BundlePolicy {
    async fn check(&self, context: &Context) -> Result<Value, Trouble> {
        let object = PolicyObject::Namespaced(Box::new(self.clone()));
        compile(&object, &named(&self.spec.authorities), &self.namespace().unwrap_or_default(), context).await?;
        Ok(json!({}))
    }

    fn status(&self) -> Value {
        stored(&self.status)
    }
}

impl Usable for TrustRoot {
    async fn check(&self, context: &Context) -> Result<Value, Trouble> {
        let later = || Trouble::new(Reason::InvalidSpec, "only spec.trustedRoot is supported yet");
        let name = &self.spec.trusted_root.as_ref().ok_or_else(later)?.config_map_ref.name;
        let namespace = &context.setup.system_namespace;
        let mut data = context.secrets.config_map(namespace, name, "spec.trustedRoot.configMapRef").await?;
        let json = data
            .remove(TRUSTED_ROOT_KEY)
            .ok_or_else(|| Trouble::new(Reason::SourceNotFound, format!("ConfigMap {namespace}/{name} has no key {TRUSTED_ROOT_KEY}; add it")))?;
        let root = crate::core::verify::TrustRoot::parse(json.as_bytes(), &Limits::DEFAULT).map_err(|error| Trouble::of(&error))?;
        Ok(json!({"source": "ConfigMap", "contentHash": root.digest().to_string()}))
    }

    fn status(&self) -> Value {
        stored(&self.status)
    }
}
