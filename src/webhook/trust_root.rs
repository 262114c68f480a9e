//! A trust root that is written or removed: one that lies in the cluster must be readable, and one
//! that a policy names must stay.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use serde_json::Value;

use super::{State, respond::Answer, review::Request};
use crate::{
    api::{
        API_VERSION,
        bundle_policy::Snapshot,
        trust_root::{TRUSTED_ROOT_KEY, TUF_ROOT_KEY, TrustRoot},
    },
    core::{class::Reason, limits::Limits, verify},
    service::trust_root::Repository,
};

type Data = BTreeMap<String, String>;

/// Is it a `TrustRoot`?
pub(super) fn is_one(object: &Value) -> bool {
    object["apiVersion"] == API_VERSION && object["kind"] == "TrustRoot"
}

/// May it be written? What it refers to need not be there yet; if it is there, it must be what it
/// should be.
pub(super) async fn judge(
    state: &State,
    request: &Request,
    object: Value,
    old: Option<Value>,
) -> Answer {
    let root: TrustRoot = match serde_json::from_value(object) {
        Ok(root) => root,
        Err(error) => return shape("spec", error.to_string()),
    };
    if is_unchanged(old, &root) {
        return Answer::Nothing; // whatever cleans up may write metadata
    }
    if let Err(error) = root.check() {
        return shape("spec", error.to_string());
    }
    let (Some(name), maps) = (root.given().or_else(|| root.first_root()), maps(state)) else {
        return Answer::Nothing;
    };
    match maps.get_opt(name).await {
        Ok(None) => Answer::Nothing,
        Ok(Some(map)) => content(&root, &map.data.unwrap_or_default()),
        Err(error) => Answer::Forbidden {
            reason: Reason::TrustRootUnavailable,
            field: "spec".into(),
            message: format!(
                "{}: ConfigMap {name} cannot be read, so nobody knows whether it can be used: \
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

fn maps(state: &State) -> Api<ConfigMap> {
    Api::namespaced(state.client.clone(), &state.system_namespace)
}

/// Is what lies there what it should be?
fn content(root: &TrustRoot, data: &Data) -> Answer {
    let judged = match (root.given(), &root.spec.tuf) {
        (Some(_), _) => data.get(TRUSTED_ROOT_KEY).map(|text| {
            let parsed = verify::TrustRoot::parse(text.as_bytes(), &Limits::DEFAULT);
            (
                "spec.trustedRoot.configMapRef",
                parsed.map(drop).map_err(|error| error.to_string()),
            )
        }),
        (None, Some(tuf)) => data.get(TUF_ROOT_KEY).map(|text| {
            let opened = Repository::new(&tuf.url, text.as_bytes());
            (
                "spec.tuf",
                opened.map(drop).map_err(|error| error.to_string()),
            )
        }),
        (None, None) => None,
    };
    match judged {
        Some((field, Err(problem))) => shape(field, problem),
        Some((_, Ok(()))) | None => Answer::Nothing,
    }
}

/// May it go? Not while a policy names it: all that the policy governs would be refused from then
/// on.
pub(super) fn judge_removal(snapshot: &Snapshot, name: &str) -> Answer {
    let naming: Vec<&str> = snapshot.naming(name).collect();
    match naming.as_slice() {
        [] => Answer::Nothing,
        [first, others @ ..] => {
            let more = if others.is_empty() {
                String::new()
            } else {
                format!(" (and {} more)", others.len())
            };
            let message = format!(
                "{first}{more} names TrustRoot {name} and would refuse everything without it; \
                    change or delete the policy first"
            );
            Answer::Forbidden {
                reason: Reason::InvalidSpec,
                field: "metadata.name".into(),
                message,
            }
        }
    }
}

fn shape(field: &str, message: String) -> Answer {
    Answer::Shape {
        field: field.to_owned(),
        message,
    }
}
