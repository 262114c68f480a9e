//! A Sigstore bundle about a file, as `cosign sign-blob` and `cosign attest-blob` make it: what the
//! sigstore-conformance suite tests.
//!
//! Everything that Sigstore's client specification requires is required here: the log entry, the
//! signing time, and for certificates the SCT.

use std::{fmt, io::Read, sync::Arc};

use super::{
    digest::Digest,
    evidence::EvidenceError,
    limits::InputLimits,
    public_key::VerificationKey,
    reason::Reason,
    sigstore_bundle::{BundleVerificationMaterial, SigstoreBundle},
    sigstore_errors::sigstore_error,
    trusted_material::TrustRoot,
    verify::{Verified, verify_artifact},
};

/// The signed file.
pub struct BlobArtifact<'a> {
    /// Its SHA-256 digest.
    pub digest: Digest,
    /// Its bytes, read again for signatures over another digest. Without them such a signature is
    /// rejected.
    pub content: Option<&'a mut dyn Read>,
}

/// The trusted material for a file.
#[derive(Clone, Debug)]
pub struct BlobTrustedMaterial {
    /// Authorities, logs and timestamp authorities.
    pub root: Arc<TrustRoot>,
    /// The key that must have signed. Without one a certificate is required.
    pub key: Option<VerificationKey>,
}

/// Verifies `bundle`, the bytes of a Sigstore bundle, about `artifact`. The caller checks the
/// signer's identity.
///
/// Errors: [`EvidenceError`] with its reason; [`Reason::NoMatchingAuthority`] if the bundle is
/// signed with a key where a certificate is expected, or the reverse.
pub fn verify_blob(
    bundle: &[u8],
    artifact: BlobArtifact<'_>,
    trust: &BlobTrustedMaterial,
    limits: &InputLimits,
) -> Result<Verified<()>, EvidenceError> {
    let bundle_digest = Digest::of_bytes(bundle);
    let bundle = SigstoreBundle::parse(bundle, limits)?;
    match (bundle.verification_material(), &trust.key) {
        // For a policy that requires no log a timestamp alone is enough; here it is not.
        (BundleVerificationMaterial::PublicKey { .. }, Some(_))
            if bundle.log_entries().is_empty() =>
        {
            return Err(sigstore_error(
                Reason::InvalidInclusionProof,
                "it has no log entry",
            ));
        }
        (BundleVerificationMaterial::Certificate, None)
        | (BundleVerificationMaterial::PublicKey { .. }, Some(_)) => {}
        (BundleVerificationMaterial::Certificate, Some(_)) => {
            return Err(sigstore_error(
                Reason::NoMatchingAuthority,
                "it was signed with a certificate, where a key was given",
            ));
        }
        (BundleVerificationMaterial::PublicKey { .. }, None) => {
            return Err(sigstore_error(
                Reason::NoMatchingAuthority,
                "it was signed with a key, where an identity was given",
            ));
        }
    }
    verify_artifact(
        &trust.root,
        &bundle,
        bundle_digest,
        trust.key.as_ref(),
        artifact.digest,
        artifact.content,
    )
}

impl fmt::Debug for BlobArtifact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Artifact({})", self.digest)
    }
}
