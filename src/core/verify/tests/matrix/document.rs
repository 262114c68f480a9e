//! The document: an ambiguous or oversized one is refused before anything is decoded.

use serde_json::Value;

use super::{
    super::*,
    By, Change,
    Change::{Bundle, Text},
    Expected::{Holds, Refused},
    Fault, Part, Shape, entry, material, row,
};
use crate::core::verify::testing::sigstore::Algorithm;

const fn refused(name: &'static str, reason: Reason, change: Change) -> Fault {
    row(name, Part::Always, Shape::any, Refused(reason), change)
}

const fn logged(name: &'static str, reason: Reason, change: Change) -> Fault {
    row(name, Part::Always, Shape::logged, Refused(reason), change)
}

const fn stamped(name: &'static str, reason: Reason, change: Change) -> Fault {
    row(name, Part::Always, Shape::stamped, Refused(reason), change)
}

fn stamps(bundle: &mut Value) -> &mut Value {
    &mut bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]
}

/// Megabytes take long in unoptimised builds: two columns are enough.
fn large(shape: Shape) -> bool {
    shape.only_v1() && matches!(shape.by, By::Certificate | By::Key(Algorithm::P256))
}

fn padded(text: &str, bytes: usize) -> Vec<u8> {
    let mut content = text.as_bytes().to_vec();
    content.resize(bytes, b' ');
    content
}

pub(super) const FAULTS: &[Fault] = &[
    refused(
        "a key twice",
        Reason::MalformedEvidence,
        Text(|text| {
            text.replacen(
                "\"payloadType\":",
                "\"payloadType\":\"text/plain\",\"payloadType\":",
                1,
            )
            .into_bytes()
        }),
    ),
    refused(
        "a key twice, once escaped",
        Reason::MalformedEvidence,
        Text(|text| {
            text.replacen(
                "\"payloadType\":",
                "\"\\u0070ayloadType\":\"text/plain\",\"payloadType\":",
                1,
            )
            .into_bytes()
        }),
    ),
    refused(
        "a key twice where nobody looks",
        Reason::MalformedEvidence,
        Text(|text| {
            text.replacen('{', "{\"x\":{\"a\":1,\"a\":2},", 1)
                .into_bytes()
        }),
    ),
    refused(
        "a byte order mark",
        Reason::MalformedEvidence,
        Text(|text| format!("\u{feff}{text}").into_bytes()),
    ),
    refused(
        "half a document",
        Reason::MalformedEvidence,
        Text(|text| text.as_bytes()[..text.len() - 1].to_vec()),
    ),
    refused(
        "a document and something else",
        Reason::MalformedEvidence,
        Text(|text| format!("{text}{{}}").into_bytes()),
    ),
    refused(
        "a byte that is no UTF-8",
        Reason::MalformedEvidence,
        Text(|text| [b"{\"x\":\"\xff\",", &text.as_bytes()[1..]].concat()),
    ),
    refused(
        "nested too deep",
        Reason::MalformedEvidence,
        Text(|text| {
            text.replacen(
                '{',
                &format!("{{\"x\":{}{},", "[".repeat(40), "]".repeat(40)),
                1,
            )
            .into_bytes()
        }),
    ),
    row(
        "as many bytes as may be",
        Part::Always,
        large,
        Holds,
        Text(|text| padded(text, 4 << 20)),
    ),
    row(
        "a byte too many",
        Part::Always,
        large,
        Refused(Reason::LimitExceeded),
        Text(|text| padded(text, (4 << 20) + 1)),
    ),
    refused(
        "cut base64 in the signature",
        Reason::MalformedEvidence,
        Bundle(|b| {
            let sig = &mut b["dsseEnvelope"]["signatures"][0]["sig"];
            let text = sig.as_str().expect("text").to_owned();
            *sig = text[..text.len() - 7].into();
        }),
    ),
    refused(
        "no base64 in the payload",
        Reason::MalformedEvidence,
        Bundle(|b| b["dsseEnvelope"]["payload"] = "%%".into()),
    ),
    refused(
        "an unknown version",
        Reason::MalformedEvidence,
        Bundle(|b| b["mediaType"] = "application/vnd.dev.sigstore.bundle.v9+json".into()),
    ),
    refused(
        "no version",
        Reason::MalformedEvidence,
        Bundle(|b| b["mediaType"] = Value::Null),
    ),
    row(
        "a field that nobody knows",
        Part::Always,
        Shape::any,
        Holds,
        Bundle(|b| b["x"] = json!({"y": [1, 2, 3]})),
    ),
    row(
        "an empty list of timestamps",
        Part::Always,
        |s| !s.stamped(),
        Holds,
        Bundle(|b| {
            material(b)["timestampVerificationData"] = json!({"rfc3161Timestamps": []});
        }),
    ),
    row(
        "null for timestamps",
        Part::Always,
        |s| !s.stamped(),
        Holds,
        Bundle(|b| material(b)["timestampVerificationData"] = Value::Null),
    ),
    // Too many items.
    logged(
        "one entry twice",
        Reason::MalformedEvidence,
        Bundle(|b| material(b)["tlogEntries"] = vec![entry(b).clone(); 2].into()),
    ),
    logged(
        "one log entry too many",
        Reason::LimitExceeded,
        Bundle(|b| material(b)["tlogEntries"] = vec![entry(b).clone(); 5].into()),
    ),
    row(
        "2,000 copies of an entry",
        Part::Always,
        large,
        Refused(Reason::LimitExceeded),
        Bundle(|b| material(b)["tlogEntries"] = vec![entry(b).clone(); 2_000].into()),
    ),
    stamped(
        "one timestamp too many",
        Reason::LimitExceeded,
        Bundle(|b| *stamps(b) = vec![stamps(b)[0].clone(); 5].into()),
    ),
    row(
        "as many timestamps as may be",
        Part::Always,
        Shape::stamped,
        Holds,
        Bundle(|b| *stamps(b) = vec![stamps(b)[0].clone(); 4].into()),
    ),
    row(
        "one certificate too many",
        Part::Always,
        Shape::keyless,
        Refused(Reason::LimitExceeded),
        Bundle(|b| {
            let certificate = super::remove(material(b), "certificate");
            material(b)["x509CertificateChain"] = json!({"certificates": vec![certificate; 9]});
        }),
    ),
    // Entries that cannot be decoded at all.
    logged(
        "a negative index",
        Reason::MalformedEvidence,
        Bundle(|b| entry(b)["logIndex"] = "-1".into()),
    ),
    logged(
        "an index that is no number",
        Reason::MalformedEvidence,
        Bundle(|b| entry(b)["logIndex"] = "x".into()),
    ),
    logged(
        "a time that is no number",
        Reason::MalformedEvidence,
        Bundle(|b| entry(b)["integratedTime"] = "noon".into()),
    ),
    logged(
        "an unknown kind of entry",
        Reason::MalformedEvidence,
        Bundle(|b| entry(b)["kindVersion"]["version"] = "0.0.9".into()),
    ),
    logged(
        "an entry of in-toto 0.0.1",
        Reason::MalformedEvidence,
        Bundle(|b| entry(b)["kindVersion"] = json!({"kind": "intoto", "version": "0.0.1"})),
    ),
    logged(
        "no name of a log",
        Reason::MalformedEvidence,
        Bundle(|b| {
            super::remove(entry(b), "logId");
        }),
    ),
    logged(
        "no body",
        Reason::MalformedEvidence,
        Bundle(|b| {
            super::remove(entry(b), "canonicalizedBody");
        }),
    ),
    logged(
        "a short hash in a proof",
        Reason::MalformedEvidence,
        Bundle(|b| entry(b)["inclusionProof"]["hashes"][0] = "AAAA".into()),
    ),
    logged(
        "garbage for a checkpoint",
        Reason::MalformedEvidence,
        Bundle(|b| entry(b)["inclusionProof"]["checkpoint"]["envelope"] = "garbage".into()),
    ),
    logged(
        "a checkpoint without signature",
        Reason::MalformedEvidence,
        Bundle(|b| {
            let envelope = &mut entry(b)["inclusionProof"]["checkpoint"]["envelope"];
            *envelope = envelope
                .as_str()
                .expect("text")
                .split('\u{2014}')
                .next()
                .expect("a part")
                .into();
        }),
    ),
];
