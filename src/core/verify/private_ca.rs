//! Bundles signed with a certificate from a private certificate authority: no Fulcio, and no log
//! unless the policy names one.
//!
//! [`super::chain`] builds the path to a root, which must be valid at one point in time. If a trust
//! root of the policy verifies the signing time, that time counts. Otherwise it is the time of the
//! request, and the path's validity is kept with the verified statement: `core::policy` checks it
//! again at every evaluation. A certificate on a revocation list is revoked, whenever it signed.

use std::collections::HashSet;

use jiff::Timestamp;
use pki_types::CertificateDer;
use sigstore_types::{DsseEnvelope, bundle::VerificationMaterialContent};
use webpki::Error;
use x509_cert::{
    Certificate,
    der::{Decode, Encode},
};

use crate::core::{
    digest::Digest,
    reason::{ClassifiedError, Reason},
    sigstore_bundle::SigstoreBundle,
};

use super::{
    CertificateAuthority, EvidenceError, KeyAlgorithm, SignerIdentity, SigningTime, TrustRoot,
    TrustedCertificateAuthority, TrustedMaterial, ValidityPeriod, VerificationKey,
    chain::{self, CertificatePath, CertificatePurpose, EndEntityCertificate, to_unix_time},
    sigstore, subject_alt_name,
    verified::{
        AuthenticatedSignature, CertificateClaims, StoredSignatureFormat, TimeEvidenceStatus,
    },
};

/// Intermediates in a bundle. Limits path building, whose cost grows with the factorial: anyone who
/// may push a signature chooses them.
const MAX_INTERMEDIATES: usize = 2;

/// Identifies the signer, once for every authority and trust root that verifies the signature.
///
/// The second list: the errors of authorities that issued the certificate, or, if none did, at
/// least one error.
///
/// Errors: the key of its certificate did not make the signature, or the certificate cannot be
/// parsed.
pub(super) fn authenticate_by_private_ca(
    bundle: &SigstoreBundle,
    envelope: &DsseEnvelope,
    subject: &Digest,
    trust: &TrustedMaterial,
) -> Result<(Vec<AuthenticatedSignature>, Vec<EvidenceError>), EvidenceError> {
    let leaf = LeafCertificate::from_bundle(bundle)?;
    if !leaf
        .key
        .verifies_signature(&envelope.pae(), envelope.signature.sig.as_bytes())
    {
        return Err(certificate_error(
            Reason::InvalidSignature,
            "its signature was not made with the key of its certificate",
        ));
    }
    let (mut found, mut faults, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for TrustedCertificateAuthority { authority, root } in &trust.authorities {
        // Without time evidence in the bundle there is nothing to verify with the trust root.
        let root = root.as_ref().filter(|_| bundle.has_time_evidence());
        if seen.insert((authority.digest(), root.map(|root| root.digest()))) {
            let question = PrivateCaVerification {
                leaf: &leaf,
                authority,
                bundle,
                subject,
                now: trust.now,
            };
            match root.map_or_else(
                || question.verify_at_current_time(),
                |root| question.verify_at_signing_time(root),
            ) {
                Ok(by) => found.push(by),
                Err(error) => faults.push(error),
            }
        }
    }
    if found.is_empty() {
        return Ok((found, chain::errors_to_report(faults)));
    }
    // That another authority did not issue it is not reported.
    faults.retain(|fault| fault.signer().is_some());
    Ok((found, faults))
}

/// The certificate of a bundle, whose key made the signature, with the further certificates of the
/// bundle.
struct LeafCertificate<'a> {
    certificate: EndEntityCertificate<'a>,
    intermediates: Vec<CertificateDer<'a>>,
    key: VerificationKey,
}

/// One certificate and one private CA.
struct PrivateCaVerification<'a> {
    leaf: &'a LeafCertificate<'a>,
    authority: &'a CertificateAuthority,
    bundle: &'a SigstoreBundle,
    subject: &'a Digest,
    now: Option<Timestamp>,
}

impl<'a> LeafCertificate<'a> {
    fn from_bundle(bundle: &'a SigstoreBundle) -> Result<Self, EvidenceError> {
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
            certificate: end,
            intermediates,
            key,
        })
    }

    /// The one name in the certificate.
    fn subject_name(&self) -> Result<String, EvidenceError> {
        subject_alt_name::single_private_ca_san(&self.certificate.der).ok_or_else(|| {
            certificate_error(
                Reason::IdentityMismatch,
                "its certificate must have exactly one subject \
                alternative name: a URI, an email address or a DNS name",
            )
        })
    }
}

impl PrivateCaVerification<'_> {
    /// Without time evidence the path must be valid now.
    fn verify_at_current_time(&self) -> Result<AuthenticatedSignature, EvidenceError> {
        let now = self.now.ok_or_else(|| {
            certificate_error(
                Reason::NoTrustedTime,
                "no log or timestamp authority attests when it was signed, and the current time is unknown",
            )
        })?;
        let validity = self
            .find_path(now)
            .map_err(|error| self.prefer_chain_error(error))?
            .validity;
        let time_evidence = if self.bundle.has_time_evidence() {
            TimeEvidenceStatus::Unchecked
        } else {
            TimeEvidenceStatus::Absent
        };
        self.authenticated_signature(None, SigningTime::Unknown, time_evidence, false, validity)
    }

    /// The path must be valid at every verified signing time. Revocation lists must not be
    /// outdated.
    fn verify_at_signing_time(
        &self,
        root: &TrustRoot,
    ) -> Result<AuthenticatedSignature, EvidenceError> {
        if matches!(
            self.leaf.key.algorithm(),
            KeyAlgorithm::EcdsaP521 | KeyAlgorithm::RsaPss
        ) {
            let message = "log entries and timestamps of signatures by P-521 and RSASSA-PSS \
                keys cannot be checked";
            return Err(self.prefer_chain_error(
                self.with_signer(certificate_error(Reason::InvalidTimestamp, message)),
            ));
        }
        let vouching = sigstore::verify_certificate_time_evidence(root, self.bundle, self.subject)
            .map_err(|error| self.prefer_chain_error(self.with_signer(error)))?;
        let mut lists = ValidityPeriod::default();
        for time in &vouching.times {
            lists = lists.intersect_with(
                self.find_path(*time)
                    .map_err(|error| self.prefer_chain_error(error))?
                    .lists,
            );
        }
        let first = vouching.times.iter().min().copied().ok_or_else(|| {
            certificate_error(
                Reason::NoTrustedTime,
                "no log or timestamp authority attests a signing time",
            )
        })?;
        if self.now.is_some_and(|now| !lists.contains_time(now)) {
            return Err(chain::explain_webpki_error(
                &Error::CrlExpired {
                    time: to_unix_time(first),
                    next_update: to_unix_time(lists.until.unwrap_or(first)),
                },
                CertificatePurpose::CodeSigning,
            ));
        }
        self.authenticated_signature(
            Some(root.digest()),
            SigningTime::Known(first),
            TimeEvidenceStatus::Verified,
            vouching.logged,
            lists,
        )
    }

    fn authenticated_signature(
        &self,
        root: Option<Digest>,
        time: SigningTime,
        time_evidence: TimeEvidenceStatus,
        logged: bool,
        validity: ValidityPeriod,
    ) -> Result<AuthenticatedSignature, EvidenceError> {
        let signer = SignerIdentity::Certificate {
            san: self.leaf.subject_name()?,
            authority: self.authority.digest(),
        };
        let key = Some(self.leaf.key.key_identifiers());
        Ok(AuthenticatedSignature {
            signer,
            key,
            root,
            time,
            time_evidence,
            logged,
            claims: CertificateClaims::default(),
            format: StoredSignatureFormat::Bundle,
            validity,
        })
    }

    /// A certificate that this authority did not issue is reported as such, whatever else is wrong.
    fn prefer_chain_error(&self, error: EvidenceError) -> EvidenceError {
        if error.reason() == Reason::UntrustedChain {
            return error;
        }
        match self
            .leaf
            .certificate
            .properties
            .validity
            .from
            .map(|begin| self.find_path(begin))
        {
            Some(Err(other)) if other.reason() == Reason::UntrustedChain => other,
            _ => error,
        }
    }

    /// The error, with this CA's certificate as signer.
    fn with_signer(&self, error: EvidenceError) -> EvidenceError {
        let signer = self
            .leaf
            .subject_name()
            .ok()
            .map(|san| SignerIdentity::Certificate {
                san,
                authority: self.authority.digest(),
            });
        match error {
            EvidenceError::Sigstore {
                reason, message, ..
            } => EvidenceError::Sigstore {
                reason,
                message,
                signer,
            },
            other => other,
        }
    }

    /// A path from the certificate to a root that is valid at this time, with its validity period.
    fn find_path(&self, at: Timestamp) -> Result<CertificatePath, EvidenceError> {
        let Self {
            leaf, authority, ..
        } = self;
        authority
            .issuers
            .find_path(
                &leaf.certificate,
                &leaf.intermediates,
                authority.revocation_lists(),
                at,
            )
            .map_err(|error| self.name_revoked_signer(error))
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

fn certificate_error(reason: Reason, message: impl Into<String>) -> EvidenceError {
    EvidenceError::Sigstore {
        reason,
        message: message.into(),
        signer: None,
    }
}
