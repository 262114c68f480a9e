//! What logs of certificates promise inside of a certificate: signed certificate timestamps (RFC
//! 6962, sections 3.2 and 3.3).
//!
//! A certificate may carry several, as sigstore-go and cosign take it: one of a log that the trust
//! root knows will do. One that such a log should have made and did not is refused, whatever stands
//! beside it.

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

use super::{EvidenceError, chain::fault};
use crate::core::{class::Reason, digest::Digest};

/// Promises in one certificate. Each costs one check of a signature.
const MAX_PROMISES: usize = 8;
const PROMISES: &str = "1.3.6.1.4.1.11129.2.4.2";
const SCHEMES: [SigningScheme; 5] = [
    SigningScheme::EcdsaP256Sha256,
    SigningScheme::EcdsaP384Sha384,
    SigningScheme::RsaPkcs1Sha256,
    SigningScheme::RsaPkcs1Sha384,
    SigningScheme::RsaPkcs1Sha512,
];

/// The logs of certificates of a trust root, for each scheme those whose keys can sign so.
pub(super) struct CertificateLogs(Vec<(SigningScheme, Keyring)>);

impl CertificateLogs {
    /// Errors: a log's name is none.
    pub(super) fn of(root: &TrustedRoot) -> Result<Self, sigstore_trust_root::Error> {
        SCHEMES
            .into_iter()
            .map(|scheme| Ok((scheme, root.ctfe_keys(scheme)?)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Did one of the logs see this certificate, which the holder of `issuer` (a DER
    /// `SubjectPublicKeyInfo`) issued?
    pub(super) fn check(&self, certificate: &[u8], issuer: &[u8]) -> Result<(), EvidenceError> {
        let certificate = Certificate::from_der(certificate)
            .map_err(|_| fault("its certificate cannot be read"))?;
        let promises = promises(&certificate.tbs_certificate)?;
        let signed = without_promises(certificate.tbs_certificate)?;
        let mut is_seen = false;
        for promise in promises {
            is_seen |= self.holds(&promise, &signed, issuer)?;
        }
        if is_seen {
            return Ok(());
        }
        Err(fault(
            "none of the certificate logs that promised to know its certificate (SCT) is in the \
                trust root and was in use then",
        ))
    }

    /// False if its log is not known, or was not in use.
    fn holds(
        &self,
        promise: &SignedCertificateTimestamp,
        signed: &[u8],
        issuer: &[u8],
    ) -> Result<bool, EvidenceError> {
        let log = Sha256Hash::new(promise.log_id.key_id);
        let made = i64::try_from(promise.timestamp)
            .ok()
            .and_then(|time| Timestamp::from_millisecond(time).ok());
        let made = made.ok_or_else(|| fault("a certificate log's promise (SCT) is of no time"))?;
        if !self
            .0
            .iter()
            .any(|(_, keys)| keys.key_at(&log, made).is_some())
        {
            return Ok(false);
        }
        let scheme = scheme(promise);
        let key = self
            .0
            .iter()
            .find(|(known, _)| Some(*known) == scheme)
            .and_then(|(_, keys)| keys.key_at(&log, made));
        let message = message(promise, signed, issuer)
            .ok_or_else(|| fault("its certificate is too long for a certificate log"))?;
        let signature = SignatureBytes::new(promise.signature.signature.as_slice().to_vec());
        let is_good = key.is_some_and(|key| key.verify(&message, &signature).is_ok());
        if is_good {
            Ok(true)
        } else {
            Err(fault(
                "a certificate log's promise (SCT) in its certificate was not signed by that log",
            ))
        }
    }
}

fn promises(
    certificate: &TbsCertificate,
) -> Result<Vec<SignedCertificateTimestamp>, EvidenceError> {
    let unreadable =
        || fault("the promises of certificate logs (SCT) in its certificate cannot be read");
    let list = certificate
        .get::<SignedCertificateTimestampList>()
        .map_err(|_| unreadable())?;
    let (_, list) =
        list.ok_or_else(|| fault("its certificate carries no promise of a certificate log (SCT)"))?;
    let list = list.parse_timestamps().map_err(|_| unreadable())?;
    if list.len() > MAX_PROMISES {
        let message = format!(
            "its certificate carries {} promises of certificate logs (SCT), the limit is \
                {MAX_PROMISES}",
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

/// What the log saw: the certificate before the promises were put into it.
fn without_promises(mut certificate: TbsCertificate) -> Result<Vec<u8>, EvidenceError> {
    if let Some(extensions) = &mut certificate.extensions {
        extensions.retain(|extension| extension.extn_id.to_string() != PROMISES);
    }
    certificate
        .to_der()
        .map_err(|_| fault("its certificate cannot be written"))
}

/// `digitally-signed` of a `precert_entry` (section 3.2). `None` if a length does not fit.
fn message(promise: &SignedCertificateTimestamp, signed: &[u8], issuer: &[u8]) -> Option<Vec<u8>> {
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
    message.extend(Digest::of(issuer).bytes());
    message.extend(length);
    message.extend(signed);
    message.extend(u16::try_from(extensions.len()).ok()?.to_be_bytes());
    message.extend(extensions);
    Some(message)
}

const fn scheme(promise: &SignedCertificateTimestamp) -> Option<SigningScheme> {
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
