//! A signer with a certificate of a private CA: the Sigstore bundle contains the certificate in
//! place of a key hint.

use async_trait::async_trait;
use sigstore_types::{DerCertificate, VerificationMaterialContent, bundle::CertificateContent};
use x509_cert::{
    Certificate,
    der::{Decode, Encode},
};

use super::{SignatureWithMaterial, Signer, SigningError};
use crate::core::{
    digest::Digest,
    pem::{decode_pem_body, pem_blocks},
    reason::{ClassifiedError, Reason},
};

/// The largest file with certificates that is read, in bytes.
pub const MAX_CHAIN: usize = 64 << 10;

/// A signer, and the certificate for its key.
pub struct CertificateSigner {
    signer: Box<dyn Signer>,
    certificate: Vec<u8>,
}

/// Why a certificate does not match a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignerCertificateError {
    /// It is larger than any chain; its size in bytes.
    #[error("file of {0} bytes is no certificate chain, the limit is {MAX_CHAIN}")]
    TooLarge(usize),
    /// There is no PEM block with a certificate at the beginning.
    #[error("file holds no PEM block CERTIFICATE; the first must be the signer's own")]
    NoCertificate,
    /// The first block is not a certificate.
    #[error("certificate cannot be read")]
    Malformed,
    /// The certificate is for another key.
    #[error(
        "certificate is for the key {certified}, the key that signs is {key}; the first \
            certificate of the file must be the signer's own"
    )]
    OtherKey {
        /// Fingerprint of the key in the certificate.
        certified: Digest,
        /// Fingerprint of the key that signs.
        key: Digest,
    },
}

impl ClassifiedError for SignerCertificateError {
    fn reason(&self) -> Reason {
        Reason::NoSigner
    }
}

impl CertificateSigner {
    /// Puts the first certificate of `chain` (PEM) in place of the signer's key hint.
    ///
    /// A Sigstore bundle 0.3 contains the signer's certificate and no other: verifiers have the
    /// intermediates with the root. Whether the certificate is trusted, or valid, is for verifiers
    /// to check.
    pub fn new(signer: Box<dyn Signer>, chain: &[u8]) -> Result<Self, SignerCertificateError> {
        if chain.len() > MAX_CHAIN {
            return Err(SignerCertificateError::TooLarge(chain.len()));
        }
        let text = std::str::from_utf8(chain).map_err(|_| SignerCertificateError::NoCertificate)?;
        let certificate =
            first_pem_block("CERTIFICATE", text).ok_or(SignerCertificateError::NoCertificate)?;
        let parsed =
            Certificate::from_der(&certificate).map_err(|_| SignerCertificateError::Malformed)?;
        let certified = parsed
            .tbs_certificate
            .subject_public_key_info
            .to_der()
            .map_err(|_| SignerCertificateError::Malformed)?;
        let key = first_pem_block("PUBLIC KEY", signer.public_key_pem())
            .ok_or(SignerCertificateError::Malformed)?;
        if certified == key {
            return Ok(Self {
                signer,
                certificate,
            });
        }
        Err(SignerCertificateError::OtherKey {
            certified: Digest::of_bytes(&certified),
            key: Digest::of_bytes(&key),
        })
    }
}

/// The content of the first block with this label.
fn first_pem_block(label: &str, text: &str) -> Option<Vec<u8>> {
    let block = pem_blocks(text).find(|block| block.label() == label)?;
    decode_pem_body(block.body()?)
}

#[async_trait]
impl Signer for CertificateSigner {
    async fn sign(&self, pae: &[u8]) -> Result<SignatureWithMaterial, SigningError> {
        let mut signature = self.signer.sign(pae).await?;
        let certificate = CertificateContent::new(DerCertificate::from_bytes(&self.certificate));
        signature.material.content = VerificationMaterialContent::Certificate(certificate);
        Ok(signature)
    }

    fn public_key_pem(&self) -> &str {
        self.signer.public_key_pem()
    }

    fn key_hint(&self) -> &str {
        self.signer.key_hint()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::signing::KeySigner;

    fn signer() -> (Box<dyn Signer>, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let signer = KeySigner::from_pem(key.serialize_pem().as_bytes(), None).expect("a signer");
        (Box::new(signer), key)
    }

    #[tokio::test]
    async fn the_certificate_takes_the_hints_place() {
        let (signer, key) = signer();
        let certificate = CertificateParams::default()
            .self_signed(&key)
            .expect("a certificate");
        let other = CertificateParams::default()
            .self_signed(&KeyPair::generate().expect("a key"))
            .expect("a certificate");
        let chain = format!("subject=CN=x\n{}{}", certificate.pem(), other.pem());
        let certified = CertificateSigner::new(signer, chain.as_bytes()).expect("a signer");
        let signature = certified.sign(b"message").await.expect("a signature");
        let VerificationMaterialContent::Certificate(content) = &signature.material.content else {
            panic!("{:?}", signature.material)
        };
        assert_eq!(content.raw_bytes.as_bytes(), certificate.der().as_ref());
    }

    #[test]
    fn a_certificate_for_another_key_is_refused() {
        let own = CertificateParams::default();
        let other = own
            .self_signed(&KeyPair::generate().expect("a key"))
            .expect("a certificate")
            .pem();
        let large = "x".repeat(MAX_CHAIN + 1);
        for (part, chain) in [
            ("is for the key sha256:", other.as_str()),
            ("no PEM block CERTIFICATE", ""),
            (
                "no PEM block CERTIFICATE",
                "-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----",
            ),
            (
                "cannot be read",
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
            ),
            ("the limit is", &large),
        ] {
            let error = CertificateSigner::new(signer().0, chain.as_bytes())
                .map(|_| ())
                .expect_err(part);
            assert!(
                error.to_string().contains(part) && error.reason() == Reason::NoSigner,
                "{part}: {error}"
            );
        }
    }
}
