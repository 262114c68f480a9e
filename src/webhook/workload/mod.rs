//! Pods, and objects that create Pods: every image is evaluated by the policies that govern its
//! use.

mod images;

use futures::{StreamExt, stream};
use serde_json::Value;

use std::time::Instant;

pub(super) use images::{MAX_USES, WorkloadKind};

use super::{
    image_check::ImageCheckRequest,
    pull_credentials::ReviewCredentials,
    review_request::ReviewRequest,
    review_response::{EvaluatedImage, ReviewResponse},
    webhook_state::WebhookState,
};
use crate::{
    api::installation::{NoMatchAction, NoMatchConfig},
    core::{display_text::sanitize_text, policy::ReferenceUse, reason::Reason},
};

/// The number of images of one object that are evaluated concurrently.
const PARALLEL: usize = 16;

/// Evaluates the images in the request's object.
pub(super) async fn evaluate_workload(
    state: &WebhookState,
    request: &ReviewRequest,
    object: Value,
    old: Option<Value>,
    begun: Instant,
) -> ReviewResponse {
    let kind = &request.admission_request().kind;
    let Some(workload) = WorkloadKind::for_kind(&kind.group, &kind.kind) else {
        let (group, kind) = (sanitize_text(&kind.group), sanitize_text(&kind.kind));
        let message = format!(
            "{kind} of group {group:?} is not a kind whose images are verified; correct the \
                rules of the webhook's entry"
        );
        return ReviewResponse::Invalid {
            field: "kind".into(),
            message,
        };
    };
    let uses = workload.added_images(&object, old.as_ref());
    let credentials = ReviewCredentials::named(
        state.pull_secrets.clone(),
        request.namespace(),
        workload.pull_secrets_in(&object),
    );
    drop((object, old)); // verdicts take a while, and only need the images
    if uses.len() > MAX_USES {
        return ReviewResponse::Forbidden {
            reason: Reason::LimitExceeded,
            field: "spec".into(),
            message: format!(
                "uses {} images, the limit is {MAX_USES}; split it",
                uses.len()
            ),
        };
    }
    let snapshot = state.policies.current();
    let judging: Vec<_> = uses
        .into_iter()
        .map(|image| {
            let ask = ImageCheckRequest {
                field: image.field,
                reference: image.reference,
                used_as: image.used_as,
                namespace: request.namespace().to_owned(),
                credentials: credentials.clone(),
            };
            let snapshot = &snapshot;
            async move {
                let image = state.checker.check_image(&ask, snapshot, begun).await;
                EvaluatedImage::new(image, no_match_action(&state.no_match, ask.used_as))
            }
        })
        .collect();
    ReviewResponse::Evaluated(stream::iter(judging).buffered(PARALLEL).collect().await)
}

/// The action for a use that no policy governs.
pub(super) const fn no_match_action(
    installation: &NoMatchConfig,
    used_as: ReferenceUse,
) -> NoMatchAction {
    match used_as {
        ReferenceUse::PackedBundle => installation.packed_bundle,
        ReferenceUse::ImageVolume => installation.image_volume,
        ReferenceUse::Container => installation.container,
    }
}

#[cfg(test)]
mod tests;
