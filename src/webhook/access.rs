//! May this user do that? Asked of the API server, by SubjectAccessReview.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    authentication::v1::UserInfo,
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};

/// May the user read this Secret?
///
/// Errors: the API server did not say. Whoever asked refuses.
pub(super) async fn may_get_secret(client: &Client, user: &UserInfo, namespace: &str, name: &str) -> kube::Result<bool> {
    let review = SubjectAccessReview { spec: spec(user, namespace, name), ..SubjectAccessReview::default() };
    let answer = Api::<SubjectAccessReview>::all(client.clone()).create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed && status.denied != Some(true)))
}

fn spec(user: &UserInfo, namespace: &str, name: &str) -> SubjectAccessReviewSpec {
    let attributes = ResourceAttributes {
        namespace: Some(namespace.to_owned()),
        verb: Some("get".to_owned()),
        resource: Some("secrets".to_owned()),
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
        let user = UserInfo { username: Some("alice".into()), groups: Some(vec!["devs".into()]), uid: Some("7".into()), extra: Some(extra) };
        let spec = spec(&user, "team-a", "push");
        assert_eq!((spec.user.as_deref(), spec.uid.as_deref(), spec.groups.as_deref()), (Some("alice"), Some("7"), Some(&["devs".to_owned()][..])));
        assert!(spec.extra.is_some_and(|extra| extra.contains_key("scopes")));
        let asked = spec.resource_attributes.expect("attributes");
        let texts = [&asked.verb, &asked.group, &asked.resource, &asked.namespace, &asked.name].map(|text| text.as_deref());
        assert_eq!(texts, [Some("get"), None, Some("secrets"), Some("team-a"), Some("push")]);
    }
}
