//! Reads bundles back from the registry and verifies them with the common verifier. Only these
//! findings reach the status.

use std::time::Duration;

use super::{
    accepted_bundle::{AcceptedBundle, UnsignedReason},
    applicable_policies,
    reconcile_context::ReconcileContext,
    reconcile_error::ReconcileError,
    signer_policy::build_signer_policy,
};
use crate::{
    api::{
        installation::NoMatchAction,
        packed_bundle::{BundleAdoption, EvidenceStatus, PackingRequest},
    },
    core::{
        digest::Digest,
        job::JobFailure,
        limits::InputLimits,
        policy::{
            AdmissionGrounds, AdmissionProof, AdmissionVerdict, Denials, EnforcementMode, Policy,
            PolicyAuthority, PolicyDecision, PolicyIdentity,
        },
        reason::Reason,
        reference::{ImageTag, PinnedReference},
        sbom::SbomDocument,
        verify::SignerIdentity,
    },
    service::{
        bundle_state::{BundleState, BundleStateRequest, read_bundle_state},
        registries::NamedDockerConfig,
        verify::BundleEvaluation,
    },
};

/// The deadline of the verdict on one bundle. No API request waits for it, but one bundle must not
/// delay the others.
const DEADLINE: Duration = Duration::from_mins(1);

/// Verifies a bundle of a run: with the installation's or the tenant's signer and builder, with the
/// frozen lock, and with every governing policy.
pub(super) async fn verify_packed_bundle(
    namespace: &str,
    packing: &PackingRequest,
    lock: Digest,
    digest: Digest,
    tag: Option<ImageTag>,
    context: &ReconcileContext,
) -> Result<AcceptedBundle, ReconcileError> {
    let reference = packing.repository.clone().pin_to_digest(digest);
    let secret = packing.push_secret.as_deref();
    let field = "spec.destination.secretRef";
    let configs = read_docker_config(namespace, secret, field, context).await?;
    let own = build_signer_policy(namespace, packing, lock, context).await?;
    let is_signed = own.is_some();
    let signer = own
        .as_ref()
        .and_then(|own| own.rules().authorities.first())
        .cloned();
    let mut policies = applicable_policies::load_policies(namespace, context).await?;
    policies.extend(own);
    let state = read_state_in_time(
        &reference,
        tag.as_ref(),
        &configs,
        namespace,
        &policies,
        context,
    )
    .await?;
    let CombinedPolicyResult {
        evidence, warnings, ..
    } = match combine_verdicts(&state.judgement.decision, signer.as_ref())? {
        Some(combined) => combined,
        None if is_signed => {
            return Err(ReconcileError::new(
                Reason::Internal,
                "the policy for the signer of this run did not match",
            ));
        }
        None => CombinedPolicyResult::default(),
    };
    if state.size.is_none_or(|size| size.lock != lock) {
        return Err(ReconcileError::new(
            Reason::LockMismatch,
            format!("{reference} was not packed from the frozen lock {lock}"),
        ));
    }
    let grounds = admission_grounds(&state.judgement.decision, &reference)?;
    let evidence = with_sbom_evidence(evidence, packing, &state.judgement, signer.as_ref())?;
    Ok(AcceptedBundle {
        reference,
        tag,
        size: state.size,
        evidence,
        warnings,
        unsigned: (!is_signed).then_some(UnsignedReason::AllowedByInstallation),
        grounds,
    })
}

/// The credentials that the object names in `field`; none if it names none.
pub(super) async fn read_docker_config(
    namespace: &str,
    secret: Option<&str>,
    field: &str,
    context: &ReconcileContext,
) -> Result<Vec<NamedDockerConfig>, ReconcileError> {
    let Some(name) = secret else {
        return Ok(Vec::new());
    };
    let secrets = &context.secrets;
    let bytes = secrets.read_docker_config(namespace, name, field).await?;
    let config = NamedDockerConfig::parse(&format!("Secret {namespace}/{name}"), &bytes);
    Ok(vec![config.map_err(|error| {
        ReconcileError::from_classified(&error)
    })?])
}

/// The evidence, with the required SBOM: exactly the document that the bundle's lock names,
/// attested by the same signer. An attestation with another document in the registry does not
/// count.
fn with_sbom_evidence(
    mut evidence: Vec<EvidenceStatus>,
    packing: &PackingRequest,
    judgement: &BundleEvaluation,
    own: Option<&PolicyAuthority>,
) -> Result<Vec<EvidenceStatus>, ReconcileError> {
    let (Some(format), Some(own), Some(contents)) = (packing.sbom, own, &judgement.contents) else {
        return Ok(evidence);
    };
    let sbom = SbomDocument::new(format, &contents.lock, packing.output.source_date_epoch)
        .map_err(|error| ReconcileError::from_classified(&error))?;
    let found =
        judgement.findings.verified.iter().find(|verified| {
            own.accepts_statement(verified) && sbom.is_attested_by(verified.claim())
        });
    let missing = || {
        format!(
            "its {} document is not attested by {}, or not as its lock gives it",
            format.as_str(),
            own.name
        )
    };
    let found =
        found.ok_or_else(|| ReconcileError::new(Reason::PredicateTypeMismatch, missing()))?;
    let known = EvidenceStatus {
        predicate_type: found.claim().predicate_type.clone(),
        digest: found.referrer().to_string(),
        signer: own.name.clone(),
    };
    if !evidence.contains(&known) {
        evidence.push(known);
    }
    Ok(evidence)
}

/// Verifies an existing bundle with every governing policy.
pub(super) async fn verify_adopted_bundle(
    namespace: &str,
    adoption: &BundleAdoption,
    context: &ReconcileContext,
) -> Result<AcceptedBundle, ReconcileError> {
    let (secret, field) = (adoption.secret.as_deref(), "spec.source.bundle.secretRef");
    let configs = read_docker_config(namespace, secret, field, context).await?;
    let policies = applicable_policies::load_policies(namespace, context).await?;
    let state = read_state_in_time(
        &adoption.reference,
        None,
        &configs,
        namespace,
        &policies,
        context,
    )
    .await?;
    let (
        CombinedPolicyResult {
            evidence,
            warnings,
            exempted,
        },
        otherwise,
    ) = match combine_verdicts(&state.judgement.decision, None)? {
        Some(combined) => (combined, UnsignedReason::NotEnforced),
        None if context.installation.no_match.packed_bundle == NoMatchAction::Deny => {
            return Err(ungoverned_error(&adoption.reference));
        }
        None => (CombinedPolicyResult::default(), UnsignedReason::Ungoverned),
    };
    let grounds = admission_grounds(&state.judgement.decision, &adoption.reference)?;
    let unsigned = evidence
        .is_empty()
        .then(|| exempted.map_or(otherwise, UnsignedReason::Exempt));
    Ok(AcceptedBundle {
        reference: adoption.reference.clone(),
        tag: None,
        size: state.size,
        evidence,
        warnings,
        unsigned,
        grounds,
    })
}

/// What allows the condition `Ready`. The caller checked the denials before.
fn admission_grounds(
    decision: &PolicyDecision,
    reference: &PinnedReference,
) -> Result<AdmissionGrounds, ReconcileError> {
    let nobody_governs = || decision.ungoverned().map(AdmissionGrounds::Ungoverned);
    decision
        .admission_grounds(Some(&reference.digest()))
        .or_else(nobody_governs)
        .ok_or_else(|| {
            let message = format!("{reference} is neither denied nor admitted");
            ReconcileError::new(Reason::Internal, message)
        })
}

/// Verifies a context artifact. One that no policy governs is refused.
pub(super) async fn verify_context_artifact(
    namespace: &str,
    reference: &PinnedReference,
    configs: &[NamedDockerConfig],
    context: &ReconcileContext,
) -> Result<(), ReconcileError> {
    let policies = applicable_policies::load_policies(namespace, context).await?;
    let state = read_state_in_time(reference, None, configs, namespace, &policies, context).await?;
    match combine_verdicts(&state.judgement.decision, None)? {
        Some(_) => Ok(()),
        None => Err(ungoverned_error(reference)),
    }
}

async fn read_state_in_time(
    reference: &PinnedReference,
    tag: Option<&ImageTag>,
    configs: &[NamedDockerConfig],
    namespace: &str,
    policies: &[Policy],
    context: &ReconcileContext,
) -> Result<BundleState, ReconcileError> {
    let asked = BundleStateRequest {
        reference,
        tag,
        policies,
        namespace,
        now: context.clock.now(),
    };
    let looking = read_bundle_state(&*context.registries, configs, &asked, &InputLimits::DEFAULT);
    if let Ok(state) = tokio::time::timeout(DEADLINE, Box::pin(looking)).await {
        state.map_err(|error| ReconcileError::from_classified(&error))
    } else {
        let message = format!(
            "no verdict within {} s: {} answers too slowly, or too much is attached to it",
            DEADLINE.as_secs(),
            reference.repository()
        );
        Err(ReconcileError::new(Reason::DeadlineExceeded, message))
    }
}

fn ungoverned_error(reference: &PinnedReference) -> ReconcileError {
    ReconcileError::new(
        Reason::Ungoverned,
        format!(
            "no policy with the use PackedBundle governs {}, so no trusted signer is defined; create a \
                ClusterBundlePolicy or BundlePolicy",
            reference.repository()
        ),
    )
}

/// The combined result of all policies, after enforcement modes.
#[derive(Debug, Default)]
struct CombinedPolicyResult {
    /// The evidence that it was admitted on.
    evidence: Vec<EvidenceStatus>,
    /// Denials of policies that do not enforce.
    warnings: Vec<JobFailure>,
    /// The first policy that exempts it.
    exempted: Option<PolicyIdentity>,
}

/// The combined verdict of the governing policies: one denial of an enforcing policy denies. `None`
/// if none governs.
fn combine_verdicts(
    decision: &PolicyDecision,
    own: Option<&PolicyAuthority>,
) -> Result<Option<CombinedPolicyResult>, ReconcileError> {
    let mut combined = CombinedPolicyResult::default();
    for policy in decision.policies() {
        match &policy.verdict {
            AdmissionVerdict::Admit(admitted) => {
                admitted_evidence(admitted, own).for_each(|found| {
                    if !combined.evidence.contains(&found) {
                        combined.evidence.push(found);
                    }
                });
            }
            AdmissionVerdict::Exempt(by) => {
                combined.exempted = combined.exempted.or_else(|| Some(by.policy().clone()));
            }
            AdmissionVerdict::Deny(denials) if policy.mode == EnforcementMode::Enforce => {
                return Err(ReconcileError::StatusFailure(denial_failure(
                    &policy.identity,
                    denials,
                )));
            }
            AdmissionVerdict::Deny(denials) => combined
                .warnings
                .push(denial_failure(&policy.identity, denials)),
        }
    }
    Ok((!decision.policies().is_empty()).then_some(combined))
}

fn denial_failure(policy: &PolicyIdentity, denials: &Denials) -> JobFailure {
    let (first, more) = (denials.first(), denials.iter().count() - 1);
    let more = if more > 0 {
        format!(" (and {more} more)")
    } else {
        String::new()
    };
    JobFailure::new(first.reason, &format!("{policy}: {}{more}", first.message))
}

fn admitted_evidence<'a>(
    admitted: &'a AdmissionProof,
    own: Option<&'a PolicyAuthority>,
) -> impl Iterator<Item = EvidenceStatus> + 'a {
    let name = move |signer: &SignerIdentity| {
        own.filter(|own| own.matches_signer(signer))
            .map_or_else(|| signer.to_string(), |own| own.name.clone())
    };
    admitted
        .evidence()
        .iter()
        .map(move |evidence| EvidenceStatus {
            predicate_type: evidence.predicate_type().to_owned(),
            digest: evidence.referrer().to_string(),
            signer: name(evidence.signer()),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::policy::{Denial, PolicyVerdict};

    fn decision(verdicts: Vec<(EnforcementMode, AdmissionVerdict)>) -> PolicyDecision {
        let policy = |(mode, verdict)| PolicyVerdict {
            identity: PolicyIdentity {
                kind: crate::core::policy::PolicyOrigin::Cluster,
                name: "p".into(),
            },
            generation: 1,
            mode,
            verdict,
            authorities: Vec::new(),
            slsa: None,
            unsafe_settings: Vec::new(),
        };
        PolicyDecision::from_verdicts(verdicts.into_iter().map(policy).collect())
    }

    fn denial() -> AdmissionVerdict {
        AdmissionVerdict::Deny(Denials::from_denial(Denial::new(
            Reason::NoSignatures,
            "nobody signed it",
        )))
    }

    #[test]
    fn only_a_policy_that_enforces_refuses() {
        assert!(
            combine_verdicts(&decision(Vec::new()), None)
                .expect("no denial")
                .is_none(),
            "nothing governs"
        );
        let warned = combine_verdicts(
            &decision(vec![
                (EnforcementMode::Warn, denial()),
                (EnforcementMode::Audit, denial()),
            ]),
            None,
        )
        .expect("no denial")
        .expect("governed");
        assert_eq!(warned.warnings.len(), 2);
        for verdicts in [
            vec![(EnforcementMode::Enforce, denial())],
            vec![
                (EnforcementMode::Warn, denial()),
                (EnforcementMode::Enforce, denial()),
            ],
        ] {
            let refused = combine_verdicts(&decision(verdicts), None).expect_err("a denial");
            assert!(
                matches!(
                    refused,
                    ReconcileError::StatusFailure(JobFailure {
                        reason: Reason::NoSignatures,
                        ..
                    })
                ),
                "{refused}"
            );
        }
    }
}
