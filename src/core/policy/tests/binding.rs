//! `bindRepository`: evidence that names another repository does not count, and some evidence must
//! name this one.

use super::*;
use crate::core::{intoto::COSIGN_SIGN, slsa::PROVENANCE_V1, verify::testing::TestKey};

const USED: &str = "r.example.com/team-a/siem";
const OTHER: &str = "r.example.com/team-b/siem";

fn stated(key: &TestKey, kind: &str, name: &str) -> ReferrerCandidate {
    let claim = if kind == PROVENANCE_V1 {
        predicate(BUILDER)
    } else {
        json!({})
    };
    key.attest(
        &judged(),
        &Statement::for_digest(name, &judged(), kind, claim),
    )
}

fn binding(mirrors: &[(&str, &str)]) -> RepositoryBinding {
    RepositoryBinding {
        mirrors: mirrors
            .iter()
            .map(|(from, to)| RepositoryMirror::new(from, to).expect("a mirror"))
            .collect(),
    }
}

fn case(key: &TestKey, candidates: Vec<ReferrerCandidate>) -> Case {
    Case::new(
        PolicyRules {
            bind_repository: Some(binding(&[])),
            ..rules(vec![key_authority("a", key)])
        },
        candidates,
    )
}

#[test]
fn a_signature_or_provenance_must_name_the_repository_and_none_another() {
    let key = TestKey::new();
    let (sign, attest) = (
        |name| stated(&key, COSIGN_SIGN, name),
        |name| stated(&key, PROVENANCE_V1, name),
    );
    for (what, candidates, admitted) in [
        ("signed here", vec![sign(USED)], true),
        (
            "signed here, in capitals and with a tag",
            vec![sign("R.example.com.:443/team-a/siem:v1")],
            true,
        ),
        (
            "signed without a name, as cosign does",
            vec![sign("")],
            false,
        ),
        ("signed by the name of a lock", vec![sign("siem")], false),
        ("signed elsewhere", vec![sign(OTHER)], false),
        (
            "signed elsewhere and here",
            vec![sign(OTHER), sign(USED)],
            true,
        ),
        (
            "signed without a name, built here",
            vec![sign(""), attest(USED)],
            true,
        ),
        (
            "signed without a name, built elsewhere",
            vec![sign(""), attest(OTHER)],
            false,
        ),
        (
            "signed here, built elsewhere",
            vec![sign(USED), attest(OTHER)],
            true,
        ),
        (
            "signed elsewhere, built here",
            vec![sign(OTHER), attest(USED)],
            false,
        ),
        ("built here, and not signed", vec![attest(USED)], false),
        (
            "another kind of statement names it",
            vec![sign(""), stated(&key, "https://spdx.dev/Document", USED)],
            false,
        ),
        (
            "somebody else names it",
            vec![sign(""), stated(&TestKey::new(), PROVENANCE_V1, USED)],
            false,
        ),
    ] {
        let mut case = case(&key, candidates);
        let expected = if what.starts_with("built here") {
            Reason::PredicateTypeMismatch
        } else {
            Reason::RepositoryMismatch
        };
        if admitted {
            case.admitted();
        } else {
            case.denied(expected);
        }
        // Without the field names are not compared.
        case.rules[0].bind_repository = None;
        let signed = case.decide().is_admitted();
        assert_eq!(signed, !what.starts_with("built here"), "{what}");
    }
}

#[test]
fn of_several_names_one_is_enough_if_it_is_of_this_digest() {
    let key = TestKey::new();
    let subject = |name: &str, digest: &Digest| {
        Statement::for_digest(name, digest, COSIGN_SIGN, json!({}))
            .subject
            .remove(0)
    };
    let signed = |subjects: Vec<_>| {
        key.attest(
            &judged(),
            &Statement {
                subject: subjects,
                ..Statement::for_digest("", &judged(), COSIGN_SIGN, json!({}))
            },
        )
    };
    case(
        &key,
        vec![signed(vec![
            subject(OTHER, &judged()),
            subject(USED, &judged()),
        ])],
    )
    .admitted();
    let elsewhere = Digest::of_bytes(b"another manifest");
    case(
        &key,
        vec![signed(vec![
            subject(OTHER, &judged()),
            subject(USED, &elsewhere),
        ])],
    )
    .denied(Reason::RepositoryMismatch);
    case(
        &key,
        vec![signed(vec![
            subject("", &judged()),
            subject(USED, &elsewhere),
        ])],
    )
    .denied(Reason::RepositoryMismatch);
}

#[test]
fn mirrors_are_the_only_other_names() {
    let key = TestKey::new();
    for (signed, mirrors, admitted) in [
        (
            "up.example.org/team-a/siem",
            &[("up.example.org", "r.example.com")][..],
            true,
        ),
        (
            "up.example.org/siem",
            &[
                ("x.example.org", "r.example.com"),
                ("up.example.org", "r.example.com/team-a"),
            ],
            true,
        ),
        (
            "up.example.org/team-a/siem",
            &[("r.example.com", "up.example.org")],
            false,
        ),
        (
            "up.example.org/team-b/siem",
            &[("up.example.org", "r.example.com")],
            false,
        ),
        (
            "up.example.org/team-a/siem",
            &[("up.example.org/team", "r.example.com/team")],
            false,
        ),
        (USED, &[("up.example.org", "r.example.com")], true),
    ] {
        let mut case = case(&key, vec![stated(&key, COSIGN_SIGN, signed)]);
        case.rules[0].bind_repository = Some(binding(mirrors));
        if admitted {
            case.admitted();
        } else {
            let told = case.denied(Reason::RepositoryMismatch);
            assert!(
                told[0].message.contains(signed) && told[0].message.contains(USED),
                "{told:?}"
            );
        }
    }
}

#[test]
fn what_names_another_repository_meets_no_threshold_and_proves_no_provenance() {
    let (a, b) = (TestKey::new(), TestKey::new());
    let two = |candidates| {
        let mut case = case(&a, candidates);
        case.rules[0].authorities.push(key_authority("b", &b));
        case.rules[0].threshold = 2;
        case
    };
    two(vec![
        stated(&a, COSIGN_SIGN, USED),
        stated(&b, COSIGN_SIGN, ""),
    ])
    .admitted();
    two(vec![
        stated(&a, COSIGN_SIGN, USED),
        stated(&b, COSIGN_SIGN, OTHER),
    ])
    .denied(Reason::ThresholdNotMet);
    let built = |candidates| {
        let mut case = case(&a, candidates);
        case.rules[0].slsa = Some(slsa(2, &[(BUILDER, "a", 3)]));
        case
    };
    built(vec![
        stated(&a, COSIGN_SIGN, ""),
        stated(&a, PROVENANCE_V1, USED),
    ])
    .admitted();
    built(vec![
        stated(&a, COSIGN_SIGN, USED),
        stated(&a, PROVENANCE_V1, ""),
    ])
    .admitted();
    built(vec![
        stated(&a, COSIGN_SIGN, USED),
        stated(&a, PROVENANCE_V1, OTHER),
    ])
    .denied(Reason::RepositoryMismatch);
}

#[test]
fn what_lies_on_disk_has_no_repository() {
    let key = TestKey::new();
    let mut case = case(&key, vec![stated(&key, COSIGN_SIGN, USED)]);
    case.rules[0].matcher = PolicyMatcher::Everything;
    let policies = case.policies();
    let findings = verify_evidence(
        &judged(),
        &evidence(case.candidates.clone()),
        &trusted_material(&policies),
        &InputLimits::DEFAULT,
    );
    let subject = AdmissionSubject {
        repository: None,
        ..case.subject(None)
    };
    denied(
        &evaluate_policies(&policies, &subject, &findings, now()),
        Reason::RepositoryMismatch,
    );
}

#[test]
fn an_exemption_never_covers_up_a_revoked_builder_that_names_another_repository() {
    let key = TestKey::new();
    let mut case = case(&key, vec![stated(&key, PROVENANCE_V1, OTHER)]);
    case.rules[0].exemptions = vec![ExemptionRule {
        digest: judged(),
        reason: "INC-42".into(),
        expires: "2027-01-01T00:00:00Z".parse().expect("a time"),
    }];
    assert!(matches!(
        case.decide().outcome(),
        PolicyOutcome::Governed(AdmissionVerdict::Exempt(_))
    ));
    case.rules[0].revocations = vec![RevocationRule {
        what: RevocationTarget::Builder(BUILDER.into()),
        reason: "leak-7".into(),
        since: None,
    }];
    assert!(!case.decide().is_admitted());
}
