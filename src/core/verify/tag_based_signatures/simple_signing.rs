//! `.sig`: a "simple signing" payload names the signed manifest.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::json;

use super::{SignedTagLayer, annotations};
use crate::core::{
    cosign_tags::{SIMPLE_SIGNING_TYPE, SimpleSigningPayload},
    digest::Digest,
    intoto::{COSIGN_SIGN, Statement},
    json,
    limits::InputLimits,
    oci::Descriptor,
    verify::{
        EvidenceError, Verified, error::sanitize_text, signed_message::SignedMessage,
        verified::AuthenticatedSignature,
    },
};

/// The payload and the signature over it.
pub(super) fn open_simple_signing(
    layer: &Descriptor,
    content: &[u8],
) -> Result<SignedTagLayer, EvidenceError> {
    let signature = annotations::read_signature(&layer.annotations)?;
    let hash = Digest::of_bytes(content);
    let message = json!({
        "messageDigest": {"algorithm": "SHA2_256", "digest": BASE64.encode(hash.as_bytes())},
        "signature": BASE64.encode(&signature),
    });
    Ok(SignedTagLayer {
        message: SignedMessage::new(content.to_vec()),
        signature,
        payload: content.to_vec(),
        content: ("messageSignature", message),
    })
}

/// Parses the payload that `by` signed. It must be about exactly `subject`, and is then equivalent
/// to a statement of cosign's type.
pub(super) fn read_simple_signing(
    payload: &[u8],
    subject: &Digest,
    by: AuthenticatedSignature,
    manifest: Digest,
    limits: &InputLimits,
) -> Result<Verified<Statement>, EvidenceError> {
    let payload: SimpleSigningPayload =
        json::parse_strict(payload, limits.sigstore_bundle_bytes, limits.json_depth).map_err(
            |cause| EvidenceError::Statement {
                signer: by.signer.clone(),
                cause,
            },
        )?;
    let critical = payload.critical;
    if critical.kind != SIMPLE_SIGNING_TYPE {
        return Err(EvidenceError::StatementType {
            signer: by.signer,
            found: sanitize_text(&critical.kind),
        });
    }
    let named = critical.image.docker_manifest_digest;
    if named != subject.to_string() {
        return Err(EvidenceError::Subject {
            signer: by.signer,
            named: sanitize_text(&named),
        });
    }
    let statement = Statement::for_digest(
        critical.identity.docker_reference,
        subject,
        COSIGN_SIGN,
        json!({}),
    );
    Ok(Verified::new(statement, *subject, manifest, by))
}
