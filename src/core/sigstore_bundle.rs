//! Sigstore bundles, version 0.3 (0.1 and 0.2 are read as well): a signature with what is needed to
//! verify it.
//!
//! Source: sigstore protobuf-specs, `sigstore_bundle.proto`. Parsing checks structure and limits
//! only: sizes, counts, and that the document is unambiguous.
//!
//! What is *not* checked here: any signature, certificate, log entry or timestamp. That is
//! `core::verify`.

use std::collections::HashSet;

use serde::{Deserialize, de::IgnoredAny};
use sigstore_types::{
    Bundle, DsseEnvelope, SignatureContent, TransparencyLogEntry,
    bundle::VerificationMaterialContent,
};

use super::{
    json::{self, JsonError},
    limits::InputLimits,
    reason::{Reason, classify},
};

/// Certificates in the chain of a 0.1 or 0.2 bundle. Bounds path building; Fulcio's own chains have
/// three.
const MAX_CERTIFICATES: usize = 8;

/// A bundle with a valid structure. Nothing in it is authenticated.
#[derive(Clone, Debug)]
pub struct SigstoreBundle(Bundle);

/// The verification material in a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BundleVerificationMaterial<'a> {
    /// A key that the verifier has; the hint may help to find it and proves nothing.
    PublicKey {
        /// cosign writes base64 of the SHA-256 of the key's SPKI.
        hint: &'a str,
    },
    /// A certificate inside the bundle.
    Certificate,
}

/// Why bytes are not a supported bundle.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum SigstoreBundleError {
    /// Too large, not JSON, nested too deep, a duplicate key, or a field is missing or of another
    /// type.
    #[error("Sigstore bundle cannot be read: {0}")]
    Json(#[from] JsonError),
    /// The fields do not conform to the format; for example two signatures in one envelope.
    #[error("Sigstore bundle cannot be read: {0}")]
    Format(#[from] sigstore_types::Error),
    #[error("Sigstore bundle is not UTF-8")]
    NotText,
    #[error("Sigstore bundle must have exactly one of {alternatives}, it has {count}")]
    Alternatives {
        alternatives: &'static str,
        count: usize,
    },
    #[error("Sigstore bundle has {count} {what}, the limit is {limit}")]
    TooMany {
        what: &'static str,
        count: usize,
        limit: usize,
    },
    #[error("Sigstore bundle has two entries of one transparency log")]
    DuplicateLog,
}

classify!(SigstoreBundleError, |error| match error {
    Self::TooMany { .. } | Self::Json(JsonError::TooLarge { .. }) => Reason::LimitExceeded,
    _ => Reason::MalformedEvidence,
});

impl SigstoreBundle {
    /// Parses a bundle of at most `limits.sigstore_bundle_bytes`. Counts are checked before
    /// anything is decoded.
    pub fn parse(bytes: &[u8], limits: &InputLimits) -> Result<Self, SigstoreBundleError> {
        let shape: SigstoreBundleShape =
            json::parse_strict(bytes, limits.sigstore_bundle_bytes, limits.json_depth)?;
        shape.check_limits(limits)?;
        let text = std::str::from_utf8(bytes).map_err(|_| SigstoreBundleError::NotText)?;
        let bundle = Bundle::from_json(text)?;
        check_distinct_logs(&bundle.verification_material.tlog_entries)?;
        Ok(Self(bundle))
    }

    /// The verification material.
    pub fn verification_material(&self) -> BundleVerificationMaterial<'_> {
        match &self.0.verification_material.content {
            VerificationMaterialContent::PublicKey(key) => {
                BundleVerificationMaterial::PublicKey { hint: &key.hint }
            }
            _ => BundleVerificationMaterial::Certificate,
        }
    }

    /// The signed envelope. Absent if the bundle signs plain bytes.
    pub const fn dsse_envelope(&self) -> Option<&DsseEnvelope> {
        match &self.0.content {
            SignatureContent::DsseEnvelope(envelope) => Some(envelope),
            _ => None,
        }
    }

    /// The entries of transparency logs, at most `limits.log_entries`, each of another log.
    pub fn log_entries(&self) -> &[TransparencyLogEntry] {
        &self.0.verification_material.tlog_entries
    }

    /// True if it contains evidence of the signing time: log entries or timestamps.
    pub const fn has_time_evidence(&self) -> bool {
        let material = &self.0.verification_material;
        !material.tlog_entries.is_empty()
            || !material
                .timestamp_verification_data
                .rfc3161_timestamps
                .is_empty()
    }

    /// The bundle as a type of the sigstore crates.
    pub const fn as_sigstore_types(&self) -> &Bundle {
        &self.0
    }
}

fn check_distinct_logs(entries: &[TransparencyLogEntry]) -> Result<(), SigstoreBundleError> {
    let mut seen = HashSet::new();
    if entries
        .iter()
        .all(|entry| seen.insert(&entry.log_id.key_id))
    {
        Ok(())
    } else {
        Err(SigstoreBundleError::DuplicateLog)
    }
}

/// The part of a bundle that is needed to check its limits: the alternatives, and the lengths of
/// lists.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SigstoreBundleShape {
    #[serde(rename = "mediaType")]
    _media_type: String,
    verification_material: VerificationMaterialShape,
    message_signature: Option<IgnoredAny>,
    dsse_envelope: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VerificationMaterialShape {
    public_key: Option<IgnoredAny>,
    certificate: Option<IgnoredAny>,
    x509_certificate_chain: Option<CertificateChainShape>,
    tlog_entries: Option<Vec<IgnoredAny>>,
    timestamp_verification_data: Option<TimestampDataShape>,
}

#[derive(Deserialize)]
struct CertificateChainShape {
    certificates: Vec<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TimestampDataShape {
    rfc3161_timestamps: Option<Vec<IgnoredAny>>,
}

impl SigstoreBundleShape {
    fn check_limits(&self, limits: &InputLimits) -> Result<(), SigstoreBundleError> {
        let material = &self.verification_material;
        let chain = material.x509_certificate_chain.as_ref();
        let timestamps = material
            .timestamp_verification_data
            .as_ref()
            .and_then(|data| data.rfc3161_timestamps.as_ref());
        exactly_one(
            "dsseEnvelope and messageSignature",
            &[
                self.dsse_envelope.is_some(),
                self.message_signature.is_some(),
            ],
        )?;
        exactly_one(
            "publicKey, certificate and x509CertificateChain",
            &[
                material.public_key.is_some(),
                material.certificate.is_some(),
                chain.is_some(),
            ],
        )?;
        check_count(
            "certificates",
            chain.map_or(0, |chain| chain.certificates.len()),
            MAX_CERTIFICATES,
        )?;
        check_count(
            "transparency log entries",
            material.tlog_entries.as_ref().map_or(0, Vec::len),
            limits.log_entries,
        )?;
        check_count(
            "timestamps",
            timestamps.map_or(0, Vec::len),
            limits.timestamps,
        )
    }
}

fn exactly_one(alternatives: &'static str, present: &[bool]) -> Result<(), SigstoreBundleError> {
    match present.iter().filter(|present| **present).count() {
        1 => Ok(()),
        count => Err(SigstoreBundleError::Alternatives {
            alternatives,
            count,
        }),
    }
}

const fn check_count(
    what: &'static str,
    count: usize,
    limit: usize,
) -> Result<(), SigstoreBundleError> {
    if count <= limit {
        Ok(())
    } else {
        Err(SigstoreBundleError::TooMany { what, count, limit })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::core::reason::ClassifiedError;

    fn keyed() -> Value {
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": "abc"}},
            "dsseEnvelope": {
                "payload": "e30=",
                "payloadType": "application/vnd.in-toto+json",
                "signatures": [{"sig": "c2ln"}],
            },
        })
    }

    fn entry(log: &str) -> Value {
        json!({
            "logIndex": "1",
            "logId": {"keyId": log},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "canonicalizedBody": "e30=",
        })
    }

    fn parse(value: &Value) -> Result<SigstoreBundle, SigstoreBundleError> {
        SigstoreBundle::parse(value.to_string().as_bytes(), &InputLimits::DEFAULT)
    }

    #[test]
    fn bundles_of_every_version_are_read() {
        for media_type in [
            "application/vnd.dev.sigstore.bundle.v0.3+json",
            "application/vnd.dev.sigstore.bundle+json;version=0.3",
            "application/vnd.dev.sigstore.bundle+json;version=0.2",
            "application/vnd.dev.sigstore.bundle+json;version=0.1",
        ] {
            let mut bundle = keyed();
            bundle["mediaType"] = media_type.into();
            let bundle = parse(&bundle).expect(media_type);
            assert_eq!(
                bundle.verification_material(),
                BundleVerificationMaterial::PublicKey { hint: "abc" }
            );
            assert!(bundle.dsse_envelope().is_some() && bundle.log_entries().is_empty());
        }
    }

    #[test]
    fn a_log_may_vouch_once() {
        let mut bundle = keyed();
        bundle["verificationMaterial"]["tlogEntries"] = json!([entry("QQ=="), entry("Qg==")]);
        assert_eq!(parse(&bundle).expect("two logs").log_entries().len(), 2);
        bundle["verificationMaterial"]["tlogEntries"] =
            json!([entry("QQ=="), entry("Qg=="), entry("QQ==")]);
        assert!(matches!(
            parse(&bundle),
            Err(SigstoreBundleError::DuplicateLog)
        ));
    }

    type Change = fn(&mut Value);

    #[test]
    fn what_is_too_much_is_refused_before_it_is_decoded() {
        // Entries that cannot be decoded: had decoding come first, the reason would be another.
        let table: &[(&str, Change)] = &[
            ("5 transparency log entries", |b| {
                b["verificationMaterial"]["tlogEntries"] = vec![Value::Null; 5].into();
            }),
            ("5 timestamps", |b| {
                b["verificationMaterial"]["timestampVerificationData"] =
                    json!({"rfc3161Timestamps": vec![Value::Null; 5]});
            }),
            ("9 certificates", |b| {
                b["verificationMaterial"] =
                    json!({"x509CertificateChain": {"certificates": vec![Value::Null; 9]}});
            }),
            ("over the limit", |b| {
                b["padding"] = "x".repeat(4 << 20).into();
            }),
        ];
        for (part, change) in table {
            let mut bundle = keyed();
            change(&mut bundle);
            let error = parse(&bundle).expect_err(part);
            assert!(error.to_string().contains(part), "{part}: {error}");
            assert_eq!(error.reason(), Reason::LimitExceeded);
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let table: &[(&str, Change)] = &[
            ("exactly one of publicKey", |b| {
                b["verificationMaterial"]["certificate"] = json!({"rawBytes": "AA=="});
            }),
            ("exactly one of publicKey", |b| {
                b["verificationMaterial"] = json!({});
            }),
            ("exactly one of dsseEnvelope", |b| {
                b["messageSignature"] = json!({"signature": "AA=="});
            }),
            ("exactly one of dsseEnvelope", |b| {
                b["dsseEnvelope"] = Value::Null;
            }),
            ("exactly one signature, found 2", |b| {
                b["dsseEnvelope"]["signatures"] = json!([{"sig": "AA=="}, {"sig": "AA=="}]);
            }),
            ("exactly one signature, found 0", |b| {
                b["dsseEnvelope"]["signatures"] = json!([]);
            }),
            ("missing field `mediaType`", |b| {
                b.as_object_mut().expect("an object").remove("mediaType");
            }),
            ("media type", |b| {
                b["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=9".into();
            }),
            ("base64", |b| b["dsseEnvelope"]["payload"] = "%%".into()),
        ];
        for (part, change) in table {
            let mut bundle = keyed();
            change(&mut bundle);
            let error = parse(&bundle).expect_err(part);
            assert!(error.to_string().contains(part), "{part}: {error}");
            assert_eq!(error.reason(), Reason::MalformedEvidence);
        }
    }

    #[test]
    fn duplicate_keys_anywhere_are_refused() {
        let text = keyed().to_string().replace(
            r#""payload":"e30=""#,
            r#""payload":"e30=","payload":"e30=""#,
        );
        let error = SigstoreBundle::parse(text.as_bytes(), &InputLimits::DEFAULT)
            .expect_err("two payloads");
        assert!(
            error.to_string().contains("duplicate key \"payload\""),
            "{error}"
        );
        let bom = format!("\u{feff}{}", keyed());
        assert!(SigstoreBundle::parse(bom.as_bytes(), &InputLimits::DEFAULT).is_err());
    }
}
