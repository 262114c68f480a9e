//! Properties of a certificate from its fields and extensions (RFC 5280, section 4).

use jiff::Timestamp;
use x509_cert::{
    Certificate,
    der::asn1::ObjectIdentifier,
    ext::pkix::{
        AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectKeyIdentifier,
    },
    time::Time,
};

use super::{CertificatePurpose, ValidityPeriod};

/// Allows every purpose that the key usage allows.
const ANY_PURPOSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");
/// Critical extensions of a root that are honoured, or that cannot restrict what it issues: basic
/// constraints, key usage, extended key usage, name constraints, subject alternative name,
/// certificate policies, key identifiers.
const KNOWN_IN_ROOTS: [&str; 8] = [
    "2.5.29.19",
    "2.5.29.15",
    "2.5.29.37",
    "2.5.29.30",
    "2.5.29.17",
    "2.5.29.32",
    "2.5.29.14",
    "2.5.29.35",
];

/// Properties of a certificate from its fields and extensions.
pub(crate) struct CertificateProperties {
    pub(crate) validity: ValidityPeriod,
    pub(crate) is_ca: bool,
    pub(crate) path_len: Option<u8>,
    usage: Option<KeyUsage>,
    purposes: Option<ExtendedKeyUsages>,
}

/// The extended key usage extension.
struct ExtendedKeyUsages {
    is_critical: bool,
    all: Vec<ObjectIdentifier>,
}

impl CertificateProperties {
    /// `None` if an extension is duplicated or cannot be parsed.
    pub(crate) fn from_certificate(certificate: &Certificate) -> Option<Self> {
        let inner = &certificate.tbs_certificate;
        let constraints = inner
            .get::<BasicConstraints>()
            .ok()?
            .map(|(_, constraints)| constraints);
        let purposes = inner
            .get::<ExtendedKeyUsage>()
            .ok()?
            .map(|(is_critical, purposes)| ExtendedKeyUsages {
                is_critical,
                all: purposes.0,
            });
        Some(Self {
            validity: ValidityPeriod::between(
                to_timestamp(inner.validity.not_before),
                end_of_second(to_timestamp(inner.validity.not_after)),
            ),
            is_ca: constraints
                .as_ref()
                .is_some_and(|constraints| constraints.ca),
            path_len: constraints.and_then(|constraints| constraints.path_len_constraint),
            usage: inner.get::<KeyUsage>().ok()?.map(|(_, usage)| usage),
            purposes,
        })
    }

    /// True if it may sign certificates.
    pub(crate) fn may_issue(&self) -> bool {
        self.is_ca && self.usage.as_ref().is_none_or(KeyUsage::key_cert_sign)
    }

    /// True if it may sign revocation lists (section 6.3.3, f).
    pub(crate) fn may_revoke(&self) -> bool {
        self.usage.as_ref().is_none_or(KeyUsage::crl_sign)
    }

    /// True if its key may sign data other than certificates.
    pub(crate) fn may_sign(&self) -> bool {
        self.usage
            .as_ref()
            .is_none_or(|usage| usage.digital_signature() || usage.non_repudiation())
    }

    /// True if its extended key usage lists this purpose. `anyExtendedKeyUsage` does not count.
    pub(crate) fn allows_purpose(&self, purpose: CertificatePurpose) -> bool {
        self.purposes
            .as_ref()
            .is_some_and(|purposes| purposes.all.contains(&purpose.key_purpose_oid()))
    }

    /// True if its extended key usage is critical and lists only this purpose.
    pub(crate) fn allows_only_purpose(&self, purpose: CertificatePurpose) -> bool {
        self.purposes.as_ref().is_some_and(|purposes| {
            purposes.is_critical && purposes.all == [purpose.key_purpose_oid()]
        })
    }

    /// True if it may issue certificates for this purpose. Without an extended key usage it may.
    pub(crate) fn may_issue_for(&self, purpose: CertificatePurpose) -> bool {
        self.purposes.as_ref().is_none_or(|purposes| {
            purposes
                .all
                .iter()
                .any(|found| [purpose.key_purpose_oid(), ANY_PURPOSE].contains(found))
        })
    }

    /// Errors: it is not a CA certificate, in words that follow "certificate 1".
    pub(crate) fn check_issuer(&self) -> Result<(), String> {
        match self {
            Self { is_ca: false, .. } => Err(
                "is no certificate authority's: its basic constraints do not say CA:TRUE".into(),
            ),
            _ if !self.may_issue() => Err("may not sign certificates, by its key usage".into()),
            _ => Ok(()),
        }
    }

    /// The same for a trust anchor, whose own properties no other check covers.
    pub(crate) fn check_root(
        &self,
        certificate: &Certificate,
        purpose: CertificatePurpose,
    ) -> Result<(), String> {
        self.check_issuer()?;
        if !self.may_issue_for(purpose) {
            return Err(format!(
                "is a root that may not issue for {}, by its extended key usage",
                purpose.purpose_name()
            ));
        }
        match unknown_critical_extension(certificate) {
            Some(unknown) => Err(format!(
                "is a root with the critical extension {unknown}, which packgate does not know"
            )),
            None => Ok(()),
        }
    }
}

/// True if its subject is its issuer, and, where both key identifiers are present, they are equal.
pub(crate) fn is_self_issued(certificate: &Certificate) -> bool {
    let inner = &certificate.tbs_certificate;
    let issuer_key = inner
        .get::<AuthorityKeyIdentifier>()
        .ok()
        .flatten()
        .and_then(|(_, id)| id.key_identifier);
    let own_key = inner
        .get::<SubjectKeyIdentifier>()
        .ok()
        .flatten()
        .map(|(_, id)| id.0);
    inner.subject == inner.issuer
        && (issuer_key.is_none() || own_key.is_none() || issuer_key == own_key)
}

fn unknown_critical_extension(certificate: &Certificate) -> Option<ObjectIdentifier> {
    let extensions = certificate.tbs_certificate.extensions.iter().flatten();
    let unknown = extensions
        .filter(|extension| extension.critical)
        .map(|extension| extension.extn_id);
    unknown
        .into_iter()
        .find(|id| !KNOWN_IN_ROOTS.contains(&id.to_string().as_str()))
}

/// A time beyond the representable range counts as never.
pub(crate) fn to_timestamp(time: Time) -> Timestamp {
    i64::try_from(time.to_unix_duration().as_secs())
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .unwrap_or(Timestamp::MAX)
}

/// `notAfter` is the last second.
fn end_of_second(time: Timestamp) -> Timestamp {
    time.checked_add(jiff::SignedDuration::from_secs(1))
        .unwrap_or(Timestamp::MAX)
}
