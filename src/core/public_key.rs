//! Public keys: which are accepted, and their one encoding. `core::verify` verifies signatures with
//! them.

use std::{borrow::Cow, fmt, ops::RangeInclusive};

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rsa::PublicEncryptingKey,
    signature::{self, ParsedPublicKey, VerificationAlgorithm},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

use super::{
    digest::Digest,
    pem::{decode_pem_body, encode_pem_block, only_pem_block},
    reason::{ClassifiedError, Reason},
};

const LABEL: &str = "PUBLIC KEY";
const MAX_PEM: usize = 16 << 10;

/// The fixed prefix of an SPKI (RFC 5280, section 4.1.2.7) per algorithm, and its whole length in
/// bytes. Points are uncompressed.
///
/// One key has one encoding here. Otherwise one key in two encodings would be two signers, and
/// could meet a threshold of two.
const P256: (&[u8], usize) = (b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00\x04", 91);
const P384: (&[u8], usize) = (b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00\x04", 120);
const P521: (&[u8], usize) = (b"\x30\x81\x9b\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x23\x03\x81\x86\x00\x04", 158);
const ED25519: (&[u8], usize) = (b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00", 44);

/// Sizes of RSA keys in bits. Smaller ones can be factored; larger ones cosign does not accept, and
/// one verification costs milliseconds.
const RSA_BITS: RangeInclusive<usize> = 2048..=4096;
/// The bytes of an SPKI's header at these sizes: a sequence with a two-byte length.
const RSA_HEADER: usize = 4;
/// `rsaEncryption` (RFC 8017, appendix C), which Sigstore uses with PKCS#1 v1.5 and SHA-256.
const RSA: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
/// `id-RSASSA-PSS` (RFC 4055, section 3.1), whatever its parameters are: the identifier behind the
/// sequence's header.
const PSS: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a";
/// The same with SHA-256, MGF1 with SHA-256 and a salt of 32 bytes: the only parameters that
/// Sigstore's list of algorithms has.
const PSS_SHA256: &[u8] = b"\x30\x41\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\x30\x34\
    \xa0\x0f\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\
    \xa1\x1c\x30\x1a\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\
    \xa2\x03\x02\x01\x20";

/// A public key with its algorithm in Sigstore bundles.
#[derive(Clone)]
pub struct VerificationKey {
    key: ParsedPublicKey,
    spki: Vec<u8>,
    fingerprint: Digest,
    normalized_fingerprint: Digest,
    algorithm: KeyAlgorithm,
}

/// The identifiers of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::core) struct KeyIdentifiers {
    /// SHA-256 of the SPKI in DER.
    pub(in crate::core) fingerprint: Digest,
    /// The same fingerprint for every algorithm that a key is declared for.
    pub(in crate::core) normalized_fingerprint: Digest,
}

/// The signature algorithm of a key. It follows from the key alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    EcdsaP256,
    /// ECDSA on P-384 with SHA-384.
    EcdsaP384,
    /// ECDSA on P-521 with SHA-512.
    EcdsaP521,
    /// Ed25519 over the message itself, never its pre-hashed variant.
    Ed25519,
    /// RSA with PKCS#1 v1.5 and SHA-256: keys with the algorithm `rsaEncryption`.
    RsaPkcs1,
    /// RSA with PSS, SHA-256 and a salt of 32 bytes: keys with exactly these parameters.
    RsaPss,
}

impl KeyAlgorithm {
    /// The name in reports and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ECDSA P-256 SHA-256",
            Self::EcdsaP384 => "ECDSA P-384 SHA-384",
            Self::EcdsaP521 => "ECDSA P-521 SHA-512",
            Self::Ed25519 => "Ed25519",
            Self::RsaPkcs1 => "RSA PKCS#1 SHA-256",
            Self::RsaPss => "RSA PSS SHA-256",
        }
    }

    fn verification_algorithm(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::EcdsaP256 => &signature::ECDSA_P256_SHA256_ASN1,
            Self::EcdsaP384 => &signature::ECDSA_P384_SHA384_ASN1,
            Self::EcdsaP521 => &signature::ECDSA_P521_SHA512_ASN1,
            Self::Ed25519 => &signature::ED25519,
            Self::RsaPkcs1 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::RsaPss => &signature::RSA_PSS_2048_8192_SHA256,
        }
    }
}

/// Why text is not a supported public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// Not exactly one PEM block of a public key.
    #[error("public key must be one PEM block \"PUBLIC KEY\" (cosign.pub), and nothing else")]
    Pem,
    /// The input is a private key.
    #[error("this is a private key; give the public one (packgate keys public)")]
    Private,
    /// The key's type is unknown, it is too small, not on its curve, or not in the canonical
    /// encoding.
    #[error(
        "public key must be ECDSA P-256, P-384 or P-521, Ed25519, or RSA of 2048 to 4096 bits, in \
            its usual DER encoding"
    )]
    Unsupported,
    /// An RSASSA-PSS key whose parameters are absent or not the supported ones.
    #[error(
        "public key is for RSASSA-PSS, and must name SHA-256, MGF1 with SHA-256 and a salt of 32 \
            bytes as its parameters"
    )]
    PssParameters,
}

impl ClassifiedError for PublicKeyError {
    fn reason(&self) -> Reason {
        Reason::InvalidSpec
    }
}

impl VerificationKey {
    /// Parses a public key: one PEM block `PUBLIC KEY` (SPKI, RFC 7468 section 13).
    pub fn from_pem(pem: &str) -> Result<Self, PublicKeyError> {
        Self::from_spki(decode_pem(pem)?)
    }

    /// Parses a public key in DER.
    pub(in crate::core) fn from_spki(spki: Vec<u8>) -> Result<Self, PublicKeyError> {
        let (algorithm, plain) = parse_spki(&spki)?;
        let key = ParsedPublicKey::new(algorithm.verification_algorithm(), &*plain)
            .map_err(|_| PublicKeyError::Unsupported)?;
        let (fingerprint, numbers) = (Digest::of_bytes(&spki), Digest::of_bytes(&plain));
        Ok(Self {
            key,
            spki,
            fingerprint,
            normalized_fingerprint: numbers,
            algorithm,
        })
    }

    /// SHA-256 of the SPKI in DER: the key's identifier in policies, revocations and reports.
    pub const fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    pub(in crate::core) const fn key_identifiers(&self) -> KeyIdentifiers {
        KeyIdentifiers {
            fingerprint: self.fingerprint,
            normalized_fingerprint: self.normalized_fingerprint,
        }
    }

    /// cosign's key hint in bundles: base64 of the fingerprint's bytes.
    pub fn bundle_key_hint(&self) -> String {
        BASE64.encode(self.fingerprint.as_bytes())
    }

    /// The SPKI in DER.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// The algorithm that follows from the key.
    pub const fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// The key as PEM, as `openssl pkey -pubout` and cosign write it.
    pub fn to_pem(&self) -> String {
        encode_pem_block(LABEL, &self.spki)
    }

    /// True if it is the same key with another algorithm, such as one RSA key for PKCS#1 and for
    /// PSS. Both count as one signer.
    pub fn differs_only_in_algorithm(&self, other: &Self) -> bool {
        self.normalized_fingerprint == other.normalized_fingerprint
            && self.fingerprint != other.fingerprint
    }

    /// The key in aws-lc-rs, for the algorithm that follows from it.
    pub(in crate::core) const fn parsed_key(&self) -> &ParsedPublicKey {
        &self.key
    }
}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "VerificationKey({} {})",
            self.algorithm.as_str(),
            self.fingerprint
        )
    }
}

/// The algorithm follows from the key, never from the signature. The second value is the SPKI that
/// the library accepts: it knows PSS keys only as `rsaEncryption`.
fn parse_spki(spki: &[u8]) -> Result<(KeyAlgorithm, Cow<'_, [u8]>), PublicKeyError> {
    let is = |(prefix, length): (&[u8], usize)| spki.len() == length && spki.starts_with(prefix);
    let algorithm = match () {
        () if is(P256) => KeyAlgorithm::EcdsaP256,
        () if is(P384) => KeyAlgorithm::EcdsaP384,
        () if is(P521) => KeyAlgorithm::EcdsaP521,
        () if is(ED25519) => KeyAlgorithm::Ed25519,
        () if is_plain_rsa(spki) => KeyAlgorithm::RsaPkcs1,
        () => return parse_pss_spki(spki),
    };
    Ok((algorithm, Cow::Borrowed(spki)))
}

/// A PSS key, and the same key as `rsaEncryption`. Except for the algorithm, [`is_plain_rsa`] must
/// accept it.
fn parse_pss_spki(spki: &[u8]) -> Result<(KeyAlgorithm, Cow<'_, [u8]>), PublicKeyError> {
    let rest = spki.get(RSA_HEADER..).ok_or(PublicKeyError::Unsupported)?;
    let Some(key) = rest.strip_prefix(PSS_SHA256) else {
        let is_pss = rest.get(2..).is_some_and(|inner| inner.starts_with(PSS));
        return Err(if is_pss {
            PublicKeyError::PssParameters
        } else {
            PublicKeyError::Unsupported
        });
    };
    let plain = der_sequence(&[RSA, key].concat()).ok_or(PublicKeyError::Unsupported)?;
    let one_encoding = der_sequence(rest).as_deref() == Some(spki) && is_plain_rsa(&plain);
    if one_encoding {
        Ok((KeyAlgorithm::RsaPss, Cow::Owned(plain)))
    } else {
        Err(PublicKeyError::Unsupported)
    }
}

/// A DER sequence of 256 to 65,535 bytes.
fn der_sequence(content: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(content.len())
        .ok()
        .filter(|length| *length > 0xff)?;
    Some([b"\x30\x82", length.to_be_bytes().as_slice(), content].concat())
}

/// True for an RSA key of an accepted size, in the canonical encoding.
fn is_plain_rsa(spki: &[u8]) -> bool {
    let Ok(key) = PublicEncryptingKey::from_der(spki) else {
        return false;
    };
    RSA_BITS.contains(&key.key_size_bits())
        && AsDer::<PublicKeyX509Der<'_>>::as_der(&key).is_ok_and(|der| der.as_ref() == spki)
}

fn decode_pem(pem: &str) -> Result<Vec<u8>, PublicKeyError> {
    if pem.contains("PRIVATE KEY-----") {
        return Err(PublicKeyError::Private);
    }
    only_pem_block(LABEL, pem)
        .filter(|_| pem.len() <= MAX_PEM)
        .and_then(decode_pem_body)
        .ok_or(PublicKeyError::Pem)
}

#[cfg(test)]
#[path = "public_key_tests.rs"]
mod tests;
