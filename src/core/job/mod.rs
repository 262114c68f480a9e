//! What the controller and its Jobs tell each other: [`Inputs`] go in, a [`JobReport`] comes out.
//!
//! Both are wire types of one release: the controller starts Jobs with its own image. A report is a
//! claim, never a fact; whoever acts on it reads everything else from the registry.

mod inputs;
mod report;

pub use inputs::{
    BundleIdentity, Destination, INPUTS_FILE, INPUTS_VERSION, Inputs, InputsError, LOCK_FILE,
    MAX_SNAPSHOT, Packer, Recorded, Registry, RunKey, Signing, SigningMode, SourceOrigin,
    TagPolicy,
};
pub use report::{
    EvidenceDigest, Failure, JobReport, MAX_MESSAGE, MAX_REPORT, ReportError, Step, Success,
};
