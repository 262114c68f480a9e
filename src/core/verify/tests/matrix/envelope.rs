//! What is signed, and by whom: the envelope, the statement in it, and the bundle's verification
//! material.

use serde_json::Value;

use super::{
    super::*,
    Case, Change,
    Change::{Bundle, Forge, Make},
    Expected::{Holds, Refused},
    Fault, Part, Shape, flip, material, remove, row, statement,
};
use crate::core::verify::testing::sigstore::{Algorithm, Key, base64};

const fn refused(name: &'static str, reason: Reason, change: Change) -> Fault {
    row(name, Part::Always, Shape::any, Refused(reason), change)
}

const fn some(
    name: &'static str,
    applies: fn(Shape) -> bool,
    reason: Reason,
    change: Change,
) -> Fault {
    row(name, Part::Always, applies, Refused(reason), change)
}

const fn holds(name: &'static str, applies: fn(Shape) -> bool, change: Change) -> Fault {
    row(name, Part::Always, applies, Holds, change)
}

fn sig(bundle: &mut Value) -> &mut Value {
    &mut bundle["dsseEnvelope"]["signatures"][0]["sig"]
}

fn say(case: &mut Case, edit: fn(&mut Value)) {
    let mut statement = statement();
    edit(&mut statement);
    case.recipe.payload = statement.to_string().into_bytes();
}

fn say_text(case: &mut Case, edit: fn(String) -> String) {
    case.recipe.payload = edit(statement().to_string()).into_bytes();
}

pub(super) const FAULTS: &[Fault] = &[
    refused(
        "a signature that was spoilt before anybody saw it",
        Reason::InvalidSignature,
        Make(|case| {
            case.recipe.spoil = Some(|signature| *signature.last_mut().expect("bytes") ^= 1);
        }),
    ),
    some(
        "a flipped bit in the signature",
        |s| s.keyed() || s.only_v1(),
        Reason::InvalidSignature,
        Bundle(|b| flip(sig(b))),
    ),
    some(
        "a flipped bit in a stamped signature",
        |s| s.keyless() && s.stamped(),
        Reason::InvalidTimestamp,
        Bundle(|b| flip(sig(b))),
    ),
    some(
        "no bytes of a signature",
        |s| s.keyed() || s.only_v1(),
        Reason::InvalidSignature,
        Bundle(|b| *sig(b) = "".into()),
    ),
    refused(
        "another statement",
        Reason::InvalidSignature,
        Forge(|b, _| {
            let mut other = statement();
            other["predicateType"] = "https://slsa.dev/provenance/v1".into();
            b["dsseEnvelope"]["payload"] = base64(other.to_string().as_bytes()).into();
        }),
    ),
    refused(
        "another statement's end",
        Reason::InvalidSignature,
        Forge(|b, _| {
            b["dsseEnvelope"]["payload"] = base64(format!("{} ", statement()).as_bytes()).into();
        }),
    ),
    refused(
        "another payload type",
        Reason::MalformedEvidence,
        Bundle(|b| b["dsseEnvelope"]["payloadType"] = "text/plain".into()),
    ),
    refused(
        "another payload type, signed",
        Reason::MalformedEvidence,
        Make(|case| case.recipe.payload_type = "text/plain".into()),
    ),
    refused(
        "a signature over another payload type",
        Reason::InvalidSignature,
        Forge(|b, case| {
            let mut other = case.clone();
            other.recipe.payload_type = "text/plain".into();
            *b = other.recipe.bundle(&case.sigstore);
            b["dsseEnvelope"]["payloadType"] = "application/vnd.in-toto+json".into();
        }),
    ),
    refused(
        "two signatures",
        Reason::MalformedEvidence,
        Bundle(|b| {
            let one = b["dsseEnvelope"]["signatures"][0].clone();
            b["dsseEnvelope"]["signatures"] = json!([one, one]);
        }),
    ),
    refused(
        "no signatures",
        Reason::MalformedEvidence,
        Bundle(|b| b["dsseEnvelope"]["signatures"] = json!([])),
    ),
    refused(
        "a signature over plain bytes",
        Reason::MalformedEvidence,
        Bundle(|b| {
            let signature = sig(b).clone();
            remove(b, "dsseEnvelope");
            b["messageSignature"] = json!({
                "messageDigest": {"algorithm": "SHA2_256", "digest": base64(subject().as_bytes())},
                "signature": signature,
            });
        }),
    ),
    refused(
        "an envelope and a signature over plain bytes",
        Reason::MalformedEvidence,
        Bundle(|b| {
            b["messageSignature"] = json!({"signature": sig(b).clone()});
        }),
    ),
    refused(
        "neither envelope nor signature",
        Reason::MalformedEvidence,
        Bundle(|b| {
            remove(b, "dsseEnvelope");
        }),
    ),
    refused(
        "key and certificate",
        Reason::MalformedEvidence,
        Bundle(|b| {
            material(b)["publicKey"] = json!({"hint": ""});
            material(b)["certificate"] = json!({"rawBytes": "MAA="});
        }),
    ),
    refused(
        "neither key nor certificate",
        Reason::MalformedEvidence,
        Bundle(|b| {
            let material = material(b).as_object_mut().expect("material");
            material.remove("publicKey");
            material.remove("certificate");
        }),
    ),
    some(
        "a public key instead of a certificate",
        Shape::keyless,
        Reason::MalformedEvidence,
        Forge(|b, case| {
            material(b)["certificate"]["rawBytes"] = base64(&case.recipe.key.spki()).into();
        }),
    ),
    some(
        "a public key as certificate of a keyed bundle",
        |s| s.keyed() && s.logged(),
        Reason::MalformedEvidence,
        Forge(|b, case| {
            remove(material(b), "publicKey");
            material(b)["certificate"] = json!({"rawBytes": base64(&case.recipe.key.spki())});
        }),
    ),
    some(
        "a hint instead of a certificate",
        Shape::keyless,
        Reason::NoMatchingAuthority,
        Bundle(|b| {
            remove(material(b), "certificate");
            material(b)["publicKey"] = json!({"hint": ""});
        }),
    ),
    holds(
        "another hint",
        Shape::keyed,
        Bundle(|b| material(b)["publicKey"]["hint"] = "anything".into()),
    ),
    holds(
        "no hint",
        Shape::keyed,
        Bundle(|b| material(b)["publicKey"] = json!({})),
    ),
    some(
        "a key that nobody trusts",
        Shape::keyed,
        Reason::NoMatchingAuthority,
        Make(|case| {
            case.keys = vec![Key::new(Algorithm::P256)];
        }),
    ),
    some(
        "a key that nobody trusts, with the hint of one that is",
        Shape::keyed,
        Reason::InvalidSignature,
        Forge(|b, case| {
            let mut other = case.clone();
            other.recipe.key = Key::new(Algorithm::P256);
            *b = other.recipe.bundle(&case.sigstore);
            material(b)["publicKey"]["hint"] = base64(&case.recipe.key.id()).into();
        }),
    ),
    some(
        "nobody is trusted",
        Shape::keyed,
        Reason::NoMatchingAuthority,
        Make(|case| case.keys = Vec::new()),
    ),
    holds(
        "another key is trusted as well",
        Shape::keyed,
        Make(|case| case.keys.insert(0, Key::new(Algorithm::Ed25519))),
    ),
    // The statement.
    refused(
        "another digest",
        Reason::SubjectMismatch,
        Make(|case| {
            say(case, |s| {
                s["subject"][0]["digest"]["sha256"] = "00".repeat(32).into();
            });
        }),
    ),
    refused(
        "upper-case hex",
        Reason::SubjectMismatch,
        Make(|case| {
            say(case, |s| {
                s["subject"][0]["digest"]["sha256"] = subject().hex_digits().to_uppercase().into();
            });
        }),
    ),
    refused(
        "sha512 only",
        Reason::SubjectMismatch,
        Make(|case| {
            say(case, |s| {
                s["subject"][0]["digest"] = json!({"sha512": "00".repeat(64)});
            });
        }),
    ),
    refused(
        "the sha256 called sha512",
        Reason::SubjectMismatch,
        Make(|case| {
            say(case, |s| {
                s["subject"][0]["digest"] =
                    json!({"sha512": format!("{0}{0}", subject().hex_digits())});
            });
        }),
    ),
    some(
        "no subject",
        Shape::keyed,
        Reason::SubjectMismatch,
        Make(|case| say(case, |s| s["subject"] = json!([]))),
    ),
    some(
        "no subject, certified",
        Shape::keyless,
        Reason::MalformedEvidence,
        Make(|case| say(case, |s| s["subject"] = json!([]))),
    ),
    refused(
        "null for subjects",
        Reason::MalformedEvidence,
        Make(|case| say(case, |s| s["subject"] = Value::Null)),
    ),
    refused(
        "null for a digest",
        Reason::MalformedEvidence,
        Make(|case| say(case, |s| s["subject"][0]["digest"] = Value::Null)),
    ),
    holds(
        "several subjects",
        Shape::any,
        Make(|case| {
            say(case, |s| {
                let ours = s["subject"][0].clone();
                s["subject"] =
                    json!([{"name": "x", "digest": {"sha256": "00".repeat(32)}}, ours, ours]);
            });
        }),
    ),
    holds(
        "as many subjects as may be",
        Shape::any,
        Make(|case| {
            say(case, |s| {
                s["subject"] = vec![s["subject"][0].clone(); 64].into();
            });
        }),
    ),
    refused(
        "one subject too many",
        Reason::LimitExceeded,
        Make(|case| {
            say(case, |s| {
                s["subject"] = vec![s["subject"][0].clone(); 65].into();
            });
        }),
    ),
    holds(
        "another predicate type",
        Shape::any,
        Make(|case| {
            say(case, |s| {
                s["predicateType"] = "https://spdx.dev/Document".into();
            });
        }),
    ),
    refused(
        "no predicate type",
        Reason::MalformedEvidence,
        Make(|case| {
            say(case, |s| {
                remove(s, "predicateType");
            });
        }),
    ),
    refused(
        "another type of statement",
        Reason::MalformedEvidence,
        Make(|case| {
            say(case, |s| {
                s["_type"] = "https://in-toto.io/Statement/v2".into();
            });
        }),
    ),
    refused(
        "a key twice in the statement",
        Reason::MalformedEvidence,
        Make(|case| {
            say_text(case, |text| {
                text.replacen("\"predicate\":", "\"predicate\":{},\"predicate\":", 1)
            });
        }),
    ),
    refused(
        "a byte order mark before the statement",
        Reason::MalformedEvidence,
        Make(|case| say_text(case, |text| format!("\u{feff}{text}"))),
    ),
    refused(
        "half a statement",
        Reason::MalformedEvidence,
        Make(|case| say_text(case, |text| text[..text.len() - 1].to_owned())),
    ),
    refused(
        "two statements",
        Reason::MalformedEvidence,
        Make(|case| say_text(case, |text| format!("{text}{text}"))),
    ),
    refused(
        "no statement",
        Reason::MalformedEvidence,
        Make(|case| case.recipe.payload = Vec::new()),
    ),
    refused(
        "a statement nested too deep",
        Reason::MalformedEvidence,
        Make(|case| {
            say_text(case, |text| {
                text.replacen(
                    "\"the predicate\"",
                    &format!("{}1{}", "[".repeat(40), "]".repeat(40)),
                    1,
                )
            });
        }),
    ),
];
