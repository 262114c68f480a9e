//! Certificate revocation lists (RFC 5280, section 5), parsed and verified once, and stored as
//! signed.

use std::fmt;

use jiff::Timestamp;
use webpki::{BorrowedCertRevocationList, CertRevocationList, Error};
use x509_cert::{
    der::{Decode, Result as DerResult, SliceReader, asn1::AnyRef},
    time::Time,
};

use crate::core::{digest::Digest, evidence::sanitize_text, limits::InputLimits};

use super::{
    CertificateAuthorityError,
    certificate_properties::to_timestamp,
    pem_blocks::{PARSED_BYTES, check_size_limit, decode_pem_blocks},
};

/// Certificate revocation lists, parsed and verified once. Authorities may share them.
pub struct RevocationLists {
    /// Newest first: the first list that covers a certificate is used.
    lists: Vec<RevocationList>,
    digest: Digest,
    bytes: usize,
}

/// One certificate revocation list.
pub(crate) struct RevocationList {
    /// The signed DER bytes. A list of 20,000 serial numbers has 400 KiB in this form, and ten
    /// times that as parsed objects; each lookup has to hash all of it anyway.
    der: Box<[u8]>,
    /// `thisUpdate`: when the list was issued.
    since: Timestamp,
    /// `nextUpdate`: from then on the list is outdated.
    pub(super) until: Timestamp,
}

impl RevocationLists {
    /// Parses revocation lists (PEM, or one in DER). Limits: `limits.revocation_bytes`,
    /// `limits.revocation_lists`.
    pub fn parse(bytes: &[u8], limits: &InputLimits) -> Result<Self, CertificateAuthorityError> {
        check_size_limit("revocation lists", bytes.len(), limits.revocation_bytes)?;
        // Every DER list is a SEQUENCE (`0x30`, the character `0`), and no PEM begins with `0`.
        let all = if bytes.starts_with(b"0") {
            vec![(0, bytes.to_vec())]
        } else {
            decode_pem_blocks(
                "revocation lists",
                "X509 CRL",
                bytes,
                limits.revocation_lists,
            )?
        };
        let read = |(at, der): (usize, Vec<u8>)| {
            RevocationList::from_der(der).map_err(|problem| CertificateAuthorityError::List {
                at: at + 1,
                problem,
            })
        };
        let mut lists = all.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        lists.sort_by_key(|list| std::cmp::Reverse(list.since));
        let size = lists.iter().map(|list| list.der.len() + PARSED_BYTES).sum();
        if lists.is_empty() {
            Err(CertificateAuthorityError::NoList)
        } else {
            Ok(Self {
                lists,
                digest: Digest::of_bytes(bytes),
                bytes: size,
            })
        }
    }

    /// Their approximate memory in bytes.
    pub const fn memory_size(&self) -> usize {
        self.bytes
    }

    /// The digest of the parsed bytes.
    pub(super) const fn digest(&self) -> Digest {
        self.digest
    }

    /// Newest first.
    pub(super) fn newest_first(&self) -> &[RevocationList] {
        &self.lists
    }
}

impl fmt::Debug for RevocationLists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RevocationLists({})", self.digest)
    }
}

impl RevocationList {
    fn from_der(der: Vec<u8>) -> Result<Self, String> {
        let list = BorrowedCertRevocationList::from_der(&der)
            .map_err(|error| sanitize_text(&format!("{error:?}")))?;
        for revoked in &list {
            revoked.map_err(|error| sanitize_text(&format!("{error:?}")))?;
        }
        let (since, until) =
            read_update_times(&der).map_err(|error| sanitize_text(&error.to_string()))?;
        let until = until.ok_or("it has no nextUpdate")?;
        Ok(Self {
            since: to_timestamp(since),
            until: to_timestamp(until),
            der: der.into_boxed_slice(),
        })
    }

    /// The list in webpki's form. It was parsed once already.
    pub(super) fn parsed_list(&self) -> Result<CertRevocationList<'_>, Error> {
        BorrowedCertRevocationList::from_der(&self.der).map(Into::into)
    }
}

/// `thisUpdate` and `nextUpdate` (RFC 5280, section 5.1.2): after version, algorithm and issuer.
/// The revoked entries are skipped.
fn read_update_times(der: &[u8]) -> DerResult<(Time, Option<Time>)> {
    let mut list = SliceReader::new(AnyRef::from_der(der)?.value())?;
    let mut fields = SliceReader::new(AnyRef::decode(&mut list)?.value())?;
    for _ in 0..3 {
        AnyRef::decode(&mut fields)?;
    }
    Ok((
        Time::decode(&mut fields)?,
        Option::<Time>::decode(&mut fields)?,
    ))
}
