//! What lies beneath a signature under cosign's tags, in the annotations of its layer: certificate,
//! log entry, timestamp.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Signed;
use crate::core::{
    class::Reason,
    json,
    legacy::{CERTIFICATE, LOG_ENTRY, SIGNATURE, TIMESTAMP},
    limits::Limits,
    oci::Annotations,
    sigstore_bundle::SigstoreBundle,
    verify::EvidenceError,
};

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// What a layer says that its signature can be verified with.
pub(super) enum Material {
    /// A key that the verifier has already.
    Key,
    /// This certificate, in DER.
    Certificate(Vec<u8>),
}

/// What is there. Annotations that are empty are not: cosign writes some of them so.
pub(super) struct Beneath<'a> {
    pub(super) material: Material,
    log_entry: Option<&'a str>,
    timestamp: Option<&'a str>,
}

/// The signature of a `.sig` layer.
pub(super) fn signature(annotations: &Annotations) -> Result<Vec<u8>, EvidenceError> {
    let text = find(annotations, SIGNATURE).ok_or_else(|| wrong(SIGNATURE, "is missing"))?;
    BASE64
        .decode(text)
        .map_err(|_| wrong(SIGNATURE, "is not base64"))
}

fn find<'a>(annotations: &'a Annotations, name: &str) -> Option<&'a str> {
    annotations
        .get(name)
        .map(String::as_str)
        .filter(|text| !text.is_empty())
}

fn wrong(name: &'static str, problem: impl Into<String>) -> EvidenceError {
    EvidenceError::Annotation {
        name,
        problem: problem.into(),
    }
}

impl<'a> Beneath<'a> {
    pub(super) fn read(annotations: &'a Annotations) -> Result<Self, EvidenceError> {
        let material = match find(annotations, CERTIFICATE) {
            Some(pem) => Material::Certificate(certificate(pem)?),
            None => Material::Key,
        };
        Ok(Self {
            material,
            log_entry: find(annotations, LOG_ENTRY),
            timestamp: find(annotations, TIMESTAMP),
        })
    }

    /// Does it carry anybody's word on when it was signed?
    pub(super) const fn has_time_evidence(&self) -> bool {
        self.log_entry.is_some() || self.timestamp.is_some()
    }

    /// The same as a Sigstore bundle 0.1, the only version in which a log's promise is enough. With
    /// its timestamp if that is over the signature.
    pub(super) fn bundle(
        &self,
        signed: &Signed,
        stamped: bool,
        limits: &Limits,
    ) -> Result<SigstoreBundle, EvidenceError> {
        let entry = log_entry(self.log_entry.ok_or_else(without_entry)?, limits)?;
        let stamps = if stamped {
            self.timestamp
                .map(|text| timestamp(text, limits))
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
            Material::Certificate(der) => (
                "x509CertificateChain",
                json!({"certificates": [{"rawBytes": BASE64.encode(der)}]}),
            ),
            Material::Key => ("publicKey", json!({"hint": ""})),
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

fn without_entry() -> EvidenceError {
    let message =
        "it has no log entry, and in this form only a log's promise vouches for a time".to_owned();
    EvidenceError::Sigstore {
        reason: Reason::NoTrustedTime,
        message,
        signer: None,
    }
}

/// Exactly one certificate: of two, which one is meant would be the reader's choice. A bare key is
/// none.
fn certificate(pem: &str) -> Result<Vec<u8>, EvidenceError> {
    let body = pem
        .trim()
        .strip_prefix(BEGIN)
        .and_then(|rest| rest.strip_suffix(END));
    let body = body.ok_or_else(|| wrong(CERTIFICATE, "is not one PEM block \"CERTIFICATE\""))?;
    let base64: String = body.split_ascii_whitespace().collect();
    BASE64
        .decode(base64)
        .map_err(|_| wrong(CERTIFICATE, "is not one PEM block \"CERTIFICATE\""))
}

/// cosign's `RekorBundle`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Promise {
    signed_entry_timestamp: String,
    payload: Entry,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    body: String,
    integrated_time: u64,
    log_index: u64,
    #[serde(rename = "logID")]
    log_id: String,
}

/// The beginning of a log entry's body.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    kind: String,
    api_version: String,
}

fn log_entry(text: &str, limits: &Limits) -> Result<Value, EvidenceError> {
    let read = |error: json::JsonError| wrong(LOG_ENTRY, format!("cannot be read: {error}"));
    let promise: Promise = json::parse(
        text.as_bytes(),
        limits.sigstore_bundle_bytes,
        limits.json_depth,
    )
    .map_err(read)?;
    let Entry {
        body,
        integrated_time,
        log_index,
        log_id,
    } = promise.payload;
    let decoded = BASE64
        .decode(&body)
        .map_err(|_| wrong(LOG_ENTRY, "has a body that is not base64"))?;
    let Body { kind, api_version } =
        json::parse(&decoded, limits.sigstore_bundle_bytes, limits.json_depth).map_err(read)?;
    let key_id = hex(&log_id).ok_or_else(|| {
        wrong(
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
fn hex(text: &str) -> Option<[u8; 32]> {
    let digest: crate::core::digest::Digest = format!("sha256:{text}").parse().ok()?;
    Some(*digest.bytes())
}

/// cosign's `RFC3161Timestamp`.
#[derive(Deserialize)]
struct Stamp {
    #[serde(rename = "SignedRFC3161Timestamp")]
    signed: String,
}

fn timestamp(text: &str, limits: &Limits) -> Result<Value, EvidenceError> {
    let stamp: Stamp = json::parse(
        text.as_bytes(),
        limits.sigstore_bundle_bytes,
        limits.json_depth,
    )
    .map_err(|error| wrong(TIMESTAMP, format!("cannot be read: {error}")))?;
    Ok(json!({"signedTimestamp": stamp.signed}))
}
