//! A request to verify a bundle, and why it may get no verdict.

use jiff::Timestamp;

use super::bundle_contents::BundleContentsError;
use crate::{
    core::{
        policy::{Policy, ReferenceTarget, ReferenceUse, ReferenceUseScope},
        reason::{ClassifiedError, Reason},
        reference::ImageRepository,
    },
    oci::OciError,
};

/// How thoroughly stored evidence is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EvidenceDepth {
    /// What a verdict needs.
    #[default]
    Needed,
    /// Every blob of every referrer, the empty config too: for layouts and archives whose every
    /// byte has to match its digest.
    EveryBlob,
}

/// A request to verify a bundle.
#[derive(Clone, Copy, Debug)]
pub struct VerificationRequest<'a> {
    /// The policies that may govern it.
    pub policies: &'a [Policy],
    /// The reference as written.
    pub reference: &'a str,
    /// Its repository; `None` for a layout or archive.
    pub repository: Option<&'a ImageRepository>,
    /// True if the reference contains a digest.
    pub had_digest: bool,
    /// How the bundle is used.
    pub used_as: ReferenceUse,
    /// The namespace of the use.
    pub namespace: Option<&'a str>,
    /// The time of the evaluation.
    pub now: Timestamp,
    /// How thoroughly stored evidence is read.
    pub reading: EvidenceDepth,
}

impl VerificationRequest<'_> {
    /// True if any policy governs the use. If not, nothing need be fetched.
    pub fn is_governed(&self) -> bool {
        self.policies
            .iter()
            .any(|policy| policy.governs_scope(&self.policy_scope()))
    }

    /// The reference and how it is used, for policies.
    pub fn policy_scope(&self) -> ReferenceUseScope<'_> {
        ReferenceUseScope {
            name: self
                .repository
                .map_or(ReferenceTarget::Local, ReferenceTarget::Repository),
            used_as: self.used_as,
            namespace: self.namespace,
        }
    }
}

/// Why there is no verdict. The caller must deny.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Evidence could not be read.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// A policy compares with the lock, and the subject is not a packgate bundle.
    #[error(transparent)]
    Contents(#[from] BundleContentsError),
    /// Too many requests wait for memory or a thread.
    #[error("too many verifications are waiting; try again")]
    Overloaded,
    /// A thread panicked or was cancelled; the message.
    #[error("internal: {0}")]
    Worker(String),
}

impl ClassifiedError for VerifyError {
    fn reason(&self) -> Reason {
        match self {
            Self::Oci(error) => error.reason(),
            Self::Contents(error) => error.reason(),
            Self::Overloaded => Reason::Overloaded,
            Self::Worker(_) => Reason::Internal,
        }
    }
}
