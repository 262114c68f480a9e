//! Which bytes of a bundle matter, and which do not.
//!
//! A bundle that is still valid after one byte was changed has exactly the signed content, by the
//! same signer, at a verified time, and equal [`decisive`] fields. Bytes that do not matter:
//!
//! | bytes | why |
//! |---|---|
//! | the hint of a key | the key decides, not its name |
//! | the name of the log entries, the promise or the timestamps of a bundle that was signed with a key | as if there were none: it is in no log, or its time is unknown, and a policy may refuse that |
//! | the name before a checkpoint's signature | the key's hint and the key decide |
//! | the proof's index, size and root in an entry of Rekor v2 | the entry's index and the signed checkpoint decide |
//! | the name of the only promise or timestamp, where the other is there | one verified time is enough; a removed one proves nothing |
//! | what surrounds the signed part of a timestamp: status, versions, the list of algorithms | RFC 3161 and CMS do not sign it |
//! | names of fields that are empty when they are missing, if the field does not decide | as if it were missing |

use base64::{Engine, engine::general_purpose::STANDARD};
use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::Value;

use super::{super::*, By, Case, Expected, Shape, When, judge, outcome};
use crate::core::verify::testing::sigstore::{Algorithm, Key, LOGGED, STAMPED, der};

fn shapes() -> Vec<Shape> {
    Shape::all()
        .into_iter()
        .filter(|shape| matches!(shape.by, By::Certificate | By::Key(Algorithm::P256)))
        .collect()
}

/// A valid bundle, and its verification material.
struct Original {
    shape: Shape,
    bundle: Value,
    text: String,
    root: Value,
    keys: Vec<Key>,
    signer: SignerIdentity,
}

impl Original {
    fn new(shape: Shape) -> Self {
        let case = Case::new(shape);
        let (root, signer) = (case.sigstore.trusted_root(), case.signer(shape));
        let bundle = case.recipe.bundle(&case.sigstore);
        Self {
            shape,
            text: bundle.to_string(),
            bundle,
            root,
            keys: case.keys,
            signer,
        }
    }

    /// True if it is still valid; then no decisive field may have changed.
    fn holds(&self, content: &[u8]) -> bool {
        let findings = judge(&self.keys, &self.root, true, content.to_vec());
        let shape = self.shape;
        for verified in &findings.verified {
            assert_eq!(
                serde_json::to_value(verified.claim()).expect("JSON"),
                super::statement(),
                "{shape:?}"
            );
            assert_eq!(verified.signer(), &self.signer, "{shape:?}");
            assert!(
                [None, Some(LOGGED), Some(STAMPED)].contains(
                    &verified
                        .signing_time()
                        .timestamp()
                        .map(Timestamp::as_second)
                ),
                "{shape:?}"
            );
        }
        if outcome(&findings, shape).1 != Expected::Holds {
            return false;
        }
        let changed: Value = serde_json::from_slice(content).expect("it held");
        let (mut is, was) = (decisive(&changed, shape), decisive(&self.bundle, shape));
        // A removed item proves nothing, and is not needed if there is another time, or if the time
        // may be unknown.
        let entry_left_out =
            shape.keyed() && changed["verificationMaterial"]["tlogEntries"].is_null();
        for part in ["entry", "checkpoint", "proof"]
            .into_iter()
            .filter(|part| entry_left_out && was.get(part).is_some())
        {
            is[part] = was[part].clone();
        }
        for part in ["promise", "stamps"] {
            if (shape.v1_and_stamped() || shape.keyed()) && is.get(part) == Some(&Value::Null) {
                is[part] = was[part].clone();
            }
        }
        let differs = was
            .as_object()
            .expect("an object")
            .keys()
            .filter(|part| is[*part] != was[*part])
            .collect::<Vec<_>>();
        assert!(differs.is_empty(), "{shape:?}: {differs:?} decided nothing");
        true
    }
}

/// Everything in a bundle that decides whether it is valid.
fn decisive(bundle: &Value, shape: Shape) -> Value {
    let envelope = &bundle["dsseEnvelope"];
    let mut known = json!({
        "version": bundle["mediaType"],
        "payload": envelope["payload"],
        "type": envelope["payloadType"],
        "sig": envelope["signatures"][0]["sig"],
    });
    let material = &bundle["verificationMaterial"];
    let entry = &material["tlogEntries"][0];
    let proof = &entry["inclusionProof"];
    known["certificate"] = material["certificate"]["rawBytes"].clone();
    known["entry"] = json!([
        entry["logId"]["keyId"],
        entry["kindVersion"],
        entry["canonicalizedBody"],
        entry["logIndex"],
        proof["hashes"]
    ]);
    known["checkpoint"] = checkpoint(proof["checkpoint"]["envelope"].as_str().unwrap_or_default());
    known["proof"] = json!([proof["treeSize"], proof["rootHash"]]);
    if shape.v1() {
        known["proof"] = json!([proof["logIndex"], proof["treeSize"], proof["rootHash"]]);
        known["promise"] = json!([
            entry["integratedTime"],
            entry["inclusionPromise"]["signedEntryTimestamp"]
        ]);
        if entry["inclusionPromise"].is_null() {
            known["promise"] = Value::Null;
        }
    }
    let stamps = material["timestampVerificationData"]["rfc3161Timestamps"].as_array();
    known["stamps"] = stamps.map_or(Value::Null, |stamps| {
        stamps
            .iter()
            .map(|stamp| signed_part(&stamp["signedTimestamp"]))
            .collect()
    });
    known
}

/// The signed lines, and the signatures without the names before them.
fn checkpoint(envelope: &str) -> Value {
    envelope
        .lines()
        .map(|line| {
            if line.starts_with('\u{2014}') {
                line.rsplit(' ').next().unwrap_or_default()
            } else {
                line
            }
        })
        .collect()
}

/// The content of a token, its signed attributes, and the signature.
fn signed_part(token: &Value) -> Value {
    let token = STANDARD
        .decode(token.as_str().expect("text"))
        .expect("base64");
    let content_info = der::children(&token)[1];
    let signed_data = der::children(der::children(content_info)[1])[0];
    let parts = der::children(signed_data);
    let signer = der::children(der::children(parts.last().expect("signers"))[0]);
    let [.., attributes, _, signature] = &signer[..] else {
        panic!("a signer")
    };
    [parts[2], attributes, signature]
        .map(|part| STANDARD.encode(part))
        .into_iter()
        .collect()
}

/// Changes every value and every name of a field once, and returns those without effect.
fn that_do_not_matter(original: &Original) -> Vec<String> {
    let mut places = Vec::new();
    walk(&original.bundle, "", &mut places);
    places
        .into_iter()
        .filter(|(_, change)| original.holds(change(&original.bundle).to_string().as_bytes()))
        .map(|(place, _)| place)
        .collect()
}

type Edit = Box<dyn Fn(&Value) -> Value>;

/// Every place of a document: `/a/b` for a value, `/a/b=` for the name `b`.
fn walk(value: &Value, place: &str, places: &mut Vec<(String, Edit)>) {
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                let (parent, field) = (place.to_owned(), name.clone());
                places.push((
                    format!("{place}/{name}="),
                    Box::new(move |bundle| renamed(bundle, &parent, &field)),
                ));
                walk(inner, &format!("{place}/{name}"), places);
            }
        }
        Value::Array(elements) => elements
            .iter()
            .enumerate()
            .for_each(|(at, inner)| walk(inner, &format!("{place}/{at}"), places)),
        _ => {
            let pointer = place.to_owned();
            places.push((
                place.to_owned(),
                Box::new(move |bundle| changed(bundle, &pointer)),
            ));
        }
    }
}

fn renamed(bundle: &Value, parent: &str, name: &str) -> Value {
    let mut bundle = bundle.clone();
    let fields = bundle
        .pointer_mut(parent)
        .and_then(Value::as_object_mut)
        .expect("an object");
    let inner = fields.remove(name).expect("a field");
    fields.insert(format!("{}_", &name[..name.len() - 1]), inner);
    bundle
}

/// Another character in the middle of the value.
fn changed(bundle: &Value, pointer: &str) -> Value {
    let mut bundle = bundle.clone();
    let value = bundle.pointer_mut(pointer).expect("a value");
    let text = value.as_str().expect("all values are text");
    let middle = text.len() / 2;
    let other = if &text[middle..=middle] == "7" {
        "8"
    } else {
        "7"
    };
    *value = format!("{}{other}{}", &text[..middle], &text[middle + 1..]).into();
    bundle
}

#[test]
fn the_places_that_do_not_matter_are_these() {
    const HINT: [&str; 2] = [
        "/verificationMaterial/publicKey/hint=",
        "/verificationMaterial/publicKey/hint",
    ];
    for shape in shapes() {
        let mut found = that_do_not_matter(&Original::new(shape));
        if shape.keyed() {
            found.retain(|place| !HINT.contains(&place.as_str()));
        }
        assert_eq!(found, expected(shape), "{shape:?}");
    }
}

const ENTRIES: &str = "/verificationMaterial/tlogEntries=";
const PROMISE: &str = "/verificationMaterial/tlogEntries/0/inclusionPromise=";
const STAMPS: [&str; 2] = [
    "/verificationMaterial/timestampVerificationData=",
    "/verificationMaterial/timestampVerificationData/rfc3161Timestamps=",
];
/// The first is the name before the checkpoint's signature.
const UNUSED_BY_V2: [&str; 2] = [
    "/verificationMaterial/tlogEntries/0/inclusionProof/checkpoint/envelope",
    "/verificationMaterial/tlogEntries/0/inclusionProof/logIndex=",
];

/// `=` at the end: the field's name; the field is then missing.
fn expected(shape: Shape) -> Vec<&'static str> {
    match (shape.when, shape.keyed()) {
        (When::Unsaid | When::Stamp, _) | (When::RekorV1, false) => Vec::new(),
        (When::RekorV1, true) => vec![PROMISE],
        (When::RekorV1AndStamp, false) => [&STAMPS[..], &[PROMISE]].concat(),
        (When::RekorV1AndStamp, true) => [&STAMPS[..], &[ENTRIES, PROMISE]].concat(),
        (When::RekorV2AndStamp, false) => UNUSED_BY_V2.to_vec(),
        (When::RekorV2AndStamp, true) => [&STAMPS[..], &[ENTRIES], &UNUSED_BY_V2].concat(),
    }
}

/// Any byte, changed to any other.
#[test]
fn a_changed_byte_is_refused_or_does_not_matter() {
    let originals: Vec<Original> = shapes().into_iter().map(Original::new).collect();
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 1_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let any_change = (0..originals.len(), any::<prop::sample::Index>(), 1..=255_u8);
    let run = runner.run(&any_change, |(which, at, bits)| {
        let original = &originals[which];
        let mut bytes = original.text.clone().into_bytes();
        bytes[at.index(original.text.len())] ^= bits;
        original.holds(&bytes);
        Ok(())
    });
    run.expect("nothing that decides can be changed");
}
