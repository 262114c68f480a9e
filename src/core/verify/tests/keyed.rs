use super::*;
use crate::core::evidence::reason_rank;

fn manifest(candidate: &mut ReferrerCandidate) -> &mut crate::core::oci::ImageManifest {
    match &mut candidate.manifest {
        ManifestOrIndex::Manifest(manifest) => manifest,
        ManifestOrIndex::Index(_) => panic!("a manifest"),
    }
}

fn statement() -> Value {
    json!({
        "_type": STATEMENT_V01,
        "subject": [{"name": "x", "digest": {"sha256": subject().hex_digits()}}],
        "predicateType": COSIGN_SIGN,
        "predicate": {},
    })
}

fn signed(key: &TestKey, statement: &Value) -> ReferrerCandidate {
    candidate(
        &subject(),
        &key.bundle(media_type::IN_TOTO, statement.to_string().as_bytes()),
    )
}

#[test]
fn a_signature_by_a_given_key_holds() {
    let (key, other) = (TestKey::new(), TestKey::new());
    let findings = verify_evidence(
        &subject(),
        &evidence(vec![key.sign(&subject())]),
        &trust([&other, &key]),
        &InputLimits::DEFAULT,
    );
    let [verified] = &findings.verified[..] else {
        panic!("{:?}", findings.rejected)
    };
    assert_eq!(
        *verified.signer(),
        SignerIdentity::Key {
            fingerprint: key.public().fingerprint()
        }
    );
    assert_eq!(
        (
            *verified.subject(),
            verified.signing_time(),
            verified.trust_root()
        ),
        (subject(), SigningTime::Unknown, None)
    );
}

#[test]
fn the_hint_is_only_a_hint() {
    let (key, other) = (TestKey::new(), TestKey::new());
    let mut bundle = key.bundle(media_type::IN_TOTO, statement().to_string().as_bytes());
    for hint in [
        String::new(),
        "nonsense".into(),
        other.public().bundle_key_hint(),
    ] {
        bundle["verificationMaterial"]["publicKey"]["hint"] = hint.into();
        assert_eq!(
            verdict(candidate(&subject(), &bundle), &trust([&key, &other])).as_deref(),
            Ok(COSIGN_SIGN)
        );
    }
    // The hint of a trusted key, and a signature by an untrusted one.
    bundle["verificationMaterial"]["publicKey"]["hint"] = other.public().bundle_key_hint().into();
    refused(
        Reason::InvalidSignature,
        candidate(&subject(), &bundle),
        &trust([&other]),
    );
}

#[test]
fn whoever_is_not_trusted_does_not_count() {
    let (key, other) = (TestKey::new(), TestKey::new());
    refused(
        Reason::NoMatchingAuthority,
        key.sign(&subject()),
        &trust([&other]),
    );
    refused(
        Reason::NoMatchingAuthority,
        key.sign(&subject()),
        &TrustedMaterial::default(),
    );
}

#[test]
fn a_statement_about_something_else_does_not_count() {
    let key = TestKey::new();
    let elsewhere = Digest::of_bytes(b"another manifest");
    let about = Statement::for_digest("", &elsewhere, COSIGN_SIGN, json!({}));
    let findings = verify_evidence(
        &subject(),
        &evidence(vec![key.attest(&subject(), &about)]),
        &trust([&key]),
        &InputLimits::DEFAULT,
    );
    assert_eq!(findings.rejected[0].reason, Reason::SubjectMismatch);
    assert_eq!(
        findings.rejected[0].signer,
        Some(SignerIdentity::Key {
            fingerprint: key.public().fingerprint()
        })
    );
    assert!(
        findings.rejected[0]
            .message
            .contains(&elsewhere.hex_digits())
    );
}

#[test]
fn only_the_exact_sha256_of_a_subject_counts() {
    let key = TestKey::new();
    let hex = subject().hex_digits();
    let table = [
        (json!([{"digest": {"sha256": hex}}]), Ok(())),
        (
            json!([
                {"digest": {"sha256": "00"}},
                {"name": "x", "digest": {"sha512": "1", "sha256": hex}},
            ]),
            Ok(()),
        ),
        (
            json!([{"digest": {"sha256": hex.to_uppercase()}}]),
            Err(Reason::SubjectMismatch),
        ),
        (
            json!([{"digest": {"sha256": format!(" {hex}")}}]),
            Err(Reason::SubjectMismatch),
        ),
        (
            json!([{"digest": {"sha256": &hex[..63]}}]),
            Err(Reason::SubjectMismatch),
        ),
        (
            json!([{"digest": {"sha512": hex}}]),
            Err(Reason::SubjectMismatch),
        ),
        (
            json!([{"digest": {"SHA256": hex}}]),
            Err(Reason::SubjectMismatch),
        ),
        (
            json!([{"name": hex, "digest": {}}]),
            Err(Reason::SubjectMismatch),
        ),
        (json!([]), Err(Reason::SubjectMismatch)),
        (json!([{"digest": null}]), Err(Reason::MalformedEvidence)),
        (Value::Null, Err(Reason::MalformedEvidence)),
        (
            vec![json!({"digest": {"sha256": hex}}); 65].into(),
            Err(Reason::LimitExceeded),
        ),
    ];
    for (subjects, expected) in table {
        let mut statement = statement();
        statement["subject"] = subjects.clone();
        assert_eq!(
            verdict(signed(&key, &statement), &trust([&key])).map(|_| ()),
            expected,
            "{subjects}"
        );
    }
}

#[test]
fn what_is_signed_must_be_a_statement() {
    let key = TestKey::new();
    let good = statement().to_string();
    assert_eq!(
        verdict(signed(&key, &statement()), &trust([&key])).as_deref(),
        Ok(COSIGN_SIGN)
    );
    let deep = good.replace("{}", &format!("{}1{}", "[".repeat(40), "]".repeat(40)));
    for payload in [
        String::new(),
        "{}".into(),
        format!("\u{feff}{good}"),
        good[..good.len() - 1].to_owned(),
        format!("{good}{good}"),
        good.replace("/v0.1", "/v2"),
        good.replace(r#""predicate":"#, r#""predicate":1,"predicate":"#),
        good.replace(
            &format!(r#""predicateType":"{COSIGN_SIGN}""#),
            r#""predicateType":7"#,
        ),
        deep,
    ] {
        refused(
            Reason::MalformedEvidence,
            candidate(
                &subject(),
                &key.bundle(media_type::IN_TOTO, payload.as_bytes()),
            ),
            &trust([&key]),
        );
    }
}

#[test]
fn the_payload_type_is_signed_and_fixed() {
    let key = TestKey::new();
    let payload = statement().to_string();
    let mut swapped = key.bundle("text/plain", payload.as_bytes());
    refused(
        Reason::MalformedEvidence,
        candidate(&subject(), &swapped),
        &trust([&key]),
    );
    swapped["dsseEnvelope"]["payloadType"] = media_type::IN_TOTO.into();
    refused(
        Reason::InvalidSignature,
        candidate(&subject(), &swapped),
        &trust([&key]),
    );
}

#[test]
fn an_envelope_has_one_signature() {
    let key = TestKey::new();
    let mut bundle = key.bundle(media_type::IN_TOTO, statement().to_string().as_bytes());
    let signature = bundle["dsseEnvelope"]["signatures"][0].clone();
    bundle["dsseEnvelope"]["signatures"] = json!([signature, signature]);
    refused(
        Reason::MalformedEvidence,
        candidate(&subject(), &bundle),
        &trust([&key]),
    );
    bundle["dsseEnvelope"] = Value::Null;
    bundle["messageSignature"] = json!({"signature": signature["sig"]});
    refused(
        Reason::MalformedEvidence,
        candidate(&subject(), &bundle),
        &trust([&key]),
    );
}

#[test]
fn the_manifest_must_refer_to_the_judged_digest() {
    let key = TestKey::new();
    let mut foreign = key.sign(&subject());
    manifest(&mut foreign).subject = Some(Descriptor::of_bytes(
        media_type::MANIFEST,
        b"another manifest",
    ));
    refused(Reason::SubjectMismatch, foreign.clone(), &trust([&key]));
    manifest(&mut foreign).subject = None;
    refused(Reason::SubjectMismatch, foreign.clone(), &trust([&key]));
    let findings = verify_evidence(
        &subject(),
        &evidence(vec![foreign]),
        &trust([&key]),
        &InputLimits::DEFAULT,
    );
    assert_eq!(
        findings.rejected[0].rejection_rank(),
        reason_rank(Reason::MalformedEvidence),
        "nobody signed that"
    );
}

#[test]
fn the_manifest_must_have_the_bundle_as_its_only_layer() {
    let key = TestKey::new();
    let good = key.sign(&subject());
    let mut two = good.clone();
    let layer = manifest(&mut two).layers[0].clone();
    manifest(&mut two).layers.push(layer);
    refused(Reason::MalformedEvidence, two, &trust([&key]));
    let mut other = good.clone();
    manifest(&mut other).layers[0].media_type = "application/spdx+json".into();
    assert!(
        sigstore_bundle_layer(&other.manifest, &subject())
            .expect("a plain referrer")
            .is_none()
    );
    refused(Reason::MalformedEvidence, other, &trust([&key]));
    let mut changed = good;
    changed.content = [changed.content.as_ref(), b" "].concat().into();
    refused(Reason::DigestMismatch, changed, &trust([&key]));
}

#[test]
fn one_good_signature_among_bad_ones_counts_and_the_bad_ones_are_told() {
    let key = TestKey::new();
    let mut candidates: Vec<_> = (0..20)
        .map(|n| with_content(&subject(), format!("{{\"n\":{n}}}").into_bytes()))
        .collect();
    candidates.insert(10, key.sign(&subject()));
    let findings = verify_evidence(
        &subject(),
        &evidence(candidates),
        &trust([&key]),
        &InputLimits::DEFAULT,
    );
    assert_eq!(
        (
            findings.verified.len(),
            findings.rejected.len(),
            findings.unopened
        ),
        (1, 20, 0)
    );
    assert!(
        findings
            .rejected
            .iter()
            .all(|rejected| rejected.reason == Reason::MalformedEvidence)
    );
}

#[test]
fn no_more_than_the_limit_is_opened() {
    let key = TestKey::new();
    let mut candidates = vec![with_content(&subject(), b"{}".to_vec()); 300];
    candidates.push(key.sign(&subject()));
    let findings = verify_evidence(
        &subject(),
        &evidence(candidates),
        &trust([&key]),
        &InputLimits::DEFAULT,
    );
    assert_eq!(
        (
            findings.verified.len(),
            findings.rejected.len(),
            findings.unopened
        ),
        (0, 256, 45)
    );
}

#[test]
fn a_changed_byte_never_verifies_as_something_else() {
    let key = TestKey::new();
    let trust = trust([&key]);
    let original = key.sign(&subject());
    let expected = serde_json::to_string(&statement_of(&original, &trust).expect("it verifies"))
        .expect("JSON");
    let mut held = 0;
    for at in 0..original.content.len() {
        for bit in [0x01, 0x04, 0x20] {
            let mut bytes = original.content.to_vec();
            bytes[at] ^= bit;
            // Any change that still verifies must leave the signed content unchanged: only the hint
            // and equivalent spellings may change.
            if let Some(statement) = statement_of(&with_content(&subject(), bytes), &trust) {
                assert_eq!(
                    serde_json::to_string(&statement).expect("JSON"),
                    expected,
                    "byte {at}"
                );
                held += 1;
            }
        }
    }
    let hint = key.public().bundle_key_hint().len();
    assert!(
        held <= 3 * (hint + 16),
        "{held} changes went unnoticed, the hint has {hint} bytes"
    );
}

fn statement_of(candidate: &ReferrerCandidate, trust: &TrustedMaterial) -> Option<Statement> {
    let findings = verify_evidence(
        &subject(),
        &evidence(vec![candidate.clone()]),
        trust,
        &InputLimits::DEFAULT,
    );
    findings
        .verified
        .first()
        .map(|verified| verified.claim().clone())
}
