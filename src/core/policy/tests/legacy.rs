//! cosign's older format counts where a policy accepts it, by the same rules as bundles.

use std::sync::Arc;

use super::*;
use crate::core::tag_based_signatures::testing::TestLog;

fn case(rules: PolicyRules, legacy: Vec<crate::core::verify::CosignTagCandidate>) -> Case {
    Case {
        evidence: UnverifiedEvidence {
            legacy,
            ..UnverifiedEvidence::default()
        },
        ..Case::new(rules, Vec::new())
    }
}

fn listing(formats: &[StoredSignatureFormat], authorities: Vec<PolicyAuthority>) -> PolicyRules {
    PolicyRules {
        formats: formats.to_vec(),
        ..rules(authorities)
    }
}

#[test]
fn a_form_counts_where_it_is_listed() {
    let key = TestKey::new();
    let legacy = || vec![key.sign_legacy(&judged())];
    for (formats, admitted) in [
        (&[StoredSignatureFormat::Bundle][..], false),
        (&[StoredSignatureFormat::LegacySetOnly], false),
        (
            &[
                StoredSignatureFormat::Bundle,
                StoredSignatureFormat::LegacySetOnly,
            ],
            false,
        ),
        (&[StoredSignatureFormat::Legacy], true),
        (
            &[StoredSignatureFormat::Bundle, StoredSignatureFormat::Legacy],
            true,
        ),
    ] {
        let rules = listing(formats, vec![key_authority("a", &key)]);
        assert_eq!(
            Policy::new(rules.clone())
                .expect("a policy")
                .accepts_cosign_tags(),
            formats != [StoredSignatureFormat::Bundle],
            "{formats:?}"
        );
        let case = case(rules, legacy());
        if admitted {
            case.admitted();
            let signature = case.decide().policies()[0].authorities[0].signature.clone();
            assert_eq!(
                signature.map(|(format, ..)| format),
                Some(StoredSignatureFormat::Legacy)
            );
        } else {
            assert!(
                case.denied(Reason::NoMatchingAuthority)[0]
                    .message
                    .contains("spec.signatureFormats")
            );
        }
    }
    let rules = listing(
        &[StoredSignatureFormat::Legacy],
        vec![key_authority("a", &key)],
    );
    Case::new(rules, vec![key.sign(&judged())]).denied(Reason::NoMatchingAuthority);
}

#[test]
fn a_revoked_key_is_revoked_in_the_older_form_too() {
    let (retired, current) = (TestKey::new(), TestKey::new());
    let what = RevocationTarget::Key(retired.public().fingerprint());
    let rules = PolicyRules {
        revocations: vec![RevocationRule {
            what,
            reason: "retired".into(),
            since: None,
        }],
        ..listing(
            &[StoredSignatureFormat::Bundle, StoredSignatureFormat::Legacy],
            vec![
                key_authority("old", &retired),
                key_authority("new", &current),
            ],
        )
    };
    case(rules.clone(), vec![retired.sign_legacy(&judged())]).denied(Reason::Revoked);
    let both = Case {
        candidates: vec![current.sign(&judged())],
        ..case(rules, vec![retired.sign_legacy(&judged())])
    };
    both.admitted();
}

#[test]
fn one_key_in_two_forms_meets_no_threshold_of_two() {
    let (a, b) = (TestKey::new(), TestKey::new());
    let rules = PolicyRules {
        threshold: 2,
        ..listing(
            &[StoredSignatureFormat::Bundle, StoredSignatureFormat::Legacy],
            vec![key_authority("a", &a), key_authority("b", &b)],
        )
    };
    let mut case = Case {
        candidates: vec![a.sign(&judged())],
        ..case(rules, vec![a.sign_legacy(&judged())])
    };
    case.denied(Reason::ThresholdNotMet);
    case.evidence.legacy.push(b.sign_legacy(&judged()));
    case.admitted();
}

#[test]
fn a_logs_promise_counts_where_it_is_listed_and_meets_required_transparency() {
    let (key, log) = (TestKey::new(), TestLog::new());
    let authority = PolicyAuthority {
        name: "a".into(),
        kind: AuthorityKind::Key {
            key: key.public(),
            root: Some(Arc::new(log.root())),
        },
    };
    let logged = log.log(&key, key.sign_legacy(&judged()));
    let required = |formats: &[StoredSignatureFormat]| PolicyRules {
        transparency: TransparencyRequirement::Required,
        ..listing(formats, vec![authority.clone()])
    };
    case(
        required(&[StoredSignatureFormat::Legacy]),
        vec![logged.clone()],
    )
    .denied(Reason::NoTrustedTime);
    case(
        required(&[StoredSignatureFormat::LegacySetOnly]),
        vec![logged.clone()],
    )
    .admitted();
    // Without the log entry it is a signature by a key alone: another format, and no transparency.
    case(
        required(&[StoredSignatureFormat::LegacySetOnly]),
        vec![key.sign_legacy(&judged())],
    )
    .denied(Reason::NoMatchingAuthority);
    case(
        required(&[
            StoredSignatureFormat::Legacy,
            StoredSignatureFormat::LegacySetOnly,
        ]),
        vec![key.sign_legacy(&judged())],
    )
    .denied(Reason::NoTrustedTime);
    // A policy without transparency accepts the key's signature.
    case(
        listing(
            &[StoredSignatureFormat::Legacy],
            vec![key_authority("a", &key)],
        ),
        vec![logged],
    )
    .admitted();
    let strange = TestLog::new().log(&key, key.sign_legacy(&judged()));
    case(
        required(&[
            StoredSignatureFormat::Legacy,
            StoredSignatureFormat::LegacySetOnly,
        ]),
        vec![strange],
    )
    .denied(Reason::InvalidTimestamp);
}

#[test]
fn provenance_in_the_older_form_proves_what_any_provenance_does() {
    let key = TestKey::new();
    let statement = Statement::for_digest(
        "r.example.com/team-a/siem",
        &judged(),
        "https://slsa.dev/provenance/v1",
        predicate(BUILDER),
    );
    let with = |formats: &[StoredSignatureFormat]| PolicyRules {
        slsa: Some(slsa(1, &[(BUILDER, "a", 2)])),
        ..listing(formats, vec![key_authority("a", &key)])
    };
    let evidence = vec![key.sign_legacy(&judged()), key.attest_legacy(&statement)];
    case(with(&[StoredSignatureFormat::Legacy]), evidence.clone()).admitted();
    let bundles = Case {
        candidates: vec![key.sign(&judged())],
        ..case(with(&[StoredSignatureFormat::Bundle]), evidence)
    };
    assert!(matches!(
        bundles.decide().outcome(),
        PolicyOutcome::Governed(AdmissionVerdict::Deny(_))
    ));
}
