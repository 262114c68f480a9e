//! The TLS configuration: the server's certificate, and the client certificates that it requires.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use x509_cert::{
    Certificate,
    der::{Decode, asn1::ObjectIdentifier},
};

/// `commonName` (X.520).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
/// The maximum size in bytes of the CA file for client certificates.
const MAX_CA: usize = 1 << 20;

/// The TLS configuration of new connections.
#[derive(Clone, Debug)]
pub struct ReloadableTlsConfig(Arc<RwLock<Arc<ServerConfig>>>);

impl ReloadableTlsConfig {
    /// With this certificate; a client certificate is required if `clients` names its CAs.
    pub fn build_server_config(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        clients: Option<&ClientCertificateVerifier>,
    ) -> Result<ServerConfig, Error> {
        let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&versions)?;
        let builder = match clients {
            Some(clients) => builder.with_client_cert_verifier(Arc::new(clients.clone())),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// A TLS acceptor with this configuration.
    pub fn new(config: ServerConfig) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(config))))
    }

    /// New connections use `config`; open ones stay as they are.
    pub fn replace(&self, config: ServerConfig) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    pub(super) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Verifies client certificates. A handshake without one fails.
#[derive(Clone, Debug)]
pub struct ClientCertificateVerifier {
    chains: Arc<dyn ClientCertVerifier>,
    names: Arc<[String]>,
}

/// Why client certificates cannot be verified.
#[derive(Debug, thiserror::Error)]
pub enum ClientCaError {
    /// No certificates, or none that can be parsed.
    #[error(
        "no certificate of a certificate authority in PEM ({0}); put the authority that issued the \
            client certificate of the API servers there"
    )]
    Authority(String),
}

impl ClientCertificateVerifier {
    /// Requires a certificate by these CAs (PEM) for client authentication, with one of these
    /// common names, if any are given.
    pub fn new(authorities: &[u8], names: &[String]) -> Result<Self, ClientCaError> {
        if authorities.len() > MAX_CA {
            return Err(ClientCaError::Authority(format!(
                "{} bytes, the limit is {MAX_CA}",
                authorities.len()
            )));
        }
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authorities) {
            let certificate =
                certificate.map_err(|error| ClientCaError::Authority(error.to_string()))?;
            roots
                .add(certificate)
                .map_err(|error| ClientCaError::Authority(error.to_string()))?;
        }
        let chains = WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::new(default_provider()),
        );
        let chains = chains
            .build()
            .map_err(|error| ClientCaError::Authority(error.to_string()))?;
        Ok(Self {
            chains,
            names: names.into(),
        })
    }

    fn has_allowed_common_name(&self, certificate: &CertificateDer<'_>) -> bool {
        self.names.is_empty()
            || common_name(certificate).is_some_and(|name| self.names.contains(&name))
    }
}

/// The last common name of the subject, which is the most specific one.
fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let names = certificate
        .tbs_certificate
        .subject
        .0
        .iter()
        .rev()
        .flat_map(|set| set.0.iter());
    let name = names
        .into_iter()
        .find(|attribute| attribute.oid == COMMON_NAME)?;
    std::str::from_utf8(name.value.value())
        .ok()
        .map(str::to_owned)
}

impl ClientCertVerifier for ClientCertificateVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chains.verify_client_cert(end, others, now)?;
        if self.has_allowed_common_name(end) {
            Ok(verified)
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}
