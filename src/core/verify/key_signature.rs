//! Signatures by a key: what `cosign sign --key` makes.
//!
//! The key alone identifies the signer. Log entries and timestamps prove the signing time; they are
//! verified with the trust roots that a policy names for its keys, and with no other. Without one
//! the signing time is unknown.

use crate::core::sigstore_bundle::SigstoreBundle;

use super::{
    EvidenceError, StoredSignatureFormat, TimeEvidenceStatus, VerificationKey,
    outcome::{AuthenticationOutcome, CandidateContext},
    signed_message::SignedMessage,
    sigstore::{SignedArtifact, verify_key_time_evidence},
    verified::AuthenticatedSignature,
};

/// A signature that one of the keys should have made.
pub(crate) struct KeySignature<'a> {
    pub(crate) message: SignedMessage<'a>,
    pub(crate) signature: &'a [u8],
    /// The key that the bundle names. It decides only which key is tried first, and which error is
    /// reported.
    pub(crate) hint: &'a str,
    /// [`StoredSignatureFormat::Bundle`], or [`StoredSignatureFormat::Legacy`] under cosign's tags.
    pub(crate) format: StoredSignatureFormat,
    pub(crate) has_time_evidence: bool,
}

impl KeySignature<'_> {
    /// Finds the key that made the signature. The outcome is based on the key alone.
    pub(crate) fn authenticate<'k>(
        &self,
        context: &CandidateContext<'k>,
    ) -> Result<(&'k VerificationKey, AuthenticationOutcome), EvidenceError> {
        let key = self.find_key(context)?;
        let found = AuthenticatedSignature {
            time_evidence: TimeEvidenceStatus::unless_verified(self.has_time_evidence),
            ..AuthenticatedSignature::by_key(key, self.format)
        };
        Ok((key, AuthenticationOutcome::from_found(vec![found])))
    }

    fn find_key<'k>(
        &self,
        context: &CandidateContext<'k>,
    ) -> Result<&'k VerificationKey, EvidenceError> {
        let keys = &context.trust.keys;
        let (hinted, others): (Vec<_>, Vec<_>) = keys
            .iter()
            .partition(|key| key.bundle_key_hint() == self.hint);
        let named = hinted.first().map(|key| key.fingerprint());
        for key in hinted.into_iter().chain(others) {
            self.message.spend_check(key, &context.effort)?;
            if self.is_made_by(key) {
                return Ok(key);
            }
        }
        Err(named.map_or(
            EvidenceError::NoMatchingKey { keys: keys.len() },
            EvidenceError::KeySignature,
        ))
    }

    fn is_made_by(&self, key: &VerificationKey) -> bool {
        if self.format == StoredSignatureFormat::Bundle {
            key.verifies_hashed_message(&self.message, self.signature)
        } else {
            key.verifies_tag_signature(&self.message, self.signature)
        }
    }

    /// Adds the signature once more for each trust root that verifies the log entries and
    /// timestamps in `bundle`.
    pub(crate) fn verify_time_evidence<'a>(
        &self,
        key: &VerificationKey,
        bundle: &SigstoreBundle,
        artifact: impl Fn() -> SignedArtifact<'a>,
        context: &CandidateContext<'_>,
        outcome: &mut AuthenticationOutcome,
    ) {
        let size = self.message.bytes().len();
        for root in &context.trust.key_trust_roots {
            let verified = context
                .effort
                .spend_check_for_bytes(size)
                .and_then(|()| verify_key_time_evidence(root, bundle, key, artifact()));
            outcome.record(verified);
        }
    }
}
