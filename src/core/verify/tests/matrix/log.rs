//! The log entry: its promise, the id of its log, and its content.

use serde_json::Value;

use super::{
    super::*,
    By, Case, Change,
    Change::{Bundle, Forge, Make, Root},
    Expected::{Holds, Refused},
    Fault, Part, Shape, entry, flip, material, remove, row, statement,
};
use crate::core::verify::testing::sigstore::{
    Algorithm, DAY, Key, Kind, LOGGED, Logging, NOON, Stamp, base64, pae,
};

const fn refused(
    name: &'static str,
    applies: fn(Shape) -> bool,
    reason: Reason,
    change: Change,
) -> Fault {
    row(name, Part::Evidence, applies, Refused(reason), change)
}

const fn holds(name: &'static str, applies: fn(Shape) -> bool, change: Change) -> Fault {
    row(name, Part::Evidence, applies, Holds, change)
}

fn later(value: &mut Value, by: i64) {
    let number: i64 = value.as_str().expect("text").parse().expect("a number");
    *value = (number + by).to_string().into();
}

/// Changes the log's behaviour.
fn answer(case: &mut Case, edit: fn(&mut Logging)) {
    edit(case.recipe.log());
}

/// A second entry, of the other log of the same Sigstore.
fn second(bundle: &Value, case: &Case) -> Value {
    let kind = if case
        .recipe
        .logging
        .as_ref()
        .is_some_and(|logging| logging.kind.is_v1())
    {
        Kind::HashedRekord002
    } else {
        Kind::Dsse001
    };
    let mut other = case.recipe.clone();
    other.logging = Some(Logging::new(kind, LOGGED));
    let signature = decoded(&bundle["dsseEnvelope"]["signatures"][0]["sig"]);
    let certificate = bundle["verificationMaterial"]["certificate"]["rawBytes"]
        .as_str()
        .map(|_| decoded(&bundle["verificationMaterial"]["certificate"]["rawBytes"]));
    other
        .entry(&case.sigstore, &signature, certificate.as_deref())
        .expect("it is logged")
}

fn decoded(value: &Value) -> Vec<u8> {
    base64::Engine::decode(
        &base64::engine::general_purpose::STANDARD,
        value.as_str().expect("text"),
    )
    .expect("base64")
}

fn other_statement() -> Vec<u8> {
    let mut other = statement();
    other["predicate"] = json!({"note": "another predicate"});
    other.to_string().into_bytes()
}

fn tlog(root: &mut Value, at: usize) -> &mut Value {
    &mut root["tlogs"][at]["publicKey"]["validFor"]
}

pub(super) const FAULTS: &[Fault] = &[
    // The promise (SET) of Rekor v1.
    refused(
        "a flipped bit in the promise",
        Shape::v1,
        Reason::InvalidTimestamp,
        Bundle(|b| flip(&mut entry(b)["inclusionPromise"]["signedEntryTimestamp"])),
    ),
    refused(
        "garbage for a promise",
        Shape::v1,
        Reason::InvalidTimestamp,
        Bundle(|b| entry(b)["inclusionPromise"]["signedEntryTimestamp"] = "AAAA".into()),
    ),
    refused(
        "a promise by another key",
        Shape::v1,
        Reason::InvalidTimestamp,
        Make(|case| {
            answer(case, |how| {
                how.promise_key = Some(Key::new(Algorithm::P256));
            });
        }),
    ),
    refused(
        "a promise by the other log",
        Shape::v1,
        Reason::InvalidTimestamp,
        Make(|case| {
            case.recipe.log().promise_key = Some(case.sigstore.rekor_v2.key.clone());
        }),
    ),
    refused(
        "the name of an unknown log, promised",
        Shape::v1,
        Reason::InvalidTimestamp,
        Bundle(|b| entry(b)["logId"]["keyId"] = base64(&[7; 32]).into()),
    ),
    refused(
        "the name of the other log, promised",
        Shape::v1,
        Reason::InvalidTimestamp,
        Forge(|b, case| {
            entry(b)["logId"]["keyId"] = base64(&case.sigstore.rekor_v2.id).into();
        }),
    ),
    // A time that is not signed.
    refused(
        "a time in an entry of Rekor v2",
        Shape::v2,
        Reason::InvalidInclusionProof,
        Bundle(|b| entry(b)["integratedTime"] = "1749988860".into()),
    ),
    refused(
        "a time in the future in an entry of Rekor v2",
        Shape::v2,
        Reason::InvalidInclusionProof,
        Bundle(|b| entry(b)["integratedTime"] = "32503680000".into()),
    ),
    refused(
        "a time before 1970 in an entry of Rekor v2",
        Shape::v2,
        Reason::InvalidInclusionProof,
        Bundle(|b| entry(b)["integratedTime"] = "-1".into()),
    ),
    refused(
        "the second after 1970 in an entry of Rekor v2",
        Shape::v2,
        Reason::InvalidInclusionProof,
        Bundle(|b| entry(b)["integratedTime"] = "1".into()),
    ),
    holds(
        "a time of zero in an entry of Rekor v2",
        Shape::v2,
        Bundle(|b| entry(b)["integratedTime"] = "0".into()),
    ),
    refused(
        "a second later",
        Shape::v1,
        Reason::InvalidTimestamp,
        Bundle(|b| later(&mut entry(b)["integratedTime"], 1)),
    ),
    refused(
        "a second earlier",
        Shape::v1,
        Reason::InvalidTimestamp,
        Bundle(|b| later(&mut entry(b)["integratedTime"], -1)),
    ),
    refused(
        "another index, promised",
        Shape::v1,
        Reason::InvalidTimestamp,
        Bundle(|b| later(&mut entry(b)["logIndex"], 1)),
    ),
    refused(
        "a promised time after the certificate",
        |s| s.v1() && s.keyless(),
        Reason::CertificateExpired,
        Make(|case| answer(case, |how| how.time = NOON + 601)),
    ),
    refused(
        "a promised time before the certificate",
        |s| s.v1() && s.keyless(),
        Reason::CertificateExpired,
        Make(|case| answer(case, |how| how.time = NOON - 1)),
    ),
    holds(
        "a promised time when the certificate ends",
        Shape::v1,
        Make(|case| answer(case, |how| how.time = NOON + 600)),
    ),
    refused(
        "a promised time in the future",
        Shape::v1,
        Reason::InvalidTimestamp,
        Make(|case| answer(case, |how| how.time = 32_503_680_000)),
    ),
    refused(
        "no promise",
        Shape::only_v1,
        Reason::NoTrustedTime,
        Bundle(|b| {
            remove(entry(b), "inclusionPromise");
        }),
    )
    .keyed(Holds),
    refused(
        "no time",
        Shape::only_v1,
        Reason::NoTrustedTime,
        Bundle(|b| {
            remove(entry(b), "integratedTime");
        }),
    )
    .keyed(Refused(Reason::InvalidTimestamp)),
    refused(
        "a time of zero",
        Shape::only_v1,
        Reason::NoTrustedTime,
        Bundle(|b| entry(b)["integratedTime"] = "0".into()),
    )
    .keyed(Refused(Reason::InvalidTimestamp)),
    holds(
        "no promise but a timestamp",
        Shape::v1_and_stamped,
        Make(|case| answer(case, |how| how.promise = false)),
    ),
    refused(
        "a promise without its time, and a timestamp",
        Shape::v1_and_stamped,
        Reason::InvalidTimestamp,
        Bundle(|b| {
            remove(entry(b), "integratedTime");
        }),
    ),
    refused(
        "a log that had ended, promised",
        Shape::v1,
        Reason::InvalidTimestamp,
        Make(|case| case.sigstore.rekor_v1.valid_for.1 = Some(NOON - DAY)),
    ),
    refused(
        "a log that had not begun, promised",
        Shape::v1,
        Reason::InvalidTimestamp,
        Make(|case| case.sigstore.rekor_v1.valid_for.0 = NOON + DAY),
    ),
    // The id of the log, without a promise that covers it.
    refused(
        "the name of an unknown log",
        Shape::v2,
        Reason::InvalidInclusionProof,
        Bundle(|b| entry(b)["logId"]["keyId"] = base64(&[7; 32]).into()),
    ),
    refused(
        "the name of the other log",
        Shape::v2,
        Reason::InvalidInclusionProof,
        Forge(|b, case| {
            entry(b)["logId"]["keyId"] = base64(&case.sigstore.rekor_v1.id).into();
        }),
    ),
    refused(
        "a short name of a log",
        Shape::v2,
        Reason::InvalidInclusionProof,
        Bundle(|b| entry(b)["logId"]["keyId"] = "AAAA".into()),
    ),
    refused(
        "the name of an unknown log, not promised",
        Shape::v1_and_stamped,
        Reason::InvalidInclusionProof,
        Bundle(|b| {
            remove(entry(b), "inclusionPromise");
            entry(b)["logId"]["keyId"] = base64(&[7; 32]).into();
        }),
    ),
    refused(
        "a log that had ended",
        Shape::v2,
        Reason::InvalidInclusionProof,
        Make(|case| case.sigstore.rekor_v2.valid_for.1 = Some(NOON - DAY)),
    ),
    refused(
        "a log that had not begun",
        Shape::v2,
        Reason::InvalidInclusionProof,
        Make(|case| case.sigstore.rekor_v2.valid_for.0 = NOON + DAY),
    ),
    refused(
        "a log that begins in the future",
        Shape::v2,
        Reason::InvalidInclusionProof,
        Make(|case| {
            case.sigstore.rekor_v2.valid_for.0 = 32_503_680_000;
        }),
    ),
    refused(
        "a log that had ended, not promised",
        Shape::v1_and_stamped,
        Reason::InvalidInclusionProof,
        Make(|case| {
            case.recipe.log().promise = false;
            case.sigstore.rekor_v1.valid_for.1 = Some(NOON - DAY);
        }),
    ),
    holds(
        "a log that ended afterwards",
        Shape::logged,
        Make(|case| {
            case.sigstore.rekor_v1.valid_for.1 = Some(NOON + DAY);
            case.sigstore.rekor_v2.valid_for.1 = Some(NOON + DAY);
        }),
    ),
    // Its content.
    refused(
        "an entry about another statement",
        Shape::logged,
        Reason::LogEntryMismatch,
        Make(|case| {
            case.recipe.seen.payload = Some(other_statement());
        }),
    ),
    refused(
        "an entry about another key or certificate",
        Shape::logged,
        Reason::LogEntryMismatch,
        Make(|case| {
            case.recipe.seen.key = Some(Key::new(Algorithm::P256));
        }),
    ),
    refused(
        "an entry about another certificate for the same key",
        Shape::keyless,
        Reason::LogEntryMismatch,
        Make(|case| {
            case.recipe.seen.key = Some(case.recipe.key.clone());
        }),
    ),
    refused(
        "an entry about another signature",
        Shape::logged,
        Reason::LogEntryMismatch,
        Make(|case| {
            case.recipe.seen.signature = Some(
                Key::new(Algorithm::P256)
                    .sign(&pae(&case.recipe.payload_type, &case.recipe.payload)),
            );
        }),
    ),
    refused(
        "another body, promised",
        Shape::v1,
        Reason::InvalidTimestamp,
        Bundle(|b| flip(&mut entry(b)["canonicalizedBody"])),
    )
    .keyed(Refused(Reason::InvalidInclusionProof)),
    refused(
        "another body",
        Shape::v2,
        Reason::InvalidInclusionProof,
        Bundle(|b| flip(&mut entry(b)["canonicalizedBody"])),
    ),
    refused(
        "an entry about plain bytes",
        Shape::v1,
        Reason::MalformedEvidence,
        Make(|case| answer(case, |how| how.kind = Kind::HashedRekord001)),
    ),
    refused(
        "an entry of another kind than it says",
        Shape::v1,
        Reason::MalformedEvidence,
        Bundle(|b| {
            entry(b)["kindVersion"] = json!({"kind": "intoto", "version": "0.0.2"});
        }),
    ),
    // Several.
    refused(
        "no entries",
        |s| s.logged() && s.keyless(),
        Reason::InvalidInclusionProof,
        Bundle(|b| material(b)["tlogEntries"] = json!([])),
    ),
    holds(
        "an entry of each log",
        |s| s.stamped() && matches!(s.by, By::Certificate | By::Key(Algorithm::P256)),
        Forge(|b, case| {
            if case.recipe.logging.is_some() {
                let second = second(b, case);
                material(b)["tlogEntries"]
                    .as_array_mut()
                    .expect("entries")
                    .push(second);
            }
        }),
    ),
    refused(
        "a second entry without proof",
        Shape::logged,
        Reason::InvalidInclusionProof,
        Forge(|b, case| {
            let mut second = second(b, case);
            remove(&mut second, "inclusionProof");
            material(b)["tlogEntries"]
                .as_array_mut()
                .expect("entries")
                .push(second);
        }),
    ),
    refused(
        "a copy in the name of another log",
        Shape::v2,
        Reason::InvalidInclusionProof,
        Bundle(|b| {
            let mut second = entry(b).clone();
            second["logId"]["keyId"] = base64(&[7; 32]).into();
            material(b)["tlogEntries"]
                .as_array_mut()
                .expect("entries")
                .push(second);
        }),
    ),
    refused(
        "a log that nobody trusts, promised",
        Shape::v1,
        Reason::InvalidTimestamp,
        Root(|root| {
            root["tlogs"].as_array_mut().expect("logs").remove(0);
        }),
    )
    .keyed(Refused(Reason::InvalidInclusionProof)),
    refused(
        "a log that nobody trusts",
        Shape::v2,
        Reason::InvalidInclusionProof,
        Root(|root| {
            root["tlogs"].as_array_mut().expect("logs").remove(1);
        }),
    ),
    holds(
        "a log without an end or a beginning",
        Shape::logged,
        Root(|root| {
            *tlog(root, 0) = Value::Null;
            *tlog(root, 1) = Value::Null;
        }),
    ),
    refused(
        "no log at all, but a timestamp",
        |s| s.keyless() && s.stamped(),
        Reason::InvalidInclusionProof,
        Make(|case| {
            case.recipe.logging = None;
            case.recipe.stamps = vec![Stamp::at(NOON + 30)];
        }),
    ),
];
