//! A context for tests.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Client, runtime::reflector};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use super::{
    bundle_tracker::BundleTracker, metrics::ControllerMetrics, policy_cache::CompiledPolicyCache,
    policy_enforcement::PolicyEnforcement, read_limiter::ReadLimiter,
    reconcile_context::ReconcileContext, resources::RunSettings, secrets::ReferencedObjectReader,
    sign_queue::SignQueue, trust_root_refresher::TrustRootRefresher,
};
use crate::{
    api::installation::{InstallationConfig, SignJobsConfig},
    clock::Clock,
    core::reference::ImageRepository,
    http::{HttpClient, HttpOptions, HttpProxy, HttpRetryPolicy},
    oci::credentials::RegistryCredentialError,
    service::registries::{
        OpenedRepository, RepositoryOpenError, RepositoryRequester, TenantRepositoryOpener,
    },
    telemetry::events::EventRecorder,
    trust::TufSource,
};

/// The context of a newly started controller, without registries.
pub(super) fn context(client: Client, clock: Arc<dyn Clock>) -> ReconcileContext {
    ReconcileContext {
        run_settings: RunSettings {
            image: "r.example.com/packgate:v1".into(),
            image_pull_policy: String::new(),
            image_pull_secrets: Vec::new(),
            sign_jobs: SignJobsConfig::default(),
            system_namespace: "packgate-system".into(),
            installation: OwnerReference::default(),
            packer: None,
        },
        installation: InstallationConfig::default(),
        cluster_uid: "u".into(),
        clock,
        registries: Arc::new(NoRegistries),
        job_registries: Vec::new(),
        bundle_store: reflector::store().0,
        read_limiter: ReadLimiter::default(),
        bundle_tracker: BundleTracker::default(),
        queue: SignQueue::default(),
        metrics: ControllerMetrics::new(&mut Registry::default()),
        events: EventRecorder::new(client.clone(), "test".into()),
        secrets: ReferencedObjectReader::new(client.clone(), "packgate-system".into()),
        trust_root_refresher: TrustRootRefresher::new(Arc::new(TufSource::new(http_client()))),
        policy_cache: CompiledPolicyCache::default(),
        enforcement: watch::Sender::new(PolicyEnforcement::default()),
        client,
    }
}

struct NoRegistries;

#[async_trait::async_trait]
impl TenantRepositoryOpener for NoRegistries {
    async fn open_repository(
        &self,
        _: &ImageRepository,
        _: &RepositoryRequester<'_>,
    ) -> Result<OpenedRepository, RepositoryOpenError> {
        let error = RegistryCredentialError::Malformed {
            source_name: "Secret team-a/pull".into(),
            line: 1,
            column: 1,
        };
        Err(error.into())
    }
}

/// A client that sends each request once.
pub(super) fn http_client() -> HttpClient {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let retries = HttpRetryPolicy {
        attempts: 1,
        ..HttpRetryPolicy::default()
    };
    HttpClient::new(&HttpOptions {
        proxy: HttpProxy::Direct,
        retries,
        ..HttpOptions::default()
    })
    .expect("a client")
}
