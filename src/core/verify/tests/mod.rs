//! One valid case and every single fault, each with its one reason.

mod budget;
mod certificate;
mod chains;
mod company;
mod genuine;
mod keyed;
mod keyless;
mod matrix;
mod tag_based_signatures;

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{testing::*, *};
use crate::core::{
    digest::Digest,
    intoto::{COSIGN_SIGN, STATEMENT_V01, Statement},
    limits::InputLimits,
    media_type,
    oci::{Descriptor, ManifestOrIndex},
    reason::Reason,
};

fn subject() -> Digest {
    Digest::of_bytes(b"the judged manifest")
}

/// Verifies one candidate and returns the result: the predicate type of the statement, or the
/// reason.
fn verdict(candidate: ReferrerCandidate, trust: &TrustedMaterial) -> Result<String, Reason> {
    let findings = verify_evidence(
        &subject(),
        &evidence(vec![candidate]),
        trust,
        &InputLimits::DEFAULT,
    );
    match (&findings.verified[..], &findings.rejected[..]) {
        ([verified], []) => Ok(verified.claim().predicate_type.clone()),
        ([], [rejected]) => Err(rejected.reason),
        other => panic!("one candidate, one answer: {other:?}"),
    }
}

fn refused(reason: Reason, candidate: ReferrerCandidate, trust: &TrustedMaterial) {
    assert_eq!(verdict(candidate, trust), Err(reason));
}
