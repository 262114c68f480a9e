//! Bundles that were signed with a key: what `cosign sign --key` makes.
//!
//! The key is all that is needed. Log entries and timestamps in such a bundle are not consulted: they add nothing to what the key says,
//! and a policy that wants them says so (it cannot yet). So nobody but the signer knows when it was signed, and whether a key is still in
//! use is a matter of policy.

use sigstore_types::DsseEnvelope;

use super::{EvidenceError, SignedAt, Signer, VerificationKey, verified::Authenticated};

/// Finds the key that signed `envelope`. The hint decides nothing but which fault is told.
pub(super) fn authenticate(envelope: &DsseEnvelope, hint: &str, keys: &[VerificationKey]) -> Result<Authenticated, EvidenceError> {
    let message = envelope.pae();
    let signature = envelope.signature.sig.as_bytes();
    let key = keys.iter().find(|key| key.verifies(&message, signature)).ok_or_else(|| fault(hint, keys))?;
    Ok(Authenticated { signer: Signer::Key { fingerprint: key.fingerprint() }, root: None, time: SignedAt::Unknown })
}

fn fault(hint: &str, keys: &[VerificationKey]) -> EvidenceError {
    match keys.iter().find(|key| key.hint() == hint) {
        Some(key) => EvidenceError::KeySignature(key.fingerprint()),
        None => EvidenceError::OtherKey { keys: keys.len() },
    }
}
