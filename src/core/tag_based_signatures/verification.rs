//! Has the signature of a layer verified by `core::verify`, as that of a bundle is.
//!
//! The order is that of bundles: bounds and shape, then the signature over the raw bytes, and only
//! then is the payload read. What differs:
//!
//! - A layer with a certificate is verified with that certificate only, any other with keys only.
//!   Its annotations become a Sigstore bundle 0.1, which goes through the same adapter as every
//!   bundle.
//! - Rekor's annotation holds a promise (SET) and never an inclusion proof, so a signature with it
//!   is [`StoredSignatureFormat::LegacySetOnly`].
//! - cosign 2 hashes with SHA-256 for every curve, cosign 3 with the curve's hash: these two are
//!   tried, no others.

use crate::core::{
    cosign_tags::CosignTagKind,
    digest::Digest,
    evidence::{
        CosignTagCandidate, EvidenceError, SignerIdentity, StatementMemoryBudget,
        StoredSignatureFormat, sanitize_text,
    },
    limits::InputLimits,
    reason::{ClassifiedError, Reason},
    verify::{
        AuthenticationOutcome, CandidateContext, CandidateResult, KeySignature, SignedArtifact,
        SignedMessage, authenticate_by_trust_roots, read_simple_signing, read_statement,
    },
};

use super::{
    annotations::{SignatureAnnotations, TagSigningMaterial},
    attestation::open_dsse_envelope,
    layer::SignedTagLayer,
    simple_signing::open_simple_signing,
};

/// Verifies a layer of the manifest that a tag names, and reads its statement.
pub(crate) fn verify_tag_layer(
    candidate: &CosignTagCandidate,
    context: &CandidateContext<'_>,
    memory: &mut StatementMemoryBudget,
) -> CandidateResult {
    let opened = open_tag_layer(candidate, context.limits).and_then(|layer| {
        let outcome = TagSignature::new(candidate, &layer, context)?.authenticate()?;
        Ok((layer.payload, outcome))
    });
    let (payload, outcome) = match opened {
        Ok(opened) => opened,
        Err(error) => return (Vec::new(), vec![error]),
    };
    outcome.read_statements(&payload, memory, |by| match candidate.tag_kind {
        CosignTagKind::Attestations => read_statement(&payload, by, candidate.manifest, context),
        CosignTagKind::Signatures | CosignTagKind::Sboms => {
            read_simple_signing(&payload, by, candidate.manifest, context)
        }
    })
}

/// Checks the type and the bytes of a layer, and reads its signature and payload.
fn open_tag_layer(
    candidate: &CosignTagCandidate,
    limits: &InputLimits,
) -> Result<SignedTagLayer, EvidenceError> {
    let CosignTagCandidate {
        tag_kind: kind,
        layer,
        content,
        ..
    } = candidate;
    if kind.layer_media_type() != Some(layer.media_type.as_str()) {
        return Err(EvidenceError::LayerType(sanitize_text(&layer.media_type)));
    }
    let actual = Digest::of_bytes(content);
    if actual != layer.digest {
        return Err(EvidenceError::Content {
            expected: layer.digest,
            actual,
        });
    }
    match kind {
        CosignTagKind::Attestations => open_dsse_envelope(content, limits),
        CosignTagKind::Signatures | CosignTagKind::Sboms => open_simple_signing(layer, content),
    }
}

/// A layer with a valid structure, and the annotations that it is verified with.
struct TagSignature<'a> {
    layer: &'a SignedTagLayer,
    annotations: SignatureAnnotations<'a>,
    /// True for `.sig`: the signature covers its payload. The statement in the envelope of an
    /// `.att` names its own subject.
    is_signature: bool,
    context: &'a CandidateContext<'a>,
}

impl<'a> TagSignature<'a> {
    fn new(
        candidate: &'a CosignTagCandidate,
        layer: &'a SignedTagLayer,
        context: &'a CandidateContext<'a>,
    ) -> Result<Self, EvidenceError> {
        Ok(Self {
            layer,
            annotations: SignatureAnnotations::from_annotations(&candidate.layer.annotations)?,
            is_signature: candidate.tag_kind == CosignTagKind::Signatures,
            context,
        })
    }

    fn authenticate(&self) -> Result<AuthenticationOutcome, EvidenceError> {
        match &self.annotations.material {
            TagSigningMaterial::Certificate(_) => self.authenticate_by_certificate(),
            TagSigningMaterial::Key => self.authenticate_by_key(),
        }
    }

    fn authenticate_by_certificate(&self) -> Result<AuthenticationOutcome, EvidenceError> {
        let bundle = self.annotations.to_sigstore_bundle(
            self.layer,
            self.is_signature,
            self.context.limits,
        )?;
        let size = self.layer.signed_bytes.len();
        authenticate_by_trust_roots(&bundle, size, || self.artifact(), self.context)
            .map(AuthenticationOutcome::from_found)
            .map_err(|error| self.explain_mismatch(error))
    }

    fn authenticate_by_key(&self) -> Result<AuthenticationOutcome, EvidenceError> {
        let signed = KeySignature {
            message: SignedMessage::new(&self.layer.signed_bytes),
            signature: &self.layer.signature,
            hint: "",
            format: StoredSignatureFormat::Legacy,
            has_time_evidence: self.annotations.has_time_evidence(),
        };
        let (key, mut outcome) = signed.authenticate(self.context)?;
        if signed.has_time_evidence && !self.context.trust.key_trust_roots.is_empty() {
            let (layer, limits) = (self.layer, self.context.limits);
            match self
                .annotations
                .to_sigstore_bundle(layer, self.is_signature, limits)
            {
                Ok(bundle) => {
                    let artifact = || self.artifact();
                    signed.verify_time_evidence(key, &bundle, artifact, self.context, &mut outcome);
                    outcome.explain_faults(|error| self.explain_mismatch(error));
                }
                Err(error) => outcome.record_fault(EvidenceError::Sigstore {
                    reason: error.reason(),
                    message: error.to_string(),
                    signer: Some(SignerIdentity::Key {
                        fingerprint: key.fingerprint(),
                    }),
                }),
            }
        }
        Ok(outcome)
    }

    fn artifact(&self) -> SignedArtifact<'a> {
        let format = StoredSignatureFormat::LegacySetOnly;
        if self.is_signature {
            SignedArtifact::bytes(&self.layer.signed_bytes, format)
        } else {
            SignedArtifact::with_digest(self.context.subject, format)
        }
    }

    /// The verifier compares a signature's payload with itself, so a mismatch is one of the log
    /// entry.
    fn explain_mismatch(&self, error: EvidenceError) -> EvidenceError {
        match error {
            EvidenceError::Sigstore {
                reason: Reason::SubjectMismatch,
                message,
                signer,
            } if self.is_signature => EvidenceError::Sigstore {
                reason: Reason::LogEntryMismatch,
                message,
                signer,
            },
            other => other,
        }
    }
}
