//! One use of an image to check, and the result with its report.

use std::time::Instant;

use super::{pull_credentials::ReviewCredentials, verdict_cache::CachedVerdict};
use crate::{
    api::bundle_policy::PolicySnapshot,
    core::{
        digest::Digest,
        policy::{
            AdmissionGrounds, Denial, ReferenceTarget, ReferenceUse, ReferenceUseScope, Ungoverned,
            deny_without_evidence,
        },
        reason::Reason,
        reference::ImageReference,
        report::{AdmissionReport, ReportInputs, cluster_verify_command},
        verify::VerificationFindings,
    },
    service::{
        verdict::{ReferenceVerdict, denied_verdict},
        verdict_stage::VerdictStageTracker,
        verification_request::VerificationRequest,
    },
};

/// One use of an image to check.
#[derive(Clone, Debug)]
pub(super) struct ImageCheckRequest {
    /// The path of the field in the object.
    pub field: String,
    /// The reference as written in the field.
    pub reference: String,
    /// How the image is used.
    pub used_as: ReferenceUse,
    /// The namespace of the object.
    pub namespace: String,
    /// The credentials that the object names for its registry.
    pub credentials: ReviewCredentials,
}

/// The verdict on one use, with what allows it.
#[derive(Clone, Debug)]
pub(super) struct CheckedImage {
    /// The report with the verdict.
    pub report: AdmissionReport,
    /// What allows it, if a policy governs it and no policy in mode `Enforce` denies it.
    pub grounds: Option<AdmissionGrounds>,
    /// Set if no policy governs it.
    pub ungoverned: Option<Ungoverned>,
}

impl ImageCheckRequest {
    /// The command that reproduces the verdict on this reference.
    fn reproduce_command(&self, reference: &str) -> String {
        let secrets = self.credentials.secret_names();
        cluster_verify_command(reference, self.used_as, &self.namespace, secrets)
    }
}

/// A reference that cannot be parsed: denied by every policy of its use, because a runtime might
/// be able to parse it.
pub(super) fn unreadable_reference(
    ask: &ImageCheckRequest,
    snapshot: &PolicySnapshot,
    begun: Instant,
) -> CheckedImage {
    let why = ask
        .reference
        .parse::<ImageReference>()
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    let scope = ReferenceUseScope {
        name: ReferenceTarget::Unreadable,
        used_as: ask.used_as,
        namespace: Some(&ask.namespace),
    };
    let decision = deny_without_evidence(
        snapshot.policies(),
        &scope,
        &Denial::new(Reason::InvalidSpec, why),
    );
    let reproduce = ask.reproduce_command(&ask.reference);
    CheckedImage {
        report: AdmissionReport::new(
            report_request(ask, reproduce, begun),
            &decision,
            &VerificationFindings::default(),
        ),
        grounds: decision.admission_grounds(None),
        ungoverned: decision.ungoverned(),
    }
}

/// One use under evaluation.
pub(super) struct ImageCheck<'a> {
    pub ask: &'a ImageCheckRequest,
    pub reference: &'a ImageReference,
    pub request: &'a VerificationRequest<'a>,
    pub begun: Instant,
    pub stage: &'a VerdictStageTracker,
}

impl ImageCheck<'_> {
    /// The verdict, with its report.
    pub(super) fn checked_image(
        &self,
        verdict: &ReferenceVerdict,
        digest: Option<Digest>,
    ) -> CheckedImage {
        CheckedImage {
            report: self.build_report(verdict, digest),
            grounds: verdict.decision.admission_grounds(digest.as_ref()),
            ungoverned: verdict.decision.ungoverned(),
        }
    }

    fn build_report(&self, verdict: &ReferenceVerdict, digest: Option<Digest>) -> AdmissionReport {
        // With the digest filled in, the command would no longer be denied for its missing digest.
        let pinned = digest.filter(|_| !verdict.decision.has_denial_reason(Reason::DigestRequired));
        let reference = ImageReference {
            digest: pinned,
            ..self.reference.clone()
        };
        let named = if reference.digest.is_some() {
            ImageReference {
                tag: None,
                ..reference
            }
        } else {
            reference
        };
        let inputs = report_request(
            self.ask,
            self.ask.reproduce_command(&named.to_string()),
            self.begun,
        );
        AdmissionReport::new(
            ReportInputs {
                digest,
                registry_requests: verdict.requests,
                ..inputs
            },
            &verdict.decision,
            &verdict.findings,
        )
    }

    /// A denial without evidence.
    pub(super) fn denied_image(&self, denial: &Denial) -> CheckedImage {
        self.checked_image(&denied_verdict(self.request, denial), self.reference.digest)
    }

    /// A cached admission, possibly of another object.
    pub(super) fn cached_image(&self, success: &CachedVerdict) -> CheckedImage {
        CheckedImage {
            report: self.shared_report(&success.report, true),
            grounds: Some(AdmissionGrounds::Cleared(success.clearance.clone())),
            ungoverned: None,
        }
    }

    /// The report of a shared check, adapted to this request. A cached one made no registry
    /// requests.
    pub(super) fn shared_report(
        &self,
        report: &AdmissionReport,
        is_cached: bool,
    ) -> AdmissionReport {
        let reproduce = self.ask.reproduce_command(&pinned_name(self.reference));
        let inputs = report_request(self.ask, reproduce, self.begun);
        report.for_request(ReportInputs {
            registry_requests: if is_cached {
                0
            } else {
                report.registry_requests()
            },
            ..inputs
        })
    }
}

fn pinned_name(reference: &ImageReference) -> String {
    if reference.digest.is_some() {
        ImageReference {
            tag: None,
            ..reference.clone()
        }
        .to_string()
    } else {
        reference.to_string()
    }
}

fn report_request(ask: &ImageCheckRequest, reproduce: String, begun: Instant) -> ReportInputs {
    ReportInputs {
        reference: ask.reference.clone(),
        used_as: ask.used_as,
        field: Some(ask.field.clone()),
        reproduce,
        elapsed_ms: elapsed_millis(begun),
        ..ReportInputs::default()
    }
}

fn elapsed_millis(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}
