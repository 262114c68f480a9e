//! `.att`: a DSSE envelope with an in-toto statement.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;
use serde_json::json;

use super::layer::SignedTagLayer;
use crate::core::{
    evidence::{EvidenceError, sanitize_text},
    json,
    limits::InputLimits,
    media_type,
};

/// A DSSE 1.0 envelope (DSSE, envelope.md).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TagDsseEnvelope {
    payload: String,
    payload_type: String,
    signatures: Vec<TagDsseSignature>,
}

#[derive(Deserialize)]
struct TagDsseSignature {
    sig: String,
}

/// The statement and the signature over its encoding. The statement is not parsed.
pub(super) fn open_dsse_envelope(
    content: &[u8],
    limits: &InputLimits,
) -> Result<SignedTagLayer, EvidenceError> {
    let envelope: TagDsseEnvelope =
        json::parse_strict(content, limits.sigstore_bundle_bytes, limits.json_depth)
            .map_err(EvidenceError::Envelope)?;
    let [TagDsseSignature { sig }] = &envelope.signatures[..] else {
        return Err(EvidenceError::Signatures(envelope.signatures.len()));
    };
    if envelope.payload_type != media_type::IN_TOTO {
        return Err(EvidenceError::PayloadType(sanitize_text(
            &envelope.payload_type,
        )));
    }
    let payload = BASE64
        .decode(&envelope.payload)
        .map_err(|_| EvidenceError::NotBase64("the payload of its DSSE envelope"))?;
    let signature = BASE64
        .decode(sig)
        .map_err(|_| EvidenceError::NotBase64("the signature in its DSSE envelope"))?;
    let signed_bytes = sigstore_types::pae(&envelope.payload_type, &payload);
    let content = json!({
        "payload": envelope.payload,
        "payloadType": envelope.payload_type,
        "signatures": [{"sig": sig}],
    });
    Ok(SignedTagLayer {
        signed_bytes,
        signature,
        payload,
        content: ("dsseEnvelope", content),
    })
}
