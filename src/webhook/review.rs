//! An `AdmissionReview` (`admission.k8s.io/v1`) as the webhook reads it.

use kube::core::{
    DynamicObject,
    admission::{AdmissionRequest, AdmissionReview, Operation},
};
use serde_json::Value;

/// Bytes of a review. One holds two objects, each at most as large as etcd takes it, and what the request adds.
pub(super) const MAX_REVIEW: usize = 8 << 20;

/// A request to admit something.
pub(super) struct Request {
    inner: AdmissionRequest<DynamicObject>,
}

/// Why a body is no review. Answered with HTTP 400, which the API server treats as a failure of the webhook.
#[derive(Debug, thiserror::Error)]
#[error("this is no AdmissionReview of admission.k8s.io/v1: {0}")]
pub(super) struct ReviewError(String);

impl Request {
    /// Reads a body.
    pub(super) fn parse(body: &[u8]) -> Result<Self, ReviewError> {
        let review: AdmissionReview<DynamicObject> = serde_json::from_slice(body).map_err(|error| ReviewError(error.to_string()))?;
        let inner = review.try_into().map_err(|_| ReviewError("it has no request".into()))?;
        Ok(Self { inner })
    }

    /// What the answer is made from.
    pub(super) const fn inner(&self) -> &AdmissionRequest<DynamicObject> {
        &self.inner
    }

    /// The object that is to be, as it was sent. `None` when something is deleted.
    pub(super) fn object(&self) -> Option<Value> {
        whole(self.inner.object.as_ref())
    }

    /// The object that is there.
    pub(super) fn old_object(&self) -> Option<Value> {
        whole(self.inner.old_object.as_ref())
    }

    /// Is it a `TrustRoot` that is to go? Policies may need it.
    pub(super) fn removes_trust_root(&self) -> bool {
        let kind = &self.inner.kind;
        self.inner.operation == Operation::Delete && kind.group == "packgate.dev" && kind.kind == "TrustRoot"
    }

    /// Is there anything to judge? Whatever else goes, may go.
    pub(super) const fn brings_something(&self) -> bool {
        matches!(self.inner.operation, Operation::Create | Operation::Update)
    }

    /// The namespace, empty for what lies in none.
    pub(super) fn namespace(&self) -> &str {
        self.inner.namespace.as_deref().unwrap_or_default()
    }

    /// Name of the object, or what its name will begin with.
    pub(super) fn name(&self) -> String {
        let generated = || self.inner.object.as_ref().and_then(|object| object.metadata.generate_name.clone());
        // One of many that are deleted by one request is known by the object alone.
        let old = || self.inner.old_object.as_ref().and_then(|object| object.metadata.name.clone());
        if self.inner.name.is_empty() { generated().or_else(old).unwrap_or_default() } else { self.inner.name.clone() }
    }
}

fn whole(object: Option<&DynamicObject>) -> Option<Value> {
    serde_json::to_value(object?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_review_is_read_as_it_was_sent() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "web-"}, "spec": {"from": "tomorrow"}});
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "resource": {"group": "", "version": "v1", "resource": "pods"},
                "namespace": "team-a", "operation": "CREATE", "userInfo": {"username": "alice"}, "object": pod, "oldObject": null,
            },
        });
        let request = Request::parse(review.to_string().as_bytes()).expect("a review");
        assert_eq!((request.namespace(), request.name().as_str(), request.brings_something()), ("team-a", "web-", true));
        assert_eq!(request.object().expect("an object")["spec"]["from"], "tomorrow");
        assert!(request.old_object().is_none());
    }

    #[test]
    fn what_is_no_review_is_refused() {
        for body in ["", "{}", "[]", "{\"apiVersion\":\"admission.k8s.io/v1\",\"kind\":\"AdmissionReview\"}"] {
            assert!(Request::parse(body.as_bytes()).is_err(), "{body}");
        }
    }
}
