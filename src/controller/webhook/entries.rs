//! The entries of the webhook's configuration, as a pure function of the policies: only what a
//! policy governs, or the installation speaks of, is ever sent to the webhook, and only what may be
//! refused waits for it (`docs/adr/0007-webhook-entries.md`).
//!
//! What `BundlePolicy`s govern has entries of its own, which are for their namespaces only
//! (`docs/adr/0013-entries-of-namespaces.md`).

mod images;
mod namespaced;

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use self::{images::images, namespaced::Namespaced};
use crate::{
    api::{
        installation::{FailurePolicy, Installation, NoMatchAction},
        webhook::{CONFIGURATION, PACKED_BUNDLES, POLICIES, SERVICE, USES},
    },
    core::{
        digest::Digest,
        policy::{Kind, Mode, Policy},
    },
};

/// The Pod's specification in a Pod, in what has a template, and in a CronJob.
const POD: &str = "has(object.spec.template) ? object.spec.template.spec : \
    has(object.spec.jobTemplate) ? object.spec.jobTemplate.spec.template.spec : object.spec";

/// The first entries, in which nothing comes from a namespace's policies.
const EVERYWHERE: usize = 3;

/// One entry, as far as entries differ.
struct Entry<'a> {
    name: &'a str,
    path: &'a str,
    failure_policy: &'a str,
    rules: &'a Value,
    /// All of them must be true. None: whatever the rules name is sent.
    conditions: Vec<Condition>,
    /// The only namespaces that it is for. `None`: every one.
    namespaces: Option<&'a [String]>,
}

/// A name and an expression in CEL.
type Condition = (&'static str, String);

/// Every entry of the configuration.
pub(super) struct Configuration {
    /// The object that is applied.
    pub object: Value,
    /// What is asked about in each namespace for its own policies, as digests; what is asked about
    /// everywhere under an empty name.
    pub prints: BTreeMap<String, Digest>,
}

/// Every entry of the configuration.
pub(super) fn configuration(
    policies: &[Policy],
    installation: &Installation,
    namespace: &str,
    ca_bundle: &str,
) -> Configuration {
    let wanted = match installation.webhook.failure_policy {
        FailurePolicy::Fail => "Fail",
        FailurePolicy::Ignore => "Ignore",
    };
    let (bundles, written, uses) = rules();
    let excluded = excluded(namespace);
    let sent = Sent::by(policies, installation, &excluded);
    let everywhere = |name, path, rules, failure_policy, conditions| Entry {
        name,
        path,
        failure_policy,
        rules,
        conditions,
        namespaces: None,
    };
    let mut entries = vec![
        everywhere(
            "packedbundles",
            PACKED_BUNDLES,
            &bundles,
            wanted,
            Vec::new(),
        ),
        everywhere("policies", POLICIES, &written, wanted, Vec::new()),
        everywhere("uses", USES, &uses, wanted, sent.uses()),
        // Nothing is refused here, so nothing waits for a webhook that is not there.
        everywhere("advice", USES, &uses, "Ignore", sent.advice()),
    ];
    let for_some = [
        (
            "namespaced-uses",
            wanted,
            &sent.refused_in,
            sent.namespaced_uses(),
        ),
        (
            "namespaced-advice",
            "Ignore",
            &sent.spoken_of_in,
            sent.namespaced_advice(),
        ),
    ];
    for (name, failure_policy, judged, conditions) in for_some {
        if let Some(judged) = judged {
            let namespaces = judged.namespaces();
            entries.push(Entry {
                name,
                path: USES,
                failure_policy,
                rules: &uses,
                conditions,
                namespaces,
            });
        }
    }
    let entries: Vec<Value> = entries
        .iter()
        .map(|entry| entry.render(installation, namespace, &excluded, ca_bundle))
        .collect();
    let everywhere = json!([entries.get(..EVERYWHERE), sent.spoken_of]).to_string();
    let object = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": CONFIGURATION},
        "webhooks": entries,
    });
    Configuration {
        object,
        prints: sent.prints(&everywhere),
    }
}

impl Entry<'_> {
    fn render(
        &self,
        installation: &Installation,
        namespace: &str,
        excluded: &[&str],
        ca_bundle: &str,
    ) -> Value {
        let by_name = |operator: &str, values: Value| {
            json!({
                "key": "kubernetes.io/metadata.name",
                "operator": operator,
                "values": values,
            })
        };
        // The cluster must be able to start, and packgate in it, when packgate is down.
        let mut selected = vec![by_name("NotIn", json!(excluded))];
        selected.extend(
            self.namespaces
                .map(|namespaces| by_name("In", json!(namespaces))),
        );
        let conditions: Vec<Value> = self
            .conditions
            .iter()
            .map(|(name, expression)| json!({"name": name, "expression": expression}))
            .collect();
        json!({
            "name": format!("{}.packgate.dev", self.name),
            "clientConfig": {
                "service": {
                    "namespace": namespace,
                    "name": SERVICE,
                    "path": self.path,
                    "port": 443,
                },
                "caBundle": STANDARD.encode(ca_bundle),
            },
            "rules": self.rules,
            "matchConditions": conditions,
            "namespaceSelector": {"matchExpressions": selected},
            "objectSelector": {},
            "matchPolicy": "Equivalent",
            "failurePolicy": self.failure_policy,
            "timeoutSeconds": installation.webhook.timeout_seconds.clamp(2, 30),
            "sideEffects": "NoneOnDryRun",
            "admissionReviewVersions": ["v1"],
        })
    }
}

/// Of `PackedBundle`s, of what policies consist of, and of uses of images.
fn rules() -> (Value, Value, Value) {
    let mut roots = rule("packgate.dev", "v1alpha1", &["trustroots"], "*");
    // one that a policy names must stay
    roots["operations"] = json!(["CREATE", "UPDATE", "DELETE"]);
    let bundles = json!([rule(
        "packgate.dev",
        "v1alpha1",
        &["packedbundles"],
        "Namespaced"
    )]);
    let written = json!([
        rule(
            "packgate.dev",
            "v1alpha1",
            &["clusterbundlepolicies", "bundlepolicies"],
            "*"
        ),
        roots
    ]);
    let uses = json!([
        rule(
            "",
            "v1",
            &["pods", "pods/ephemeralcontainers"],
            "Namespaced"
        ),
        rule("apps", "v1", &["deployments"], "Namespaced"),
        rule("batch", "v1", &["cronjobs"], "Namespaced"),
    ]);
    (bundles, written, uses)
}

fn rule(group: &str, version: &str, resources: &[&str], scope: &str) -> Value {
    json!({
        "apiGroups": [group],
        "apiVersions": [version],
        "resources": resources,
        "operations": ["CREATE", "UPDATE"],
        "scope": scope,
    })
}

fn excluded(namespace: &str) -> Vec<&str> {
    let mut excluded = vec!["kube-system", namespace];
    excluded.dedup();
    excluded
}

/// Which objects are sent, as conditions on a Pod's specification `p`. Objects for which all are
/// false never reach the webhook, whether it is there or not.
struct Sent {
    /// With images that a policy of the cluster or the installation may refuse.
    refused: Option<String>,
    /// With images that they only speak of: warnings, and notes in the audit log.
    spoken_of: Option<String>,
    /// With images that a `BundlePolicy` may refuse.
    refused_in: Option<Namespaced>,
    /// With images that it only speaks of.
    spoken_of_in: Option<Namespaced>,
}

impl Sent {
    fn by(policies: &[Policy], installation: &Installation, excluded: &[&str]) -> Self {
        let (enforcing, speaking): (Vec<&Policy>, Vec<&Policy>) = policies
            .iter()
            .partition(|policy| policy.mode() == Mode::Enforce);
        let cluster = |policies: &[&Policy], action: NoMatchAction| {
            let own: Vec<&Policy> = policies
                .iter()
                .copied()
                .filter(|policy| !matches!(policy.rules().kind, Kind::Namespaced(_)))
                .collect();
            images(
                &own,
                installation.no_match.image_volume == action,
                installation.no_match.container == action,
            )
        };
        Self {
            refused: cluster(&enforcing, NoMatchAction::Deny),
            spoken_of: cluster(&speaking, NoMatchAction::Warn),
            refused_in: Namespaced::by(&enforcing, excluded),
            spoken_of_in: Namespaced::by(&speaking, excluded),
        }
    }

    fn uses(&self) -> Vec<Condition> {
        vec![(
            "uses-an-image-that-may-be-refused",
            self.refused
                .as_deref()
                .map_or_else(|| "false".to_owned(), on_pod),
        )]
    }

    fn advice(&self) -> Vec<Condition> {
        let Some(spoken_of) = &self.spoken_of else {
            return vec![("uses-an-image-that-is-only-spoken-of", "false".to_owned())];
        };
        let mut conditions = vec![("uses-an-image-that-is-only-spoken-of", on_pod(spoken_of))];
        conditions.extend(
            self.not_in_uses()
                .into_iter()
                .chain(self.not_in_namespaced_uses()),
        );
        conditions
    }

    fn namespaced_uses(&self) -> Vec<Condition> {
        let own = self.refused_in.as_ref().map(|judged| {
            (
                "uses-an-image-that-may-be-refused",
                on_pod(&judged.condition()),
            )
        });
        own.into_iter().chain(self.not_in_uses()).collect()
    }

    fn namespaced_advice(&self) -> Vec<Condition> {
        let own = self.spoken_of_in.as_ref().map(|judged| {
            (
                "uses-an-image-that-is-only-spoken-of",
                on_pod(&judged.condition()),
            )
        });
        let not_in_advice = self
            .spoken_of
            .as_ref()
            .map(|spoken_of| ("is-not-sent-by-advice", none_on_pod(spoken_of)));
        own.into_iter()
            .chain(self.not_in_uses())
            .chain(self.not_in_namespaced_uses())
            .chain(not_in_advice)
            .collect()
    }

    /// What is asked about in each namespace for its own policies, and everywhere.
    fn prints(&self, everywhere: &str) -> BTreeMap<String, Digest> {
        let mut asked = BTreeMap::<&str, [Option<&str>; 2]>::new();
        for (at, judged) in [&self.refused_in, &self.spoken_of_in]
            .into_iter()
            .enumerate()
        {
            for (namespace, term) in judged.iter().flat_map(Namespaced::terms) {
                asked.entry(namespace).or_default()[at] = Some(term);
            }
        }
        let namespaces = asked.into_iter().map(|(namespace, terms)| {
            (
                namespace.to_owned(),
                Digest::of(format!("{terms:?}").as_bytes()),
            )
        });
        namespaces
            .chain([(String::new(), Digest::of(everywhere.as_bytes()))])
            .collect()
    }

    // Whoever looks at an object judges all that is in it: nobody needs to look twice.

    fn not_in_uses(&self) -> Option<Condition> {
        Some(("is-not-sent-by-uses", none_on_pod(self.refused.as_ref()?)))
    }

    fn not_in_namespaced_uses(&self) -> Option<Condition> {
        Some((
            "is-not-sent-by-namespaced-uses",
            none_on_pod(self.refused_in.as_ref()?.by_host()?),
        ))
    }
}

fn on_pod(condition: &str) -> String {
    format!("[{POD}].exists(p, {condition})")
}

fn none_on_pod(condition: &str) -> String {
    format!("!{}", on_pod(condition))
}

#[cfg(test)]
mod tests;
