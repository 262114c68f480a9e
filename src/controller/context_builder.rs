//! Builds the context of reconciles, from the options and the cluster.

use std::sync::Arc;

use k8s_openapi::{
    api::core::v1::{Namespace, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{events::Reporter, reflector::Store},
};
use tokio::sync::watch;

use super::{
    bundle_tracker::BundleTracker,
    cached_bundle::CachedBundle,
    metrics::ControllerMetrics,
    options::{ControllerError, NAME, RegistryClientsFactory, TrustSourceFactory},
    policy_cache::CompiledPolicyCache,
    policy_enforcement::PolicyEnforcement,
    read_limiter::ReadLimiter,
    reconcile_context::ReconcileContext,
    reconcile_error::ReconcileError,
    resources::RunSettings,
    secrets::ReferencedObjectReader,
    sign_queue::SignQueue,
    trust_root_refresher::TrustRootRefresher,
};
use crate::{
    api::installation::InstallationConfig,
    clock::Clock,
    cluster_reader::{RegistryCaAccess, RegistryCaError, read_registries},
    core::{
        job::{JobRegistry, PackerImage},
        reference::ImageReference,
    },
    telemetry::events::EventRecorder,
};

/// The parts that the context is built from.
pub(super) struct ReconcileContextBuilder {
    pub namespace: String,
    pub image: String,
    pub identity: String,
    pub installation: InstallationConfig,
}

impl ReconcileContextBuilder {
    /// Reads the rest from the cluster.
    pub(super) async fn build_context(
        self,
        client: Client,
        metrics: ControllerMetrics,
        store: Store<DeserializeGuard<CachedBundle>>,
        clock: Arc<dyn Clock>,
        (open, open_trust): (&RegistryClientsFactory, &TrustSourceFactory),
    ) -> Result<ReconcileContext, ControllerError> {
        let Self {
            namespace,
            image,
            identity,
            installation,
        } = self;
        let secrets = ReferencedObjectReader::new(client.clone(), namespace.clone());
        let job_registries =
            load_job_registries(&client, &installation, &namespace, &secrets).await?;
        let reporter = Reporter {
            controller: NAME.to_owned(),
            instance: Some(identity),
        };
        Ok(ReconcileContext {
            cluster_uid: cluster_uid(&client).await?,
            run_settings: run_settings(
                &installation,
                installation_owner(&client, &namespace).await?,
                namespace,
                image,
            ),
            installation,
            clock,
            registries: open(&job_registries).map_err(ControllerError::Configuration)?,
            trust_root_refresher: TrustRootRefresher::new(
                open_trust(&job_registries).map_err(ControllerError::Configuration)?,
            ),
            job_registries,
            bundle_store: store,
            read_limiter: ReadLimiter::default(),
            bundle_tracker: BundleTracker::default(),
            queue: SignQueue::default(),
            metrics,
            events: EventRecorder::new(client.clone(), reporter),
            secrets,
            policy_cache: CompiledPolicyCache::default(),
            enforcement: watch::Sender::new(PolicyEnforcement::default()),
            client,
        })
    }
}

/// The chart's registries, with their CA certificates.
async fn load_job_registries(
    client: &Client,
    installation: &InstallationConfig,
    namespace: &str,
    secrets: &ReferencedObjectReader,
) -> Result<Vec<JobRegistry>, ReconcileError> {
    let access = RegistryCaAccess::Installation;
    read_registries(client, installation, namespace, access)
        .await
        .map_err(|RegistryCaError { reference, error }| {
            secrets.explain_ca_error(error, namespace, &reference, "registries[].caRef")
        })
}

fn run_settings(
    installation: &InstallationConfig,
    owner: OwnerReference,
    namespace: String,
    image: String,
) -> RunSettings {
    let jobs = &installation.jobs;
    let pull_secrets = jobs.image_pull_secrets.iter();
    RunSettings {
        installation: owner,
        system_namespace: namespace,
        image_pull_policy: jobs.image_pull_policy.clone(),
        image_pull_secrets: pull_secrets.map(|secret| secret.name.clone()).collect(),
        packer: packer_from_image(&image),
        sign_jobs: jobs.sign.clone(),
        image,
    }
}

async fn cluster_uid(client: &Client) -> Result<String, ControllerError> {
    let system = Api::<Namespace>::all(client.clone())
        .get("kube-system")
        .await
        .map_err(ReconcileError::from)?;
    system
        .uid()
        .ok_or_else(|| ControllerError::Start("the namespace kube-system has no UID".into()))
}

/// The ServiceAccount that the chart created: objects that it owns are deleted when the chart is
/// uninstalled.
async fn installation_owner(
    client: &Client,
    namespace: &str,
) -> Result<OwnerReference, ControllerError> {
    let account = Api::<ServiceAccount>::namespaced(client.clone(), namespace)
        .get(NAME)
        .await
        .map_err(ReconcileError::from)?;
    account.owner_ref(&()).ok_or_else(|| {
        ControllerError::Start(format!("ServiceAccount {namespace}/{NAME} has no UID"))
    })
}

/// The image of the pack Job, if its name has a digest.
fn packer_from_image(image: &str) -> Option<PackerImage> {
    let reference: ImageReference = image.parse().ok()?;
    Some(PackerImage {
        uri: format!("oci://{}", reference.repository),
        digest: reference.digest?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packer_is_known_by_its_digest() {
        let digest = crate::core::digest::Digest::of_bytes(b"image");
        let packer =
            packer_from_image(&format!("r.example.com/packgate:v1@{digest}")).expect("a digest");
        assert_eq!(
            (packer.uri.as_str(), packer.digest),
            ("oci://r.example.com/packgate", digest)
        );
        assert_eq!(packer_from_image("r.example.com/packgate:v1"), None);
    }
}
