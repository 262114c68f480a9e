//! A certificate in a bundle, with a private certificate authority.

use jiff::Timestamp;
use pki_types::CertificateDer;
use sigstore_types::bundle::VerificationMaterialContent;
use webpki::Error;
use x509_cert::{
    Certificate,
    der::{Decode, Encode},
};

use crate::core::{
    evidence::{EvidenceError, SignerIdentity},
    public_key::VerificationKey,
    reason::{ClassifiedError, Reason},
    sigstore_bundle::SigstoreBundle,
};

use super::{
    CertificateAuthority, CertificatePath, CertificatePurpose, EndEntityCertificate,
    ValidityPeriod, chain::to_unix_time, error_messages::explain_webpki_error, subject_alt_name,
};

/// Intermediates in a bundle. Limits path building, whose cost grows with the factorial: anyone who
/// may push a signature chooses them.
const MAX_INTERMEDIATES: usize = 2;

/// The certificate of a bundle, whose key made the signature, with the further certificates of the
/// bundle.
pub(crate) struct SignerCertificate<'a> {
    end_entity: EndEntityCertificate<'a>,
    intermediates: Vec<CertificateDer<'a>>,
    /// The key in the certificate.
    pub(crate) key: VerificationKey,
}

/// One certificate and one private CA.
pub(crate) struct PrivateCaCertificate<'a> {
    pub(crate) certificate: &'a SignerCertificate<'a>,
    pub(crate) authority: &'a CertificateAuthority,
}

impl<'a> SignerCertificate<'a> {
    /// Reads it. Nothing about it is verified.
    pub(crate) fn from_bundle(bundle: &'a SigstoreBundle) -> Result<Self, EvidenceError> {
        let intermediates = match &bundle.as_sigstore_types().verification_material.content {
            VerificationMaterialContent::X509CertificateChain { certificates } => {
                certificates.get(1..).unwrap_or_default()
            }
            _ => &[],
        };
        if intermediates.len() > MAX_INTERMEDIATES {
            let message = format!(
                "it carries {} intermediate certificates, the limit is {MAX_INTERMEDIATES}",
                intermediates.len()
            );
            return Err(certificate_error(Reason::LimitExceeded, message));
        }
        let malformed = |problem: &str| {
            certificate_error(
                Reason::MalformedEvidence,
                format!("its certificate {problem}"),
            )
        };
        let der = bundle
            .as_sigstore_types()
            .signing_certificate()
            .ok_or_else(|| malformed("is not there"))?
            .as_bytes();
        let certificate = Certificate::from_der(der).map_err(|_| malformed("cannot be read"))?;
        let end = EndEntityCertificate::from_der(der)
            .ok_or_else(|| malformed("has extensions that cannot be read"))?;
        let spki = certificate
            .tbs_certificate
            .subject_public_key_info
            .to_der()
            .map_err(|_| malformed("has a key that cannot be read"))?;
        let key = VerificationKey::from_spki(spki)
            .map_err(|_| malformed("has a key of a kind that packgate does not verify with"))?;
        let intermediates = intermediates
            .iter()
            .map(|certificate| CertificateDer::from(certificate.raw_bytes.as_bytes()))
            .collect();
        Ok(Self {
            end_entity: end,
            intermediates,
            key,
        })
    }

    /// The one name in the certificate.
    fn subject_name(&self) -> Result<String, EvidenceError> {
        subject_alt_name::single_private_ca_san(&self.end_entity.der).ok_or_else(|| {
            certificate_error(
                Reason::IdentityMismatch,
                "its certificate must have exactly one subject \
                alternative name: a URI, an email address or a DNS name",
            )
        })
    }
}

impl PrivateCaCertificate<'_> {
    /// A certificate that this authority did not issue is reported as such, whatever else is wrong.
    pub(crate) fn prefer_chain_error(&self, error: EvidenceError) -> EvidenceError {
        if error.reason() == Reason::UntrustedChain {
            return error;
        }
        match self
            .certificate
            .end_entity
            .properties
            .validity
            .from
            .map(|begin| self.find_path(begin))
        {
            Some(Err(other)) if other.reason() == Reason::UntrustedChain => other,
            _ => error,
        }
    }

    /// The name in the certificate, by this authority.
    pub(crate) fn signer(&self) -> Result<SignerIdentity, EvidenceError> {
        Ok(SignerIdentity::Certificate {
            san: self.certificate.subject_name()?,
            authority: self.authority.digest(),
        })
    }

    /// The error, with this CA's certificate as signer.
    pub(crate) fn with_signer(&self, error: EvidenceError) -> EvidenceError {
        error.with_signer(self.signer().ok())
    }

    /// A path from the certificate to a root that is valid at this time, with its validity period.
    pub(crate) fn find_path(&self, at: Timestamp) -> Result<CertificatePath, EvidenceError> {
        let Self {
            certificate,
            authority,
        } = self;
        authority
            .issuers
            .find_path(
                &certificate.end_entity,
                &certificate.intermediates,
                authority.revocation_lists(),
                at,
            )
            .map_err(|error| self.name_revoked_signer(error))
    }

    /// How long the revocation lists of the paths at all of these times are valid.
    pub(crate) fn lists_of_paths(
        &self,
        times: &[Timestamp],
    ) -> Result<ValidityPeriod, EvidenceError> {
        let mut lists = ValidityPeriod::default();
        for time in times {
            let path = self
                .find_path(*time)
                .map_err(|error| self.prefer_chain_error(error))?;
            lists = lists.intersect_with(path.lists);
        }
        Ok(lists)
    }

    /// A revocation is reported with the signer's name: the issuer has verified it.
    fn name_revoked_signer(&self, error: EvidenceError) -> EvidenceError {
        if error.reason() == Reason::Revoked {
            self.with_signer(error)
        } else {
            error
        }
    }
}

/// The revocation lists, which are valid in `lists`, must not be outdated. `signed`: when the
/// certificate signed.
pub(crate) fn require_current_lists(
    lists: ValidityPeriod,
    signed: Timestamp,
    now: Option<Timestamp>,
) -> Result<(), EvidenceError> {
    if now.is_none_or(|now| lists.contains_time(now)) {
        return Ok(());
    }
    let outdated = Error::CrlExpired {
        time: to_unix_time(signed),
        next_update: to_unix_time(lists.until.unwrap_or(signed)),
    };
    Err(explain_webpki_error(
        &outdated,
        CertificatePurpose::CodeSigning,
    ))
}

fn certificate_error(reason: Reason, message: impl Into<String>) -> EvidenceError {
    EvidenceError::Sigstore {
        reason,
        message: message.into(),
        signer: None,
    }
}
