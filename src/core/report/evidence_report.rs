//! What a report says of each piece of evidence.

use serde::Serialize;

use crate::core::{
    digest::Digest,
    intoto::Statement,
    reason::Reason,
    verify::{
        RejectedEvidence, StoredSignatureFormat, TimeEvidenceStatus, Verified, sanitize_text,
    },
};

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
