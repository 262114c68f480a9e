//! The entries of the webhook's configuration, as a pure function of the policies: only what a policy governs is ever sent to the webhook.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    api::{
        installation::{FailurePolicy, Installation, NoMatchAction},
        webhook::{CONFIGURATION, PACKED_BUNDLES, POLICIES, SERVICE, USES},
    },
    core::policy::{Matcher, Policy, Use},
};

/// Hosts that are written into a condition. With more, every container is sent.
const MAX_HOSTS: usize = 32;
/// The Pod's specification in a Pod, in what has a template, and in a CronJob.
const POD: &str =
    "has(object.spec.template) ? object.spec.template.spec : has(object.spec.jobTemplate) ? object.spec.jobTemplate.spec.template.spec : object.spec";

/// The object that is applied: every entry of the configuration.
pub(super) fn configuration(policies: &[Policy], installation: &Installation, namespace: &str, ca_bundle: &str) -> Value {
    let entry = |name: &str, path: &str, rules: Value, conditions: Value| {
        json!({
            "name": format!("{name}.packgate.dev"),
            "clientConfig": {
                "service": {"namespace": namespace, "name": SERVICE, "path": path, "port": 443},
                "caBundle": STANDARD.encode(ca_bundle),
            },
            "rules": rules,
            "matchConditions": conditions,
            // The cluster must be able to start, and packgate in it, when packgate is down.
            "namespaceSelector": {"matchExpressions": [{
                "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": excluded(namespace),
            }]},
            "objectSelector": {},
            "matchPolicy": "Equivalent",
            "failurePolicy": match installation.webhook.failure_policy { FailurePolicy::Fail => "Fail", FailurePolicy::Ignore => "Ignore" },
            "timeoutSeconds": installation.webhook.timeout_seconds.clamp(2, 30),
            "sideEffects": "NoneOnDryRun",
            "admissionReviewVersions": ["v1"],
        })
    };
    let writes = json!(["CREATE", "UPDATE"]);
    let rule = |group: &str, version: &str, resources: &[&str], scope: &str| json!({"apiGroups": [group], "apiVersions": [version], "resources": resources, "operations": writes, "scope": scope});
    let uses = json!([
        rule("", "v1", &["pods", "pods/ephemeralcontainers"], "Namespaced"),
        rule("apps", "v1", &["deployments"], "Namespaced"),
        rule("batch", "v1", &["cronjobs"], "Namespaced"),
    ]);
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": CONFIGURATION},
        "webhooks": [
            entry("packedbundles", PACKED_BUNDLES, json!([rule("packgate.dev", "v1alpha1", &["packedbundles"], "Namespaced")]), json!([])),
            entry("policies", POLICIES, json!([rule("packgate.dev", "v1alpha1", &["clusterbundlepolicies", "bundlepolicies"], "*")]), json!([])),
            entry("uses", USES, uses, json!([{"name": "uses-an-image-that-is-judged", "expression": condition(policies, installation)}])),
        ],
    })
}

fn excluded(namespace: &str) -> Vec<&str> {
    let mut excluded = vec!["kube-system", namespace];
    excluded.dedup();
    excluded
}

/// Is there anything in the object that somebody must judge? Objects for which this is false never reach the webhook, whether it is there or
/// not.
fn condition(policies: &[Policy], installation: &Installation) -> String {
    let no_match = &installation.no_match;
    let volumes = no_match.image_volume != NoMatchAction::Allow || policies.iter().any(|policy| governs(policy, Use::ImageVolume));
    let containers = if no_match.container == NoMatchAction::Allow { container_condition(policies) } else { Some("true".to_owned()) };
    let volumes = volumes.then(|| "(has(p.volumes) && p.volumes.exists(v, has(v.image)))".to_owned());
    let containers = containers.map(|judged| {
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        let lists = lists.map(|list| format!("(has(p.{list}) && p.{list}.exists(c, has(c.image) && ({judged})))"));
        lists.join(" || ")
    });
    let all: Vec<String> = volumes.into_iter().chain(containers).collect();
    if all.is_empty() { "false".to_owned() } else { format!("[{POD}].exists(p, {})", all.join(" || ")) }
}

/// Which images of containers are judged, by the beginning of their names. Too many rather than too few: the webhook looks again.
fn container_condition(policies: &[Policy]) -> Option<String> {
    let mut hosts = BTreeSet::new();
    let mut governing = policies.iter().filter(|policy| governs(policy, Use::Container)).peekable();
    governing.peek()?;
    for policy in governing {
        let Matcher::Names { references, .. } = &policy.rules().matcher else { return Some("true".to_owned()) };
        for pattern in references {
            // Whoever names no host may mean any.
            let Some(host) = pattern.host_name() else { return Some("true".to_owned()) };
            hosts.insert(host.to_owned());
        }
    }
    if hosts.len() > MAX_HOSTS {
        return Some("true".to_owned());
    }
    // A host may be written in capitals, with a final dot and with any port.
    let judged: Vec<String> = hosts.iter().map(|host| format!("c.image.lowerAscii().startsWith({})", text(host))).collect();
    Some(judged.join(" || "))
}

fn governs(policy: &Policy, used_as: Use) -> bool {
    match &policy.rules().matcher {
        Matcher::Everything => true,
        Matcher::Names { uses, .. } => uses.contains(&used_as),
    }
}

/// A text as CEL reads it. Hosts consist of letters, digits, `.`, `-`, `:`, `[` and `]`.
fn text(host: &str) -> String {
    let plain: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(*c)).collect();
    format!("'{plain}'")
}

#[cfg(test)]
mod tests;
