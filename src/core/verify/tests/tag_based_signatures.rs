//! Two valid layers and every single fault, each with its one reason.

use std::{fs, path::Path, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};

use crate::core::{
    cosign_tags::{
        CERTIFICATE, CosignTagKind, DSSE, LOG_ENTRY, SIGNATURE, SIMPLE_SIGNING,
        SimpleSigningPayload, TIMESTAMP,
    },
    digest::Digest,
    intoto::COSIGN_SIGN,
    intoto::Statement,
    limits::InputLimits,
    media_type,
    oci::{Descriptor, ManifestOrIndex, layout},
    reason::Reason,
    slsa::PROVENANCE_V1,
    tag_based_signatures::testing::*,
    verify::{
        testing::{TestKey, shared_data, trust, with_content},
        *,
    },
};

fn subject() -> Digest {
    Digest::of_bytes(b"the judged manifest")
}

fn judged(candidates: Vec<CosignTagCandidate>, trust: &TrustedMaterial) -> VerificationFindings {
    verify_evidence(
        &subject(),
        &UnverifiedEvidence {
            legacy: candidates,
            ..UnverifiedEvidence::default()
        },
        trust,
        &InputLimits::DEFAULT,
    )
}

/// The result of one layer: the predicate type and format of the statement, or the reason.
fn verdict(
    candidate: &CosignTagCandidate,
    trust: &TrustedMaterial,
) -> Result<(String, StoredSignatureFormat), Reason> {
    let findings = judged(vec![candidate.clone()], trust);
    match (&findings.verified[..], &findings.rejected[..]) {
        ([verified], []) => Ok((
            verified.claim().predicate_type.clone(),
            verified.signature_format(),
        )),
        ([], [rejected]) => Err(rejected.reason),
        other => panic!("one layer, one answer: {other:?}"),
    }
}

fn payload() -> Value {
    serde_json::to_value(SimpleSigningPayload::for_image(
        "r.example.com/team-a/siem",
        &subject(),
    ))
    .expect("JSON")
}

fn statement() -> Statement {
    Statement::for_digest(
        "r.example.com/team-a/siem",
        &subject(),
        PROVENANCE_V1,
        json!({}),
    )
}

#[test]
fn a_signature_and_an_attestation_by_a_given_key_hold() {
    let (key, other) = (TestKey::new(), TestKey::new());
    let findings = judged(
        vec![key.sign_legacy(&subject()), key.attest_legacy(&statement())],
        &trust([&other, &key]),
    );
    let [signature, attestation] = &findings.verified[..] else {
        panic!("{:?}", findings.rejected)
    };
    assert_eq!(
        (
            signature.claim().predicate_type.as_str(),
            attestation.claim().predicate_type.as_str()
        ),
        (COSIGN_SIGN, PROVENANCE_V1)
    );
    for verified in [signature, attestation] {
        assert_eq!(
            *verified.signer(),
            SignerIdentity::Key {
                fingerprint: key.public().fingerprint()
            }
        );
        assert_eq!(
            (
                verified.signature_format(),
                verified.signing_time(),
                verified.time_evidence(),
                verified.trust_root()
            ),
            (
                StoredSignatureFormat::Legacy,
                SigningTime::Unknown,
                TimeEvidenceStatus::Absent,
                None
            )
        );
        assert_eq!(
            verified.claim().subject[0].name,
            "r.example.com/team-a/siem"
        );
        assert!(verified.claim().has_subject_digest(&subject()) && !verified.is_logged());
    }
}

#[test]
fn whoever_is_not_trusted_does_not_count() {
    let (key, other) = (TestKey::new(), TestKey::new());
    for candidate in [key.sign_legacy(&subject()), key.attest_legacy(&statement())] {
        assert_eq!(
            verdict(&candidate, &trust([&other])),
            Err(Reason::NoMatchingAuthority)
        );
        assert_eq!(
            verdict(&candidate, &TrustedMaterial::default()),
            Err(Reason::NoMatchingAuthority)
        );
    }
}

type Change = fn(&mut Value);

#[test]
fn the_payload_must_say_exactly_what_is_judged() {
    let key = TestKey::new();
    let trust = trust([&key]);
    let table: &[(&str, Reason, Change)] = &[
        ("another digest", Reason::SubjectMismatch, |p| {
            p["critical"]["image"]["docker-manifest-digest"] =
                Digest::of_bytes(b"x").to_string().into();
        }),
        ("upper case", Reason::SubjectMismatch, |p| {
            let digest = format!("sha256:{}", subject().hex_digits().to_uppercase());
            p["critical"]["image"]["docker-manifest-digest"] = digest.into();
        }),
        ("a space", Reason::SubjectMismatch, |p| {
            p["critical"]["image"]["docker-manifest-digest"] = format!("{} ", subject()).into();
        }),
        ("no algorithm", Reason::SubjectMismatch, |p| {
            p["critical"]["image"]["docker-manifest-digest"] = subject().hex_digits().into();
        }),
        ("no digest", Reason::MalformedEvidence, |p| {
            p["critical"]["image"] = json!({});
        }),
        ("null", Reason::MalformedEvidence, |p| {
            p["critical"]["image"]["docker-manifest-digest"] = Value::Null;
        }),
        ("another type", Reason::MalformedEvidence, |p| {
            p["critical"]["type"] = "atomic container signature".into();
        }),
        ("no type", Reason::MalformedEvidence, |p| {
            p["critical"]
                .as_object_mut()
                .expect("an object")
                .remove("type");
        }),
        ("nothing critical", Reason::MalformedEvidence, |p| {
            *p = json!({"optional": p["critical"]});
        }),
        ("a list", Reason::MalformedEvidence, |p| *p = json!([p])),
    ];
    for (what, reason, change) in table {
        let mut payload = payload();
        change(&mut payload);
        let findings = judged(
            vec![key.sign_payload(payload.to_string().as_bytes())],
            &trust,
        );
        assert!(findings.verified.is_empty(), "{what} was accepted");
        assert_eq!(
            findings.rejected[0].reason, *reason,
            "{what}: {}",
            findings.rejected[0].message
        );
        assert!(
            findings.rejected[0].signer.is_some(),
            "{what}: it was authenticated first"
        );
    }
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    let key = TestKey::new();
    let good = payload().to_string();
    assert!(verdict(&key.sign_payload(good.as_bytes()), &trust([&key])).is_ok());
    let twice = good.replace(r#""type":"#, r#""type":"x","type":"#);
    let deep = good.replace("null", &format!("{}1{}", "[".repeat(40), "]".repeat(40)));
    let unicode = format!("\u{feff}{good}");
    for text in [
        "",
        "{}",
        &good[1..],
        &twice,
        &deep,
        &unicode,
        &format!("{good}{good}"),
    ] {
        assert_eq!(
            verdict(&key.sign_payload(text.as_bytes()), &trust([&key])),
            Err(Reason::MalformedEvidence),
            "{text}"
        );
    }
    // Fields that are not read may have any content: other tools add their own.
    let more = good.replace(
        r#""optional":null"#,
        r#""optional":{"creator":"x","timestamp":1},"more":[]"#,
    );
    assert!(more != good && verdict(&key.sign_payload(more.as_bytes()), &trust([&key])).is_ok());
}

#[test]
fn an_attestation_that_is_about_something_else_or_ambiguous_is_refused() {
    let key = TestKey::new();
    let trust = trust([&key]);
    let elsewhere = Statement::for_digest("", &Digest::of_bytes(b"x"), PROVENANCE_V1, json!({}));
    assert_eq!(
        verdict(&key.attest_legacy(&elsewhere), &trust),
        Err(Reason::SubjectMismatch)
    );
    let good: Value =
        serde_json::from_slice(&key.attest_legacy(&statement()).content).expect("JSON");
    let table: &[(&str, Reason, Change)] = &[
        ("two signatures", Reason::MalformedEvidence, |e| {
            e["signatures"] = json!([e["signatures"][0], e["signatures"][0]]);
        }),
        ("no signature", Reason::MalformedEvidence, |e| {
            e["signatures"] = json!([]);
        }),
        ("another payload type", Reason::MalformedEvidence, |e| {
            e["payloadType"] = "text/plain".into();
        }),
        ("another payload", Reason::NoMatchingAuthority, |e| {
            e["payload"] = "e30=".into();
        }),
        ("no base64", Reason::MalformedEvidence, |e| {
            e["payload"] = "%".into();
        }),
        ("no base64 signature", Reason::MalformedEvidence, |e| {
            e["signatures"][0]["sig"] = "%".into();
        }),
        ("another signature", Reason::NoMatchingAuthority, |e| {
            e["signatures"][0]["sig"] = "MEQCIAAA".into();
        }),
    ];
    for (what, reason, change) in table {
        let mut envelope = good.clone();
        change(&mut envelope);
        assert_eq!(
            verdict(
                &layer(
                    CosignTagKind::Attestations,
                    envelope.to_string().as_bytes(),
                    &[]
                ),
                &trust
            ),
            Err(*reason),
            "{what}"
        );
    }
    let twice = good
        .to_string()
        .replace(r#""payload":"#, r#""payload":"e30=","payload":"#);
    assert_eq!(
        verdict(
            &layer(CosignTagKind::Attestations, twice.as_bytes(), &[]),
            &trust
        ),
        Err(Reason::MalformedEvidence)
    );
}

#[test]
fn a_layer_is_what_its_descriptor_and_its_tag_say() {
    let key = TestKey::new();
    let trust = trust([&key]);
    let (good, attestation) = (key.sign_legacy(&subject()), key.attest_legacy(&statement()));
    let changed = CosignTagCandidate {
        content: [good.content.as_ref(), b" "].concat().into(),
        ..good.clone()
    };
    assert_eq!(verdict(&changed, &trust), Err(Reason::DigestMismatch));
    for (tag_kind, candidate) in [
        (CosignTagKind::Attestations, &good),
        (CosignTagKind::Sboms, &good),
        (CosignTagKind::Signatures, &attestation),
    ] {
        assert_eq!(
            verdict(
                &CosignTagCandidate {
                    tag_kind,
                    ..candidate.clone()
                },
                &trust
            ),
            Err(Reason::MalformedEvidence)
        );
    }
    for media_type in [
        DSSE,
        "application/json",
        "application/vnd.dev.cosign.simplesigning.v1+json; charset=utf-8",
    ] {
        let mut other = good.clone();
        other.layer.media_type = media_type.into();
        assert_eq!(verdict(&other, &trust), Err(Reason::MalformedEvidence));
    }
}

#[test]
fn annotations_must_be_there_and_make_sense() {
    let key = TestKey::new();
    let trust = trust([&key]);
    for (name, value, reason) in [
        (SIGNATURE, None, Reason::MalformedEvidence),
        (SIGNATURE, Some(""), Reason::MalformedEvidence),
        (SIGNATURE, Some("%%"), Reason::MalformedEvidence),
        (SIGNATURE, Some("MEQCIAAA"), Reason::NoMatchingAuthority),
        // With a certificate no key is needed: a layer with both is verified with the certificate
        // only.
        (CERTIFICATE, Some("x"), Reason::MalformedEvidence),
        (
            CERTIFICATE,
            Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            Reason::NoTrustedTime,
        ),
    ] {
        let mut candidate = key.sign_legacy(&subject());
        match value {
            Some(value) => drop(
                candidate
                    .layer
                    .annotations
                    .insert(name.into(), value.into()),
            ),
            None => drop(candidate.layer.annotations.remove(name)),
        }
        assert_eq!(verdict(&candidate, &trust), Err(reason), "{name} {value:?}");
    }
    let mut with_key = key.sign_legacy(&subject());
    with_key
        .layer
        .annotations
        .insert(CERTIFICATE.into(), key.pem());
    assert_eq!(
        verdict(&with_key, &trust),
        Err(Reason::MalformedEvidence),
        "a raw key in the certificate's place"
    );
    let mut empty = key.sign_legacy(&subject());
    empty
        .layer
        .annotations
        .insert(CERTIFICATE.into(), String::new());
    assert!(
        verdict(&empty, &trust).is_ok(),
        "cosign leaves annotations empty"
    );
}

#[test]
fn one_good_layer_among_bad_ones_counts_and_the_bad_ones_are_told() {
    let key = TestKey::new();
    let mut candidates: Vec<_> = (0..20)
        .map(|n| layer(CosignTagKind::Signatures, format!("{n}").as_bytes(), &[]))
        .collect();
    candidates.insert(10, key.sign_legacy(&subject()));
    for (at, candidate) in candidates.iter_mut().enumerate() {
        candidate.position = at + 1;
    }
    let findings = judged(candidates, &trust([&key]));
    assert_eq!((findings.verified.len(), findings.rejected.len()), (1, 20));
    assert_eq!(
        findings.rejected[0].message,
        "layer 1 of its .sig tag: its annotation dev.cosignproject.cosign/signature is missing"
    );
}

#[test]
fn no_more_than_the_limit_is_opened_bundles_first() {
    let key = TestKey::new();
    let bundles = vec![with_content(&subject(), b"{}".to_vec()); 250];
    let evidence = |count: usize| {
        let mut legacy = vec![layer(CosignTagKind::Signatures, b"x", &[]); count];
        legacy.push(key.sign_legacy(&subject()));
        UnverifiedEvidence {
            candidates: bundles.clone(),
            legacy,
            ..UnverifiedEvidence::default()
        }
    };
    for (count, verified, unopened) in [(5, 1, 0), (6, 0, 1), (20, 0, 15)] {
        let findings = verify_evidence(
            &subject(),
            &evidence(count),
            &trust([&key]),
            &InputLimits::DEFAULT,
        );
        assert_eq!(
            (findings.verified.len(), findings.unopened),
            (verified, unopened),
            "{count}"
        );
    }
}

/// SPKI and signature over [`payload`], by OpenSSL: P-384 with SHA-256, which cosign 2 makes.
const P384_SHA256: (&str, &str) = (
    "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAE/7q9AsnGXqv/Bbg96IC5s6uH8cWFl3ynDOHDmArG5IhUY7XbxELl9mwWTg9Y2wNC5udCZ3T3g/4pHslWHw2Gba3bjNrZ4tNEK83Iee+v5wN/s2/MVghFFvFQpT/jZZfz",
    "MGUCMH3/4khMjbUFmpxwSi8uTCiuzhpJ+A7VmUlpbLbEISGh8lEbuBn/FMnLodXU5l5hfgIxAJhWCRCEZQUGkcjE3Qz8vBzG7j+XHUhYiyaZ+VvkL8BewYk7PrvWnKdOpCCvzUsZGQ==",
);
/// P-384 with SHA-512, which no tool uses.
const P384_SHA512: (&str, &str) = (
    "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEIn2wkvm2Hfd5kIcLuO9dShokFV2CUEzSIStVbhZfTHhGlPIxGWsXN3qRgQHOQRQyLWoh8DKOJD4SBVs/OGEgtYfJqLAL/kNaoL2+ETHv6754+Qzo7iU7VHtsoJWV4RYa",
    "MGUCMEn6cbWO5gdCVsp0dJJG4I8K9xiyGoZm4Vk/X/n/3736EtGwr/wAdF7cD2HkMkyOZQIxAObuvSmIpj69lXJ4k3bapx4mDhDTfuGY6URPkyysfMFIE4YhiVJ9JSL0kmSHX2bFxA==",
);
/// P-256 with SHA-384, which no tool uses.
const P256_SHA384: (&str, &str) = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEAjCoNc3/mBJzYEwZNVAXhN3GdKbzNvk7nVq7oW0UgL3YgXPjy7ADhQZCBmemw9uXLmfGEgdNfgu6X2ogdVVDQ==",
    "MEUCIGd/yu63ODGYW1mR8Yy3wwEns26gw0qfa6z1biQ9y/zKAiEAlb1C58BQcb+XF9aZ4sDxmlu8+6SGDaQYPrVOqR8cWHQ=",
);

#[test]
fn the_larger_curves_are_verified_as_both_cosigns_sign() {
    use aws_lc_rs::{
        encoding::AsDer,
        rand::SystemRandom,
        signature::{
            ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA256_ASN1_SIGNING,
            ECDSA_P521_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
            EcdsaSigningAlgorithm, KeyPair,
        },
    };
    let payload = serde_json::to_string(&SimpleSigningPayload::for_image(
        "r.example.com/team-a/siem",
        &subject(),
    ))
    .expect("JSON");
    let made = |algorithm: &'static EcdsaSigningAlgorithm| {
        let pair = EcdsaKeyPair::generate(algorithm).expect("a key");
        let spki = BASE64.encode(pair.public_key().as_der().expect("DER").as_ref());
        (
            spki,
            BASE64.encode(
                pair.sign(&SystemRandom::new(), payload.as_bytes())
                    .expect("a signature"),
            ),
        )
    };
    let given = |(spki, signature): (&str, &str)| (spki.to_owned(), signature.to_owned());
    for (what, (spki, signature), good) in [
        ("P-256 with SHA-384", given(P256_SHA384), false),
        ("P-384 with SHA-256", given(P384_SHA256), true),
        (
            "P-384 with SHA-384",
            made(&ECDSA_P384_SHA384_ASN1_SIGNING),
            true,
        ),
        ("P-384 with SHA-512", given(P384_SHA512), false),
        (
            "P-521 with SHA-256",
            made(&ECDSA_P521_SHA256_ASN1_SIGNING),
            true,
        ),
        (
            "P-521 with SHA-384",
            made(&ECDSA_P521_SHA384_ASN1_SIGNING),
            false,
        ),
        (
            "P-521 with SHA-512",
            made(&ECDSA_P521_SHA512_ASN1_SIGNING),
            true,
        ),
    ] {
        let key = VerificationKey::from_pem(&format!(
            "-----BEGIN PUBLIC KEY-----\n{spki}\n-----END PUBLIC KEY-----\n"
        ))
        .expect("a key");
        let candidate = layer(
            CosignTagKind::Signatures,
            payload.as_bytes(),
            &[(SIGNATURE, &signature)],
        );
        let trust = TrustedMaterial {
            keys: vec![key],
            ..TrustedMaterial::default()
        };
        let expected = if good {
            Ok((COSIGN_SIGN.to_owned(), StoredSignatureFormat::Legacy))
        } else {
            Err(Reason::NoMatchingAuthority)
        };
        assert_eq!(verdict(&candidate, &trust), expected, "{what}");
    }
}

fn vouching(key: &TestKey, root: TrustRoot) -> TrustedMaterial {
    TrustedMaterial {
        key_trust_roots: vec![Arc::new(root)],
        ..trust([key])
    }
}

#[test]
fn a_logs_promise_vouches_for_a_keys_signature() {
    let (key, log) = (TestKey::new(), TestLog::new());
    let root = log.root();
    let digest = root.digest();
    let trust = vouching(&key, root);
    for candidate in [key.sign_legacy(&subject()), key.attest_legacy(&statement())] {
        let findings = judged(vec![log.log(&key, candidate.clone())], &trust);
        let [alone, vouched] = &findings.verified[..] else {
            panic!("{:?}", findings.rejected)
        };
        assert_eq!(
            (
                alone.signature_format(),
                alone.time_evidence(),
                alone.trust_root(),
                alone.is_logged()
            ),
            (
                StoredSignatureFormat::Legacy,
                TimeEvidenceStatus::Unchecked,
                None,
                false
            )
        );
        assert_eq!(
            (
                vouched.signature_format(),
                vouched.time_evidence(),
                vouched.trust_root()
            ),
            (
                StoredSignatureFormat::LegacySetOnly,
                TimeEvidenceStatus::Verified,
                Some(&digest)
            )
        );
        assert!(vouched.is_logged());
        assert_eq!(
            vouched
                .signing_time()
                .timestamp()
                .map(jiff::Timestamp::as_second),
            Some(LOGGED)
        );
        // Without the promise there is no time evidence to verify.
        let findings = judged(vec![candidate], &trust);
        assert_eq!(
            (
                findings.verified.len(),
                findings.verified[0].time_evidence()
            ),
            (1, TimeEvidenceStatus::Absent)
        );
    }
}

#[test]
fn a_promise_that_does_not_hold_vouches_for_nothing() {
    type Break = fn(&TestLog, &TestKey, &mut CosignTagCandidate);
    fn edit(candidate: &mut CosignTagCandidate, change: impl Fn(&mut Value)) {
        let mut promise: Value =
            serde_json::from_str(&candidate.layer.annotations[LOG_ENTRY]).expect("JSON");
        change(&mut promise);
        candidate
            .layer
            .annotations
            .insert(LOG_ENTRY.into(), promise.to_string());
    }
    fn log_instead(log: &TestLog, candidate: &mut CosignTagCandidate, body: &Value) {
        candidate
            .layer
            .annotations
            .insert(LOG_ENTRY.into(), log.promise(body).to_string());
    }
    let table: &[(&str, Reason, Break)] = &[
        ("garbage SET", Reason::InvalidTimestamp, |_, _, c| {
            edit(c, |p| p["SignedEntryTimestamp"] = "AAAA".into());
        }),
        ("a minute earlier", Reason::InvalidTimestamp, |_, _, c| {
            edit(c, |p| p["Payload"]["integratedTime"] = (LOGGED - 60).into());
        }),
        ("another index", Reason::InvalidTimestamp, |_, _, c| {
            edit(c, |p| p["Payload"]["logIndex"] = 8.into());
        }),
        ("another log", Reason::InvalidTimestamp, |_, _, c| {
            edit(c, |p| {
                p["Payload"]["logID"] = Digest::of_bytes(b"x").hex_digits().into();
            });
        }),
        (
            "a log without a name",
            Reason::MalformedEvidence,
            |_, _, c| edit(c, |p| p["Payload"]["logID"] = "zz".into()),
        ),
        (
            "a body that is no base64",
            Reason::MalformedEvidence,
            |_, _, c| edit(c, |p| p["Payload"]["body"] = "%".into()),
        ),
        ("no body", Reason::MalformedEvidence, |_, _, c| {
            edit(c, |p| p["Payload"]["body"] = "e30=".into());
        }),
        (
            "an unknown kind",
            Reason::MalformedEvidence,
            |log, key, c| {
                let mut other = body(key, c);
                other["kind"] = "surprise".into();
                log_instead(log, c, &other);
            },
        ),
        ("no JSON", Reason::MalformedEvidence, |_, _, c| {
            drop(c.layer.annotations.insert(LOG_ENTRY.into(), "{".into()));
        }),
        (
            "a time from the future",
            Reason::MalformedEvidence,
            |_, _, c| edit(c, |p| p["Payload"]["integratedTime"] = u64::MAX.into()),
        ),
        (
            "the entry of another payload",
            Reason::LogEntryMismatch,
            |log, key, c| {
                let mut other = body(key, c);
                other["spec"]["data"]["hash"]["value"] = Digest::of_bytes(b"x").hex_digits().into();
                log_instead(log, c, &other);
            },
        ),
        (
            "the entry of another signature",
            Reason::LogEntryMismatch,
            |log, key, c| {
                let mut other = body(key, c);
                other["spec"]["signature"]["content"] =
                    BASE64.encode(key.signature(&c.content)).into();
                log_instead(log, c, &other);
            },
        ),
        (
            "the entry of another key",
            Reason::LogEntryMismatch,
            |log, _, c| {
                let other = body(&TestKey::new(), c);
                log_instead(log, c, &other);
            },
        ),
        ("only a timestamp", Reason::NoTrustedTime, |_, _, c| {
            c.layer.annotations.remove(LOG_ENTRY);
            c.layer.annotations.insert(
                TIMESTAMP.into(),
                r#"{"SignedRFC3161Timestamp":"AAAA"}"#.into(),
            );
        }),
        (
            "a garbage timestamp beside it",
            Reason::InvalidTimestamp,
            |_, _, c| {
                c.layer.annotations.insert(
                    TIMESTAMP.into(),
                    r#"{"SignedRFC3161Timestamp":"AAAA"}"#.into(),
                );
            },
        ),
        (
            "an unreadable timestamp beside it",
            Reason::MalformedEvidence,
            |_, _, c| drop(c.layer.annotations.insert(TIMESTAMP.into(), "[]".into())),
        ),
    ];
    let (key, log) = (TestKey::new(), TestLog::new());
    let without_log = trust([&key]);
    let trust = vouching(&key, log.root());
    for (what, reason, change) in table {
        let mut candidate = log.log(&key, key.sign_legacy(&subject()));
        change(&log, &key, &mut candidate);
        let findings = judged(vec![candidate.clone()], &trust);
        assert!(
            findings
                .verified
                .iter()
                .all(|verified| verified.trust_root().is_none()
                    && verified.time_evidence() == TimeEvidenceStatus::Unchecked),
            "{what}"
        );
        assert_eq!(findings.rejected.len(), 1, "{what}");
        assert_eq!(
            findings.rejected[0].reason, *reason,
            "{what}: {}",
            findings.rejected[0].message
        );
        assert_eq!(
            findings.rejected[0].signer,
            Some(SignerIdentity::Key {
                fingerprint: key.public().fingerprint()
            }),
            "{what}"
        );
        // A policy without a log is not affected by its content.
        assert!(verdict(&candidate, &without_log).is_ok(), "{what}");
    }
    let stranger = vouching(&key, TestLog::new().root());
    assert_eq!(
        judged(vec![log.log(&key, key.sign_legacy(&subject()))], &stranger).rejected[0].reason,
        Reason::InvalidTimestamp
    );
}

#[test]
fn a_changed_byte_never_verifies_as_something_else() {
    let (key, log) = (TestKey::new(), TestLog::new());
    let trust = vouching(&key, log.root());
    for original in [
        log.log(&key, key.sign_legacy(&subject())),
        log.log(&key, key.attest_legacy(&statement())),
    ] {
        let said = |candidate: &CosignTagCandidate| {
            let findings = judged(vec![candidate.clone()], &trust);
            findings
                .verified
                .first()
                .map(|verified| serde_json::to_string(verified.claim()).expect("JSON"))
        };
        let expected = said(&original).expect("it verifies");
        for at in 0..original.content.len() {
            for bit in [0x01, 0x04, 0x20] {
                let mut content = original.content.to_vec();
                content[at] ^= bit;
                let layer = Descriptor {
                    annotations: original.layer.annotations.clone(),
                    ..Descriptor::of_bytes(original.layer.media_type.clone(), &content)
                };
                let changed = said(&CosignTagCandidate {
                    content: content.into(),
                    layer,
                    ..original.clone()
                });
                // An envelope has its key id, and base64 with unused last bits. A payload is signed
                // to the last byte.
                assert!(
                    changed.is_none()
                        || original.tag_kind == CosignTagKind::Attestations
                            && changed == Some(expected.clone()),
                    "byte {at}"
                );
            }
        }
        for (name, value) in &original.layer.annotations {
            for at in 0..value.len() {
                let mut bytes = value.clone().into_bytes();
                bytes[at] ^= 0x01;
                let Ok(text) = String::from_utf8(bytes) else {
                    continue;
                };
                let mut changed = original.clone();
                changed.layer.annotations.insert(name.clone(), text);
                let findings = judged(vec![changed], &trust);
                assert!(
                    findings
                        .verified
                        .iter()
                        .all(
                            |verified| serde_json::to_string(verified.claim()).expect("JSON")
                                == expected
                        ),
                    "{name} {at}"
                );
                let vouched: Vec<_> = findings
                    .verified
                    .iter()
                    .filter_map(|verified| verified.signing_time().timestamp())
                    .collect();
                assert!(
                    vouched.iter().all(|time| time.as_second() == LOGGED),
                    "{name} {at}: another time"
                );
            }
        }
    }
}

/// A genuine bundle of the conformance suite, with its log entry as cosign's annotation.
fn genuine(
    data: &Path,
    case: &str,
    content: &[u8],
    beside: CosignTagKind,
) -> (CosignTagCandidate, Value) {
    let bundle = fs::read(
        data.join("sigstore-conformance")
            .join(case)
            .join("bundle.sigstore.json"),
    )
    .expect("a bundle");
    let bundle: Value = serde_json::from_slice(&bundle).expect("JSON");
    let entry = &bundle["verificationMaterial"]["tlogEntries"][0];
    let number = |value: &Value| {
        value
            .as_str()
            .expect("text")
            .parse::<u64>()
            .expect("a number")
    };
    let log_id = BASE64
        .decode(entry["logId"]["keyId"].as_str().expect("text"))
        .expect("base64");
    let promise = json!({
        "SignedEntryTimestamp": entry["inclusionPromise"]["signedEntryTimestamp"],
        "Payload": {"body": entry["canonicalizedBody"],
            "integratedTime": number(&entry["integratedTime"]),
            "logIndex": number(&entry["logIndex"]),
            "logID": hex(&log_id)},
    });
    let material = &bundle["verificationMaterial"];
    let der = material["certificate"]["rawBytes"]
        .as_str()
        .or_else(|| material["x509CertificateChain"]["certificates"][0]["rawBytes"].as_str());
    let pem = der
        .map(|der| format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n"))
        .unwrap_or_default();
    let signature = bundle["messageSignature"]["signature"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let content = if beside == CosignTagKind::Attestations {
        bundle["dsseEnvelope"].to_string().into_bytes()
    } else {
        content.to_vec()
    };
    let annotations = [
        (SIGNATURE, signature.as_str()),
        (CERTIFICATE, pem.as_str()),
        (LOG_ENTRY, &promise.to_string()),
    ];
    (layer(beside, &content, &annotations), bundle)
}

fn hex(bytes: &[u8]) -> String {
    ::hex::encode(bytes)
}

fn root(data: &Path, path: &str) -> TrustRoot {
    TrustRoot::parse(
        &fs::read(data.join(path)).expect("a trust root"),
        &InputLimits::DEFAULT,
    )
    .expect("a trust root")
}

#[test]
fn a_genuine_keyless_attestation_holds_as_a_promise_and_nothing_of_it_can_change() {
    let Some(data) = shared_data(
        "a_genuine_keyless_attestation_holds_as_a_promise_and_nothing_of_it_can_change",
    ) else {
        return;
    };
    let artifact: Digest =
        "sha256:a0cfc71271d6e278e57cd332ff957c3f7043fdda354c4cbb190a30d56efa01bf"
            .parse()
            .expect("a digest");
    let (good, _) = genuine(
        &data,
        "happy-path-intoto-in-dsse-v3",
        b"",
        CosignTagKind::Attestations,
    );
    let trust = TrustedMaterial {
        roots: vec![Arc::new(root(&data, "trust/prod_trusted_root.json"))],
        ..TrustedMaterial::default()
    };
    let judge = |candidate: &CosignTagCandidate, about: &Digest| {
        verify_evidence(
            about,
            &UnverifiedEvidence {
                legacy: vec![candidate.clone()],
                ..UnverifiedEvidence::default()
            },
            &trust,
            &InputLimits::DEFAULT,
        )
    };
    let findings = judge(&good, &artifact);
    let [verified] = &findings.verified[..] else {
        panic!("{:?}", findings.rejected)
    };
    assert_eq!(
        (verified.signature_format(), verified.is_logged()),
        (StoredSignatureFormat::LegacySetOnly, true)
    );
    assert!(
        matches!(verified.signer(), SignerIdentity::Identity { issuer, .. } if issuer == "https://token.actions.githubusercontent.com")
    );
    assert_eq!(
        verified
            .signing_time()
            .timestamp()
            .map(jiff::Timestamp::as_second),
        Some(1_734_374_576)
    );

    let refused = |what: &str, reason: Reason, candidate: &CosignTagCandidate| {
        let findings = judge(candidate, &artifact);
        assert!(findings.verified.is_empty(), "{what} was accepted");
        assert_eq!(
            findings.rejected[0].reason, reason,
            "{what}: {}",
            findings.rejected[0].message
        );
    };
    let with = |name: &str, value: &str| {
        let mut changed = good.clone();
        changed.layer.annotations.insert(name.into(), value.into());
        changed
    };
    let promise = &good.layer.annotations[LOG_ENTRY];
    refused("no promise", Reason::NoTrustedTime, &with(LOG_ENTRY, ""));
    refused(
        "a minute later",
        Reason::InvalidTimestamp,
        &with(LOG_ENTRY, &promise.replace("1734374576", "1734374636")),
    );
    refused(
        "no certificate",
        Reason::NoMatchingAuthority,
        &with(CERTIFICATE, ""),
    );
    let pem = &good.layer.annotations[CERTIFICATE];
    refused(
        "two certificates",
        Reason::MalformedEvidence,
        &with(CERTIFICATE, &format!("{pem}{pem}")),
    );
    let (other, _) = genuine(&data, "happy-path-v0.3", b"", CosignTagKind::Signatures);
    refused(
        "another's entry",
        Reason::CertificateExpired,
        &with(LOG_ENTRY, &other.layer.annotations[LOG_ENTRY]),
    );
    let own = with(CERTIFICATE, &other.layer.annotations[CERTIFICATE]);
    let findings = judge(&own, &artifact);
    assert!(findings.verified.is_empty(), "another's certificate");
    assert_eq!(
        judge(&good, &subject()).rejected[0].reason,
        Reason::SubjectMismatch
    );
    let staging = TrustedMaterial {
        roots: vec![Arc::new(root(
            &data,
            "sigstore-conformance/intoto-with-custom-trust-root/trusted_root.json",
        ))],
        ..TrustedMaterial::default()
    };
    let findings = verify_evidence(
        &artifact,
        &UnverifiedEvidence {
            legacy: vec![good],
            ..UnverifiedEvidence::default()
        },
        &staging,
        &InputLimits::DEFAULT,
    );
    assert!(findings.verified.is_empty(), "another trust root");
}

#[test]
fn genuine_signatures_are_authenticated_and_then_read() {
    let Some(data) = shared_data("genuine_signatures_are_authenticated_and_then_read") else {
        return;
    };
    let artifact = fs::read(data.join("sigstore-conformance/a.txt")).expect("the artifact");
    let keyless = TrustedMaterial {
        roots: vec![Arc::new(root(&data, "trust/prod_trusted_root.json"))],
        ..TrustedMaterial::default()
    };
    for case in ["happy-path-v0.1", "happy-path-v0.2", "happy-path-v0.3"] {
        // They sign a text that is not a simple signing payload: the signer is known, and the
        // content is refused.
        let (candidate, _) = genuine(&data, case, &artifact, CosignTagKind::Signatures);
        let findings = judged(vec![candidate.clone()], &keyless);
        let [rejected] = &findings.rejected[..] else {
            panic!("{case}: {findings:?}")
        };
        assert_eq!(
            rejected.reason,
            Reason::MalformedEvidence,
            "{case}: {}",
            rejected.message
        );
        assert!(
            matches!(rejected.signer, Some(SignerIdentity::Identity { .. })),
            "{case}: {}",
            rejected.message
        );
        let other = CosignTagCandidate {
            layer: Descriptor {
                annotations: candidate.layer.annotations,
                ..Descriptor::of_bytes(SIMPLE_SIGNING, b"x")
            },
            content: b"x".to_vec().into(),
            ..candidate
        };
        assert_eq!(
            judged(vec![other], &keyless).rejected[0].reason,
            Reason::InvalidSignature,
            "{case}"
        );
    }
}

/// Signatures by cosign 2 with a key and no log, in a layout.
#[test]
fn cosigns_own_tags_hold() {
    const JUDGED: &str = "sha256:8c7cb9c9d2e827380186bd014586866c475ee125f2009d8d6303f3b700a3e5cf";
    let Some(data) = shared_data("cosigns_own_tags_hold") else {
        return;
    };
    let folder = data.join("cosign-made/lay-legacy");
    let judged: Digest = JUDGED.parse().expect("a digest");
    let read = |descriptor: &Descriptor| {
        fs::read(folder.join(layout::blob_path(&descriptor.digest))).expect("a blob")
    };
    let index = fs::read(folder.join(layout::INDEX_FILE)).expect("an index");
    let index =
        ManifestOrIndex::parse(media_type::INDEX, &index, &InputLimits::DEFAULT).expect("an index");
    let mut legacy = Vec::new();
    for beside in [CosignTagKind::Signatures, CosignTagKind::Attestations] {
        let tag = beside.tag_for(&judged).to_string();
        let named = index
            .children()
            .into_iter()
            .find(|entry| entry.annotations.get(layout::REF_NAME) == Some(&tag))
            .expect("the tag");
        let ManifestOrIndex::Manifest(manifest) =
            ManifestOrIndex::parse(&named.media_type, &read(named), &InputLimits::DEFAULT)
                .expect("a manifest")
        else {
            panic!()
        };
        for (at, layer) in manifest.layers.into_iter().enumerate() {
            let content = read(&layer).into();
            legacy.push(CosignTagCandidate {
                tag_kind: beside,
                manifest: named.digest,
                position: at + 1,
                layer,
                content,
            });
        }
    }
    let evidence = UnverifiedEvidence {
        legacy,
        ..UnverifiedEvidence::default()
    };
    let key = VerificationKey::from_pem(
        &fs::read_to_string(data.join("cosign-made/cosign.pub")).expect("a key"),
    )
    .expect("a key");
    let ours = TrustedMaterial {
        keys: vec![key],
        ..TrustedMaterial::default()
    };
    let findings = verify_evidence(&judged, &evidence, &ours, &InputLimits::DEFAULT);
    let types: Vec<_> = findings
        .verified
        .iter()
        .map(|v| {
            (
                v.claim().predicate_type.as_str(),
                v.claim().subject[0].name.as_str(),
                v.signature_format(),
            )
        })
        .collect();
    let name = "127.0.0.1:5000/t/legacy";
    assert_eq!(
        types,
        [
            (COSIGN_SIGN, name, StoredSignatureFormat::Legacy),
            (PROVENANCE_V1, name, StoredSignatureFormat::Legacy)
        ]
    );
    assert!(findings.rejected.is_empty());
    let findings = verify_evidence(&subject(), &evidence, &ours, &InputLimits::DEFAULT);
    assert!(
        findings.verified.is_empty()
            && findings
                .rejected
                .iter()
                .all(|rejected| rejected.reason == Reason::SubjectMismatch)
    );
    let findings = verify_evidence(
        &judged,
        &evidence,
        &trust([&TestKey::new()]),
        &InputLimits::DEFAULT,
    );
    assert!(
        findings.verified.is_empty()
            && findings
                .rejected
                .iter()
                .all(|rejected| rejected.reason == Reason::NoMatchingAuthority)
    );
}
