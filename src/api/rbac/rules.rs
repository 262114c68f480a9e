//! The rules of the roles.

use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::api::webhook::WEBHOOK_CONFIGURATION_NAME;

/// The account of the controller.
pub(super) const CONTROLLER: &str = "packgate-controller";
/// The account of the webhook, and its Lease.
pub(super) const WEBHOOK: &str = "packgate-webhook";

/// The Role for the `ConfigMap`s of the system namespace that policies refer to. The controller
/// keeps its rules.
pub const POLICY_INPUTS_ROLE: &str = "packgate-policy-inputs";

/// The group of our kinds.
pub(super) const API_GROUP: &str = "packgate.dev";
/// The verbs that only read.
pub(super) const READ: &[&str] = &["get", "list", "watch"];
/// Kinds that users write and the controller checks.
pub(super) const POLICIES: &[&str] = &["bundlepolicies", "clusterbundlepolicies", "trustroots"];
/// The kinds that users of one namespace work with.
pub(super) const NAMESPACED: &[&str] = &["packedbundles", "bundlepolicies"];

pub(super) fn webhook_rules() -> Vec<PolicyRule> {
    vec![
        policy_rule(API_GROUP, POLICIES, READ),
        policy_rule("", &["configmaps"], READ), // keys and trust roots that policies refer to
        policy_rule(
            "authorization.k8s.io",
            &["subjectaccessreviews"],
            &["create"],
        ),
        PolicyRule {
            api_groups: Some(to_string_vec(&["", "events.k8s.io"])),
            ..policy_rule("", &["events"], &["create", "patch"])
        },
    ]
}

pub(super) fn controller_rules() -> Vec<PolicyRule> {
    let status: Vec<String> = POLICIES
        .iter()
        .map(|kind| format!("{kind}/status"))
        .collect();
    let status: Vec<&str> = status.iter().map(String::as_str).collect();
    vec![
        policy_rule(API_GROUP, &["packedbundles"], READ),
        policy_rule(API_GROUP, &["packedbundles/status"], &["patch"]),
        policy_rule(API_GROUP, POLICIES, READ),
        policy_rule(API_GROUP, &status, &["patch"]),
        // for reading locks, and for the lock that a pack Job mounts
        policy_rule("", &["configmaps"], &["get", "create", "delete"]),
        policy_rule("", &["pods"], READ), // a Job's report is its Pod's termination message
        with_resource_name(policy_rule("", &["namespaces"], &["get"]), "kube-system"), // its UID is the cluster's
        policy_rule(
            "batch",
            &["jobs"],
            &["get", "list", "watch", "create", "delete"],
        ),
        PolicyRule {
            api_groups: Some(to_string_vec(&["", "events.k8s.io"])),
            ..policy_rule("", &["events"], &["create", "patch"])
        },
        policy_rule("", &["events"], &["list"]), // why a Job's Pod was refused: only an event says so
        // The webhook's entries; the chart creates the object.
        with_resource_name(
            policy_rule(
                "admissionregistration.k8s.io",
                &["validatingwebhookconfigurations"],
                &["get", "list", "watch", "patch"],
            ),
            WEBHOOK_CONFIGURATION_NAME,
        ),
    ]
}

pub(super) fn system_rules() -> Vec<PolicyRule> {
    vec![
        policy_rule(
            "",
            &["secrets"],
            &["get", "list", "watch", "create", "patch", "delete"],
        ),
        // for garbage collection; trust roots and the platform key's public half
        policy_rule("", &["configmaps"], &["list", "patch"]),
        // which webhook replicas get reviews
        policy_rule("discovery.k8s.io", &["endpointslices"], READ),
        with_resource_name(
            policy_rule(
                "coordination.k8s.io",
                &["leases"],
                &["get", "list", "watch", "patch"],
            ),
            WEBHOOK,
        ), // the announced policies
        with_resource_name(
            policy_rule("coordination.k8s.io", &["leases"], &["get", "update"]),
            CONTROLLER,
        ),
        // which of its ConfigMaps every user may read; the chart creates the object
        with_resource_name(
            policy_rule("rbac.authorization.k8s.io", &["roles"], &["get", "patch"]),
            POLICY_INPUTS_ROLE,
        ),
        // owner of objects that are deleted with the installation
        with_resource_name(policy_rule("", &["serviceaccounts"], &["get"]), CONTROLLER),
    ]
}

pub(super) fn policy_rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(to_string_vec(&[group])),
        resources: Some(to_string_vec(resources)),
        verbs: to_string_vec(verbs),
        ..PolicyRule::default()
    }
}

pub(super) fn with_resource_name(rule: PolicyRule, name: &str) -> PolicyRule {
    PolicyRule {
        resource_names: Some(to_string_vec(&[name])),
        ..rule
    }
}

pub(super) fn to_string_vec(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}
