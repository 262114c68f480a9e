//! The watches of what the webhook's configuration depends on.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::{
    admissionregistration::v1::ValidatingWebhookConfiguration, coordination::v1::Lease,
    core::v1::Secret, discovery::v1::EndpointSlice,
};
use kube::{
    Api,
    runtime::{
        WatchStreamExt,
        reflector::{self, Store},
        watcher,
    },
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    api::webhook::{TLS_SECRET, WEBHOOK_CONFIGURATION_NAME, WEBHOOK_SERVICE_NAME},
    cluster_reader::WatchedObject,
    controller::reconcile_context::ReconcileContext,
};

/// The delay after an error of the API server.
const ERROR_RETRY_DELAY: Duration = Duration::from_secs(2);

/// The watches of the webhook configuration.
pub(super) struct WebhookWatches {
    pub secret: WatchedObject<Secret>,
    pub configuration: WatchedObject<ValidatingWebhookConfiguration>,
    pub lease: WatchedObject<Lease>,
    endpoints: Store<EndpointSlice>,
    _endpoints: AbortOnDropHandle<()>,
}

impl WebhookWatches {
    pub(super) fn start_all(context: &ReconcileContext) -> Self {
        let (client, namespace) = (
            context.client.clone(),
            context.run_settings.system_namespace.as_str(),
        );
        let (endpoints, writer) = reflector::store();
        let slices = Api::<EndpointSlice>::namespaced(client.clone(), namespace);
        let of_service = watcher::Config::default().labels(&format!(
            "kubernetes.io/service-name={WEBHOOK_SERVICE_NAME}"
        ));
        let watching = tokio::spawn(async move {
            watcher(slices, of_service)
                .default_backoff()
                .reflect(writer)
                .for_each(|_| std::future::ready(()))
                .await;
        });
        Self {
            secret: WatchedObject::start(
                Api::namespaced(client.clone(), namespace),
                TLS_SECRET,
                ERROR_RETRY_DELAY,
            ),
            configuration: WatchedObject::start(
                Api::all(client.clone()),
                WEBHOOK_CONFIGURATION_NAME,
                ERROR_RETRY_DELAY,
            ),
            lease: WatchedObject::start(
                Api::namespaced(client, namespace),
                WEBHOOK_SERVICE_NAME,
                ERROR_RETRY_DELAY,
            ),
            endpoints,
            _endpoints: AbortOnDropHandle::new(watching),
        }
    }

    /// The names of the Pods that the API server may call.
    pub(super) fn ready_replicas(&self) -> Vec<String> {
        let slices = self.endpoints.state();
        let ready = slices
            .iter()
            .flat_map(|slice| &slice.endpoints)
            .filter(|endpoint| {
                endpoint
                    .conditions
                    .as_ref()
                    .is_some_and(|conditions| conditions.ready == Some(true))
            });
        ready
            .filter_map(|endpoint| endpoint.target_ref.as_ref()?.name.clone())
            .collect()
    }
}
