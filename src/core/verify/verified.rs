//! What holds, and by whose word. Only `core::verify` can make these values.

use std::fmt;

use jiff::Timestamp;

use crate::core::digest::Digest;

/// A claim whose signature, signer and subject were checked. There is no way to make one but to verify one.
///
/// ```compile_fail
/// # use packgate::core::{digest::Digest, intoto::Statement, verify::{Signer, SignedAt, Verified}};
/// fn forge(claim: Statement, signer: Signer) -> Verified<Statement> {
///     Verified { claim, signer, subject: Digest::of(b""), referrer: Digest::of(b""), time: SignedAt::Unknown, root: None }
/// }
/// ```
///
/// ```compile_fail
/// # use packgate::core::{intoto::Statement, verify::Verified};
/// fn rewrite(verified: &mut Verified<Statement>) {
///     verified.claim.predicate_type = "https://sigstore.dev/cosign/sign/v1".into();
/// }
/// ```
///
/// ```compile_fail
/// # use packgate::core::{intoto::Statement, verify::Verified};
/// fn read(json: &str) -> Verified<Statement> {
///     serde_json::from_str(json).unwrap()
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Verified<T> {
    claim: T,
    subject: Digest,
    referrer: Digest,
    signer: Signer,
    root: Option<Digest>,
    time: SignedAt,
}

/// Who signed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signer {
    /// The holder of a key.
    Key {
        /// SHA-256 of the key's SPKI in DER.
        fingerprint: Digest,
    },
    /// Whom a certificate authority had identified.
    Identity {
        /// The certificate's subject alternative name: a URI if it contains `:`, else an email address.
        san: String,
        /// The OIDC issuer that vouched for it.
        issuer: String,
    },
}

/// When something was signed, as far as somebody other than the signer says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignedAt {
    /// The earliest time that a log or a timestamp authority vouches for.
    Known(Timestamp),
    /// Nobody says.
    Unknown,
}

/// In which form a signature is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Format {
    /// A Sigstore bundle as an OCI 1.1 referrer.
    Bundle,
}

/// Who made a signature that holds: what `core::verify` knows before it reads the payload.
#[derive(Clone, Debug)]
pub(super) struct Authenticated {
    pub(super) signer: Signer,
    pub(super) root: Option<Digest>,
    pub(super) time: SignedAt,
}

impl<T> Verified<T> {
    /// `claim` was read from the payload that `by` authenticated, and is about `subject`.
    pub(super) fn new(claim: T, subject: Digest, referrer: Digest, by: Authenticated) -> Self {
        let Authenticated { signer, root, time } = by;
        Self { claim, subject, referrer, signer, root, time }
    }

    /// What was claimed.
    pub const fn claim(&self) -> &T {
        &self.claim
    }

    /// The digest that it was verified for.
    pub const fn subject(&self) -> &Digest {
        &self.subject
    }

    /// The referrer that carries it.
    pub const fn referrer(&self) -> &Digest {
        &self.referrer
    }

    /// Who signed it.
    pub const fn signer(&self) -> &Signer {
        &self.signer
    }

    /// The trust root that the signer's certificate chains to. None for a key.
    pub const fn root(&self) -> Option<&Digest> {
        self.root.as_ref()
    }

    /// When it was signed.
    pub const fn time(&self) -> SignedAt {
        self.time
    }

    /// How it is stored.
    pub const fn format(&self) -> Format {
        Format::Bundle
    }
}

impl SignedAt {
    /// The time, if it is known.
    pub const fn timestamp(self) -> Option<Timestamp> {
        match self {
            Self::Known(time) => Some(time),
            Self::Unknown => None,
        }
    }
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { fingerprint } => fingerprint.fmt(f),
            Self::Identity { san, issuer } => write!(f, "{san} ({issuer})"),
        }
    }
}
