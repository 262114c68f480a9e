//! Signing with a key, with a transparency log and timestamp authorities.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    BundleSigner, BundleSignerIdentity, SignatureWithMaterial, Signer, SigningContent,
    SigningError,
    services::{SignatureHolder, SigstoreServices},
};
use crate::core::verify::VerificationKey;

/// A key whose signatures are logged, timestamped, or both.
pub struct LoggedKeySigner {
    signer: Box<dyn Signer>,
    key: VerificationKey,
    services: SigstoreServices,
}

impl LoggedKeySigner {
    /// Sends nothing yet.
    ///
    /// Errors: a key that the services do not support, or no such service.
    pub fn new(signer: Box<dyn Signer>, services: SigstoreServices) -> Result<Self, SigningError> {
        let key = VerificationKey::from_pem(signer.public_key_pem())
            .map_err(|_| SigningError::Malformed("its public key cannot be read"))?;
        services.check_keyed(&key)?;
        Ok(Self {
            signer,
            key,
            services,
        })
    }
}

#[async_trait]
impl BundleSigner for LoggedKeySigner {
    async fn create_sigstore_bundle(
        &self,
        content: SigningContent<'_>,
    ) -> Result<Bytes, SigningError> {
        let SignatureWithMaterial { bytes, material } =
            self.signer.sign(&content.signed_bytes()).await?;
        let holder = SignatureHolder::Key {
            key: &self.key,
            pem: self.signer.public_key_pem(),
        };
        self.services
            .build_verified_bundle(content, bytes, holder, material.content)
            .await
    }

    async fn signer_identity(&self) -> Result<BundleSignerIdentity, SigningError> {
        Ok(BundleSignerIdentity::Key {
            pem: self.signer.public_key_pem().to_owned(),
            root: Some(Arc::clone(self.services.trust_root())),
        })
    }
}

impl std::fmt::Debug for LoggedKeySigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoggedKeySigner")
            .field("key", &self.signer.key_hint())
            .field("services", &self.services)
            .finish()
    }
}
