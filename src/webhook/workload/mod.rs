//! Pods, and objects that make Pods: every image that they use is judged by the policies of its
//! use.

mod uses;

use futures::{StreamExt, stream};
use serde_json::Value;

use std::time::Instant;

pub(super) use uses::{MAX_USES, Workload};

use super::{
    State,
    check::Ask,
    respond::{Answer, Judged},
    review::Request,
};
use crate::{
    api::installation::{NoMatch, NoMatchAction},
    core::{class::Reason, policy::Use, verify::shorten},
};

/// Images of one object that are judged at once.
const PARALLEL: usize = 16;

/// Judges what the request brings.
pub(super) async fn judge(
    state: &State,
    request: &Request,
    object: Value,
    old: Option<Value>,
    begun: Instant,
) -> Answer {
    let kind = &request.inner().kind;
    let Some(workload) = Workload::of(&kind.group, &kind.kind) else {
        let (group, kind) = (shorten(&kind.group), shorten(&kind.kind));
        let message = format!(
            "{kind} of group {group:?} is none of the kinds whose images are judged; correct the \
                rules of the webhook's entry"
        );
        return Answer::Shape {
            field: "kind".into(),
            message,
        };
    };
    let uses = workload.added(&object, old.as_ref());
    drop((object, old)); // the verdicts may take a while, and need the images only
    if uses.len() > MAX_USES {
        return Answer::Forbidden {
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
            let ask = Ask {
                field: image.field,
                reference: image.reference,
                used_as: image.used_as,
                namespace: request.namespace().to_owned(),
                credential: None,
            };
            let snapshot = &snapshot;
            async move {
                let report = state.checker.check(&ask, snapshot, begun).await;
                Judged {
                    no_match: no_match(&state.no_match, ask.used_as),
                    report,
                }
            }
        })
        .collect();
    Answer::Judged(stream::iter(judging).buffered(PARALLEL).collect().await)
}

/// What a use gets that no policy governs.
pub(super) const fn no_match(installation: &NoMatch, used_as: Use) -> NoMatchAction {
    match used_as {
        Use::PackedBundle => installation.packed_bundle,
        Use::ImageVolume => installation.image_volume,
        Use::Container => installation.container,
    }
}

#[cfg(test)]
mod tests;
