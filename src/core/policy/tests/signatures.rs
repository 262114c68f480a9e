use super::*;
use crate::core::{
    oci::Descriptor,
    verify::{RejectedEvidence, SignerIdentity},
};

fn two_keys() -> (TestKey, TestKey) {
    (TestKey::new(), TestKey::new())
}

#[test]
fn one_signature_by_one_authority_is_enough() {
    let (a, b) = two_keys();
    let case = Case::new(
        rules(vec![key_authority("a", &a), key_authority("b", &b)]),
        vec![b.sign(&judged())],
    );
    let admitted = case.admitted();
    assert_eq!(
        (*admitted.digest(), admitted.evidence().len()),
        (judged(), 1)
    );
    let decision = case.decide();
    assert!(decision.is_admitted());
    let signed: Vec<_> = decision.policies()[0]
        .authorities
        .iter()
        .map(|a| (a.name.as_str(), a.signature.is_some()))
        .collect();
    assert_eq!(signed, [("a", false), ("b", true)]);
}

#[test]
fn nothing_wrong_or_foreign_signed_is_a_signature() {
    let (ours, other) = two_keys();
    let elsewhere = Digest::of_bytes(b"another manifest");
    let about_elsewhere = ours.attest(
        &judged(),
        &Statement::for_digest(
            "",
            &elsewhere,
            "https://sigstore.dev/cosign/sign/v1",
            json!({}),
        ),
    );
    let foreign = ours.sign(&elsewhere);
    let mut broken = other.bundle("application/vnd.in-toto+json", b"{}");
    broken["verificationMaterial"]["publicKey"]["hint"] = ours.public().bundle_key_hint().into();
    let broken = candidate(&judged(), &broken);
    let malformed = with_content(&judged(), b"{".to_vec());
    let sbom = ours.attest(
        &judged(),
        &Statement::for_digest("", &judged(), "https://spdx.dev/Document", json!({})),
    );
    let strange = other.sign(&judged());
    // Of several errors the one of the furthest check is reported: each row adds one of a later
    // check.
    let mut candidates = Vec::new();
    for (next, reason) in [
        (None, Reason::NoSignatures),
        (Some(malformed), Reason::MalformedEvidence),
        (Some(foreign), Reason::MalformedEvidence),
        (Some(strange), Reason::NoMatchingAuthority),
        (Some(broken), Reason::InvalidSignature),
        (Some(sbom), Reason::PredicateTypeMismatch),
        (Some(about_elsewhere), Reason::SubjectMismatch),
    ] {
        candidates.extend(next);
        let case = Case::new(rules(vec![key_authority("a", &ours)]), candidates.clone());
        let denials = case.denied(reason);
        assert_eq!(
            (
                denials.len(),
                denials[0]
                    .policy
                    .as_ref()
                    .map(|policy| policy.name.as_str())
            ),
            (1, Some("p"))
        );
        assert!(!case.decide().is_admitted());
        // One good signature makes all of them irrelevant.
        let case = Case::new(
            rules(vec![key_authority("a", &ours)]),
            [candidates.as_slice(), &[ours.sign(&judged())]].concat(),
        );
        assert_eq!(case.admitted().evidence().len(), 1);
    }
}

#[test]
fn a_lone_foreign_referrer_says_so() {
    let ours = TestKey::new();
    let foreign = ours.sign(&Digest::of_bytes(b"another manifest"));
    Case::new(rules(vec![key_authority("a", &ours)]), vec![foreign])
        .denied(Reason::SubjectMismatch);
}

#[test]
fn the_threshold_counts_signers_not_signatures_and_not_names() {
    let (a, b) = two_keys();
    let rules = PolicyRules {
        threshold: 2,
        ..rules(vec![
            key_authority("a", &a),
            key_authority("again", &a),
            key_authority("b", &b),
        ])
    };
    let twice = vec![a.sign(&judged()), a.sign(&judged())];
    let case = Case::new(rules.clone(), twice.clone());
    case.denied(Reason::ThresholdNotMet);
    let names: Vec<_> = case.decide().policies()[0]
        .authorities
        .iter()
        .filter(|a| a.signature.is_some())
        .map(|a| a.name.clone())
        .collect();
    assert_eq!(names, ["a", "again"]);
    let case = Case::new(rules, [twice.as_slice(), &[b.sign(&judged())]].concat());
    assert_eq!(case.admitted().evidence().len(), 3);
}

#[test]
fn a_tag_is_not_enough_where_a_digest_is_required() {
    let key = TestKey::new();
    let mut case = Case::new(
        rules(vec![key_authority("a", &key)]),
        vec![key.sign(&judged())],
    );
    case.had_digest = false;
    let denials = case.denied(Reason::DigestRequired);
    assert!(
        denials[0]
            .message
            .contains(&format!("r.example.com/team-a/siem@{}", judged())),
        "{}",
        denials[0].message
    );
    case.rules[0].require_digest = false;
    case.admitted();
    assert_eq!(case.policies()[0].unsafe_settings().len(), 1);
}

#[test]
fn what_could_not_be_read_is_told_before_what_is_missing() {
    let key = TestKey::new();
    let mut case = Case::new(
        rules(vec![key_authority("a", &key)]),
        vec![TestKey::new().sign(&judged())],
    );
    let unread = |reason| RejectedEvidence {
        referrer: judged(),
        reason,
        message: "x".into(),
        signer: None,
    };
    for (reason, told) in [
        (Reason::LimitExceeded, Reason::NoMatchingAuthority),
        (Reason::RegistryUnavailable, Reason::RegistryUnavailable),
        (Reason::DigestMismatch, Reason::DigestMismatch),
    ] {
        case.evidence.unread.push(unread(reason));
        case.denied(told);
    }
    case.candidates.push(key.sign(&judged()));
    case.admitted();
}

#[test]
fn referrers_that_nobody_looked_at_are_no_lack_of_signatures() {
    let key = TestKey::new();
    let mut case = Case::new(rules(vec![key_authority("a", &key)]), Vec::new());
    case.evidence.unopened = 7;
    assert!(
        case.denied(Reason::TooManyReferrers)[0]
            .message
            .contains('7')
    );
}

#[test]
fn what_was_not_judged_to_the_end_is_told_before_what_nobody_known_signed() {
    let key = TestKey::new();
    let case = Case::new(
        rules(vec![key_authority("a", &key)]),
        vec![TestKey::new().sign(&judged())],
    );
    let policies = case.policies();
    let evidence = UnverifiedEvidence {
        candidates: case.candidates.clone(),
        ..UnverifiedEvidence::default()
    };
    let mut findings = verify_evidence(
        &judged(),
        &evidence,
        &trusted_material(&policies),
        &InputLimits::DEFAULT,
    );
    denied(
        &evaluate_policies(&policies, &case.subject(None), &findings, now()),
        Reason::NoMatchingAuthority,
    );
    findings.over_budget = 7;
    let denials = denied(
        &evaluate_policies(&policies, &case.subject(None), &findings, now()),
        Reason::LimitExceeded,
    );
    assert!(
        denials[0]
            .message
            .starts_with("7 signatures or attestations"),
        "{denials:?}"
    );
}

#[test]
fn a_lock_that_nobody_opened_is_missed_only_where_nothing_else_is() {
    let key = TestKey::new();
    let wanting = PolicyRules {
        lock: Some(judged()),
        ..rules(vec![key_authority("a", &key)])
    };
    let unsigned = Case::new(wanting.clone(), Vec::new()).denied(Reason::NoSignatures);
    assert_eq!(unsigned.len(), 1, "{unsigned:?}");
    let signed = Case::new(wanting, vec![key.sign(&judged())]).denied(Reason::LockMismatch);
    assert_eq!(signed.len(), 1, "{signed:?}");
}

#[test]
fn findings_about_another_digest_count_for_nothing() {
    let key = TestKey::new();
    let case = Case::new(rules(vec![key_authority("a", &key)]), Vec::new());
    let elsewhere = Digest::of_bytes(b"another manifest");
    let policies = case.policies();
    let findings = verify_evidence(
        &elsewhere,
        &evidence(vec![key.sign(&elsewhere)]),
        &trusted_material(&policies),
        &InputLimits::DEFAULT,
    );
    assert_eq!(findings.verified.len(), 1);
    denied(
        &evaluate_policies(&policies, &case.subject(None), &findings, now()),
        Reason::NoSignatures,
    );
}

#[test]
fn every_policy_must_agree_and_hears_only_of_its_own_keys() {
    let (a, b) = two_keys();
    let second = PolicyRules {
        name: "q".into(),
        ..rules(vec![key_authority("b", &b)])
    };
    let mut case = Case::new(rules(vec![key_authority("a", &a)]), vec![a.sign(&judged())]);
    case.rules.push(second);
    let denials = case.denied(Reason::NoMatchingAuthority);
    assert_eq!(
        (
            denials.len(),
            denials[0]
                .policy
                .as_ref()
                .map(|policy| policy.name.as_str())
        ),
        (1, Some("q"))
    );
    // For q, a broken signature by a's key is one by an unknown signer.
    let mut broken = b.bundle("application/vnd.in-toto+json", b"{}");
    broken["verificationMaterial"]["publicKey"]["hint"] = a.public().bundle_key_hint().into();
    broken["dsseEnvelope"]["signatures"][0]["sig"] = "AAAA".into();
    case.candidates = vec![candidate(&judged(), &broken)];
    let reasons: Vec<_> = case
        .denied(Reason::InvalidSignature)
        .iter()
        .map(|denial| denial.reason)
        .collect();
    assert_eq!(
        reasons,
        [Reason::InvalidSignature, Reason::NoMatchingAuthority]
    );
    case.candidates = vec![a.sign(&judged()), b.sign(&judged())];
    assert_eq!(case.admitted().evidence().len(), 2);
}

#[test]
fn modes_change_the_answer_and_not_the_verdict() {
    let (a, b) = two_keys();
    let second = PolicyRules {
        name: "q".into(),
        mode: EnforcementMode::Audit,
        ..rules(vec![key_authority("b", &b)])
    };
    let mut case = Case::new(rules(vec![key_authority("a", &a)]), vec![a.sign(&judged())]);
    case.rules.push(second);
    case.denied(Reason::NoMatchingAuthority);
    assert!(case.decide().is_admitted());
    case.rules[1].mode = EnforcementMode::Enforce;
    assert!(!case.decide().is_admitted());
}

#[test]
fn a_command_line_needs_something_to_trust() {
    assert_eq!(
        Policy::ad_hoc(AdHocPolicyOptions::default())
            .expect_err("nothing")
            .field,
        "spec.authorities"
    );
    let key = TestKey::new();
    let wish = AdHocPolicyOptions {
        authorities: vec![key_authority("cosign.pub", &key)],
        ..AdHocPolicyOptions::default()
    };
    let policy = Policy::ad_hoc(wish).expect("a policy");
    assert!(
        policy.governs_repository(None, ReferenceUse::Container, None)
            && policy.unsafe_settings().is_empty()
    );
    let case = Case::new(policy.rules().clone(), vec![key.sign(&judged())]);
    let subject = AdmissionSubject {
        repository: None,
        had_digest: false,
        ..case.subject(None)
    };
    let policies = [policy];
    let findings = verify_evidence(
        &judged(),
        &evidence(case.candidates.clone()),
        &trusted_material(&policies),
        &InputLimits::DEFAULT,
    );
    assert!(evaluate_policies(&policies, &subject, &findings, now()).is_admitted());
    denied(
        &evaluate_policies(&policies, &subject, &VerificationFindings::default(), now()),
        Reason::NoSignatures,
    );
}

#[test]
fn a_revoked_key_counts_for_nothing_and_a_revoked_digest_beats_everything() {
    let (a, b) = two_keys();
    let revoke = |what, since: Option<&str>| RevocationRule {
        what,
        reason: "leak-7".into(),
        since: since.map(|s| s.parse().expect("a time")),
    };
    let mut case = Case::new(
        rules(vec![key_authority("a", &a), key_authority("b", &b)]),
        vec![a.sign(&judged())],
    );
    case.rules[0].revocations = vec![revoke(
        RevocationTarget::Key(a.public().fingerprint()),
        None,
    )];
    case.denied(Reason::Revoked);
    case.candidates.push(b.sign(&judged()));
    assert_eq!(
        case.admitted().evidence()[0].signer(),
        &SignerIdentity::Key {
            fingerprint: b.public().fingerprint()
        }
    );

    case.rules[0].revocations = vec![revoke(
        RevocationTarget::Digest(judged()),
        Some("2026-11-21T12:00:01Z"),
    )];
    case.admitted();
    case.now = "2026-11-21T12:00:01Z".parse().expect("a time");
    assert!(case.denied(Reason::Revoked)[0].message.contains("leak-7"));
    case.repository = "r.example.com/team-a/dev/x".parse().expect("a name");
    case.denied(Reason::Revoked);
    case.rules[0].exemptions = vec![exemption("2027-01-01T00:00:00Z")];
    case.denied(Reason::Revoked);
}

fn exemption(expires: &str) -> ExemptionRule {
    ExemptionRule {
        digest: judged(),
        reason: "INC-42".into(),
        expires: expires.parse().expect("a time"),
    }
}

#[test]
fn an_exemption_is_for_one_digest_and_ends() {
    let (a, b) = two_keys();
    let mut case = Case::new(
        rules(vec![key_authority("a", &a), key_authority("b", &b)]),
        Vec::new(),
    );
    case.rules[0].exemptions = vec![exemption("2026-11-21T12:00:01Z")];
    let decision = case.decide();
    assert!(
        matches!(decision.outcome(), PolicyOutcome::Governed(AdmissionVerdict::Exempt(by)) if by.reason() == "INC-42")
            && decision.is_admitted()
    );
    case.now = "2026-11-21T12:00:01Z".parse().expect("a time");
    case.denied(Reason::NoSignatures);
    case.now = now();
    case.rules[0].exemptions[0].digest = Digest::of_bytes(b"another manifest");
    case.denied(Reason::NoSignatures);
    // It never covers a revoked key.
    case.rules[0].exemptions = vec![exemption("2027-01-01T00:00:00Z")];
    case.rules[0].revocations = vec![RevocationRule {
        what: RevocationTarget::Key(a.public().fingerprint()),
        reason: "leak-7".into(),
        since: None,
    }];
    case.candidates = vec![a.sign(&judged())];
    case.denied(Reason::Revoked);
    // It concerns its own policy only.
    case.rules[0].revocations.clear();
    case.rules.push(PolicyRules {
        name: "q".into(),
        ..rules(vec![key_authority("b", &b)])
    });
    assert_eq!(
        case.denied(Reason::NoMatchingAuthority)[0]
            .policy
            .as_ref()
            .map(|policy| policy.name.as_str()),
        Some("q")
    );
}

#[test]
fn the_descriptors_artifact_type_is_never_looked_at() {
    let key = TestKey::new();
    let mut signed = key.sign(&judged());
    for artifact_type in [
        None,
        Some("application/vnd.oci.empty.v1+json"),
        Some("text/plain"),
    ] {
        signed.referrer = Descriptor {
            artifact_type: artifact_type.map(Into::into),
            ..signed.referrer
        };
        Case::new(rules(vec![key_authority("a", &key)]), vec![signed.clone()]).admitted();
    }
}

/// A genuine keyless attestation: only exactly the identity, issuer and trust root in the policy
/// count.
#[test]
fn identities_count_with_their_issuer_and_trust_root_only() {
    use crate::core::{
        policy::{ClaimsRule, SubjectMatcher},
        verify::{CertificateClaims, TrustRoot, testing::shared_data},
    };
    const SAN: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";
    const ISSUER: &str = "https://token.actions.githubusercontent.com";
    let Some(data) = shared_data("identities_count_with_their_issuer_and_trust_root_only") else {
        return;
    };
    let root = |path: &str| {
        std::sync::Arc::new(
            TrustRoot::parse(
                &std::fs::read(data.join(path)).expect(path),
                &InputLimits::DEFAULT,
            )
            .expect(path),
        )
    };
    let (prod, other) = (
        root("trust/prod_trusted_root.json"),
        root("sigstore-conformance/intoto-with-custom-trust-root/trusted_root.json"),
    );
    let bundle = std::fs::read(
        data.join("sigstore-conformance/happy-path-intoto-in-dsse-v3/bundle.sigstore.json"),
    )
    .expect("a bundle");
    let artifact: Digest =
        "sha256:a0cfc71271d6e278e57cd332ff957c3f7043fdda354c4cbb190a30d56efa01bf"
            .parse()
            .expect("a digest");
    let named = |subject, issuer: &str, root| AuthorityKind::Keyless {
        subject,
        issuer: issuer.into(),
        claims: ClaimsRule::default(),
        root,
    };
    let keyless =
        |san: &str, issuer: &str, root| named(SubjectMatcher::Exact(san.into()), issuer, root);
    let claiming = |claims| AuthorityKind::Keyless {
        subject: SubjectMatcher::Exact(SAN.into()),
        issuer: ISSUER.into(),
        claims: ClaimsRule(claims),
        root: prod.clone(),
    };
    let text = |text: &str| Some(text.to_owned());
    let decide = |kind: AuthorityKind| {
        let mut rules = rules(vec![PolicyAuthority {
            name: "ci".into(),
            kind,
        }]);
        rules.attestations = vec![AttestationRule {
            predicate_type: "https://slsa.dev/provenance/v1".into(),
            authority: None,
        }];
        let policies = [Policy::new(rules).expect("a policy")];
        // Both roots are known, as they would be with several policies.
        let mut known = trusted_material(&policies);
        known.roots = vec![prod.clone(), other.clone()];
        let findings = verify_evidence(
            &artifact,
            &evidence(vec![with_content(&artifact, bundle.clone())]),
            &known,
            &InputLimits::DEFAULT,
        );
        let case = Case::new(policies[0].rules().clone(), Vec::new());
        let subject = AdmissionSubject {
            digest: artifact,
            ..case.subject(None)
        };
        let decision = evaluate_policies(&policies, &subject, &findings, now());
        let PolicyOutcome::Governed(AdmissionVerdict::Deny(denials)) = decision.outcome() else {
            panic!("an attestation is no signature")
        };
        denials
            .iter()
            .map(|denial| denial.reason)
            .collect::<Vec<_>>()
    };
    // The attestation counts; a signature is still missing.
    let claims = CertificateClaims {
        source_repository: text(
            "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon",
        ),
        source_ref: text("refs/heads/main"),
        workflow: text(SAN),
        trigger: text("workflow_dispatch"),
        runner: text("github-hosted"),
    };
    for means in [
        keyless(SAN, ISSUER, prod.clone()),
        named(SubjectMatcher::prefix("https://github.com/sigstore-conformance/").expect("a prefix"), ISSUER, prod.clone()),
        named(
            SubjectMatcher::regexp("https://github.com/sigstore-conformance/.+/oidc-beacon.yml@refs/heads/main|.+@refs/heads/main").expect("a pattern"),
            ISSUER,
            prod.clone(),
        ),
        claiming(claims.clone()),
    ] {
        assert_eq!(decide(means), [Reason::PredicateTypeMismatch]);
    }
    for means in [
        named(
            SubjectMatcher::prefix("https://github.com/sigstore/").expect("a prefix"),
            ISSUER,
            prod.clone(),
        ),
        named(
            SubjectMatcher::regexp("https://github.com/sigstore-conformance").expect("a pattern"),
            ISSUER,
            prod.clone(),
        ),
        claiming(CertificateClaims {
            source_ref: text("refs/heads/dev"),
            ..claims.clone()
        }),
        claiming(CertificateClaims {
            trigger: text("push"),
            ..claims.clone()
        }),
        claiming(CertificateClaims {
            runner: text("self-hosted"),
            ..claims
        }),
        keyless(&SAN[..SAN.len() - 1], ISSUER, prod.clone()),
        keyless(&SAN.to_uppercase(), ISSUER, prod.clone()),
        keyless(
            SAN,
            "https://token.actions.githubusercontent.com/",
            prod.clone(),
        ),
        keyless(SAN, ISSUER, other.clone()),
    ] {
        assert_eq!(
            decide(means),
            [Reason::IdentityMismatch, Reason::NoMatchingAuthority]
        );
    }
    let nameless = Policy::new(rules(vec![PolicyAuthority {
        name: "ci".into(),
        kind: keyless("", ISSUER, prod.clone()),
    }]));
    assert_eq!(
        nameless.expect_err("no subject").field,
        "spec.authorities[0].keyless"
    );
    let anybody = Policy::new(rules(vec![PolicyAuthority {
        name: "ci".into(),
        kind: keyless(SAN, "", prod),
    }]));
    assert_eq!(
        anybody.expect_err("no issuer").field,
        "spec.authorities[0].keyless"
    );
}
