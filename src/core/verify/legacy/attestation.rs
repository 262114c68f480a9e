//! `.att`: a DSSE envelope with an in-toto statement.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;
use serde_json::json;

use super::Signed;
use crate::core::{
    json,
    limits::Limits,
    media_type,
    verify::{EvidenceError, error::shorten, message::Message},
};

/// DSSE 1.0, envelope.md.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    sig: String,
}

/// The statement and the signature over its encoding. Nothing of the statement is read.
pub(super) fn open(content: &[u8], limits: &Limits) -> Result<Signed, EvidenceError> {
    let envelope: Envelope = json::parse(content, limits.sigstore_bundle_bytes, limits.json_depth)
        .map_err(EvidenceError::Envelope)?;
    let [Signature { sig }] = &envelope.signatures[..] else {
        return Err(EvidenceError::Signatures(envelope.signatures.len()));
    };
    if envelope.payload_type != media_type::IN_TOTO {
        return Err(EvidenceError::PayloadType(shorten(&envelope.payload_type)));
    }
    let payload = BASE64
        .decode(&envelope.payload)
        .map_err(|_| EvidenceError::NotBase64("the payload of its DSSE envelope"))?;
    let signature = BASE64
        .decode(sig)
        .map_err(|_| EvidenceError::NotBase64("the signature in its DSSE envelope"))?;
    let message = sigstore_types::pae(&envelope.payload_type, &payload);
    let content = json!({
        "payload": envelope.payload,
        "payloadType": envelope.payload_type,
        "signatures": [{"sig": sig}],
    });
    Ok(Signed {
        message: Message::new(message),
        signature,
        payload,
        content: ("dsseEnvelope", content),
    })
}
