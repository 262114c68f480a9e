//! Signatures and attestations under cosign's tags `.sig` and `.att` ([`crate::core::legacy`]).
//!
//! The order is that of bundles: bounds and shape, then the signature over the raw bytes, and only
//! then is the payload read. What differs:
//!
//! - A layer with a certificate is judged by that certificate alone, any other by keys alone. The
//!   annotations become a Sigstore bundle 0.1, which goes through the same adapter as every bundle.
//! - Rekor's annotation holds a promise (SET) and never an inclusion proof, so whatever rests on it
//!   is [`Format::LegacySetOnly`].
//! - cosign 2 hashes with SHA-256 whatever the curve, cosign 3 as the curve has it: both are tried,
//!   nothing else.
//! - The annotation with the certificate's chain is not read: what a certificate chains to is the
//!   trust root's to say.
//! - A timestamp without a log entry vouches for nothing here, and that beside an attestation is
//!   not read: cosign has the whole envelope stamped, not the signature.

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
    EvidenceError, Format, Rejected, Room, SignedAt, Signer, Trust, Validity, VerificationKey,
    Verified, Vouched, all_that_hold,
    effort::Effort,
    error::shorten,
    message::Message,
    sigstore::{self, Stored},
    statement,
    verified::{Authenticated, Claims},
};
use crate::core::{
    class::{Classified, Reason},
    digest::Digest,
    intoto::Statement,
    legacy::Beside,
    limits::Limits,
    oci::Descriptor,
};
use annotations::{Beneath, Material};

/// One layer of the manifest that a tag beside the subject names.
#[derive(Clone, Debug)]
pub struct LegacyCandidate {
    /// Which tag.
    pub beside: Beside,
    /// The manifest that it names.
    pub manifest: Digest,
    /// Which layer, from 1.
    pub position: usize,
    /// The layer's descriptor, with its annotations.
    pub layer: Descriptor,
    /// The layer's bytes.
    pub content: Bytes,
}

impl LegacyCandidate {
    /// It was refused because of `error`.
    pub(super) fn rejected(&self, error: &EvidenceError) -> Rejected {
        located(
            self.beside,
            Some(self.position),
            Rejected::new(self.manifest, error),
        )
    }

    /// A layer, or the manifest as a whole, could not be gathered because of `error`.
    pub fn unread(
        beside: Beside,
        manifest: Digest,
        position: Option<usize>,
        error: &dyn Classified,
    ) -> Rejected {
        located(beside, position, Rejected::unread(manifest, error))
    }

    /// The tag names an index.
    pub fn index(beside: Beside, index: Digest) -> Rejected {
        located(
            beside,
            None,
            Rejected::new(index, &EvidenceError::BesideIndex),
        )
    }
}

fn located(beside: Beside, position: Option<usize>, rejected: Rejected) -> Rejected {
    let layer = position
        .map(|position| format!("layer {position} of "))
        .unwrap_or_default();
    let message = shorten(&format!(
        "{layer}its {} tag: {}",
        beside.suffix(),
        rejected.message
    ));
    Rejected {
        message,
        ..rejected
    }
}

/// A layer whose shape was checked.
struct Signed {
    /// What the signature is over.
    message: Message,
    signature: Vec<u8>,
    /// What is said.
    payload: Vec<u8>,
    /// The same as the content of a Sigstore bundle.
    content: (&'static str, Value),
}

/// What holds, and what does not: never neither.
pub(super) fn judge(
    subject: &Digest,
    candidate: &LegacyCandidate,
    trust: &Trust,
    limits: &Limits,
    effort: &Effort<'_>,
    room: &mut Room,
) -> (Vec<Verified<Statement>>, Vec<EvidenceError>) {
    let opened = open(candidate, limits).and_then(|signed| {
        let (authenticated, faults) =
            authenticate(&signed, subject, candidate, trust, limits, effort)?;
        Ok((signed, authenticated, faults))
    });
    let (signed, authenticated, mut faults) = match opened {
        Ok(opened) => opened,
        Err(error) => return (Vec::new(), vec![error]),
    };
    let mut verified = Vec::new();
    for by in authenticated {
        let read = room.hold(&signed.payload, || match candidate.beside {
            Beside::Attestations => {
                statement::read(&signed.payload, subject, by, candidate.manifest, limits)
            }
            Beside::Signatures | Beside::Sboms => {
                simple_signing::read(&signed.payload, subject, by, candidate.manifest, limits)
            }
        });
        match read {
            Ok(statement) => verified.push(statement),
            Err(error) => faults.push(error),
        }
    }
    (verified, faults)
}

fn open(candidate: &LegacyCandidate, limits: &Limits) -> Result<Signed, EvidenceError> {
    let LegacyCandidate {
        beside,
        layer,
        content,
        ..
    } = candidate;
    if beside.layer_type() != Some(layer.media_type.as_str()) {
        return Err(EvidenceError::LayerType(shorten(&layer.media_type)));
    }
    let actual = Digest::of(content);
    if actual != layer.digest {
        return Err(EvidenceError::Content {
            expected: layer.digest,
            actual,
        });
    }
    match beside {
        Beside::Attestations => attestation::open(content, limits),
        Beside::Signatures | Beside::Sboms => simple_signing::open(layer, content),
    }
}

type Outcome = Result<(Vec<Authenticated>, Vec<EvidenceError>), EvidenceError>;

fn authenticate(
    signed: &Signed,
    subject: &Digest,
    candidate: &LegacyCandidate,
    trust: &Trust,
    limits: &Limits,
    effort: &Effort<'_>,
) -> Outcome {
    let beneath = Beneath::read(&candidate.layer.annotations)?;
    let is_signature = candidate.beside == Beside::Signatures;
    // A signature is over its payload; an envelope says itself what it is about.
    let artifact = if is_signature {
        Artifact::from_blob(signed.message.bytes())
    } else {
        sigstore::manifest(subject)
    };
    let stored = Stored {
        artifact,
        format: Format::LegacySetOnly,
    };
    let size = signed.message.bytes().len();
    let explain = |error| {
        if is_signature {
            misplaced(error)
        } else {
            error
        }
    };
    match &beneath.material {
        Material::Certificate(_) => {
            let bundle = beneath.bundle(signed, is_signature, limits)?;
            let by_root = |root| {
                effort.check_of(size).and_then(|()| {
                    sigstore::authenticate_stored(&bundle, &stored, std::slice::from_ref(root))
                })
            };
            Ok((
                all_that_hold(trust.roots.iter().map(by_root)).map_err(explain)?,
                Vec::new(),
            ))
        }
        Material::Key => {
            let key = signed_by(signed, trust, effort)?;
            let mut found = vec![by_key_alone(key, beneath.has_time_evidence())];
            let mut faults = Vec::new();
            if beneath.has_time_evidence() && !trust.vouching.is_empty() {
                match beneath.bundle(signed, is_signature, limits) {
                    Ok(bundle) => {
                        let vouch = |root| {
                            effort
                                .check_of(size)
                                .and_then(|()| sigstore::vouch_stored(root, &bundle, key, &stored))
                        };
                        let vouched = trust
                            .vouching
                            .iter()
                            .map(|root| vouch(root).map_err(explain));
                        vouched.for_each(|vouched| match vouched {
                            Ok(vouched) => found.push(vouched),
                            Err(error) => faults.push(error),
                        });
                    }
                    Err(error) => faults.push(concerning(key, &error)),
                }
            }
            Ok((found, faults))
        }
    }
}

/// Each key is tried with every hash that cosign uses with it.
fn signed_by<'a>(
    signed: &Signed,
    trust: &'a Trust,
    effort: &Effort<'_>,
) -> Result<&'a VerificationKey, EvidenceError> {
    for key in &trust.keys {
        signed.message.take(key, effort)?;
        if key::verifies(key, &signed.message, &signed.signature) {
            return Ok(key);
        }
    }
    Err(EvidenceError::OtherKey {
        keys: trust.keys.len(),
    })
}

/// The verifier compares a signature's payload with itself, so what does not match is the log
/// entry.
fn misplaced(error: EvidenceError) -> EvidenceError {
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

fn concerning(key: &VerificationKey, error: &EvidenceError) -> EvidenceError {
    EvidenceError::Sigstore {
        reason: error.reason(),
        message: error.to_string(),
        signer: Some(Signer::Key {
            fingerprint: key.fingerprint(),
        }),
    }
}

fn by_key_alone(key: &VerificationKey, has_time_evidence: bool) -> Authenticated {
    Authenticated {
        signer: Signer::Key {
            fingerprint: key.fingerprint(),
        },
        root: None,
        time: SignedAt::Unknown,
        vouched: if has_time_evidence {
            Vouched::Unchecked
        } else {
            Vouched::Absent
        },
        logged: false,
        claims: Claims::default(),
        format: Format::Legacy,
        key: Some(key.names()),
        validity: Validity::default(),
    }
}
