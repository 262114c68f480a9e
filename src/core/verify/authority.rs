//! A company's own certificate authority: its certificates and revocation lists, read and checked once.

use std::{collections::HashSet, fmt};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use jiff::Timestamp;
use pki_types::{CertificateDer, TrustAnchor};
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_cert::{
    Certificate,
    crl::CertificateList,
    der::{Decode, asn1::ObjectIdentifier},
    ext::pkix::{AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectKeyIdentifier},
    time::Time,
};

use crate::core::{
    class::{Classified, Reason},
    digest::Digest,
    limits::Limits,
};

use super::{Validity, error::shorten};

/// Signs code (RFC 5280, section 4.2.1.12).
pub(super) const CODE_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
/// Does anything that its key usage allows.
const ANY_PURPOSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");
/// Critical extensions of a root that are honoured, or that cannot make what it issues worth less: basic constraints, key usage, extended
/// key usage, name constraints, subject alternative name, certificate policies, key identifiers.
const KNOWN_IN_ROOTS: [&str; 8] = ["2.5.29.19", "2.5.29.15", "2.5.29.37", "2.5.29.30", "2.5.29.17", "2.5.29.32", "2.5.29.14", "2.5.29.35"];

/// The certificates of a company's own authority, and its revocation lists.
pub struct CertificateAuthority {
    pub(super) anchors: Vec<TrustAnchor<'static>>,
    /// Of the anchors, in their order: what an anchor does not tell.
    pub(super) roots: Vec<Facts>,
    pub(super) intermediates: Vec<CertificateDer<'static>>,
    /// Newest first: of several that concern a certificate the first is taken.
    pub(super) lists: Vec<RevocationList>,
    digest: Digest,
}

/// One revocation list.
pub(super) struct RevocationList {
    pub(super) list: CertRevocationList<'static>,
    /// When it was made.
    since: Timestamp,
    /// `nextUpdate`: from then on nobody knows what it would say.
    pub(super) until: Timestamp,
}

/// What a certificate says of itself.
pub(super) struct Facts {
    pub(super) validity: Validity,
    pub(super) is_ca: bool,
    pub(super) path_len: Option<u8>,
    pub(super) usage: Option<KeyUsage>,
    purposes: Option<Vec<ObjectIdentifier>>,
}

/// Why bytes are no certificate authority that we can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// More bytes than we read.
    #[error("{what} have {size} bytes, the limit is {limit}")]
    TooLarge {
        /// The certificates, or the revocation lists.
        what: &'static str,
        /// Their size.
        size: usize,
        /// The cap.
        limit: usize,
    },
    /// More of them than we look at.
    #[error("there are {count} {what}, the limit is {limit}")]
    TooMany {
        /// Certificates, or revocation lists.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// The cap.
        limit: usize,
    },
    /// Not what PEM looks like, or a block of another kind.
    #[error("{what} must be PEM: {problem}")]
    Pem {
        /// The certificates, or the revocation lists.
        what: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// One certificate cannot be an authority's.
    #[error("certificate {at} {problem}")]
    Certificate {
        /// Which, counted from 1.
        at: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// Only intermediates, or nothing.
    #[error("none of the {0} certificates is a root: a certificate authority's own, signed by itself")]
    NoRoot(usize),
    /// One revocation list cannot be used.
    #[error("revocation list {at} cannot be used: {problem}; version 2 with nextUpdate is expected, no delta and no indirect list")]
    List {
        /// Which, counted from 1.
        at: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// Revocation was asked for, and there is no list.
    #[error("there is no revocation list")]
    NoList,
}

impl Classified for AuthorityError {
    fn reason(&self) -> Reason {
        Reason::InvalidSpec
    }
}

impl CertificateAuthority {
    /// Reads certificates (PEM: roots, which are signed by themselves, and intermediates), and revocation lists (PEM, or one in DER).
    ///
    /// With lists, every certificate of a chain needs one of its issuer. Limits: `limits.authority_bytes`, `limits.authority_certificates`,
    /// `limits.revocation_bytes`, `limits.revocation_lists`. Errors: whatever could not mean what it says.
    pub fn parse(certificates: &[u8], lists: Option<&[u8]>, limits: &Limits) -> Result<Self, AuthorityError> {
        at_most("certificates", certificates.len(), limits.authority_bytes)?;
        at_most("revocation lists", lists.map_or(0, <[u8]>::len), limits.revocation_bytes)?;
        let mut all = pem("certificates", "CERTIFICATE", certificates, limits.authority_certificates)?;
        let mut seen = HashSet::new();
        all.retain(|(_, der)| seen.insert(Digest::of(der)));
        let mut authority = Self {
            anchors: Vec::new(),
            roots: Vec::new(),
            intermediates: Vec::new(),
            lists: lists.map_or(Ok(Vec::new()), |lists| read_lists(lists, limits))?,
            digest: Digest::of(format!("{} {:?}", Digest::of(certificates), lists.map(Digest::of)).as_bytes()),
        };
        let count = all.len();
        for (at, der) in all {
            authority.take(der).map_err(|problem| AuthorityError::Certificate { at: at + 1, problem })?;
        }
        if authority.anchors.is_empty() { Err(AuthorityError::NoRoot(count)) } else { Ok(authority) }
    }

    /// Of the certificates and the lists: its name in caches.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    fn take(&mut self, der: Vec<u8>) -> Result<(), String> {
        let certificate = Certificate::from_der(&der).map_err(|error| format!("cannot be read: {error}"))?;
        let facts = Facts::of(&certificate).ok_or("has extensions that cannot be read")?;
        facts.check_issuer()?;
        let der = CertificateDer::from(der);
        if !is_root(&certificate) {
            self.intermediates.push(der);
            return Ok(());
        }
        if !facts.issues_for_code() {
            return Err("is a root that may not issue for code signing, by its extended key usage".into());
        }
        if let Some(unknown) = unknown_critical(&certificate) {
            return Err(format!("is a root with the critical extension {unknown}, which packgate does not know"));
        }
        let anchor = webpki::anchor_from_trusted_cert(&der).map_err(|error| format!("cannot be read: {error:?}"))?.to_owned();
        self.anchors.push(anchor);
        self.roots.push(facts);
        Ok(())
    }
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateAuthority({})", self.digest)
    }
}

impl Facts {
    /// `None` if an extension is there twice or cannot be read.
    pub(super) fn of(certificate: &Certificate) -> Option<Self> {
        let inner = &certificate.tbs_certificate;
        let constraints = inner.get::<BasicConstraints>().ok()?.map(|(_, constraints)| constraints);
        Some(Self {
            validity: Validity::between(time(inner.validity.not_before), after(time(inner.validity.not_after))),
            is_ca: constraints.as_ref().is_some_and(|constraints| constraints.ca),
            path_len: constraints.and_then(|constraints| constraints.path_len_constraint),
            usage: inner.get::<KeyUsage>().ok()?.map(|(_, usage)| usage),
            purposes: inner.get::<ExtendedKeyUsage>().ok()?.map(|(_, purposes)| purposes.0),
        })
    }

    /// May it sign certificates?
    pub(super) fn may_issue(&self) -> bool {
        self.is_ca && self.usage.as_ref().is_none_or(KeyUsage::key_cert_sign)
    }

    /// May its key sign what is no certificate?
    pub(super) fn may_sign(&self) -> bool {
        self.usage.as_ref().is_none_or(|usage| usage.digital_signature() || usage.non_repudiation())
    }

    /// Does it say itself that it signs code? "Any purpose" says nothing.
    pub(super) fn is_for_code(&self) -> bool {
        self.purposes.as_ref().is_some_and(|purposes| purposes.contains(&CODE_SIGNING))
    }

    fn issues_for_code(&self) -> bool {
        self.purposes.as_ref().is_none_or(|purposes| purposes.iter().any(|purpose| [CODE_SIGNING, ANY_PURPOSE].contains(purpose)))
    }

    fn check_issuer(&self) -> Result<(), String> {
        match self {
            Self { is_ca: false, .. } => Err("is no certificate authority's: its basic constraints do not say CA:TRUE".into()),
            _ if !self.may_issue() => Err("may not sign certificates, by its key usage".into()),
            _ => Ok(()),
        }
    }
}

/// Its own name as issuer, and, where both are told, its own key.
fn is_root(certificate: &Certificate) -> bool {
    let inner = &certificate.tbs_certificate;
    let issuer_key = inner.get::<AuthorityKeyIdentifier>().ok().flatten().and_then(|(_, id)| id.key_identifier);
    let own_key = inner.get::<SubjectKeyIdentifier>().ok().flatten().map(|(_, id)| id.0);
    inner.subject == inner.issuer && (issuer_key.is_none() || own_key.is_none() || issuer_key == own_key)
}

fn unknown_critical(certificate: &Certificate) -> Option<ObjectIdentifier> {
    let extensions = certificate.tbs_certificate.extensions.iter().flatten();
    let unknown = extensions.filter(|extension| extension.critical).map(|extension| extension.extn_id);
    unknown.into_iter().find(|id| !KNOWN_IN_ROOTS.contains(&id.to_string().as_str()))
}

fn read_lists(bytes: &[u8], limits: &Limits) -> Result<Vec<RevocationList>, AuthorityError> {
    // Every DER list is a SEQUENCE, and no PEM begins with `0`.
    let all = if bytes.starts_with(b"0") { vec![(0, bytes.to_vec())] } else { pem("revocation lists", "X509 CRL", bytes, limits.revocation_lists)? };
    let read = |(at, der): (usize, Vec<u8>)| RevocationList::of(&der).map_err(|problem| AuthorityError::List { at: at + 1, problem });
    let mut lists = all.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
    lists.sort_by_key(|list| std::cmp::Reverse(list.since));
    if lists.is_empty() { Err(AuthorityError::NoList) } else { Ok(lists) }
}

impl RevocationList {
    fn of(der: &[u8]) -> Result<Self, String> {
        let list = OwnedCertRevocationList::from_der(der).map_err(|error| shorten(&format!("{error:?}")))?;
        let times = CertificateList::from_der(der).map_err(|error| shorten(&error.to_string()))?.tbs_cert_list;
        let until = times.next_update.ok_or("it has no nextUpdate")?;
        Ok(Self { list: list.into(), since: time(times.this_update), until: time(until) })
    }
}

const fn at_most(what: &'static str, size: usize, limit: usize) -> Result<(), AuthorityError> {
    if size <= limit { Ok(()) } else { Err(AuthorityError::TooLarge { what, size, limit }) }
}

/// The content of every block, and its place. Text around the blocks, as openssl writes it, is passed over.
fn pem(what: &'static str, label: &str, bytes: &[u8], limit: usize) -> Result<Vec<(usize, Vec<u8>)>, AuthorityError> {
    let wrong = |problem: String| AuthorityError::Pem { what, problem };
    let text = std::str::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8".into()))?;
    let count = text.matches("-----BEGIN ").count();
    if count > limit {
        return Err(AuthorityError::TooMany { what, count, limit });
    }
    let (begin, end) = (format!("{label}-----"), format!("-----END {label}-----"));
    let block = |(at, block): (usize, &str)| {
        let named = || shorten(block.split("-----").next().unwrap_or_default());
        let body = block.strip_prefix(&begin).ok_or_else(|| wrong(format!("block {} is a {}, not a {label}", at + 1, named())))?;
        let (body, _) = body.split_once(&end).ok_or_else(|| wrong(format!("block {} has no end", at + 1)))?;
        let base64: String = body.split_ascii_whitespace().collect();
        let der = BASE64.decode(base64).map_err(|_| wrong(format!("block {} is no base64", at + 1)))?;
        Ok((at, der))
    };
    text.split("-----BEGIN ").skip(1).enumerate().map(block).collect()
}

/// What is later than anything we can write is never.
fn time(time: Time) -> Timestamp {
    i64::try_from(time.to_unix_duration().as_secs()).ok().and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or(Timestamp::MAX)
}

/// `notAfter` is the last second.
fn after(time: Timestamp) -> Timestamp {
    time.checked_add(jiff::SignedDuration::from_secs(1)).unwrap_or(Timestamp::MAX)
}
