//! Signed certificate timestamps (SCTs), embedded in a certificate (RFC 6962, sections 3.2 and
//! 3.3).
//!
//! A certificate may carry several, as sigstore-go and cosign accept it: one by a log of the trust
//! root is enough. One that names such a log and has an invalid signature is refused, whatever
//! other SCTs there are.

use jiff::Timestamp;
use sigstore_crypto::{Keyring, SigningScheme};
use sigstore_trust_root::TrustedRoot;
use sigstore_types::{Sha256Hash, SignatureBytes};
use x509_cert::{
    Certificate, TbsCertificate,
    der::{Decode, Encode},
    ext::pkix::{
        SignedCertificateTimestamp, SignedCertificateTimestampList,
        sct::{HashAlgorithm, SignatureAlgorithm},
    },
};

use super::untrusted_chain_error;
use crate::core::{digest::Digest, evidence::EvidenceError, reason::Reason};

/// The maximum number of SCTs in one certificate. Each costs one signature check.
const MAX_SCTS: usize = 8;
const SCT_LIST_OID: &str = "1.3.6.1.4.1.11129.2.4.2";
const SCHEMES: [SigningScheme; 5] = [
    SigningScheme::EcdsaP256Sha256,
    SigningScheme::EcdsaP384Sha384,
    SigningScheme::RsaPkcs1Sha256,
    SigningScheme::RsaPkcs1Sha384,
    SigningScheme::RsaPkcs1Sha512,
];

/// The certificate transparency logs of a trust root, by signature scheme.
pub(crate) struct CertificateTransparencyLogs(Vec<(SigningScheme, Keyring)>);

impl CertificateTransparencyLogs {
    /// Errors: a log's id is invalid.
    pub(crate) fn from_trusted_root(
        root: &TrustedRoot,
    ) -> Result<Self, sigstore_trust_root::Error> {
        SCHEMES
            .into_iter()
            .map(|scheme| Ok((scheme, root.ctfe_keys(scheme)?)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Verifies that one of the logs has an SCT for this certificate, issued by the holder of
    /// `issuer` (a DER `SubjectPublicKeyInfo`).
    pub(crate) fn check_certificate(
        &self,
        certificate: &[u8],
        issuer: &[u8],
    ) -> Result<(), EvidenceError> {
        let certificate = Certificate::from_der(certificate)
            .map_err(|_| untrusted_chain_error("its certificate cannot be read"))?;
        let promises = embedded_scts(&certificate.tbs_certificate)?;
        let signed = precertificate_tbs(certificate.tbs_certificate)?;
        let mut is_seen = false;
        for promise in promises {
            is_seen |= self.verify_sct(&promise, &signed, issuer)?;
        }
        if is_seen {
            return Ok(());
        }
        Err(untrusted_chain_error(
            "none of the certificate transparency logs that its SCTs name is in the \
                trust root and was in use then",
        ))
    }

    /// False if its log is unknown, or was not in use.
    fn verify_sct(
        &self,
        promise: &SignedCertificateTimestamp,
        signed: &[u8],
        issuer: &[u8],
    ) -> Result<bool, EvidenceError> {
        let log = Sha256Hash::new(promise.log_id.key_id);
        let made = i64::try_from(promise.timestamp)
            .ok()
            .and_then(|time| Timestamp::from_millisecond(time).ok());
        let made = made.ok_or_else(|| {
            untrusted_chain_error("a signed certificate timestamp (SCT) has an invalid time")
        })?;
        if !self
            .0
            .iter()
            .any(|(_, keys)| keys.key_at(&log, made).is_some())
        {
            return Ok(false);
        }
        let scheme = sct_signing_scheme(promise);
        let key = self
            .0
            .iter()
            .find(|(known, _)| Some(*known) == scheme)
            .and_then(|(_, keys)| keys.key_at(&log, made));
        let message = sct_signed_message(promise, signed, issuer).ok_or_else(|| {
            untrusted_chain_error("its certificate is too long for a certificate transparency log")
        })?;
        let signature = SignatureBytes::new(promise.signature.signature.as_slice().to_vec());
        let is_good = key.is_some_and(|key| key.verify(&message, &signature).is_ok());
        if is_good {
            Ok(true)
        } else {
            Err(untrusted_chain_error(
                "a signed certificate timestamp (SCT) in its certificate was not signed by its log",
            ))
        }
    }
}

fn embedded_scts(
    certificate: &TbsCertificate,
) -> Result<Vec<SignedCertificateTimestamp>, EvidenceError> {
    let unreadable = || {
        untrusted_chain_error(
            "the signed certificate timestamps (SCT) in its certificate cannot be read",
        )
    };
    let list = certificate
        .get::<SignedCertificateTimestampList>()
        .map_err(|_| unreadable())?;
    let (_, list) = list.ok_or_else(|| {
        untrusted_chain_error("its certificate has no signed certificate timestamp (SCT)")
    })?;
    let list = list.parse_timestamps().map_err(|_| unreadable())?;
    if list.len() > MAX_SCTS {
        let message = format!(
            "its certificate carries {} signed certificate timestamps (SCT), the limit is \
                {MAX_SCTS}",
            list.len()
        );
        return Err(EvidenceError::Sigstore {
            reason: Reason::LimitExceeded,
            message,
            signer: None,
        });
    }
    list.iter()
        .map(|promise| promise.parse_timestamp().map_err(|_| unreadable()))
        .collect()
}

/// The certificate as logged: without the SCTs.
fn precertificate_tbs(mut certificate: TbsCertificate) -> Result<Vec<u8>, EvidenceError> {
    if let Some(extensions) = &mut certificate.extensions {
        extensions.retain(|extension| extension.extn_id.to_string() != SCT_LIST_OID);
    }
    certificate
        .to_der()
        .map_err(|_| untrusted_chain_error("its certificate cannot be written"))
}

/// `digitally-signed` of a `precert_entry` (section 3.2). `None` if a length does not fit.
fn sct_signed_message(
    promise: &SignedCertificateTimestamp,
    signed: &[u8],
    issuer: &[u8],
) -> Option<Vec<u8>> {
    const VERSION_1: u8 = 0;
    const CERTIFICATE_TIMESTAMP: u8 = 0;
    const PRECERT_ENTRY: [u8; 2] = [0, 1];
    let [0, length @ ..] = u32::try_from(signed.len()).ok()?.to_be_bytes() else {
        return None;
    };
    let extensions = promise.extensions.as_slice();
    let mut message = vec![VERSION_1, CERTIFICATE_TIMESTAMP];
    message.extend(promise.timestamp.to_be_bytes());
    message.extend(PRECERT_ENTRY);
    message.extend(Digest::of_bytes(issuer).as_bytes());
    message.extend(length);
    message.extend(signed);
    message.extend(u16::try_from(extensions.len()).ok()?.to_be_bytes());
    message.extend(extensions);
    Some(message)
}

const fn sct_signing_scheme(promise: &SignedCertificateTimestamp) -> Option<SigningScheme> {
    let algorithm = &promise.signature.algorithm;
    match (&algorithm.signature, &algorithm.hash) {
        (SignatureAlgorithm::Ecdsa, HashAlgorithm::Sha256) => Some(SigningScheme::EcdsaP256Sha256),
        (SignatureAlgorithm::Ecdsa, HashAlgorithm::Sha384) => Some(SigningScheme::EcdsaP384Sha384),
        (SignatureAlgorithm::Rsa, HashAlgorithm::Sha256) => Some(SigningScheme::RsaPkcs1Sha256),
        (SignatureAlgorithm::Rsa, HashAlgorithm::Sha384) => Some(SigningScheme::RsaPkcs1Sha384),
        (SignatureAlgorithm::Rsa, HashAlgorithm::Sha512) => Some(SigningScheme::RsaPkcs1Sha512),
        _ => None,
    }
}
