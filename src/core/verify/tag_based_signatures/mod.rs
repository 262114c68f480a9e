//! Signatures and attestations under cosign's tags `.sig` and `.att`
//! ([`crate::core::cosign_tags`]).
//!
//! The order is that of bundles: bounds and shape, then the signature over the raw bytes, and only
//! then is the payload read. What differs:
//!
//! - A layer with a certificate is verified with that certificate only, any other with keys only.
//!   The annotations become a Sigstore bundle 0.1, which goes through the same adapter as every
//!   bundle.
//! - Rekor's annotation holds a promise (SET) and never an inclusion proof, so a signature with it
//!   is [`StoredSignatureFormat::LegacySetOnly`].
//! - cosign 2 hashes with SHA-256 for every curve, cosign 3 with the curve's hash: these two are
//!   tried, no others.
//! - The annotation with the certificate's chain is not read: only the trust root decides what a
//!   certificate chains to.
//! - A timestamp without a log entry proves no time here, and that of an attestation is not read:
//!   cosign timestamps the whole envelope, not the signature.

mod annotations;
mod attestation;
mod key;
mod simple_signing;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde_json::Value;
use sigstore_types::Artifact;

use super::{
    EvidenceError, RejectedEvidence, SignerIdentity, SigningTime, StatementMemoryBudget,
    StoredSignatureFormat, TimeEvidenceStatus, TrustedMaterial, ValidityPeriod, VerificationKey,
    Verified,
    check_budget::CheckBudget,
    collect_authenticated,
    error::sanitize_text,
    signed_message::SignedMessage,
    sigstore::{self, SignedArtifact},
    statement,
    verified::{AuthenticatedSignature, CertificateClaims},
};
use crate::core::{
    cosign_tags::CosignTagKind,
    digest::Digest,
    intoto::Statement,
    limits::InputLimits,
    oci::Descriptor,
    reason::{ClassifiedError, Reason},
};
use annotations::{SignatureAnnotations, TagSigningMaterial};

/// One layer of the manifest that a cosign tag of the subject names.
#[derive(Clone, Debug)]
pub struct CosignTagCandidate {
    /// The kind of tag: `.sig` or `.att`.
    pub tag_kind: CosignTagKind,
    /// The digest of the manifest that the tag names.
    pub manifest: Digest,
    /// The position of the layer, from 1.
    pub position: usize,
    /// The layer's descriptor, with its annotations.
    pub layer: Descriptor,
    /// The bytes of the layer.
    pub content: Bytes,
}

impl CosignTagCandidate {
    /// The rejection because of `error`.
    pub(super) fn to_rejected(&self, error: &EvidenceError) -> RejectedEvidence {
        with_tag_location(
            self.tag_kind,
            Some(self.position),
            RejectedEvidence::new(self.manifest, error),
        )
    }

    /// A layer, or the whole manifest, could not be fetched because of `error`.
    pub fn rejected_unread(
        kind: CosignTagKind,
        manifest: Digest,
        position: Option<usize>,
        error: &dyn ClassifiedError,
    ) -> RejectedEvidence {
        with_tag_location(
            kind,
            position,
            RejectedEvidence::from_read_error(manifest, error),
        )
    }

    /// The tag names an index instead of a manifest.
    pub fn rejected_index(kind: CosignTagKind, index: Digest) -> RejectedEvidence {
        with_tag_location(
            kind,
            None,
            RejectedEvidence::new(index, &EvidenceError::CosignTagIndex),
        )
    }
}

fn with_tag_location(
    kind: CosignTagKind,
    position: Option<usize>,
    rejected: RejectedEvidence,
) -> RejectedEvidence {
    let layer = position
        .map(|position| format!("layer {position} of "))
        .unwrap_or_default();
    let message = sanitize_text(&format!(
        "{layer}its {} tag: {}",
        kind.suffix(),
        rejected.message
    ));
    RejectedEvidence {
        message,
        ..rejected
    }
}

/// A layer with a valid structure.
struct SignedTagLayer {
    /// The signed bytes.
    message: SignedMessage,
    signature: Vec<u8>,
    /// The payload of the signature or envelope.
    payload: Vec<u8>,
    /// As the content of a Sigstore bundle.
    content: (&'static str, Value),
}

/// The verified statements and the errors of a candidate; at least one of the two is not empty.
pub(super) fn verify_tag_candidate(
    subject: &Digest,
    candidate: &CosignTagCandidate,
    trust: &TrustedMaterial,
    limits: &InputLimits,
    effort: &CheckBudget<'_>,
    memory: &mut StatementMemoryBudget,
) -> (Vec<Verified<Statement>>, Vec<EvidenceError>) {
    let opened = open_tag_layer(candidate, limits).and_then(|signed| {
        let (authenticated, faults) =
            authenticate_tag_layer(&signed, subject, candidate, trust, limits, effort)?;
        Ok((signed, authenticated, faults))
    });
    let (signed, authenticated, mut faults) = match opened {
        Ok(opened) => opened,
        Err(error) => return (Vec::new(), vec![error]),
    };
    let mut verified = Vec::new();
    for by in authenticated {
        let read = memory.read_within_budget(&signed.payload, || match candidate.tag_kind {
            CosignTagKind::Attestations => {
                statement::read_statement(&signed.payload, subject, by, candidate.manifest, limits)
            }
            CosignTagKind::Signatures | CosignTagKind::Sboms => {
                simple_signing::read_simple_signing(
                    &signed.payload,
                    subject,
                    by,
                    candidate.manifest,
                    limits,
                )
            }
        });
        match read {
            Ok(statement) => verified.push(statement),
            Err(error) => faults.push(error),
        }
    }
    (verified, faults)
}

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
        CosignTagKind::Attestations => attestation::open_dsse_envelope(content, limits),
        CosignTagKind::Signatures | CosignTagKind::Sboms => {
            simple_signing::open_simple_signing(layer, content)
        }
    }
}

type TagAuthenticationResult =
    Result<(Vec<AuthenticatedSignature>, Vec<EvidenceError>), EvidenceError>;

fn authenticate_tag_layer(
    signed: &SignedTagLayer,
    subject: &Digest,
    candidate: &CosignTagCandidate,
    trust: &TrustedMaterial,
    limits: &InputLimits,
    effort: &CheckBudget<'_>,
) -> TagAuthenticationResult {
    let beneath = SignatureAnnotations::from_annotations(&candidate.layer.annotations)?;
    let is_signature = candidate.tag_kind == CosignTagKind::Signatures;
    // A signature covers its payload; the statement in an envelope names its own subject.
    let artifact = if is_signature {
        Artifact::from_blob(signed.message.bytes())
    } else {
        sigstore::manifest_artifact(subject)
    };
    let stored = SignedArtifact {
        artifact,
        format: StoredSignatureFormat::LegacySetOnly,
    };
    let size = signed.message.bytes().len();
    let explain = |error| {
        if is_signature {
            to_log_entry_mismatch(error)
        } else {
            error
        }
    };
    match &beneath.material {
        TagSigningMaterial::Certificate(_) => {
            let bundle = beneath.to_sigstore_bundle(signed, is_signature, limits)?;
            let by_root = |root| {
                effort.spend_check_for_bytes(size).and_then(|()| {
                    sigstore::authenticate_artifact(&bundle, &stored, std::slice::from_ref(root))
                })
            };
            Ok((
                collect_authenticated(trust.roots.iter().map(by_root)).map_err(explain)?,
                Vec::new(),
            ))
        }
        TagSigningMaterial::Key => {
            let key = find_signing_key(signed, trust, effort)?;
            let mut found = vec![key_only_signature(key, beneath.has_time_evidence())];
            let mut faults = Vec::new();
            if beneath.has_time_evidence() && !trust.key_trust_roots.is_empty() {
                match beneath.to_sigstore_bundle(signed, is_signature, limits) {
                    Ok(bundle) => {
                        let verify_with = |root| {
                            effort.spend_check_for_bytes(size).and_then(|()| {
                                sigstore::verify_artifact_time_evidence(root, &bundle, key, &stored)
                            })
                        };
                        let outcomes = trust
                            .key_trust_roots
                            .iter()
                            .map(|root| verify_with(root).map_err(explain));
                        outcomes.for_each(|outcome| match outcome {
                            Ok(signature) => found.push(signature),
                            Err(error) => faults.push(error),
                        });
                    }
                    Err(error) => faults.push(with_key_signer(key, &error)),
                }
            }
            Ok((found, faults))
        }
    }
}

/// Each key is tried with every hash that cosign uses with it.
fn find_signing_key<'a>(
    signed: &SignedTagLayer,
    trust: &'a TrustedMaterial,
    effort: &CheckBudget<'_>,
) -> Result<&'a VerificationKey, EvidenceError> {
    for key in &trust.keys {
        signed.message.spend_check(key, effort)?;
        if key::verifies_tag_signature(key, &signed.message, &signed.signature) {
            return Ok(key);
        }
    }
    Err(EvidenceError::NoMatchingKey {
        keys: trust.keys.len(),
    })
}

/// The verifier compares a signature's payload with itself, so a mismatch is one of the log entry.
fn to_log_entry_mismatch(error: EvidenceError) -> EvidenceError {
    match error {
        EvidenceError::Sigstore {
            reason: Reason::SubjectMismatch,
            message,
            signer,
        } => EvidenceError::Sigstore {
            reason: Reason::LogEntryMismatch,
            message,
            signer,
        },
        other => other,
    }
}

fn with_key_signer(key: &VerificationKey, error: &EvidenceError) -> EvidenceError {
    EvidenceError::Sigstore {
        reason: error.reason(),
        message: error.to_string(),
        signer: Some(SignerIdentity::Key {
            fingerprint: key.fingerprint(),
        }),
    }
}

fn key_only_signature(key: &VerificationKey, has_time_evidence: bool) -> AuthenticatedSignature {
    AuthenticatedSignature {
        signer: SignerIdentity::Key {
            fingerprint: key.fingerprint(),
        },
        root: None,
        time: SigningTime::Unknown,
        time_evidence: if has_time_evidence {
            TimeEvidenceStatus::Unchecked
        } else {
            TimeEvidenceStatus::Absent
        },
        logged: false,
        claims: CertificateClaims::default(),
        format: StoredSignatureFormat::Legacy,
        key: Some(key.key_identifiers()),
        validity: ValidityPeriod::default(),
    }
}
