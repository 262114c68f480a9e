//! The kinds and operations that an API server asks about.

use serde_json::{Value, json};

/// The rules of the entries.
pub(super) struct WebhookRules {
    /// For `PackedBundle`s.
    pub bundles: Value,
    /// For policies and the objects that they refer to.
    pub policies: Value,
    /// For uses of images.
    pub uses: Value,
}

/// The rules of the entries.
pub(super) fn webhook_rules() -> WebhookRules {
    let mut roots = resource_rule("packgate.dev", "v1alpha1", &["trustroots"], "*");
    // one that a policy refers to must stay
    roots["operations"] = json!(["CREATE", "UPDATE", "DELETE"]);
    let bundles = json!([resource_rule(
        "packgate.dev",
        "v1alpha1",
        &["packedbundles"],
        "Namespaced"
    )]);
    let policies = json!([
        resource_rule(
            "packgate.dev",
            "v1alpha1",
            &["clusterbundlepolicies", "bundlepolicies"],
            "*"
        ),
        roots
    ]);
    let uses = json!([
        resource_rule(
            "",
            "v1",
            &["pods", "pods/ephemeralcontainers"],
            "Namespaced"
        ),
        resource_rule("apps", "v1", &["deployments"], "Namespaced"),
        resource_rule("batch", "v1", &["cronjobs"], "Namespaced"),
    ]);
    WebhookRules {
        bundles,
        policies,
        uses,
    }
}

fn resource_rule(group: &str, version: &str, resources: &[&str], scope: &str) -> Value {
    json!({
        "apiGroups": [group],
        "apiVersions": [version],
        "resources": resources,
        "operations": ["CREATE", "UPDATE"],
        "scope": scope,
    })
}
