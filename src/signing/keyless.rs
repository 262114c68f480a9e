//! Signing with an identity: a key that is valid for minutes, and a certificate with the identity
//! of its holder.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData, SigningKey};
use sigstore_types::{
    CertificateContent, DerCertificate, SignatureBytes, VerificationMaterialContent,
};
use tokio::{sync::Mutex, time::Instant};

use super::{
    BundleSigner, BundleSignerIdentity, IdentityToken, SigningContent, SigningError, TokenError,
    service_error::SigstoreServiceError,
    services::{SignatureHolder, SigstoreServices},
};
use crate::core::self_verification::signing_certificate_info;

/// Returns a valid token. Called once for every certificate: a file may contain a newer one by
/// then.
pub type TokenSource = Box<dyn Fn() -> Result<IdentityToken, TokenError> + Send + Sync>;

/// Signs with an identity. A certificate is used for half of its lifetime, to tolerate clock
/// differences of logs and authorities.
pub struct KeylessSigner {
    services: SigstoreServices,
    token: TokenSource,
    session: Mutex<Option<Arc<CertificateSession>>>,
}

/// A key and its certificate.
struct CertificateSession {
    key: KeyPair,
    certificate: DerCertificate,
    san: String,
    issuer: String,
    until: Instant,
}

impl KeylessSigner {
    /// Sends nothing yet.
    ///
    /// Errors: a required service is missing.
    pub fn new(services: SigstoreServices, token: TokenSource) -> Result<Self, SigningError> {
        services.check_keyless()?;
        Ok(Self {
            services,
            token,
            session: Mutex::new(None),
        })
    }

    async fn current_session(&self) -> Result<Arc<CertificateSession>, SigningError> {
        let mut kept = self.session.lock().await;
        if let Some(session) = kept
            .as_ref()
            .filter(|session| Instant::now() < session.until)
        {
            return Ok(Arc::clone(session));
        }
        let session = Arc::new(self.request_certificate().await?);
        *kept = Some(Arc::clone(&session));
        Ok(session)
    }

    async fn request_certificate(&self) -> Result<CertificateSession, SigningError> {
        let token = (self.token)()?;
        let key = KeyPair::generate().map_err(|_| SigningError::Library("make a key"))?;
        let requested_at = Instant::now();
        let certificate = self
            .services
            .request_certificate(&token, &certificate_request(&key)?)
            .await?;
        let certified =
            signing_certificate_info(&certificate).map_err(SigstoreServiceError::from_evidence)?;
        if certified.public_key.as_bytes() != key.subject_public_key_info() {
            return Err(SigstoreServiceError::Certificate(
                "is for another key than the one it was asked for",
            )
            .into());
        }
        let half = certified.lifetime.checked_div(2).unwrap_or(Duration::ZERO);
        Ok(CertificateSession {
            key,
            certificate,
            san: certified.san,
            issuer: certified.issuer,
            until: requested_at + half,
        })
    }
}

/// The request contains the public key, and proves possession of the private key. It contains no
/// name: the token does.
fn certificate_request(key: &KeyPair) -> Result<String, SigningError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let pem = params.serialize_request(key).and_then(|csr| csr.pem());
    pem.map_err(|_| SigningError::Library("make a certificate request"))
}

#[async_trait]
impl BundleSigner for KeylessSigner {
    async fn create_sigstore_bundle(
        &self,
        content: SigningContent<'_>,
    ) -> Result<Bytes, SigningError> {
        let session = self.current_session().await?;
        let signature = session
            .key
            .sign(&content.signed_bytes())
            .map_err(|_| SigningError::Library("sign"))?;
        let material = VerificationMaterialContent::Certificate(CertificateContent::new(
            session.certificate.clone(),
        ));
        let holder = SignatureHolder::Certificate(&session.certificate);
        self.services
            .build_verified_bundle(
                content,
                SignatureBytes::from_bytes(&signature),
                holder,
                material,
            )
            .await
    }

    async fn signer_identity(&self) -> Result<BundleSignerIdentity, SigningError> {
        let session = self.current_session().await?;
        Ok(BundleSignerIdentity::Identity {
            san: session.san.clone(),
            issuer: session.issuer.clone(),
            root: Arc::clone(self.services.trust_root()),
        })
    }
}

impl std::fmt::Debug for KeylessSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeylessSigner")
            .field("services", &self.services)
            .finish_non_exhaustive()
    }
}
