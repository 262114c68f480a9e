//! Evaluates a bundle: [`super::evidence`] reads its evidence, `core::verify` verifies it, and
//! `core::policy` evaluates the policies.

use super::{
    bundle_contents::{self, BundleContents, BundleContentsError},
    evidence::{self, CollectedEvidence, EvidenceQuery},
    memory_budget::MemoryBudget,
    verdict_stage::VerdictStageTracker,
    verification_request::{VerificationRequest, VerifyError},
};
use crate::{
    core::{
        digest::Digest,
        limits::InputLimits,
        pack::BundleFormatError,
        policy::{
            AdmissionSubject, AdmissionVerdict, BundleLock, Policy, PolicyDecision,
            evaluate_policies, trusted_material,
        },
        reason::Reason,
        verify::{TrustedMaterial, VerificationFindings},
    },
    oci::{ContentSource, ResolvedManifest},
};

/// A verdict with its basis.
#[derive(Debug)]
pub struct BundleEvaluation {
    /// The policies' decision.
    pub decision: PolicyDecision,
    /// The result of verifying each evidence item.
    pub findings: VerificationFindings,
    /// The contents of the bundle, if a policy requires them.
    pub contents: Option<BundleContents>,
}

/// Evaluates `root`.
pub async fn evaluate_bundle(
    source: &dyn ContentSource,
    root: &ResolvedManifest,
    request: &VerificationRequest<'_>,
    limits: &InputLimits,
) -> Result<BundleEvaluation, VerifyError> {
    let stage = VerdictStageTracker::default();
    evaluate_bundle_within(
        source,
        root,
        request,
        &mut MemoryBudget::new(request, limits, &stage),
        limits,
    )
    .await
}

/// The same within the request's memory budget.
pub(super) async fn evaluate_bundle_within(
    source: &dyn ContentSource,
    root: &ResolvedManifest,
    request: &VerificationRequest<'_>,
    within: &mut MemoryBudget<'_>,
    limits: &InputLimits,
) -> Result<BundleEvaluation, VerifyError> {
    let digest = root.descriptor.digest;
    // Signed or not, a document that two parsers could read differently is refused.
    root.parse_document(limits)?;
    let governing: Vec<&Policy> = request
        .policies
        .iter()
        .filter(|policy| policy.governs_scope(&request.policy_scope()))
        .collect();
    if governing.is_empty() {
        let findings = VerificationFindings::default();
        return Ok(BundleEvaluation {
            decision: decide(request, digest, &findings, None),
            findings,
            contents: None,
        });
    }
    let wanted = EvidenceQuery {
        reading: request.reading,
        tags: governing.iter().any(|policy| policy.accepts_cosign_tags()),
    };
    // Only keys of governing policies are used: the result reveals nothing about other policies'
    // keys, not even their number.
    let trust = TrustedMaterial {
        now: Some(request.now),
        ..trusted_material(governing)
    };
    let CollectedEvidence { findings, withheld } =
        evidence::verify_evidence(source, &root.descriptor, wanted, trust, within, limits).await?;
    let decision = decide(request, digest, &findings, None);
    // The embedded lock costs more than the attached evidence, so no unsigned bundle is opened.
    let contents = if needs_embedded_lock(&decision) {
        open_embedded_lock(source, root, limits).await?
    } else {
        None
    };
    let decision = if contents.is_some() {
        decide(request, digest, &findings, contents.as_ref())
    } else {
        decision
    };
    match withheld {
        Some(refusal) if needs_more_evidence(&decision) => Err(refusal.into()),
        _ => Ok(BundleEvaluation {
            decision,
            findings,
            contents,
        }),
    }
}

/// True if the verdict could be another one with more evidence.
fn needs_more_evidence(decision: &PolicyDecision) -> bool {
    let all_deny = decision
        .policies()
        .iter()
        .all(|policy| matches!(policy.verdict, AdmissionVerdict::Deny(_)));
    all_deny || !decision.is_admitted()
}

/// The decision on these findings, without any I/O.
fn decide(
    request: &VerificationRequest<'_>,
    digest: Digest,
    findings: &VerificationFindings,
    contents: Option<&BundleContents>,
) -> PolicyDecision {
    let subject = AdmissionSubject {
        reference: request.reference,
        repository: request.repository,
        digest,
        had_digest: request.had_digest,
        used_as: request.used_as,
        namespace: request.namespace,
        lock: contents.map(|contents| BundleLock {
            lock: &contents.lock,
            digest: contents.plan.lock.digest,
        }),
    };
    evaluate_policies(request.policies, &subject, findings, request.now)
}

/// The contents, with the lock, of a packgate bundle. Any other subject has no lock, which the
/// policy denies.
async fn open_embedded_lock(
    source: &dyn ContentSource,
    root: &ResolvedManifest,
    limits: &InputLimits,
) -> Result<Option<BundleContents>, BundleContentsError> {
    match bundle_contents::open_bundle(source, root, limits).await {
        Ok(contents) => Ok(Some(contents)),
        Err(BundleContentsError::Embedded(BundleFormatError::NotABundle)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// True if the embedded lock is the only thing that a policy still needs.
fn needs_embedded_lock(decision: &PolicyDecision) -> bool {
    decision
        .policies()
        .iter()
        .any(|policy| match &policy.verdict {
            AdmissionVerdict::Deny(denials) => denials
                .iter()
                .all(|denial| denial.reason == Reason::LockMismatch),
            AdmissionVerdict::Admit(_) | AdmissionVerdict::Exempt(_) => false,
        })
}
