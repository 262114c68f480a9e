//! The permissions of an installation: every role and binding, each with its purpose.
//!
//! `packgate rbac` prints this list, and the chart's template is generated from it, so that the two
//! cannot differ. No rule reads Secrets of the whole cluster, and nothing here lets a user write
//! `status`.

mod rules;

use std::collections::BTreeMap;

use k8s_openapi::{
    api::rbac::v1::{
        ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::Serialize;
use serde_json::Value;

pub use self::rules::POLICY_INPUTS_ROLE;
use self::rules::{
    API_GROUP, CONTROLLER, NAMESPACED, READ, WEBHOOK, controller_rules, policy_rule, system_rules,
    webhook_rules, with_resource_name,
};
use super::webhook::TLS_SECRET;

/// The default namespace of an installation.
pub const SYSTEM_NAMESPACE: &str = "packgate-system";

const POLICY_READER: &str = "packgate-policy-reader";
const TENANT: &str = "packgate-tenant";
const TENANT_TOKENS: &str = "packgate-tenant-tokens";
const PLATFORM_KEY: &str = "packgate-platform-key";

const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

/// The namespace of an installation, and the labels of its objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RbacInstallation {
    namespace: String,
    labels: BTreeMap<String, String>,
}

/// A role or binding to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RbacObject {
    /// Its purpose, in one line.
    pub purpose: &'static str,
    /// The object.
    pub object: Value,
}

/// Why the roles cannot be written: always a bug.
#[derive(Debug, thiserror::Error)]
pub enum RbacError {
    /// An object cannot be written as JSON.
    #[error("a role cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// An object cannot be written as YAML.
    #[error("a role cannot be written as YAML: {0}")]
    Yaml(#[from] serde_saphyr::ser::Error),
}

impl RbacInstallation {
    /// An installation in this namespace, without helm.
    pub fn in_namespace(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            labels: to_label_map(&[("app.kubernetes.io/name", "packgate")]),
        }
    }

    /// An installation in the namespace of a helm release: names and labels are expressions of its
    /// template language.
    ///
    /// None of them contains a quote, so that they stay valid inside of YAML strings.
    pub fn for_helm_chart() -> Self {
        let labels = to_label_map(&[
            ("app.kubernetes.io/name", "packgate"),
            ("app.kubernetes.io/instance", "{{ .Release.Name }}"),
            ("app.kubernetes.io/version", "{{ .Chart.AppVersion }}"),
            ("app.kubernetes.io/managed-by", "{{ .Release.Service }}"),
            ("helm.sh/chart", "{{ include `packgate.chart` . }}"),
        ]);
        Self {
            namespace: "{{ .Release.Namespace }}".to_owned(),
            labels,
        }
    }

    /// Every role and binding, in the order for readers.
    ///
    /// Errors: only if an object cannot be written as JSON, which is a bug.
    pub fn rbac_objects(&self) -> Result<Vec<RbacObject>, RbacError> {
        Ok([
            self.controller_cluster_role()?,
            self.controller_system_role()?,
            self.webhook_roles()?,
            self.tenant_secret_role()?,
            self.tenant_token_role()?,
            self.platform_key_reader_role()?,
            self.policy_reader_role()?,
            self.policy_inputs_role()?,
            self.aggregated_user_roles()?,
        ]
        .concat())
    }

    fn controller_cluster_role(&self) -> Result<Vec<RbacObject>, RbacError> {
        let role = self.cluster_role(CONTROLLER, &[], controller_rules());
        let binding = ClusterRoleBinding {
            metadata: self.cluster_scoped_metadata(CONTROLLER, &[]),
            role_ref: role_ref("ClusterRole", CONTROLLER),
            subjects: Some(vec![self.service_account_subject(CONTROLLER)]),
        };
        Ok(vec![
            rbac_object(
                "The controller, in every namespace: read our kinds, write their status, run Jobs. \
                    It reads no Secrets.",
                &role,
            )?,
            rbac_object("Binds it to the controller.", &binding)?,
        ])
    }

    fn controller_system_role(&self) -> Result<Vec<RbacObject>, RbacError> {
        let purpose = "The controller, in its own namespace: the platform key, copies of push \
            credentials, its lease, objects to garbage-collect.";
        self.role_with_binding(
            CONTROLLER,
            purpose,
            Some(system_rules()),
            self.service_account_subject(CONTROLLER),
            "Binds it to the controller.",
        )
    }

    fn webhook_roles(&self) -> Result<Vec<RbacObject>, RbacError> {
        let role = self.cluster_role(WEBHOOK, &[], webhook_rules());
        let binding = ClusterRoleBinding {
            metadata: self.cluster_scoped_metadata(WEBHOOK, &[]),
            role_ref: role_ref("ClusterRole", WEBHOOK),
            subjects: Some(vec![self.service_account_subject(WEBHOOK)]),
        };
        let own = vec![
            with_resource_name(policy_rule("", &["secrets"], READ), TLS_SECRET),
            with_resource_name(
                policy_rule("coordination.k8s.io", &["leases"], &["get", "patch"]),
                WEBHOOK,
            ), // announces the policies that it has loaded
        ];
        let purpose = "The webhook, in its own namespace: its serving certificate, and the Lease in which it \
            reports the policies that it enforces.";
        let mut grants = vec![
            rbac_object(
                "The webhook, in every namespace: read policies and the keys that they name, check \
                    permissions (SubjectAccessReview). It reads no Secrets.",
                &role,
            )?,
            rbac_object("Binds it to the webhook.", &binding)?,
        ];
        grants.extend(self.role_with_binding(
            WEBHOOK,
            purpose,
            Some(own),
            self.service_account_subject(WEBHOOK),
            "Binds it to the webhook.",
        )?);
        Ok(grants)
    }

    fn policy_reader_role(&self) -> Result<Vec<RbacObject>, RbacError> {
        let role = self.cluster_role(
            POLICY_READER,
            &[],
            vec![policy_rule(
                API_GROUP,
                &["clusterbundlepolicies", "trustroots"],
                READ,
            )],
        );
        let binding = ClusterRoleBinding {
            metadata: self.cluster_scoped_metadata(POLICY_READER, &[]),
            role_ref: role_ref("ClusterRole", POLICY_READER),
            subjects: Some(vec![authenticated_users_subject()]),
        };
        Ok(vec![
            rbac_object(
                "The cluster's policies: a user whose request is denied can see why, and get the same \
                    verdict on the command line.",
                &role,
            )?,
            rbac_object("Binds it to all authenticated users.", &binding)?,
        ])
    }

    fn policy_inputs_role(&self) -> Result<Vec<RbacObject>, RbacError> {
        self.role_with_binding(
            POLICY_INPUTS_ROLE,
            "The ConfigMaps in the namespace of packgate that policies refer to, for the same verdict on the command line. The controller keeps \
                the rules: what policies do not name is not in them.",
            None,
            authenticated_users_subject(),
            "Binds it to all authenticated users.",
        )
    }

    fn tenant_secret_role(&self) -> Result<Vec<RbacObject>, RbacError> {
        let resources = &["secrets", "serviceaccounts"];
        let role = self.cluster_role(TENANT, &[], vec![policy_rule("", resources, &["get"])]);
        Ok(vec![rbac_object(
            "Reads Secrets, and ServiceAccounts for their imagePullSecrets. Bound to controller and webhook only in namespaces that opt in, by a \
                RoleBinding there; never cluster-wide.",
            &role,
        )?])
    }

    fn tenant_token_role(&self) -> Result<Vec<RbacObject>, RbacError> {
        let rules = vec![
            policy_rule("", &["serviceaccounts"], &["get"]),
            policy_rule("", &["serviceaccounts/token"], &["create"]),
        ];
        let role = self.cluster_role(TENANT_TOKENS, &[], rules);
        Ok(vec![rbac_object(
            "Makes tokens of ServiceAccounts for credential providers that need them (tokenAttributes). Bound to controller and webhook only in \
                namespaces that opt in, by a RoleBinding there; never cluster-wide.",
            &role,
        )?])
    }

    fn platform_key_reader_role(&self) -> Result<Vec<RbacObject>, RbacError> {
        let rules = vec![with_resource_name(
            policy_rule("", &["configmaps"], &["get"]),
            PLATFORM_KEY,
        )];
        self.role_with_binding(
            PLATFORM_KEY,
            "The platform's public key, to verify signatures with.",
            Some(rules),
            authenticated_users_subject(),
            "Binds it to all authenticated users.",
        )
    }

    fn aggregated_user_roles(&self) -> Result<Vec<RbacObject>, RbacError> {
        let view = self.cluster_role(
            "packgate-view",
            &["view"],
            vec![policy_rule(API_GROUP, NAMESPACED, READ)],
        );
        let write = policy_rule(
            API_GROUP,
            NAMESPACED,
            &["create", "update", "patch", "delete"],
        );
        let edit = self.cluster_role("packgate-edit", &["admin", "edit"], vec![write]);
        Ok(vec![
            rbac_object("Added to the cluster's roles view, edit and admin.", &view)?,
            rbac_object(
                "Added to the cluster's roles edit and admin. Never status: only the controller writes \
                    it.",
                &edit,
            )?,
        ])
    }

    fn role_with_binding(
        &self,
        name: &str,
        purpose: &'static str,
        rules: Option<Vec<PolicyRule>>,
        subject: Subject,
        binding_purpose: &'static str,
    ) -> Result<Vec<RbacObject>, RbacError> {
        let role = Role {
            metadata: self.namespaced_metadata(name),
            rules,
        };
        let binding = RoleBinding {
            metadata: self.namespaced_metadata(name),
            role_ref: role_ref("Role", name),
            subjects: Some(vec![subject]),
        };
        Ok(vec![
            rbac_object(purpose, &role)?,
            rbac_object(binding_purpose, &binding)?,
        ])
    }

    fn cluster_role(
        &self,
        name: &str,
        aggregate_to: &[&str],
        rules: Vec<PolicyRule>,
    ) -> ClusterRole {
        ClusterRole {
            metadata: self.cluster_scoped_metadata(name, aggregate_to),
            rules: Some(rules),
            aggregation_rule: None,
        }
    }

    fn cluster_scoped_metadata(&self, name: &str, aggregate_to: &[&str]) -> ObjectMeta {
        let mut labels = self.labels.clone();
        labels.extend(aggregate_to.iter().map(|role| {
            (
                format!("{RBAC_GROUP}/aggregate-to-{role}"),
                "true".to_owned(),
            )
        }));
        ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels),
            ..ObjectMeta::default()
        }
    }

    fn namespaced_metadata(&self, name: &str) -> ObjectMeta {
        ObjectMeta {
            namespace: Some(self.namespace.clone()),
            ..self.cluster_scoped_metadata(name, &[])
        }
    }

    fn service_account_subject(&self, name: &str) -> Subject {
        Subject {
            api_group: None,
            kind: "ServiceAccount".to_owned(),
            name: name.to_owned(),
            namespace: Some(self.namespace.clone()),
        }
    }
}

/// The user name of the webhook's ServiceAccount.
pub fn webhook_user(system_namespace: &str) -> String {
    format!("system:serviceaccount:{system_namespace}:{WEBHOOK}")
}

/// The command that permits packgate to read the Secrets of a namespace.
pub fn tenant_grant_command(namespace: &str, system_namespace: &str) -> String {
    format!(
        "kubectl create rolebinding packgate-controller --namespace {namespace} --clusterrole \
            {TENANT} \
         --serviceaccount {system_namespace}:{CONTROLLER} --serviceaccount \
         {system_namespace}:{WEBHOOK}"
    )
}

/// The command that permits packgate to make tokens of a namespace's ServiceAccounts.
pub fn token_grant_command(namespace: &str, system_namespace: &str) -> String {
    format!(
        "kubectl create rolebinding {TENANT_TOKENS} --namespace {namespace} --clusterrole \
            {TENANT_TOKENS} --serviceaccount {system_namespace}:{CONTROLLER} --serviceaccount \
         {system_namespace}:{WEBHOOK}"
    )
}

/// The objects as one YAML stream, the purpose above each object.
///
/// Errors: only if an object cannot be written as YAML, which is a bug.
pub fn to_yaml(grants: &[RbacObject]) -> Result<String, RbacError> {
    grants
        .iter()
        .map(|grant| {
            Ok(format!(
                "---\n# {}\n{}",
                grant.purpose,
                serde_saphyr::to_string(&grant.object)?
            ))
        })
        .collect()
}

fn authenticated_users_subject() -> Subject {
    Subject {
        api_group: Some(RBAC_GROUP.to_owned()),
        kind: "Group".to_owned(),
        name: "system:authenticated".to_owned(),
        namespace: None,
    }
}

fn role_ref(kind: &str, name: &str) -> RoleRef {
    RoleRef {
        api_group: RBAC_GROUP.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
    }
}

fn rbac_object(purpose: &'static str, object: &impl Serialize) -> Result<RbacObject, RbacError> {
    Ok(RbacObject {
        purpose,
        object: serde_json::to_value(object)?,
    })
}

fn to_label_map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{
        rules::{POLICIES, to_string_vec},
        *,
    };

    fn grants() -> Vec<RbacObject> {
        RbacInstallation::in_namespace(SYSTEM_NAMESPACE)
            .rbac_objects()
            .expect("grants")
    }

    fn rules(object: &Value) -> Vec<PolicyRule> {
        object
            .get("rules")
            .map(|rules| serde_json::from_value(rules.clone()).expect("rules"))
            .unwrap_or_default()
    }

    fn resources(rule: &PolicyRule) -> Vec<String> {
        rule.resources.clone().unwrap_or_default()
    }

    /// The rules of the role of this kind and name.
    fn role(kind: &str, name: &str) -> Vec<PolicyRule> {
        let found = grants()
            .into_iter()
            .find(|grant| grant.object["kind"] == kind && grant.object["metadata"]["name"] == name);
        rules(&found.expect("the role").object)
    }

    #[test]
    fn nothing_is_granted_by_a_wildcard() {
        for rule in grants().iter().flat_map(|grant| rules(&grant.object)) {
            let words = [
                rule.api_groups.clone(),
                rule.resources.clone(),
                Some(rule.verbs.clone()),
                rule.non_resource_urls.clone(),
            ];
            assert!(
                words
                    .iter()
                    .flatten()
                    .flatten()
                    .all(|word| !word.contains('*')),
                "{rule:?}"
            );
            assert!(
                !rule.verbs.is_empty() && rule.non_resource_urls.is_none(),
                "{rule:?}"
            );
        }
    }

    #[test]
    fn no_binding_gives_secrets_cluster_wide() {
        let bound: Vec<String> = grants()
            .iter()
            .filter(|grant| grant.object["kind"] == "ClusterRoleBinding")
            .map(|grant| {
                grant.object["roleRef"]["name"]
                    .as_str()
                    .expect("a name")
                    .to_owned()
            })
            .collect();
        assert_eq!(bound, [CONTROLLER, WEBHOOK, POLICY_READER]);
        for rule in bound.iter().flat_map(|name| role("ClusterRole", name)) {
            assert!(
                !resources(&rule)
                    .iter()
                    .any(|resource| resource.starts_with("secrets")),
                "{rule:?}"
            );
        }
        let aggregated = grants().into_iter().filter(|grant| {
            grant.object["metadata"]["labels"]
                .to_string()
                .contains("aggregate-to")
        });
        for rule in aggregated.flat_map(|grant| rules(&grant.object)) {
            assert_eq!(
                rule.api_groups.as_deref(),
                Some(&[API_GROUP.to_owned()][..]),
                "{rule:?}"
            );
        }
    }

    #[test]
    fn a_tenant_gives_get_and_nothing_else() {
        assert_eq!(
            role("ClusterRole", TENANT),
            [policy_rule("", &["secrets", "serviceaccounts"], &["get"])]
        );
        assert_eq!(
            role("ClusterRole", TENANT_TOKENS),
            [
                policy_rule("", &["serviceaccounts"], &["get"]),
                policy_rule("", &["serviceaccounts/token"], &["create"]),
            ]
        );
    }

    #[test]
    fn users_never_write_status() {
        for name in ["packgate-view", "packgate-edit"] {
            for rule in role("ClusterRole", name) {
                assert!(
                    resources(&rule)
                        .iter()
                        .all(|resource| !resource.contains('/')),
                    "{name}: {rule:?}"
                );
            }
        }
    }

    #[test]
    fn the_controller_writes_no_spec() {
        let writes = ["create", "update", "patch", "delete"];
        for rule in role("ClusterRole", CONTROLLER)
            .iter()
            .filter(|rule| rule.api_groups.as_deref() == Some(&[API_GROUP.to_owned()]))
        {
            let status = resources(rule)
                .iter()
                .all(|resource| resource.ends_with("/status"));
            assert!(
                status
                    || !rule
                        .verbs
                        .iter()
                        .any(|verb| writes.contains(&verb.as_str())),
                "{rule:?}"
            );
        }
    }

    #[test]
    fn the_controller_changes_nothing_that_others_made_outside_of_its_namespace() {
        let writes = |rule: &&PolicyRule| {
            rule.verbs
                .iter()
                .any(|verb| ["update", "patch"].contains(&verb.as_str()))
        };
        let changed: Vec<String> = role("ClusterRole", CONTROLLER)
            .iter()
            .filter(writes)
            .flat_map(resources)
            .collect();
        let status = POLICIES.iter().map(|kind| format!("{kind}/status"));
        let expected: Vec<String> = [
            to_string_vec(&["packedbundles/status"]),
            status.collect(),
            to_string_vec(&["events", "validatingwebhookconfigurations"]),
        ]
        .concat();
        assert_eq!(changed, expected);
        let namespaces: Vec<_> = role("ClusterRole", CONTROLLER)
            .into_iter()
            .filter(|rule| resources(rule) == ["namespaces"])
            .collect();
        assert_eq!(
            namespaces,
            [with_resource_name(
                policy_rule("", &["namespaces"], &["get"]),
                "kube-system"
            )]
        );
    }

    #[test]
    fn everybody_reads_one_config_map_and_what_policies_name() {
        let objects = grants().into_iter();
        let inputs: Vec<Value> = objects
            .map(|grant| grant.object)
            .filter(|object| object["metadata"]["name"] == POLICY_INPUTS_ROLE)
            .collect();
        let kinds: Vec<_> = inputs.iter().map(|object| &object["kind"]).collect();
        assert_eq!(kinds, ["Role", "RoleBinding"]);
        assert!(inputs[0].get("rules").is_none(), "helm would reset them");
        assert_eq!(
            role("Role", PLATFORM_KEY),
            [with_resource_name(
                policy_rule("", &["configmaps"], &["get"]),
                PLATFORM_KEY
            )]
        );
    }

    #[test]
    fn the_webhook_reads_one_secret_and_writes_next_to_nothing() {
        let writes = ["create", "update", "patch", "delete"];
        let rules = role("ClusterRole", WEBHOOK)
            .into_iter()
            .chain(role("Role", WEBHOOK));
        let written: Vec<String> = rules
            .filter(|rule| {
                rule.verbs
                    .iter()
                    .any(|verb| writes.contains(&verb.as_str()))
            })
            .flat_map(|rule| resources(&rule))
            .collect();
        assert_eq!(written, ["subjectaccessreviews", "events", "leases"]);
        let secrets: Vec<_> = role("Role", WEBHOOK)
            .into_iter()
            .filter(|rule| resources(rule) == ["secrets"])
            .collect();
        assert_eq!(
            secrets,
            [with_resource_name(
                policy_rule("", &["secrets"], READ),
                TLS_SECRET
            )]
        );
    }

    #[test]
    fn nothing_gives_rights_on_roles_but_on_that_of_policy_inputs() {
        // docs/adr/0018-what-users-may-read-of-the-installation.md: its content is the only thing that all users see of it.
        let published = with_resource_name(
            policy_rule(RBAC_GROUP, &["roles"], &["get", "patch"]),
            POLICY_INPUTS_ROLE,
        );
        assert!(role("Role", CONTROLLER).contains(&published));
        let powers = ["escalate", "bind", "impersonate", "approve", "sign"];
        for rule in grants().iter().flat_map(|grant| rules(&grant.object)) {
            assert!(
                !rule
                    .verbs
                    .iter()
                    .any(|verb| powers.contains(&verb.as_str())),
                "{rule:?}"
            );
            let is_on_roles = rule
                .api_groups
                .as_deref()
                .is_some_and(|groups| groups.iter().any(|group| group == RBAC_GROUP));
            assert!(!is_on_roles || rule == published, "{rule:?}");
        }
    }

    #[test]
    fn every_name_of_a_namespace_follows() {
        let text = to_yaml(
            &RbacInstallation::in_namespace("elsewhere")
                .rbac_objects()
                .expect("grants"),
        )
        .expect("YAML");
        assert!(
            !text.contains(SYSTEM_NAMESPACE) && text.matches("namespace: elsewhere\n").count() > 4,
            "{text}"
        );
    }

    #[test]
    fn expressions_of_the_chart_stand_in_yaml_strings() {
        let text = to_yaml(
            &RbacInstallation::for_helm_chart()
                .rbac_objects()
                .expect("grants"),
        )
        .expect("YAML");
        for line in text.lines().filter(|line| line.contains("{{")) {
            let value = line.split_once(": ").expect("a field").1;
            assert!(
                value.starts_with('"') && value.ends_with('"') && !value.contains('\\'),
                "{line}"
            );
        }
    }
}
