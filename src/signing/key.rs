//! Signing with a private key: cosign's encrypted keys, PKCS#8, SEC1 and PKCS#1.

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use sigstore_types::{
    PublicKeyIdentifier, SignatureBytes, VerificationMaterial, VerificationMaterialContent,
};
use zeroize::Zeroizing;

use super::{
    Password, SignatureWithMaterial, Signer, SigningError,
    key_encryption::{self, PasswordOrigin},
    key_file::{self, MAX_KEY_FILE},
    private_key::{PrivateKey, SigningAlgorithm},
};
use crate::core::{digest::Digest, pem::encode_pem_block};

/// The PEM label of cosign's keys since 2.0.
const SIGSTORE: &str = "ENCRYPTED SIGSTORE PRIVATE KEY";
/// The former PEM label of cosign's private keys.
const COSIGN: &str = "ENCRYPTED COSIGN PRIVATE KEY";
/// PKCS#8 (RFC 5958), not encrypted.
const PKCS8: &str = "PRIVATE KEY";
/// SEC1 (RFC 5915).
const SEC1: &str = "EC PRIVATE KEY";
/// PKCS#1 (RFC 8017).
const PKCS1: &str = "RSA PRIVATE KEY";

/// Signs with a private key and its algorithm, and identifies the key by a hint.
pub struct KeySigner {
    key: PrivateKey,
    public_pem: String,
    hint: String,
}

/// A new key pair.
pub struct GeneratedKey {
    /// The private key, in cosign's encryption. `cosign.key`.
    pub private_pem: Zeroizing<String>,
    /// The public key. `cosign.pub`.
    pub public_pem: String,
}

/// Generates an ECDSA P-256 key in cosign's format for a password of at least 128 random bits.
///
/// Takes half the time and memory (32 MiB) of [`generate_default_key`]: such a password needs no
/// protection by the cost of trying.
pub fn generate_key_with_random_password(
    password: &Password,
) -> Result<GeneratedKey, SigningError> {
    generate_encrypted_key(
        SigningAlgorithm::default(),
        password,
        PasswordOrigin::Random,
    )
}

/// Generates an ECDSA P-256 key in cosign's format. Takes about 0.2 s and 64 MiB of memory.
pub fn generate_default_key(password: &Password) -> Result<GeneratedKey, SigningError> {
    generate_key(SigningAlgorithm::default(), password)
}

/// Generates a key for this algorithm in cosign's format. An RSA key of 4096 bits takes a second or
/// more.
pub fn generate_key(
    algorithm: SigningAlgorithm,
    password: &Password,
) -> Result<GeneratedKey, SigningError> {
    generate_encrypted_key(algorithm, password, PasswordOrigin::Person)
}

fn generate_encrypted_key(
    algorithm: SigningAlgorithm,
    password: &Password,
    origin: PasswordOrigin,
) -> Result<GeneratedKey, SigningError> {
    let key = PrivateKey::generate(algorithm)?;
    let sealed = key_encryption::encrypt_key(&key.to_pkcs8()?, password, origin)?;
    let public_pem = KeySigner::new(key)?.public_pem;
    Ok(GeneratedKey {
        private_pem: Zeroizing::new(encode_pem_block(SIGSTORE, &sealed)),
        public_pem,
    })
}

/// True if the key needs a password. To be checked before the user is prompted.
pub fn is_encrypted(key_file: &[u8]) -> Result<bool, SigningError> {
    Ok(matches!(
        read_block(key_file)?.label.as_str(),
        SIGSTORE | COSIGN
    ))
}

impl KeySigner {
    /// Parses a key file. `password` is for cosign's encrypted keys; others ignore it.
    ///
    /// Errors: always [`SigningError`] with the reason `NoSigner`.
    pub fn from_pem(key_file: &[u8], password: Option<&Password>) -> Result<Self, SigningError> {
        let block = read_block(key_file)?;
        match block.label.as_str() {
            SIGSTORE | COSIGN => {
                let plain = key_encryption::decrypt_key(
                    &block.content,
                    password.ok_or(SigningError::PasswordNeeded)?,
                )?;
                Self::new(PrivateKey::from_der(&plain)?)
            }
            PKCS8 | SEC1 => Self::new(PrivateKey::from_der(&block.content)?),
            PKCS1 => Self::new(PrivateKey::from_pkcs1(&block.content)?),
            other => Err(SigningError::Encryption(other.into())),
        }
    }

    fn new(key: PrivateKey) -> Result<Self, SigningError> {
        let spki = key.to_spki()?;
        let hint = STANDARD.encode(Digest::of_bytes(&spki).as_bytes());
        Ok(Self {
            public_pem: encode_pem_block("PUBLIC KEY", &spki),
            hint,
            key,
        })
    }
}

fn read_block(key_file: &[u8]) -> Result<key_file::PrivateKeyBlock, SigningError> {
    if key_file.len() > MAX_KEY_FILE {
        return Err(SigningError::TooLarge(key_file.len()));
    }
    key_file::find_private_key(
        std::str::from_utf8(key_file).map_err(|_| SigningError::NoPrivateKey)?,
    )
}

#[async_trait]
impl Signer for KeySigner {
    async fn sign(&self, pae: &[u8]) -> Result<SignatureWithMaterial, SigningError> {
        let signature = self.key.sign(pae)?;
        let material =
            VerificationMaterialContent::PublicKey(PublicKeyIdentifier::new(self.hint.as_str()));
        Ok(SignatureWithMaterial {
            bytes: SignatureBytes::from_bytes(&signature),
            material: VerificationMaterial::new(material),
        })
    }

    fn public_key_pem(&self) -> &str {
        &self.public_pem
    }

    fn key_hint(&self) -> &str {
        &self.hint
    }
}

impl std::fmt::Debug for KeySigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySigner")
            .field("hint", &self.hint)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for GeneratedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GeneratedKey")
            .field("public_pem", &self.public_pem)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
