//! Builds responses to the API server: the only place where a denial can become "allowed, with a
//! warning".

use kube::core::{
    DynamicObject, Status,
    admission::{AdmissionRequest, AdmissionResponse},
    response::{StatusCause, StatusDetails, StatusSummary},
};

use super::image_check::CheckedImage;
use crate::{
    api::installation::NoMatchAction,
    core::{
        policy::{AdmissionGrounds, EnforcementMode},
        reason::Reason,
        report::{AdmissionReport, DenialReport, ReportOutcome},
    },
};

/// Characters of a warning. The API server cuts longer ones, and all of them together at 4,096.
const MAX_WARNING: usize = 256;
/// The maximum number of warnings in one response.
const MAX_WARNINGS: usize = 8;
/// Characters of the message. It is shown on terminals and in events.
const MAX_MESSAGE: usize = 2_048;

/// The result of a review.
#[derive(Debug)]
pub(super) enum ReviewResponse {
    /// The object has nothing to evaluate.
    NothingToEvaluate,
    /// The object is invalid.
    Invalid {
        /// The path of the field.
        field: String,
        /// What is wrong with it.
        message: String,
    },
    /// The user lacks a permission, whatever the policies allow.
    Forbidden {
        /// The stable reason code.
        reason: Reason,
        /// The path of the field.
        field: String,
        /// What is missing, and how to resolve it.
        message: String,
    },
    /// Every image that the object uses, evaluated.
    Evaluated(Vec<EvaluatedImage>),
}

/// One evaluated image.
#[derive(Debug)]
pub(super) struct EvaluatedImage {
    /// The report with the verdict.
    pub report: AdmissionReport,
    /// The action for a use that no policy governs.
    pub no_match: NoMatchAction,
    /// What allows its use; `None` if it is denied.
    grounds: Option<AdmissionGrounds>,
}

/// What allows a request.
#[derive(Debug)]
enum Permission {
    /// It has nothing to evaluate.
    NothingToEvaluate,
    /// The grounds of each of its images.
    Images(Vec<AdmissionGrounds>),
}

/// The effect of one image's verdict on the response.
#[derive(Debug, Default)]
struct AdmissionEffect {
    causes: Vec<DenialReport>,
    warnings: Vec<String>,
}

impl EvaluatedImage {
    /// A checked image, and the action for a use that no policy governs.
    pub(super) fn new(image: CheckedImage, no_match: NoMatchAction) -> Self {
        let ungoverned = image
            .ungoverned
            .filter(|_| no_match != NoMatchAction::Deny)
            .map(AdmissionGrounds::Ungoverned);
        Self {
            report: image.report,
            no_match,
            grounds: image.grounds.or(ungoverned),
        }
    }

    /// True if the image denies the request.
    pub(super) fn is_denied(&self) -> bool {
        !self.admission_effect().causes.is_empty()
    }

    fn admission_effect(&self) -> AdmissionEffect {
        let report = &self.report;
        match (report.outcome(), self.no_match) {
            (ReportOutcome::Denied, _) if report.is_admitted() => AdmissionEffect {
                causes: Vec::new(),
                warnings: self.warn_mode_messages(),
            },
            (ReportOutcome::Denied, _) => AdmissionEffect {
                causes: report.denials().to_vec(),
                warnings: Vec::new(),
            },
            (ReportOutcome::Ungoverned, NoMatchAction::Deny) => AdmissionEffect {
                causes: vec![self.no_match_denial()],
                warnings: Vec::new(),
            },
            (ReportOutcome::Ungoverned, NoMatchAction::Warn) => AdmissionEffect {
                causes: Vec::new(),
                warnings: vec![format_denial(&self.no_match_denial())],
            },
            (ReportOutcome::Ungoverned, NoMatchAction::Allow) => AdmissionEffect::default(),
            (ReportOutcome::Admitted | ReportOutcome::Exempt, _) => AdmissionEffect {
                causes: Vec::new(),
                warnings: report
                    .unsafe_settings()
                    .iter()
                    .map(|setting| format!("unsafe: {setting}"))
                    .collect(),
            },
        }
    }

    /// The denials of policies in mode `Warn`. Those in mode `Audit` are written to the audit log
    /// only.
    fn warn_mode_messages(&self) -> Vec<String> {
        let warns = |denial: &&DenialReport| {
            self.report
                .policies()
                .iter()
                .any(|policy| policy.mode == EnforcementMode::Warn && denial.is_by_policy(policy))
        };
        self.report
            .denials()
            .iter()
            .filter(warns)
            .map(format_denial)
            .collect()
    }

    fn no_match_denial(&self) -> DenialReport {
        let message = format!(
            "no policy governs {} as {}; write a ClusterBundlePolicy or BundlePolicy",
            self.report.reference(),
            self.report.used_as()
        );
        DenialReport {
            reason: Reason::Ungoverned,
            class: Reason::Ungoverned.class(),
            message,
            policy: None,
            policy_kind: None,
            policy_namespace: None,
            authority: None,
            field: self.report.field().map(ToOwned::to_owned),
        }
    }
}

/// `spec.volumes[0].image.reference: NoSignatures: ClusterBundlePolicy platform: no signature was
/// found`
fn format_denial(denial: &DenialReport) -> String {
    let field = denial
        .field
        .as_ref()
        .map(|field| format!("{field}: "))
        .unwrap_or_default();
    let policy = denial
        .policy_title()
        .map(|policy| format!("{policy}: "))
        .unwrap_or_default();
    format!("{field}{}: {policy}{}", denial.reason, denial.message)
}

/// The response. It starts as a denial, and only this function changes that.
pub(super) fn build_admission_response(
    request: &AdmissionRequest<DynamicObject>,
    evaluated: ReviewResponse,
) -> AdmissionResponse {
    let mut response = AdmissionResponse::from(request).deny("verification did not complete");
    match evaluated {
        ReviewResponse::NothingToEvaluate => {
            allow_request(&mut response, Permission::NothingToEvaluate);
        }
        ReviewResponse::Invalid { field, message } => {
            let cause = status_cause(Reason::InvalidSpec, &message, Some(&field));
            response.result =
                failure_status(422, "Invalid", format!("{field}: {message}"), vec![cause]);
        }
        ReviewResponse::Forbidden {
            reason,
            field,
            message,
        } => {
            let place = if field.is_empty() {
                String::new()
            } else {
                format!("{field}: ")
            };
            response.result = failure_status(
                403,
                "Forbidden",
                format!("{place}{reason}: {message}"),
                vec![status_cause(reason, &message, Some(&field))],
            );
        }
        ReviewResponse::Evaluated(all) => apply_evaluated_images(&mut response, all),
    }
    response
}

/// Allows the request. No other function sets `allowed`.
fn allow_request(response: &mut AdmissionResponse, permission: Permission) {
    match permission {
        Permission::NothingToEvaluate => tracing::trace!("allowed without images"),
        Permission::Images(grounds) => tracing::trace!(?grounds, "allowed"),
    }
    response.allowed = true;
    response.result = Status::default();
}

fn apply_evaluated_images(response: &mut AdmissionResponse, all: Vec<EvaluatedImage>) {
    response.audit_annotations = audit_annotations(&all);
    if let Some(status) = denial_status(&all) {
        response.result = status;
        return;
    }
    let warnings = admission_warnings(&all);
    let grounds: Option<Vec<AdmissionGrounds>> =
        all.into_iter().map(|image| image.grounds).collect();
    if let Some(grounds) = grounds {
        allow_request(response, Permission::Images(grounds));
        response.warnings = (!warnings.is_empty()).then_some(warnings);
    } else {
        let message = "an image is neither denied nor cleared; this is a defect of packgate";
        let cause = status_cause(Reason::Internal, message, None);
        response.result = failure_status(500, "InternalError", message.into(), vec![cause]);
    }
}

/// The status of a denial; `None` if no image denies the request.
fn denial_status(all: &[EvaluatedImage]) -> Option<Status> {
    let mut refused = all
        .iter()
        .map(|image| (image, image.admission_effect()))
        .filter(|(_, consequence)| !consequence.causes.is_empty());
    let (first, consequence) = refused.next()?;
    let reproduce = &first.report.reproduce_command();
    let causes: Vec<DenialReport> = consequence
        .causes
        .into_iter()
        .chain(refused.flat_map(|(_, consequence)| consequence.causes))
        .collect();
    let more = if causes.len() > 1 {
        format!(" (and {} more)", causes.len() - 1)
    } else {
        String::new()
    };
    let first = causes.first().map(format_denial).unwrap_or_default();
    let causes = causes
        .iter()
        .map(|denial| status_cause(denial.reason, &format_denial(denial), denial.field.as_ref()))
        .collect();
    let first = truncate_text(&first, MAX_MESSAGE);
    let message = format!("{first}{more}; to see the same verdict: {reproduce}");
    Some(failure_status(403, "Forbidden", message, causes))
}

fn admission_warnings(all: &[EvaluatedImage]) -> Vec<String> {
    all.iter()
        .flat_map(|image| image.admission_effect().warnings)
        .take(MAX_WARNINGS)
        .map(|warning| truncate_text(&format!("packgate: {warning}"), MAX_WARNING))
        .collect()
}

/// The annotations of the API server's audit log, under the webhook's name. Enforcement modes do
/// not change them.
fn audit_annotations(all: &[EvaluatedImage]) -> std::collections::HashMap<String, String> {
    let worst =
        all.iter()
            .map(|image| image.report.outcome())
            .max_by_key(|outcome| match outcome {
                ReportOutcome::Denied => 3,
                ReportOutcome::Ungoverned => 2,
                ReportOutcome::Exempt => 1,
                ReportOutcome::Admitted => 0,
            });
    let digests = all
        .iter()
        .filter_map(|image| Some(image.report.digest()?.to_string()));
    let policies = all
        .iter()
        .flat_map(|image| image.report.policies())
        .map(|policy| {
            format!(
                "{}@{}={}({})",
                policy.title(),
                policy.generation,
                policy.verdict.as_str(),
                policy.mode.as_str()
            )
        });
    let pairs = [
        (
            "outcome",
            worst
                .map(|outcome| outcome.as_str().to_owned())
                .unwrap_or_default(),
        ),
        ("digest", join_sorted(digests)),
        ("policies", join_sorted(policies)),
    ];
    pairs
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

fn join_sorted(values: impl Iterator<Item = String>) -> String {
    let mut values: Vec<String> = values.collect();
    values.sort_unstable();
    values.dedup();
    truncate_text(&values.join(","), MAX_MESSAGE)
}

fn failure_status(code: u16, reason: &str, message: String, causes: Vec<StatusCause>) -> Status {
    let nothing = String::new;
    let details = StatusDetails {
        name: nothing(),
        group: nothing(),
        kind: nothing(),
        uid: nothing(),
        causes,
        retry_after_seconds: 0,
    };
    Status {
        status: Some(StatusSummary::Failure),
        code,
        message,
        metadata: None,
        reason: reason.to_owned(),
        details: Some(details),
    }
}

fn status_cause(reason: Reason, message: &str, field: Option<&String>) -> StatusCause {
    StatusCause {
        reason: reason.as_str().to_owned(),
        message: truncate_text(message, MAX_MESSAGE),
        field: field.cloned().unwrap_or_default(),
    }
}

fn truncate_text(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        text.to_owned()
    } else {
        text.chars().take(most - 1).chain(['…']).collect()
    }
}

#[cfg(test)]
mod tests;
