//! Entries of Rekor v1 (`dsse` and `hashedrekord` 0.0.1, with a promise) and of Rekor v2
//! (`hashedrekord` 0.0.2), in the form of bundles.

use aws_lc_rs::digest;
use serde_json::{Value, json};

use super::{
    Sigstore,
    key::{Algorithm, Key, base64, pem, sha256},
    log::{self, Log},
    pae,
};

/// The content of an entry. Its verifier is a certificate or a public key, in DER.
pub(crate) struct Signed<'a> {
    pub(crate) payload_type: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) signature: &'a [u8],
    pub(crate) certificate: Option<&'a [u8]>,
    pub(crate) spki: &'a [u8],
    pub(crate) algorithm: Algorithm,
}

/// The type of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Dsse001,
    HashedRekord001,
    HashedRekord002,
}

impl Kind {
    pub(crate) const fn is_v1(self) -> bool {
        !matches!(self, Self::HashedRekord002)
    }

    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Dsse001 => ("dsse", "0.0.1"),
            Self::HashedRekord001 => ("hashedrekord", "0.0.1"),
            Self::HashedRekord002 => ("hashedrekord", "0.0.2"),
        }
    }
}

/// The log's behaviour.
#[derive(Clone)]
pub(crate) struct Logging {
    pub(crate) kind: Kind,
    /// The integrated time of Rekor v1.
    pub(crate) time: i64,
    /// Whether there is a promise (SET). Rekor v1 only.
    pub(crate) promise: bool,
    /// The key that signs the promise. `None`: the log's.
    pub(crate) promise_key: Option<Key>,
    /// The key that signs the checkpoint. `None`: the log's.
    pub(crate) checkpoint_key: Option<Key>,
    /// The checkpoint's first line. `None`: the log's.
    pub(crate) origin: Option<&'static str>,
}

impl Logging {
    pub(crate) const fn new(kind: Kind, time: i64) -> Self {
        Self {
            kind,
            time,
            promise: kind.is_v1(),
            promise_key: None,
            checkpoint_key: None,
            origin: None,
        }
    }
}

impl Sigstore {
    /// Logs what was signed: an element of `tlogEntries`.
    pub(crate) fn log(&self, signed: &Signed<'_>, how: &Logging) -> Value {
        self.log_body(&body(signed, how.kind), how)
    }

    /// Logs this body unchecked.
    pub(crate) fn log_body(&self, body: &Value, how: &Logging) -> Value {
        let log = if how.kind.is_v1() {
            &self.rekor_v1
        } else {
            &self.rekor_v2
        };
        let body = serde_json_canonicalizer::to_vec(body).expect("JSON");
        let included = Log::include(&body);
        let (kind, version) = how.kind.names();
        let origin = how.origin.unwrap_or(log.origin);
        let checkpoint = log.checkpoint(
            how.checkpoint_key.as_ref().unwrap_or(&log.key),
            origin,
            included.size,
            &included.root,
        );
        let index = if how.kind.is_v1() {
            included.index + log::ELSEWHERE
        } else {
            included.index
        };
        let mut entry = json!({
            "logIndex": index.to_string(),
            "logId": {"keyId": base64(&log.id)},
            "kindVersion": {"kind": kind, "version": version},
            "inclusionProof": {
                "logIndex": included.index.to_string(),
                "rootHash": base64(&included.root),
                "treeSize": included.size.to_string(),
                "hashes": included.hashes.iter().map(|hash| base64(hash)).collect::<Vec<_>>(),
                "checkpoint": {"envelope": checkpoint},
            },
            "canonicalizedBody": base64(&body),
        });
        if how.kind.is_v1() {
            entry["integratedTime"] = how.time.to_string().into();
        }
        if how.promise {
            let key = how.promise_key.as_ref().unwrap_or(&log.key);
            entry["inclusionPromise"] = json!({
                "signedEntryTimestamp": base64(&key.sign(&promised(&body, how.time, index,
                    &log.id))),
            });
        }
        entry
    }
}

/// The signed bytes of a promise: canonical JSON.
fn promised(body: &[u8], time: i64, index: usize, id: &[u8; 32]) -> Vec<u8> {
    format!(
        r#"{{"body":"{}","integratedTime":{time},"logID":"{}","logIndex":{index}}}"#,
        base64(body),
        hex::encode(id)
    )
    .into_bytes()
}

/// The body of a log entry.
pub(crate) fn body(signed: &Signed<'_>, kind: Kind) -> Value {
    let verifier = signed.certificate.map_or_else(
        || pem("PUBLIC KEY", signed.spki),
        |certificate| pem("CERTIFICATE", certificate),
    );
    let (name, version) = kind.names();
    let spec = match kind {
        Kind::Dsse001 => dsse(signed, &verifier),
        Kind::HashedRekord001 => json!({
            "data": {
                "hash": {
                    "algorithm": "sha256",
                    "value": hex::encode(sha256(&pae(signed.payload_type, signed.payload))),
                },
            },
            "signature": {
                "content": base64(signed.signature),
                "publicKey": {"content": base64(verifier.as_bytes())},
            },
        }),
        Kind::HashedRekord002 => json!({"hashedRekordV002": hashed_rekord(signed)}),
    };
    json!({"apiVersion": version, "kind": name, "spec": spec})
}

fn dsse(signed: &Signed<'_>, verifier: &str) -> Value {
    let envelope = json!({
        "payload": base64(signed.payload),
        "payloadType": signed.payload_type,
        "signatures": [{"sig": base64(signed.signature)}],
    });
    json!({
        "envelopeHash": {
            "algorithm": "sha256",
            "value": hex::encode(sha256(envelope.to_string().as_bytes())),
        },
        "payloadHash": {"algorithm": "sha256", "value": hex::encode(sha256(signed.payload))},
        "signatures": [
            {"signature": base64(signed.signature), "verifier": base64(verifier.as_bytes())},
        ],
    })
}

fn hashed_rekord(signed: &Signed<'_>) -> Value {
    let (details, name, hash) = signed.algorithm.details();
    let mut verifier = json!({"keyDetails": details});
    match signed.certificate {
        Some(certificate) => verifier["x509Certificate"] = json!({"rawBytes": base64(certificate)}),
        None => verifier["publicKey"] = json!({"rawBytes": base64(signed.spki)}),
    }
    let digest = digest::digest(hash, &pae(signed.payload_type, signed.payload));
    json!({
        "data": {"algorithm": name, "digest": base64(digest.as_ref())},
        "signature": {"content": base64(signed.signature), "verifier": verifier},
    })
}
