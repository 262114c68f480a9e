//! The messages between the controller and its Jobs: [`JobInputs`] go in, a [`JobReport`] comes
//! out.
//!
//! Both are wire types of one release: the controller starts Jobs with its own image. A report is
//! an unverified claim; the controller reads everything else from the registry.

mod fetch;
mod inputs;
mod recorded_layer;
mod report;
#[cfg(test)]
mod tests;

pub use fetch::{
    FETCH_CREDENTIAL_KEYS, FETCH_PROXY_FOLDER, FETCH_PROXY_KEYS, JobFetch, JobFetchCredential,
    JobFetchMirror,
};
pub use inputs::{
    INPUTS_FILE, INPUTS_VERSION, JobDestination, JobInputs, JobInputsError, JobLockSource,
    JobRegistry, JobRunKey, JobSigning, JobSigningMode, JobTagPolicy, LOCK_FILE, MAX_SNAPSHOT,
    PackedBundleIdentity, PackerImage,
};
pub use recorded_layer::JobRecordedLayer;
pub use report::{
    EvidenceDigest, JobFailure, JobReport, JobReportError, JobStep, JobSuccess, MAX_MESSAGE_BYTES,
    MAX_REPORT_BYTES,
};
