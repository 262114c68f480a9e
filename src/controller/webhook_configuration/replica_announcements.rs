//! Which policies each replica of the webhook has loaded: annotations of its Lease.

use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    api::webhook::{WEBHOOK_SERVICE_NAME, replica_from_annotation},
    controller::{reconcile_context::ReconcileContext, reconcile_error::ReconcileError},
};

/// Annotations of gone replicas that are kept before they are removed. A starting replica is not
/// among the Service's endpoints yet.
const MAX_GONE_REPLICAS: usize = 8;

/// Removes the announcements of replicas that are gone.
pub(super) async fn remove_gone_replicas(
    annotations: &BTreeMap<String, String>,
    replicas: &[String],
    context: &ReconcileContext,
) -> Result<(), ReconcileError> {
    let gone: Vec<&String> = annotations
        .keys()
        .filter(|key| {
            replica_from_annotation(key)
                .is_some_and(|replica| !replicas.iter().any(|name| name == replica))
        })
        .collect();
    if gone.len() < MAX_GONE_REPLICAS || replicas.is_empty() {
        return Ok(());
    }
    let nothing: serde_json::Map<String, Value> = gone
        .into_iter()
        .map(|key| (key.clone(), Value::Null))
        .collect();
    let patch = json!({"metadata": {"annotations": nothing}});
    let leases = Api::<Lease>::namespaced(
        context.client.clone(),
        &context.run_settings.system_namespace,
    );
    leases
        .patch(
            WEBHOOK_SERVICE_NAME,
            &PatchParams::default(),
            &Patch::Merge(&patch),
        )
        .await?;
    Ok(())
}
