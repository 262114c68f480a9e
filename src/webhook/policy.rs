//! A policy that is written: it must be able to mean what it says. The code that asks is the code that judges by it.

use serde_json::Value;

use super::respond::Answer;
use crate::api::bundle_policy::{PolicyObject, Sources};

/// May this policy be written? What it refers to need not be there yet: it refuses everything until it is.
pub(super) fn judge(object: Value) -> Answer {
    let policy = match PolicyObject::read(object) {
        Ok(policy) => policy,
        Err(error) => return Answer::Shape { field: "spec".into(), message: error.to_string() },
    };
    match policy.compile(&Sources::default()) {
        Ok(_) => Answer::Nothing,
        Err(error) if error.is_missing() => Answer::Nothing,
        Err(error) => Answer::Shape { field: error.field, message: error.problem },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(authority: &Value, more: &Value) -> Value {
        let mut spec = json!({"match": {"references": ["r.example.com/**"]}, "authorities": [authority]});
        for (key, value) in more.as_object().expect("an object") {
            spec[key] = value.clone();
        }
        json!({"apiVersion": "packgate.dev/v1alpha1", "kind": "ClusterBundlePolicy", "metadata": {"name": "p"}, "spec": spec})
    }

    #[test]
    fn a_policy_may_come_before_its_key() {
        let key = json!({"name": "a", "key": {"configMapRef": {"name": "later"}}});
        assert!(matches!(judge(policy(&key, &json!({}))), Answer::Nothing));
    }

    #[test]
    fn what_cannot_mean_what_it_says_is_refused_with_its_field() {
        let key = json!({"name": "a", "key": {"configMapRef": {"name": "later"}}});
        let wrong_key = json!({"name": "a", "key": {"pem": "no key"}});
        let builders = json!([{"id": "x", "authority": "a", "level": 9}]);
        for (object, field) in [
            (policy(&wrong_key, &json!({})), "spec.authorities[0].key"),
            (policy(&key, &json!({"match": {"references": ["nginx"]}})), "spec.match.references[0]"),
            (policy(&key, &json!({"slsa": {"minimumLevel": 2, "builders": builders, "maxAge": "soon"}})), "spec.slsa.maxAge"),
            (policy(&key, &json!({"bindRepository": true})), "spec.bindRepository"),
            (policy(&key, &json!({"unknown": true})), "spec"),
        ] {
            let Answer::Shape { field: found, message } = judge(object) else { panic!("{field}: taken") };
            assert_eq!(found, field, "{message}");
        }
    }
}
