//! Signatures with a certificate: of a trust root's certificate authority, or of a private one.

use std::collections::HashSet;

use sigstore_types::DsseEnvelope;

use crate::core::{sigstore_bundle::SigstoreBundle, x509::errors_to_report};

use super::{
    EvidenceError,
    outcome::{AuthenticationOutcome, CandidateContext},
    private_ca::authenticate_by_private_ca,
    sigstore::{SignedArtifact, authenticate_certificate},
    verified::AuthenticatedSignature,
};

/// Verifies a certificate with trust roots, or with private CAs.
pub(super) fn authenticate_by_certificate(
    bundle: &SigstoreBundle,
    envelope: &DsseEnvelope,
    context: &CandidateContext<'_>,
) -> Result<AuthenticationOutcome, EvidenceError> {
    let trust = context.trust;
    let by_root = || {
        let size = envelope.payload.as_bytes().len();
        let manifest = || SignedArtifact::manifest(context.subject);
        authenticate_by_trust_roots(bundle, size, manifest, context)
    };
    if trust.authorities.is_empty() {
        return by_root().map(AuthenticationOutcome::from_found);
    }
    let mut by_ca = authenticate_by_private_cas(bundle, envelope, context);
    if trust.roots.is_empty() {
        return Ok(by_ca);
    }
    match by_root() {
        // A revocation by the issuer is reported, even if another authority verifies the
        // certificate. That another authority did not issue it is not reported.
        Ok(found) => {
            by_ca.faults.retain(|fault| fault.signer().is_some());
            by_ca.found.splice(0..0, found);
        }
        Err(one) if by_ca.found.is_empty() => {
            by_ca.faults.push(one);
            by_ca.faults = errors_to_report(by_ca.faults);
        }
        Err(_) => {}
    }
    Ok(by_ca)
}

/// All signatures that a trust root verifies, or, if there are none, the error of the furthest
/// check. `size`: the bytes that each check hashes.
pub(crate) fn authenticate_by_trust_roots<'a>(
    bundle: &SigstoreBundle,
    size: usize,
    artifact: impl Fn() -> SignedArtifact<'a>,
    context: &CandidateContext<'_>,
) -> Result<Vec<AuthenticatedSignature>, EvidenceError> {
    let mut outcome = AuthenticationOutcome::default();
    for root in &context.trust.roots {
        let verified = context
            .effort
            .spend_check_for_bytes(size)
            .and_then(|()| authenticate_certificate(root, bundle, artifact()));
        outcome.record(verified);
    }
    outcome.require_found()
}

/// Tries each authority on its own, so that the deadline and the remaining checks are tested in
/// between.
fn authenticate_by_private_cas(
    bundle: &SigstoreBundle,
    envelope: &DsseEnvelope,
    context: &CandidateContext<'_>,
) -> AuthenticationOutcome {
    let size = envelope.payload.as_bytes().len();
    let (mut outcome, mut seen) = (AuthenticationOutcome::default(), HashSet::new());
    for issuing in &context.trust.authorities {
        let root = issuing.root.as_ref().map(|root| root.digest());
        if seen.insert((issuing.authority.digest(), root)) {
            let verified = context
                .effort
                .spend_check_for_bytes(size)
                .and_then(|()| authenticate_by_private_ca(bundle, envelope, issuing, context));
            outcome.record(verified);
        }
    }
    if outcome.found.is_empty() {
        outcome.faults = errors_to_report(outcome.faults);
    } else {
        // That another authority did not issue it is not reported.
        outcome.faults.retain(|fault| fault.signer().is_some());
    }
    outcome
}
