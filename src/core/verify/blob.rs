//! A Sigstore bundle about a file, as `cosign sign-blob` and `cosign attest-blob` make it: what the
//! sigstore-conformance suite tests.
//!
//! Everything that Sigstore's client specification requires is required here: the log entry, the
//! signing time, and for certificates the SCT.

use std::{fmt, io::Read, sync::Arc};

use crate::core::{
    digest::Digest,
    limits::InputLimits,
    reason::Reason,
    sigstore_bundle::{BundleVerificationMaterial, SigstoreBundle},
};

use super::{EvidenceError, TrustRoot, VerificationKey, Verified, sigstore};

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
    let digest = artifact.digest;
    let name = Digest::of_bytes(bundle);
    let bundle = SigstoreBundle::parse(bundle, limits)?;
    let by = match (bundle.verification_material(), &trust.key) {
        (BundleVerificationMaterial::Certificate, None) => {
            sigstore::authenticate_blob(&trust.root, &bundle, artifact)?
        }
        (BundleVerificationMaterial::PublicKey { .. }, Some(_))
            if bundle.log_entries().is_empty() =>
        {
            return Err(missing_log_entry_error());
        }
        (BundleVerificationMaterial::PublicKey { .. }, Some(key)) => {
            sigstore::verify_blob_time_evidence(&trust.root, &bundle, key, artifact)?
        }
        (BundleVerificationMaterial::Certificate, Some(_)) => {
            return Err(unexpected_material_error(
                "a certificate, where a key was given",
            ));
        }
        (BundleVerificationMaterial::PublicKey { .. }, None) => {
            return Err(unexpected_material_error(
                "a key, where an identity was given",
            ));
        }
    };
    Ok(Verified::new((), digest, name, by))
}

/// For a policy that requires no log a timestamp alone is enough; here it is not.
fn missing_log_entry_error() -> EvidenceError {
    EvidenceError::Sigstore {
        reason: Reason::InvalidInclusionProof,
        message: "it has no log entry".into(),
        signer: None,
    }
}

fn unexpected_material_error(what: &str) -> EvidenceError {
    EvidenceError::Sigstore {
        reason: Reason::NoMatchingAuthority,
        message: format!("it was signed with {what}"),
        signer: None,
    }
}

impl fmt::Debug for BlobArtifact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Artifact({})", self.digest)
    }
}
