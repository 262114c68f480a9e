//! Signers of Sigstore bundles: a key alone, a key whose signatures are logged, or an identity.

use std::{borrow::Cow, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use sigstore_types::{SignatureBytes, VerificationMaterial};

use super::{SignatureWithMaterial, Signer, SigningError};
use crate::core::{digest::Digest, dsse, intoto::Statement, referrer, verify::TrustRoot};

/// The content to sign.
#[derive(Clone, Copy, Debug)]
pub enum SigningContent<'a> {
    /// An in-toto statement, in a DSSE envelope.
    Statement(&'a [u8]),
    /// Plain bytes, by their SHA-256.
    Message(&'a [u8]),
}

/// The identity by which a [`BundleSigner`]'s signatures are recognised.
#[derive(Clone, Debug)]
pub enum BundleSignerIdentity {
    /// A key.
    Key {
        /// The key in PEM (`PUBLIC KEY`).
        pem: String,
        /// The trust root that its log entries and timestamps are verified with.
        root: Option<Arc<TrustRoot>>,
    },
    /// The identity in a certificate.
    Identity {
        /// Its subject alternative name.
        san: String,
        /// The OIDC issuer in the certificate.
        issuer: String,
        /// The trust root that the certificate chains to.
        root: Arc<TrustRoot>,
    },
}

/// Makes Sigstore bundles. Every [`Signer`] is one: its bundles contain a signature and the hint of
/// its key, and no evidence of the time.
#[async_trait]
pub trait BundleSigner: Send + Sync {
    /// Signs `content` and returns the whole Sigstore bundle, verified where a trust root is
    /// available.
    async fn create_sigstore_bundle(
        &self,
        content: SigningContent<'_>,
    ) -> Result<Bytes, SigningError>;

    /// The identity of its bundles. A keyless signer gets it from the certificate authority.
    async fn signer_identity(&self) -> Result<BundleSignerIdentity, SigningError>;
}

#[async_trait]
impl<S: Signer + ?Sized> BundleSigner for S {
    async fn create_sigstore_bundle(
        &self,
        content: SigningContent<'_>,
    ) -> Result<Bytes, SigningError> {
        let SignatureWithMaterial { bytes, material } = self.sign(&content.signed_bytes()).await?;
        content.build_sigstore_bundle(bytes, material)
    }

    async fn signer_identity(&self) -> Result<BundleSignerIdentity, SigningError> {
        Ok(BundleSignerIdentity::Key {
            pem: self.public_key_pem().to_owned(),
            root: None,
        })
    }
}

#[async_trait]
impl<S: Signer + ?Sized> Signer for Box<S> {
    async fn sign(&self, pae: &[u8]) -> Result<SignatureWithMaterial, SigningError> {
        (**self).sign(pae).await
    }

    fn public_key_pem(&self) -> &str {
        (**self).public_key_pem()
    }

    fn key_hint(&self) -> &str {
        (**self).key_hint()
    }
}

impl<'a> SigningContent<'a> {
    /// The bytes that a signature covers.
    pub(super) fn signed_bytes(&self) -> Cow<'a, [u8]> {
        match self {
            Self::Statement(statement) => dsse::statement_pae(statement).into(),
            Self::Message(message) => (*message).into(),
        }
    }

    /// The Sigstore bundle.
    pub(super) fn build_sigstore_bundle(
        &self,
        signature: SignatureBytes,
        material: VerificationMaterial,
    ) -> Result<Bytes, SigningError> {
        let bundle = match self {
            Self::Statement(statement) => {
                referrer::dsse_envelope_bundle(statement, signature, material)
            }
            Self::Message(message) => {
                referrer::message_signature_bundle(&Digest::of_bytes(message), signature, material)
            }
        };
        bundle.map_err(|_| SigningError::Library("serialise a Sigstore bundle"))
    }

    /// The digest of its subject: the message's own, or the statement's first SHA-256.
    pub(super) fn subject_digest(&self) -> Result<Digest, SigningError> {
        let statement = match self {
            Self::Message(message) => return Ok(Digest::of_bytes(message)),
            Self::Statement(statement) => serde_json::from_slice::<Statement>(statement),
        };
        let statement = statement.map_err(|error| SigningError::Statement(error.to_string()))?;
        let first = statement
            .subject
            .iter()
            .find_map(|subject| subject.digest.get("sha256"));
        let parsed = first.and_then(|hex| format!("sha256:{hex}").parse().ok());
        parsed.ok_or_else(|| {
            SigningError::Statement("none of its subjects has a sha256 digest".into())
        })
    }
}
