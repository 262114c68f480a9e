//! Validates a policy object. Compiles it with the code that evaluates it later.

use serde_json::Value;

use super::review_response::ReviewResponse;
use crate::{
    api::bundle_policy::{
        PolicyObject, PolicyQuota, PolicyQuotaUsage, PolicySnapshot, ResolvedPolicyReferences,
    },
    core::{
        policy::PolicyOrigin,
        reason::{ClassifiedError, Reason},
    },
};

/// Validates a policy, given the policies in force. The objects that it refers to need not exist
/// yet: until they do, it denies every use that it governs.
pub(super) fn evaluate_policy_object(object: Value, there: &PolicySnapshot) -> ReviewResponse {
    let policy = match PolicyObject::from_json(object) {
        Ok(policy) => policy,
        Err(error) => {
            return ReviewResponse::Invalid {
                field: "spec".into(),
                message: error.to_string(),
            };
        }
    };
    let kind = policy.kind().unwrap_or(PolicyOrigin::Cluster);
    let sources = ResolvedPolicyReferences {
        usage: PolicyQuotaUsage::for_kind(&kind),
        ..ResolvedPolicyReferences::default()
    };
    if let Some(message) = exceeded_quota_message(&policy, &kind, there) {
        return ReviewResponse::Forbidden {
            reason: Reason::LimitExceeded,
            field: "spec".into(),
            message,
        };
    }
    match sources
        .usage
        .count_policy(&policy, policy.size(), &sources.config_maps)
        .and_then(|()| policy.compile_policy(&sources))
    {
        Ok(_) => ReviewResponse::NothingToEvaluate,
        Err(error) if error.is_missing_object() => ReviewResponse::NothingToEvaluate,
        Err(error) if error.reason() == Reason::LimitExceeded => ReviewResponse::Forbidden {
            reason: error.reason(),
            field: error.field,
            message: error.problem,
        },
        Err(error) => ReviewResponse::Invalid {
            field: error.field,
            message: error.problem,
        },
    }
}

/// All policies are kept in memory: one that exceeds the budget of its namespace is rejected, where
/// that is known. An existing one over the budget may be made smaller.
fn exceeded_quota_message(
    policy: &PolicyObject,
    kind: &PolicyOrigin,
    there: &PolicySnapshot,
) -> Option<String> {
    let (budget, namespace) = (
        PolicyQuota::for_kind(kind),
        if let PolicyOrigin::Namespaced(namespace) = kind {
            namespace.as_str()
        } else {
            ""
        },
    );
    let sizes = there.policy_sizes(namespace)?;
    let (old, new) = (sizes.get(policy.name()), policy.size());
    let bytes = sizes.values().sum::<usize>() - old.unwrap_or(&0) + new;
    let count = sizes.len() + usize::from(old.is_none());
    let grows = old.is_none_or(|old| new > *old);
    let whose = if namespace.is_empty() {
        "the cluster".to_owned()
    } else {
        format!("namespace {namespace}")
    };
    let problem = |found: usize, limit: usize, what: &str| {
        let way_out = "delete policies, or make them smaller";
        (grows && found > limit)
            .then(|| format!("{whose} would have {found} {what}, the limit is {limit}; {way_out}"))
    };
    problem(count, budget.policies, "policies")
        .or_else(|| problem(bytes, budget.bytes, "bytes of policies"))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::api::bundle_policy::PolicyInputs;

    fn policy(authority: &Value, more: &Value) -> Value {
        let mut spec =
            json!({"match": {"references": ["r.example.com/**"]}, "authorities": [authority]});
        for (key, value) in more.as_object().expect("an object") {
            spec[key] = value.clone();
        }
        json!({
            "apiVersion": "packgate.dev/v1alpha1",
            "kind": "ClusterBundlePolicy",
            "metadata": {"name": "p"},
            "spec": spec,
        })
    }

    #[test]
    fn a_policy_may_come_before_its_key() {
        let key = json!({"name": "a", "key": {"configMapRef": {"name": "later"}}});
        assert!(matches!(
            evaluate_policy_object(policy(&key, &json!({})), &PolicySnapshot::default()),
            ReviewResponse::NothingToEvaluate
        ));
    }

    #[test]
    fn what_outgrows_its_namespace_is_not_stored() {
        let own = |name: &str, issuer: usize| {
            let keyless = json!({
                "trustRootRef": {"name": "corp"},
                "issuer": "i".repeat(issuer),
                "subject": {"exact": "a"},
            });
            let spec = json!({
                "match": {"references": ["r.example.com/**"]},
                "authorities": [{"name": "a", "keyless": keyless}],
            });
            json!({
                "apiVersion": "packgate.dev/v1alpha1", "kind": "BundlePolicy", "metadata": {
                    "name": name,
                    "namespace": "team-a",
                }, "spec": spec,
            })
        };
        let there = |count: usize, issuer: usize| {
            let policies = (0..count)
                .map(|n| PolicyObject::from_json(own(&format!("p{n}"), issuer)).expect("a policy"))
                .collect();
            PolicyInputs {
                policies,
                ..PolicyInputs::default()
            }
            .compile_snapshot("packgate-system", Timestamp::UNIX_EPOCH)
        };
        let too_much = |answer: ReviewResponse| {
            matches!(
                answer,
                ReviewResponse::Forbidden {
                    reason: Reason::LimitExceeded,
                    ..
                }
            )
        };
        assert!(matches!(
            evaluate_policy_object(
                own("one", 9),
                &there(PolicyQuota::NAMESPACE.policies - 1, 9)
            ),
            ReviewResponse::NothingToEvaluate
        ));
        let full = there(PolicyQuota::NAMESPACE.policies, 9);
        assert!(too_much(evaluate_policy_object(own("one-more", 9), &full)));
        assert!(
            matches!(
                evaluate_policy_object(own("p0", 9), &full),
                ReviewResponse::NothingToEvaluate
            ),
            "what is there may be changed"
        );
        let large = there(8, 250 << 10);
        assert!(
            too_much(evaluate_policy_object(own("one-more", 200 << 10), &large))
                && too_much(evaluate_policy_object(own("p0", 500 << 10), &large))
        );
        assert!(
            matches!(
                evaluate_policy_object(own("p0", 9), &large),
                ReviewResponse::NothingToEvaluate
            ),
            "and become smaller"
        );
        assert!(too_much(evaluate_policy_object(
            own("alone", 3 << 20),
            &PolicySnapshot::default()
        )));
    }

    #[test]
    fn what_cannot_mean_what_it_says_is_refused_with_its_field() {
        let key = json!({"name": "a", "key": {"configMapRef": {"name": "later"}}});
        let wrong_key = json!({"name": "a", "key": {"pem": "no key"}});
        let builders = json!([{"id": "x", "authority": "a", "level": 9}]);
        for (object, field) in [
            (policy(&wrong_key, &json!({})), "spec.authorities[0].key"),
            (
                policy(&key, &json!({"match": {"references": ["nginx"]}})),
                "spec.match.references[0]",
            ),
            (
                policy(
                    &key,
                    &json!({"slsa": {"minimumLevel": 2, "builders": builders, "maxAge": "soon"}}),
                ),
                "spec.slsa.maxAge",
            ),
            (
                policy(
                    &key,
                    &json!({"mirrors": [{"from": "team-a", "to": "r.example.com"}]}),
                ),
                "spec.mirrors[0].from",
            ),
            (policy(&key, &json!({"unknown": true})), "spec"),
        ] {
            let ReviewResponse::Invalid {
                field: found,
                message,
            } = evaluate_policy_object(object, &PolicySnapshot::default())
            else {
                panic!("{field}: taken")
            };
            assert_eq!(found, field, "{message}");
        }
    }
}
