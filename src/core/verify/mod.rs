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
//! predicate must say. That is `core::policy`.

mod blob;
mod certificate_authority;
mod chain;
mod check_budget;
mod error;
mod key;
mod key_signature;
mod log_entries;
mod private_ca;
mod revocation;
mod sct;
mod self_verification;
mod signed_message;
mod sigstore;
mod statement;
mod subject_alt_name;
pub(crate) mod tag_based_signatures;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
pub(crate) mod testing_pki;
mod trust_root;
mod trust_root_expiry;
mod trusted_authorities;
mod verified;
mod verifier;

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use sigstore_types::DsseEnvelope;

use check_budget::CheckBudget;
use verifier::StatementMemoryBudget;

use super::{
    digest::Digest,
    intoto::Statement,
    limits::InputLimits,
    media_type,
    oci::{Descriptor, ManifestOrIndex},
    sigstore_bundle::{BundleVerificationMaterial, SigstoreBundle},
};

pub use blob::{BlobArtifact, BlobTrustedMaterial, verify_blob};
pub use certificate_authority::{CertificateAuthority, CertificateAuthorityError};
pub use error::{EvidenceError, RejectedEvidence};
pub(crate) use error::{reason_rank, sanitize_text};
pub use key::{KeyAlgorithm, PublicKeyError, VerificationKey};
pub use revocation::RevocationLists;
pub use self_verification::{SigningCertificateInfo, signing_certificate_info, verify_own_bundle};
pub use tag_based_signatures::CosignTagCandidate;
pub use trust_root::{TrustRoot, TrustRootError};
pub use verified::{
    CertificateClaims, SignerIdentity, SigningTime, StoredSignatureFormat, TimeEvidenceStatus,
    ValidityPeriod, Verified,
};
pub use verifier::{EvidenceVerifier, verify_evidence};

/// The evidence fetched for one digest. None of it is trusted.
#[derive(Clone, Debug, Default)]
pub struct UnverifiedEvidence {
    /// Referrers that may be a signature or an attestation.
    pub candidates: Vec<ReferrerCandidate>,
    /// Layers of the manifests that cosign's tags name, if a policy accepts them.
    pub legacy: Vec<CosignTagCandidate>,
    /// Referrers that could not be fetched, and why.
    pub unread: Vec<RejectedEvidence>,
    /// The number of referrers that are not Sigstore bundles, such as a plain SBOM. They are not
    /// used.
    pub unrelated: usize,
    /// The number of referrers that were not fetched because there were too many.
    pub unopened: usize,
}

/// One referrer with the content of its only layer.
#[derive(Clone, Debug)]
pub struct ReferrerCandidate {
    /// The descriptor in the referrers list.
    pub referrer: Descriptor,
    /// The manifest of the referrer.
    pub manifest: ManifestOrIndex,
    /// The bytes of the layer from [`sigstore_bundle_layer`].
    pub content: Bytes,
}

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

/// The result of verifying every candidate.
#[derive(Clone, Debug, Default)]
pub struct VerificationFindings {
    /// The verified statements.
    pub verified: Vec<Verified<Statement>>,
    /// The rejected candidates, with their reasons.
    pub rejected: Vec<RejectedEvidence>,
    /// The number of referrers not fetched because there were too many.
    pub unopened: usize,
    /// The number of candidates not read, or not fully verified, because the limits of one request
    /// were reached.
    pub over_budget: usize,
    /// The number of signature checks made.
    pub signature_checks: usize,
}

/// The layer of a referrer's manifest that holds a Sigstore bundle about `subject`.
///
/// `None` if the referrer is not a Sigstore bundle, such as a plain SBOM. The descriptor's
/// `artifactType` is never looked at: on registries without the referrers API cosign writes
/// `application/vnd.oci.empty.v1+json` there.
///
/// Errors: [`EvidenceError::ForeignSubject`] if the manifest refers to another digest,
/// [`EvidenceError::Layers`] if a bundle is not its only layer.
pub fn sigstore_bundle_layer<'a>(
    manifest: &'a ManifestOrIndex,
    subject: &Digest,
) -> Result<Option<&'a Descriptor>, EvidenceError> {
    let refers_to = manifest.subject().map(|subject| subject.digest);
    if refers_to != Some(*subject) {
        return Err(EvidenceError::ForeignSubject(refers_to));
    }
    let ManifestOrIndex::Manifest(manifest) = manifest else {
        return Ok(None);
    };
    if !manifest
        .layers
        .iter()
        .any(|layer| media_type::is_sigstore_bundle(&layer.media_type))
    {
        return Ok(None);
    }
    match &manifest.layers[..] {
        [layer] => Ok(Some(layer)),
        layers => Err(EvidenceError::Layers(layers.len())),
    }
}

/// The verified statements and the errors of a candidate; at least one of the two is not empty.
fn verify_candidate(
    subject: &Digest,
    candidate: &ReferrerCandidate,
    trust: &TrustedMaterial,
    limits: &InputLimits,
    effort: &CheckBudget<'_>,
    memory: &mut StatementMemoryBudget,
) -> (Vec<Verified<Statement>>, Vec<EvidenceError>) {
    let (payload, authenticated, mut faults) =
        match authenticate_candidate(subject, candidate, trust, limits, effort) {
            Ok(opened) => opened,
            Err(error) => return (Vec::new(), vec![error]),
        };
    let mut verified = Vec::new();
    for by in authenticated {
        match memory.read_within_budget(&payload, || {
            statement::read_statement(&payload, subject, by, candidate.referrer.digest, limits)
        }) {
            Ok(statement) => verified.push(statement),
            Err(error) => faults.push(error),
        }
    }
    (verified, faults)
}

/// The verified signatures, and the errors of the authorities and trust roots that do not verify
/// them.
type AuthenticationOutcomes = (Vec<verified::AuthenticatedSignature>, Vec<EvidenceError>);

/// A payload with a verified signature, its signers, and the errors of the authorities and trust
/// roots that do not verify it.
type AuthenticatedPayload = (
    Vec<u8>,
    Vec<verified::AuthenticatedSignature>,
    Vec<EvidenceError>,
);

fn authenticate_candidate(
    subject: &Digest,
    candidate: &ReferrerCandidate,
    trust: &TrustedMaterial,
    limits: &InputLimits,
    effort: &CheckBudget<'_>,
) -> Result<AuthenticatedPayload, EvidenceError> {
    let layer =
        sigstore_bundle_layer(&candidate.manifest, subject)?.ok_or(EvidenceError::NotABundle)?;
    let actual = Digest::of_bytes(&candidate.content);
    if actual != layer.digest {
        return Err(EvidenceError::Content {
            expected: layer.digest,
            actual,
        });
    }
    let bundle = SigstoreBundle::parse(&candidate.content, limits)?;
    let envelope = bundle.dsse_envelope().ok_or(EvidenceError::NoEnvelope)?;
    if envelope.payload_type != media_type::IN_TOTO {
        return Err(EvidenceError::PayloadType(sanitize_text(
            &envelope.payload_type,
        )));
    }
    let (authenticated, faults) = match bundle.verification_material() {
        BundleVerificationMaterial::PublicKey { hint } => {
            key_signature::authenticate_by_key(&bundle, envelope, hint, subject, trust, effort)?
        }
        BundleVerificationMaterial::Certificate => {
            authenticate_by_certificate(&bundle, envelope, subject, trust, effort)?
        }
    };
    Ok((envelope.payload.as_bytes().to_vec(), authenticated, faults))
}

/// Verifies a certificate with trust roots, or with private CAs.
fn authenticate_by_certificate(
    bundle: &SigstoreBundle,
    envelope: &DsseEnvelope,
    subject: &Digest,
    trust: &TrustedMaterial,
    effort: &CheckBudget<'_>,
) -> Result<AuthenticationOutcomes, EvidenceError> {
    let size = envelope.payload.as_bytes().len();
    let by_root = || {
        let roots = trust.roots.iter();
        collect_authenticated(roots.map(|root| {
            effort.spend_check_for_bytes(size).and_then(|()| {
                sigstore::authenticate_manifest(bundle, subject, std::slice::from_ref(root))
            })
        }))
    };
    if trust.authorities.is_empty() {
        return by_root().map(|found| (found, Vec::new()));
    }
    let (more, mut faults) = authenticate_by_private_cas(bundle, envelope, subject, trust, effort);
    if trust.roots.is_empty() {
        return Ok((more, faults));
    }
    match by_root() {
        // A revocation by the issuer is reported, even if another authority verifies the
        // certificate. That another authority did not issue it is not reported.
        Ok(found) => {
            faults.retain(|fault| fault.signer().is_some());
            Ok((found.into_iter().chain(more).collect(), faults))
        }
        Err(one) if more.is_empty() => Ok((
            more,
            chain::errors_to_report(faults.into_iter().chain([one]).collect()),
        )),
        Err(_) => Ok((more, faults)),
    }
}

/// Tries each authority on its own, so that the deadline and the remaining checks are tested in
/// between.
fn authenticate_by_private_cas(
    bundle: &SigstoreBundle,
    envelope: &DsseEnvelope,
    subject: &Digest,
    trust: &TrustedMaterial,
    effort: &CheckBudget<'_>,
) -> AuthenticationOutcomes {
    let size = envelope.payload.as_bytes().len();
    let (mut found, mut faults, mut seen) =
        (Vec::new(), Vec::new(), std::collections::HashSet::new());
    for issuing in &trust.authorities {
        if !seen.insert((
            issuing.authority.digest(),
            issuing.root.as_ref().map(|root| root.digest()),
        )) {
            continue;
        }
        let alone = TrustedMaterial {
            authorities: vec![issuing.clone()],
            now: trust.now,
            ..TrustedMaterial::default()
        };
        match effort.spend_check_for_bytes(size).and_then(|()| {
            private_ca::authenticate_by_private_ca(bundle, envelope, subject, &alone)
        }) {
            Ok((by, more)) => {
                found.extend(by);
                faults.extend(more);
            }
            Err(error) => faults.push(error),
        }
    }
    if found.is_empty() {
        return (found, chain::errors_to_report(faults));
    }
    // That another authority did not issue it is not reported.
    faults.retain(|fault| fault.signer().is_some());
    (found, faults)
}

/// All verified signatures, or, if there are none, the error of the furthest check.
fn collect_authenticated(
    results: impl Iterator<Item = Result<Vec<verified::AuthenticatedSignature>, EvidenceError>>,
) -> Result<Vec<verified::AuthenticatedSignature>, EvidenceError> {
    let (mut found, mut faults) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(more) => found.extend(more),
            Err(error) => faults.push(error),
        }
    }
    if found.is_empty() {
        Err(sigstore::furthest_or_no_trust_root(faults))
    } else {
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
