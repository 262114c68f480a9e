//! An exemption is for a digest, and so for a reference that carries it.

use super::*;

const USES: [ReferenceUse; 3] = [
    ReferenceUse::PackedBundle,
    ReferenceUse::ImageVolume,
    ReferenceUse::Container,
];

/// No signature; a policy for every use exempts `judged()`.
fn exempt(require_digest: bool, used_as: ReferenceUse, had_digest: bool) -> Case {
    let mut rules = PolicyRules {
        require_digest,
        ..rules(vec![key_authority("a", &TestKey::new())])
    };
    rules.matcher = PolicyMatcher::Names {
        references: vec!["**".parse().expect("a pattern")],
        except: Vec::new(),
        uses: USES.to_vec(),
    };
    rules.exemptions = vec![ExemptionRule {
        digest: judged(),
        reason: "INC-42".into(),
        expires: "2027-01-01T00:00:00Z".parse().expect("a time"),
    }];
    Case {
        had_digest,
        used_as,
        ..Case::new(rules, Vec::new())
    }
}

fn is_exempt(case: &Case) -> bool {
    matches!(
        case.decide().outcome(),
        PolicyOutcome::Governed(AdmissionVerdict::Exempt(_))
    )
}

#[test]
fn an_exemption_does_not_admit_a_tag() {
    for used_as in USES {
        assert!(
            is_exempt(&exempt(true, used_as, true)),
            "{used_as} by digest"
        );
        let denials = exempt(true, used_as, false).denied(Reason::DigestRequired);
        assert_eq!(
            denials.len(),
            1,
            "with its digest it would pass, so nothing else is told: {denials:?}"
        );
        assert!(
            denials[0]
                .message
                .contains(&format!("r.example.com/team-a/siem@{}", judged())),
            "{denials:?}"
        );
        assert!(
            is_exempt(&exempt(false, used_as, false)),
            "{used_as} by tag, and the policy does not mind"
        );
    }
}

#[test]
fn no_policy_speaks_for_another_that_asks_for_a_digest() {
    let key = TestKey::new();
    for used_as in USES {
        // One policy exempts or admits a tag, another requires a digest, in either order: the
        // requirement is not waived by the other policy.
        for asks_first in [true, false] {
            let lax = exempt(false, used_as, false);
            for exempts_too in [true, false] {
                let mut strict = exempt(true, used_as, false).rules.remove(0);
                "strict".clone_into(&mut strict.name);
                strict.authorities = vec![key_authority("a", &key)];
                if !exempts_too {
                    strict.exemptions.clear();
                }
                let both = if asks_first {
                    vec![strict, lax.rules[0].clone()]
                } else {
                    vec![lax.rules[0].clone(), strict]
                };
                let case = Case {
                    rules: both,
                    candidates: vec![key.sign(&judged())],
                    had_digest: false,
                    used_as,
                    ..exempt(false, used_as, false)
                };
                assert_eq!(
                    case.denied(Reason::DigestRequired)[0]
                        .policy
                        .as_ref()
                        .map(|policy| policy.name.as_str()),
                    Some("strict")
                );
                assert!(!case.decide().is_admitted());
            }
        }
    }
}

#[test]
fn a_policy_that_only_speaks_says_so_of_an_exempted_tag_too() {
    for (mode, admitted) in [
        (EnforcementMode::Enforce, false),
        (EnforcementMode::Warn, true),
        (EnforcementMode::Audit, true),
    ] {
        let mut case = exempt(true, ReferenceUse::Container, false);
        case.rules[0].mode = mode;
        case.denied(Reason::DigestRequired);
        assert_eq!(case.decide().is_admitted(), admitted, "{mode:?}");
    }
}
