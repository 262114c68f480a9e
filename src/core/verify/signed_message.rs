//! Signatures by a public key. The signed bytes are hashed once for each hash function, however
//! many keys are tried.

use std::cell::OnceCell;

use aws_lc_rs::{
    digest::{self, Digest, digest},
    signature::{
        ECDSA_P384_SHA256_ASN1, ECDSA_P521_SHA256_ASN1, UnparsedPublicKey, VerificationAlgorithm,
    },
};

use crate::core::evidence::CheckBudget;

use super::{EvidenceError, KeyAlgorithm, VerificationKey};

/// Signed bytes, with those hashes of them that are needed.
pub(in crate::core) struct SignedMessage<'a> {
    bytes: &'a [u8],
    sha256: OnceCell<Digest>,
    sha384: OnceCell<Digest>,
    sha512: OnceCell<Digest>,
}

impl<'a> SignedMessage<'a> {
    pub(in crate::core) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            sha256: OnceCell::new(),
            sha384: OnceCell::new(),
            sha512: OnceCell::new(),
        }
    }

    pub(super) const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    fn sha256_digest(&self) -> &Digest {
        self.sha256
            .get_or_init(|| digest(&digest::SHA256, self.bytes))
    }

    /// Its hash for keys of this algorithm. Ed25519 hashes the message itself, with a prefix.
    fn hash_for(&self, algorithm: KeyAlgorithm) -> Option<&Digest> {
        let (kept, function) = match algorithm {
            KeyAlgorithm::EcdsaP256 | KeyAlgorithm::RsaPkcs1 | KeyAlgorithm::RsaPss => {
                return Some(self.sha256_digest());
            }
            KeyAlgorithm::EcdsaP384 => (&self.sha384, &digest::SHA384),
            KeyAlgorithm::EcdsaP521 => (&self.sha512, &digest::SHA512),
            KeyAlgorithm::Ed25519 => return None,
        };
        Some(kept.get_or_init(|| digest(function, self.bytes)))
    }

    /// Counts the check of a signature by `key`.
    pub(super) fn spend_check(
        &self,
        key: &VerificationKey,
        effort: &CheckBudget<'_>,
    ) -> Result<(), EvidenceError> {
        if key.algorithm() == KeyAlgorithm::Ed25519 {
            effort.spend_check_for_bytes(self.bytes.len())
        } else {
            effort.spend_check()
        }
    }
}

impl VerificationKey {
    /// True if the signature over `message` by this key is valid.
    pub fn verifies_signature(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed_key().verify_sig(message, signature).is_ok()
    }

    /// The same for a message with cached hashes.
    pub(in crate::core) fn verifies_hashed_message(
        &self,
        message: &SignedMessage<'_>,
        signature: &[u8],
    ) -> bool {
        let by_hash = message
            .hash_for(self.algorithm())
            .map(|hash| self.parsed_key().verify_digest_sig(hash, signature).is_ok());
        by_hash.unwrap_or_else(|| self.verifies_signature(message.bytes, signature))
    }

    /// The same under cosign's tags: as cosign 3 (the key's own hash) or as cosign 2 (SHA-256)
    /// signs. The hash follows from the key and the tag, never from the signature's own fields.
    pub(super) fn verifies_tag_signature(
        &self,
        message: &SignedMessage<'_>,
        signature: &[u8],
    ) -> bool {
        self.verifies_hashed_message(message, signature)
            || self.with_sha256().is_some_and(|key| {
                key.verify_digest(message.sha256_digest(), signature)
                    .is_ok()
            })
    }

    /// The larger curves with SHA-256. Every other key has that hash, or none, anyway.
    fn with_sha256(&self) -> Option<UnparsedPublicKey<&[u8]>> {
        let algorithm: &'static dyn VerificationAlgorithm = match self.algorithm() {
            KeyAlgorithm::EcdsaP384 => &ECDSA_P384_SHA256_ASN1,
            KeyAlgorithm::EcdsaP521 => &ECDSA_P521_SHA256_ASN1,
            _ => return None,
        };
        Some(UnparsedPublicKey::new(algorithm, self.spki_der()))
    }
}
