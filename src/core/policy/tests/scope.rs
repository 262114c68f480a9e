use super::*;

fn outcome(case: &Case) -> &'static str {
    match case.decide().outcome() {
        PolicyOutcome::Ungoverned => "ungoverned",
        PolicyOutcome::Governed(AdmissionVerdict::Admit(_)) => "admitted",
        PolicyOutcome::Governed(AdmissionVerdict::Deny(_)) => "denied",
        PolicyOutcome::Governed(AdmissionVerdict::Exempt(_)) => "exempt",
    }
}

#[test]
fn a_policy_governs_what_it_names_and_nothing_else() {
    let key = TestKey::new();
    let mut case = Case::new(rules(vec![key_authority("a", &key)]), Vec::new());
    assert_eq!(outcome(&case), "denied");
    for (name, used_as, expected) in [
        (
            "r.example.com/team-a/siem",
            ReferenceUse::ImageVolume,
            "denied",
        ),
        (
            "r.example.com/team-a/siem",
            ReferenceUse::Container,
            "ungoverned",
        ),
        (
            "r.example.com/team-b/siem",
            ReferenceUse::PackedBundle,
            "ungoverned",
        ),
        (
            "r.example.com/team-a/dev/x",
            ReferenceUse::PackedBundle,
            "ungoverned",
        ),
    ] {
        (case.repository, case.used_as) = (name.parse().expect(name), used_as);
        assert_eq!(outcome(&case), expected, "{name} {used_as}");
        assert_eq!(
            case.policies()[0].governs_repository(Some(&case.repository), used_as, None),
            expected != "ungoverned"
        );
    }
    assert!(
        !case.decide().is_admitted(),
        "what an ungoverned use gets is not for a policy to say"
    );
}

#[test]
fn a_revocation_keeps_an_excepted_name_in_sight() {
    let key = TestKey::new();
    let mut case = Case::new(rules(vec![key_authority("a", &key)]), Vec::new());
    case.repository = "r.example.com/team-a/dev/x".parse().expect("a name");
    case.rules[0].revocations = vec![RevocationRule {
        what: RevocationTarget::Digest(Digest::of_bytes(b"x")),
        reason: "leak-7".into(),
        since: None,
    }];
    assert!(case.policies()[0].governs_repository(
        Some(&case.repository),
        ReferenceUse::PackedBundle,
        None
    ));
    assert_eq!(outcome(&case), "ungoverned");
}

#[test]
fn a_namespaces_policy_governs_its_own_namespace() {
    let key = TestKey::new();
    let rules = PolicyRules {
        kind: PolicyOrigin::Namespaced("team-a".into()),
        ..rules(vec![key_authority("a", &key)])
    };
    let mut case = Case::new(rules, Vec::new());
    for (namespace, expected) in [
        (Some("team-a"), "denied"),
        (Some("team-b"), "ungoverned"),
        (None, "ungoverned"),
    ] {
        case.namespace = namespace;
        assert_eq!(outcome(&case), expected, "{namespace:?}");
    }
}

#[test]
fn no_policy_governs_nothing() {
    let key = TestKey::new();
    let mut case = Case::new(
        rules(vec![key_authority("a", &key)]),
        vec![key.sign(&judged())],
    );
    case.rules.clear();
    assert_eq!(outcome(&case), "ungoverned");
}
