//! TLS of the client: which certificates of servers are trusted.
//!
//! A certificate that the user gives as further authority and that is none (it must not sign
//! others) vouches for itself only: a server that shows this very certificate, byte for byte, is
//! trusted, if the certificate is valid now and for the server's name. Such certificates are what
//! `openssl req -x509` makes; curl and docker take them, too.

use std::sync::{Arc, OnceLock};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use rustls_platform_verifier::Verifier;
use x509_cert::{Certificate, Version, der::Decode, ext::pkix::BasicConstraints};

use super::HttpError;

/// The configuration of a client that trusts the system's authorities and these certificates, and
/// shows its own (a chain and its private key) to servers that ask for one.
///
/// Errors: [`HttpError::Setup`] for text that has no certificate or key, or an unreadable one.
pub(super) fn client_config(
    extra_ca_pem: Option<&[u8]>,
    client_identity: Option<&[u8]>,
) -> Result<ClientConfig, HttpError> {
    let provider = CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let (authorities, pinned) = match extra_ca_pem {
        Some(pem) => {
            parse_certificates(pem).map_err(|cause| setup_error("the extra certificates", cause))?
        }
        None => (Vec::new(), Vec::new()),
    };
    let verifier = ServerCertificateVerifier {
        authorities,
        pinned,
        provider: Arc::clone(&provider),
        chains: OnceLock::new(),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| setup_error("TLS", error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match client_identity {
        Some(pem) => {
            let failed = |cause: String| setup_error("the client certificate", cause);
            let (chain, key) = parse_identity(pem).map_err(failed)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| failed(error.to_string()))?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn setup_error(what: &str, cause: String) -> HttpError {
    HttpError::Setup {
        what: what.into(),
        cause,
    }
}

type Certificates = Vec<CertificateDer<'static>>;

/// A chain and its private key.
fn parse_identity(pem: &[u8]) -> Result<(Certificates, PrivateKeyDer<'static>), String> {
    let chain: Result<Certificates, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| error.to_string())?;
    // The parser's message says what is wrong with the form, and quotes nothing.
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| error.to_string())?;
    if chain.is_empty() {
        return Err("it contains no PEM certificate".into());
    }
    Ok((chain, key))
}

/// Certificate authorities, and certificates that vouch for themselves only.
fn parse_certificates(pem: &[u8]) -> Result<(Certificates, Certificates), String> {
    let mut kinds = (Vec::new(), Vec::new());
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        // The library that verifies chains is more tolerant than this parser.
        if Certificate::from_der(&certificate).map_or(true, |parsed| is_authority(&parsed)) {
            check_authority(&certificate)?;
            kinds.0.push(certificate.clone());
        }
        kinds.1.push(certificate);
    }
    if kinds.1.is_empty() {
        return Err("they contain no PEM certificate".into());
    }
    Ok(kinds)
}

fn check_authority(certificate: &CertificateDer<'static>) -> Result<(), String> {
    let added = RootCertStore::empty().add(certificate.clone());
    added.map_err(|error| error.to_string())
}

/// True for a certificate that may sign others (RFC 5280 4.2.1.9). Version 1 cannot say so.
fn is_authority(certificate: &Certificate) -> bool {
    let body = &certificate.tbs_certificate;
    let constraints = body.get::<BasicConstraints>();
    body.version == Version::V1
        || matches!(
            constraints,
            Ok(Some((_, BasicConstraints { ca: true, .. })))
        )
}

#[derive(Debug)]
struct ServerCertificateVerifier {
    authorities: Certificates,
    pinned: Certificates,
    provider: Arc<CryptoProvider>,
    /// The system's authorities are many files: they are read for the first connection with TLS.
    chains: OnceLock<Result<Verifier, Error>>,
}

impl ServerCertificateVerifier {
    fn chains(&self) -> Result<&Verifier, Error> {
        let read = || {
            Verifier::new_with_extra_roots(
                self.authorities.iter().cloned(),
                Arc::clone(&self.provider),
            )
        };
        self.chains.get_or_init(read).as_ref().map_err(Clone::clone)
    }

    fn is_pinned(&self, certificate: &CertificateDer<'_>) -> bool {
        self.pinned.iter().any(|pinned| pinned == certificate)
    }
}

impl ServerCertVerifier for ServerCertificateVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.is_pinned(end_entity) {
            check_pinned(end_entity, server_name, now)?;
            return Ok(ServerCertVerified::assertion());
        }
        self.chains()?.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let known = &self.provider.signature_verification_algorithms;
        known.supported_schemes()
    }
}

/// A certificate that the user trusts as it is: it must be valid now, and for this name.
fn check_pinned(
    certificate: &CertificateDer<'_>,
    server_name: &ServerName<'_>,
    now: UnixTime,
) -> Result<(), Error> {
    let malformed = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
    let parsed = Certificate::from_der(certificate).map_err(malformed)?;
    let validity = &parsed.tbs_certificate.validity;
    let seconds =
        |time: &x509_cert::time::Time| UnixTime::since_unix_epoch(time.to_unix_duration());
    let (not_before, not_after) = (seconds(&validity.not_before), seconds(&validity.not_after));
    if now < not_before {
        return Err(CertificateError::NotValidYetContext {
            time: now,
            not_before,
        }
        .into());
    }
    if now > not_after {
        return Err(CertificateError::ExpiredContext {
            time: now,
            not_after,
        }
        .into());
    }
    verify_server_name(&ParsedCertificate::try_from(certificate)?, server_name)
}
