//! A private certificate authority: its certificates and revocation lists, parsed and checked once.

use std::{collections::HashSet, fmt, sync::Arc};

use x509_cert::{Certificate, der::Decode};

use crate::core::{
    digest::Digest,
    limits::InputLimits,
    pem::{PemBlock, decode_pem_body, pem_blocks},
    reason::{ClassifiedError, Reason},
};

use super::{
    RevocationLists,
    chain::{CertificateProperties, CertificatePurpose, IssuerCertificates, is_self_issued},
    error::sanitize_text,
    revocation::RevocationList,
};

/// Approximate memory of one parsed certificate or list.
pub(super) const PARSED_BYTES: usize = 512;

/// The certificates of a private CA, and its revocation lists.
pub struct CertificateAuthority {
    pub(super) issuers: IssuerCertificates,
    lists: Option<Arc<RevocationLists>>,
    digest: Digest,
    bytes: usize,
}

/// Why bytes are not a valid certificate authority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateAuthorityError {
    /// Larger than the limit.
    #[error("{what} have {size} bytes, the limit is {limit}")]
    TooLarge {
        /// The certificates, or the revocation lists.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Too many of them.
    #[error("there are {count} {what}, the limit is {limit}")]
    TooMany {
        /// Certificates, or revocation lists.
        what: &'static str,
        /// The number of items.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// It is not PEM, or contains a block of another type.
    #[error("{what} must be PEM: {problem}")]
    Pem {
        /// The certificates, or the revocation lists.
        what: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A certificate that cannot be one of a CA.
    #[error("certificate {at} {problem}")]
    Certificate {
        /// The position of the certificate, from 1.
        at: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// There are only intermediates, or no certificates.
    #[error(
        "none of the {0} certificates is a root: a certificate authority's own, signed by itself"
    )]
    NoRoot(usize),
    /// A revocation list that cannot be used.
    #[error(
        "revocation list {at} cannot be used: {problem}; version 2 with nextUpdate is expected, no \
            delta and no indirect list"
    )]
    List {
        /// The position of the list, from 1.
        at: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// Revocation lists are required, and none is given.
    #[error("there is no revocation list")]
    NoList,
}

impl ClassifiedError for CertificateAuthorityError {
    fn reason(&self) -> Reason {
        Reason::InvalidSpec
    }
}

impl CertificateAuthority {
    /// Reads certificates (PEM: self-signed roots, and intermediates), and revocation lists (PEM,
    /// or one in DER).
    ///
    /// With lists, every certificate of a chain needs one of its issuer. Limits:
    /// `limits.authority_bytes`, `limits.authority_certificates`, `limits.revocation_bytes`,
    /// `limits.revocation_lists`. Errors: a certificate or list that is invalid or could never be
    /// used.
    pub fn parse(
        certificates: &[u8],
        lists: Option<&[u8]>,
        limits: &InputLimits,
    ) -> Result<Self, CertificateAuthorityError> {
        check_size_limit("certificates", certificates.len(), limits.authority_bytes)?;
        let lists = lists
            .map(|lists| RevocationLists::parse(lists, limits))
            .transpose()?;
        Self::with_revocation_lists(certificates, lists.map(Arc::new), limits)
    }

    /// The same with revocation lists that were parsed already.
    pub fn with_revocation_lists(
        certificates: &[u8],
        lists: Option<Arc<RevocationLists>>,
        limits: &InputLimits,
    ) -> Result<Self, CertificateAuthorityError> {
        check_size_limit("certificates", certificates.len(), limits.authority_bytes)?;
        let mut all = decode_pem_blocks(
            "certificates",
            "CERTIFICATE",
            certificates,
            limits.authority_certificates,
        )?;
        let mut seen = HashSet::new();
        all.retain(|(_, der)| seen.insert(Digest::of_bytes(der)));
        let (count, content) = (
            all.len(),
            all.iter().map(|(_, der)| der.len()).sum::<usize>(),
        );
        let mut authority = Self {
            issuers: IssuerCertificates::new(CertificatePurpose::CodeSigning),
            digest: Digest::of_bytes(
                format!(
                    "{} {:?}",
                    Digest::of_bytes(certificates),
                    lists.as_ref().map(|lists| lists.digest())
                )
                .as_bytes(),
            ),
            lists,
            // As bytes and as anchors, with their parsed properties.
            bytes: 2 * content + count * PARSED_BYTES,
        };
        for (at, der) in all {
            authority.add_certificate(der).map_err(|problem| {
                CertificateAuthorityError::Certificate {
                    at: at + 1,
                    problem,
                }
            })?;
        }
        if authority.issuers.has_root() {
            Ok(authority)
        } else {
            Err(CertificateAuthorityError::NoRoot(count))
        }
    }

    /// The digest of the certificates and the lists, for caches.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Its approximate memory in bytes, without its revocation lists.
    pub const fn memory_size(&self) -> usize {
        self.bytes
    }

    /// Its revocation lists, newest first.
    pub(super) fn revocation_lists(&self) -> &[RevocationList] {
        self.lists
            .as_ref()
            .map_or(&[], |lists| lists.newest_first())
    }

    fn add_certificate(&mut self, der: Vec<u8>) -> Result<(), String> {
        let certificate =
            Certificate::from_der(&der).map_err(|error| format!("cannot be read: {error}"))?;
        if is_self_issued(&certificate) {
            return self.issuers.add_root(&certificate, der);
        }
        let facts = CertificateProperties::from_certificate(&certificate)
            .ok_or("has extensions that cannot be read")?;
        facts.check_issuer()?;
        self.issuers.add_intermediate(der);
        Ok(())
    }
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateAuthority({})", self.digest)
    }
}

pub(super) const fn check_size_limit(
    what: &'static str,
    size: usize,
    limit: usize,
) -> Result<(), CertificateAuthorityError> {
    if size <= limit {
        Ok(())
    } else {
        Err(CertificateAuthorityError::TooLarge { what, size, limit })
    }
}

/// The content of every block, and its position. Text around the blocks, as openssl writes it, is
/// ignored.
pub(super) fn decode_pem_blocks(
    what: &'static str,
    label: &str,
    bytes: &[u8],
    limit: usize,
) -> Result<Vec<(usize, Vec<u8>)>, CertificateAuthorityError> {
    let wrong = |problem: String| CertificateAuthorityError::Pem { what, problem };
    let text = std::str::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8".into()))?;
    let count = pem_blocks(text).count();
    if count > limit {
        return Err(CertificateAuthorityError::TooMany { what, count, limit });
    }
    let block = |(at, block): (usize, PemBlock<'_>)| {
        if block.label() != label {
            let found = sanitize_text(block.label());
            return Err(wrong(format!(
                "block {} is a {found}, not a {label}",
                at + 1
            )));
        }
        let body = block
            .body()
            .ok_or_else(|| wrong(format!("block {} has no end", at + 1)))?;
        let der =
            decode_pem_body(body).ok_or_else(|| wrong(format!("block {} is no base64", at + 1)))?;
        Ok((at, der))
    };
    pem_blocks(text).enumerate().map(block).collect()
}
