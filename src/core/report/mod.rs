//! The report on one evaluated reference, in the common format of all of packgate's interfaces.

mod policy_title;
mod text;
mod verify_command;

use serde::Serialize;

use super::{
    digest::Digest,
    display_text::sanitize_text,
    intoto::Statement,
    policy::{
        AdmissionVerdict, AuthorityFinding, Denial, EnforcementMode, LockRule, PolicyDecision,
        PolicyOutcome, PolicyVerdict, ReferenceUse, SlsaFinding,
    },
    reason::{Class, ClassifiedError, Reason},
    verify::{
        RejectedEvidence, SigningTime, StoredSignatureFormat, TimeEvidenceStatus,
        VerificationFindings, Verified,
    },
};

pub use policy_title::PolicyKind;
use policy_title::{policy_kind_of, policy_namespace_of};
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
    /// `Report`.
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

/// The name of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum ReportOutcome {
    /// All requirements are met.
    Admitted,
    /// A requirement is not met.
    Denied,
    /// A requirement is not met, but an exemption applies.
    Exempt,
    /// No policy governs this use.
    Ungoverned,
}

/// The verdict of one policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyReport {
    /// Its name, which alone does not identify it: a namespace's policy may have the name of a
    /// cluster policy.
    pub name: String,
    /// `ClusterBundlePolicy` or `BundlePolicy`. Absent for flags of the command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<PolicyKind>,
    /// The namespace of a `BundlePolicy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its `metadata.generation`.
    pub generation: i64,
    /// What happens with its denials.
    pub mode: EnforcementMode,
    /// The verdict.
    pub verdict: ReportOutcome,
    /// The findings for each of its authorities.
    pub authorities: Vec<AuthorityReport>,
    /// What the provenance proves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slsa: Option<SlsaReport>,
}

/// Whether an authority's signature was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorityReport {
    /// The authority's name in the policy.
    pub name: String,
    /// True if it has a signature that counts.
    pub verified: bool,
    /// How that signature is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<StoredSignatureFormat>,
    /// A key's fingerprint, or an identity with its issuer in parentheses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// The signing time, by the evidence of a third party.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<jiff::Timestamp>,
}

/// What the SLSA provenance proves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SlsaReport {
    /// The builder id.
    pub builder: String,
    /// The SLSA Build level that the policy gives that builder.
    pub level: u8,
    /// `Exact` if the dependencies are those of the lock in the bundle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock: Option<LockRule>,
}

/// One reason for a denial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DenialReport {
    /// The stable reason code.
    pub reason: Reason,
    /// The class of the failure.
    pub class: Class,
    /// What is missing, and how to resolve it.
    pub message: String,
    /// The name of the policy that denies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The kind of that policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_kind: Option<PolicyKind>,
    /// The namespace of that policy, if it is a `BundlePolicy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_namespace: Option<String>,
    /// The authority that the denial is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// The field of an object that the denial is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// A verified referrer: its signature, subject, time and log entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifiedEvidenceReport {
    /// The digest of the referrer.
    pub referrer: Digest,
    /// The predicate type of the statement.
    pub predicate_type: String,
    /// How the signature is stored.
    pub format: StoredSignatureFormat,
    /// A key's fingerprint, or an identity with its issuer in parentheses.
    pub signer: String,
    /// The signing time, by the evidence of a third party.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<jiff::Timestamp>,
    /// The transparency log's evidence.
    pub log: TransparencyLogReport,
    /// The trust root that verifies signer, time or log entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_root: Option<Digest>,
}

/// The evidence of a transparency log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum TransparencyLogReport {
    /// It is in a log of the trust root.
    Included,
    /// There is a log entry that no trust root verifies.
    Unchecked,
    /// There is no log entry.
    None,
}

/// One rejected referrer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RejectedEvidenceReport {
    /// The digest of the referrer.
    pub referrer: Digest,
    /// The reason code.
    pub reason: Reason,
    /// The message.
    pub message: String,
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

fn denial_report(denial: &Denial, field: Option<&String>) -> DenialReport {
    DenialReport {
        reason: denial.reason,
        class: denial.class(),
        message: denial.message.clone(),
        policy: denial.policy.as_ref().map(|policy| policy.name.clone()),
        policy_kind: denial
            .policy
            .as_ref()
            .and_then(|policy| policy_kind_of(&policy.kind)),
        policy_namespace: denial
            .policy
            .as_ref()
            .and_then(|policy| policy_namespace_of(&policy.kind)),
        authority: denial.authority.clone(),
        field: field.cloned(),
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

impl From<&AdmissionVerdict> for ReportOutcome {
    fn from(verdict: &AdmissionVerdict) -> Self {
        match verdict {
            AdmissionVerdict::Admit(_) => Self::Admitted,
            AdmissionVerdict::Deny(_) => Self::Denied,
            AdmissionVerdict::Exempt(_) => Self::Exempt,
        }
    }
}

impl ReportOutcome {
    /// The name in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "Admitted",
            Self::Denied => "Denied",
            Self::Exempt => "Exempt",
            Self::Ungoverned => "Ungoverned",
        }
    }
}

impl From<&PolicyVerdict> for PolicyReport {
    fn from(policy: &PolicyVerdict) -> Self {
        Self {
            name: policy.identity.name.clone(),
            kind: policy_kind_of(&policy.identity.kind),
            namespace: policy_namespace_of(&policy.identity.kind),
            generation: policy.generation,
            mode: policy.mode,
            verdict: (&policy.verdict).into(),
            authorities: policy
                .authorities
                .iter()
                .map(AuthorityReport::from)
                .collect(),
            slsa: policy.slsa.as_ref().map(SlsaReport::from),
        }
    }
}

impl From<&AuthorityFinding> for AuthorityReport {
    fn from(finding: &AuthorityFinding) -> Self {
        let signature = finding.signature.as_ref();
        Self {
            name: finding.name.clone(),
            verified: signature.is_some(),
            format: signature.map(|(format, ..)| *format),
            signer: signature.map(|(_, signer, _)| signer.to_string()),
            time: signature.and_then(|(.., time): &(_, _, SigningTime)| time.timestamp()),
        }
    }
}

impl From<&SlsaFinding> for SlsaReport {
    fn from(finding: &SlsaFinding) -> Self {
        Self {
            builder: finding.builder.clone(),
            level: finding.level,
            lock: finding.lock_checked.then_some(LockRule::Exact),
        }
    }
}

impl From<&Verified<Statement>> for VerifiedEvidenceReport {
    fn from(verified: &Verified<Statement>) -> Self {
        let log = match verified.time_evidence() {
            _ if verified.is_logged() => TransparencyLogReport::Included,
            TimeEvidenceStatus::Unchecked => TransparencyLogReport::Unchecked,
            TimeEvidenceStatus::Absent | TimeEvidenceStatus::Verified => {
                TransparencyLogReport::None
            }
        };
        Self {
            referrer: *verified.referrer(),
            predicate_type: sanitize_text(&verified.claim().predicate_type),
            format: verified.signature_format(),
            signer: verified.signer().to_string(),
            time: verified.signing_time().timestamp(),
            log,
            trust_root: verified.trust_root().copied(),
        }
    }
}

impl From<&RejectedEvidence> for RejectedEvidenceReport {
    fn from(rejected: &RejectedEvidence) -> Self {
        Self {
            referrer: rejected.referrer,
            reason: rejected.reason,
            message: rejected.message.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
