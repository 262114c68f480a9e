//! The verdict on one use of one reference, common to all interfaces: the command line, the
//! webhook, and policy tests.
//!
//! Every error is a denial by every policy that governs the use. There is no outcome "unknown".

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    memory_budget::MemoryBudget,
    verdict_stage::VerdictStageTracker,
    verification_request::{VerificationRequest, VerifyError},
    verify::{self, BundleEvaluation},
};
use crate::{
    core::{
        digest::Digest,
        display_text::sanitize_text,
        limits::InputLimits,
        policy::{Denial, PolicyDecision, deny_without_evidence},
        reason::{ClassifiedError, Reason},
        reference::TagOrDigest,
        verify::VerificationFindings,
    },
    oci::{ContentSource, OciError},
};

/// The verdict, with its basis.
#[derive(Debug)]
pub struct ReferenceVerdict {
    /// The digest that the reference was resolved to, if it was.
    pub digest: Option<Digest>,
    /// The policies' decision.
    pub decision: PolicyDecision,
    /// The result of verifying each evidence item.
    pub findings: VerificationFindings,
    /// The number of registry requests made.
    pub requests: u64,
}

/// Why evidence is not available.
#[derive(Debug, thiserror::Error)]
enum VerdictError {
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error("{0}")]
    Late(String),
}

impl ClassifiedError for VerdictError {
    fn reason(&self) -> Reason {
        match self {
            Self::Verify(error) => error.reason(),
            Self::Late(_) => Reason::DeadlineExceeded,
        }
    }
}

impl From<OciError> for VerdictError {
    fn from(error: OciError) -> Self {
        Self::Verify(error.into())
    }
}

/// Resolves `selector` in `source` once, and evaluates the result, all within `deadline`. Without a
/// governing policy no request is made.
pub async fn evaluate_reference(
    source: &Arc<dyn ContentSource>,
    selector: &TagOrDigest,
    request: &VerificationRequest<'_>,
    deadline: Option<Duration>,
    limits: &InputLimits,
) -> ReferenceVerdict {
    evaluate_reference_tracked(
        source,
        selector,
        request,
        deadline,
        &VerdictStageTracker::default(),
        limits,
    )
    .await
}

/// The same, and reports meanwhile what the verdict waits for.
pub async fn evaluate_reference_tracked(
    source: &Arc<dyn ContentSource>,
    selector: &TagOrDigest,
    request: &VerificationRequest<'_>,
    deadline: Option<Duration>,
    stage: &VerdictStageTracker,
    limits: &InputLimits,
) -> ReferenceVerdict {
    let mut digest = match selector {
        TagOrDigest::Digest(digest) => Some(*digest),
        TagOrDigest::Tag(_) => None,
    };
    if !request.is_governed() {
        return ReferenceVerdict {
            digest,
            ..denied_verdict(
                request,
                &Denial::new(Reason::Ungoverned, "no policy governs it"),
            )
        };
    }
    let before = source.request_count();
    let judging = Box::pin(resolve_and_evaluate(
        &**source,
        selector,
        request,
        stage,
        limits,
        &mut digest,
    ));
    let evaluated = match deadline {
        Some(limit) => timeout(limit, judging).await.unwrap_or_else(|_| {
            Err(VerdictError::Late(
                stage.timeout_message(&source.location(), limit),
            ))
        }),
        None => judging.await,
    };
    let answer = match evaluated {
        Ok(BundleEvaluation {
            decision, findings, ..
        }) => ReferenceVerdict {
            digest,
            decision,
            findings,
            requests: 0,
        },
        Err(error) => ReferenceVerdict {
            digest,
            ..denied_verdict(request, &denial_from_error(&error))
        },
    };
    ReferenceVerdict {
        requests: source.request_count().saturating_sub(before),
        ..answer
    }
}

/// The verdict when nothing could be fetched: every policy that governs the use denies, for this
/// reason.
pub fn denied_verdict(request: &VerificationRequest<'_>, denial: &Denial) -> ReferenceVerdict {
    let decision = deny_without_evidence(request.policies, &request.policy_scope(), denial);
    ReferenceVerdict {
        digest: None,
        decision,
        findings: VerificationFindings::default(),
        requests: 0,
    }
}

/// A denial with an error as its reason.
pub fn denial_from_error(error: &dyn ClassifiedError) -> Denial {
    Denial::new(error.reason(), sanitize_text(&error.to_string()))
}

async fn resolve_and_evaluate(
    source: &dyn ContentSource,
    selector: &TagOrDigest,
    request: &VerificationRequest<'_>,
    stage: &VerdictStageTracker,
    limits: &InputLimits,
    digest: &mut Option<Digest>,
) -> Result<BundleEvaluation, VerdictError> {
    let mut budget = MemoryBudget::new(request, limits, stage);
    let resolved = budget.resolve_subject(source, selector).await?;
    *digest = Some(resolved.descriptor.digest);
    Ok(verify::evaluate_bundle_within(source, &resolved, request, &mut budget, limits).await?)
}
