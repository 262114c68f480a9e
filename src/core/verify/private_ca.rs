//! Bundles signed with a certificate from a private certificate authority: no Fulcio, and no log
//! unless the policy names one.
//!
//! [`crate::core::x509`] builds the path to a root, which must be valid at one point in time. If a
//! trust root of the policy verifies the signing time, that time counts. Otherwise it is the time
//! of the request, and the path's validity is kept with the verified statement: `core::policy`
//! checks it again at every evaluation. A certificate on a revocation list is revoked, whenever it
//! signed.

use sigstore_types::DsseEnvelope;

use crate::core::{
    reason::Reason,
    sigstore_bundle::SigstoreBundle,
    sigstore_errors::sigstore_error,
    x509::{PrivateCaCertificate, SignerCertificate, require_current_lists},
};

use super::{
    EvidenceError, SigningTime, StoredSignatureFormat, TimeEvidenceStatus, TrustRoot,
    TrustedCertificateAuthority,
    outcome::CandidateContext,
    sigstore::{
        SignedArtifact, UNSUPPORTED_TIME_EVIDENCE, can_check_time_evidence, is_logged,
        verify_certificate_time_evidence,
    },
    verified::AuthenticatedSignature,
};

/// Identifies the signer, with one authority and its trust root.
///
/// Errors: the key of its certificate did not make the signature, or the authority or trust root
/// does not verify it.
pub(super) fn authenticate_by_private_ca(
    bundle: &SigstoreBundle,
    envelope: &DsseEnvelope,
    issuing: &TrustedCertificateAuthority,
    context: &CandidateContext<'_>,
) -> Result<AuthenticatedSignature, EvidenceError> {
    let certificate = SignerCertificate::from_bundle(bundle)?;
    if !certificate
        .key
        .verifies_signature(&envelope.pae(), envelope.signature.sig.as_bytes())
    {
        return Err(sigstore_error(
            Reason::InvalidSignature,
            "its signature was not made with the key of its certificate",
        ));
    }
    let certificate = PrivateCaCertificate {
        certificate: &certificate,
        authority: &issuing.authority,
    };
    // Without time evidence in the bundle there is nothing to verify with the trust root.
    let root = issuing.root.as_ref().filter(|_| bundle.has_time_evidence());
    match root {
        None => verify_at_current_time(&certificate, bundle, context),
        Some(root) => verify_at_signing_time(&certificate, root, bundle, context),
    }
}

/// Without time evidence the path must be valid now.
fn verify_at_current_time(
    certificate: &PrivateCaCertificate<'_>,
    bundle: &SigstoreBundle,
    context: &CandidateContext<'_>,
) -> Result<AuthenticatedSignature, EvidenceError> {
    let now = context.trust.now.ok_or_else(|| {
        sigstore_error(
            Reason::NoTrustedTime,
            "no log or timestamp authority attests when it was signed, and the current time is unknown",
        )
    })?;
    let path = certificate
        .find_path(now)
        .map_err(|error| certificate.prefer_chain_error(error))?;
    Ok(AuthenticatedSignature {
        time_evidence: TimeEvidenceStatus::unless_verified(bundle.has_time_evidence()),
        validity: path.validity,
        ..signature_of(certificate)?
    })
}

/// The path must be valid at every verified signing time. Revocation lists must not be outdated.
fn verify_at_signing_time(
    certificate: &PrivateCaCertificate<'_>,
    root: &TrustRoot,
    bundle: &SigstoreBundle,
    context: &CandidateContext<'_>,
) -> Result<AuthenticatedSignature, EvidenceError> {
    let concerning = |error| certificate.prefer_chain_error(certificate.with_signer(error));
    if !can_check_time_evidence(&certificate.certificate.key) {
        let error = sigstore_error(Reason::InvalidTimestamp, UNSUPPORTED_TIME_EVIDENCE);
        return Err(concerning(error));
    }
    let manifest = SignedArtifact::manifest(context.subject);
    let times = verify_certificate_time_evidence(root, bundle, manifest).map_err(concerning)?;
    let lists = certificate.lists_of_paths(&times)?;
    let first = times.iter().min().copied().ok_or_else(|| {
        sigstore_error(
            Reason::NoTrustedTime,
            "no log or timestamp authority attests a signing time",
        )
    })?;
    require_current_lists(lists, first, context.trust.now)?;
    Ok(AuthenticatedSignature {
        root: Some(root.digest()),
        time: SigningTime::Known(first),
        time_evidence: TimeEvidenceStatus::Verified,
        logged: is_logged(bundle),
        validity: lists,
        ..signature_of(certificate)?
    })
}

fn signature_of(
    certificate: &PrivateCaCertificate<'_>,
) -> Result<AuthenticatedSignature, EvidenceError> {
    let by = AuthenticatedSignature::by(certificate.signer()?, StoredSignatureFormat::Bundle);
    Ok(AuthenticatedSignature {
        key: Some(certificate.certificate.key.key_identifiers()),
        ..by
    })
}
