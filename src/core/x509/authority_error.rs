//! Why certificates or revocation lists of a private certificate authority cannot be used.

use crate::core::reason::{ClassifiedError, Reason};

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
