//! Bundles that were signed with a key: what `cosign sign --key` makes.
//!
//! The key alone identifies the signer. Log entries and timestamps in such a bundle prove the
//! signing time; they are verified with the trust roots that a policy names for its keys, and with
//! no other. Without one the signing time is unknown.

use sigstore_types::DsseEnvelope;

use crate::core::{digest::Digest, sigstore_bundle::SigstoreBundle};

use super::{
    EvidenceError, SignerIdentity, SigningTime, TrustedMaterial, ValidityPeriod, VerificationKey,
    check_budget::CheckBudget,
    signed_message::SignedMessage,
    sigstore,
    verified::{
        AuthenticatedSignature, CertificateClaims, StoredSignatureFormat, TimeEvidenceStatus,
    },
};

/// Finds the key that signed `envelope`, and the trust roots that verify the signing time. The key
/// hint decides only which key is tried first, and which error is reported.
///
/// The first item of the result is based on the key alone. The second list: the errors of the trust
/// roots that do not verify the time evidence.
pub(super) fn authenticate_by_key(
    bundle: &SigstoreBundle,
    envelope: &DsseEnvelope,
    hint: &str,
    subject: &Digest,
    trust: &TrustedMaterial,
    effort: &CheckBudget<'_>,
) -> Result<(Vec<AuthenticatedSignature>, Vec<EvidenceError>), EvidenceError> {
    let keys = &trust.keys;
    let message = SignedMessage::new(envelope.pae());
    let signature = envelope.signature.sig.as_bytes();
    let (hinted, others): (Vec<_>, Vec<_>) =
        keys.iter().partition(|key| key.bundle_key_hint() == hint);
    let mut signed_by = None;
    for key in hinted.into_iter().chain(others) {
        message.spend_check(key, effort)?;
        if key.verifies_hashed_message(&message, signature) {
            signed_by = Some(key);
            break;
        }
    }
    let key = signed_by.ok_or_else(|| no_matching_key_error(hint, keys))?;
    let (mut found, mut faults) = (vec![key_only_signature(key, bundle)], Vec::new());
    if bundle.has_time_evidence() {
        for root in &trust.key_trust_roots {
            let checked = effort
                .spend_check_for_bytes(message.bytes().len())
                .and_then(|()| sigstore::verify_key_time_evidence(root, bundle, key, subject));
            match checked {
                Ok(signature) => found.push(signature),
                Err(error) => faults.push(error),
            }
        }
    }
    Ok((found, faults))
}

fn key_only_signature(key: &VerificationKey, bundle: &SigstoreBundle) -> AuthenticatedSignature {
    let time_evidence = if bundle.has_time_evidence() {
        TimeEvidenceStatus::Unchecked
    } else {
        TimeEvidenceStatus::Absent
    };
    AuthenticatedSignature {
        signer: SignerIdentity::Key {
            fingerprint: key.fingerprint(),
        },
        root: None,
        time: SigningTime::Unknown,
        time_evidence,
        logged: false,
        claims: CertificateClaims::default(),
        format: StoredSignatureFormat::Bundle,
        key: Some(key.key_identifiers()),
        validity: ValidityPeriod::default(),
    }
}

fn no_matching_key_error(hint: &str, keys: &[VerificationKey]) -> EvidenceError {
    match keys.iter().find(|key| key.bundle_key_hint() == hint) {
        Some(key) => EvidenceError::KeySignature(key.fingerprint()),
        None => EvidenceError::NoMatchingKey { keys: keys.len() },
    }
}
