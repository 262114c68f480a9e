//! Builds the report on a verdict, with the command that reproduces it.

use std::{borrow::Cow, path::PathBuf, time::Instant};

use super::trust_args::{TransparencyArg, TrustArgs, UseArg};
use crate::{
    cli::context::CliContext,
    core::{
        digest::Digest,
        policy::{Denial, ReferenceUse},
        reason::Reason,
        reference::BundleLocation,
        report::{AdmissionReport, ReportInputs, cluster_verify_command, shell_quote},
        verify::StoredSignatureFormat,
    },
    service::{
        verdict::{self, ReferenceVerdict},
        verification_request::{VerificationRequest, VerifyError},
        verify::BundleEvaluation,
    },
};

/// A request and its context.
pub(super) struct VerificationReportBuilder<'a> {
    pub(super) inputs: ReportInputs,
    begun: Instant,
    context: &'a CliContext,
    trust: &'a TrustArgs,
    reference: &'a BundleLocation,
    /// With the digest filled in, the command would no longer be denied for its missing digest.
    keeps_tag: bool,
    requests: Option<u64>,
}

impl<'a> VerificationReportBuilder<'a> {
    pub(super) fn begin_report(
        trust: &'a TrustArgs,
        reference: &'a BundleLocation,
        context: &'a CliContext,
    ) -> Self {
        let inputs = ReportInputs {
            reference: reference.to_string(),
            used_as: trust.used_as.into(),
            unsafe_settings: context.unsafe_settings(),
            ..ReportInputs::default()
        };
        Self {
            inputs,
            begun: Instant::now(),
            context,
            trust,
            reference,
            keeps_tag: false,
            requests: None,
        }
    }

    fn complete_request(self) -> ReportInputs {
        let digest = self.inputs.digest.filter(|_| !self.keeps_tag);
        let reproduce = std::iter::once(self.trust.reproduce_command(self.reference, digest))
            .chain(self.context.global_args().connection_words())
            .collect::<Vec<_>>()
            .join(" ");
        let elapsed_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        ReportInputs {
            reproduce,
            elapsed_ms,
            registry_requests: self
                .requests
                .unwrap_or_else(|| self.context.request_count()),
            ..self.inputs
        }
    }

    pub(super) fn report_verdict(mut self, answer: &ReferenceVerdict) -> AdmissionReport {
        self.inputs.digest = answer.digest;
        self.requests = Some(answer.requests);
        self.keeps_tag = answer.decision.has_denial_reason(Reason::DigestRequired);
        AdmissionReport::new(self.complete_request(), &answer.decision, &answer.findings)
    }

    pub(super) fn report_evaluation(self, evaluation: &BundleEvaluation) -> AdmissionReport {
        AdmissionReport::new(
            self.complete_request(),
            &evaluation.decision,
            &evaluation.findings,
        )
    }

    pub(super) fn report_error(self, error: &VerifyError) -> AdmissionReport {
        AdmissionReport::from_error(self.complete_request(), error)
    }

    pub(super) fn report_ungoverned(self, request: &VerificationRequest<'_>) -> AdmissionReport {
        let denial = Denial::new(Reason::Ungoverned, "no policy governs it");
        let verdict = verdict::denied_verdict(request, &denial);
        AdmissionReport::new(
            self.complete_request(),
            &verdict.decision,
            &verdict.findings,
        )
    }
}

impl TrustArgs {
    /// The command that reproduces the verdict, once the digest is known.
    fn reproduce_command(&self, reference: &BundleLocation, digest: Option<Digest>) -> String {
        if self.cluster {
            let pinned = match (reference, digest) {
                (BundleLocation::Registry(named), Some(digest)) => {
                    named.repository.clone().pin_to_digest(digest).to_string()
                }
                _ => reference.to_string(),
            };
            return cluster_verify_command(
                &pinned,
                self.used_as.into(),
                self.namespace.as_deref().unwrap_or_default(),
                &self.pull_secrets,
            );
        }
        let pinned = digest.map_or_else(
            || reference.clone(),
            |digest| reference.clone().with_digest(digest),
        );
        let mut words = vec![
            "packgate".to_owned(),
            "verify".to_owned(),
            shell_quote(&pinned.to_string()),
        ];
        for (name, value) in self.reproduce_options() {
            words.push(name.to_owned());
            // A flag has no value.
            words.extend((!value.is_empty()).then(|| shell_quote(&value)));
        }
        words.join(" ")
    }

    /// The options of that command, with their values.
    fn reproduce_options<'a>(&'a self) -> Vec<(&'static str, Cow<'a, str>)> {
        let keys = self.keys.iter().map(|path| ("--key", path));
        let policies = self.policies.iter().map(|path| ("--policy", path));
        let paths = [
            ("--certificate-authority", &self.certificate_authority),
            (
                "--certificate-revocation-list",
                &self.certificate_revocation_list,
            ),
            ("--trusted-root", &self.root.trusted_root),
            ("--tuf-root", &self.root.tuf_root),
            ("--lock", &self.lock),
        ];
        let signatures = self
            .signature_repository
            .as_ref()
            .map(|repository| ("--signature-repository", Cow::from(repository.to_string())));
        let texts = [
            ("--certificate-identity", &self.certificate_identity),
            (
                "--certificate-identity-regexp",
                &self.certificate_identity_regexp,
            ),
            ("--certificate-oidc-issuer", &self.certificate_oidc_issuer),
            ("--tuf-url", &self.root.tuf_url),
            ("--builder-id", &self.builder_id),
            ("--namespace", &self.namespace),
        ];
        let texts = texts
            .into_iter()
            .filter_map(|(name, text)| Some((name, Cow::from(text.as_deref()?))));
        let paths = paths
            .into_iter()
            .filter_map(|(name, path)| Some((name, path.as_ref()?)));
        let shown = |(name, path): (&'static str, &'a PathBuf)| (name, path.to_string_lossy());
        let mut options: Vec<_> = keys.chain(policies).map(shown).collect();
        options.extend(texts);
        options.extend(signatures);
        options.extend(paths.map(shown));
        if self.transparency == TransparencyArg::Required {
            options.push(("--transparency", "Required".into()));
        }
        options.extend(self.formats.iter().map(|format| {
            let format = StoredSignatureFormat::from(*format).as_str();
            ("--signature-format", format.into())
        }));
        if self.root.offline {
            options.push(("--offline", "".into()));
        }
        if self.used_as != UseArg::PackedBundle {
            options.push(("--use", ReferenceUse::from(self.used_as).as_str().into()));
        }
        options
    }
}
