//! A private certificate authority: its certificates and revocation lists, parsed and checked once.

use std::{collections::HashSet, fmt, sync::Arc};

use x509_cert::{Certificate, der::Decode};

use crate::core::{digest::Digest, limits::InputLimits};

use super::{
    CertificateAuthorityError, CertificateProperties, CertificatePurpose, IssuerCertificates,
    RevocationLists, is_self_issued,
    pem_blocks::{PARSED_BYTES, check_size_limit, decode_pem_blocks},
    revocation_lists::RevocationList,
};

/// The certificates of a private CA, and its revocation lists.
pub struct CertificateAuthority {
    pub(super) issuers: IssuerCertificates,
    lists: Option<Arc<RevocationLists>>,
    digest: Digest,
    bytes: usize,
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
