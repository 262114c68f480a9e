//! Signing with a key of another program: Sigstore's KMS plug-in protocol, version `v1`.
//!
//! A key is written `NAME://KEY`, and the program `sigstore-kms-NAME` is looked up on the `PATH`.
//! It is run once for each request, with `v1` and a JSON document as its arguments, the message on
//! stdin and its response, also JSON, on stdout. Its exit code has no meaning. Source:
//! sigstore/sigstore v1.10.8, `pkg/signature/kms/cliplugin`.
//!
//! Each response is checked: the public key is parsed as any other, and a signature that the key
//! does not verify is refused.

mod error;
mod key_reference;
mod plugin;

use std::time::Duration;

use async_trait::async_trait;
use sigstore_types::{
    PublicKeyIdentifier, SignatureBytes, VerificationMaterial, VerificationMaterialContent,
};

use self::plugin::KmsPlugin;
pub use self::{error::KmsError, key_reference::KeyReference, plugin::TimestampFn};
use super::{SignatureWithMaterial, Signer, SigningError};
use crate::{
    core::verify::{KeyAlgorithm, VerificationKey},
    process::Command,
};

/// The timeout of one request. A plug-in may wait for a user to touch a token, and for a network.
pub const TIMEOUT: Duration = Duration::from_mins(1);

/// Signs with a plug-in.
#[derive(Debug)]
pub struct KmsSigner {
    plugin: KmsPlugin,
    key: VerificationKey,
    public_pem: String,
    hint: String,
}

impl KmsSigner {
    /// Requests the public key from the plug-in. Waits for [`TIMEOUT`] at most.
    pub async fn load_key(reference: KeyReference, now: TimestampFn) -> Result<Self, KmsError> {
        Self::from_plugin(KmsPlugin {
            reference,
            now,
            timeout: TIMEOUT,
            command: Command::new,
        })
        .await
    }

    async fn from_plugin(plugin: KmsPlugin) -> Result<Self, KmsError> {
        let key = plugin.public_key().await?;
        if key.algorithm() == KeyAlgorithm::RsaPss {
            return Err(KmsError::Pss(plugin.reference.program_name()));
        }
        Ok(Self {
            public_pem: key.to_pem(),
            hint: key.bundle_key_hint(),
            plugin,
            key,
        })
    }

    /// The public key.
    pub const fn key(&self) -> &VerificationKey {
        &self.key
    }
}

#[async_trait]
impl Signer for KmsSigner {
    async fn sign(&self, pae: &[u8]) -> Result<SignatureWithMaterial, SigningError> {
        let bytes = self.plugin.sign_message(&self.key, pae).await?;
        let material =
            VerificationMaterialContent::PublicKey(PublicKeyIdentifier::new(self.hint.as_str()));
        Ok(SignatureWithMaterial {
            bytes: SignatureBytes::from_bytes(&bytes),
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

#[cfg(test)]
mod tests;
