//! Sigstore bundles in referrers.

use sigstore_types::DsseEnvelope;

use crate::core::{
    digest::Digest,
    evidence::StatementMemoryBudget,
    media_type,
    sigstore_bundle::{BundleVerificationMaterial, SigstoreBundle},
};

use super::{
    EvidenceError, ReferrerCandidate, StoredSignatureFormat,
    certificate_signature::authenticate_by_certificate,
    key_signature::KeySignature,
    outcome::{AuthenticationOutcome, CandidateContext, CandidateResult},
    sanitize_text,
    signed_message::SignedMessage,
    sigstore::SignedArtifact,
    sigstore_bundle_layer,
    statement::read_statement,
};

/// Verifies the bundle in a referrer, and reads its statement.
pub(crate) fn verify_referrer(
    candidate: &ReferrerCandidate,
    context: &CandidateContext<'_>,
    memory: &mut StatementMemoryBudget,
) -> CandidateResult {
    let (payload, outcome) = match authenticate_referrer(candidate, context) {
        Ok(authenticated) => authenticated,
        Err(error) => return (Vec::new(), vec![error]),
    };
    outcome.read_statements(&payload, memory, |by| {
        read_statement(&payload, by, candidate.referrer.digest, context)
    })
}

/// The payload, with the signers of it.
fn authenticate_referrer(
    candidate: &ReferrerCandidate,
    context: &CandidateContext<'_>,
) -> Result<(Vec<u8>, AuthenticationOutcome), EvidenceError> {
    let layer = sigstore_bundle_layer(&candidate.manifest, context.subject)?
        .ok_or(EvidenceError::NotABundle)?;
    let actual = Digest::of_bytes(&candidate.content);
    if actual != layer.digest {
        return Err(EvidenceError::Content {
            expected: layer.digest,
            actual,
        });
    }
    let bundle = SigstoreBundle::parse(&candidate.content, context.limits)?;
    let envelope = bundle.dsse_envelope().ok_or(EvidenceError::NoEnvelope)?;
    if envelope.payload_type != media_type::IN_TOTO {
        return Err(EvidenceError::PayloadType(sanitize_text(
            &envelope.payload_type,
        )));
    }
    let outcome = match bundle.verification_material() {
        BundleVerificationMaterial::PublicKey { hint } => {
            authenticate_by_key(&bundle, envelope, hint, context)?
        }
        BundleVerificationMaterial::Certificate => {
            authenticate_by_certificate(&bundle, envelope, context)?
        }
    };
    Ok((envelope.payload.as_bytes().to_vec(), outcome))
}

fn authenticate_by_key(
    bundle: &SigstoreBundle,
    envelope: &DsseEnvelope,
    hint: &str,
    context: &CandidateContext<'_>,
) -> Result<AuthenticationOutcome, EvidenceError> {
    let signed_bytes = envelope.pae();
    let signed = KeySignature {
        message: SignedMessage::new(&signed_bytes),
        signature: envelope.signature.sig.as_bytes(),
        hint,
        format: StoredSignatureFormat::Bundle,
        has_time_evidence: bundle.has_time_evidence(),
    };
    let (key, mut outcome) = signed.authenticate(context)?;
    if signed.has_time_evidence {
        let manifest = || SignedArtifact::manifest(context.subject);
        signed.verify_time_evidence(key, bundle, manifest, context, &mut outcome);
    }
    Ok(outcome)
}
