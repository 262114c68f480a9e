//! Bundles about an artifact whose signer the caller knows: a file, or what this process signed.

use std::io::Read;

use crate::core::{digest::Digest, sigstore_bundle::SigstoreBundle};

use super::{
    EvidenceError, TrustRoot, VerificationKey, Verified,
    sigstore::{SignedArtifact, authenticate_certificate, verify_key_time_evidence},
};

/// Verifies `bundle` about the artifact with the digest `subject`: with `key`, or without one with
/// the certificate in it.
///
/// With a certificate: chain, SCT, log entry, time. With a key: all log entries and timestamps in
/// it; the caller must have seen that there is one. `content` reads the artifact again for
/// signatures over another digest than SHA-256.
pub(crate) fn verify_artifact(
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    bundle_digest: Digest,
    key: Option<&VerificationKey>,
    subject: Digest,
    content: Option<&mut dyn Read>,
) -> Result<Verified<()>, EvidenceError> {
    let artifact = content.map_or_else(
        || SignedArtifact::manifest(&subject),
        SignedArtifact::reader,
    );
    let by = match key {
        None => authenticate_certificate(root, bundle, artifact)?,
        Some(key) => verify_key_time_evidence(root, bundle, key, artifact)?,
    };
    Ok(Verified::new((), subject, bundle_digest, by))
}
