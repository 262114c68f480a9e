//! `.sig`: a "simple signing" payload names the signed manifest.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::json;

use super::{annotations, layer::SignedTagLayer};
use crate::core::{digest::Digest, evidence::EvidenceError, oci::Descriptor};

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
        signed_bytes: content.to_vec(),
        signature,
        payload: content.to_vec(),
        content: ("messageSignature", message),
    })
}
