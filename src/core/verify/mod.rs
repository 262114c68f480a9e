//! Verifies [`UnverifiedEvidence`] about one digest: the result is [`Verified`] statements.
//!
//! Every candidate is verified on its own and ends as exactly one of two things: a verified
//! statement, or a [`RejectedEvidence`] with its reason. A bad candidate never prevents the
//! verification of a good one (docs/threat-model.md, row 15), and there is no third outcome.
//!
//! The order is always the same: bounds and shape, then the signature over the raw bytes, and only
//! then is the payload read.
//!
//! What is *not* decided here: whether the signer is accepted, how many must sign, and what a
//! predicate must say. That is `core::policy`. docs/reading-the-trust-core.md says in which order
//! to read both.

mod artifact;
mod certificate_signature;
mod key_signature;
mod log_entries;
mod outcome;
mod private_ca;
mod referrer;
mod signed_message;
mod sigstore;
mod statement;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
pub(crate) mod testing_pki;
#[cfg(test)]
mod tests;
mod verified;

pub use super::{
    evidence::{
        CertificateClaims, CosignTagCandidate, EvidenceError, ReferrerCandidate, RejectedEvidence,
        SignerIdentity, SigningTime, StoredSignatureFormat, TimeEvidenceStatus, UnverifiedEvidence,
        sigstore_bundle_layer,
    },
    evidence_verifier::{EvidenceVerifier, VerificationFindings, verify_evidence},
    public_key::{KeyAlgorithm, PublicKeyError, VerificationKey},
    trusted_material::{TrustRoot, TrustRootError, TrustedCertificateAuthority, TrustedMaterial},
    x509::{CertificateAuthority, CertificateAuthorityError, RevocationLists, ValidityPeriod},
};
pub use verified::Verified;

pub(crate) use super::evidence::sanitize_text;
pub(in crate::core) use artifact::verify_artifact;
pub(in crate::core) use certificate_signature::authenticate_by_trust_roots;
pub(in crate::core) use key_signature::KeySignature;
pub(in crate::core) use outcome::{AuthenticationOutcome, CandidateContext, CandidateResult};
pub(in crate::core) use referrer::verify_referrer;
pub(in crate::core) use signed_message::SignedMessage;
pub(in crate::core) use sigstore::SignedArtifact;
pub(in crate::core) use statement::{read_simple_signing, read_statement};
