//! What is sent to the webhook, and what is not.

use serde_json::json;

use super::*;
use crate::api::{bundle_policy::PolicyObject, installation::NoMatch};

fn policy(references: &Value, uses: &Value) -> Policy {
    policy_in("Enforce", references, uses)
}

fn policy_in(mode: &str, references: &Value, uses: &Value) -> Policy {
    let object = json!({
        "apiVersion": "packgate.dev/v1alpha1", "kind": "ClusterBundlePolicy", "metadata": {"name": "p"},
        "spec": {"mode": mode, "match": {"references": references, "uses": uses}, "authorities": [{"name": "a", "key": {"configMapRef": {"name": "k"}}}]},
    });
    PolicyObject::read(object).expect("a policy").unusable("")
}

/// What may be refused, and what is only spoken of.
fn expressions(policies: &[Policy], installation: &Installation) -> (String, String) {
    let made = configuration(policies, installation, "packgate-system", "");
    let expression = |entry: usize| made["webhooks"][entry]["matchConditions"][0]["expression"].as_str().expect("an expression").to_owned();
    (expression(2), expression(3))
}

fn expression(policies: &[Policy], installation: &Installation) -> String {
    expressions(policies, installation).0
}

#[test]
fn nothing_reaches_the_webhook_from_where_the_cluster_starts() {
    let made = configuration(&[], &Installation::default(), "packgate-system", "PEM");
    for entry in made["webhooks"].as_array().expect("entries") {
        let selector = &entry["namespaceSelector"]["matchExpressions"][0];
        assert_eq!(selector["key"], "kubernetes.io/metadata.name", "a label that its namespace's people cannot change");
        assert_eq!((&selector["operator"], &selector["values"]), (&json!("NotIn"), &json!(["kube-system", "packgate-system"])));
        let expected = if entry["name"] == "advice.packgate.dev" { "Ignore" } else { "Fail" };
        assert_eq!((&entry["failurePolicy"], &entry["timeoutSeconds"]), (&json!(expected), &json!(10)));
        assert_eq!(entry["clientConfig"]["caBundle"], "UEVN");
    }
    let names: Vec<_> = made["webhooks"].as_array().expect("entries").iter().map(|entry| entry["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["packedbundles.packgate.dev", "policies.packgate.dev", "uses.packgate.dev", "advice.packgate.dev"]);
    let rules = made["webhooks"].as_array().expect("entries").iter().flat_map(|entry| entry["rules"].as_array().expect("rules"));
    let (roots, others): (Vec<_>, Vec<_>) = rules.partition(|rule| rule["resources"] == json!(["trustroots"]));
    assert!(others.iter().all(|rule| rule["operations"] == json!(["CREATE", "UPDATE"])), "whatever else goes, may go: {others:?}");
    assert_eq!(roots.iter().map(|rule| &rule["operations"]).collect::<Vec<_>>(), [&json!(["CREATE", "UPDATE", "DELETE"])]);
}

#[test]
fn only_pods_with_image_volumes_are_sent_while_nothing_governs_containers() {
    let expression = expression(&[policy(&json!(["r.example.com/**"]), &json!(["ImageVolume"]))], &Installation::default());
    assert!(expression.contains("v.image.reference.lowerAscii().startsWith('r.example.com')") && !expression.contains("c.image"), "{expression}");
}

#[test]
fn images_are_sent_by_their_hosts() {
    let hosts = |references: Value| expression(&[policy(&references, &json!(["Container"]))], &Installation::default());
    let named = hosts(json!(["r.example.com/**", "s.example.com:5000/a/*"]));
    assert!(named.contains("startsWith('r.example.com')") && named.contains("startsWith('s.example.com')"), "{named}");
    assert_eq!(named.matches("ephemeralContainers").count(), 2, "{named}");
    for anywhere in [json!(["**"]), json!(["*.example.com/**"]), json!(["docker.io/library/nginx"])] {
        let all = hosts(anywhere.clone());
        assert!(all.contains("exists(c, has(c.image))"), "{anywhere}: {all}");
    }
    let many: Vec<String> = (0..40).map(|n| format!("r{n}.example.com/**")).collect();
    assert!(hosts(json!(many)).contains("exists(c, has(c.image))"));
}

#[test]
fn what_is_only_spoken_of_never_waits_for_the_webhook() {
    let references = json!(["r.example.com/**"]);
    for mode in ["Warn", "Audit"] {
        let (refused, spoken_of) = expressions(&[policy_in(mode, &references, &json!(["Container"]))], &Installation::default());
        assert_eq!(refused, "false", "{mode}");
        assert!(spoken_of.contains("c.image") && spoken_of.contains("v.image"), "noMatch warns of image volumes: {spoken_of}");
    }
    let both = [policy(&references, &json!(["ImageVolume"])), policy_in("Warn", &json!(["s.example.com/**"]), &json!(["Container"]))];
    let (refused, spoken_of) = expressions(&both, &Installation::default());
    assert!(!refused.contains("s.example.com") && spoken_of.contains(") && !("), "nobody looks twice: {spoken_of}");
}

#[test]
fn what_the_installation_says_of_the_ungoverned_counts() {
    let installation =
        |image_volume, container| Installation { no_match: NoMatch { image_volume, container, ..NoMatch::default() }, ..Installation::default() };
    let silent = expressions(&[], &installation(NoMatchAction::Allow, NoMatchAction::Allow));
    assert_eq!(silent, ("false".to_owned(), "false".to_owned()));
    let (refused, spoken_of) = expressions(&[], &installation(NoMatchAction::Warn, NoMatchAction::Deny));
    assert!(refused.contains("exists(c, has(c.image))") && !refused.contains("v.image"), "{refused}");
    assert!(spoken_of.contains("exists(v, has(v.image))"), "{spoken_of}");
}

#[test]
fn a_policy_that_nobody_can_read_may_govern_anything() {
    let unreadable = Policy::unusable("p", crate::core::policy::Kind::Cluster, 0, Mode::Enforce, None, "");
    let all = expression(&[unreadable], &Installation::default());
    assert!(all.contains("exists(c, has(c.image))") && all.contains("exists(v, has(v.image))"), "{all}");
}
