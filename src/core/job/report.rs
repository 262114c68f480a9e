//! A Job's report: the termination message of its container.

use serde::{Deserialize, Serialize};

use crate::core::{
    digest::Digest,
    json,
    reason::{Class, ClassifiedError, Reason, classify},
};

/// Bytes of a termination message, the kubelet's own limit.
pub const MAX_REPORT_BYTES: usize = 4_096;
/// Bytes of [`JobFailure::message`].
pub const MAX_MESSAGE_BYTES: usize = 1_024;
const VERSION: u32 = 1;

/// The step of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobStep {
    /// Packs, and pushes by digest.
    Pack,
    /// Rebuilds, signs, attests, verifies, tags.
    Sign,
}

/// A Job's report about itself. A claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "TerminationMessage", into = "TerminationMessage")]
pub struct JobReport {
    /// The step.
    pub step: JobStep,
    /// The result.
    pub result: Result<JobSuccess, JobFailure>,
}

/// The report of a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSuccess {
    /// The digest of the canonical lock.
    pub lock_digest: Digest,
    /// The digest of the bundle.
    pub digest: Digest,
    /// Bytes of all blobs and manifests.
    pub size: u64,
    /// Layers of the first manifest, with the lock's.
    pub layers: usize,
    /// The number of artifacts in the lock.
    pub artifacts: usize,
    /// Referrers that attest it: those that this run added, and those from an earlier run.
    pub evidence: Vec<EvidenceDigest>,
}

/// A referrer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidenceDigest {
    /// Its predicate type.
    pub predicate_type: String,
    /// The digest of the referrer's manifest.
    pub digest: Digest,
}

/// The report of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFailure {
    /// The reason code.
    pub reason: Reason,
    /// The message, at most [`MAX_MESSAGE_BYTES`] bytes.
    pub message: String,
}

/// Why a termination message is not a valid report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum JobReportError {
    /// Not JSON, too large, or with unknown or missing fields.
    #[error("the termination message is not a job report: {0}")]
    Shape(String),
    #[error("the job report has version {0}, this release supports {VERSION}")]
    Version(u32),
}

classify!(JobReportError, |_| Reason::JobFailed);

impl JobFailure {
    /// A failure, with its message shortened to the limit.
    pub fn new(reason: Reason, message: &str) -> Self {
        let mut end = message.len().min(MAX_MESSAGE_BYTES);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        Self {
            reason,
            message: message[..end].to_owned(),
        }
    }

    /// A failure from an error with a reason code.
    pub fn from_error(error: &dyn ClassifiedError) -> Self {
        Self::new(error.reason(), &error.to_string())
    }

    /// The class of the failure.
    pub const fn class(&self) -> Class {
        self.reason.class()
    }
}

impl JobReport {
    /// Reads a termination message.
    pub fn parse(message: &str) -> Result<Self, JobReportError> {
        let wire: TerminationMessage = json::parse_strict(message.as_bytes(), MAX_REPORT_BYTES, 8)
            .map_err(|e| JobReportError::Shape(e.to_string()))?;
        Self::try_from(wire)
    }

    /// The termination message. Evidence that does not fit is omitted: the registry lists it.
    pub fn to_termination_message(&self) -> serde_json::Result<String> {
        let text = serde_json::to_string(self)?;
        if text.len() <= MAX_REPORT_BYTES {
            return Ok(text);
        }
        let mut short = self.clone();
        match &mut short.result {
            Ok(success) => success.evidence.clear(),
            // Quoting may have made it up to six times longer.
            Err(failure) => {
                *failure = JobFailure::new(
                    failure.reason,
                    &failure.message[..failure.message.floor_char_boundary(MAX_MESSAGE_BYTES / 2)],
                );
            }
        }
        serde_json::to_string(&short)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TerminationMessage {
    v: u32,
    step: JobStep,
    result: JobResultWord,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lock_digest: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layers: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifacts: Option<usize>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    evidence: Vec<EvidenceDigest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    class: Option<Class>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

#[derive(Serialize, Deserialize)]
enum JobResultWord {
    Succeeded,
    Failed,
}

impl TryFrom<TerminationMessage> for JobReport {
    type Error = JobReportError;

    fn try_from(wire: TerminationMessage) -> Result<Self, JobReportError> {
        let TerminationMessage {
            v,
            step,
            result,
            lock_digest,
            digest,
            size,
            layers,
            artifacts,
            evidence,
            reason,
            class: _,
            message,
        } = wire;
        if v != VERSION {
            return Err(JobReportError::Version(v));
        }
        let missing = |field: &str| JobReportError::Shape(format!("{field} is missing"));
        let result = match result {
            JobResultWord::Succeeded => Ok(JobSuccess {
                lock_digest: lock_digest.ok_or_else(|| missing("lockDigest"))?,
                digest: digest.ok_or_else(|| missing("digest"))?,
                size: size.ok_or_else(|| missing("size"))?,
                layers: layers.ok_or_else(|| missing("layers"))?,
                artifacts: artifacts.ok_or_else(|| missing("artifacts"))?,
                evidence,
            }),
            JobResultWord::Failed => Err(JobFailure::new(
                reason.ok_or_else(|| missing("reason"))?,
                message.as_deref().unwrap_or_default(),
            )),
        };
        Ok(Self { step, result })
    }
}

impl From<JobReport> for TerminationMessage {
    fn from(JobReport { step, result }: JobReport) -> Self {
        let empty = Self {
            v: VERSION,
            step,
            result: JobResultWord::Succeeded,
            lock_digest: None,
            digest: None,
            size: None,
            layers: None,
            artifacts: None,
            evidence: Vec::new(),
            reason: None,
            class: None,
            message: None,
        };
        match result {
            Ok(JobSuccess {
                lock_digest,
                digest,
                size,
                layers,
                artifacts,
                evidence,
            }) => Self {
                lock_digest: Some(lock_digest),
                digest: Some(digest),
                size: Some(size),
                layers: Some(layers),
                artifacts: Some(artifacts),
                evidence,
                ..empty
            },
            Err(failure) => Self {
                result: JobResultWord::Failed,
                class: Some(failure.class()),
                reason: Some(failure.reason),
                message: Some(failure.message),
                ..empty
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_written_as_the_formats_page_says() {
        let hex = "0".repeat(64);
        let packed = format!(
            r#"{{"v":1,"step":"pack","result":"Succeeded","lockDigest":"sha256:{hex}","digest":"sha256:{hex}","size":10486272,"layers":13,"artifacts":12}}"#
        );
        let refused = r#"{"v":1,"step":"sign","result":"Failed","reason":"LockMismatch","class":"Denied","message":"layer 3: …"}"#;
        for text in [packed.as_str(), refused] {
            let report = JobReport::parse(text).expect("a report");
            assert_eq!(report.to_termination_message().expect("written"), text);
        }
    }

    #[test]
    fn what_is_no_report_is_refused() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"v":2,"step":"pack","result":"Failed","reason":"Internal"}"#,
            r#"{"v":1,"step":"pack","result":"Succeeded"}"#,
        ] {
            assert_eq!(
                JobReport::parse(text).expect_err(text).reason(),
                Reason::JobFailed
            );
        }
        assert!(JobReport::parse(&" ".repeat(MAX_REPORT_BYTES + 1)).is_err());
    }

    #[test]
    fn messages_fit() {
        for text in ["ü".repeat(2_000), "\u{1}".repeat(2_000), "\"".repeat(5_000)] {
            let report = JobReport {
                step: JobStep::Pack,
                result: Err(JobFailure::new(Reason::FetchFailed, &text)),
            };
            let message = report.to_termination_message().expect("written");
            assert!(message.len() <= MAX_REPORT_BYTES, "{} bytes", message.len());
            assert_eq!(
                JobReport::parse(&message).expect("read").step,
                JobStep::Pack
            );
        }
    }
}
