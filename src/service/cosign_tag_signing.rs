//! Signing and attesting in cosign's older format: another layer under the tag `.sig` or `.att` of
//! the subject.
//!
//! For registries and verifiers without support for referrers. Existing layers, and those that
//! other writers add at the same time, are kept.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::json;
use sigstore_types::bundle::VerificationMaterialContent;

use super::{
    cosign_tags,
    sign::{AttestationClaim, SignError, check_signable},
};
use crate::{
    core::{
        cosign_tags::{
            CosignTagKind, DSSE, PREDICATE_TYPE, SIGNATURE, SIMPLE_SIGNING, SimpleSigningPayload,
        },
        digest::Digest,
        dsse,
        intoto::Statement,
        limits::InputLimits,
        media_type,
        oci::{Annotations, Descriptor},
    },
    oci::{ContentTarget, PushContent},
    signing::Signer,
};

/// Signs `subject` in `repository`, as `cosign sign` did. Returns the digest of the manifest that
/// the tag names afterwards.
pub async fn sign_with_cosign_tag(
    target: &dyn ContentTarget,
    subject: &Descriptor,
    repository: &str,
    signer: &dyn Signer,
) -> Result<Digest, SignError> {
    check_signable(subject)?;
    let payload = serde_json::to_vec(&SimpleSigningPayload::for_image(
        repository,
        &subject.digest,
    ))?;
    let signature = sign_with_key(signer, &payload).await?;
    let annotations = Annotations::from([(SIGNATURE.to_owned(), BASE64.encode(signature))]);
    add_signed_layer(
        target,
        CosignTagKind::Signatures,
        subject,
        SIMPLE_SIGNING,
        payload,
        annotations,
    )
    .await
}

/// Attests `subject`, as `cosign attest` did. Returns the digest of the manifest that the tag names
/// afterwards.
pub async fn attest_with_cosign_tag(
    target: &dyn ContentTarget,
    subject: &Descriptor,
    claim: AttestationClaim<'_>,
    signer: &dyn Signer,
) -> Result<Digest, SignError> {
    check_signable(subject)?;
    let AttestationClaim {
        subject_name,
        predicate_type,
        predicate,
    } = claim;
    let statement = serde_json::to_vec(&Statement::for_digest(
        subject_name,
        &subject.digest,
        predicate_type,
        predicate,
    ))?;
    let signature = BASE64.encode(sign_with_key(signer, &dsse::statement_pae(&statement)).await?);
    let envelope = json!({
        "payloadType": media_type::IN_TOTO,
        "payload": BASE64.encode(&statement),
        "signatures": [{"keyid": "", "sig": signature}],
    });
    let annotations = [(SIGNATURE, ""), (PREDICATE_TYPE, predicate_type)];
    let annotations = annotations
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into_iter()
        .collect();
    add_signed_layer(
        target,
        CosignTagKind::Attestations,
        subject,
        DSSE,
        serde_json::to_vec(&envelope)?,
        annotations,
    )
    .await
}

/// A signature by a key. A certificate would be useless here without a log's inclusion promise,
/// which is not requested.
async fn sign_with_key(signer: &dyn Signer, message: &[u8]) -> Result<Vec<u8>, SignError> {
    let signature = signer.sign(message).await?;
    match signature.material.content {
        VerificationMaterialContent::PublicKey(_) => Ok(signature.bytes.as_bytes().to_vec()),
        _ => Err(SignError::NotByKey),
    }
}

async fn add_signed_layer(
    target: &dyn ContentTarget,
    tag: CosignTagKind,
    subject: &Descriptor,
    media_type: &str,
    content: Vec<u8>,
    annotations: Annotations,
) -> Result<Digest, SignError> {
    let limits = &InputLimits::DEFAULT;
    if content.len() > limits.sigstore_bundle_bytes {
        return Err(SignError::TooLarge {
            size: content.len(),
            limit: limits.sigstore_bundle_bytes,
        });
    }
    let layer = Descriptor {
        annotations,
        ..Descriptor::of_bytes(media_type, &content)
    };
    target
        .push_content(
            &layer.without_metadata(),
            PushContent::Bytes(&content.into()),
        )
        .await?;
    Ok(cosign_tags::add_cosign_layers(target, tag, &subject.digest, &[layer], limits).await?)
}
