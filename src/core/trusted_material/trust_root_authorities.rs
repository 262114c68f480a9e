//! The authorities of a `trusted_root.json`: its `certificateAuthorities` and
//! `timestampAuthorities`.
//!
//! Every listed authority is checked. One with invalid certificates, or an invalid chain, is
//! ignored; the others stay trusted. Nothing is taken from bundles: every certificate of a path is
//! in this list.

use jiff::{SignedDuration, Timestamp};
use sigstore_trust_root::{TimeRange, TimestampAuthority, TrustedRoot};
use sigstore_types::DerCertificate;
use x509_cert::{
    Certificate,
    der::{Decode, Encode},
};

use crate::core::{
    evidence::EvidenceError,
    x509::{
        CertificatePath, CertificateProperties, CertificatePurpose, EndEntityCertificate,
        IssuerCertificates, ValidityPeriod, furthest_error, is_self_issued, untrusted_chain_error,
    },
};

/// The certificate authorities of a trust root.
pub(super) struct TrustRootAuthorities(Vec<TrustRootAuthority>);

struct TrustRootAuthority {
    issuers: IssuerCertificates,
    window: Option<TimeRange>,
    /// Why paths cannot end at certificates of the list.
    problem: Option<String>,
}

impl TrustRootAuthorities {
    pub(super) fn from_trusted_root(root: &TrustedRoot) -> Self {
        let authority = |(at, authority): (usize, &sigstore_trust_root::CertificateAuthority)| {
            let certificates = certificate_ders(
                authority
                    .cert_chain
                    .certificates
                    .iter()
                    .map(|certificate| &certificate.raw_bytes),
            );
            let (issuers, problem) =
                collect_issuers(&certificates, 1, CertificatePurpose::CodeSigning);
            let problem = problem.map(|problem| {
                format!(
                    "certificate authority {} of the trust root is not used: {problem}",
                    at + 1
                )
            });
            TrustRootAuthority {
                issuers,
                window: authority.valid_for,
                problem,
            }
        };
        Self(
            root.certificate_authorities
                .iter()
                .enumerate()
                .map(authority)
                .collect(),
        )
    }

    /// The problems of the listed authorities.
    #[cfg(test)]
    pub(super) fn problems(&self) -> Vec<&str> {
        self.0
            .iter()
            .filter_map(|authority| authority.problem.as_deref())
            .collect()
    }

    /// A path to an authority that was trusted at this time.
    pub(super) fn find_path(
        &self,
        end: &EndEntityCertificate<'_>,
        at: Timestamp,
    ) -> Result<CertificatePath, EvidenceError> {
        let mut faults = Vec::new();
        for authority in self
            .0
            .iter()
            .filter(|authority| authority.window.is_none_or(|window| window.contains(at)))
        {
            match authority.find_path(end, at) {
                Ok(path) => return Ok(path),
                Err(error) => faults.push(error),
            }
        }
        let none = || {
            untrusted_chain_error(&format!(
                "no certificate authority of the trust root is trusted at {at}"
            ))
        };
        Err(furthest_error(faults).unwrap_or_else(none))
    }
}

impl TrustRootAuthority {
    fn find_path(
        &self,
        end: &EndEntityCertificate<'_>,
        at: Timestamp,
    ) -> Result<CertificatePath, EvidenceError> {
        match &self.problem {
            Some(problem) if !self.issuers.has_root() => Err(untrusted_chain_error(problem)),
            _ => {
                let path = self.issuers.find_path(end, &[], &[], at)?;
                Ok(CertificatePath {
                    validity: path.validity.intersect_with(self.trust_period()),
                    ..path
                })
            }
        }
    }

    /// The window ends after its last moment.
    fn trust_period(&self) -> ValidityPeriod {
        let after = |end: Timestamp| {
            end.checked_add(SignedDuration::from_nanos(1))
                .unwrap_or(Timestamp::MAX)
        };
        self.window
            .map_or_else(ValidityPeriod::default, |window| ValidityPeriod {
                from: Some(window.start),
                until: window.end.map(after),
            })
    }
}

/// Ends the trust in a timestamp authority when one of its certificates expires, and begins it no
/// earlier than all of them. Its chain is reduced to the signing certificate and its issuer: the
/// rest was verified here.
///
/// Errors: its certificate is not for timestamping, or has no path to a CA certificate.
pub(super) fn narrow_timestamp_authority(authority: &mut TimestampAuthority) -> Result<(), String> {
    let certificates = certificate_ders(
        authority
            .cert_chain
            .certificates
            .iter()
            .map(|certificate| &certificate.raw_bytes),
    );
    let path = find_path_in_chain(&certificates, CertificatePurpose::TimeStamping)?;
    let validity = path.validity;
    let issuer = certificates
        .iter()
        .skip(1)
        .position(|der| public_key_der(der).as_ref() == Some(&path.issuer))
        .ok_or("the issuer of its certificate is not in its chain")?
        + 1;
    authority.cert_chain.certificates.swap(1, issuer);
    authority.cert_chain.certificates.truncate(2);
    let last = validity.until.map(|until| {
        until
            .checked_sub(SignedDuration::from_nanos(1))
            .unwrap_or(Timestamp::MIN)
    });
    let from = validity.from.unwrap_or(Timestamp::MIN);
    let window = authority.valid_for;
    let start = window.map_or(from, |window| window.start.max(from));
    let end = window
        .and_then(|window| window.end)
        .into_iter()
        .chain(last)
        .min();
    authority.valid_for = Some(TimeRange::new(start, end));
    if end.is_none_or(|end| start <= end) {
        Ok(())
    } else {
        Err("it is trusted at no time at which its certificates hold".into())
    }
}

/// The path from the first certificate through the others.
fn find_path_in_chain(
    certificates: &[&[u8]],
    purpose: CertificatePurpose,
) -> Result<CertificatePath, String> {
    let (end, above) = certificates.split_first().ok_or("it has no certificate")?;
    let (issuers, problem) = collect_issuers(above, 2, purpose);
    if let Some(problem) = problem.filter(|_| !issuers.has_root()) {
        return Err(problem);
    }
    let end = EndEntityCertificate::from_der(end).ok_or("its certificate cannot be read")?;
    // The path is valid from the latest `notBefore` on.
    let begins = above
        .iter()
        .filter_map(|der| properties_of(der)?.validity.from)
        .chain(end.properties.validity.from)
        .max();
    issuers
        .find_path(&end, &[], &[], begins.unwrap_or(Timestamp::UNIX_EPOCH))
        .map_err(|error| error.to_string())
}

fn certificate_ders<'a>(chain: impl Iterator<Item = &'a DerCertificate>) -> Vec<&'a [u8]> {
    chain.map(DerCertificate::as_bytes).collect()
}

/// A DER `SubjectPublicKeyInfo`.
fn public_key_der(der: &[u8]) -> Option<Vec<u8>> {
    Certificate::from_der(der)
        .ok()?
        .tbs_certificate
        .subject_public_key_info
        .to_der()
        .ok()
}

fn properties_of(der: &[u8]) -> Option<CertificateProperties> {
    CertificateProperties::from_certificate(&Certificate::from_der(der).ok()?)
}

/// Paths end at the self-issued certificates, or, if there are none, at those whose issuer is not
/// in the list. The problem of a certificate at which none can end is reported with its position,
/// counted from `first`.
fn collect_issuers(
    certificates: &[&[u8]],
    first: usize,
    purpose: CertificatePurpose,
) -> (IssuerCertificates, Option<String>) {
    let mut issuers = IssuerCertificates::new(purpose);
    let mut problems = Vec::new();
    let mut read = Vec::new();
    for (at, der) in certificates.iter().enumerate() {
        match Certificate::from_der(der) {
            Ok(certificate) => read.push((at, *der, certificate)),
            Err(error) => problems.push(format!(
                "certificate {} cannot be read: {error}",
                first + at
            )),
        }
    }
    let has_self_issued = read
        .iter()
        .any(|(.., certificate)| is_self_issued(certificate));
    let names: Vec<_> = read
        .iter()
        .map(|(.., certificate)| certificate.tbs_certificate.subject.clone())
        .collect();
    for (at, der, certificate) in read {
        let is_top = if has_self_issued {
            is_self_issued(&certificate)
        } else {
            !names.contains(&certificate.tbs_certificate.issuer)
        };
        if !is_top {
            issuers.add_intermediate(der.to_vec());
        } else if let Err(problem) = issuers.add_root(&certificate, der.to_vec()) {
            problems.push(format!("certificate {} {problem}", first + at));
        }
    }
    if !issuers.has_root() && problems.is_empty() {
        problems.push("there is no certificate at which a path could end".into());
    }
    (issuers, problems.into_iter().next())
}
