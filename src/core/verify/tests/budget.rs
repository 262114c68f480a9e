//! The cost of the evidence of one request, counted and not timed.

use super::*;

/// Bundles by untrusted keys, with a hint that matches no key.
fn poisoned(count: usize) -> Vec<ReferrerCandidate> {
    let stranger = TestKey::new();
    let bundle = |n: usize| {
        let mut bundle = stranger.bundle(media_type::IN_TOTO, format!("{{\"n\":{n}}}").as_bytes());
        bundle["verificationMaterial"]["publicKey"]["hint"] = "".into();
        candidate(&subject(), &bundle)
    };
    (0..count).map(bundle).collect()
}

fn keys(count: usize) -> TrustedMaterial {
    TrustedMaterial {
        keys: (0..count).map(|_| TestKey::new().public()).collect(),
        ..TrustedMaterial::default()
    }
}

#[test]
fn many_bundles_times_many_keys_cost_a_bounded_number_of_checks() {
    let findings = verify_evidence(
        &subject(),
        &evidence(poisoned(128)),
        &keys(128),
        &InputLimits::DEFAULT,
    );
    let limit = InputLimits::DEFAULT.signature_checks;
    assert_eq!(findings.signature_checks, limit + 128, "and not 16,384");
    let complete = limit / 127;
    assert_eq!(
        (findings.verified.len(), findings.over_budget),
        (0, 128 - complete)
    );
    let reasons: Vec<_> = findings
        .rejected
        .iter()
        .map(|rejected| rejected.reason)
        .collect();
    assert!(
        reasons
            .iter()
            .take(complete)
            .all(|reason| *reason == Reason::NoMatchingAuthority),
        "{reasons:?}"
    );
    assert!(
        reasons
            .iter()
            .skip(complete)
            .all(|reason| *reason == Reason::LimitExceeded),
        "{reasons:?}"
    );
}

#[test]
fn a_signature_that_names_its_key_counts_however_many_bad_ones_there_are() {
    let key = TestKey::new();
    let mut trust = keys(127);
    trust.keys.push(key.public());
    let mut candidates = poisoned(255);
    candidates.push(key.sign(&subject()));
    let findings = verify_evidence(
        &subject(),
        &evidence(candidates),
        &trust,
        &InputLimits::DEFAULT,
    );
    let [verified] = &findings.verified[..] else {
        panic!("{:?}", findings.rejected.last())
    };
    assert_eq!(
        *verified.signer(),
        SignerIdentity::Key {
            fingerprint: key.public().fingerprint()
        }
    );
}

#[test]
fn nothing_is_judged_once_nobody_waits() {
    let key = TestKey::new();
    let mut verifier = EvidenceVerifier::new(subject(), trust([&key]), &InputLimits::DEFAULT);
    verifier.verify_referrer(&key.sign(&subject()), &|| true);
    let findings = verifier.into_findings();
    assert_eq!(
        (
            findings.verified.len(),
            findings.signature_checks,
            findings.over_budget
        ),
        (0, 0, 1)
    );
    assert_eq!(findings.rejected[0].reason, Reason::DeadlineExceeded);
}

#[test]
fn statements_that_are_small_as_text_and_large_in_memory_are_bounded() {
    let key = TestKey::new();
    let about = |objects: usize| {
        let predicate = json!({"list": vec![json!({"a": 0}); objects]});
        key.attest(
            &subject(),
            &Statement::for_digest("", &subject(), "https://example.com/x", predicate),
        )
    };
    let mut candidates = vec![about(20_000), about(20_000)];
    candidates.push(key.sign(&subject()));
    let findings = verify_evidence(
        &subject(),
        &evidence(candidates.clone()),
        &trust([&key]),
        &InputLimits::DEFAULT,
    );
    let kinds: Vec<_> = findings
        .verified
        .iter()
        .map(|verified| verified.claim().predicate_type.as_str())
        .collect();
    assert_eq!(kinds, ["https://example.com/x", COSIGN_SIGN]);
    assert_eq!(
        (findings.rejected[0].reason, findings.over_budget),
        (Reason::LimitExceeded, 1)
    );

    let mut verifier = EvidenceVerifier::new(subject(), trust([&key]), &InputLimits::DEFAULT);
    verifier.limit_statement_memory(1 << 20);
    assert!(
        !verifier.verify_referrer(&candidates[0], &|| false),
        "later, when there is memory for it"
    );
    assert!(verifier.verify_referrer(&candidates[2], &|| false));
    verifier.release_withheld_memory();
    assert!(verifier.verify_referrer(&candidates[0], &|| false));
    let findings = verifier.into_findings();
    assert_eq!(
        (
            findings.verified.len(),
            findings.rejected.len(),
            findings.over_budget
        ),
        (2, 0, 0)
    );
}
