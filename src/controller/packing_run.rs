//! A packing run: its frozen lock, its Jobs, its tag, and its record in the status.

use jiff::Timestamp;

use crate::{
    api::{
        condition::SUCCEEDED,
        packed_bundle::{PackedBundleStatus, PackingRequest, SigningParty},
    },
    core::{
        digest::Digest,
        job::{JobFailure, JobRunKey, JobSuccess},
        reference::ImageTag,
    },
};

/// A frozen lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FrozenLock {
    /// The run that packs it.
    pub run: JobRunKey,
    /// The canonical lock's digest.
    pub lock: Digest,
    /// When it was frozen.
    pub at: Timestamp,
}

/// The state of a Job, from its conditions and Pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JobState {
    /// The Job does not exist.
    Absent,
    /// The Job is not finished.
    Running {
        /// What prevents it from starting, if anything.
        problem: Option<String>,
    },
    /// The cluster does not let it create a Pod.
    PodDenied {
        /// The cluster's message.
        why: String,
    },
    /// It reports success. A claim.
    Succeeded {
        /// The report of the Pod.
        report: JobSuccess,
        /// When the Job finished.
        at: Timestamp,
    },
    /// The Job failed and is not retried.
    Failed {
        /// The reason and message.
        failure: JobFailure,
        /// When the Job finished.
        at: Timestamp,
    },
}

/// The Job that a reconcile waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JobPhase {
    /// The pack Job.
    Packing,
    /// The sign Job.
    Signing,
}

impl JobState {
    /// When the Job finished, if it did.
    pub(super) const fn ended_at(&self) -> Option<Timestamp> {
        match self {
            Self::Succeeded { at, .. } | Self::Failed { at, .. } => Some(*at),
            Self::Absent | Self::Running { .. } | Self::PodDenied { .. } => None,
        }
    }
}

/// The tag that a run sets: the requested one, or else one derived from the lock. Every bundle gets
/// a tag.
pub(super) fn bundle_tag(packing: &PackingRequest, lock: &Digest) -> Option<ImageTag> {
    match (&packing.signing, &packing.tag) {
        (SigningParty::Unsigned, _) => None,
        (_, Some(tag)) => Some(tag.clone()),
        (_, None) => format!("lock-{}", &lock.hex_digits()[..12]).parse().ok(),
    }
}

/// The bundle digest in the newest record of this run. A later failure means that the bundle was
/// lost since.
pub(super) fn recorded_bundle_digest(
    status: &PackedBundleStatus,
    run: &JobRunKey,
) -> Option<Digest> {
    let entry = status
        .history
        .iter()
        .find(|entry| entry.run == run.as_str())?;
    if entry.reason == SUCCEEDED {
        entry.digest.as_deref()?.parse().ok()
    } else {
        None
    }
}
