//! Certification paths to a trust anchor (RFC 5280, section 6): the only implementation, for the
//! certificate authorities and timestamp authorities of a trust root and for private certificate
//! authorities.
//!
//! `webpki` builds the path: signatures, names, validity, CA:TRUE, path length, name constraints,
//! critical extensions, revocation lists. It refuses a name that it cannot compare with a
//! constraint (a URI, an email address) where there is one of that kind. What it does not check is
//! checked here: that a root is a CA certificate, its validity, its path length and whether it may
//! sign revocation lists; the key usage of issuers; and the extended key usage of the certificate
//! itself.

use std::time::Duration;

use jiff::Timestamp;
use pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{
    Cert, EndEntityCert, Error, ExpirationPolicy, ExtendedKeyUsageValidator, KeyPurposeId,
    KeyPurposeIdIter, KeyUsage, RequiredEkuNotFoundContext, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
};
use x509_cert::{
    Certificate,
    der::{Any, Decode, Encode, Tag},
};

use crate::core::evidence::EvidenceError;

use super::{
    CertificateProperties, CertificatePurpose, ValidityPeriod,
    error_messages::{explain_webpki_error, untrusted_chain_error},
    issuer_signatures::IssuerSignatures,
    purpose::ANY_PURPOSE,
    revocation_lists::RevocationList,
};

/// An end-entity certificate.
pub(crate) struct EndEntityCertificate<'a> {
    pub(crate) der: CertificateDer<'a>,
    pub(crate) properties: CertificateProperties,
}

/// The possible issuers of a certificate.
pub(crate) struct IssuerCertificates {
    anchors: Vec<TrustAnchor<'static>>,
    /// The properties of the anchors, in the same order; a webpki anchor does not hold them.
    roots: Vec<CertificateProperties>,
    intermediates: Vec<CertificateDer<'static>>,
    signatures: IssuerSignatures,
    purpose: CertificatePurpose,
}

/// A verified certification path.
pub(crate) struct CertificatePath {
    /// When all certificates of the path are valid.
    pub(crate) validity: ValidityPeriod,
    /// How long all revocation lists are valid.
    pub(crate) lists: ValidityPeriod,
    /// The key of the issuer of the certificate, as a DER `SubjectPublicKeyInfo`.
    pub(crate) issuer: Vec<u8>,
}

impl<'a> EndEntityCertificate<'a> {
    /// `None` if it cannot be parsed.
    pub(crate) fn from_der(der: &'a [u8]) -> Option<Self> {
        let facts = CertificateProperties::from_certificate(&Certificate::from_der(der).ok()?)?;
        Some(Self {
            der: CertificateDer::from(der),
            properties: facts,
        })
    }
}

impl IssuerCertificates {
    pub(crate) fn new(purpose: CertificatePurpose) -> Self {
        Self {
            anchors: Vec::new(),
            roots: Vec::new(),
            intermediates: Vec::new(),
            signatures: IssuerSignatures::default(),
            purpose,
        }
    }

    pub(crate) const fn has_root(&self) -> bool {
        !self.anchors.is_empty()
    }

    /// Adds a trust anchor. Errors: it is not a CA certificate, in words that follow "certificate
    /// 1".
    pub(crate) fn add_root(
        &mut self,
        certificate: &Certificate,
        der: Vec<u8>,
    ) -> Result<(), String> {
        let facts = CertificateProperties::from_certificate(certificate)
            .ok_or("has extensions that cannot be read")?;
        facts.check_root(certificate, self.purpose)?;
        let der = CertificateDer::from(der);
        let anchor = webpki::anchor_from_trusted_cert(&der)
            .map_err(|error| format!("cannot be read: {error:?}"))?
            .to_owned();
        self.anchors.push(anchor);
        self.roots.push(facts);
        Ok(())
    }

    /// Adds an intermediate certificate.
    pub(crate) fn add_intermediate(&mut self, der: Vec<u8>) {
        let der = CertificateDer::from(der);
        self.signatures.add_issuer(&der);
        self.intermediates.push(der);
    }

    /// A path from the certificate to a trust anchor, valid at this time. `further`: further
    /// intermediate certificates that the path may contain. With revocation lists, every
    /// certificate below the root needs one of its issuer.
    pub(crate) fn find_path(
        &self,
        end: &EndEntityCertificate<'_>,
        further: &[CertificateDer<'_>],
        lists: &[RevocationList],
        at: Timestamp,
    ) -> Result<CertificatePath, EvidenceError> {
        let certificate = EndEntityCert::try_from(&end.der)
            .map_err(|error| explain_webpki_error(&error, self.purpose))?;
        let known = self.intermediates.iter().chain(further);
        let intermediates: Vec<CertificateDer<'_>> = known
            .map(|known| CertificateDer::from(known.as_ref()))
            .collect();
        let all = lists
            .iter()
            .map(RevocationList::parsed_list)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| explain_webpki_error(&error, self.purpose))?;
        let all: Vec<_> = all.iter().collect();
        let revocation = RevocationOptionsBuilder::new(&all).ok().map(|options| {
            options
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Deny)
                .with_expiration_policy(ExpirationPolicy::Enforce)
                .build()
        });
        let algorithms = self.signatures.algorithms();
        let algorithms: Vec<&dyn SignatureVerificationAlgorithm> =
            algorithms.iter().map(|algorithm| algorithm as _).collect();
        let complete = |path: &VerifiedPath<'_>| self.check_path(path, at, !lists.is_empty());
        let found = certificate
            .verify_for_usage(
                &algorithms,
                &self.anchors,
                &intermediates,
                to_unix_time(at),
                ExtendedKeyUsageCheck(self.purpose),
                revocation,
                Some(&complete),
            )
            .map_err(|error| explain_webpki_error(&error, self.purpose))?;
        check_end_entity(self.purpose, &end.properties)?;
        self.to_certificate_path(&found, &end.properties, lists)
    }

    /// What webpki does not check: the root itself, and the key usage of issuers.
    fn check_path(
        &self,
        path: &VerifiedPath<'_>,
        at: Timestamp,
        has_lists: bool,
    ) -> Result<(), Error> {
        let root = self.root_of(path).ok_or(Error::UnknownIssuer)?;
        let ValidityPeriod { from, until } = root.validity;
        if let Some(from) = from.filter(|from| at < *from) {
            return Err(Error::CertNotValidYet {
                time: to_unix_time(at),
                not_before: to_unix_time(from),
            });
        }
        if let Some(until) = until.filter(|until| at >= *until) {
            return Err(Error::CertExpired {
                time: to_unix_time(at),
                not_after: to_unix_time(until),
            });
        }
        let between: Vec<&Cert<'_>> = path.intermediate_certificates().collect();
        if root
            .path_len
            .is_some_and(|longest| between.len() > usize::from(longest))
        {
            return Err(Error::PathLenConstraintViolated);
        }
        if !between
            .iter()
            .all(|certificate| properties_of(certificate).is_some_and(|facts| facts.may_issue()))
        {
            return Err(Error::EndEntityUsedAsCa);
        }
        // The root issued one of the lists.
        if has_lists && !root.may_revoke() {
            Err(Error::IssuerNotCrlSigner)
        } else {
            Ok(())
        }
    }

    fn root_of(&self, path: &VerifiedPath<'_>) -> Option<&CertificateProperties> {
        let mut roots = self.anchors.iter().zip(&self.roots);
        roots
            .find(|(anchor, _)| {
                std::ptr::eq(
                    std::ptr::from_ref(*anchor).cast::<()>(),
                    std::ptr::from_ref(path.anchor()).cast(),
                )
            })
            .map(|(_, root)| root)
    }

    fn to_certificate_path(
        &self,
        path: &VerifiedPath<'_>,
        end: &CertificateProperties,
        lists: &[RevocationList],
    ) -> Result<CertificatePath, EvidenceError> {
        let unreadable = || untrusted_chain_error("an intermediate certificate cannot be read");
        let mut validity = end
            .validity
            .intersect_with(self.root_of(path).ok_or_else(unreadable)?.validity);
        let mut listed = revocation_list_validity(lists, path.end_entity());
        for certificate in path.intermediate_certificates() {
            validity = validity
                .intersect_with(properties_of(certificate).ok_or_else(unreadable)?.validity);
            listed = listed.intersect_with(revocation_list_validity(lists, certificate));
        }
        let issuer = match path.intermediate_certificates().next() {
            Some(issuer) => issuer.subject_public_key_info().as_ref().to_vec(),
            // An anchor holds only the contents of the sequence.
            None => Any::new(
                Tag::Sequence,
                path.anchor().subject_public_key_info.as_ref(),
            )
            .and_then(|key| key.to_der())
            .map_err(|_| untrusted_chain_error("its issuer's key cannot be read"))?,
        };
        Ok(CertificatePath {
            validity: validity.intersect_with(listed),
            lists: listed,
            issuer,
        })
    }
}

/// Checks the end-entity certificate's key usage and extended key usage.
fn check_end_entity(
    purpose: CertificatePurpose,
    end: &CertificateProperties,
) -> Result<(), EvidenceError> {
    let (is_for, missing) = match purpose {
        CertificatePurpose::CodeSigning => (
            end.allows_purpose(purpose),
            "its certificate does not say that it signs code: the extended key usage \
                codeSigning is missing",
        ),
        CertificatePurpose::TimeStamping => (
            end.allows_only_purpose(purpose),
            "its certificate must have exactly one extended key usage, timeStamping, and that \
                critical",
        ),
    };
    if !is_for {
        return Err(untrusted_chain_error(missing));
    }
    if end.may_sign() {
        Ok(())
    } else {
        Err(untrusted_chain_error(
            "its certificate's key may not make signatures, by its key usage",
        ))
    }
}

/// How long the lists of its issuer attest that it is not revoked. The newest full list is
/// sufficient; of partial lists it is not known which one webpki consulted.
fn revocation_list_validity(lists: &[RevocationList], certificate: &Cert<'_>) -> ValidityPeriod {
    let known = lists
        .iter()
        .filter_map(|list| Some((list.parsed_list().ok()?, list.until)));
    let concerned: Vec<_> = known
        .filter(|(list, _)| list.issuer() == certificate.issuer())
        .collect();
    let whole = concerned
        .first()
        .filter(|(first, _)| first.issuing_distribution_point().is_none());
    let relevant = whole.map_or(concerned.as_slice(), std::slice::from_ref);
    relevant
        .iter()
        .fold(ValidityPeriod::default(), |validity, (_, until)| {
            validity.intersect_with(ValidityPeriod {
                from: None,
                until: Some(*until),
            })
        })
}

fn properties_of(certificate: &Cert<'_>) -> Option<CertificateProperties> {
    CertificateProperties::from_certificate(&Certificate::from_der(&certificate.der()).ok()?)
}

/// Issuers with an extended key usage must list this purpose. That of the end-entity certificate is
/// checked separately.
struct ExtendedKeyUsageCheck(CertificatePurpose);

impl ExtendedKeyUsageValidator for ExtendedKeyUsageCheck {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        let mut is_silent = true;
        for purpose in purposes {
            let purpose = purpose?;
            is_silent = false;
            if purpose == KeyPurposeId::new(self.0.key_purpose_der())
                || purpose == KeyPurposeId::new(ANY_PURPOSE)
            {
                return Ok(());
            }
        }
        let missing = RequiredEkuNotFoundContext {
            required: KeyUsage::required(self.0.key_purpose_der()),
            present: Vec::new(),
        };
        if is_silent {
            Ok(())
        } else {
            Err(Error::RequiredEkuNotFoundContext(missing))
        }
    }
}

/// Whole seconds, the resolution of X.509 times. A time before 1970 becomes 0: nothing was signed
/// then.
pub(crate) fn to_unix_time(time: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(
        u64::try_from(time.as_second()).unwrap_or(0),
    ))
}
