//! Reads bundles back from the registry and verifies them with the common verifier. Only these
//! findings reach the status.

use std::time::Duration;

use super::{
    platform_key, policy_cache, reconcile_context::ReconcileContext,
    reconcile_error::ReconcileError, tenant_sigstore,
};
use crate::{
    api::{
        installation::NoMatchAction,
        packed_bundle::{
            BundleAdoption, EvidenceStatus, PackingRequest, SigningParty, TenantSigner,
            TenantSigningIdentity,
        },
    },
    core::{
        digest::Digest,
        intoto::COSIGN_SIGN,
        job::JobFailure,
        limits::InputLimits,
        policy::{
            AdHocPolicyOptions, AdmissionGrounds, AdmissionProof, AdmissionVerdict, AuthorityKind,
            ClaimsRule, Denials, EnforcementMode, Policy, PolicyAuthority, PolicyDecision,
            PolicyIdentity, SubjectMatcher,
        },
        reason::Reason,
        reference::{ImageTag, PinnedReference},
        sbom::SbomDocument,
        verify::{SignerIdentity, VerificationKey},
    },
    service::{
        bundle_state::{BundleSize, BundleState, BundleStateRequest, read_bundle_state},
        verify::BundleEvaluation,
    },
};

/// The deadline of the verdict on one bundle. No API request waits for it, but one bundle must not
/// delay the others.
const DEADLINE: Duration = Duration::from_mins(1);

/// A bundle that passed verification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AcceptedBundle {
    /// Its repository and digest.
    pub reference: PinnedReference,
    /// Its tag.
    pub tag: Option<ImageTag>,
    /// Its size and artifacts, if packgate packed it.
    pub size: Option<BundleSize>,
    /// The evidence that it was admitted on.
    pub evidence: Vec<EvidenceStatus>,
    /// Denials of policies that only warn or audit.
    pub warnings: Vec<JobFailure>,
    /// Why it is accepted without a signature, if so.
    pub unsigned: Option<UnsignedReason>,
    /// What allows the condition `Ready`; only a policy decision makes one.
    pub grounds: AdmissionGrounds,
}

/// Why a bundle without a signature is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UnsignedReason {
    /// The installation allows unsigned bundles.
    AllowedByInstallation,
    /// A policy exempts it.
    Exempt(PolicyIdentity),
    /// Policies govern it, and none of them enforces.
    NotEnforced,
    /// No policy governs it.
    Ungoverned,
}

impl AcceptedBundle {
    /// The finding as a message for the status.
    pub(super) fn status_message(&self) -> String {
        let reference = &self.reference;
        match &self.unsigned {
            Some(UnsignedReason::AllowedByInstallation) => {
                "packed and compared with the lock; the installation allows that nobody signed it"
                    .to_owned()
            }
            Some(UnsignedReason::Exempt(policy)) => {
                format!("{reference} is there, and {policy} exempts it; nothing else was verified")
            }
            Some(UnsignedReason::NotEnforced) => format!(
                "{reference} is there, and no policy that governs it enforces; it is not verified"
            ),
            Some(UnsignedReason::Ungoverned) => {
                format!("{reference} is there, and no policy governs it; it is not verified")
            }
            None => format!("{reference} is {}", self.evidence_summary()),
        }
    }

    fn evidence_summary(&self) -> &'static str {
        let has = |signature: bool| {
            self.evidence
                .iter()
                .any(|evidence| (evidence.predicate_type == COSIGN_SIGN) == signature)
        };
        match (has(true), has(false)) {
            (true, true) => "signed, attested and verified",
            (true, false) => "signed and verified",
            (false, true) => "attested and verified",
            (false, false) => "verified",
        }
    }
}

impl UnsignedReason {
    /// The reason code.
    pub(super) const fn reason(&self) -> Reason {
        match self {
            Self::Exempt(_) => Reason::Exempt,
            Self::Ungoverned => Reason::Ungoverned,
            Self::AllowedByInstallation | Self::NotEnforced => Reason::NoSignatures,
        }
    }
}

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
    let docker_config = match &packing.push_secret {
        Some(name) => Some(
            context
                .secrets
                .read_docker_config(namespace, name, "spec.destination.secretRef")
                .await?,
        ),
        None => None,
    };
    let own = build_signer_policy(namespace, packing, lock, context).await?;
    let is_signed = own.is_some();
    let signer = own
        .as_ref()
        .and_then(|own| own.rules().authorities.first())
        .cloned();
    let mut policies = policy_cache::load_policies(namespace, context).await?;
    policies.extend(own);
    let state = read_state_in_time(
        &reference,
        tag.as_ref(),
        docker_config.as_deref(),
        namespace,
        &policies,
        context,
    )
    .await?;
    let CombinedPolicyResult {
        evidence, warnings, ..
    } = match combine_verdicts(&state.judgement.decision, signer.as_ref())? {
        Some(answer) => answer,
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
    let docker_config = match &adoption.secret {
        Some(name) => Some(
            context
                .secrets
                .read_docker_config(namespace, name, "spec.source.bundle.secretRef")
                .await?,
        ),
        None => None,
    };
    let policies = policy_cache::load_policies(namespace, context).await?;
    let state = read_state_in_time(
        &adoption.reference,
        None,
        docker_config.as_deref(),
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
        Some(answer) => (answer, UnsignedReason::NotEnforced),
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
    docker_config: Option<&[u8]>,
    context: &ReconcileContext,
) -> Result<(), ReconcileError> {
    let policies = policy_cache::load_policies(namespace, context).await?;
    let state = read_state_in_time(
        reference,
        None,
        docker_config,
        namespace,
        &policies,
        context,
    )
    .await?;
    match combine_verdicts(&state.judgement.decision, None)? {
        Some(_) => Ok(()),
        None => Err(ungoverned_error(reference)),
    }
}

async fn read_state_in_time(
    reference: &PinnedReference,
    tag: Option<&ImageTag>,
    docker_config: Option<&[u8]>,
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
    let looking = read_bundle_state(
        &*context.registries,
        docker_config,
        &asked,
        &InputLimits::DEFAULT,
    );
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

/// The policy for every bundle that this installation packs. `None` if bundles are not signed.
async fn build_signer_policy(
    namespace: &str,
    packing: &PackingRequest,
    lock: Digest,
    context: &ReconcileContext,
) -> Result<Option<Policy>, ReconcileError> {
    let (name, kind, builder_id) = match &packing.signing {
        SigningParty::Unsigned => return Ok(None),
        SigningParty::Platform => {
            let key = parse_public_key(&platform_key::public_key(context).await?)?;
            (
                "platform",
                AuthorityKind::Key { key, root: None },
                context.installation.platform_builder(&context.cluster_uid),
            )
        }
        SigningParty::Namespace(signer) => (
            "namespace",
            tenant_authority(namespace, signer, context).await?,
            context
                .installation
                .namespace_builder(&context.cluster_uid, namespace),
        ),
    };
    let authorities = vec![PolicyAuthority {
        name: name.to_owned(),
        kind,
    }];
    let wish = AdHocPolicyOptions {
        authorities,
        builder_id: Some(builder_id),
        lock: Some(lock),
        ..AdHocPolicyOptions::default()
    };
    Policy::ad_hoc(wish)
        .map(Some)
        .map_err(|error| ReconcileError::from_classified(&error))
}

/// The authority of the tenant's signatures.
async fn tenant_authority(
    namespace: &str,
    signer: &TenantSigner,
    context: &ReconcileContext,
) -> Result<AuthorityKind, ReconcileError> {
    let root = match &signer.services {
        Some(name) => Some(tenant_sigstore::load_trust_root(namespace, name, context).await?),
        None => None,
    };
    match (&signer.identity, root) {
        (TenantSigningIdentity::Key(secret), root) => {
            let pem = context
                .secrets
                .read_secret_text(
                    namespace,
                    secret,
                    "spec.signing.keySecretRef",
                    platform_key::PUBLIC,
                )
                .await?;
            Ok(AuthorityKind::Key {
                key: parse_public_key(&pem)?,
                root,
            })
        }
        (TenantSigningIdentity::ServiceAccount, Some(root)) => {
            let subject = SubjectMatcher::Exact(TenantSigner::service_account_identity(namespace));
            Ok(AuthorityKind::Keyless {
                subject,
                issuer: tenant_sigstore::discover_issuer(context).await?,
                claims: ClaimsRule::default(),
                root,
            })
        }
        (TenantSigningIdentity::ServiceAccount, None) => Err(ReconcileError::new(
            Reason::NoSigner,
            "spec.signing.signingConfigRef is needed by keyless",
        )),
    }
}

fn parse_public_key(pem: &str) -> Result<VerificationKey, ReconcileError> {
    VerificationKey::from_pem(pem)
        .map_err(|error| ReconcileError::new(Reason::NoSigner, error.to_string()))
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
    let mut answer = CombinedPolicyResult::default();
    for policy in decision.policies() {
        match &policy.verdict {
            AdmissionVerdict::Admit(admitted) => {
                admitted_evidence(admitted, own).for_each(|found| {
                    if !answer.evidence.contains(&found) {
                        answer.evidence.push(found);
                    }
                });
            }
            AdmissionVerdict::Exempt(by) => {
                answer.exempted = answer.exempted.or_else(|| Some(by.policy().clone()));
            }
            AdmissionVerdict::Deny(denials) if policy.mode == EnforcementMode::Enforce => {
                return Err(ReconcileError::StatusFailure(denial_failure(
                    &policy.identity,
                    denials,
                )));
            }
            AdmissionVerdict::Deny(denials) => answer
                .warnings
                .push(denial_failure(&policy.identity, denials)),
        }
    }
    Ok((!decision.policies().is_empty()).then_some(answer))
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
