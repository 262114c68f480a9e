//! The report on one evaluated reference, in the common format of all of packgate's interfaces.

mod evidence_report;
mod outcome;
mod policy_report;
mod text;
mod verify_command;

use serde::Serialize;

use super::{
    digest::Digest,
    display_text::sanitize_text,
    intoto::Statement,
    policy::{
        AdmissionVerdict, Denial, EnforcementMode, PolicyDecision, PolicyOutcome, PolicyVerdict,
        ReferenceUse,
    },
    reason::{Class, ClassifiedError},
    verify::{VerificationFindings, Verified},
};

pub use evidence_report::{RejectedEvidenceReport, TransparencyLogReport, VerifiedEvidenceReport};
pub use outcome::ReportOutcome;
use policy_report::denial_report;
pub use policy_report::{AuthorityReport, DenialReport, PolicyKind, PolicyReport, SlsaReport};
pub use verify_command::{cluster_verify_command, shell_quote};

const API_VERSION: &str = "packgate.dev/v1alpha1";
const KIND: &str = "Report";

/// The report on one evaluated reference, for people and for other programs. It is output only:
/// nothing is decided from it, so its fields are private and it cannot be read back.
///
/// ```compile_fail
/// # use packgate::core::report::AdmissionReport;
/// fn read_back(json: &str) -> AdmissionReport {
///     serde_json::from_str(json).expect("a report")
/// }
/// ```
///
/// ```compile_fail
/// # use packgate::core::report::AdmissionReport;
/// fn admit(report: AdmissionReport) -> AdmissionReport {
///     AdmissionReport { admitted: true, ..report }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AdmissionReport {
    /// `packgate.dev/v1alpha1`.
    api_version: String,
    kind: String,
    /// The verdict of all policies, before enforcement modes.
    outcome: ReportOutcome,
    /// True if admitted, after enforcement modes.
    admitted: bool,
    /// The reference as written.
    reference: String,
    /// The digest that it was resolved to; absent if it was not resolved.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    /// How the image is used.
    #[serde(rename = "use")]
    used_as: ReferenceUse,
    /// The field of an object that contains the reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// The verdict of every governing policy.
    policies: Vec<PolicyReport>,
    /// The reasons for the denial.
    denials: Vec<DenialReport>,
    /// All verified evidence, whichever policy accepts it, with the checks made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    verified: Vec<VerifiedEvidenceReport>,
    /// Evidence that was rejected, with the reasons.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rejected: Vec<RejectedEvidenceReport>,
    /// Settings that weaken the verdict.
    #[serde(rename = "unsafe")]
    unsafe_settings: Vec<String>,
    /// The command that reproduces the verdict.
    reproduce: String,
    /// The duration in milliseconds.
    elapsed_ms: u64,
    /// The number of registry requests.
    registry_requests: u64,
}

/// The request that a report is about, and its cost.
#[derive(Clone, Debug, Default)]
pub struct ReportInputs {
    /// The reference as written.
    pub reference: String,
    /// The digest that the reference was resolved to.
    pub digest: Option<Digest>,
    /// How the image is used.
    pub used_as: ReferenceUse,
    /// The field of an object that contains the reference.
    pub field: Option<String>,
    /// Settings outside of the policies that weaken the verdict, such as plain HTTP.
    pub unsafe_settings: Vec<String>,
    /// The command that reproduces the verdict.
    pub reproduce: String,
    /// The duration in milliseconds.
    pub elapsed_ms: u64,
    /// The number of registry requests.
    pub registry_requests: u64,
}

impl AdmissionReport {
    /// The report on a decision and the rejected evidence.
    pub fn new(
        inputs: ReportInputs,
        decision: &PolicyDecision,
        findings: &VerificationFindings,
    ) -> Self {
        let (outcome, denials) = match decision.outcome() {
            PolicyOutcome::Ungoverned => (ReportOutcome::Ungoverned, Vec::new()),
            PolicyOutcome::Governed(verdict @ AdmissionVerdict::Deny(denials)) => (
                verdict.into(),
                denials
                    .iter()
                    .map(|d| denial_report(d, inputs.field.as_ref()))
                    .collect(),
            ),
            PolicyOutcome::Governed(verdict) => (verdict.into(), Vec::new()),
        };
        let mut report = Self::without_findings(inputs, outcome, denials);
        report.admitted = decision.is_admitted();
        report.policies = decision.policies().iter().map(PolicyReport::from).collect();
        report.verified = strongest_evidence(findings)
            .map(VerifiedEvidenceReport::from)
            .collect();
        report.rejected = findings
            .rejected
            .iter()
            .map(RejectedEvidenceReport::from)
            .collect();
        report
            .unsafe_settings
            .extend(decision.policies().iter().flat_map(unsafe_settings_of));
        report
    }

    /// The report on an error: no verdict was reached. An error never admits.
    pub fn from_error(inputs: ReportInputs, error: &dyn ClassifiedError) -> Self {
        let first = denial_report(
            &Denial::new(error.reason(), sanitize_text(&error.to_string())),
            inputs.field.as_ref(),
        );
        let denials = vec![DenialReport {
            class: error.class(),
            ..first
        }];
        Self::without_findings(inputs, ReportOutcome::Denied, denials)
    }

    /// The same verdict on the same digest, for another request: with its reference, field and
    /// command, and the time and registry requests that it took.
    #[must_use]
    pub fn for_request(&self, inputs: ReportInputs) -> Self {
        let mut report = Self {
            reference: inputs.reference,
            field: inputs.field.clone(),
            reproduce: inputs.reproduce,
            elapsed_ms: inputs.elapsed_ms,
            registry_requests: inputs.registry_requests,
            ..self.clone()
        };
        for denial in &mut report.denials {
            denial.field.clone_from(&inputs.field);
        }
        report
    }

    /// The verdict of all policies, before enforcement modes.
    pub const fn outcome(&self) -> ReportOutcome {
        self.outcome
    }

    /// True if admitted, after enforcement modes.
    pub const fn is_admitted(&self) -> bool {
        self.admitted
    }

    /// The digest that the reference was resolved to, if it was.
    pub const fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The reference as written.
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// How the image is used.
    pub const fn used_as(&self) -> ReferenceUse {
        self.used_as
    }

    /// The field of an object that contains the reference, if it comes from one.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// Settings that weaken the verdict.
    pub fn unsafe_settings(&self) -> &[String] {
        &self.unsafe_settings
    }

    /// The verdict of every governing policy.
    pub fn policies(&self) -> &[PolicyReport] {
        &self.policies
    }

    /// The reasons for the denial.
    pub fn denials(&self) -> &[DenialReport] {
        &self.denials
    }

    /// The command that reproduces the verdict.
    pub fn reproduce_command(&self) -> &str {
        &self.reproduce
    }

    /// The number of registry requests.
    pub const fn registry_requests(&self) -> u64 {
        self.registry_requests
    }

    /// The class of the result: `None` if it was admitted or exempted; otherwise the first denial's
    /// class. An ungoverned reference is denied.
    pub fn class(&self) -> Option<Class> {
        match self.outcome {
            ReportOutcome::Admitted | ReportOutcome::Exempt => None,
            ReportOutcome::Denied => Some(
                self.denials
                    .first()
                    .map_or(Class::Denied, |denial| denial.class),
            ),
            ReportOutcome::Ungoverned => Some(Class::Denied),
        }
    }

    /// The command line's exit code. Enforcement modes do not change it.
    pub fn exit_code(&self) -> u8 {
        self.class().map_or(0, Class::exit_code)
    }

    /// The report as text: aligned lines without colours, safe for a terminal.
    pub fn to_text(&self) -> String {
        text::render_report(self)
    }

    fn without_findings(
        inputs: ReportInputs,
        outcome: ReportOutcome,
        denials: Vec<DenialReport>,
    ) -> Self {
        Self {
            api_version: API_VERSION.into(),
            kind: KIND.into(),
            outcome,
            admitted: false,
            reference: inputs.reference,
            digest: inputs.digest,
            used_as: inputs.used_as,
            field: inputs.field,
            policies: Vec::new(),
            denials,
            verified: Vec::new(),
            rejected: Vec::new(),
            unsafe_settings: inputs.unsafe_settings,
            reproduce: inputs.reproduce,
            elapsed_ms: inputs.elapsed_ms,
            registry_requests: inputs.registry_requests,
        }
    }
}

/// Evidence by a key alone is omitted if a trust root verifies the same signature: it is one
/// evidence item.
fn strongest_evidence(
    findings: &VerificationFindings,
) -> impl Iterator<Item = &Verified<Statement>> {
    let has_stronger = |one: &Verified<Statement>| {
        let same = |other: &Verified<Statement>| {
            other.referrer() == one.referrer() && other.signer() == one.signer()
        };
        findings
            .verified
            .iter()
            .any(|other| other.trust_root().is_some() && same(other))
    };
    findings
        .verified
        .iter()
        .filter(move |one| one.trust_root().is_some() || !has_stronger(one))
}

/// The settings that weaken a policy.
fn unsafe_settings_of(policy: &PolicyVerdict) -> Vec<String> {
    let mut all = policy.unsafe_settings.clone();
    match &policy.verdict {
        AdmissionVerdict::Exempt(by) => all.push(format!(
            "{}: exempt until {}: {}",
            by.policy(),
            by.expires(),
            by.reason()
        )),
        AdmissionVerdict::Deny(_) if policy.mode != EnforcementMode::Enforce => {
            all.push(format!(
                "{}: mode is {}, its denial is not enforced",
                policy.identity,
                policy.mode.as_str()
            ));
        }
        _ => {}
    }
    all
}

#[cfg(test)]
mod tests;
