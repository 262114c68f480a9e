//! Entries of a transparency log: Rekor 1 (`dsse` and `hashedrekord` 0.0.1) and Rekor 2
//! (`hashedrekord` 0.0.2).
//!
//! Source: rekor, `pkg/types/{dsse,hashedrekord}`, and rekor-tiles, `rekor/v2/hashedrekord.proto`.
//! Rekor 2 does not support envelopes: it logs the digest of the DSSE pre-authentication encoding,
//! as sigstore-go does it.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;
use sigstore_rekor::LogEntry;
use sigstore_types::{KindVersion, TransparencyLogEntry};

use super::{RekorVersion, SigstoreResponseError};
use crate::core::digest::Digest;

/// The signature to log, and what it covers.
#[derive(Clone, Copy, Debug)]
pub struct ProposedRekorEntry<'a> {
    pub signed: RekorSignedContent<'a>,
    pub signature: &'a [u8],
    /// The key or certificate that verifies it.
    pub verifier: RekorVerifier<'a>,
}

#[derive(Clone, Copy, Debug)]
pub enum RekorSignedContent<'a> {
    /// A DSSE envelope.
    Envelope {
        /// As JSON, with the signature.
        json: &'a str,
        /// The SHA-256 of its pre-authentication encoding.
        digest: &'a Digest,
    },
    /// Plain bytes.
    Message {
        /// The SHA-256 digest of the bytes.
        digest: &'a Digest,
    },
}

/// The key of a signature, in both encodings that logs need.
#[derive(Clone, Copy, Debug)]
pub enum RekorVerifier<'a> {
    /// A key in a certificate.
    Certificate { der: &'a [u8], pem: &'a str },
    /// A plain key.
    PublicKey { der: &'a [u8], pem: &'a str },
}

/// The path of a request, below the log's URL.
pub const fn entries_path(version: RekorVersion) -> &'static str {
    match version {
        RekorVersion::V1 => "api/v1/log/entries",
        RekorVersion::V2 => "api/v2/log/entries",
    }
}

/// The prefix of the DER of every ECDSA P-256 public key (RFC 5480, section 2; the point is not
/// compressed).
const P256: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];

/// True for an ECDSA P-256 key (DER, `SubjectPublicKeyInfo`).
pub fn is_p256(spki: &[u8]) -> bool {
    spki.starts_with(&P256)
}

/// The body of a request. For version 2 only with ECDSA P-256 keys.
pub fn entry_request_body(version: RekorVersion, entry: &ProposedRekorEntry<'_>) -> Vec<u8> {
    let body = match (version, entry.signed) {
        (RekorVersion::V1, RekorSignedContent::Envelope { json, .. }) => json!({
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "proposedContent": {
                    "envelope": json,
                    "verifiers": [STANDARD.encode(entry.verifier.pem())],
                },
            },
        }),
        (RekorVersion::V1, RekorSignedContent::Message { digest }) => json!({
            "apiVersion": "0.0.1",
            "kind": "hashedrekord",
            "spec": {
                "data": {"hash": {"algorithm": "sha256", "value": digest.hex_digits()}},
                "signature": {
                    "content": STANDARD.encode(entry.signature),
                    "publicKey": {"content": STANDARD.encode(entry.verifier.pem())},
                },
            },
        }),
        (
            RekorVersion::V2,
            RekorSignedContent::Envelope { digest, .. } | RekorSignedContent::Message { digest },
        ) => json!({
            "hashedRekordRequestV002": {
                "digest": STANDARD.encode(digest.as_bytes()),
                "signature": {
                    "content": STANDARD.encode(entry.signature),
                    "verifier": entry.verifier.rekor_v2_json(),
                },
            },
        }),
    };
    body.to_string().into_bytes()
}

impl RekorVerifier<'_> {
    const fn pem(&self) -> &str {
        match self {
            Self::Certificate { pem, .. } | Self::PublicKey { pem, .. } => pem,
        }
    }

    fn rekor_v2_json(&self) -> serde_json::Value {
        let (field, der) = match self {
            Self::Certificate { der, .. } => ("x509Certificate", der),
            Self::PublicKey { der, .. } => ("publicKey", der),
        };
        json!({"keyDetails": "PKIX_ECDSA_P256_SHA_256", field: {"rawBytes": STANDARD.encode(der)}})
    }
}

/// Parses the response of a log: the entry in the form of Sigstore bundles.
pub fn parse_log_entry(
    version: RekorVersion,
    signed: &RekorSignedContent<'_>,
    body: &[u8],
) -> Result<TransparencyLogEntry, SigstoreResponseError> {
    let unreadable = |error: &dyn std::fmt::Display| {
        SigstoreResponseError::new(format!("the response cannot be read: {error}"))
    };
    match version {
        RekorVersion::V2 => serde_json::from_slice(body).map_err(|error| unreadable(&error)),
        RekorVersion::V1 => {
            let entries: BTreeMap<String, LogEntry> =
                serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
            let mut entries = entries.into_values();
            let (Some(entry), None) = (entries.next(), entries.next()) else {
                return Err(SigstoreResponseError::new(
                    "the response must contain exactly one entry",
                ));
            };
            let kind = match signed {
                RekorSignedContent::Envelope { .. } => KindVersion::DsseV001,
                RekorSignedContent::Message { .. } => KindVersion::HashedRekordV001,
            };
            entry
                .to_bundle_entry(kind)
                .map_err(|error| unreadable(&error))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const CERTIFICATE: RekorVerifier<'static> = RekorVerifier::Certificate {
        der: b"der",
        pem: "pem",
    };
    const KEY: RekorVerifier<'static> = RekorVerifier::PublicKey {
        der: b"der",
        pem: "pem",
    };

    fn asked(
        version: RekorVersion,
        signed: RekorSignedContent<'_>,
        verifier: RekorVerifier<'_>,
    ) -> Value {
        let body = entry_request_body(
            version,
            &ProposedRekorEntry {
                signed,
                signature: b"sig",
                verifier,
            },
        );
        serde_json::from_slice(&body).expect("JSON")
    }

    #[test]
    fn requests_are_the_documented_ones() {
        let digest = Digest::of_bytes(b"test");
        let hex = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let envelope = RekorSignedContent::Envelope {
            json: "{}",
            digest: &digest,
        };
        let message = RekorSignedContent::Message { digest: &digest };
        let dsse = json!({
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {"proposedContent": {"envelope": "{}", "verifiers": ["cGVt"]}},
        });
        assert_eq!(asked(RekorVersion::V1, envelope, CERTIFICATE), dsse);
        assert_eq!(asked(RekorVersion::V1, envelope, KEY), dsse);
        let hashed = json!({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {"data": {
            "hash": {"algorithm": "sha256", "value": hex},
        },
            "signature": {"content": "c2ln", "publicKey": {"content": "cGVt"}}}});
        assert_eq!(asked(RekorVersion::V1, message, CERTIFICATE), hashed);
        for (verifier, field) in [(CERTIFICATE, "x509Certificate"), (KEY, "publicKey")] {
            let expected = json!({"hashedRekordRequestV002": {"digest": "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=",
            "signature": {
                "content": "c2ln",
                "verifier": {"keyDetails": "PKIX_ECDSA_P256_SHA_256", field: {"rawBytes": "ZGVy"}},
            }}});
            assert_eq!(asked(RekorVersion::V2, envelope, verifier), expected);
            assert_eq!(asked(RekorVersion::V2, message, verifier), expected);
        }
    }

    #[test]
    fn answers_become_entries_of_a_bundle() {
        let digest = Digest::of_bytes(b"test");
        let message = RekorSignedContent::Message { digest: &digest };
        let log = "00".repeat(32);
        let body = json!({
            "24296fb": {
                "body": "e30=",
                "integratedTime": 1_700_000_000,
                "logID": log,
                "logIndex": 7,
            },
        });
        let found = parse_log_entry(RekorVersion::V1, &message, body.to_string().as_bytes())
            .expect("an entry");
        assert_eq!(
            (found.log_index.get(), found.kind_version),
            (7, KindVersion::HashedRekordV001)
        );
        let envelope = RekorSignedContent::Envelope {
            json: "",
            digest: &digest,
        };
        let found = parse_log_entry(RekorVersion::V1, &envelope, body.to_string().as_bytes())
            .expect("an entry");
        assert_eq!(found.kind_version, KindVersion::DsseV001);
        let body = json!({
            "logId": {"keyId": "QQ=="},
            "kindVersion": {"kind": "hashedrekord", "version": "0.0.2"},
            "canonicalizedBody": "e30=",
        });
        let found = parse_log_entry(RekorVersion::V2, &message, body.to_string().as_bytes())
            .expect("an entry");
        assert_eq!(
            (found.log_index.get(), found.kind_version),
            (0, KindVersion::HashedRekordV002)
        );
    }

    #[test]
    fn other_answers_are_refused() {
        let digest = Digest::of_bytes(b"test");
        let message = RekorSignedContent::Message { digest: &digest };
        for (version, body) in [
            (RekorVersion::V1, "{}"),
            (RekorVersion::V1, "[]"),
            (RekorVersion::V1, r#"{"a":{"body":"e30="}}"#),
            (RekorVersion::V2, "{}"),
        ] {
            assert!(
                parse_log_entry(version, &message, body.as_bytes()).is_err(),
                "{body}"
            );
        }
    }
}
