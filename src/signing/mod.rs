//! EFFECT. Signers.
//!
//! A [`Signer`] has a key: it gets bytes and returns what a Sigstore bundle needs. [`KeySigner`]
//! has a private key in memory, [`kms::KmsSigner`] runs a program. A [`BundleSigner`] makes whole
//! Sigstore bundles: every signer alone, [`LoggedKeySigner`] adds a log entry and timestamps to a
//! key's signature, and [`KeylessSigner`] uses an identity in place of a key. The content of a
//! statement, and whether it may be signed, is not decided here.

mod bundle_signer;
mod certificate_signer;
mod key;
mod key_encryption;
mod key_file;
mod keyless;
pub mod kms;
mod logged_key_signer;
mod password;
mod private_key;
mod service_error;
mod services;
#[cfg(test)]
mod services_tests;
mod token;

use async_trait::async_trait;
use sigstore_types::{SignatureBytes, VerificationMaterial};

pub use bundle_signer::{BundleSigner, BundleSignerIdentity, SigningContent};
pub use certificate_signer::{CertificateSigner, MAX_CHAIN, SignerCertificateError};
pub use key::{
    GeneratedKey, KeySigner, generate_default_key, generate_key, generate_key_with_random_password,
    is_encrypted,
};
pub use key_file::MAX_KEY_FILE;
pub use keyless::{KeylessSigner, TokenSource};
pub use logged_key_signer::LoggedKeySigner;
pub use password::Password;
pub use private_key::SigningAlgorithm;
pub use service_error::SigstoreServiceError;
pub use services::SigstoreServices;
pub use token::{IdentityToken, MAX_TOKEN, TokenError};

use crate::core::reason::{ClassifiedError, Reason};

/// Signs with a key.
#[doc(alias = "SigningHandler")]
#[async_trait]
pub trait Signer: Send + Sync {
    /// Signs the DSSE pre-authentication encoding of a payload (DSSE protocol, "Signature
    /// Definition").
    async fn sign(&self, pae: &[u8]) -> Result<SignatureWithMaterial, SigningError>;

    /// The public key, as PEM (`PUBLIC KEY`, RFC 7468, section 13).
    fn public_key_pem(&self) -> &str;

    /// The key hint in Sigstore bundles: base64 of the SHA-256 of its DER `SubjectPublicKeyInfo`,
    /// as in cosign. A hint, never evidence.
    fn key_hint(&self) -> &str;
}

/// A signature, with the information that a verifier needs to find its key.
#[derive(Clone, Debug)]
pub struct SignatureWithMaterial {
    /// The signature itself; ECDSA signatures in ASN.1 form.
    pub bytes: SignatureBytes,
    /// The part of a Sigstore bundle that identifies the key.
    pub material: VerificationMaterial,
}

/// Why nothing was signed. No variant contains key material or a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// The file is larger than any key; its size in bytes.
    #[error("key file of {0} bytes is no key, the limit is {MAX_KEY_FILE}")]
    TooLarge(usize),
    /// There is no PEM block with a private key.
    #[error("key file holds no PEM block with a private key; `packgate keys generate` makes one")]
    NoPrivateKey,
    /// The PEM block, or its content, cannot be parsed.
    #[error("private key cannot be read: {0}")]
    Malformed(&'static str),
    /// The type of key is not supported.
    #[error(
        "{0} keys are not supported, because cosign knows none; supported are ECDSA P-256, P-384 \
            and P-521, RSA of 2048, 3072 and 4096 bits, and Ed25519; make one with `packgate keys \
            generate`"
    )]
    Algorithm(String),
    /// It is encrypted, but not in cosign's format.
    #[error(
        "private key is encrypted as {0:?}, only cosign's encryption is supported; import it with \
            `cosign import-key-pair --key FILE`"
    )]
    Encryption(String),
    /// Key derivation parameters that are not supported, because they could need any amount of
    /// memory.
    #[error(
        "private key is encrypted with scrypt N={n} r={r} p={p}; supported are N=32768, 65536 or \
            131072 with r=8 p=1; import the key again with cosign"
    )]
    ScryptParameters {
        /// CPU and memory cost.
        n: u64,
        /// Block size.
        r: u32,
        /// Parallelism.
        p: u32,
    },
    /// The key is encrypted and there is no password.
    #[error("private key is encrypted; give its password in COSIGN_PASSWORD")]
    PasswordNeeded,
    /// The password does not decrypt the key.
    #[error("private key does not open: the password is wrong, or the file was changed")]
    WrongPassword,
    /// The plug-in of the key failed.
    #[error(transparent)]
    Kms(#[from] kms::KmsError),
    /// The bytes to sign as a statement are not one.
    #[error("the document to sign is not an in-toto statement: {0}")]
    Statement(String),
    /// There is no identity to sign with.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A service failed, or refused this signature.
    #[error(transparent)]
    Service(#[from] SigstoreServiceError),
    /// The cryptographic library failed.
    #[error("the cryptographic library could not {0}")]
    Library(&'static str),
}

impl ClassifiedError for SigningError {
    fn reason(&self) -> Reason {
        match self {
            Self::Library(_) => Reason::Internal,
            Self::Kms(error) => error.reason(),
            Self::Statement(_) => Reason::InvalidSpec,
            Self::Service(error) => error.reason(),
            _ => Reason::NoSigner,
        }
    }
}
