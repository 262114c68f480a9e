//! The inclusion proof, and its checkpoint.

use serde_json::Value;

use super::{
    super::*,
    Change,
    Change::{Bundle, Forge, Make},
    Expected::{Holds, Refused},
    Fault, Part, Shape, entry, flip, material, remove, row,
};
use crate::core::verify::testing::sigstore::{Algorithm, Key, Log, base64};

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

fn proof(bundle: &mut Value) -> &mut Value {
    &mut entry(bundle)["inclusionProof"]
}

fn hashes(bundle: &mut Value) -> &mut Vec<Value> {
    proof(bundle)["hashes"].as_array_mut().expect("hashes")
}

/// Edits the lines of the checkpoint: origin, size, root, nothing, signature.
fn checkpoint(bundle: &mut Value, edit: fn(&mut Vec<String>)) {
    let envelope = &mut proof(bundle)["checkpoint"]["envelope"];
    let mut lines: Vec<String> = envelope
        .as_str()
        .expect("text")
        .lines()
        .map(str::to_owned)
        .collect();
    edit(&mut lines);
    *envelope = format!("{}\n", lines.join("\n")).into();
}

fn later(value: &mut Value, by: i64) {
    let number: i64 = value.as_str().expect("text").parse().expect("a number");
    *value = (number + by).to_string().into();
}

/// As a bundle of an older version, with the certificate in a chain.
fn relabel(bundle: &mut Value, version: &str) {
    bundle["mediaType"] =
        format!("application/vnd.dev.sigstore.bundle+json;version={version}").into();
    let material = material(bundle).as_object_mut().expect("material");
    if let Some(certificate) = material.remove("certificate") {
        material.insert(
            "x509CertificateChain".into(),
            json!({"certificates": [certificate]}),
        );
    }
}

fn without_proof(bundle: &mut Value) {
    remove(entry(bundle), "inclusionProof");
}

fn decoded(value: &Value) -> Vec<u8> {
    base64::Engine::decode(
        &base64::engine::general_purpose::STANDARD,
        value.as_str().expect("text"),
    )
    .expect("base64")
}

pub(super) const FAULTS: &[Fault] = &[
    // The proof.
    refused(
        "no hashes",
        Shape::logged,
        Reason::InvalidInclusionProof,
        Bundle(|b| hashes(b).clear()),
    ),
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
    refused(
        "another hash",
        Shape::logged,
        Reason::InvalidInclusionProof,
        Bundle(|b| flip(&mut hashes(b)[1])),
    ),
    refused(
        "two hashes the other way round",
        Shape::logged,
        Reason::InvalidInclusionProof,
        Bundle(|b| hashes(b).swap(0, 1)),
    ),
    refused(
        "another index of the proof",
        Shape::v1,
        Reason::InvalidInclusionProof,
        Bundle(|b| later(&mut proof(b)["logIndex"], 1)),
    ),
    refused(
        "another index",
        Shape::v2,
        Reason::InvalidInclusionProof,
        Bundle(|b| later(&mut entry(b)["logIndex"], 1)),
    ),
    refused(
        "an index beyond the tree",
        Shape::v2,
        Reason::InvalidInclusionProof,
        Bundle(|b| later(&mut entry(b)["logIndex"], 1_000)),
    ),
    refused(
        "an index beyond the tree of the proof",
        Shape::v1,
        Reason::InvalidInclusionProof,
        Bundle(|b| later(&mut proof(b)["logIndex"], 1_000)),
    ),
    refused(
        "a larger tree",
        Shape::v1,
        Reason::InvalidInclusionProof,
        Bundle(|b| later(&mut proof(b)["treeSize"], 1)),
    ),
    refused(
        "a much larger tree",
        Shape::v1,
        Reason::InvalidInclusionProof,
        Bundle(|b| later(&mut proof(b)["treeSize"], 1_000)),
    ),
    refused(
        "a smaller tree",
        Shape::v1,
        Reason::InvalidInclusionProof,
        Bundle(|b| later(&mut proof(b)["treeSize"], -1)),
    ),
    refused(
        "another root",
        Shape::v1,
        Reason::InvalidInclusionProof,
        Bundle(|b| flip(&mut proof(b)["rootHash"])),
    ),
    refused(
        "another index of the proof, which Rekor v2 does not use",
        Shape::v2,
        Reason::InvalidInclusionProof,
        Bundle(|b| later(&mut proof(b)["logIndex"], 1)),
    ),
    refused(
        "another size, which Rekor v2 does not use",
        Shape::v2,
        Reason::InvalidInclusionProof,
        Bundle(|b| later(&mut proof(b)["treeSize"], 1)),
    ),
    refused(
        "another root, which Rekor v2 does not use",
        Shape::v2,
        Reason::InvalidInclusionProof,
        Bundle(|b| flip(&mut proof(b)["rootHash"])),
    ),
    holds(
        "no index of the proof, as cosign writes it",
        Shape::v2,
        Bundle(|b| proof(b)["logIndex"] = "0".into()),
    ),
    refused(
        "no proof",
        Shape::logged,
        Reason::InvalidInclusionProof,
        Bundle(without_proof),
    ),
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
    refused(
        "called 0.1, without a promise",
        Shape::v2,
        Reason::NoTrustedTime,
        Bundle(|b| relabel(b, "0.1")),
    ),
    // The checkpoint.
    refused(
        "no checkpoint",
        Shape::logged,
        Reason::InvalidInclusionProof,
        Bundle(|b| {
            remove(proof(b), "checkpoint");
        }),
    ),
    refused(
        "an empty checkpoint",
        Shape::logged,
        Reason::InvalidInclusionProof,
        Bundle(|b| proof(b)["checkpoint"]["envelope"] = "".into()),
    ),
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
            let algorithm = if case.recipe.log().kind.is_v1() {
                Algorithm::P256
            } else {
                Algorithm::Ed25519
            };
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
            let other = if entry(b)["inclusionPromise"].is_null() {
                &case.sigstore.rekor_v1
            } else {
                &case.sigstore.rekor_v2
            };
            let root: [u8; 32] = decoded(&proof(b)["rootHash"]).try_into().expect("32 bytes");
            proof(b)["checkpoint"]["envelope"] =
                other.checkpoint(&other.key, other.origin, 13, &root).into();
        }),
    ),
    holds(
        "a checkpoint that a witness signed as well",
        Shape::logged,
        Forge(|b, _| {
            let witness = Log::rekor_v2();
            let note: String = proof(b)["checkpoint"]["envelope"]
                .as_str()
                .expect("text")
                .split_inclusive('\n')
                .take(3)
                .collect();
            let signature = [&witness.id[..4], &witness.key.sign(note.as_bytes())].concat();
            let envelope = &mut proof(b)["checkpoint"]["envelope"];
            *envelope = format!(
                "{}\u{2014} witness.example.com {}\n",
                envelope.as_str().expect("text"),
                base64(&signature)
            )
            .into();
        }),
    ),
];
