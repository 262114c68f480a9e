//! Reads the object that is reconciled, without its lock: that is read again when it is resolved,
//! and until then there may be long waits.

use kube::{Api, core::DeserializeGuard};

use crate::{
    api::packed_bundle::PackedBundle,
    controller::{
        cached_bundle::strip_large_fields, reconcile_context::ReconcileContext,
        reconcile_error::ReconcileError,
    },
};

/// The object, unless there is nothing to reconcile: it is gone, it is being deleted, or it cannot
/// be parsed.
pub(super) async fn read_bundle(
    namespace: &str,
    name: &str,
    context: &ReconcileContext,
) -> Result<Option<PackedBundle>, ReconcileError> {
    match read_stripped(namespace, name, context).await? {
        None => Ok(None),
        Some(Ok(object)) => Ok(Some(object)
            .filter(|object: &PackedBundle| object.metadata.deletion_timestamp.is_none())),
        Some(Err(error)) => {
            tracing::warn!(
                namespace,
                name,
                error,
                "an object is stored that cannot be read; \
                apply it again"
            );
            Ok(None)
        }
    }
}

/// Holds the permit for whole objects only while one is in memory.
async fn read_stripped(
    namespace: &str,
    name: &str,
    context: &ReconcileContext,
) -> Result<Option<Result<PackedBundle, String>>, ReconcileError> {
    let api = Api::<DeserializeGuard<PackedBundle>>::namespaced(context.client.clone(), namespace);
    let _whole = context.read_limiter.acquire_object_permit().await;
    let found = api.get_opt(name).await?;
    Ok(found.map(|DeserializeGuard(object)| match object {
        Ok(mut object) => {
            strip_large_fields(&mut object);
            Ok(object)
        }
        Err(invalid) => Err(invalid.error),
    }))
}
