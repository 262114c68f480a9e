//! Credentials that were withdrawn: others are used, and the verdict is not remembered for the old.

use async_trait::async_trait;
use serde_json::json;

use super::{
    ask,
    threats::{
        Http, Scene,
        registry::{Auth, Settings},
    },
};
use crate::{
    core::reference::ImageRepository,
    oci::credentials::{CredentialLookup, CredentialStore, FoundCredentials, RegistryCredentials},
    service::{
        registries::{
            OpenedRepository, RepositoryOpenError, RepositoryRequester, TenantRepositoryOpener,
            credentials_digest,
        },
        renewable_lookup::RenewableLookups,
    },
    webhook::admission_check::Arc,
};

/// Gives a password that was withdrawn, and another one in its place.
struct Provider;

fn password(password: &str) -> CredentialLookup {
    CredentialLookup {
        found: vec![FoundCredentials {
            credentials: RegistryCredentials::Password {
                username: "alice".into(),
                password: password.to_owned().into(),
            },
            source: "credential provider test".into(),
        }],
        failures: Vec::new(),
    }
}

#[async_trait]
impl CredentialStore for Provider {
    async fn credentials_for_repository(&self, _: &ImageRepository) -> CredentialLookup {
        password("withdrawn")
    }

    async fn renew_credentials(
        &self,
        _: &ImageRepository,
        refused: &[RegistryCredentials],
    ) -> CredentialLookup {
        assert_eq!(refused.len(), 1, "{refused:?}");
        password("renewed")
    }
}

/// Opens repositories with the credentials of [`Provider`].
struct Opener(Http);

#[async_trait]
impl TenantRepositoryOpener for Opener {
    async fn open_repository(
        &self,
        repository: &ImageRepository,
        _: &RepositoryRequester<'_>,
    ) -> Result<OpenedRepository, RepositoryOpenError> {
        let lookup = Provider.credentials_for_repository(repository).await;
        let credentials = credentials_digest(&lookup);
        let store = RenewableLookups::new(vec![(repository.clone(), lookup)], Arc::new(Provider));
        let renewal = store.renewal();
        Ok(OpenedRepository {
            source: Arc::new(self.0.target(repository, Arc::new(store))),
            credentials,
            renewal,
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_with_renewed_credentials_is_not_remembered_for_the_old() {
    let scene = Scene::opened_by(Arc::new(Opener(Http::new()))).await;
    for (current, remembered) in [("renewed", false), ("withdrawn", true)] {
        scene
            .registry
            .set(|settings: &mut Settings| settings.auth = Auth::Basic("alice", current));
        let ask = || ask(&scene.reference(&format!("@{}", scene.signed)));
        let policy = || scene.policy(&json!({}));
        let (first, requests) = scene.judge(ask(), policy()).await;
        assert_eq!(first, "Admitted", "{current}");
        assert!(requests > 0, "{current}");
        let (again, requests) = scene.judge(ask(), policy()).await;
        assert_eq!(again, "Admitted", "{current}");
        assert_eq!(requests == 0, remembered, "{current}: {requests}");
    }
}
