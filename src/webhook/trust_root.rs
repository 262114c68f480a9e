//! Validates a trust root that is written or deleted: one with its content in the cluster must be
//! readable, and one that a policy names must stay.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use serde_json::Value;

use super::{
    review_request::ReviewRequest, review_response::ReviewResponse, webhook_state::WebhookState,
};
use crate::{
    api::{
        API_VERSION,
        bundle_policy::PolicySnapshot,
        trust_root::{TRUSTED_ROOT_KEY, TUF_ROOT_KEY, TrustRoot},
    },
    core::{limits::InputLimits, reason::Reason, verify},
    service::trust_root::TufRepositoryConfig,
};

type ReferencedConfigMapData = BTreeMap<String, String>;

/// True if it is a `TrustRoot`.
pub(super) fn is_trust_root(object: &Value) -> bool {
    object["apiVersion"] == API_VERSION && object["kind"] == "TrustRoot"
}

/// Evaluates a written trust root. The objects that it refers to need not exist yet; if they do,
/// they must be valid.
pub(super) async fn evaluate_trust_root(
    state: &WebhookState,
    request: &ReviewRequest,
    object: Value,
    old: Option<Value>,
) -> ReviewResponse {
    let root: TrustRoot = match serde_json::from_value(object) {
        Ok(root) => root,
        Err(error) => return invalid_field("spec", error.to_string()),
    };
    if is_unchanged(old, &root) {
        return ReviewResponse::NothingToEvaluate; // garbage collection may write metadata
    }
    if let Err(error) = root.validate_spec() {
        return invalid_field("spec", error.to_string());
    }
    let (Some(name), maps) = (
        root.user_config_map_name()
            .or_else(|| root.tuf_root_config_map_name()),
        system_config_maps(state),
    ) else {
        return ReviewResponse::NothingToEvaluate;
    };
    match maps.get_opt(name).await {
        Ok(None) => ReviewResponse::NothingToEvaluate,
        Ok(Some(map)) => validate_referenced_data(&root, &map.data.unwrap_or_default()),
        Err(error) => ReviewResponse::Forbidden {
            reason: Reason::TrustRootUnavailable,
            field: "spec".into(),
            message: format!(
                "{}: ConfigMap {name} cannot be read, so it cannot be validated: \
                    {error}; try again",
                request.name()
            ),
        },
    }
}

fn is_unchanged(old: Option<Value>, root: &TrustRoot) -> bool {
    let old = old.and_then(|mut old| Some(old.get_mut("spec")?.take()));
    old.is_some() && old == serde_json::to_value(&root.spec).ok()
}

fn system_config_maps(state: &WebhookState) -> Api<ConfigMap> {
    Api::namespaced(state.client.clone(), &state.system_namespace)
}

/// Checks the content of the referenced `ConfigMap`.
fn validate_referenced_data(root: &TrustRoot, data: &ReferencedConfigMapData) -> ReviewResponse {
    let judged = match (root.user_config_map_name(), &root.spec.tuf) {
        (Some(_), _) => data.get(TRUSTED_ROOT_KEY).map(|text| {
            let parsed = verify::TrustRoot::parse(text.as_bytes(), &InputLimits::DEFAULT);
            (
                "spec.trustedRoot.configMapRef",
                parsed.map(drop).map_err(|error| error.to_string()),
            )
        }),
        (None, Some(tuf)) => data.get(TUF_ROOT_KEY).map(|text| {
            let opened = TufRepositoryConfig::new(&tuf.url, text.as_bytes());
            (
                "spec.tuf",
                opened.map(drop).map_err(|error| error.to_string()),
            )
        }),
        (None, None) => None,
    };
    match judged {
        Some((field, Err(problem))) => invalid_field(field, problem),
        Some((_, Ok(()))) | None => ReviewResponse::NothingToEvaluate,
    }
}

/// Evaluates a deletion. It is denied while a policy refers to the trust root: otherwise every use
/// that the policy governs would be denied from then on.
pub(super) fn evaluate_trust_root_deletion(
    snapshot: &PolicySnapshot,
    name: &str,
) -> ReviewResponse {
    let naming: Vec<&str> = snapshot.policies_naming_trust_root(name).collect();
    match naming.as_slice() {
        [] => ReviewResponse::NothingToEvaluate,
        [first, others @ ..] => {
            let more = if others.is_empty() {
                String::new()
            } else {
                format!(" (and {} more)", others.len())
            };
            let message = format!(
                "{first}{more} references TrustRoot {name} and would deny everything without it; \
                    change or delete the policy first"
            );
            ReviewResponse::Forbidden {
                reason: Reason::InvalidSpec,
                field: "metadata.name".into(),
                message,
            }
        }
    }
}

fn invalid_field(field: &str, message: String) -> ReviewResponse {
    ReviewResponse::Invalid {
        field: field.to_owned(),
        message,
    }
}
