//! The entries of the webhook's configuration, as a pure function of the policies: only objects
//! that a policy governs, or that the installation covers, are sent to the webhook, and only those
//! that may be denied wait for it (`docs/adr/0007-webhook-entries.md`).
//!
//! `BundlePolicy`s have entries of their own, which are limited to their namespaces
//! (`docs/adr/0013-entries-of-namespaces.md`).

mod image_conditions;
mod namespaced_conditions;
mod rules;

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use self::{
    image_conditions::image_condition,
    namespaced_conditions::NamespacedImageConditions,
    rules::{WebhookRules, webhook_rules},
};
use crate::{
    api::{
        installation::{FailurePolicy, InstallationConfig, NoMatchAction},
        webhook::{
            IMAGE_USES_PATH, PACKED_BUNDLES_PATH, POLICIES_PATH, WEBHOOK_CONFIGURATION_NAME,
            WEBHOOK_SERVICE_NAME,
        },
    },
    core::{
        digest::Digest,
        policy::{EnforcementMode, Policy, PolicyOrigin},
    },
};

/// The Pod's specification in a Pod, a workload with a template, and a CronJob.
const POD: &str = "has(object.spec.template) ? object.spec.template.spec : \
    has(object.spec.jobTemplate) ? object.spec.jobTemplate.spec.template.spec : object.spec";

/// The first entries, which do not depend on namespaces' policies.
const CLUSTER_WIDE_ENTRIES: usize = 3;

/// The fields in which entries differ.
struct WebhookEntry<'a> {
    name: &'a str,
    path: &'a str,
    failure_policy: &'a str,
    rules: &'a Value,
    /// All of them must be true. None: all objects of the rules are sent.
    conditions: Vec<MatchCondition>,
    /// The only namespaces of the entry. `None`: all.
    namespaces: Option<&'a [String]>,
}

/// A name and an expression in CEL.
type MatchCondition = (&'static str, String);

/// The rendered configuration.
pub(super) struct RenderedWebhookConfiguration {
    /// The object to apply.
    pub object: Value,
    /// Digests of the conditions in each namespace for its own policies; those that apply
    /// everywhere under an empty name.
    pub scope_digests: BTreeMap<String, Digest>,
}

/// Renders every entry of the configuration.
pub(super) fn render_configuration(
    policies: &[Policy],
    installation: &InstallationConfig,
    namespace: &str,
    ca_bundle: &str,
) -> RenderedWebhookConfiguration {
    let wanted = match installation.webhook.failure_policy {
        FailurePolicy::Fail => "Fail",
        FailurePolicy::Ignore => "Ignore",
    };
    let rules = webhook_rules();
    let excluded = excluded_namespaces(namespace);
    let sent = ImageMatchConditions::from_policies(policies, installation, &excluded);
    let mut entries = cluster_wide_entries(&rules, wanted, &sent);
    entries.extend(namespaced_entries(&rules, wanted, &sent));
    let entries: Vec<Value> = entries
        .iter()
        .map(|entry| entry.render_entry(installation, namespace, &excluded, ca_bundle))
        .collect();
    let everywhere =
        json!([entries.get(..CLUSTER_WIDE_ENTRIES), sent.warned_or_audited]).to_string();
    let object = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": WEBHOOK_CONFIGURATION_NAME},
        "webhooks": entries,
    });
    RenderedWebhookConfiguration {
        object,
        scope_digests: sent.digest_scopes(&everywhere),
    }
}

fn cluster_wide_entries<'a>(
    rules: &'a WebhookRules,
    wanted: &'static str,
    sent: &ImageMatchConditions,
) -> Vec<WebhookEntry<'a>> {
    let everywhere = |name, path, rules, failure_policy, conditions| WebhookEntry {
        name,
        path,
        failure_policy,
        rules,
        conditions,
        namespaces: None,
    };
    let (bundles, policies, uses) = (&rules.bundles, &rules.policies, &rules.uses);
    let sent_always = Vec::new;
    let denied = sent.uses_conditions();
    let warned = sent.warn_or_audit_conditions();
    vec![
        everywhere(
            "packedbundles",
            PACKED_BUNDLES_PATH,
            bundles,
            wanted,
            sent_always(),
        ),
        everywhere("policies", POLICIES_PATH, policies, wanted, sent_always()),
        everywhere("uses", IMAGE_USES_PATH, uses, wanted, denied),
        // Nothing is denied here, so requests do not fail if the webhook is down.
        everywhere("warn-or-audit", IMAGE_USES_PATH, uses, "Ignore", warned),
    ]
}

fn namespaced_entries<'a>(
    rules: &'a WebhookRules,
    wanted: &'static str,
    sent: &'a ImageMatchConditions,
) -> impl Iterator<Item = WebhookEntry<'a>> {
    let entry =
        |name, failure_policy, images: &'a Option<NamespacedImageConditions>, conditions| {
            let images = images.as_ref()?;
            Some(WebhookEntry {
                name,
                path: IMAGE_USES_PATH,
                failure_policy,
                rules: &rules.uses,
                conditions,
                namespaces: images.listed_namespaces(),
            })
        };
    [
        entry(
            "namespaced-uses",
            wanted,
            &sent.denied_in_namespaces,
            sent.namespaced_uses_conditions(),
        ),
        entry(
            "namespaced-warn-or-audit",
            "Ignore",
            &sent.warned_or_audited_in_namespaces,
            sent.namespaced_warn_or_audit_conditions(),
        ),
    ]
    .into_iter()
    .flatten()
}

impl WebhookEntry<'_> {
    fn render_entry(
        &self,
        installation: &InstallationConfig,
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
        // The cluster, and packgate in it, must be able to start while packgate is down.
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
                    "name": WEBHOOK_SERVICE_NAME,
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

fn excluded_namespaces(namespace: &str) -> Vec<&str> {
    let mut excluded = vec!["kube-system", namespace];
    excluded.dedup();
    excluded
}

/// The objects that are sent, as conditions on a Pod's specification `p`. Objects for which all are
/// false never reach the webhook, whether it is running or not.
struct ImageMatchConditions {
    /// Matches images that a cluster policy or the installation may deny.
    denied: Option<String>,
    /// Matches images that policies only warn about or audit.
    warned_or_audited: Option<String>,
    /// Matches images that a `BundlePolicy` may deny.
    denied_in_namespaces: Option<NamespacedImageConditions>,
    /// Matches images, in the policies' namespaces, that they only warn about or audit.
    warned_or_audited_in_namespaces: Option<NamespacedImageConditions>,
}

impl ImageMatchConditions {
    fn from_policies(
        policies: &[Policy],
        installation: &InstallationConfig,
        excluded: &[&str],
    ) -> Self {
        let (enforcing, speaking): (Vec<&Policy>, Vec<&Policy>) = policies
            .iter()
            .partition(|policy| policy.mode() == EnforcementMode::Enforce);
        let cluster = |policies: &[&Policy], action: NoMatchAction| {
            let own: Vec<&Policy> = policies
                .iter()
                .copied()
                .filter(|policy| !matches!(policy.rules().kind, PolicyOrigin::Namespaced(_)))
                .collect();
            image_condition(
                &own,
                installation.no_match.image_volume == action,
                installation.no_match.container == action,
            )
        };
        Self {
            denied: cluster(&enforcing, NoMatchAction::Deny),
            warned_or_audited: cluster(&speaking, NoMatchAction::Warn),
            denied_in_namespaces: NamespacedImageConditions::from_policies(&enforcing, excluded),
            warned_or_audited_in_namespaces: NamespacedImageConditions::from_policies(
                &speaking, excluded,
            ),
        }
    }

    fn uses_conditions(&self) -> Vec<MatchCondition> {
        vec![(
            "image-may-be-denied",
            self.denied
                .as_deref()
                .map_or_else(|| "false".to_owned(), on_pod_spec),
        )]
    }

    fn warn_or_audit_conditions(&self) -> Vec<MatchCondition> {
        let Some(spoken_of) = &self.warned_or_audited else {
            return vec![("image-may-be-warned-or-audited", "false".to_owned())];
        };
        let mut conditions = vec![("image-may-be-warned-or-audited", on_pod_spec(spoken_of))];
        conditions.extend(
            self.not_matched_by_uses()
                .into_iter()
                .chain(self.not_matched_by_namespaced_uses()),
        );
        conditions
    }

    fn namespaced_uses_conditions(&self) -> Vec<MatchCondition> {
        let own = self.denied_in_namespaces.as_ref().map(|images| {
            (
                "image-may-be-denied",
                on_pod_spec(&images.match_condition()),
            )
        });
        own.into_iter().chain(self.not_matched_by_uses()).collect()
    }

    fn namespaced_warn_or_audit_conditions(&self) -> Vec<MatchCondition> {
        let own = self.warned_or_audited_in_namespaces.as_ref().map(|images| {
            (
                "image-may-be-warned-or-audited",
                on_pod_spec(&images.match_condition()),
            )
        });
        let not_in_advice = self
            .warned_or_audited
            .as_ref()
            .map(|spoken_of| ("not-matched-by-warn-or-audit", not_on_pod_spec(spoken_of)));
        own.into_iter()
            .chain(self.not_matched_by_uses())
            .chain(self.not_matched_by_namespaced_uses())
            .chain(not_in_advice)
            .collect()
    }

    /// The conditions in each namespace for its own policies, and everywhere, as digests.
    fn digest_scopes(&self, everywhere: &str) -> BTreeMap<String, Digest> {
        let mut by_namespace = BTreeMap::<&str, [Option<&str>; 2]>::new();
        for (at, images) in [
            &self.denied_in_namespaces,
            &self.warned_or_audited_in_namespaces,
        ]
        .into_iter()
        .enumerate()
        {
            for (namespace, term) in images
                .iter()
                .flat_map(NamespacedImageConditions::namespace_terms)
            {
                by_namespace.entry(namespace).or_default()[at] = Some(term);
            }
        }
        let namespaces = by_namespace.into_iter().map(|(namespace, terms)| {
            (
                namespace.to_owned(),
                Digest::of_bytes(format!("{terms:?}").as_bytes()),
            )
        });
        namespaces
            .chain([(String::new(), Digest::of_bytes(everywhere.as_bytes()))])
            .collect()
    }

    // An entry evaluates all images of an object: no second entry needs to match it.

    fn not_matched_by_uses(&self) -> Option<MatchCondition> {
        Some((
            "not-matched-by-uses",
            not_on_pod_spec(self.denied.as_ref()?),
        ))
    }

    fn not_matched_by_namespaced_uses(&self) -> Option<MatchCondition> {
        Some((
            "not-matched-by-namespaced-uses",
            not_on_pod_spec(self.denied_in_namespaces.as_ref()?.host_condition()?),
        ))
    }
}

fn on_pod_spec(condition: &str) -> String {
    format!("[{POD}].exists(p, {condition})")
}

fn not_on_pod_spec(condition: &str) -> String {
    format!("!{}", on_pod_spec(condition))
}

#[cfg(test)]
mod tests;
