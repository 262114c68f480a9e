//! The verdict on one use of one reference, as every face gives it: the command line, the webhook,
//! and what a policy author tries out.
//!
//! Whatever goes wrong on the way is a denial by every policy that governs the use. There is no
//! outcome "unknown".

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    memory_budget::MemoryBudget,
    verdict_stage::VerdictStageTracker,
    verify::{self, BundleEvaluation, VerificationRequest, VerifyError},
};
use crate::{
    core::{
        digest::Digest,
        limits::InputLimits,
        policy::{Denial, PolicyDecision, deny_without_evidence},
        reason::{ClassifiedError, Reason},
        reference::TagOrDigest,
        verify::{VerificationFindings, sanitize_text},
    },
    oci::{ContentSource, OciError},
};

/// The answer, with what it stands on.
#[derive(Debug)]
pub struct ReferenceVerdict {
    /// What the reference was resolved to, if it was.
    pub digest: Option<Digest>,
    /// What the policies say.
    pub decision: PolicyDecision,
    /// What was found out about each piece of evidence.
    pub findings: VerificationFindings,
    /// Requests that it took.
    pub requests: u64,
}

/// Why evidence could not be had.
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

/// Resolves `selector` in `source` once, and judges what it names, all within `deadline`. Nothing
/// is asked for what no policy governs.
pub async fn evaluate_reference(
    source: &Arc<dyn ContentSource>,
    selector: &TagOrDigest,
    question: &VerificationRequest<'_>,
    deadline: Option<Duration>,
    limits: &InputLimits,
) -> ReferenceVerdict {
    evaluate_reference_tracked(
        source,
        selector,
        question,
        deadline,
        &VerdictStageTracker::default(),
        limits,
    )
    .await
}

/// The same, and tells meanwhile what the answer waits for.
pub async fn evaluate_reference_tracked(
    source: &Arc<dyn ContentSource>,
    selector: &TagOrDigest,
    question: &VerificationRequest<'_>,
    deadline: Option<Duration>,
    stage: &VerdictStageTracker,
    limits: &InputLimits,
) -> ReferenceVerdict {
    let mut digest = match selector {
        TagOrDigest::Digest(digest) => Some(*digest),
        TagOrDigest::Tag(_) => None,
    };
    if !question.is_governed() {
        return ReferenceVerdict {
            digest,
            ..denied_verdict(
                question,
                &Denial::new(Reason::Ungoverned, "no policy governs it"),
            )
        };
    }
    let before = source.request_count();
    let judging = Box::pin(resolve_and_evaluate(
        &**source,
        selector,
        question,
        stage,
        limits,
        &mut digest,
    ));
    let judged = match deadline {
        Some(limit) => timeout(limit, judging).await.unwrap_or_else(|_| {
            Err(VerdictError::Late(
                stage.timeout_message(&source.location(), limit),
            ))
        }),
        None => judging.await,
    };
    let answer = match judged {
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
            ..denied_verdict(question, &denial_from_error(&error))
        },
    };
    ReferenceVerdict {
        requests: source.request_count().saturating_sub(before),
        ..answer
    }
}

/// The answer when nothing could be asked: every policy that governs the use refuses, for this
/// reason.
pub fn denied_verdict(question: &VerificationRequest<'_>, denial: &Denial) -> ReferenceVerdict {
    let decision = deny_without_evidence(question.policies, &question.policy_scope(), denial);
    ReferenceVerdict {
        digest: None,
        decision,
        findings: VerificationFindings::default(),
        requests: 0,
    }
}

/// An error as the reason of a denial.
pub fn denial_from_error(error: &dyn ClassifiedError) -> Denial {
    Denial::new(error.reason(), sanitize_text(&error.to_string()))
}

async fn resolve_and_evaluate(
    source: &dyn ContentSource,
    selector: &TagOrDigest,
    question: &VerificationRequest<'_>,
    stage: &VerdictStageTracker,
    limits: &InputLimits,
    digest: &mut Option<Digest>,
) -> Result<BundleEvaluation, VerdictError> {
    let mut room = MemoryBudget::new(question, limits, stage);
    let resolved = room.resolve_subject(source, selector).await?;
    *digest = Some(resolved.descriptor.digest);
    Ok(verify::evaluate_bundle_within(source, &resolved, question, &mut room, limits).await?)
}
