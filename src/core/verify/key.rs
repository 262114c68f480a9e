//! Public keys: what signatures without a certificate are verified with.

use std::fmt;

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rsa::PublicEncryptingKey,
    signature::{self, ParsedPublicKey, VerificationAlgorithm},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

use crate::core::{
    class::{Classified, Reason},
    digest::Digest,
};

const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";
const MAX_PEM: usize = 16 << 10;

/// The fixed beginning of an SPKI (RFC 5280, section 4.1.2.7) per algorithm, and its whole length in bytes. Points are uncompressed.
///
/// One key has one encoding here. Otherwise one key in two encodings would be two signers, and could meet a threshold of two.
const P256: (&[u8], usize) = (b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00\x04", 91);
const P384: (&[u8], usize) = (b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00\x04", 120);
const P521: (&[u8], usize) = (b"\x30\x81\x9b\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x23\x03\x81\x86\x00\x04", 158);
const ED25519: (&[u8], usize) = (b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00", 44);

/// A public key with the one algorithm that goes with it in Sigstore bundles.
#[derive(Clone)]
pub struct VerificationKey {
    key: ParsedPublicKey,
    spki: Vec<u8>,
    fingerprint: Digest,
    algorithm: &'static str,
}

/// Why text is no key that we verify with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No PEM block of a public key, more than one, or something around it.
    #[error("public key must be one PEM block \"PUBLIC KEY\" (cosign.pub), and nothing else")]
    Pem,
    /// A private key was given.
    #[error("this is a private key; give the public one (packgate keys public)")]
    Private,
    /// The key's type is unknown, it is too small, not on its curve, or oddly encoded.
    #[error("public key must be ECDSA P-256, P-384 or P-521, Ed25519, or RSA of 2048 to 8192 bits, in its usual DER encoding")]
    Unsupported,
}

impl Classified for KeyError {
    fn reason(&self) -> Reason {
        Reason::InvalidSpec
    }
}

impl VerificationKey {
    /// Reads a public key: one PEM block `PUBLIC KEY` (SPKI, RFC 7468 section 13).
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        Self::from_spki(decode_pem(pem)?)
    }

    fn from_spki(spki: Vec<u8>) -> Result<Self, KeyError> {
        let (name, algorithm) = algorithm_of(&spki).ok_or(KeyError::Unsupported)?;
        let key = ParsedPublicKey::new(algorithm, &spki).map_err(|_| KeyError::Unsupported)?;
        Ok(Self { key, fingerprint: Digest::of(&spki), spki, algorithm: name })
    }

    /// SHA-256 of the SPKI in DER: the key's name in policies, revocations and reports.
    pub const fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    /// What cosign writes into a bundle to name this key: base64 of the fingerprint's bytes.
    pub fn hint(&self) -> String {
        BASE64.encode(self.fingerprint.bytes())
    }

    /// The SPKI in DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The algorithm's name, such as `ECDSA P-256 SHA-256`.
    pub const fn algorithm(&self) -> &'static str {
        self.algorithm
    }

    /// Did this key sign `message`?
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
    }
}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerificationKey({} {})", self.algorithm, self.fingerprint)
    }
}

/// The algorithm follows the key, never what a signature says of itself.
fn algorithm_of(spki: &[u8]) -> Option<(&'static str, &'static dyn VerificationAlgorithm)> {
    let is = |(prefix, length): (&[u8], usize)| spki.len() == length && spki.starts_with(prefix);
    match () {
        () if is(P256) => Some(("ECDSA P-256 SHA-256", &signature::ECDSA_P256_SHA256_ASN1)),
        () if is(P384) => Some(("ECDSA P-384 SHA-384", &signature::ECDSA_P384_SHA384_ASN1)),
        () if is(P521) => Some(("ECDSA P-521 SHA-512", &signature::ECDSA_P521_SHA512_ASN1)),
        () if is(ED25519) => Some(("Ed25519", &signature::ED25519)),
        () if is_plain_rsa(spki) => Some(("RSA PKCS#1 SHA-256", &signature::RSA_PKCS1_2048_8192_SHA256)),
        () => None,
    }
}

/// Is it an RSA key in exactly the encoding that it would be written in?
fn is_plain_rsa(spki: &[u8]) -> bool {
    let Ok(key) = PublicEncryptingKey::from_der(spki) else { return false };
    AsDer::<PublicKeyX509Der<'_>>::as_der(&key).is_ok_and(|der| der.as_ref() == spki)
}

fn decode_pem(pem: &str) -> Result<Vec<u8>, KeyError> {
    if pem.contains("PRIVATE KEY-----") {
        return Err(KeyError::Private);
    }
    let body = pem.trim().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END)).filter(|_| pem.len() <= MAX_PEM);
    let base64: String = body.ok_or(KeyError::Pem)?.split_ascii_whitespace().collect();
    BASE64.decode(base64).map_err(|_| KeyError::Pem)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        rsa::KeySize,
        signature::{
            ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
        },
    };

    use super::*;

    const COSIGN: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEfFzYEJaLws+djfUt1X8t9Nl0yXQ1\niSGHJdzRG0sN4qUhTfWa8/v1ouAB1z9VvZBIPtfws3gnkI6Zr9gosTxy+Q==\n-----END PUBLIC KEY-----\n";

    fn pem(spki: &[u8]) -> String {
        format!("{BEGIN}\n{}\n{END}\n", BASE64.encode(spki))
    }

    #[test]
    fn the_hint_is_cosigns() {
        let key = VerificationKey::from_pem(COSIGN).expect("cosign's key");
        assert_eq!(key.hint(), "KjeQLy5pIpIDI+ZLJxDjFBuvCaj7gRtpFwjL8j7NK1Y=");
        assert_eq!(key.algorithm(), "ECDSA P-256 SHA-256");
        assert_eq!(VerificationKey::from_pem(&COSIGN.replace('\n', "\r\n")).expect("CRLF").fingerprint(), key.fingerprint());
    }

    #[test]
    fn the_algorithm_follows_the_key() {
        let ec = |algorithm| EcdsaKeyPair::generate(algorithm).expect("a key").public_key().as_der().expect("DER").as_ref().to_vec();
        let ed: Vec<u8> = Ed25519KeyPair::generate().expect("a key").public_key().as_der().expect("DER").as_ref().to_vec();
        let rsa = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).expect("a key").public_key().as_der().expect("DER").as_ref().to_vec();
        for (spki, algorithm) in [
            (ec(&ECDSA_P256_SHA256_ASN1_SIGNING), "ECDSA P-256 SHA-256"),
            (ec(&ECDSA_P384_SHA384_ASN1_SIGNING), "ECDSA P-384 SHA-384"),
            (ec(&ECDSA_P521_SHA512_ASN1_SIGNING), "ECDSA P-521 SHA-512"),
            (ed, "Ed25519"),
            (rsa, "RSA PKCS#1 SHA-256"),
        ] {
            assert_eq!(VerificationKey::from_pem(&pem(&spki)).expect(algorithm).algorithm(), algorithm);
        }
    }

    #[test]
    fn every_algorithm_verifies_its_own_signatures_only() {
        use aws_lc_rs::{
            rand::SystemRandom,
            signature::{EcdsaSigningAlgorithm, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding},
        };
        const MESSAGE: &[u8] = b"message";
        let random = SystemRandom::new();
        let ec = |algorithm: &'static EcdsaSigningAlgorithm| {
            let key = EcdsaKeyPair::generate(algorithm).expect("a key");
            let spki = key.public_key().as_der().expect("DER").as_ref().to_vec();
            (spki, key.sign(&random, MESSAGE).expect("a signature").as_ref().to_vec())
        };
        let ed = Ed25519KeyPair::generate().expect("a key");
        let rsa = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).expect("a key");
        let rsa_spki: Vec<u8> = rsa.public_key().as_der().expect("DER").as_ref().to_vec();
        let rsa_sign = |encoding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; rsa.public_modulus_len()];
            rsa.sign(encoding, &random, MESSAGE, &mut signature).expect("a signature");
            signature
        };
        for (spki, signature) in [
            ec(&ECDSA_P256_SHA256_ASN1_SIGNING),
            ec(&ECDSA_P384_SHA384_ASN1_SIGNING),
            ec(&ECDSA_P521_SHA512_ASN1_SIGNING),
            (ed.public_key().as_der().expect("DER").as_ref().to_vec(), ed.sign(MESSAGE).as_ref().to_vec()),
            (rsa_spki.clone(), rsa_sign(&RSA_PKCS1_SHA256)),
        ] {
            let key = VerificationKey::from_spki(spki).expect("a key");
            assert!(key.verifies(MESSAGE, &signature), "{key:?}");
            assert!(!key.verifies(b"another", &signature) && !key.verifies(MESSAGE, b""), "{key:?}");
        }
        let rsa = VerificationKey::from_spki(rsa_spki).expect("a key");
        assert!(!rsa.verifies(MESSAGE, &rsa_sign(&RSA_PSS_SHA256)), "one algorithm per key");
    }

    #[test]
    fn one_key_has_one_encoding() {
        let spki = decode_pem(COSIGN).expect("PEM");
        let mut compressed = b"\x30\x39\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x22\x00\x03".to_vec();
        compressed.extend_from_slice(&spki[27..59]);
        let mut off_curve = spki.clone();
        off_curve[90] ^= 1;
        let trailing = [spki.as_slice(), b"\0"].concat();
        for (what, spki) in [("compressed", compressed), ("off curve", off_curve), ("trailing byte", trailing), ("short", spki[..90].to_vec())] {
            assert_eq!(VerificationKey::from_pem(&pem(&spki)).expect_err(what), KeyError::Unsupported, "{what}");
        }
    }

    #[test]
    fn one_rsa_key_has_one_encoding() {
        let rsa = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).expect("a key").public_key().as_der().expect("DER").as_ref().to_vec();
        let plain = b"\x30\x82\x01\x22\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
        assert!(rsa.starts_with(plain) && VerificationKey::from_spki(rsa.clone()).is_ok());
        let without_null = b"\x30\x82\x01\x20\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
        let probabilistic = b"\x30\x82\x01\x20\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a";
        for prefix in [&without_null[..], &probabilistic[..]] {
            assert_eq!(VerificationKey::from_spki([prefix, &rsa[plain.len()..]].concat()).expect_err("odd"), KeyError::Unsupported);
        }
        assert_eq!(VerificationKey::from_spki([rsa.as_slice(), b"\0"].concat()).expect_err("a trailing byte"), KeyError::Unsupported);
    }

    #[test]
    fn what_is_no_public_key_is_refused() {
        let two = format!("{COSIGN}{COSIGN}");
        let before = format!("x\n{COSIGN}");
        for (text, error) in [
            ("", KeyError::Pem),
            (two.as_str(), KeyError::Pem),
            (&before, KeyError::Pem),
            (&COSIGN.replace("PUBLIC KEY", "RSA PUBLIC KEY"), KeyError::Pem),
            (&COSIGN.replace("MFkw", "M%kw"), KeyError::Pem),
            (&COSIGN.replace("PUBLIC KEY", "ENCRYPTED SIGSTORE PRIVATE KEY"), KeyError::Private),
            (&pem(b""), KeyError::Unsupported),
            (&format!("{BEGIN}{}{END}", "A".repeat(MAX_PEM)), KeyError::Pem),
        ] {
            assert_eq!(VerificationKey::from_pem(text).expect_err(text), error, "{text}");
        }
    }
}
