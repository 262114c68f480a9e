use super::*;
use crate::core::verify::VerificationKey;

type Change = fn(&mut PolicyRules, &TestKey);

#[test]
fn policies_that_cannot_mean_what_they_say_are_refused() {
    let table: &[(&str, &str, Change)] = &[
        ("spec.match.references", "nothing is governed", |r, _| {
            set_matcher(r, &[], &[], &[ReferenceUse::Container]);
        }),
        ("spec.match.references", "limit is 64", |r, _| {
            set_matcher(
                r,
                &["r.example.com/**"; 65],
                &[],
                &[ReferenceUse::Container],
            );
        }),
        ("spec.match.except", "nothing is governed", |r, _| {
            set_matcher(r, &["**"], &["**"], &[ReferenceUse::Container]);
        }),
        ("spec.match.uses", "nothing is governed", |r, _| {
            set_matcher(r, &["**"], &[], &[]);
        }),
        ("spec.authorities", "nothing to trust", |r, _| {
            r.authorities.clear();
        }),
        ("spec.authorities", "limit is 16", |r, key| {
            r.authorities = (0..17)
                .map(|n| key_authority(&n.to_string(), key))
                .collect();
        }),
        ("spec.authorities[1].name", "unique", |r, key| {
            r.authorities.push(key_authority("a", key));
        }),
        ("spec.authorities[0].name", "is required", |r, _| {
            r.authorities[0].name.clear();
        }),
        ("spec.threshold", "at least 1", |r, _| r.threshold = 0),
        ("spec.threshold", "at most 1", |r, _| r.threshold = 2),
        (
            "spec.threshold",
            "at most 1, the number of distinct signers",
            |r, _| {
                let again = PolicyAuthority {
                    name: "again".into(),
                    ..r.authorities[0].clone()
                };
                r.authorities.push(again);
                r.threshold = 2;
            },
        ),
        ("spec.authorities[1].key", "same RSA key", |r, _| {
            let keys = [
                include_str!("../../../../tests/data/keys/rsa.pub"),
                include_str!("../../../../tests/data/keys/rsa-as-pss.pub"),
            ];
            let means = keys.map(|pem| AuthorityKind::Key {
                key: VerificationKey::from_pem(pem).expect("a key"),
                root: None,
            });
            r.authorities.extend(
                means
                    .into_iter()
                    .zip(["pkcs1", "pss"])
                    .map(|(means, name)| PolicyAuthority {
                        name: name.into(),
                        kind: means,
                    }),
            );
        }),
        ("spec.slsa.minimumLevel", "0 to 3", |r, _| {
            r.slsa = Some(slsa(4, &[(BUILDER, "a", 3)]));
        }),
        ("spec.slsa.builders", "nothing could pass", |r, _| {
            r.slsa = Some(slsa(2, &[]));
        }),
        ("spec.slsa.builders[0].level", "0 to 3", |r, _| {
            r.slsa = Some(slsa(2, &[(BUILDER, "a", 4)]));
        }),
        ("spec.slsa.builders[0].id", "not be empty", |r, _| {
            r.slsa = Some(slsa(2, &[("", "a", 3)]));
        }),
        (
            "spec.slsa.builders[1].authority",
            "must name one",
            |r, _| r.slsa = Some(slsa(2, &[(BUILDER, "a", 3), (BUILDER, "b", 3)])),
        ),
        ("spec.slsa.builders[1].id", "listed twice", |r, _| {
            r.slsa = Some(slsa(2, &[(BUILDER, "a", 3), (BUILDER, "a", 1)]));
        }),
        (
            "spec.attestations[0].predicateType",
            "not be empty",
            |r, _| {
                r.attestations = vec![AttestationRule {
                    predicate_type: String::new(),
                    authority: None,
                }];
            },
        ),
        ("spec.attestations[0].authority", "must name one", |r, _| {
            r.attestations = vec![AttestationRule {
                predicate_type: "x".into(),
                authority: Some("b".into()),
            }];
        }),
        ("spec.exemptions", "ClusterBundlePolicy", |r, _| {
            r.kind = PolicyOrigin::Namespaced("x".into());
            r.exemptions = vec![ExemptionRule {
                digest: judged(),
                reason: "x".into(),
                expires: now(),
            }];
        }),
    ];
    let key = TestKey::new();
    for (field, problem, change) in table {
        let mut rules = rules(vec![key_authority("a", &key)]);
        change(&mut rules, &key);
        let error = Policy::new(rules).expect_err(field);
        assert_eq!(error.field, *field);
        assert!(error.problem.contains(problem), "{field}: {error}");
    }
}

fn set_matcher(
    rules: &mut PolicyRules,
    references: &[&str],
    except: &[&str],
    uses: &[ReferenceUse],
) {
    let patterns = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| text.parse().expect("a pattern"))
            .collect()
    };
    rules.matcher = PolicyMatcher::Names {
        references: patterns(references),
        except: patterns(except),
        uses: uses.to_vec(),
    };
}

#[test]
fn uses_are_written_as_they_are_named() {
    for text in ["PackedBundle", "ImageVolume", "Container"] {
        assert_eq!(text.parse::<ReferenceUse>().expect(text).to_string(), text);
    }
    assert!("packedbundle".parse::<ReferenceUse>().is_err());
    assert_eq!(
        serde_json::to_value(ReferenceUse::ImageVolume).expect("JSON"),
        "ImageVolume"
    );
}
