//! Writes the status of a `PackedBundle` in one patch, if it differs from the API server's.

use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    api::packed_bundle::{PackedBundle, PackedBundleStatus},
    controller::{
        cached_bundle::StoredStatus, reconcile_context::ReconcileContext,
        reconcile_error::ReconcileError, resources::MANAGER, status::overwrite_patch,
    },
};

/// Writes `next` as the status of `object`.
pub(super) async fn write_bundle_status(
    object: &PackedBundle,
    next: &PackedBundleStatus,
    context: &ReconcileContext,
) -> Result<(), ReconcileError> {
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    let api = Api::<StoredStatus>::namespaced(context.client.clone(), &namespace);
    let stored = read_stored_status(&api, &name, context).await?;
    // Compared as JSON: written times have whole seconds.
    let wanted = json!(next);
    if json!(stored.status) == wanted {
        return Ok(());
    }
    let patch = json!({
        "apiVersion": PackedBundle::api_version(&()),
        "kind": PackedBundle::kind(&()),
        "metadata": {"name": name},
        "status": wanted,
    });
    let parameters = PatchParams::apply(MANAGER).force();
    let applied = api
        .patch_status(&name, &parameters, &Patch::Apply(&patch))
        .await?;
    overwrite_foreign_fields(&api, &name, &json!(applied.status), &wanted).await
}

/// The permit for whole objects goes back before the status is written: a write may take as long as
/// other admission webhooks do, and no other reconcile waits for it.
async fn read_stored_status(
    api: &Api<StoredStatus>,
    name: &str,
    context: &ReconcileContext,
) -> Result<StoredStatus, ReconcileError> {
    let _whole = context.read_limiter.acquire_object_permit().await;
    Ok(api.get(name).await?)
}

/// Server-side apply does not remove status fields of other managers; this does.
async fn overwrite_foreign_fields(
    api: &Api<StoredStatus>,
    name: &str,
    applied: &Value,
    wanted: &Value,
) -> Result<(), ReconcileError> {
    if applied == wanted {
        return Ok(());
    }
    let patch = json!({"status": overwrite_patch(applied, wanted)});
    let parameters = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    api.patch_status(name, &parameters, &Patch::Merge(&patch))
        .await?;
    Ok(())
}
