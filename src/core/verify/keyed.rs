//! Bundles that were signed with a key: what `cosign sign --key` makes.
//!
//! The key is all that is needed to know who signed. Log entries and timestamps in such a bundle
//! say when; they are held against the trust roots that a policy names for its keys, and against no
//! other. Without one nobody but the signer knows when it was signed.

use sigstore_types::DsseEnvelope;

use crate::core::{digest::Digest, sigstore_bundle::SigstoreBundle};

use super::{
    EvidenceError, SignedAt, Signer, Trust, Validity, VerificationKey,
    effort::Effort,
    message::Message,
    sigstore,
    verified::{Authenticated, Claims, Format, Vouched},
};

/// Finds the key that signed `envelope`, and who vouches for the time. The hint decides nothing but
/// which key is tried first, and which fault is told.
///
/// The first of the result is what the key alone says. Errors beside it: the trust roots that do
/// not vouch for the rest, and why.
pub(super) fn authenticate(
    bundle: &SigstoreBundle,
    envelope: &DsseEnvelope,
    hint: &str,
    subject: &Digest,
    trust: &Trust,
    effort: &Effort<'_>,
) -> Result<(Vec<Authenticated>, Vec<EvidenceError>), EvidenceError> {
    let keys = &trust.keys;
    let message = Message::new(envelope.pae());
    let signature = envelope.signature.sig.as_bytes();
    let (hinted, others): (Vec<_>, Vec<_>) = keys.iter().partition(|key| key.hint() == hint);
    let mut signed_by = None;
    for key in hinted.into_iter().chain(others) {
        message.take(key, effort)?;
        if key.verifies_message(&message, signature) {
            signed_by = Some(key);
            break;
        }
    }
    let key = signed_by.ok_or_else(|| fault(hint, keys))?;
    let (mut found, mut faults) = (vec![by_key_alone(key, bundle)], Vec::new());
    if bundle.has_time_evidence() {
        for root in &trust.vouching {
            let checked = effort
                .check_of(message.bytes().len())
                .and_then(|()| sigstore::vouch(root, bundle, key, subject));
            match checked {
                Ok(vouched) => found.push(vouched),
                Err(error) => faults.push(error),
            }
        }
    }
    Ok((found, faults))
}

fn by_key_alone(key: &VerificationKey, bundle: &SigstoreBundle) -> Authenticated {
    let vouched = if bundle.has_time_evidence() {
        Vouched::Unchecked
    } else {
        Vouched::Absent
    };
    Authenticated {
        signer: Signer::Key {
            fingerprint: key.fingerprint(),
        },
        root: None,
        time: SignedAt::Unknown,
        vouched,
        logged: false,
        claims: Claims::default(),
        format: Format::Bundle,
        key: Some(key.names()),
        validity: Validity::default(),
    }
}

fn fault(hint: &str, keys: &[VerificationKey]) -> EvidenceError {
    match keys.iter().find(|key| key.hint() == hint) {
        Some(key) => EvidenceError::KeySignature(key.fingerprint()),
        None => EvidenceError::OtherKey { keys: keys.len() },
    }
}
