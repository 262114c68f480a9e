//! What is sent to the webhook, and what is not.

use serde_json::json;

use super::{
    namespaced_conditions::{MAX_CONDITION, MAX_NAMESPACES},
    *,
};
use crate::api::{bundle_policy::PolicyObject, installation::NoMatchConfig};

fn policy(references: &Value, uses: &Value) -> Policy {
    policy_in("Enforce", references, uses)
}

fn policy_in(mode: &str, references: &Value, uses: &Value) -> Policy {
    let object = json!({
        "apiVersion": "packgate.dev/v1alpha1", "kind": "ClusterBundlePolicy",
        "metadata": {"name": "p"},
        "spec": {
            "mode": mode,
            "match": {"references": references, "uses": uses},
            "authorities": [{"name": "a", "key": {"configMapRef": {"name": "k"}}}],
        },
    });
    PolicyObject::from_json(object)
        .expect("a policy")
        .to_deny_all_policy("")
}

/// The conditions of an entry, joined. `None`: there is no such entry.
fn conditions(made: &Value, entry: &str) -> Option<String> {
    let name = format!("{entry}.packgate.dev");
    let entry = made["webhooks"]
        .as_array()
        .expect("entries")
        .iter()
        .find(|entry| entry["name"] == name)?;
    let each = entry["matchConditions"]
        .as_array()
        .expect("conditions")
        .iter();
    Some(
        each.map(|condition| condition["expression"].as_str().expect("an expression"))
            .collect::<Vec<_>>()
            .join(" && "),
    )
}

/// The conditions for images that may be denied, and for images that are only warned about or
/// audited.
fn expressions(policies: &[Policy], installation: &InstallationConfig) -> (String, String) {
    let made = render_configuration(policies, installation, "packgate-system", "").object;
    (
        conditions(&made, "uses").expect("an entry"),
        conditions(&made, "warn-or-audit").expect("an entry"),
    )
}

fn expression(policies: &[Policy], installation: &InstallationConfig) -> String {
    expressions(policies, installation).0
}

#[test]
fn nothing_reaches_the_webhook_from_where_the_cluster_starts() {
    let made = render_configuration(
        &[],
        &InstallationConfig::default(),
        "packgate-system",
        "PEM",
    )
    .object;
    for entry in made["webhooks"].as_array().expect("entries") {
        let selector = &entry["namespaceSelector"]["matchExpressions"][0];
        assert_eq!(
            selector["key"], "kubernetes.io/metadata.name",
            "a label that its namespace's people cannot change"
        );
        assert_eq!(
            (&selector["operator"], &selector["values"]),
            (&json!("NotIn"), &json!(["kube-system", "packgate-system"]))
        );
        let expected = if entry["name"] == "warn-or-audit.packgate.dev" {
            "Ignore"
        } else {
            "Fail"
        };
        assert_eq!(
            (&entry["failurePolicy"], &entry["timeoutSeconds"]),
            (&json!(expected), &json!(10))
        );
        assert_eq!(entry["clientConfig"]["caBundle"], "UEVN");
    }
    let names: Vec<_> = made["webhooks"]
        .as_array()
        .expect("entries")
        .iter()
        .map(|entry| entry["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(
        names,
        [
            "packedbundles.packgate.dev",
            "policies.packgate.dev",
            "uses.packgate.dev",
            "warn-or-audit.packgate.dev"
        ]
    );
    let rules = made["webhooks"]
        .as_array()
        .expect("entries")
        .iter()
        .flat_map(|entry| entry["rules"].as_array().expect("rules"));
    let (roots, others): (Vec<_>, Vec<_>) =
        rules.partition(|rule| rule["resources"] == json!(["trustroots"]));
    assert!(
        others
            .iter()
            .all(|rule| rule["operations"] == json!(["CREATE", "UPDATE"])),
        "whatever else goes, may go: {others:?}"
    );
    assert_eq!(
        roots
            .iter()
            .map(|rule| &rule["operations"])
            .collect::<Vec<_>>(),
        [&json!(["CREATE", "UPDATE", "DELETE"])]
    );
}

#[test]
fn only_pods_with_image_volumes_are_sent_while_nothing_governs_containers() {
    let expression = expression(
        &[policy(
            &json!(["r.example.com/**"]),
            &json!(["ImageVolume"]),
        )],
        &InstallationConfig::default(),
    );
    assert!(
        expression.contains("v.image.reference.lowerAscii().startsWith('r.example.com')")
            && !expression.contains("c.image"),
        "{expression}"
    );
}

#[test]
fn images_are_sent_by_their_hosts() {
    let hosts = |references: Value| {
        expression(
            &[policy(&references, &json!(["Container"]))],
            &InstallationConfig::default(),
        )
    };
    let named = hosts(json!(["r.example.com/**", "s.example.com:5000/a/*"]));
    assert!(
        named.contains("startsWith('r.example.com')")
            && named.contains("startsWith('s.example.com')"),
        "{named}"
    );
    assert_eq!(named.matches("ephemeralContainers").count(), 2, "{named}");
    for anywhere in [
        json!(["**"]),
        json!(["*.example.com/**"]),
        json!(["docker.io/library/nginx"]),
        json!(["registry-1.docker.io/team/*"]),
    ] {
        let all = hosts(anywhere.clone());
        assert!(all.contains("exists(c, has(c.image))"), "{anywhere}: {all}");
    }
    // An address has several spellings, and some are refused by the webhook only.
    for address in ["10.200.0.1:5000/**", "[2001:db8::1]:5000/**"] {
        let sent = hosts(json!([address, "r.example.com/**"]));
        for beginning in ["[", "0", "1", "9", "r.example.com"] {
            assert!(
                sent.contains(&format!("c.image.lowerAscii().startsWith('{beginning}')")),
                "{address} {beginning}: {sent}"
            );
        }
    }
    assert!(!named.contains("startsWith('[')"), "{named}");
    let many: Vec<String> = (0..40).map(|n| format!("r{n}.example.com/**")).collect();
    assert!(hosts(json!(many)).contains("exists(c, has(c.image))"));
}

#[test]
fn what_is_only_spoken_of_never_waits_for_the_webhook() {
    let references = json!(["r.example.com/**"]);
    for mode in ["Warn", "Audit"] {
        let (refused, spoken_of) = expressions(
            &[policy_in(mode, &references, &json!(["Container"]))],
            &InstallationConfig::default(),
        );
        assert_eq!(refused, "false", "{mode}");
        assert!(
            spoken_of.contains("c.image") && spoken_of.contains("v.image"),
            "noMatch warns of image volumes: {spoken_of}"
        );
    }
    let both = [
        policy(&references, &json!(["ImageVolume"])),
        policy_in("Warn", &json!(["s.example.com/**"]), &json!(["Container"])),
    ];
    let (refused, spoken_of) = expressions(&both, &InstallationConfig::default());
    assert!(
        !refused.contains("s.example.com") && spoken_of.contains(") && !["),
        "nobody looks twice: {spoken_of}"
    );
}

#[test]
fn what_the_installation_says_of_the_ungoverned_counts() {
    let installation = |image_volume, container| InstallationConfig {
        no_match: NoMatchConfig {
            image_volume,
            container,
            ..NoMatchConfig::default()
        },
        ..InstallationConfig::default()
    };
    let silent = expressions(
        &[],
        &installation(NoMatchAction::Allow, NoMatchAction::Allow),
    );
    assert_eq!(silent, ("false".to_owned(), "false".to_owned()));
    let (refused, spoken_of) =
        expressions(&[], &installation(NoMatchAction::Warn, NoMatchAction::Deny));
    assert!(
        refused.contains("exists(c, has(c.image))") && !refused.contains("v.image"),
        "{refused}"
    );
    assert!(spoken_of.contains("exists(v, has(v.image))"), "{spoken_of}");
}

#[test]
fn a_policy_that_nobody_can_read_may_govern_anything() {
    let unreadable = Policy::new_unusable(
        "p",
        PolicyOrigin::Cluster,
        0,
        EnforcementMode::Enforce,
        None,
        "",
    );
    let all = expression(&[unreadable], &InstallationConfig::default());
    assert!(
        all.contains("exists(c, has(c.image))") && all.contains("exists(v, has(v.image))"),
        "{all}"
    );
}

/// A `BundlePolicy` of a namespace.
fn own(namespace: &str, mode: &str, references: &Value, uses: &Value) -> Policy {
    let object = json!({
        "apiVersion": "packgate.dev/v1alpha1", "kind": "BundlePolicy", "metadata": {
            "name": "p",
            "namespace": namespace,
        },
        "spec": {
            "mode": mode,
            "match": {"references": references, "uses": uses},
            "authorities": [{"name": "a", "key": {"configMapRef": {"name": "k"}}}],
        },
    });
    PolicyObject::from_json(object)
        .expect("a policy")
        .to_deny_all_policy("")
}

fn made(policies: &[Policy]) -> Value {
    render_configuration(
        policies,
        &InstallationConfig::default(),
        "packgate-system",
        "",
    )
    .object
}

/// The namespaces of an entry.
fn selected(made: &Value, entry: &str) -> Vec<String> {
    let name = format!("{entry}.packgate.dev");
    let entry = made["webhooks"]
        .as_array()
        .expect("entries")
        .iter()
        .find(|entry| entry["name"] == name)
        .expect("an entry");
    let selectors = entry["namespaceSelector"]["matchExpressions"]
        .as_array()
        .expect("selectors")
        .iter();
    let listed = selectors
        .filter(|selector| selector["operator"] == "In")
        .flat_map(|selector| selector["values"].as_array().expect("names"));
    listed
        .map(|name| name.as_str().expect("a name").to_owned())
        .collect()
}

#[test]
fn a_bundle_policy_widens_its_own_namespace_only() {
    let nothing = made(&[]);
    assert!(
        conditions(&nothing, "namespaced-uses").is_none()
            && conditions(&nothing, "namespaced-warn-or-audit").is_none()
    );
    let many: Vec<String> = (0..33).map(|n| format!("r{n}.example.com/**")).collect();
    for references in [json!(["a.example.com/**"]), json!(["**"]), json!(many)] {
        let made = made(&[own(
            "team-a",
            "Enforce",
            &references,
            &json!(["Container", "ImageVolume"]),
        )]);
        assert_eq!(
            conditions(&made, "uses"),
            conditions(&nothing, "uses"),
            "{references}"
        );
        assert_eq!(selected(&made, "namespaced-uses"), ["team-a"]);
        let sent = conditions(&made, "namespaced-uses").expect("an entry");
        assert!(
            sent.contains("request.namespace in ['team-a'] && ("),
            "{sent}"
        );
        assert!(conditions(&made, "namespaced-warn-or-audit").is_none());
    }
}

#[test]
fn each_namespace_is_asked_about_its_own_hosts() {
    let containers = json!(["Container"]);
    let made = made(&[
        own(
            "team-a",
            "Enforce",
            &json!(["a.example.com/**"]),
            &containers,
        ),
        own(
            "team-b",
            "Enforce",
            &json!(["b.example.com/**"]),
            &containers,
        ),
        own(
            "team-c",
            "Enforce",
            &json!(["a.example.com/x/**"]),
            &containers,
        ),
        own("team-d", "Audit", &json!(["d.example.com/**"]), &containers),
        own(
            "team-e",
            "Enforce",
            &json!(["e.example.com/**"]),
            &json!(["PackedBundle"]),
        ),
        own(
            "kube-system",
            "Enforce",
            &json!(["e.example.com/**"]),
            &containers,
        ),
    ]);
    assert_eq!(
        selected(&made, "namespaced-uses"),
        ["team-a", "team-b", "team-c"],
        "nobody else has a say in what Pods use"
    );
    assert_eq!(selected(&made, "namespaced-warn-or-audit"), ["team-d"]);
    let sent = conditions(&made, "namespaced-uses").expect("an entry");
    let terms: Vec<&str> = sent.split("(request.namespace in ").skip(1).collect();
    assert_eq!(terms.len(), 2, "those with one term share it: {sent}");
    assert!(
        terms[0].starts_with("['team-a','team-c'] && (")
            && terms[0].contains("'a.example.com'")
            && !terms[0].contains("b.example"),
        "{sent}"
    );
    assert!(
        terms[1].starts_with("['team-b'] && (") && terms[1].contains("'b.example.com'"),
        "{sent}"
    );
    let ignored = made["webhooks"]
        .as_array()
        .expect("entries")
        .iter()
        .find(|entry| entry["name"] == "namespaced-warn-or-audit.packgate.dev");
    assert_eq!(ignored.expect("an entry")["failurePolicy"], "Ignore");
}

#[test]
fn no_object_is_sent_twice() {
    let made = made(&[
        policy(&json!(["c.example.com/**"]), &json!(["Container"])),
        policy_in("Warn", &json!(["w.example.com/**"]), &json!(["Container"])),
        own(
            "team-a",
            "Enforce",
            &json!(["a.example.com/**"]),
            &json!(["Container"]),
        ),
        own(
            "team-a",
            "Audit",
            &json!(["b.example.com/**"]),
            &json!(["Container"]),
        ),
    ]);
    let negated = |entry: &str| {
        let sent = conditions(&made, entry).expect("an entry");
        let not: Vec<String> = sent
            .split(" && ![")
            .skip(1)
            .map(ToOwned::to_owned)
            .collect();
        [
            "c.example.com",
            "w.example.com",
            "a.example.com",
            "b.example.com",
        ]
        .map(|host| not.iter().any(|term| term.contains(host)))
    };
    assert_eq!(negated("uses"), [false, false, false, false]);
    assert_eq!(negated("namespaced-uses"), [true, false, false, false]);
    assert_eq!(negated("warn-or-audit"), [true, false, true, false]);
    assert_eq!(
        negated("namespaced-warn-or-audit"),
        [true, true, true, false]
    );
}

#[test]
fn a_bundle_policy_that_nobody_can_read_may_govern_anything_in_its_namespace() {
    let unreadable = Policy::new_unusable(
        "p",
        PolicyOrigin::Namespaced("team-a".into()),
        0,
        EnforcementMode::Enforce,
        None,
        "",
    );
    let made = made(&[unreadable]);
    assert_eq!(conditions(&made, "uses").expect("an entry"), "false");
    assert_eq!(selected(&made, "namespaced-uses"), ["team-a"]);
    let sent = conditions(&made, "namespaced-uses").expect("an entry");
    assert!(
        sent.contains("exists(c, has(c.image))") && sent.contains("exists(v, has(v.image))"),
        "{sent}"
    );
}

/// Hosts of maximum length.
fn long_hosts(seed: usize) -> Value {
    let label = "h".repeat(50);
    json!(
        (0..32)
            .map(|n| format!("r{n}x{seed}.{label}.{label}.{label}.{label}.example.com/**"))
            .collect::<Vec<_>>()
    )
}

#[test]
fn what_tenants_write_never_outgrows_what_an_api_server_takes() {
    let uses = json!(["Container", "ImageVolume"]);
    let long_name = |n: usize| format!("{n:0>63}");
    for (count, references) in [
        (1, long_hosts(0)),
        (300, long_hosts(0)),
        (5_000, json!(["a.example.com/**"])),
        (MAX_NAMESPACES, json!(["a.example.com/**"])),
        (MAX_NAMESPACES + 1, json!(["**"])),
    ] {
        let cluster = [
            policy(&long_hosts(1), &uses),
            policy_in("Warn", &long_hosts(2), &uses),
        ];
        let tenants = (0..count).flat_map(|n| {
            ["Enforce", "Audit"].map(|mode| own(&long_name(n), mode, &references, &uses))
        });
        let made = made(&cluster.into_iter().chain(tenants).collect::<Vec<_>>());
        let size = made.to_string().len();
        assert!(size < 1_400_000, "{count} namespaces: {size} bytes");
        for entry in [
            "uses",
            "warn-or-audit",
            "namespaced-uses",
            "namespaced-warn-or-audit",
        ] {
            let name = format!("{entry}.packgate.dev");
            let entry = made["webhooks"]
                .as_array()
                .expect("entries")
                .iter()
                .find(|entry| entry["name"] == name)
                .expect("an entry");
            for condition in entry["matchConditions"].as_array().expect("conditions") {
                let size = condition["expression"]
                    .as_str()
                    .expect("an expression")
                    .len();
                assert!(
                    size < MAX_CONDITION + 1_000,
                    "{count} namespaces: {size} bytes in {name}"
                );
            }
        }
        let listed = selected(&made, "namespaced-uses").len();
        assert_eq!(
            listed,
            if count <= MAX_NAMESPACES { count } else { 0 },
            "all of them are asked about"
        );
    }
}

#[test]
fn who_writes_long_terms_is_widened_first_and_alone() {
    let containers = json!(["Container"]);
    let greedy = |n: usize| {
        let hosts: Vec<String> = (0..12)
            .map(|host| format!("r{host}.tenant-{n}.example.com/**"))
            .collect();
        own(
            &format!("greedy-{n}"),
            "Enforce",
            &json!(hosts),
            &containers,
        )
    };
    let modest = (0..20).map(|n| {
        own(
            &format!("modest-{n}"),
            "Enforce",
            &json!([format!("m{n}.example.com/**")]),
            &containers,
        )
    });
    let made = made(&modest.chain((0..200).map(greedy)).collect::<Vec<_>>());
    let sent = conditions(&made, "namespaced-uses").expect("an entry");
    for n in 0..20 {
        assert!(
            sent.contains(&format!("startsWith('m{n}.example.com')")),
            "{n}"
        );
    }
    let (_, rest) = sent
        .split_once(" || (!(request.namespace in [")
        .expect("the others are sent whatever their host");
    assert!(
        rest.contains("'modest-7'") && rest.contains("exists(c, has(c.image))"),
        "{rest}"
    );
    let hosted = |n: usize| rest.contains(&format!("'greedy-{n}'"));
    assert!(
        (0..200).any(|n| !hosted(n)) && (0..200).any(hosted),
        "as many as there is room for"
    );
}

#[test]
fn what_changes_in_one_namespace_changes_what_is_asked_there_only() {
    let containers = json!(["Container"]);
    let prints = |b: &str, cluster: &str| {
        let policies = [
            policy(&json!([cluster]), &containers),
            own(
                "team-a",
                "Enforce",
                &json!(["a.example.com/**"]),
                &containers,
            ),
            own("team-b", "Enforce", &json!([b]), &containers),
        ];
        render_configuration(
            &policies,
            &InstallationConfig::default(),
            "packgate-system",
            "",
        )
        .scope_digests
    };
    let changed = |b: &str, cluster: &str| {
        let (before, after) = (
            prints("b.example.com/**", "c.example.com/**"),
            prints(b, cluster),
        );
        after
            .into_iter()
            .filter(|(scope, print)| before[scope] != *print)
            .map(|(scope, _)| scope)
            .collect::<Vec<_>>()
    };
    assert_eq!(changed("**", "c.example.com/**"), ["team-b"]);
    assert_eq!(changed("b.example.com/**", "d.example.com/**"), [""]);
}
