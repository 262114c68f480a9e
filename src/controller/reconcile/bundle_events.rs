//! Events about the object that is reconciled. A lost event stops nothing.

use kube::{
    Resource,
    runtime::events::{Event, EventType},
};

use crate::{
    api::packed_bundle::PackedBundle, controller::reconcile_context::ReconcileContext,
    core::job::JobFailure,
};

/// An event that something was done.
pub(super) fn normal_event(reason: &str, action: &str, message: String) -> Event {
    bundle_event(EventType::Normal, reason, action, message)
}

/// An event about a failure.
pub(super) fn warning_event(failure: &JobFailure) -> Event {
    let reason = failure.reason.as_str();
    bundle_event(
        EventType::Warning,
        reason,
        "Reconcile",
        failure.message.clone(),
    )
}

fn bundle_event(type_: EventType, reason: &str, action: &str, message: String) -> Event {
    Event {
        type_,
        reason: reason.to_owned(),
        note: Some(message),
        action: action.to_owned(),
        secondary: None,
    }
}

/// Records an event.
pub(super) async fn publish_event(object: &PackedBundle, event: Event, context: &ReconcileContext) {
    let reason = event.reason.clone();
    if let Err(error) = context
        .events
        .record_event(event, &object.object_ref(&()))
        .await
    {
        tracing::warn!(%error, reason, "an event was not recorded");
    }
}
