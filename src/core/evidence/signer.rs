//! Who signed, when, and how the signature is stored. These types name things; only
//! `core::verify` says that they are true of a statement.

use std::fmt;

use jiff::Timestamp;

use crate::core::digest::Digest;

/// The identity of a signer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SignerIdentity {
    /// The holder of a key.
    Key {
        /// SHA-256 of the key's SPKI in DER.
        fingerprint: Digest,
    },
    /// An identity in a certificate of a trust root's CA.
    Identity {
        /// The certificate's subject alternative name: a URI if it contains `:`, else an email
        /// address.
        san: String,
        /// The OIDC issuer in the certificate.
        issuer: String,
    },
    /// An identity in a certificate of a private CA.
    Certificate {
        /// The certificate's subject alternative name: a URI if it contains `:`, else an email
        /// address if it contains `@`, else a DNS name.
        san: String,
        /// The digest of the authority's certificates and revocation lists.
        authority: Digest,
    },
}

/// The workload's claims in a certificate: Fulcio's extensions 1.3.6.1.4.1.57264.1.11 to .20.
/// `None` if the extension is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateClaims {
    /// The source repository (`.12`).
    pub source_repository: Option<String>,
    /// The source's ref (`.14`).
    pub source_ref: Option<String>,
    /// The build configuration (`.18`).
    pub workflow: Option<String>,
    /// The build trigger (`.20`).
    pub trigger: Option<String>,
    /// The runner environment (`.11`).
    pub runner: Option<String>,
}

/// The status of the log entries and timestamps of a signature by a key. A certificate's are always
/// verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeEvidenceStatus {
    /// There are none.
    Absent,
    /// There are some, and they were not verified with a trust root.
    Unchecked,
    /// All of them are valid.
    Verified,
}

impl TimeEvidenceStatus {
    /// The status where no trust root verified anything. `is_present`: there is time evidence.
    pub(in crate::core) const fn unless_verified(is_present: bool) -> Self {
        if is_present {
            Self::Unchecked
        } else {
            Self::Absent
        }
    }
}

/// When a signature was made, by the evidence of a third party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningTime {
    /// The earliest time that a transparency log or timestamp authority proves.
    Known(Timestamp),
    /// There is no such evidence.
    Unknown,
}

/// How a signature is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum StoredSignatureFormat {
    /// A Sigstore bundle as an OCI 1.1 referrer.
    Bundle,
    /// A `.sig` or `.att` tag of older cosign versions, without a log entry: only the key
    /// identifies the signer.
    Legacy,
    /// The same, with a log's promise of inclusion (SET) and no inclusion proof.
    LegacySetOnly,
}

impl StoredSignatureFormat {
    /// The name in configuration and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bundle => "Bundle",
            Self::Legacy => "Legacy",
            Self::LegacySetOnly => "LegacySetOnly",
        }
    }
}

impl SigningTime {
    /// The time, if it is known.
    pub const fn timestamp(self) -> Option<Timestamp> {
        match self {
            Self::Known(time) => Some(time),
            Self::Unknown => None,
        }
    }
}

impl fmt::Display for SignerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { fingerprint } => fingerprint.fmt(f),
            Self::Identity { san, issuer } => write!(f, "{san} ({issuer})"),
            Self::Certificate { san, authority } => {
                write!(f, "{san} (certificate authority {authority})")
            }
        }
    }
}
