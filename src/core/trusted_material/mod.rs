//! What signatures are verified with: keys, trust roots, and private certificate authorities.

mod log_keys;
mod trust_root;
mod trust_root_authorities;
mod trust_root_not_after;

use std::sync::Arc;

use jiff::Timestamp;

use super::{public_key::VerificationKey, x509::CertificateAuthority};

pub(crate) use log_keys::{TrustedLog, TrustedLogs};
pub use trust_root::{TrustRoot, TrustRootError};

/// All keys, trust roots and certificate authorities of the policies that apply.
#[derive(Clone, Debug, Default)]
pub struct TrustedMaterial {
    /// Public keys.
    pub keys: Vec<VerificationKey>,
    /// Trust roots for certificates.
    pub roots: Vec<Arc<TrustRoot>>,
    /// Trust roots whose logs and timestamp authorities are trusted for the keys' signatures.
    pub key_trust_roots: Vec<Arc<TrustRoot>>,
    /// Private certificate authorities.
    pub authorities: Vec<TrustedCertificateAuthority>,
    /// The time of the request. A private CA's certificate without time evidence must be valid
    /// then; without a time it is rejected.
    pub now: Option<Timestamp>,
}

/// A private certificate authority.
#[derive(Clone, Debug)]
pub struct TrustedCertificateAuthority {
    /// Its certificates and revocation lists.
    pub authority: Arc<CertificateAuthority>,
    /// The trust root whose logs and timestamp authorities prove when its certificates signed.
    pub root: Option<Arc<TrustRoot>>,
}
