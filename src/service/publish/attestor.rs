//! One signer and the bundle that it signs and attests: what is missing is added, nothing is signed
//! twice, and the result is verified as any other verifier would.

use super::error::PublishError;
use crate::{
    core::{
        digest::Digest,
        intoto::{COSIGN_SIGN, Statement},
        policy::{
            AdHocPolicyOptions, AdmissionVerdict, Clearance, Policy, PolicyOutcome, ReferenceUse,
        },
        provenance::is_same_build,
        reason::Reason,
        referrer::{self, ReferrerArtifact},
        sbom::SbomDocument,
        slsa::{PROVENANCE_V1, Provenance},
        verify::Verified,
    },
    oci::ResolvedManifest,
    service::{
        push_referrers::{LISTING_WAITS, push_referrers},
        release_context::ReleaseContext,
        sign::{self, AttestationClaim, SignError},
        signed_statement::signer_authority,
        verification_request::{EvidenceDepth, VerificationRequest},
        verify::{self, BundleEvaluation},
    },
    signing::BundleSigner,
};

/// The signer, and the content of the statements.
#[derive(Clone, Copy)]
pub struct SigningRequest<'a> {
    /// Signs the bundle and its provenance.
    pub signer: &'a dyn BundleSigner,
    /// The subject's name in statements: `registry/repository` without a tag. Empty where there is
    /// none.
    pub subject_name: &'a str,
    /// The provenance of the bundle.
    pub provenance: &'a Provenance,
    /// Digest of the canonical lock that it was packed from.
    pub lock: Digest,
    /// The SBOM to attest, if any.
    pub sbom: Option<&'a SbomDocument>,
}

/// What was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishOutcome {
    /// Signed and attested.
    Signed {
        /// The referrer with the signature.
        signature: Digest,
        /// The referrer with the provenance.
        provenance: Digest,
        /// The referrer that attests the SBOM, if one was requested.
        sbom: Option<Digest>,
    },
    /// Published without a signature, as requested.
    Unsigned,
}

/// One signer and the bundle that it attests.
pub(super) struct BundleAttestor<'a> {
    signing: SigningRequest<'a>,
    context: &'a ReleaseContext<'a>,
    root: &'a ResolvedManifest,
    policy: [Policy; 1],
}

impl<'a> BundleAttestor<'a> {
    pub(super) async fn new(
        signing: SigningRequest<'a>,
        context: &'a ReleaseContext<'a>,
        root: &'a ResolvedManifest,
    ) -> Result<Self, PublishError> {
        let authorities = vec![signer_authority(signing.signer.signer_identity().await?)?];
        let builder_id = Some(signing.provenance.run_details.builder.id.clone());
        let policy = Policy::ad_hoc(AdHocPolicyOptions {
            authorities,
            builder_id,
            lock: Some(signing.lock),
            ..AdHocPolicyOptions::default()
        })?;
        Ok(Self {
            signing,
            context,
            root,
            policy: [policy],
        })
    }

    /// Adds missing statements, all of them at once, then verifies the result.
    pub(super) async fn attest_missing(&self) -> Result<(PublishOutcome, Clearance), PublishError> {
        let there = self.evaluate_policy().await?;
        let mut missing = Vec::new();
        let signature = match self.find_statement(&there, is_signature) {
            Some(signature) => signature,
            None => self.add_signature(&mut missing).await?,
        };
        let provenance = match self.find_statement(&there, |statement| {
            is_same_provenance(statement, self.signing.provenance)
        }) {
            Some(provenance) => provenance,
            None => self.add_provenance(&mut missing).await?,
        };
        let sbom = match self.signing.sbom {
            None => None,
            Some(sbom) => {
                match self.find_statement(&there, |statement| sbom.is_attested_by(statement)) {
                    Some(known) => Some(known),
                    None => Some(self.add_sbom(sbom, &mut missing).await?),
                }
            }
        };
        push_referrers(self.context.target, &missing).await?;
        let clearance = self.require_clearance(&self.evaluate_when_listed().await?)?;
        let published = PublishOutcome::Signed {
            signature,
            provenance,
            sbom,
        };
        Ok((published, clearance))
    }

    /// True if all required statements exist.
    fn is_complete(&self, evaluation: &BundleEvaluation) -> bool {
        let has =
            |wanted: &dyn Fn(&Statement) -> bool| self.find_statement(evaluation, wanted).is_some();
        let has_sbom = || {
            self.signing
                .sbom
                .is_none_or(|sbom| has(&|statement| sbom.is_attested_by(statement)))
        };
        has(&is_signature)
            && has(&|statement| is_same_provenance(statement, self.signing.provenance))
            && has_sbom()
    }

    /// The verdict, once the registry lists the pushed referrers. Some registries take a moment;
    /// after a while the verdict uses what is listed.
    async fn evaluate_when_listed(&self) -> Result<BundleEvaluation, PublishError> {
        for wait in LISTING_WAITS {
            let evaluation = self.evaluate_policy().await?;
            if self.is_complete(&evaluation) {
                return Ok(evaluation);
            }
            tokio::time::sleep(wait).await;
        }
        self.evaluate_policy().await
    }

    /// The referrer with the signer's own statement that matches first. The policy trusts no other
    /// signer.
    fn find_statement(
        &self,
        evaluation: &BundleEvaluation,
        wanted: impl Fn(&Statement) -> bool,
    ) -> Option<Digest> {
        let wanted = |statement: &Statement| {
            wanted(statement) && names_subject(statement, self.signing.subject_name)
        };
        evaluation
            .findings
            .verified
            .iter()
            .find(|verified| wanted(verified.claim()))
            .map(Verified::referrer)
            .copied()
    }

    async fn add_signature(
        &self,
        missing: &mut Vec<ReferrerArtifact>,
    ) -> Result<Digest, PublishError> {
        let claim = sign::signature_claim(self.signing.subject_name);
        self.add_attestation(claim, missing).await
    }

    async fn add_provenance(
        &self,
        missing: &mut Vec<ReferrerArtifact>,
    ) -> Result<Digest, PublishError> {
        let predicate = serde_json::to_value(self.signing.provenance).map_err(SignError::from)?;
        let claim = AttestationClaim {
            subject_name: self.signing.subject_name,
            predicate_type: PROVENANCE_V1,
            predicate,
        };
        self.add_attestation(claim, missing).await
    }

    /// A large document is a referrer of its own, in the repository of its subject.
    async fn add_sbom(
        &self,
        sbom: &SbomDocument,
        missing: &mut Vec<ReferrerArtifact>,
    ) -> Result<Digest, PublishError> {
        let SigningRequest {
            subject_name,
            provenance,
            ..
        } = self.signing;
        let format = sbom.format();
        let location = if sbom.is_attested_by_reference() {
            let document = referrer::document_referrer(
                sbom.bytes().clone(),
                format.media_type(),
                format.file_name(),
                &self.root.descriptor,
            )
            .map_err(SignError::from)?;
            let place = if subject_name.is_empty() {
                String::new()
            } else {
                format!("//{subject_name}")
            };
            let digest = document.manifest.descriptor.digest;
            missing.push(document);
            format!("oci:{place}@{digest}")
        } else {
            String::new()
        };
        let predicate = sbom.attestation_predicate(&provenance.run_details.builder.id, &location);
        let claim = AttestationClaim {
            subject_name,
            predicate_type: sbom.predicate_type(),
            predicate,
        };
        self.add_attestation(claim, missing).await
    }

    /// Signs a claim, and returns the digest of the referrer that it will be.
    async fn add_attestation(
        &self,
        claim: AttestationClaim<'_>,
        missing: &mut Vec<ReferrerArtifact>,
    ) -> Result<Digest, PublishError> {
        let (subject, signer) = (&self.root.descriptor, self.signing.signer);
        let artifact = sign::create_attestation(subject, claim, signer, self.context.clock).await?;
        let digest = artifact.manifest.descriptor.digest;
        missing.push(artifact);
        Ok(digest)
    }

    async fn evaluate_policy(&self) -> Result<BundleEvaluation, PublishError> {
        let reference = format!(
            "{}@{}",
            self.context.target.location(),
            self.root.descriptor.digest
        );
        let verification = VerificationRequest {
            policies: &self.policy,
            reference: &reference,
            repository: None,
            had_digest: true,
            used_as: ReferenceUse::PackedBundle,
            namespace: None,
            now: self.context.clock.now(),
            reading: EvidenceDepth::Needed,
        };
        Ok(verify::evaluate_bundle(
            self.context.target,
            self.root,
            &verification,
            self.context.limits,
        )
        .await?)
    }

    fn require_clearance(&self, evaluation: &BundleEvaluation) -> Result<Clearance, PublishError> {
        let digest = self.root.descriptor.digest;
        let clearance = evaluation.decision.clearance(&digest);
        match (evaluation.decision.outcome(), clearance) {
            (PolicyOutcome::Governed(AdmissionVerdict::Admit(_)), Some(clearance)) => {
                self.require_sbom(evaluation).map(|()| clearance)
            }
            (PolicyOutcome::Governed(AdmissionVerdict::Deny(denials)), _) => {
                let first = denials.first();
                Err(PublishError::not_admitted(
                    digest,
                    first.reason,
                    first.message.clone(),
                ))
            }
            _ => {
                let message = "its own policy gives no verdict".into();
                Err(PublishError::not_admitted(
                    digest,
                    Reason::Internal,
                    message,
                ))
            }
        }
    }

    fn require_sbom(&self, judgement: &BundleEvaluation) -> Result<(), PublishError> {
        let is_missing = |sbom: &&SbomDocument| {
            self.find_statement(judgement, |statement| sbom.is_attested_by(statement))
                .is_none()
        };
        match self.signing.sbom.filter(is_missing) {
            None => Ok(()),
            Some(sbom) => Err(PublishError::not_admitted(
                self.root.descriptor.digest,
                Reason::PredicateTypeMismatch,
                format!(
                    "the registry does not list its {} document",
                    sbom.format().as_str()
                ),
            )),
        }
    }
}

/// True if the statement names the subject like this, or without a name. A statement copied from
/// another repository says nothing about this one.
fn names_subject(statement: &Statement, name: &str) -> bool {
    name.is_empty()
        || statement
            .subject
            .iter()
            .any(|subject| subject.name.is_empty() || subject.name == name)
}

fn is_signature(statement: &Statement) -> bool {
    statement.predicate_type == COSIGN_SIGN
}

fn is_same_provenance(statement: &Statement, provenance: &Provenance) -> bool {
    let found = || serde_json::from_value::<Provenance>(statement.predicate.clone()).ok();
    statement.predicate_type == PROVENANCE_V1
        && found().is_some_and(|found| is_same_build(&found, provenance))
}
