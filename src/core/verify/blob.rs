//! A Sigstore bundle beside a file, as `cosign sign-blob` and `cosign attest-blob` make them: what
//! the sigstore-conformance suite tests.
//!
//! Everything is asked for here that Sigstore's client specification asks for: the log, the time,
//! and for certificates the SCT.

use std::{fmt, io::Read, sync::Arc};

use crate::core::{
    class::Reason,
    digest::Digest,
    limits::Limits,
    sigstore_bundle::{Material, SigstoreBundle},
};

use super::{EvidenceError, TrustRoot, VerificationKey, Verified, sigstore};

/// What was signed.
pub struct Artifact<'a> {
    /// Its SHA-256.
    pub digest: Digest,
    /// Its bytes, once more, for signatures that go by another digest. Without them such a
    /// signature is refused.
    pub content: Option<&'a mut dyn Read>,
}

/// Whom to believe about a file.
#[derive(Clone, Debug)]
pub struct BlobTrust {
    /// Authorities, logs and timestamp authorities.
    pub root: Arc<TrustRoot>,
    /// The key that must have signed. Without one it must be a certificate.
    pub key: Option<VerificationKey>,
}

/// Verifies `bundle`, the bytes of a Sigstore bundle, about `artifact`. Who signed is for the
/// caller to compare.
///
/// Errors: [`EvidenceError`] with its reason; [`Reason::NoMatchingAuthority`] if the bundle holds a
/// key where a certificate is wanted, or the other way round.
pub fn verify_blob(
    bundle: &[u8],
    artifact: Artifact<'_>,
    trust: &BlobTrust,
    limits: &Limits,
) -> Result<Verified<()>, EvidenceError> {
    let digest = artifact.digest;
    let name = Digest::of(bundle);
    let bundle = SigstoreBundle::parse(bundle, limits)?;
    let by = match (bundle.material(), &trust.key) {
        (Material::Certificate, None) => {
            sigstore::authenticate_blob(&trust.root, &bundle, artifact)?
        }
        (Material::PublicKey { .. }, Some(_)) if bundle.log_entries().is_empty() => {
            return Err(unlogged());
        }
        (Material::PublicKey { .. }, Some(key)) => {
            sigstore::vouch_for_blob(&trust.root, &bundle, key, artifact)?
        }
        (Material::Certificate, Some(_)) => {
            return Err(other_material("a certificate, where a key was given"));
        }
        (Material::PublicKey { .. }, None) => {
            return Err(other_material("a key, where an identity was given"));
        }
    };
    Ok(Verified::new((), digest, name, by))
}

/// A timestamp alone will do for a policy that does not ask for a log, not here.
fn unlogged() -> EvidenceError {
    EvidenceError::Sigstore {
        reason: Reason::InvalidInclusionProof,
        message: "it has no log entry".into(),
        signer: None,
    }
}

fn other_material(what: &str) -> EvidenceError {
    EvidenceError::Sigstore {
        reason: Reason::NoMatchingAuthority,
        message: format!("it was signed with {what}"),
        signer: None,
    }
}

impl fmt::Debug for Artifact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Artifact({})", self.digest)
    }
}
