//! Signing with a key before witnesses: a log that records it, authorities that tell the time.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    Content, Endorser, KnownBy, Signature, Signer, SigningError,
    services::{Holder, SigstoreServices},
};
use crate::core::verify::VerificationKey;

/// A key whose signatures are logged, timestamped, or both.
pub struct Witnessed {
    signer: Box<dyn Signer>,
    key: VerificationKey,
    services: SigstoreServices,
}

impl Witnessed {
    /// Sends nothing yet.
    ///
    /// Errors: a key that the services cannot vouch for, or no service that could.
    pub fn new(signer: Box<dyn Signer>, services: SigstoreServices) -> Result<Self, SigningError> {
        let key = VerificationKey::from_pem(signer.public_key_pem())
            .map_err(|_| SigningError::Malformed("its public half cannot be read"))?;
        services.check_keyed(&key)?;
        Ok(Self {
            signer,
            key,
            services,
        })
    }
}

#[async_trait]
impl Endorser for Witnessed {
    async fn endorse(&self, content: Content<'_>) -> Result<Bytes, SigningError> {
        let Signature { bytes, material } = self.signer.sign(&content.signed_bytes()).await?;
        let holder = Holder::Key {
            key: &self.key,
            pem: self.signer.public_key_pem(),
        };
        self.services
            .bundle(content, bytes, holder, material.content)
            .await
    }

    async fn known_by(&self) -> Result<KnownBy, SigningError> {
        Ok(KnownBy::Key {
            pem: self.signer.public_key_pem().to_owned(),
            root: Some(Arc::clone(self.services.root())),
        })
    }
}

impl std::fmt::Debug for Witnessed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Witnessed")
            .field("key", &self.signer.hint())
            .field("services", &self.services)
            .finish()
    }
}
