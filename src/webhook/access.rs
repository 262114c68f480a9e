//! Checks a user's permissions with a SubjectAccessReview.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    authentication::v1::UserInfo,
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};

/// What an object makes packgate do in its author's namespace, with rights that the author may not
/// have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AccessKind {
    /// `get` on a Secret.
    GetSecret,
    /// `create` on the `token` subresource of a ServiceAccount.
    CreateToken,
}

/// True if the user has this permission on the Secret or ServiceAccount of this name.
///
/// Errors: the API server gave no verdict. The caller must deny the request.
pub(super) async fn is_access_allowed(
    client: &Client,
    user: &UserInfo,
    deed: AccessKind,
    namespace: &str,
    name: &str,
) -> kube::Result<bool> {
    let review = SubjectAccessReview {
        spec: access_review_spec(user, deed, namespace, name),
        ..SubjectAccessReview::default()
    };
    let response = Api::<SubjectAccessReview>::all(client.clone())
        .create(&PostParams::default(), &review)
        .await?;
    Ok(response
        .status
        .is_some_and(|status| status.allowed && status.denied != Some(true)))
}

fn access_review_spec(
    user: &UserInfo,
    deed: AccessKind,
    namespace: &str,
    name: &str,
) -> SubjectAccessReviewSpec {
    let (verb, resource, subresource) = match deed {
        AccessKind::GetSecret => ("get", "secrets", None),
        AccessKind::CreateToken => ("create", "serviceaccounts", Some("token")),
    };
    let attributes = ResourceAttributes {
        namespace: Some(namespace.to_owned()),
        verb: Some(verb.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: subresource.map(ToOwned::to_owned),
        version: Some("v1".to_owned()),
        name: Some(name.to_owned()),
        ..ResourceAttributes::default()
    };
    let extra: Option<BTreeMap<String, Vec<String>>> = user.extra.clone();
    SubjectAccessReviewSpec {
        resource_attributes: Some(attributes),
        user: user.username.clone(),
        groups: user.groups.clone(),
        uid: user.uid.clone(),
        extra,
        ..SubjectAccessReviewSpec::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_about_the_user_and_one_secret() {
        let extra = BTreeMap::from([("scopes".to_owned(), vec!["a".to_owned()])]);
        let user = UserInfo {
            username: Some("alice".into()),
            groups: Some(vec!["devs".into()]),
            uid: Some("7".into()),
            extra: Some(extra),
        };
        let token = access_review_spec(&user, AccessKind::CreateToken, "team-a", "default")
            .resource_attributes
            .expect("attributes");
        let texts = [
            &token.verb,
            &token.group,
            &token.resource,
            &token.subresource,
            &token.namespace,
            &token.name,
        ]
        .map(|text| text.as_deref());
        assert_eq!(
            texts,
            [
                Some("create"),
                None,
                Some("serviceaccounts"),
                Some("token"),
                Some("team-a"),
                Some("default")
            ]
        );
        let spec = access_review_spec(&user, AccessKind::GetSecret, "team-a", "push");
        assert_eq!(
            (
                spec.user.as_deref(),
                spec.uid.as_deref(),
                spec.groups.as_deref()
            ),
            (Some("alice"), Some("7"), Some(&["devs".to_owned()][..]))
        );
        assert!(spec.extra.is_some_and(|extra| extra.contains_key("scopes")));
        let asked = spec.resource_attributes.expect("attributes");
        let texts = [
            &asked.verb,
            &asked.group,
            &asked.resource,
            &asked.namespace,
            &asked.name,
        ]
        .map(|text| text.as_deref());
        assert_eq!(
            texts,
            [
                Some("get"),
                None,
                Some("secrets"),
                Some("team-a"),
                Some("push")
            ]
        );
    }
}
