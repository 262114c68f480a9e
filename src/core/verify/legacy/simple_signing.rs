//! `.sig`: a payload of "simple signing" says which manifest was signed.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::json;

use super::{Signed, annotations};
use crate::core::{
    digest::Digest,
    intoto::{COSIGN_SIGN, Statement},
    json,
    legacy::{SIMPLE_SIGNING_TYPE, SimpleSigning},
    limits::Limits,
    oci::Descriptor,
    verify::{EvidenceError, Verified, error::shorten, message::Message, verified::Authenticated},
};

/// The payload and the signature over it.
pub(super) fn open(layer: &Descriptor, content: &[u8]) -> Result<Signed, EvidenceError> {
    let signature = annotations::signature(&layer.annotations)?;
    let hash = Digest::of(content);
    let message = json!({
        "messageDigest": {"algorithm": "SHA2_256", "digest": BASE64.encode(hash.bytes())},
        "signature": BASE64.encode(&signature),
    });
    Ok(Signed {
        message: Message::new(content.to_vec()),
        signature,
        payload: content.to_vec(),
        content: ("messageSignature", message),
    })
}

/// Reads the payload that `by` signed. It must be about exactly `subject`, and is then worth what a
/// statement of cosign's type is worth.
pub(super) fn read(
    payload: &[u8],
    subject: &Digest,
    by: Authenticated,
    manifest: Digest,
    limits: &Limits,
) -> Result<Verified<Statement>, EvidenceError> {
    let payload: SimpleSigning =
        json::parse(payload, limits.sigstore_bundle_bytes, limits.json_depth).map_err(|cause| {
            EvidenceError::Statement {
                signer: by.signer.clone(),
                cause,
            }
        })?;
    let critical = payload.critical;
    if critical.kind != SIMPLE_SIGNING_TYPE {
        return Err(EvidenceError::StatementType {
            signer: by.signer,
            found: shorten(&critical.kind),
        });
    }
    let named = critical.image.docker_manifest_digest;
    if named != subject.to_string() {
        return Err(EvidenceError::Subject {
            signer: by.signer,
            named: shorten(&named),
        });
    }
    let statement = Statement::about(
        critical.identity.docker_reference,
        subject,
        COSIGN_SIGN,
        json!({}),
    );
    Ok(Verified::new(statement, *subject, manifest, by))
}
