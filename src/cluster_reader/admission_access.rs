//! What the webhook may read in a namespace, asked by a user who verifies as it does.

use std::sync::atomic::{AtomicBool, Ordering};

use k8s_openapi::{
    NamespaceResourceScope, Resource,
    api::authorization::v1::{
        LocalSubjectAccessReview, ResourceAttributes, SubjectAccessReviewSpec,
    },
};
use kube::{Api, Client, api::PostParams};

use crate::api::rbac::webhook_user;

/// Asks the API server for the webhook's permissions (`LocalSubjectAccessReview`). Whoever has the
/// ClusterRole `admin` in a namespace may ask there.
pub struct AdmissionAccessReviewer {
    client: Client,
    system_namespace: String,
    /// A question was not answered.
    is_unknown: AtomicBool,
}

impl AdmissionAccessReviewer {
    /// Nothing is asked yet.
    pub const fn new(client: Client, system_namespace: String) -> Self {
        Self {
            client,
            system_namespace,
            is_unknown: AtomicBool::new(false),
        }
    }

    /// True unless the webhook may certainly not read the object.
    pub(super) async fn may_read<K>(&self, namespace: &str, name: &str) -> bool
    where
        K: Resource<Scope = NamespaceResourceScope>,
    {
        let review = self.review::<K>(namespace, name);
        let api = Api::<LocalSubjectAccessReview>::namespaced(self.client.clone(), namespace);
        let reviewed = api.create(&PostParams::default(), &review).await;
        if let Ok(Some(status)) = reviewed.map(|review| review.status) {
            return status.allowed;
        }
        self.is_unknown.store(true, Ordering::Relaxed);
        true
    }

    /// True if a question was not answered: the user may not ask.
    pub fn is_unknown(&self) -> bool {
        self.is_unknown.load(Ordering::Relaxed)
    }

    fn review<K>(&self, namespace: &str, name: &str) -> LocalSubjectAccessReview
    where
        K: Resource<Scope = NamespaceResourceScope>,
    {
        let system = &self.system_namespace;
        let groups = [
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{system}"),
            "system:authenticated".to_owned(),
        ];
        let mut review = LocalSubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(webhook_user(system)),
                groups: Some(groups.to_vec()),
                resource_attributes: Some(ResourceAttributes {
                    namespace: Some(namespace.to_owned()),
                    verb: Some("get".to_owned()),
                    group: Some(K::GROUP.to_owned()),
                    resource: Some(K::URL_PATH_SEGMENT.to_owned()),
                    name: Some(name.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..LocalSubjectAccessReview::default()
        };
        review.metadata.namespace = Some(namespace.to_owned());
        review
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Secret, ServiceAccount};

    use super::*;

    #[tokio::test]
    async fn it_asks_for_one_object_as_the_webhook() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let nowhere = kube::Config::new("http://127.0.0.1:1".parse().expect("a URL"));
        let client = Client::try_from(nowhere).expect("a client");
        let reviewer = AdmissionAccessReviewer::new(client, "packgate-system".into());
        let review = reviewer.review::<Secret>("team-a", "pull");
        assert_eq!(review.metadata.namespace.as_deref(), Some("team-a"));
        let user = "system:serviceaccount:packgate-system:packgate-webhook";
        assert_eq!(review.spec.user.as_deref(), Some(user));
        let attributes = review.spec.resource_attributes.expect("one object");
        assert_eq!(attributes.resource.as_deref(), Some("secrets"));
        assert_eq!(attributes.name.as_deref(), Some("pull"));
        assert_eq!(attributes.group.as_deref(), Some(""));
        let account = reviewer.review::<ServiceAccount>("team-a", "default").spec;
        let attributes = account.resource_attributes.expect("one object");
        assert_eq!(attributes.resource.as_deref(), Some("serviceaccounts"));

        assert!(!reviewer.is_unknown());
        assert!(reviewer.may_read::<Secret>("team-a", "pull").await);
        assert!(reviewer.is_unknown(), "nobody answered");
    }
}
