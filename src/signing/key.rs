//! Signing with a private key: cosign's encrypted keys, PKCS#8 and SEC1, all of ECDSA P-256.

use async_trait::async_trait;
use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
        Ed25519KeyPair, KeyPair,
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use sigstore_types::{PublicKeyIdentifier, SignatureBytes, VerificationMaterial, VerificationMaterialContent};
use zeroize::Zeroizing;

use super::{Password, Signature, Signer, SigningError, encrypted, pem};
use crate::core::digest::Digest;

/// The largest key file that is read, in bytes.
pub const MAX_KEY_FILE: usize = 64 << 10;

/// What cosign calls its keys since 2.0.
const SIGSTORE: &str = "ENCRYPTED SIGSTORE PRIVATE KEY";
/// What it called them before.
const COSIGN: &str = "ENCRYPTED COSIGN PRIVATE KEY";
/// PKCS#8 (RFC 5958), not encrypted.
const PKCS8: &str = "PRIVATE KEY";
/// SEC1 (RFC 5915).
const SEC1: &str = "EC PRIVATE KEY";

/// Signs with an ECDSA P-256 key and SHA-256, and names the key by a hint.
pub struct KeySigner {
    key: EcdsaKeyPair,
    public_pem: String,
    hint: String,
}

/// A new key pair.
pub struct GeneratedKey {
    /// The private half, encrypted as cosign does it. `cosign.key`.
    pub private_pem: Zeroizing<String>,
    /// The public half. `cosign.pub`.
    pub public_pem: String,
}

/// Makes an ECDSA P-256 key that cosign can use. Takes about 0.2 s and 64 MiB of memory.
pub fn generate(password: &Password) -> Result<GeneratedKey, SigningError> {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|_| SigningError::Library("make a key"))?;
    let plain = key.to_pkcs8v1().map_err(|_| SigningError::Library("serialise a key"))?;
    let sealed = encrypted::seal(plain.as_ref(), password)?;
    let public_pem = KeySigner::new(key)?.public_pem;
    Ok(GeneratedKey { private_pem: Zeroizing::new(pem::encode(SIGSTORE, &sealed)), public_pem })
}

/// Does the key need a password? To be asked before anybody is prompted.
pub fn is_encrypted(key_file: &[u8]) -> Result<bool, SigningError> {
    Ok(matches!(read_block(key_file)?.label.as_str(), SIGSTORE | COSIGN))
}

impl KeySigner {
    /// Reads the content of a key file. `password` is for cosign's encrypted keys; others ignore it.
    ///
    /// Errors: always [`SigningError`] with the reason `NoSigner`, whatever is wrong with the key.
    pub fn from_pem(key_file: &[u8], password: Option<&Password>) -> Result<Self, SigningError> {
        let block = read_block(key_file)?;
        match block.label.as_str() {
            SIGSTORE | COSIGN => {
                let plain = encrypted::open(&block.content, password.ok_or(SigningError::PasswordNeeded)?)?;
                Self::new(parse(&plain)?)
            }
            PKCS8 | SEC1 => Self::new(parse(&block.content)?),
            "RSA PRIVATE KEY" => Err(SigningError::Algorithm("RSA")),
            other => Err(SigningError::Encryption(other.into())),
        }
    }

    fn new(key: EcdsaKeyPair) -> Result<Self, SigningError> {
        let spki = key.public_key().as_der().map_err(|_| SigningError::Library("serialise a public key"))?;
        let hint = STANDARD.encode(Digest::of(spki.as_ref()).bytes());
        Ok(Self { public_pem: pem::encode("PUBLIC KEY", spki.as_ref()), hint, key })
    }
}

fn read_block(key_file: &[u8]) -> Result<pem::Block, SigningError> {
    if key_file.len() > MAX_KEY_FILE {
        return Err(SigningError::TooLarge(key_file.len()));
    }
    pem::private_key(std::str::from_utf8(key_file).map_err(|_| SigningError::NoPrivateKey)?)
}

fn parse(der: &[u8]) -> Result<EcdsaKeyPair, SigningError> {
    EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, der).map_err(|_| why_not(der))
}

/// Names the algorithm of a key that is not ours.
fn why_not(der: &[u8]) -> SigningError {
    let curve = |algorithm: &'static EcdsaSigningAlgorithm| EcdsaKeyPair::from_private_key_der(algorithm, der).is_ok();
    if curve(&ECDSA_P384_SHA384_ASN1_SIGNING) {
        SigningError::Algorithm("ECDSA P-384")
    } else if curve(&ECDSA_P521_SHA512_ASN1_SIGNING) {
        SigningError::Algorithm("ECDSA P-521")
    } else if Ed25519KeyPair::from_pkcs8(der).is_ok() {
        SigningError::Algorithm("Ed25519")
    } else if rsa::KeyPair::from_pkcs8(der).is_ok() {
        SigningError::Algorithm("RSA")
    } else {
        SigningError::Malformed("it is no ECDSA P-256 key in PKCS#8 or SEC1 form")
    }
}

#[async_trait]
impl Signer for KeySigner {
    async fn sign(&self, pae: &[u8]) -> Result<Signature, SigningError> {
        let signature = self.key.sign(&SystemRandom::new(), pae).map_err(|_| SigningError::Library("sign"))?;
        let material = VerificationMaterialContent::PublicKey(PublicKeyIdentifier::new(self.hint.as_str()));
        Ok(Signature { bytes: SignatureBytes::from_bytes(signature.as_ref()), material: VerificationMaterial::new(material) })
    }

    fn public_key_pem(&self) -> &str {
        &self.public_pem
    }

    fn hint(&self) -> &str {
        &self.hint
    }
}

impl std::fmt::Debug for KeySigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySigner").field("hint", &self.hint).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for GeneratedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GeneratedKey").field("public_pem", &self.public_pem).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
