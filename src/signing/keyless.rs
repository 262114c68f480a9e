//! Signing with an identity: a key that lives for minutes, and a certificate that says whose it is.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData, SigningKey};
use sigstore_types::{
    CertificateContent, DerCertificate, SignatureBytes, VerificationMaterialContent,
};
use tokio::{sync::Mutex, time::Instant};

use super::{
    Content, Endorser, IdentityToken, KnownBy, SigningError, TokenError,
    service_error::ServiceError,
    services::{Holder, SigstoreServices},
};
use crate::core::verify;

/// Gives a token that is good now. Asked once for every certificate: a file may hold a newer one by
/// then.
pub type TokenSource = Box<dyn Fn() -> Result<IdentityToken, TokenError> + Send + Sync>;

/// Signs with an identity. A certificate serves until half of its time is over, so that a log's or
/// an authority's clock may differ.
pub struct Keyless {
    services: SigstoreServices,
    token: TokenSource,
    session: Mutex<Option<Arc<Session>>>,
}

/// A key and its certificate.
struct Session {
    key: KeyPair,
    certificate: DerCertificate,
    san: String,
    issuer: String,
    until: Instant,
}

impl Keyless {
    /// Sends nothing yet.
    ///
    /// Errors: services that are not enough for it.
    pub fn new(services: SigstoreServices, token: TokenSource) -> Result<Self, SigningError> {
        services.check_keyless()?;
        Ok(Self {
            services,
            token,
            session: Mutex::new(None),
        })
    }

    async fn session(&self) -> Result<Arc<Session>, SigningError> {
        let mut kept = self.session.lock().await;
        if let Some(session) = kept
            .as_ref()
            .filter(|session| Instant::now() < session.until)
        {
            return Ok(Arc::clone(session));
        }
        let session = Arc::new(self.certify().await?);
        *kept = Some(Arc::clone(&session));
        Ok(session)
    }

    async fn certify(&self) -> Result<Session, SigningError> {
        let token = (self.token)()?;
        let key = KeyPair::generate().map_err(|_| SigningError::Library("make a key"))?;
        let asked = Instant::now();
        let certificate = self.services.certificate(&token, &request(&key)?).await?;
        let certified = verify::certified(&certificate).map_err(ServiceError::untrue)?;
        if certified.public_key.as_bytes() != key.subject_public_key_info() {
            return Err(ServiceError::Certificate(
                "is for another key than the one it was asked for",
            )
            .into());
        }
        let half = certified.lifetime.checked_div(2).unwrap_or(Duration::ZERO);
        Ok(Session {
            key,
            certificate,
            san: certified.san,
            issuer: certified.issuer,
            until: asked + half,
        })
    }
}

/// The request shows the key, and proves that we have it. It names nobody: the token does.
fn request(key: &KeyPair) -> Result<String, SigningError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let pem = params.serialize_request(key).and_then(|csr| csr.pem());
    pem.map_err(|_| SigningError::Library("make a certificate request"))
}

#[async_trait]
impl Endorser for Keyless {
    async fn endorse(&self, content: Content<'_>) -> Result<Bytes, SigningError> {
        let session = self.session().await?;
        let signature = session
            .key
            .sign(&content.signed_bytes())
            .map_err(|_| SigningError::Library("sign"))?;
        let material = VerificationMaterialContent::Certificate(CertificateContent::new(
            session.certificate.clone(),
        ));
        let holder = Holder::Certificate(&session.certificate);
        self.services
            .bundle(
                content,
                SignatureBytes::from_bytes(&signature),
                holder,
                material,
            )
            .await
    }

    async fn known_by(&self) -> Result<KnownBy, SigningError> {
        let session = self.session().await?;
        Ok(KnownBy::Identity {
            san: session.san.clone(),
            issuer: session.issuer.clone(),
            root: Arc::clone(self.services.root()),
        })
    }
}

impl std::fmt::Debug for Keyless {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyless")
            .field("services", &self.services)
            .finish_non_exhaustive()
    }
}
