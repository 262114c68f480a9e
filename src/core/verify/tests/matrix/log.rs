//! The log entry: its promise, its proof, its checkpoint, and what it is about.

use serde_json::Value;

use super::{
    super::*,
    Case, Change,
    Change::{Bundle, Forge, Make, Root},
    Expected::{Holds, Refused},
    Fault, Part, Shape, entry, flip, material, remove, row, statement,
};
use crate::core::verify::testing::sigstore::{Algorithm, DAY, Key, Kind, LOGGED, Log, Logging, NOON, Stamp, base64, pae};

const fn refused(name: &'static str, applies: fn(Shape) -> bool, reason: Reason, change: Change) -> Fault {
    row(name, Part::Evidence, applies, Refused(reason), change)
}

const fn holds(name: &'static str, applies: fn(Shape) -> bool, change: Change) -> Fault {
    row(name, Part::Evidence, applies, Holds, change)
}

fn proof(bundle: &mut Value) -> &mut Value {
    &mut entry(bundle)["inclusionProof"]
}

fn hashes(bundle: &mut Value) -> &mut Vec<Value> {
    proof(bundle)["hashes"].as_array_mut().expect("hashes")
}

/// Edits the lines of the checkpoint: origin, size, root, nothing, signature.
fn checkpoint(bundle: &mut Value, edit: fn(&mut Vec<String>)) {
    let envelope = &mut proof(bundle)["checkpoint"]["envelope"];
    let mut lines: Vec<String> = envelope.as_str().expect("text").lines().map(str::to_owned).collect();
    edit(&mut lines);
    *envelope = format!("{}\n", lines.join("\n")).into();
}

fn later(value: &mut Value, by: i64) {
    let number: i64 = value.as_str().expect("text").parse().expect("a number");
    *value = (number + by).to_string().into();
}

/// As a bundle of an older version: the certificate is in a chain.
fn relabel(bundle: &mut Value, version: &str) {
    bundle["mediaType"] = format!("application/vnd.dev.sigstore.bundle+json;version={version}").into();
    let material = material(bundle).as_object_mut().expect("material");
    if let Some(certificate) = material.remove("certificate") {
        material.insert("x509CertificateChain".into(), json!({"certificates": [certificate]}));
    }
}

fn without_proof(bundle: &mut Value) {
    remove(entry(bundle), "inclusionProof");
}

/// The log answers in another way.
fn answer(case: &mut Case, edit: fn(&mut Logging)) {
    edit(case.recipe.log());
}

const fn v1_keyless(shape: Shape) -> bool {
    shape.v1()
}

/// A second entry, of the other log of the same Sigstore.
fn second(bundle: &mut Value, case: &Case) -> Value {
    let kind = if case.recipe.logging.as_ref().is_some_and(|logging| logging.kind.is_v1()) { Kind::HashedRekord002 } else { Kind::Dsse001 };
    let mut other = case.recipe.clone();
    other.logging = Some(Logging::new(kind, LOGGED));
    let signature = decoded(&bundle["dsseEnvelope"]["signatures"][0]["sig"]);
    let certificate = bundle["verificationMaterial"]["certificate"]["rawBytes"]
        .as_str()
        .map(|_| decoded(&bundle["verificationMaterial"]["certificate"]["rawBytes"]));
    other.entry(&case.sigstore, &signature, certificate.as_deref()).expect("it is logged")
}

fn decoded(value: &Value) -> Vec<u8> {
    base64::Engine::decode(&base64::engine::general_purpose::STANDARD, value.as_str().expect("text")).expect("base64")
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
        v1_keyless,
        Reason::InvalidTimestamp,
        Bundle(|b| flip(&mut entry(b)["inclusionPromise"]["signedEntryTimestamp"])),
    ),
    refused(
        "garbage for a promise",
        v1_keyless,
        Reason::InvalidTimestamp,
        Bundle(|b| entry(b)["inclusionPromise"]["signedEntryTimestamp"] = "AAAA".into()),
    ),
    refused(
        "a promise by another key",
        v1_keyless,
        Reason::InvalidTimestamp,
        Make(|case| answer(case, |how| how.promise_key = Some(Key::new(Algorithm::P256)))),
    ),
    refused(
        "a promise by the other log",
        v1_keyless,
        Reason::InvalidTimestamp,
        Make(|case| {
            case.recipe.log().promise_key = Some(case.sigstore.rekor_v2.key.clone());
        }),
    ),
    refused(
        "the name of an unknown log, promised",
        v1_keyless,
        Reason::InvalidTimestamp,
        Bundle(|b| entry(b)["logId"]["keyId"] = base64(&[7; 32]).into()),
    ),
    refused(
        "the name of the other log, promised",
        v1_keyless,
        Reason::InvalidTimestamp,
        Forge(|b, case| {
            entry(b)["logId"]["keyId"] = base64(&case.sigstore.rekor_v2.id).into();
        }),
    ),
    refused("a second later", v1_keyless, Reason::InvalidTimestamp, Bundle(|b| later(&mut entry(b)["integratedTime"], 1))),
    refused("a second earlier", v1_keyless, Reason::InvalidTimestamp, Bundle(|b| later(&mut entry(b)["integratedTime"], -1))),
    refused("another index, promised", v1_keyless, Reason::InvalidTimestamp, Bundle(|b| later(&mut entry(b)["logIndex"], 1))),
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
    holds("a promised time when the certificate ends", Shape::v1, Make(|case| answer(case, |how| how.time = NOON + 600))),
    refused("a promised time in the future", Shape::v1, Reason::InvalidTimestamp, Make(|case| answer(case, |how| how.time = 32_503_680_000))),
    refused(
        "no promise",
        Shape::only_v1,
        Reason::NoTrustedTime,
        Bundle(|b| {
            remove(entry(b), "inclusionPromise");
        }),
    ),
    refused(
        "no time",
        Shape::only_v1,
        Reason::NoTrustedTime,
        Bundle(|b| {
            remove(entry(b), "integratedTime");
        }),
    ),
    refused("a time of zero", Shape::only_v1, Reason::NoTrustedTime, Bundle(|b| entry(b)["integratedTime"] = "0".into())),
    holds("no promise but a timestamp", Shape::v1_and_stamped, Make(|case| answer(case, |how| how.promise = false))),
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
    refused("a log that had not begun, promised", Shape::v1, Reason::InvalidTimestamp, Make(|case| case.sigstore.rekor_v1.valid_for.0 = NOON + DAY)),
    // The name of the log, where no promise covers it.
    refused("the name of an unknown log", Shape::v2, Reason::InvalidInclusionProof, Bundle(|b| entry(b)["logId"]["keyId"] = base64(&[7; 32]).into())),
    refused(
        "the name of the other log",
        Shape::v2,
        Reason::InvalidInclusionProof,
        Forge(|b, case| {
            entry(b)["logId"]["keyId"] = base64(&case.sigstore.rekor_v1.id).into();
        }),
    ),
    refused("a short name of a log", Shape::v2, Reason::InvalidInclusionProof, Bundle(|b| entry(b)["logId"]["keyId"] = "AAAA".into())),
    refused(
        "the name of an unknown log, not promised",
        Shape::v1_and_stamped,
        Reason::InvalidInclusionProof,
        Bundle(|b| {
            remove(entry(b), "inclusionPromise");
            entry(b)["logId"]["keyId"] = base64(&[7; 32]).into();
        }),
    ),
    refused("a log that had ended", Shape::v2, Reason::InvalidInclusionProof, Make(|case| case.sigstore.rekor_v2.valid_for.1 = Some(NOON - DAY))),
    refused("a log that had not begun", Shape::v2, Reason::InvalidInclusionProof, Make(|case| case.sigstore.rekor_v2.valid_for.0 = NOON + DAY)),
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
    // The proof.
    refused("no hashes", Shape::logged, Reason::InvalidInclusionProof, Bundle(|b| hashes(b).clear())),
    refused(
        "a hash less",
        Shape::logged,
        Reason::InvalidInclusionProof,
        Bundle(|b| {
            hashes(b).pop();
        }),
    ),
    refused(
        "a hash more",
        Shape::logged,
        Reason::InvalidInclusionProof,
        Bundle(|b| {
            let last = hashes(b)[0].clone();
            hashes(b).push(last);
        }),
    ),
    refused("another hash", Shape::logged, Reason::InvalidInclusionProof, Bundle(|b| flip(&mut hashes(b)[1]))),
    refused("two hashes the other way round", Shape::logged, Reason::InvalidInclusionProof, Bundle(|b| hashes(b).swap(0, 1))),
    refused("another index of the proof", Shape::v1, Reason::InvalidInclusionProof, Bundle(|b| later(&mut proof(b)["logIndex"], 1))),
    refused("another index", Shape::v2, Reason::InvalidInclusionProof, Bundle(|b| later(&mut entry(b)["logIndex"], 1))),
    refused("an index beyond the tree", Shape::v2, Reason::InvalidInclusionProof, Bundle(|b| later(&mut entry(b)["logIndex"], 1_000))),
    refused("an index beyond the tree of the proof", Shape::v1, Reason::InvalidInclusionProof, Bundle(|b| later(&mut proof(b)["logIndex"], 1_000))),
    refused("a larger tree", Shape::v1, Reason::InvalidInclusionProof, Bundle(|b| later(&mut proof(b)["treeSize"], 1))),
    refused("a much larger tree", Shape::v1, Reason::InvalidInclusionProof, Bundle(|b| later(&mut proof(b)["treeSize"], 1_000))),
    refused("a smaller tree", Shape::v1, Reason::InvalidInclusionProof, Bundle(|b| later(&mut proof(b)["treeSize"], -1))),
    refused("another root", Shape::v1, Reason::InvalidInclusionProof, Bundle(|b| flip(&mut proof(b)["rootHash"]))),
    holds(
        "another index, size and root that Rekor v2 does not use",
        Shape::v2,
        Bundle(|b| {
            later(&mut proof(b)["logIndex"], 1);
            later(&mut proof(b)["treeSize"], 1);
            flip(&mut proof(b)["rootHash"]);
        }),
    ),
    refused("no proof", Shape::logged, Reason::InvalidInclusionProof, Bundle(without_proof)),
    refused(
        "no proof, called 0.2",
        Shape::logged,
        Reason::InvalidInclusionProof,
        Bundle(|b| {
            without_proof(b);
            relabel(b, "0.2");
        }),
    ),
    refused(
        "no proof, called 0.1",
        Shape::logged,
        Reason::InvalidInclusionProof,
        Bundle(|b| {
            without_proof(b);
            relabel(b, "0.1");
        }),
    ),
    holds("called 0.2", Shape::logged, Bundle(|b| relabel(b, "0.2"))),
    holds("called 0.1", Shape::v1, Bundle(|b| relabel(b, "0.1"))),
    refused("called 0.1, without a promise", Shape::v2, Reason::NoTrustedTime, Bundle(|b| relabel(b, "0.1"))),
    // The checkpoint.
    refused(
        "no checkpoint",
        Shape::logged,
        Reason::InvalidInclusionProof,
        Bundle(|b| {
            remove(proof(b), "checkpoint");
        }),
    ),
    refused("an empty checkpoint", Shape::logged, Reason::InvalidInclusionProof, Bundle(|b| proof(b)["checkpoint"]["envelope"] = "".into())),
    refused(
        "another origin in the checkpoint",
        Shape::logged,
        Reason::InvalidInclusionProof,
        Bundle(|b| {
            checkpoint(b, |lines| lines[0] = "elsewhere.example.com".into());
        }),
    ),
    refused(
        "another size in the checkpoint",
        Shape::logged,
        Reason::InvalidInclusionProof,
        Bundle(|b| checkpoint(b, |lines| lines[1] = "14".into())),
    ),
    refused(
        "another root in the checkpoint",
        Shape::logged,
        Reason::InvalidInclusionProof,
        Bundle(|b| checkpoint(b, |lines| lines[2] = base64(&[7; 32]))),
    ),
    refused(
        "a line more in the checkpoint",
        Shape::logged,
        Reason::InvalidInclusionProof,
        Bundle(|b| checkpoint(b, |lines| lines.insert(3, "more".into()))),
    ),
    refused(
        "another signature of the checkpoint",
        Shape::logged,
        Reason::InvalidInclusionProof,
        Bundle(|b| {
            checkpoint(b, |lines| {
                let (start, signature) = lines[4].rsplit_once(' ').expect("a signature");
                let mut signature = Value::from(signature);
                flip(&mut signature);
                lines[4] = format!("{start} {}", signature.as_str().expect("text"));
            });
        }),
    ),
    refused(
        "a checkpoint by another key",
        Shape::logged,
        Reason::InvalidInclusionProof,
        Make(|case| {
            let algorithm = if case.recipe.log().kind.is_v1() { Algorithm::P256 } else { Algorithm::Ed25519 };
            case.recipe.log().checkpoint_key = Some(Key::new(algorithm));
        }),
    ),
    refused(
        "a checkpoint with the hint of nobody",
        Shape::logged,
        Reason::InvalidInclusionProof,
        Bundle(|b| {
            checkpoint(b, |lines| {
                let (start, signature) = lines[4].rsplit_once(' ').expect("a signature");
                lines[4] = format!("{start} AAAA{}", &signature[4..]);
            });
        }),
    ),
    refused(
        "a checkpoint by the other log",
        Shape::logged,
        Reason::InvalidInclusionProof,
        Forge(|b, case| {
            let other = if entry(b)["inclusionPromise"].is_null() { &case.sigstore.rekor_v1 } else { &case.sigstore.rekor_v2 };
            let root: [u8; 32] = decoded(&proof(b)["rootHash"]).try_into().expect("32 bytes");
            proof(b)["checkpoint"]["envelope"] = other.checkpoint(&other.key, other.origin, 13, &root).into();
        }),
    ),
    holds(
        "a checkpoint that a witness signed as well",
        Shape::logged,
        Forge(|b, _| {
            let witness = Log::rekor_v2();
            let note: String = proof(b)["checkpoint"]["envelope"].as_str().expect("text").split_inclusive('\n').take(3).collect();
            let signature = [&witness.id[..4], &witness.key.sign(note.as_bytes())].concat();
            let envelope = &mut proof(b)["checkpoint"]["envelope"];
            *envelope = format!("{}\u{2014} witness.example.com {}\n", envelope.as_str().expect("text"), base64(&signature)).into();
        }),
    ),
    // What it is about.
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
        |s| s.keyless(),
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
            case.recipe.seen.signature = Some(Key::new(Algorithm::P256).sign(&pae(&case.recipe.payload_type, &case.recipe.payload)));
        }),
    ),
    refused("another body, promised", Shape::v1, Reason::InvalidTimestamp, Bundle(|b| flip(&mut entry(b)["canonicalizedBody"]))),
    refused("another body", Shape::v2, Reason::InvalidInclusionProof, Bundle(|b| flip(&mut entry(b)["canonicalizedBody"]))),
    refused("an entry about plain bytes", Shape::v1, Reason::MalformedEvidence, Make(|case| answer(case, |how| how.kind = Kind::HashedRekord001))),
    refused(
        "an entry of another kind than it says",
        Shape::v1,
        Reason::MalformedEvidence,
        Bundle(|b| {
            entry(b)["kindVersion"] = json!({"kind": "intoto", "version": "0.0.2"});
        }),
    ),
    // Several.
    refused("no entries", |s| s.logged() && s.keyless(), Reason::InvalidInclusionProof, Bundle(|b| material(b)["tlogEntries"] = json!([]))),
    holds(
        "an entry of each log",
        Shape::stamped,
        Forge(|b, case| {
            if case.recipe.logging.is_some() {
                let second = second(b, case);
                material(b)["tlogEntries"].as_array_mut().expect("entries").push(second);
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
            material(b)["tlogEntries"].as_array_mut().expect("entries").push(second);
        }),
    ),
    refused(
        "a copy in the name of another log",
        Shape::v2,
        Reason::InvalidInclusionProof,
        Bundle(|b| {
            let mut second = entry(b).clone();
            second["logId"]["keyId"] = base64(&[7; 32]).into();
            material(b)["tlogEntries"].as_array_mut().expect("entries").push(second);
        }),
    ),
    refused(
        "a log that nobody trusts, promised",
        Shape::v1,
        Reason::InvalidTimestamp,
        Root(|root| {
            root["tlogs"].as_array_mut().expect("logs").remove(0);
        }),
    ),
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
