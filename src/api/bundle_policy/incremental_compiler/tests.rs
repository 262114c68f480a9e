//! What is compiled again, what is shared, and what exceeds a quota.

use std::sync::Weak;

use serde_json::{Value, json};

use super::*;
use crate::{
    api::bundle_policy::{ConfigMapData, PolicyQuota},
    core::{
        policy::{AuthorityKind, ReferenceUse},
        verify::{
            CertificateAuthority,
            testing::TestKey,
            testing_pki::{Pki, list},
        },
    },
};

const SYSTEM: &str = "packgate-system";

/// A policy of a namespace; of the cluster, for an empty one.
fn policy(namespace: &str, name: &str, generation: u32, authorities: &Value) -> PolicyObject {
    let kind = if namespace.is_empty() {
        "ClusterBundlePolicy"
    } else {
        "BundlePolicy"
    };
    let mut metadata =
        json!({"name": name, "uid": format!("{namespace}/{name}"), "generation": generation});
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.into();
    }
    let spec = json!({"match": {"references": ["r.example.com/**"]}, "authorities": authorities});
    PolicyObject::from_json(json!({
        "apiVersion": "packgate.dev/v1alpha1",
        "kind": kind,
        "metadata": metadata,
        "spec": spec,
    }))
    .expect("a policy")
}

fn key() -> Value {
    json!([{"name": "a", "key": {"pem": TestKey::new().pem()}}])
}

/// Private CA authorities, all with the same certificates and lists.
fn of_company(count: usize) -> Value {
    let (ca, crl) = (
        json!({"kind": "ConfigMap", "name": "ca"}),
        json!({"kind": "ConfigMap", "name": "crl"}),
    );
    let one = |n: usize| {
        json!({
            "name": format!("a{n}"),
            "certificate": {
                "caRef": ca,
                "crlRef": crl,
                "subject": {"exact": format!("spiffe://corp/{n}")},
            },
        })
    };
    json!((0..count).map(one).collect::<Vec<_>>())
}

fn with_company(
    policies: Vec<PolicyObject>,
    namespace: &str,
    pki: &Pki,
    lists: String,
) -> PolicyInputs {
    let map = |name: &str, key: &str, text: String| {
        (
            (namespace.to_owned(), name.to_owned()),
            Some([(key.to_owned(), text)].into()),
        )
    };
    PolicyInputs {
        policies,
        config_maps: [map("ca", "ca.crt", pki.pem()), map("crl", "ca.crl", lists)].into(),
        ..PolicyInputs::default()
    }
}

fn lists(pki: &Pki, serials: &[u8]) -> String {
    format!(
        "{}{}",
        list(&pki.root, &[]),
        list(&pki.intermediate, serials)
    )
}

fn authorities(snapshot: &PolicySnapshot) -> Vec<Arc<CertificateAuthority>> {
    let all = snapshot
        .policies()
        .iter()
        .flat_map(|policy| &policy.rules().authorities);
    let of = |authority: &crate::core::policy::PolicyAuthority| {
        if let AuthorityKind::Certificate { authority, .. } = &authority.kind {
            Some(Arc::clone(authority))
        } else {
            None
        }
    };
    all.filter_map(of).collect()
}

/// Why each namespace's policies cannot be used.
fn faults(snapshot: &PolicySnapshot) -> BTreeMap<String, BTreeSet<Option<Reason>>> {
    let mut faults = BTreeMap::<String, BTreeSet<Option<Reason>>>::new();
    for policy in snapshot.policies() {
        let namespace = if let PolicyOrigin::Namespaced(namespace) = &policy.rules().kind {
            namespace.clone()
        } else {
            String::new()
        };
        faults
            .entry(namespace)
            .or_default()
            .insert(policy.fault_message().map(|_| policy.fault_reason()));
    }
    faults
}

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

#[test]
fn what_is_the_same_is_parsed_once_and_not_kept_when_nobody_has_it() {
    let pki = Pki::new();
    let policies = |generation| {
        (0..4)
            .map(|n| policy("team-a", &format!("p{n}"), generation, &of_company(16)))
            .collect::<Vec<_>>()
    };
    let (mut compiler, same) = (PolicyCompiler::default(), lists(&pki, &[7]));
    let first = compiler.compile_snapshot(
        &with_company(policies(1), "team-a", &pki, same.clone()),
        SYSTEM,
        now(),
    );
    assert_eq!(
        faults(&first),
        [("team-a".to_owned(), [None].into())].into()
    );
    let all = authorities(&first);
    assert_eq!(all.len(), 64);
    assert!(
        all.iter().all(|authority| Arc::ptr_eq(authority, &all[0])),
        "one copy for all authorities of all policies"
    );
    // The policies change, and the objects that they refer to do not.
    let second = compiler.compile_snapshot(
        &with_company(policies(2), "team-a", &pki, same),
        SYSTEM,
        now(),
    );
    assert!(
        Arc::ptr_eq(&authorities(&second)[0], &all[0]) && first.revision() != second.revision()
    );
    // The list changes: the old one is dropped with the last snapshot that has it.
    let old: Weak<CertificateAuthority> = Arc::downgrade(&all[0]);
    drop((first, second, all));
    let third = compiler.compile_snapshot(
        &with_company(policies(2), "team-a", &pki, lists(&pki, &[8])),
        SYSTEM,
        now(),
    );
    assert!(old.upgrade().is_none() && authorities(&third).len() == 64);
}

#[test]
fn over_its_budget_a_namespace_refuses_what_it_governs_and_no_other_notices() {
    let pki = Pki::new();
    let expressions = |first: usize| {
        let one = |n: usize| {
            let (ca, subject) = (
                json!({"kind": "ConfigMap", "name": "ca"}),
                json!({"regexp": format!("https://git/{n}/([a-z]{{1,30}}x){{1,20}}")}),
            );
            json!({"name": format!("a{n}"), "certificate": {"caRef": ca, "subject": subject}})
        };
        json!((first..first + 16).map(one).collect::<Vec<_>>())
    };
    let long = json!([
        {
            "name": "a",
            "keyless": {
                "trustRootRef": {"name": "corp"},
                "issuer": "i".repeat(200 << 10),
                "subject": {"exact": "a"},
            },
        },
    ]);
    let many = |count: usize, authorities: &dyn Fn(usize) -> Value| {
        (0..count)
            .map(|n| policy("team-a", &format!("p{n}"), 1, &authorities(n)))
            .collect::<Vec<_>>()
    };
    let one_key = key();
    let cases: [(&str, Vec<PolicyObject>); 4] = [
        ("policies, the limit is 64", many(65, &|_| one_key.clone())),
        (
            "authorities, the limit is 256",
            many(17, &|_| of_company(16)),
        ),
        ("bytes of rules, keys", many(12, &|_| long.clone())),
        ("bytes of rules, keys", many(10, &|n| expressions(16 * n))),
    ];
    for (bound, greedy) in cases {
        let mut policies = greedy;
        policies.extend([
            policy("", "cluster", 1, &one_key),
            policy("team-b", "modest", 1, &one_key),
        ]);
        let snapshot = with_company(policies, "team-a", &pki, lists(&pki, &[]))
            .compile_snapshot(SYSTEM, now());
        let good: BTreeSet<Option<Reason>> = [None].into();
        let expected = [
            (String::new(), good.clone()),
            ("team-a".to_owned(), [Some(Reason::LimitExceeded)].into()),
            ("team-b".to_owned(), good),
        ];
        assert_eq!(faults(&snapshot), expected.into(), "{bound}");
        let refusing = snapshot
            .policies()
            .iter()
            .find(|policy| policy.rules().kind == PolicyOrigin::Namespaced("team-a".into()))
            .expect("a policy");
        let fault = refusing.fault_message().expect("a fault");
        assert!(
            fault.contains(bound) && fault.contains("team-a") && fault.contains("delete some"),
            "{fault}"
        );
        // It governs the same uses as before, and only in its namespace.
        let scope = |namespace| crate::core::policy::ReferenceUseScope {
            name: crate::core::policy::ReferenceTarget::Unreadable,
            used_as: ReferenceUse::PackedBundle,
            namespace,
        };
        assert!(
            refusing.governs_scope(&scope(Some("team-a")))
                && !refusing.governs_scope(&scope(Some("team-b")))
        );
    }
}

#[test]
fn config_maps_are_counted_before_they_are_parsed() {
    let policies = |count: usize| {
        let one = |n: usize| {
            let (ca, crl) = (
                json!({"kind": "ConfigMap", "name": "ca"}),
                json!({"kind": "ConfigMap", "name": format!("crl-{n}")}),
            );
            policy(
                "team-a",
                &format!("p{n}"),
                1,
                &json!([
                    {
                        "name": "a",
                        "certificate": {"caRef": ca, "crlRef": crl, "subject": {"exact": "a"}},
                    },
                ]),
            )
        };
        (0..count).map(one).collect::<Vec<_>>()
    };
    let gathered = |count: usize| {
        let mut gathered = PolicyInputs {
            policies: policies(count),
            ..PolicyInputs::default()
        };
        let map = |name| (name, Some(ConfigMapData::without_content(1 << 20)));
        gathered.config_maps = gathered
            .needed_config_maps(SYSTEM)
            .into_iter()
            .map(map)
            .collect();
        gathered
    };
    let snapshot = gathered(3).compile_snapshot(SYSTEM, now());
    assert_eq!(
        faults(&snapshot),
        [("team-a".to_owned(), [Some(Reason::LimitExceeded)].into())].into()
    );
    assert!(
        snapshot.policies()[0]
            .fault_message()
            .expect("a fault")
            .contains("bytes in the ConfigMaps"),
        "{:?}",
        snapshot.policies()[0].fault_message()
    );
    let too_many = gathered(PolicyQuota::NAMESPACE.config_maps);
    assert!(
        too_many.config_maps.is_empty(),
        "nothing is watched for policies that are not compiled"
    );
    assert_eq!(
        faults(&too_many.compile_snapshot(SYSTEM, now())),
        [("team-a".to_owned(), [Some(Reason::LimitExceeded)].into())].into()
    );
}

#[test]
fn only_what_changed_is_compiled_and_whoever_never_stops_waits() {
    let (mut compiler, begin) = (PolicyCompiler::default(), Instant::now());
    let (of_a, of_b, of_cluster) = (key(), key(), key());
    let gathered = |a: u32, b: u32, cluster: u32| PolicyInputs {
        policies: vec![
            policy("team-a", "a", a, &of_a),
            policy("team-b", "b", b, &of_b),
            policy("", "c", cluster, &of_cluster),
        ],
        ..PolicyInputs::default()
    };
    let generations = |snapshot: &PolicySnapshot| {
        snapshot
            .policies()
            .iter()
            .map(|policy| policy.rules().generation)
            .collect::<Vec<_>>()
    };
    let mut step = |a, b, cluster, at| {
        let (snapshot, turn) =
            compiler.compile_rate_limited(&gathered(a, b, cluster), SYSTEM, now(), begin + at);
        (
            generations(&snapshot),
            turn.map(|turn| turn - begin),
            snapshot.revision().to_owned(),
        )
    };
    for generation in 1..=COMPILE_BURST {
        assert_eq!(
            step(generation, 1, 1, Duration::ZERO).0,
            [1, i64::from(generation), 1]
        );
    }
    let last = i64::from(COMPILE_BURST);
    let (found, turn, revision) = step(COMPILE_BURST + 1, 2, 2, Duration::ZERO);
    assert_eq!(
        (found, turn),
        (vec![2, last, 2], Some(COMPILE_INTERVAL)),
        "only team-a waits, and its policy stays what it was"
    );
    let (found, turn, same) = step(COMPILE_BURST + 2, 2, 2, COMPILE_INTERVAL / 2);
    assert_eq!(
        (found, turn, same),
        (vec![2, last, 2], Some(COMPILE_INTERVAL), revision.clone()),
        "what is not in force is not told"
    );
    let (found, turn, other) = step(COMPILE_BURST + 2, 2, 2, COMPILE_INTERVAL);
    assert_eq!((found, turn), (vec![2, last + 2, 2], None));
    assert_ne!(revision, other);
}

#[test]
fn a_namespace_that_waits_from_the_beginning_refuses() {
    let (mut compiler, begin, authorities) = (PolicyCompiler::default(), Instant::now(), key());
    let here = |generation| PolicyInputs {
        policies: vec![policy("team-a", "a", generation, &authorities)],
        ..PolicyInputs::default()
    };
    for generation in 0..COMPILE_BURST {
        compiler.compile_rate_limited(&here(generation), SYSTEM, now(), begin);
        compiler.compile_rate_limited(&PolicyInputs::default(), SYSTEM, now(), begin);
    }
    let (snapshot, turn) = compiler.compile_rate_limited(&here(9), SYSTEM, now(), begin);
    assert_eq!(
        (faults(&snapshot), turn),
        (
            [("team-a".to_owned(), [Some(Reason::LimitExceeded)].into())].into(),
            Some(begin + COMPILE_INTERVAL)
        )
    );
    let (snapshot, _) =
        compiler.compile_rate_limited(&here(9), SYSTEM, now(), begin + COMPILE_INTERVAL);
    assert_eq!(
        faults(&snapshot),
        [("team-a".to_owned(), [None].into())].into()
    );
}
