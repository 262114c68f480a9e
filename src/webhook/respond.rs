//! The one place that makes an answer to the API server, and the only one where a denial can become
//! "allowed, with a warning".

use kube::core::{
    DynamicObject, Status,
    admission::{AdmissionRequest, AdmissionResponse},
    response::{StatusCause, StatusDetails, StatusSummary},
};

use crate::{
    api::installation::NoMatchAction,
    core::{
        class::Reason,
        policy::Mode,
        report::{DenialReport, Report, ReportOutcome},
    },
};

/// Characters of a warning. Longer ones are cut by the API server, all of them together at 4,096.
const MAX_WARNING: usize = 256;
/// Warnings in one answer.
const MAX_WARNINGS: usize = 8;
/// Characters of the message. Terminals and events are what it is for.
const MAX_MESSAGE: usize = 2_048;

/// What is to be answered.
#[derive(Debug)]
pub(super) enum Answer {
    /// There is nothing to judge.
    Nothing,
    /// The object does not have the shape that it must have.
    Shape {
        /// The field.
        field: String,
        /// What is wrong with it.
        message: String,
    },
    /// The user may not do this, whatever the policies say.
    Forbidden {
        /// The reason's stable name.
        reason: Reason,
        /// The field.
        field: String,
        /// What is missing, and the way out.
        message: String,
    },
    /// Every image that the object uses, judged.
    Judged(Vec<Judged>),
}

/// One judged image.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    /// The verdict.
    pub report: Report,
    /// What this use gets if no policy governs it.
    pub no_match: NoMatchAction,
}

/// What becomes of one judged image.
#[derive(Debug, Default)]
struct Consequence {
    causes: Vec<DenialReport>,
    warnings: Vec<String>,
}

impl Judged {
    /// Does it stand in the way?
    pub(super) fn refuses(&self) -> bool {
        !self.consequence().causes.is_empty()
    }

    fn consequence(&self) -> Consequence {
        let report = &self.report;
        match (report.outcome, self.no_match) {
            (ReportOutcome::Denied, _) if report.admitted => Consequence {
                causes: Vec::new(),
                warnings: self.softened(),
            },
            (ReportOutcome::Denied, _) => Consequence {
                causes: report.denials.clone(),
                warnings: Vec::new(),
            },
            (ReportOutcome::Ungoverned, NoMatchAction::Deny) => Consequence {
                causes: vec![self.ungoverned()],
                warnings: Vec::new(),
            },
            (ReportOutcome::Ungoverned, NoMatchAction::Warn) => Consequence {
                causes: Vec::new(),
                warnings: vec![sentence(&self.ungoverned())],
            },
            (ReportOutcome::Ungoverned, NoMatchAction::Allow) => Consequence::default(),
            (ReportOutcome::Admitted | ReportOutcome::Exempt, _) => Consequence {
                causes: Vec::new(),
                warnings: report
                    .unsafe_settings
                    .iter()
                    .map(|setting| format!("unsafe: {setting}"))
                    .collect(),
            },
        }
    }

    /// Denials of policies that only warn. Those that only audit are told in the audit log, and
    /// nowhere else.
    fn softened(&self) -> Vec<String> {
        let warns = |denial: &&DenialReport| {
            self.report
                .policies
                .iter()
                .any(|policy| policy.mode == Mode::Warn && denial.is_by(policy))
        };
        self.report
            .denials
            .iter()
            .filter(warns)
            .map(sentence)
            .collect()
    }

    fn ungoverned(&self) -> DenialReport {
        let message = format!(
            "no policy governs {} as {}; write a ClusterBundlePolicy or BundlePolicy",
            self.report.reference, self.report.used_as
        );
        DenialReport {
            reason: Reason::Ungoverned,
            class: Reason::Ungoverned.class(),
            message,
            policy: None,
            policy_kind: None,
            policy_namespace: None,
            authority: None,
            field: self.report.field.clone(),
        }
    }
}

/// `spec.volumes[0].image.reference: NoSignatures: ClusterBundlePolicy platform: no signature was
/// found`
fn sentence(denial: &DenialReport) -> String {
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

/// The answer. It begins as a denial and becomes anything else only here.
pub(super) fn respond(
    request: &AdmissionRequest<DynamicObject>,
    answer: &Answer,
) -> AdmissionResponse {
    let mut response = AdmissionResponse::from(request).deny("verification did not complete");
    match answer {
        Answer::Nothing => allow(&mut response),
        Answer::Shape { field, message } => {
            let cause = cause(Reason::InvalidSpec, message, Some(field));
            response.result = refusal(422, "Invalid", format!("{field}: {message}"), vec![cause]);
        }
        Answer::Forbidden {
            reason,
            field,
            message,
        } => {
            let place = if field.is_empty() {
                String::new()
            } else {
                format!("{field}: ")
            };
            response.result = refusal(
                403,
                "Forbidden",
                format!("{place}{reason}: {message}"),
                vec![cause(*reason, message, Some(field))],
            );
        }
        Answer::Judged(all) => judged(&mut response, all),
    }
    response
}

fn allow(response: &mut AdmissionResponse) {
    response.allowed = true;
    response.result = Status::default();
}

fn judged(response: &mut AdmissionResponse, all: &[Judged]) {
    let mut refused = all
        .iter()
        .map(|judged| (judged, judged.consequence()))
        .filter(|(_, consequence)| !consequence.causes.is_empty());
    if let Some((first, consequence)) = refused.next() {
        let reproduce = &first.report.reproduce;
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
        let first = causes.first().map(sentence).unwrap_or_default();
        let causes = causes
            .iter()
            .map(|denial| cause(denial.reason, &sentence(denial), denial.field.as_ref()))
            .collect();
        response.result = refusal(
            403,
            "Forbidden",
            format!(
                "{}{more}; to see the same verdict: {reproduce}",
                cut(&first, MAX_MESSAGE)
            ),
            causes,
        );
    } else {
        allow(response);
        let warnings = all
            .iter()
            .flat_map(|judged| judged.consequence().warnings)
            .take(MAX_WARNINGS);
        let shown: Vec<String> = warnings
            .map(|warning| cut(&format!("packgate: {warning}"), MAX_WARNING))
            .collect();
        response.warnings = (!shown.is_empty()).then_some(shown);
    }
    response.audit_annotations = annotations(all);
}

/// What the API server writes into its audit log, under the webhook's name. Modes do not change it.
fn annotations(all: &[Judged]) -> std::collections::HashMap<String, String> {
    let worst =
        all.iter()
            .map(|judged| judged.report.outcome)
            .max_by_key(|outcome| match outcome {
                ReportOutcome::Denied => 3,
                ReportOutcome::Ungoverned => 2,
                ReportOutcome::Exempt => 1,
                ReportOutcome::Admitted => 0,
            });
    let digests = all
        .iter()
        .filter_map(|judged| Some(judged.report.digest?.to_string()));
    let policies = all
        .iter()
        .flat_map(|judged| &judged.report.policies)
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
        ("digest", list(digests)),
        ("policies", list(policies)),
    ];
    pairs
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

fn list(values: impl Iterator<Item = String>) -> String {
    let mut values: Vec<String> = values.collect();
    values.sort_unstable();
    values.dedup();
    cut(&values.join(","), MAX_MESSAGE)
}

fn refusal(code: u16, reason: &str, message: String, causes: Vec<StatusCause>) -> Status {
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

fn cause(reason: Reason, message: &str, field: Option<&String>) -> StatusCause {
    StatusCause {
        reason: reason.as_str().to_owned(),
        message: cut(message, MAX_MESSAGE),
        field: field.cloned().unwrap_or_default(),
    }
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        text.to_owned()
    } else {
        text.chars().take(most - 1).chain(['…']).collect()
    }
}

#[cfg(test)]
mod tests;
