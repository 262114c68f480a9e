//! Signatures and attestations under cosign's tags `.sig` and `.att`
//! ([`crate::core::cosign_tags`]): their layers and annotations.
//!
//! - The annotation with the certificate's chain is not read: only the trust root decides what a
//!   certificate chains to.
//! - A timestamp without a log entry proves no time here, and that of an attestation is not read:
//!   cosign timestamps the whole envelope, not the signature.

mod annotations;
mod attestation;
mod layer;
mod simple_signing;
#[cfg(test)]
pub(crate) mod testing;
mod verification;

pub(crate) use verification::verify_tag_layer;
