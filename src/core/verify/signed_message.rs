//! The signed bytes. They are hashed once for each hash function, however many keys are tried.

use std::cell::OnceCell;

use aws_lc_rs::digest::{self, Digest, digest};

use super::{KeyAlgorithm, VerificationKey, check_budget::CheckBudget, error::EvidenceError};

/// Signed bytes, with those hashes of them that are needed.
pub(super) struct SignedMessage {
    bytes: Vec<u8>,
    sha256: OnceCell<Digest>,
    sha384: OnceCell<Digest>,
    sha512: OnceCell<Digest>,
}

impl SignedMessage {
    pub(super) const fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            sha256: OnceCell::new(),
            sha384: OnceCell::new(),
            sha512: OnceCell::new(),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn sha256_digest(&self) -> &Digest {
        self.sha256
            .get_or_init(|| digest(&digest::SHA256, &self.bytes))
    }

    fn sha384_digest(&self) -> &Digest {
        self.sha384
            .get_or_init(|| digest(&digest::SHA384, &self.bytes))
    }

    fn sha512_digest(&self) -> &Digest {
        self.sha512
            .get_or_init(|| digest(&digest::SHA512, &self.bytes))
    }

    /// Its hash for keys of this algorithm. Ed25519 hashes the message itself, with a prefix.
    pub(super) fn hash_for(&self, algorithm: KeyAlgorithm) -> Option<&Digest> {
        match algorithm {
            KeyAlgorithm::EcdsaP256 | KeyAlgorithm::RsaPkcs1 | KeyAlgorithm::RsaPss => {
                Some(self.sha256_digest())
            }
            KeyAlgorithm::EcdsaP384 => Some(self.sha384_digest()),
            KeyAlgorithm::EcdsaP521 => Some(self.sha512_digest()),
            KeyAlgorithm::Ed25519 => None,
        }
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
