//! Private keys of every supported algorithm, each with its hash and padding in Sigstore.

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa::{self, KeySize},
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
        ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair,
        KeyPair, RSA_PKCS1_SHA256,
    },
};
use zeroize::Zeroizing;

use super::SigningError;

/// The algorithm of a new key. One of Sigstore's list of algorithms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SigningAlgorithm {
    /// ECDSA on P-256, with SHA-256: cosign's default, supported by every verifier.
    #[default]
    EcdsaP256,
    /// ECDSA on P-384, with SHA-384.
    EcdsaP384,
    /// ECDSA on P-521, with SHA-512.
    EcdsaP521,
    /// RSA of 2048 bits, PKCS#1 v1.5 with SHA-256.
    Rsa2048,
    /// RSA of 3072 bits, PKCS#1 v1.5 with SHA-256.
    Rsa3072,
    /// RSA of 4096 bits, PKCS#1 v1.5 with SHA-256.
    Rsa4096,
    /// Ed25519.
    Ed25519,
}

/// Sizes in bytes of the moduli in Sigstore's list of algorithms.
const RSA_BYTES: [usize; 3] = [256, 384, 512];
/// `id-RSASSA-PSS`, as encoded near the beginning of a PKCS#8 key.
const PSS: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a";
const PSS_WITHIN: usize = 32;

/// A private key, which determines its signature algorithm.
pub(super) enum PrivateKey {
    Ecdsa(EcdsaKeyPair),
    Rsa(rsa::KeyPair),
    Ed25519(Ed25519KeyPair),
}

impl PrivateKey {
    pub(super) fn generate(algorithm: SigningAlgorithm) -> Result<Self, SigningError> {
        let ecdsa = |curve| EcdsaKeyPair::generate(curve).map(Self::Ecdsa);
        let rsa = |size| rsa::KeyPair::generate(size).map(Self::Rsa);
        let made = match algorithm {
            SigningAlgorithm::EcdsaP256 => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING),
            SigningAlgorithm::EcdsaP384 => ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING),
            SigningAlgorithm::EcdsaP521 => ecdsa(&ECDSA_P521_SHA512_ASN1_SIGNING),
            SigningAlgorithm::Rsa2048 => rsa(KeySize::Rsa2048),
            SigningAlgorithm::Rsa3072 => rsa(KeySize::Rsa3072),
            SigningAlgorithm::Rsa4096 => rsa(KeySize::Rsa4096),
            SigningAlgorithm::Ed25519 => Ed25519KeyPair::generate().map(Self::Ed25519),
        };
        made.map_err(|_| SigningError::Library("make a key"))
    }

    /// Parses PKCS#8 (RFC 5958) or SEC1 (RFC 5915).
    pub(super) fn from_der(der: &[u8]) -> Result<Self, SigningError> {
        let curves: [&'static EcdsaSigningAlgorithm; 3] = [
            &ECDSA_P256_SHA256_ASN1_SIGNING,
            &ECDSA_P384_SHA384_ASN1_SIGNING,
            &ECDSA_P521_SHA512_ASN1_SIGNING,
        ];
        if let Some(key) = curves
            .into_iter()
            .find_map(|curve| EcdsaKeyPair::from_private_key_der(curve, der).ok())
        {
            return Ok(Self::Ecdsa(key));
        }
        if let Ok(key) = Ed25519KeyPair::from_pkcs8(der) {
            return Ok(Self::Ed25519(key));
        }
        rsa::KeyPair::from_pkcs8(der)
            .map_err(|_| unsupported_key_error(der))
            .and_then(Self::from_rsa)
    }

    /// Parses PKCS#1 (RFC 8017, appendix A.1.2).
    pub(super) fn from_pkcs1(der: &[u8]) -> Result<Self, SigningError> {
        rsa::KeyPair::from_der(der)
            .map_err(|_| unsupported_key_error(der))
            .and_then(Self::from_rsa)
    }

    fn from_rsa(key: rsa::KeyPair) -> Result<Self, SigningError> {
        match key.public_modulus_len() {
            bytes if RSA_BYTES.contains(&bytes) => Ok(Self::Rsa(key)),
            bytes => Err(SigningError::Algorithm(format!(
                "RSA of {} bits",
                bytes * 8
            ))),
        }
    }

    /// As PKCS#8, version 1: Go supports no other.
    pub(super) fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, SigningError> {
        let failed = |_| SigningError::Library("serialise a key");
        match self {
            Self::Ecdsa(key) => key
                .to_pkcs8v1()
                .map(|der| Zeroizing::new(der.as_ref().to_vec()))
                .map_err(failed),
            Self::Ed25519(key) => key
                .to_pkcs8v1()
                .map(|der| Zeroizing::new(der.as_ref().to_vec()))
                .map_err(failed),
            Self::Rsa(key) => key
                .as_der()
                .map(|der| Zeroizing::new(der.as_ref().to_vec()))
                .map_err(failed),
        }
    }

    /// The public key as `SubjectPublicKeyInfo` in DER.
    pub(super) fn to_spki(&self) -> Result<Vec<u8>, SigningError> {
        let der = match self {
            Self::Ecdsa(key) => key.public_key().as_der(),
            Self::Ed25519(key) => key.public_key().as_der(),
            Self::Rsa(key) => key.public_key().as_der(),
        };
        der.map(|der| der.as_ref().to_vec())
            .map_err(|_| SigningError::Library("serialise a public key"))
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        let random = SystemRandom::new();
        let signed = match self {
            Self::Ecdsa(key) => key
                .sign(&random, message)
                .map(|signature| signature.as_ref().to_vec()),
            Self::Ed25519(key) => key
                .try_sign(message)
                .map(|signature| signature.as_ref().to_vec()),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map(|()| signature)
            }
        };
        signed.map_err(|_| SigningError::Library("sign"))
    }
}

fn unsupported_key_error(der: &[u8]) -> SigningError {
    let is_pss = der
        .windows(PSS.len())
        .take(PSS_WITHIN)
        .any(|window| window == PSS);
    if is_pss {
        SigningError::Algorithm("RSASSA-PSS".into())
    } else {
        SigningError::Malformed("it is no PKCS#8, SEC1 or PKCS#1 key of a kind that signs")
    }
}
