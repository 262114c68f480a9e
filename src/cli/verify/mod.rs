//! `packgate verify`

mod pull_secret_args;
mod report_builder;
mod trust_args;
mod trust_terms;

use std::sync::Arc;

use clap::Args;

pub(super) use self::trust_args::{TrustArgs, UseArg};
use self::{
    pull_secret_args::PullSecretArgs, report_builder::VerificationReportBuilder,
    trust_terms::VerificationTerms,
};
use super::{context::CliContext, error::CliError, output::CommandResult};
use crate::{
    api::rbac::SYSTEM_NAMESPACE,
    cluster_reader::explain_access_denial,
    core::{
        policy::{Clearance, Policy},
        reference::BundleLocation,
        report::AdmissionReport,
    },
    oci::{ContentSource, ResolvedManifest},
    service::{
        verdict,
        verification_request::{EvidenceDepth, VerificationRequest},
        verify,
    },
};

const EXAMPLES: &str = "Examples:
  packgate verify oci:out:v1 --key packgate.pub
  packgate verify registry.example.com/team-a/siem@sha256:… --key packgate.pub --builder-id \
  https://packgate.dev/builder/cli
  packgate verify registry.example.com/team-a/siem@sha256:… --certificate-authority corp-ca.pem \
  --certificate-identity spiffe://corp.example.com/release
  packgate verify registry.example.com/team-a/siem:v1.4.0 --policy policy.yaml --use ImageVolume \
  --namespace team-a
  packgate verify registry.example.com/team-a/siem@sha256:… --use ImageVolume --namespace team-a \
  --cluster
  packgate verify registry.example.com/team-a/siem@sha256:… --use Container --namespace team-a \
  --image-pull-secret pull --cluster

Exit code 0: admitted. 1: denied, or governed by no policy. 3: a registry did not answer or refused. \
4: bytes contradict a digest.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct VerifyArgs {
    /// The bundle or image
    reference: BundleLocation,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    pull_secrets: PullSecretArgs,
}

pub(super) async fn run_verify(
    args: VerifyArgs,
    context: &CliContext,
) -> Result<CommandResult, CliError> {
    let mut trust = args.trust;
    trust.pull_secrets = args.pull_secrets.into_names(&trust);
    verify_and_report(&trust, &args.reference, context).await
}

/// The report, as a subcommand's result.
pub(super) async fn verify_and_report(
    trust: &TrustArgs,
    reference: &BundleLocation,
    context: &CliContext,
) -> Result<CommandResult, CliError> {
    let report = trust.verify_reference(reference, context).await?;
    let class = report.class();
    let json = serde_json::to_value(&report).map_err(|e| CliError::internal(e.to_string()))?;
    Ok(CommandResult {
        text: report.to_text(),
        json,
        class,
    })
}

impl TrustArgs {
    /// Resolves a reference and evaluates the result. Without a governing policy nothing is
    /// fetched.
    async fn verify_reference(
        &self,
        reference: &BundleLocation,
        context: &CliContext,
    ) -> Result<AdmissionReport, CliError> {
        let VerificationTerms {
            policies,
            admission,
        } = self.load_terms(context).await?;
        let written = reference.to_string();
        let request = self.verification_request(
            &written,
            reference,
            &policies,
            EvidenceDepth::Needed,
            context,
        );
        let mut inquiry = VerificationReportBuilder::begin_report(self, reference, context);
        if !request.is_governed() {
            inquiry.inputs.digest = reference.digest();
            return Ok(inquiry.report_ungoverned(&request));
        }
        let (source, deadline): (Arc<dyn ContentSource>, _) = match (&admission, reference) {
            (Some(admission), BundleLocation::Registry(named)) => {
                let registries = &admission.registries;
                let source = registries.open_source(&named.repository, &admission.credentials)?;
                (source, Some(admission.deadline))
            }
            _ => (self.open_with_signatures(reference, context)?, None),
        };
        let answer = verdict::evaluate_reference(
            &source,
            &reference.tag_or_digest(),
            &request,
            deadline,
            context.limits(),
        )
        .await;
        let answer = match &admission {
            Some(admission) => {
                explain_access_denial(answer, &request, &admission.pulled, SYSTEM_NAMESPACE)
            }
            None => answer,
        };
        Ok(inquiry.report_verdict(&answer))
    }

    /// The bundle, with its signatures from the repository that is named for them.
    pub(super) fn open_with_signatures(
        &self,
        reference: &BundleLocation,
        context: &CliContext,
    ) -> Result<Arc<dyn ContentSource>, CliError> {
        let bundle = context.open_source(reference)?;
        context.with_signature_repository(bundle, self.signature_repository.as_ref())
    }

    /// Evaluates a resolved bundle, for a subcommand that continues only with a clearance. Without
    /// one the report says why. Reads every stored blob.
    pub(super) async fn evaluate_resolved(
        &self,
        source: &dyn ContentSource,
        reference: &BundleLocation,
        root: &ResolvedManifest,
        context: &CliContext,
    ) -> Result<Result<Clearance, AdmissionReport>, CliError> {
        let VerificationTerms { policies, .. } = self.load_terms(context).await?;
        let written = reference.to_string();
        let request = self.verification_request(
            &written,
            reference,
            &policies,
            EvidenceDepth::EveryBlob,
            context,
        );
        let mut inquiry = VerificationReportBuilder::begin_report(self, reference, context);
        inquiry.inputs.digest = Some(root.descriptor.digest);
        if !request.is_governed() {
            return Ok(Err(inquiry.report_ungoverned(&request)));
        }
        let evaluated = verify::evaluate_bundle(source, root, &request, context.limits()).await;
        Ok(match evaluated {
            Ok(evaluation) => evaluation
                .decision
                .clearance(&root.descriptor.digest)
                .ok_or_else(|| inquiry.report_evaluation(&evaluation)),
            Err(error) => Err(inquiry.report_error(&error)),
        })
    }

    fn verification_request<'a>(
        &'a self,
        written: &'a str,
        reference: &'a BundleLocation,
        policies: &'a [Policy],
        reading: EvidenceDepth,
        context: &CliContext,
    ) -> VerificationRequest<'a> {
        let repository = match reference {
            BundleLocation::Registry(reference) => Some(&reference.repository),
            BundleLocation::Layout(_) | BundleLocation::Archive(_) => None,
        };
        VerificationRequest {
            policies,
            reference: written,
            repository,
            had_digest: reference.digest().is_some(),
            used_as: self.used_as.into(),
            namespace: self.namespace.as_deref(),
            now: context.clock().now(),
            reading,
        }
    }
}
