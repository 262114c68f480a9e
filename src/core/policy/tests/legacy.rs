//! cosign's older form counts where a policy lists it, by the same rules as bundles.

use std::sync::Arc;

use super::*;
use crate::core::verify::legacy::testing::TestLog;

fn case(rules: Rules, legacy: Vec<crate::core::verify::LegacyCandidate>) -> Case {
    Case {
        evidence: Evidence {
            legacy,
            ..Evidence::default()
        },
        ..Case::new(rules, Vec::new())
    }
}

fn listing(formats: &[Format], authorities: Vec<Authority>) -> Rules {
    Rules {
        formats: formats.to_vec(),
        ..rules(authorities)
    }
}

#[test]
fn a_form_counts_where_it_is_listed() {
    let key = TestKey::new();
    let legacy = || vec![key.sign_legacy(&judged())];
    for (formats, admitted) in [
        (&[Format::Bundle][..], false),
        (&[Format::LegacySetOnly], false),
        (&[Format::Bundle, Format::LegacySetOnly], false),
        (&[Format::Legacy], true),
        (&[Format::Bundle, Format::Legacy], true),
    ] {
        let rules = listing(formats, vec![key_authority("a", &key)]);
        assert_eq!(
            Policy::new(rules.clone()).expect("a policy").reads_tags(),
            formats != [Format::Bundle],
            "{formats:?}"
        );
        let case = case(rules, legacy());
        if admitted {
            case.admitted();
            let signature = case.decide().policies[0].authorities[0].signature.clone();
            assert_eq!(signature.map(|(format, ..)| format), Some(Format::Legacy));
        } else {
            assert!(
                case.denied(Reason::NoMatchingAuthority)[0]
                    .message
                    .contains("spec.signatureFormats")
            );
        }
    }
    let rules = listing(&[Format::Legacy], vec![key_authority("a", &key)]);
    Case::new(rules, vec![key.sign(&judged())]).denied(Reason::NoMatchingAuthority);
}

#[test]
fn a_revoked_key_is_revoked_in_the_older_form_too() {
    let (retired, current) = (TestKey::new(), TestKey::new());
    let what = Revoked::Key(retired.public().fingerprint());
    let rules = Rules {
        revocations: vec![Revocation {
            what,
            reason: "retired".into(),
            since: None,
        }],
        ..listing(
            &[Format::Bundle, Format::Legacy],
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
    let rules = Rules {
        threshold: 2,
        ..listing(
            &[Format::Bundle, Format::Legacy],
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
    let authority = Authority {
        name: "a".into(),
        means: Means::Key {
            key: key.public(),
            root: Some(Arc::new(log.root())),
        },
    };
    let logged = log.log(&key, key.sign_legacy(&judged()));
    let required = |formats: &[Format]| Rules {
        transparency: Transparency::Required,
        ..listing(formats, vec![authority.clone()])
    };
    case(required(&[Format::Legacy]), vec![logged.clone()]).denied(Reason::NoTrustedTime);
    case(required(&[Format::LegacySetOnly]), vec![logged.clone()]).admitted();
    // Without the log's word there is a key alone, which is another form, and no transparency.
    case(
        required(&[Format::LegacySetOnly]),
        vec![key.sign_legacy(&judged())],
    )
    .denied(Reason::NoMatchingAuthority);
    case(
        required(&[Format::Legacy, Format::LegacySetOnly]),
        vec![key.sign_legacy(&judged())],
    )
    .denied(Reason::NoTrustedTime);
    // Who asks no log takes the key's word.
    case(
        listing(&[Format::Legacy], vec![key_authority("a", &key)]),
        vec![logged],
    )
    .admitted();
    let strange = TestLog::new().log(&key, key.sign_legacy(&judged()));
    case(
        required(&[Format::Legacy, Format::LegacySetOnly]),
        vec![strange],
    )
    .denied(Reason::InvalidTimestamp);
}

#[test]
fn provenance_in_the_older_form_proves_what_any_provenance_does() {
    let key = TestKey::new();
    let statement = Statement::about(
        "r.example.com/team-a/siem",
        &judged(),
        "https://slsa.dev/provenance/v1",
        predicate(BUILDER),
    );
    let with = |formats: &[Format]| Rules {
        slsa: Some(slsa(1, &[(BUILDER, "a", 2)])),
        ..listing(formats, vec![key_authority("a", &key)])
    };
    let evidence = vec![key.sign_legacy(&judged()), key.attest_legacy(&statement)];
    case(with(&[Format::Legacy]), evidence.clone()).admitted();
    let bundles = Case {
        candidates: vec![key.sign(&judged())],
        ..case(with(&[Format::Bundle]), evidence)
    };
    assert!(matches!(
        bundles.decide().outcome,
        Outcome::Governed(Verdict::Deny(_))
    ));
}
