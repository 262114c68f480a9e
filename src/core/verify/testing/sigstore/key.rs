//! Keys of every supported algorithm.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use rcgen::{KeyPair, PublicKeyData, RsaKeySize, SigningKey};

/// An algorithm of a signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    P256,
    P384,
    P521,
    Ed25519,
    Rsa2048,
    Rsa3072,
    Rsa4096,
}

impl Algorithm {
    pub(crate) const ALL: [Self; 7] = [
        Self::P256,
        Self::P384,
        Self::P521,
        Self::Ed25519,
        Self::Rsa2048,
        Self::Rsa3072,
        Self::Rsa4096,
    ];

    /// Rekor v2's name (`PublicKeyDetails`), with the hash that it logs.
    pub(super) const fn details(self) -> (&'static str, &'static str, &'static digest::Algorithm) {
        match self {
            Self::P256 => ("PKIX_ECDSA_P256_SHA_256", "SHA2_256", &digest::SHA256),
            Self::P384 => ("PKIX_ECDSA_P384_SHA_384", "SHA2_384", &digest::SHA384),
            Self::P521 => ("PKIX_ECDSA_P521_SHA_512", "SHA2_512", &digest::SHA512),
            Self::Ed25519 => ("PKIX_ED25519", "SHA2_256", &digest::SHA256),
            Self::Rsa2048 => ("PKIX_RSA_PKCS1V15_2048_SHA256", "SHA2_256", &digest::SHA256),
            Self::Rsa3072 => ("PKIX_RSA_PKCS1V15_3072_SHA256", "SHA2_256", &digest::SHA256),
            Self::Rsa4096 => ("PKIX_RSA_PKCS1V15_4096_SHA256", "SHA2_256", &digest::SHA256),
        }
    }
}

/// A key pair. Copies share it.
#[derive(Clone)]
pub(crate) struct Key {
    pair: Arc<KeyPair>,
    pub(crate) algorithm: Algorithm,
}

impl Key {
    /// A new key; of RSA keys there is one of each size in a process, because they take long.
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        static RSA: [OnceLock<Arc<KeyPair>>; 3] = [const { OnceLock::new() }; 3];
        let rsa = |slot: usize, size| {
            RSA[slot].get_or_init(|| {
                Arc::new(KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size).expect("a key"))
            })
        };
        let plain = |algorithm| Arc::new(KeyPair::generate_for(algorithm).expect("a key"));
        let pair = match algorithm {
            Algorithm::P256 => plain(&rcgen::PKCS_ECDSA_P256_SHA256),
            Algorithm::P384 => plain(&rcgen::PKCS_ECDSA_P384_SHA384),
            Algorithm::P521 => plain(&rcgen::PKCS_ECDSA_P521_SHA512),
            Algorithm::Ed25519 => plain(&rcgen::PKCS_ED25519),
            Algorithm::Rsa2048 => rsa(0, RsaKeySize::_2048).clone(),
            Algorithm::Rsa3072 => rsa(1, RsaKeySize::_3072).clone(),
            Algorithm::Rsa4096 => rsa(2, RsaKeySize::_4096).clone(),
        };
        Self { pair, algorithm }
    }

    /// The key in this PKCS#8.
    pub(crate) fn from_pkcs8(algorithm: Algorithm, pkcs8: &[u8]) -> Self {
        Self {
            pair: Arc::new(KeyPair::try_from(pkcs8).expect("a key")),
            algorithm,
        }
    }

    pub(crate) fn pair(&self) -> &KeyPair {
        &self.pair
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        SigningKey::sign(&*self.pair, message).expect("a signature")
    }

    /// The public key (SPKI in DER).
    pub(crate) fn spki(&self) -> Vec<u8> {
        self.pair.subject_public_key_info()
    }

    pub(crate) fn pem(&self) -> String {
        pem("PUBLIC KEY", &self.spki())
    }

    /// The public key's bits alone.
    pub(crate) fn raw(&self) -> &[u8] {
        self.pair.public_key_raw()
    }

    /// SHA-256 of the SPKI: the id of a key in Rekor v1 and CT logs, and a bundle's key hint.
    pub(crate) fn id(&self) -> [u8; 32] {
        sha256(&self.spki())
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, bytes)
        .as_ref()
        .try_into()
        .expect("32 bytes")
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = base64(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).expect("ASCII"))
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}
