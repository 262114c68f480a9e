//! Remembers which signatures in issuers' certificates are valid.
//!
//! The certificates between a root and an end-entity certificate are the same in every path, and a
//! signature that was valid stays valid. Only that is remembered: times, names, constraints and
//! revocation are checked in every path anew.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, SignatureVerificationAlgorithm,
};
use webpki::ALL_VERIFICATION_ALGS;
use x509_cert::{
    Certificate,
    der::{Decode, Encode},
};

use crate::core::digest::Digest;

/// How many signatures of one certificate are remembered: bundles can hold it with others.
const SIGNATURES_PER_CERTIFICATE: usize = 2;

/// The valid signatures in the certificates of a list of issuers.
#[derive(Debug, Default)]
pub(super) struct IssuerSignatures {
    /// The digests of the signed parts of the certificates.
    signed: HashSet<Digest>,
    /// The digests of key, algorithm, signed part and signature of those that were valid.
    valid: Mutex<HashSet<Digest>>,
}

/// One of webpki's algorithms, which asks what is remembered first.
#[derive(Debug)]
pub(super) struct RememberingAlgorithm<'a> {
    algorithm: &'static dyn SignatureVerificationAlgorithm,
    signatures: &'a IssuerSignatures,
}

impl IssuerSignatures {
    /// Remembers the signature in this certificate once it was verified.
    pub(super) fn add_issuer(&mut self, der: &CertificateDer<'_>) {
        // Another encoding is not found again, and verified each time.
        let signed =
            Certificate::from_der(der).and_then(|certificate| certificate.tbs_certificate.to_der());
        self.signed
            .extend(signed.map(|signed| Digest::of_bytes(&signed)));
    }

    /// All of webpki's algorithms.
    pub(super) fn algorithms(&self) -> Vec<RememberingAlgorithm<'_>> {
        let remembering =
            |algorithm: &&'static dyn SignatureVerificationAlgorithm| RememberingAlgorithm {
                algorithm: *algorithm,
                signatures: self,
            };
        ALL_VERIFICATION_ALGS.iter().map(remembering).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<Digest>> {
        self.valid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SignatureVerificationAlgorithm for RememberingAlgorithm<'_> {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let verify = || {
            self.algorithm
                .verify_signature(public_key, message, signature)
        };
        if !self.signatures.signed.contains(&Digest::of_bytes(message)) {
            return verify();
        }
        let (key_type, scheme) = (self.public_key_alg_id(), self.signature_alg_id());
        let parts = [
            key_type.as_ref(),
            scheme.as_ref(),
            public_key,
            message,
            signature,
        ];
        let all = Digest::of_parts(parts);
        if self.signatures.lock().contains(&all) {
            return Ok(());
        }
        verify()?;
        let mut valid = self.signatures.lock();
        if valid.len() < SIGNATURES_PER_CERTIFICATE * self.signatures.signed.len() {
            valid.insert(all);
        }
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Takes every signature that begins with the key, and counts how often it is asked.
    #[derive(Debug)]
    struct Counting {
        asked: AtomicUsize,
        scheme: AlgorithmIdentifier,
    }

    impl SignatureVerificationAlgorithm for Counting {
        fn verify_signature(
            &self,
            public_key: &[u8],
            _: &[u8],
            signature: &[u8],
        ) -> Result<(), InvalidSignature> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let is_valid = signature.starts_with(public_key);
            is_valid.then_some(()).ok_or(InvalidSignature)
        }

        fn public_key_alg_id(&self) -> AlgorithmIdentifier {
            pki_types::alg_id::ECDSA_P384
        }

        fn signature_alg_id(&self) -> AlgorithmIdentifier {
            self.scheme
        }
    }

    #[test]
    fn only_a_valid_signature_in_an_issuers_certificate_is_remembered() {
        const fn counting(scheme: AlgorithmIdentifier) -> Counting {
            Counting {
                asked: AtomicUsize::new(0),
                scheme,
            }
        }
        static ASKED: Counting = counting(pki_types::alg_id::ECDSA_SHA384);
        static OTHER: Counting = counting(pki_types::alg_id::ECDSA_SHA256);
        let signatures = IssuerSignatures {
            signed: HashSet::from([Digest::of_bytes(b"issuer")]),
            ..IssuerSignatures::default()
        };
        let algorithm = RememberingAlgorithm {
            algorithm: &ASKED,
            signatures: &signatures,
        };
        // Key, signed part, signature; whether it is valid, and how often that is computed.
        let cases: [(&str, &str, &str, bool, usize); 11] = [
            ("key", "issuer", "key 1", true, 1),
            ("key", "issuer", "key 1", true, 0),
            // The same bytes in a row, cut elsewhere.
            ("k", "issuer", "kissuerx", true, 1),
            ("kissuerk", "issuer", "x", false, 1),
            ("key", "issuer", "forged", false, 1),
            ("key", "issuer", "forged", false, 1),
            ("other", "issuer", "key 1", false, 1),
            ("key", "end entity", "key 1", true, 1),
            ("key", "end entity", "key 1", true, 1),
            // One more than are remembered for the one certificate.
            ("key", "issuer", "key 3", true, 1),
            ("key", "issuer", "key 3", true, 1),
        ];
        for (key, message, signature, valid, computed) in cases {
            let before = ASKED.asked.load(Ordering::Relaxed);
            let result = algorithm.verify_signature(
                key.as_bytes(),
                message.as_bytes(),
                signature.as_bytes(),
            );
            let asked = ASKED.asked.load(Ordering::Relaxed) - before;
            assert_eq!(
                (result.is_ok(), asked),
                (valid, computed),
                "{key} {message} {signature}"
            );
        }
        assert_eq!(signatures.lock().len(), 2);
        let other = RememberingAlgorithm {
            algorithm: &OTHER,
            signatures: &signatures,
        };
        let result = other.verify_signature(b"key", b"issuer", b"key 1");
        let asked = OTHER.asked.load(Ordering::Relaxed);
        assert_eq!((result.is_ok(), asked), (true, 1), "another algorithm");
    }
}
