//! The verification material of a signature under cosign's tags, from the annotations of its layer:
//! certificate, log entry, timestamp.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;
use serde_json::{Value, json};

use super::layer::SignedTagLayer;
use crate::core::{
    cosign_tags::{CERTIFICATE, LOG_ENTRY, SIGNATURE, TIMESTAMP},
    digest::Digest,
    evidence::EvidenceError,
    json,
    limits::InputLimits,
    oci::Annotations,
    pem::{decode_pem_body, only_pem_block},
    reason::Reason,
    sigstore_bundle::SigstoreBundle,
};

/// The material that a layer's signature is verified with.
pub(super) enum TagSigningMaterial {
    /// A key that the verifier has.
    Key,
    /// This certificate, in DER.
    Certificate(Vec<u8>),
}

/// The annotations that are not empty: cosign writes some empty ones.
pub(super) struct SignatureAnnotations<'a> {
    pub(super) material: TagSigningMaterial,
    log_entry: Option<&'a str>,
    timestamp: Option<&'a str>,
}

/// The signature of a `.sig` layer.
pub(super) fn read_signature(annotations: &Annotations) -> Result<Vec<u8>, EvidenceError> {
    let text = find_annotation(annotations, SIGNATURE)
        .ok_or_else(|| annotation_error(SIGNATURE, "is missing"))?;
    BASE64
        .decode(text)
        .map_err(|_| annotation_error(SIGNATURE, "is not base64"))
}

fn find_annotation<'a>(annotations: &'a Annotations, name: &str) -> Option<&'a str> {
    annotations
        .get(name)
        .map(String::as_str)
        .filter(|text| !text.is_empty())
}

fn annotation_error(name: &'static str, problem: impl Into<String>) -> EvidenceError {
    EvidenceError::Annotation {
        name,
        problem: problem.into(),
    }
}

impl<'a> SignatureAnnotations<'a> {
    pub(super) fn from_annotations(annotations: &'a Annotations) -> Result<Self, EvidenceError> {
        let material = match find_annotation(annotations, CERTIFICATE) {
            Some(pem) => TagSigningMaterial::Certificate(decode_certificate(pem)?),
            None => TagSigningMaterial::Key,
        };
        Ok(Self {
            material,
            log_entry: find_annotation(annotations, LOG_ENTRY),
            timestamp: find_annotation(annotations, TIMESTAMP),
        })
    }

    /// True if the layer has evidence of the signing time.
    pub(super) const fn has_time_evidence(&self) -> bool {
        self.log_entry.is_some() || self.timestamp.is_some()
    }

    /// As a Sigstore bundle 0.1, the only version in which an inclusion promise is sufficient. With
    /// its timestamp if that is over the signature.
    pub(super) fn to_sigstore_bundle(
        &self,
        signed: &SignedTagLayer,
        stamped: bool,
        limits: &InputLimits,
    ) -> Result<SigstoreBundle, EvidenceError> {
        let entry = parse_log_entry(self.log_entry.ok_or_else(missing_log_entry_error)?, limits)?;
        let stamps = if stamped {
            self.timestamp
                .map(|text| parse_timestamp(text, limits))
                .transpose()?
        } else {
            None
        };
        let mut material = json!({
            "tlogEntries": [entry],
            "timestampVerificationData": {
                "rfc3161Timestamps": stamps.into_iter().collect::<Vec<_>>(),
            },
        });
        let (field, value) = match &self.material {
            TagSigningMaterial::Certificate(der) => (
                "x509CertificateChain",
                json!({"certificates": [{"rawBytes": BASE64.encode(der)}]}),
            ),
            TagSigningMaterial::Key => ("publicKey", json!({"hint": ""})),
        };
        material[field] = value;
        let (field, content) = &signed.content;
        let mut bundle = json!({
            "mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.1",
            "verificationMaterial": material,
        });
        bundle[*field] = content.clone();
        Ok(SigstoreBundle::parse(
            bundle.to_string().as_bytes(),
            limits,
        )?)
    }
}

fn missing_log_entry_error() -> EvidenceError {
    let message =
        "it has no log entry, and in this form only a log's signed entry timestamp proves a signing time".to_owned();
    EvidenceError::Sigstore {
        reason: Reason::NoTrustedTime,
        message,
        signer: None,
    }
}

/// Exactly one certificate: with two, which one is meant would be ambiguous. A bare key is not a
/// certificate.
fn decode_certificate(pem: &str) -> Result<Vec<u8>, EvidenceError> {
    only_pem_block("CERTIFICATE", pem)
        .and_then(decode_pem_body)
        .ok_or_else(|| annotation_error(CERTIFICATE, "is not one PEM block \"CERTIFICATE\""))
}

/// cosign's `RekorBundle` annotation.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RekorBundleAnnotation {
    signed_entry_timestamp: String,
    payload: RekorBundlePayload,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RekorBundlePayload {
    body: String,
    integrated_time: u64,
    log_index: u64,
    #[serde(rename = "logID")]
    log_id: String,
}

/// The first fields of a log entry's body.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RekorBundleEntryBody {
    kind: String,
    api_version: String,
}

fn parse_log_entry(text: &str, limits: &InputLimits) -> Result<Value, EvidenceError> {
    let read =
        |error: json::JsonError| annotation_error(LOG_ENTRY, format!("cannot be read: {error}"));
    let promise: RekorBundleAnnotation = json::parse_strict(
        text.as_bytes(),
        limits.sigstore_bundle_bytes,
        limits.json_depth,
    )
    .map_err(read)?;
    let RekorBundlePayload {
        body,
        integrated_time,
        log_index,
        log_id,
    } = promise.payload;
    let decoded = BASE64
        .decode(&body)
        .map_err(|_| annotation_error(LOG_ENTRY, "has a body that is not base64"))?;
    let RekorBundleEntryBody { kind, api_version } =
        json::parse_strict(&decoded, limits.sigstore_bundle_bytes, limits.json_depth)
            .map_err(read)?;
    let key_id = parse_log_id(&log_id).ok_or_else(|| {
        annotation_error(
            LOG_ENTRY,
            "has a logID that is not the hexadecimal SHA-256 of a key",
        )
    })?;
    Ok(json!({
        "logIndex": log_index.to_string(),
        "logId": {"keyId": BASE64.encode(key_id)},
        "kindVersion": {"kind": kind, "version": api_version},
        "integratedTime": integrated_time.to_string(),
        "inclusionPromise": {"signedEntryTimestamp": promise.signed_entry_timestamp},
        "canonicalizedBody": body,
    }))
}

/// The bytes of a digest in lower-case hexadecimal.
fn parse_log_id(text: &str) -> Option<[u8; 32]> {
    let digest: Digest = format!("sha256:{text}").parse().ok()?;
    Some(*digest.as_bytes())
}

/// cosign's `RFC3161Timestamp`.
#[derive(Deserialize)]
struct TimestampAnnotation {
    #[serde(rename = "SignedRFC3161Timestamp")]
    signed: String,
}

fn parse_timestamp(text: &str, limits: &InputLimits) -> Result<Value, EvidenceError> {
    let stamp: TimestampAnnotation = json::parse_strict(
        text.as_bytes(),
        limits.sigstore_bundle_bytes,
        limits.json_depth,
    )
    .map_err(|error| annotation_error(TIMESTAMP, format!("cannot be read: {error}")))?;
    Ok(json!({"signedTimestamp": stamp.signed}))
}
