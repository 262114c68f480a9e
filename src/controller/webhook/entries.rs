//! The entries of the webhook's configuration, as a pure function of the policies: only what a policy governs, or the installation speaks of,
//! is ever sent to the webhook, and only what may be refused waits for it (`docs/adr/0007-webhook-entries.md`).

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    api::{
        installation::{FailurePolicy, Installation, NoMatchAction},
        webhook::{CONFIGURATION, PACKED_BUNDLES, POLICIES, SERVICE, USES},
    },
    core::policy::{Matcher, Mode, Policy, Use},
};

/// Hosts that are written into a condition. With more, every container is sent.
const MAX_HOSTS: usize = 32;
/// The Pod's specification in a Pod, in what has a template, and in a CronJob.
const POD: &str =
    "has(object.spec.template) ? object.spec.template.spec : has(object.spec.jobTemplate) ? object.spec.jobTemplate.spec.template.spec : object.spec";

/// The object that is applied: every entry of the configuration.
pub(super) fn configuration(policies: &[Policy], installation: &Installation, namespace: &str, ca_bundle: &str) -> Value {
    let judged = Judged::by(policies, installation);
    let wanted = match installation.webhook.failure_policy {
        FailurePolicy::Fail => "Fail",
        FailurePolicy::Ignore => "Ignore",
    };
    let entry = |name: &str, path: &str, failure_policy: &str, rules: Value, conditions: Value| {
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
            "failurePolicy": failure_policy,
            "timeoutSeconds": installation.webhook.timeout_seconds.clamp(2, 30),
            "sideEffects": "NoneOnDryRun",
            "admissionReviewVersions": ["v1"],
        })
    };
    let bundles = json!([rule("packgate.dev", "v1alpha1", &["packedbundles"], "Namespaced")]);
    let mut roots = rule("packgate.dev", "v1alpha1", &["trustroots"], "*");
    roots["operations"] = json!(["CREATE", "UPDATE", "DELETE"]); // one that a policy names must stay
    let written = json!([rule("packgate.dev", "v1alpha1", &["clusterbundlepolicies", "bundlepolicies"], "*"), roots]);
    let uses = json!([
        rule("", "v1", &["pods", "pods/ephemeralcontainers"], "Namespaced"),
        rule("apps", "v1", &["deployments"], "Namespaced"),
        rule("batch", "v1", &["cronjobs"], "Namespaced"),
    ]);
    let when = |name: &str, expression: String| json!([{"name": name, "expression": expression}]);
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": CONFIGURATION},
        "webhooks": [
            entry("packedbundles", PACKED_BUNDLES, wanted, bundles, json!([])),
            entry("policies", POLICIES, wanted, written, json!([])),
            entry("uses", USES, wanted, uses.clone(), when("uses-an-image-that-may-be-refused", judged.may_be_refused())),
            // Nothing is refused here, so nothing waits for a webhook that is not there.
            entry("advice", USES, "Ignore", uses, when("uses-an-image-that-is-only-spoken-of", judged.is_spoken_of())),
        ],
    })
}

fn rule(group: &str, version: &str, resources: &[&str], scope: &str) -> Value {
    json!({"apiGroups": [group], "apiVersions": [version], "resources": resources, "operations": ["CREATE", "UPDATE"], "scope": scope})
}

fn excluded(namespace: &str) -> Vec<&str> {
    let mut excluded = vec!["kube-system", namespace];
    excluded.dedup();
    excluded
}

/// Which images are judged, as conditions on a Pod's specification `p`. Objects for which both are false never reach the webhook, whether it
/// is there or not.
struct Judged {
    /// Images that a policy or the installation may refuse.
    refused: Option<String>,
    /// Images that they only speak of: warnings, and notes in the audit log.
    spoken_of: Option<String>,
}

impl Judged {
    fn by(policies: &[Policy], installation: &Installation) -> Self {
        let (enforcing, speaking): (Vec<&Policy>, Vec<&Policy>) = policies.iter().partition(|policy| policy.mode() == Mode::Enforce);
        let no_match = |action| move |wanted: NoMatchAction| wanted == action;
        let (volume, container) = (installation.no_match.image_volume, installation.no_match.container);
        let images = |policies: &[&Policy], action: NoMatchAction| {
            let is = no_match(action);
            either([volumes(&images_of(policies, Use::ImageVolume, is(volume))), containers(&images_of(policies, Use::Container, is(container)))])
        };
        Self { refused: images(&enforcing, NoMatchAction::Deny), spoken_of: images(&speaking, NoMatchAction::Warn) }
    }

    fn may_be_refused(&self) -> String {
        self.refused.as_ref().map_or_else(|| "false".to_owned(), |refused| on_pod(refused))
    }

    fn is_spoken_of(&self) -> String {
        match (&self.spoken_of, &self.refused) {
            (None, _) => "false".to_owned(),
            (Some(spoken_of), None) => on_pod(spoken_of),
            // Whoever looks at an object judges all that is in it: nobody needs to look twice.
            (Some(spoken_of), Some(refused)) => on_pod(&format!("({spoken_of}) && !({refused})")),
        }
    }
}

fn on_pod(condition: &str) -> String {
    format!("[{POD}].exists(p, {condition})")
}

fn either(conditions: impl IntoIterator<Item = Option<String>>) -> Option<String> {
    let conditions: Vec<String> = conditions.into_iter().flatten().collect();
    (!conditions.is_empty()).then(|| conditions.join(" || "))
}

/// Images of one use.
enum Images {
    None,
    All,
    /// Those whose names begin with one of these hosts. Too many rather than too few: the webhook looks again.
    Of(BTreeSet<String>),
}

fn images_of(policies: &[&Policy], used_as: Use, all: bool) -> Images {
    let mut hosts = BTreeSet::new();
    let governing = || policies.iter().filter(|policy| governs(policy, used_as));
    if governing().next().is_none() && !all {
        return Images::None;
    }
    for policy in governing() {
        let Matcher::Names { references, .. } = &policy.rules().matcher else { return Images::All };
        for pattern in references {
            // Whoever names no host may mean any.
            let Some(host) = pattern.host_name() else { return Images::All };
            hosts.insert(host.to_owned());
        }
    }
    if all || hosts.len() > MAX_HOSTS { Images::All } else { Images::Of(hosts) }
}

fn governs(policy: &Policy, used_as: Use) -> bool {
    match &policy.rules().matcher {
        Matcher::Everything => true,
        Matcher::Names { uses, .. } => uses.contains(&used_as),
    }
}

fn volumes(images: &Images) -> Option<String> {
    let judged = match images {
        Images::None => return None,
        Images::All => "has(v.image)".to_owned(),
        Images::Of(hosts) => format!("has(v.image) && has(v.image.reference) && ({})", begins_with("v.image.reference", hosts)),
    };
    Some(format!("(has(p.volumes) && p.volumes.exists(v, {judged}))"))
}

fn containers(images: &Images) -> Option<String> {
    let judged = match images {
        Images::None => return None,
        Images::All => "has(c.image)".to_owned(),
        Images::Of(hosts) => format!("has(c.image) && ({})", begins_with("c.image", hosts)),
    };
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    Some(lists.map(|list| format!("(has(p.{list}) && p.{list}.exists(c, {judged}))")).join(" || "))
}

/// A host may be written in capitals, with a final dot and with any port.
fn begins_with(reference: &str, hosts: &BTreeSet<String>) -> String {
    let each: Vec<String> = hosts.iter().map(|host| format!("{reference}.lowerAscii().startsWith({})", text(host))).collect();
    each.join(" || ")
}

/// A text as CEL reads it. Hosts consist of letters, digits, `.`, `-`, `:`, `[` and `]`.
fn text(host: &str) -> String {
    let plain: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(*c)).collect();
    format!("'{plain}'")
}

#[cfg(test)]
mod tests;
