//! Policies with certificates of a private CA.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

use super::*;
use crate::core::{
    dsse, media_type,
    verify::{
        CertificateAuthority, SignerIdentity, TrustRoot, TrustedMaterial, VerificationKey,
        testing_pki::{
            Pki, RELEASE, at, authority, holder, leaf, list, list_until, signature_of, uri,
        },
    },
};

pub(super) fn pki_authority(name: &str, by: &Arc<CertificateAuthority>) -> PolicyAuthority {
    let subject = SubjectMatcher::exact(RELEASE).expect("a name");
    PolicyAuthority {
        name: name.into(),
        kind: AuthorityKind::Certificate {
            subject,
            authority: by.clone(),
            root: None,
        },
    }
}

fn matching(name: &str, regexp: &str, by: &Arc<CertificateAuthority>) -> PolicyAuthority {
    let subject = SubjectMatcher::regexp(regexp).expect("an expression");
    PolicyAuthority {
        name: name.into(),
        kind: AuthorityKind::Certificate {
            subject,
            authority: by.clone(),
            root: None,
        },
    }
}

/// The verdict at one time on findings of another, as the webhook's cache gives it.
fn decide(
    rules: PolicyRules,
    candidates: Vec<ReferrerCandidate>,
    gathered: Timestamp,
    asked: Timestamp,
) -> PolicyDecision {
    let case = Case::new(rules, candidates);
    let policies = case.policies();
    let trust = TrustedMaterial {
        now: Some(gathered),
        ..trusted_material(&policies)
    };
    let findings = verify_evidence(
        &judged(),
        &evidence(case.candidates.clone()),
        &trust,
        &InputLimits::DEFAULT,
    );
    evaluate_policies(&policies, &case.subject(None), &findings, asked)
}

fn denied(decision: &PolicyDecision, reason: Reason) {
    assert!(
        !decision.is_admitted() && decision.has_denial_reason(reason),
        "{reason}: {:?}",
        decision.outcome()
    );
}

#[test]
fn a_certificate_of_the_authority_admits_by_its_name() {
    let pki = Pki::new();
    let by = pki.authority();
    let ours = rules(vec![pki_authority("pki", &by)]);
    let decision = decide(ours.clone(), vec![pki.leaf.sign(&judged())], now(), now());
    assert!(decision.is_admitted(), "{:?}", decision.outcome());
    let (_, signer, time) = decision.policies()[0].authorities[0]
        .signature
        .clone()
        .expect("a signature");
    assert_eq!(
        (signer, time.timestamp()),
        (
            SignerIdentity::Certificate {
                san: RELEASE.into(),
                authority: by.digest()
            },
            None
        )
    );
    let mut params = leaf();
    params.subject_alt_names = vec![uri("spiffe://corp.example.com/other")];
    let other = holder(&params, &pki.intermediate);
    denied(
        &decide(ours.clone(), vec![other.sign(&judged())], now(), now()),
        Reason::IdentityMismatch,
    );
    denied(
        &decide(
            ours.clone(),
            vec![Pki::new().leaf.sign(&judged())],
            now(),
            now(),
        ),
        Reason::UntrustedChain,
    );
    // The key alone is not an identity of this policy, nor is the certificate one where the key
    // alone is listed.
    denied(
        &decide(ours, vec![pki.leaf.key.sign(&judged())], now(), now()),
        Reason::NoMatchingAuthority,
    );
    let keyed = rules(vec![key_authority("key", &pki.leaf.key)]);
    denied(
        &decide(keyed, vec![pki.leaf.sign(&judged())], now(), now()),
        Reason::NoMatchingAuthority,
    );
}

#[test]
fn a_certificate_ends_while_its_verdict_is_remembered() {
    let pki = Pki::new();
    let ours = || rules(vec![pki_authority("pki", &pki.authority())]);
    let then = |asked: &str| decide(ours(), vec![pki.leaf.sign(&judged())], now(), at(asked));
    assert!(then("2027-01-01T00:00:00Z").is_admitted());
    denied(&then("2027-01-01T00:00:01Z"), Reason::CertificateExpired);
    // And so does a revocation list.
    let lists = format!(
        "{}{}",
        list(&pki.root, &[]),
        list_until(&pki.intermediate, &[], "2026-11-21T12:05:00Z")
    );
    let listed = || {
        rules(vec![pki_authority(
            "pki",
            &authority(&pki.pem(), Some(&lists)),
        )])
    };
    let then = |asked: &str| decide(listed(), vec![pki.leaf.sign(&judged())], now(), at(asked));
    assert!(then("2026-11-21T12:04:59Z").is_admitted());
    denied(&then("2026-11-21T12:05:00Z"), Reason::CertificateExpired);
}

#[test]
fn provenance_of_a_certificate_that_is_over_is_none() {
    let pki = Pki::new();
    let mut ours = rules(vec![pki_authority("pki", &pki.authority())]);
    ours.slsa = Some(slsa(0, &[(BUILDER, "pki", 3)]));
    let payload = serde_json::to_vec(&Statement::for_digest(
        "",
        &judged(),
        crate::core::slsa::PROVENANCE_V1,
        predicate(BUILDER),
    ))
    .expect("JSON");
    let provenance = candidate(&judged(), &pki.leaf.bundle(&payload));
    let candidates = vec![pki.leaf.sign(&judged()), provenance];
    assert!(decide(ours.clone(), candidates.clone(), now(), now()).is_admitted());
    let late = decide(ours, candidates, now(), at("2027-01-02T00:00:00Z"));
    let PolicyOutcome::Governed(AdmissionVerdict::Deny(denials)) = late.outcome() else {
        panic!("{late:?}")
    };
    assert!(
        denials
            .iter()
            .all(|denial| denial.reason == Reason::CertificateExpired)
            && denials.iter().count() == 2,
        "{denials:?}"
    );
}

#[test]
fn one_holder_counts_once_however_many_certificates_and_names_there_are() {
    let pki = Pki::new();
    let by = pki.authority();
    let renewed = holder(&leaf(), &pki.intermediate);
    let mut two = rules(vec![
        pki_authority("a", &by),
        matching("b", "spiffe://corp.*", &by),
    ]);
    two.threshold = 2;
    // One name with two keys.
    denied(
        &decide(
            two.clone(),
            vec![pki.leaf.sign(&judged()), renewed.sign(&judged())],
            now(),
            now(),
        ),
        Reason::ThresholdNotMet,
    );
    // One key, once alone and once in a certificate.
    let mut both = rules(vec![
        pki_authority("a", &by),
        key_authority("key", &pki.leaf.key),
    ]);
    both.threshold = 2;
    denied(
        &decide(
            both,
            vec![pki.leaf.sign(&judged()), pki.leaf.key.sign(&judged())],
            now(),
            now(),
        ),
        Reason::ThresholdNotMet,
    );
    // One CA in two versions of its file, with one key.
    let mut versions = rules(vec![
        pki_authority("a", &by),
        pki_authority("b", &authority(&format!("{}\n", pki.pem()), None)),
    ]);
    versions.threshold = 2;
    denied(
        &decide(versions, vec![pki.leaf.sign(&judged())], now(), now()),
        Reason::ThresholdNotMet,
    );
    // Two signers.
    let mut params = leaf();
    params.subject_alt_names = vec![uri("spiffe://corp.example.com/second")];
    let second = holder(&params, &pki.intermediate);
    assert!(
        decide(
            two,
            vec![pki.leaf.sign(&judged()), second.sign(&judged())],
            now(),
            now()
        )
        .is_admitted()
    );
}

/// One RSA key signs with PKCS#1 in a certificate, and with PSS alone: one holder.
#[test]
fn one_rsa_key_counts_once_whatever_it_was_declared_for() {
    use aws_lc_rs::{
        encoding::{AsDer, Pkcs8V1Der},
        rand::SystemRandom,
        rsa::{KeyPair, KeySize},
        signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding},
    };
    let pki = Pki::new();
    let pair = KeyPair::generate(KeySize::Rsa2048).expect("a key");
    let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).expect("DER");
    let held = rcgen::KeyPair::try_from(pkcs8.as_ref()).expect("a key");
    let der = leaf()
        .signed_by(&held, &pki.intermediate)
        .expect("a certificate")
        .der()
        .to_vec();
    let key = VerificationKey::from_pem(&held.public_key_pem())
        .expect("a key")
        .for_pss();
    let signed = |material: Value, encoding: &'static dyn RsaEncoding| {
        let payload = signature_of(&judged());
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(
            encoding,
            &SystemRandom::new(),
            &dsse::statement_pae(&payload),
            &mut signature,
        )
        .expect("a signature");
        let envelope = json!({
            "payload": BASE64.encode(&payload),
            "payloadType": media_type::IN_TOTO,
            "signatures": [{"sig": BASE64.encode(&signature)}],
        });
        candidate(
            &judged(),
            &json!({
                "mediaType": media_type::SIGSTORE_BUNDLE_V03,
                "verificationMaterial": material,
                "dsseEnvelope": envelope,
            }),
        )
    };
    let both = vec![
        signed(
            json!({"certificate": {"rawBytes": BASE64.encode(&der)}}),
            &RSA_PKCS1_SHA256,
        ),
        signed(
            json!({"publicKey": {"hint": key.bundle_key_hint()}}),
            &RSA_PSS_SHA256,
        ),
    ];
    let alone = PolicyAuthority {
        name: "key".into(),
        kind: AuthorityKind::Key { key, root: None },
    };
    let mut two = rules(vec![pki_authority("a", &pki.authority()), alone]);
    assert!(
        both.iter()
            .all(|one| decide(two.clone(), vec![one.clone()], now(), now()).is_admitted()),
        "each counts"
    );
    two.threshold = 2;
    denied(&decide(two, both, now(), now()), Reason::ThresholdNotMet);
}

#[test]
fn a_key_is_revoked_in_a_certificate_too() {
    let pki = Pki::new();
    let mut ours = rules(vec![pki_authority("pki", &pki.authority())]);
    let what = RevocationTarget::Key(pki.leaf.key.public().fingerprint());
    ours.revocations = vec![RevocationRule {
        what,
        reason: "leak".into(),
        since: None,
    }];
    denied(
        &decide(ours, vec![pki.leaf.sign(&judged())], now(), now()),
        Reason::Revoked,
    );
}

#[test]
fn an_exemption_covers_no_certificate_that_its_issuer_revoked() {
    let pki = Pki::new();
    let lists = |serials: &[u8]| {
        format!(
            "{}{}",
            list(&pki.root, &[]),
            list(&pki.intermediate, serials)
        )
    };
    let exempt = |serials: &[u8]| {
        let mut ours = rules(vec![pki_authority(
            "pki",
            &authority(&pki.pem(), Some(&lists(serials))),
        )]);
        ours.exemptions = vec![ExemptionRule {
            digest: judged(),
            reason: "INC-42".into(),
            expires: at("2027-01-01T00:00:00Z"),
        }];
        decide(ours, vec![pki.leaf.sign(&judged())], now(), now())
    };
    assert!(exempt(&[]).is_admitted());
    denied(&exempt(&[7]), Reason::Revoked);
}

#[test]
fn a_log_that_is_required_needs_somebody_to_believe() {
    let mut ours = rules(vec![pki_authority("pki", &Pki::new().authority())]);
    ours.transparency = TransparencyRequirement::Required;
    let error = Policy::new(ours).expect_err("no trust root");
    assert_eq!(error.field, "spec.authorities[0].certificate.trustRootRef");
}

#[test]
fn with_a_trust_root_what_it_does_not_vouch_for_does_not_count() {
    let root: Arc<TrustRoot> = Arc::new(
        TrustRoot::parse(
            br#"{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}"#,
            &InputLimits::DEFAULT,
        )
        .expect("a root"),
    );
    let pki = Pki::new();
    let by = pki.authority();
    let subject = || SubjectMatcher::exact(RELEASE).expect("a name");
    let ours = rules(vec![PolicyAuthority {
        name: "pki".into(),
        kind: AuthorityKind::Certificate {
            subject: subject(),
            authority: by,
            root: Some(root),
        },
    }]);
    // No time evidence is needed: the certificate is valid now.
    assert!(decide(ours.clone(), vec![pki.leaf.sign(&judged())], now(), now()).is_admitted());
    // A timestamp by an authority that is not in the trust root.
    let mut bundle = pki.leaf.bundle(&signature_of(&judged()));
    bundle["verificationMaterial"]["timestampVerificationData"] =
        json!({"rfc3161Timestamps": [{"signedTimestamp": "MAA="}]});
    denied(
        &decide(ours, vec![candidate(&judged(), &bundle)], now(), now()),
        Reason::InvalidTimestamp,
    );
}
