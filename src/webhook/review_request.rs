//! Parses an `AdmissionReview` (`admission.k8s.io/v1`).
//!
//! Only the fields that are evaluated are parsed: a hostile body of a few megabytes would become
//! hundreds of megabytes as a tree of values. So the objects are cut out of the body as text first,
//! of their metadata only names are kept, and values are counted before they are allocated.

use kube::core::{
    DynamicObject, GroupVersionKind, GroupVersionResource, TypeMeta,
    admission::{AdmissionRequest, Operation},
};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use crate::core::display_text::{sanitize_text, truncate_text};

/// Bytes of a review: two objects of at most the size that etcd accepts, and the fields of the
/// request.
pub(super) const MAX_REVIEW: usize = 8 << 20;
/// The maximum number of values in both objects' specifications, counted by the separators between
/// them. A Pod of a hundred containers with a hundred variables each has 50,000.
pub(super) const MAX_VALUES: usize = 65_536;
/// Bytes of `userInfo`.
const MAX_USER_INFO: usize = 256 << 10;

const API_VERSION: &str = "admission.k8s.io/v1";

/// An admission request.
pub(super) struct ReviewRequest {
    /// The request without its objects.
    inner: AdmissionRequest<DynamicObject>,
    generate_name: Option<String>,
    old_name: Option<String>,
}

/// The objects under evaluation: `apiVersion`, `kind`, names in `metadata`, and `spec` of each.
#[derive(Debug, Default)]
pub(super) struct ReviewObjects {
    /// The new object. `None` for a deletion.
    pub new: Option<Value>,
    /// The existing object.
    pub old: Option<Value>,
    /// The number of values, if more than [`MAX_VALUES`]: then neither object is there.
    pub excess: Option<usize>,
}

/// Why a body is not a valid review. Answered with HTTP 400, which the API server treats as a
/// failure of the webhook.
#[derive(Debug, thiserror::Error)]
#[error("not an AdmissionReview of {API_VERSION}: {0}")]
pub(super) struct ReviewParseError(String);

impl ReviewParseError {
    /// A review that was not read completely, so its content is unknown.
    pub(super) fn not_fully_read() -> Self {
        Self("parsing it was interrupted".into())
    }
}

impl From<serde_json::Error> for ReviewParseError {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

/// The outermost object of the JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AdmissionReviewEnvelope<'a> {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(borrow, default)]
    request: Option<&'a RawValue>,
}

/// The fields of a request that are read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawAdmissionRequest<'a> {
    uid: String,
    kind: GroupVersionKind,
    resource: GroupVersionResource,
    #[serde(default)]
    name: String,
    namespace: Option<String>,
    operation: Operation,
    #[serde(borrow)]
    user_info: &'a RawValue,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    old_object: Option<&'a RawValue>,
    #[serde(default)]
    dry_run: Option<bool>,
}

/// The fields of an object that are read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawReviewObject<'a> {
    api_version: Option<String>,
    kind: Option<String>,
    metadata: Option<RawObjectMetadata>,
    #[serde(borrow, default)]
    spec: Option<&'a RawValue>,
}

/// The fields of metadata that are read: labels, annotations and managed fields have no effect.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawObjectMetadata {
    name: Option<String>,
    generate_name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    generation: Option<i64>,
}

impl ReviewRequest {
    /// Parses a body, which is not needed afterwards.
    pub(super) fn parse(body: &[u8]) -> Result<(Self, ReviewObjects), ReviewParseError> {
        let envelope: AdmissionReviewEnvelope<'_> = serde_json::from_slice(body)?;
        if (envelope.api_version.as_str(), envelope.kind.as_str())
            != (API_VERSION, "AdmissionReview")
        {
            let (version, kind) = (
                shorten_for_message(&envelope.api_version),
                shorten_for_message(&envelope.kind),
            );
            return Err(ReviewParseError(format!(
                "it is {kind} of {version}; set admissionReviewVersions: [v1]"
            )));
        }
        let request = envelope
            .request
            .ok_or_else(|| ReviewParseError("it has no request".into()))?;
        let raw: RawAdmissionRequest<'_> = serde_json::from_str(request.get())?;
        if raw.uid.is_empty() {
            return Err(ReviewParseError("its request has no uid".into()));
        }
        let (new, old) = (
            parse_review_object(raw.object)?,
            parse_review_object(raw.old_object)?,
        );
        let values: usize = [&new, &old]
            .into_iter()
            .flatten()
            .filter_map(|parts| parts.spec)
            .map(|spec| count_json_values(spec.get()))
            .sum();
        let generate_name = new
            .as_ref()
            .and_then(|parts| parts.metadata.as_ref()?.generate_name.clone());
        let old_name = old
            .as_ref()
            .and_then(|parts| parts.metadata.as_ref()?.name.clone());
        let objects = if values > MAX_VALUES {
            ReviewObjects {
                excess: Some(values),
                ..ReviewObjects::default()
            }
        } else {
            ReviewObjects {
                new: new.map(RawReviewObject::into_value).transpose()?,
                old: old.map(RawReviewObject::into_value).transpose()?,
                excess: None,
            }
        };
        Ok((
            Self {
                inner: to_admission_request(raw)?,
                generate_name,
                old_name,
            },
            objects,
        ))
    }

    /// The request for the response: everything but the objects.
    pub(super) const fn admission_request(&self) -> &AdmissionRequest<DynamicObject> {
        &self.inner
    }

    /// True if a `TrustRoot` is deleted. Policies may need it.
    pub(super) fn deletes_trust_root(&self) -> bool {
        let kind = &self.inner.kind;
        self.inner.operation == Operation::Delete
            && kind.group == "packgate.dev"
            && kind.kind == "TrustRoot"
    }

    /// Deletions are admitted, except for those that a specific check covers.
    pub(super) const fn is_delete(&self) -> bool {
        matches!(self.inner.operation, Operation::Delete)
    }

    /// True if the operation creates or updates an object.
    pub(super) const fn is_create_or_update(&self) -> bool {
        matches!(self.inner.operation, Operation::Create | Operation::Update)
    }

    /// The namespace; empty for cluster-scoped objects.
    pub(super) fn namespace(&self) -> &str {
        self.inner.namespace.as_deref().unwrap_or_default()
    }

    /// The name of the object, or its `generateName`.
    pub(super) fn name(&self) -> String {
        // An object of a deletion by collection is only identified by the old object.
        let other = || {
            self.generate_name
                .as_ref()
                .or(self.old_name.as_ref())
                .cloned()
                .unwrap_or_default()
        };
        if self.inner.name.is_empty() {
            other()
        } else {
            self.inner.name.clone()
        }
    }
}

fn to_admission_request(
    raw: RawAdmissionRequest<'_>,
) -> Result<AdmissionRequest<DynamicObject>, ReviewParseError> {
    let user = raw.user_info.get();
    if user.len() > MAX_USER_INFO {
        return Err(ReviewParseError(format!(
            "userInfo has {} bytes, the limit is {MAX_USER_INFO}",
            user.len()
        )));
    }
    Ok(AdmissionRequest {
        types: TypeMeta {
            api_version: API_VERSION.to_owned(),
            kind: "AdmissionReview".to_owned(),
        },
        uid: raw.uid,
        kind: raw.kind,
        resource: raw.resource,
        sub_resource: None,
        request_kind: None,
        request_resource: None,
        request_sub_resource: None,
        name: raw.name,
        namespace: raw.namespace,
        operation: raw.operation,
        user_info: serde_json::from_str(user)?,
        object: None,
        old_object: None,
        dry_run: raw.dry_run.unwrap_or_default(),
        options: None,
    })
}

fn parse_review_object(
    object: Option<&RawValue>,
) -> Result<Option<RawReviewObject<'_>>, ReviewParseError> {
    object
        .map(|object| serde_json::from_str(object.get()))
        .transpose()
        .map_err(ReviewParseError::from)
}

impl RawReviewObject<'_> {
    fn into_value(self) -> Result<Value, ReviewParseError> {
        let mut object = Map::new();
        let texts = [("apiVersion", self.api_version), ("kind", self.kind)];
        object.extend(
            texts
                .into_iter()
                .filter_map(|(key, text)| Some((key.to_owned(), text?.into()))),
        );
        if let Some(RawObjectMetadata {
            name,
            generate_name,
            namespace,
            uid,
            generation,
        }) = self.metadata
        {
            let texts = [
                ("name", name),
                ("generateName", generate_name),
                ("namespace", namespace),
                ("uid", uid),
            ];
            let mut metadata: Map<String, Value> = texts
                .into_iter()
                .filter_map(|(key, text)| Some((key.to_owned(), text?.into())))
                .collect();
            metadata
                .extend(generation.map(|generation| ("generation".to_owned(), generation.into())));
            object.insert("metadata".into(), metadata.into());
        }
        if let Some(spec) = self.spec {
            object.insert("spec".into(), serde_json::from_str(spec.get())?);
        }
        Ok(object.into())
    }
}

/// The maximum number of values of a JSON text, without parsing it: every value but the first
/// follows one of these separators.
fn count_json_values(json: &str) -> usize {
    let (mut count, mut in_text, mut escaped) = (1, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b',' | b':' | b'[' | b'{' if !in_text => count += 1,
            _ => (),
        }
    }
    count
}

fn shorten_for_message(text: &str) -> String {
    if text.is_empty() {
        "nothing".to_owned()
    } else {
        truncate_text(&sanitize_text(text), 80)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn review(object: &Value) -> Value {
        json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "resource": {
                    "group": "",
                    "version": "v1",
                    "resource": "pods",
                },
                "namespace": "team-a", "operation": "CREATE", "userInfo": {"username": "alice"},
                "object": object, "oldObject": null,
            },
        })
    }

    #[test]
    fn a_review_is_read_as_it_was_sent() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "spec": {"from": "tomorrow"},
            "status": {"phase": "x"},
            "metadata": {
                "generateName": "web-",
                "managedFields": [{"fieldsV1": {"f:spec": {}}}],
                "labels": {"a": "b"},
            },
        });
        let (request, objects) =
            ReviewRequest::parse(review(&pod).to_string().as_bytes()).expect("a review");
        assert_eq!(
            (
                request.namespace(),
                request.name().as_str(),
                request.is_create_or_update()
            ),
            ("team-a", "web-", true)
        );
        let read = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"generateName": "web-"},
            "spec": {"from": "tomorrow"},
        });
        assert_eq!(
            (objects.new, objects.old, objects.excess),
            (Some(read), None, None),
            "what nobody judges is left out"
        );
    }

    #[test]
    fn what_is_no_review_is_refused() {
        for body in [
            "",
            "null",
            "{}",
            "[]",
            "7",
            "{\"apiVersion\":\"admission.k8s.io/v1\",\"kind\":\"AdmissionReview\"}",
        ] {
            assert!(ReviewRequest::parse(body.as_bytes()).is_err(), "{body}");
        }
        let good = review(&json!({"metadata": {}}));
        for (at, value, told) in [
            (
                "/apiVersion",
                json!("admission.k8s.io/v1beta1"),
                "v1beta1; set admissionReviewVersions: [v1]",
            ),
            ("/kind", json!("Review"), "it is Review"),
            ("/request/userInfo", json!(null), "invalid type: null"),
            ("/request/uid", json!(""), "no uid"),
            ("/request/uid", json!(null), "invalid type: null"),
            ("/request/operation", json!("REPLACE"), "unknown variant"),
            ("/request/object", json!("text"), "invalid type: string"),
            (
                "/request/userInfo",
                json!({"username": "x".repeat(MAX_USER_INFO)}),
                "the limit is 262144",
            ),
        ] {
            let mut wrong = good.clone();
            *wrong.pointer_mut(at).expect("a field") = value;
            let error = ReviewRequest::parse(wrong.to_string().as_bytes())
                .err()
                .expect(at)
                .to_string();
            assert!(
                error.contains(told) && error.contains("admission.k8s.io/v1:"),
                "{error}"
            );
        }
        let mut lacks = good;
        lacks["request"]
            .as_object_mut()
            .expect("an object")
            .remove("uid");
        assert!(
            ReviewRequest::parse(lacks.to_string().as_bytes())
                .err()
                .expect("no uid")
                .to_string()
                .contains("missing field `uid`")
        );
    }

    #[test]
    fn values_are_counted_before_they_are_made() {
        for (text, count) in [
            ("1", 1),
            ("\"a,b:{[\\\"]\"", 1),
            ("[]", 2),
            ("[1,2]", 3),
            ("{\"a\":{\"b\":[0,0]}}", 7),
        ] {
            assert_eq!(count_json_values(text), count, "{text}");
        }
        let many = |count: usize| {
            json!({
                "metadata": {"name": "x"},
                "spec": {"x": vec![json!({"": 0}); count]},
            })
        };
        let (request, objects) =
            ReviewRequest::parse(review(&many(MAX_VALUES)).to_string().as_bytes())
                .expect("a review");
        assert_eq!(
            (
                request.admission_request().uid.as_str(),
                objects.new,
                objects.excess.is_some()
            ),
            ("u", None, true)
        );
        let (_, objects) =
            ReviewRequest::parse(review(&many(1_000)).to_string().as_bytes()).expect("a review");
        assert!(objects.new.is_some() && objects.excess.is_none());
    }
}
