//! The webhook: bundles, policies and uses of images are admitted only if the policies allow it.
//!
//! Every replica evaluates on its own, with the same services as the command line. Its inputs are
//! watched; a status, label or annotation that a user can write has no effect. Every error is a
//! denial, and only `review_response` can turn a denial into a warning.

mod access;
mod active_policies;
mod admission_check;
mod config_maps;
mod denial_events;
mod image_check;
mod metrics;
mod options;
mod packed_bundle;
mod policy;
mod policy_loader;
mod pull_credentials;
mod registries;
mod request_body;
mod required_access;
mod review_request;
mod review_response;
mod revision_announcer;
mod server;
mod serving_certificate;
mod trust_root;
mod verdict_cache;
mod webhook_state;
mod workload;

use std::sync::Arc;

use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use metrics::WebhookMetrics;
pub use options::{NAME, WebhookError, WebhookOptions};
pub use registries::configured_registries;

use self::{
    active_policies::ActivePolicies, policy_loader::PolicyLoader, webhook_state::WebhookState,
};

/// Serves until `stop`. `ready` is called once all inputs of verdicts were read.
pub async fn run_webhook(
    client: Client,
    options: WebhookOptions,
    metrics: WebhookMetrics,
    ready: impl Fn(),
    stop: CancellationToken,
) -> Result<(), WebhookError> {
    let clients =
        registries::read_client_verifier(&client, &options.installation, &options.namespace)
            .await?;
    let policies = ActivePolicies::default();
    let state = Arc::new(WebhookState::new(
        client.clone(),
        &options,
        policies.clone(),
        metrics.clone(),
    ));
    let (revision_sender, revisions) = watch::channel(String::new());
    let (loaded, mut first) = watch::channel(false);
    let loading = PolicyLoader::start_watching(
        client.clone(),
        options.namespace.clone(),
        Arc::clone(&options.clock),
    )
    .run_until_watch_ends(&policies, || {
        revision_sender.send_replace(policies.current().revision().to_owned());
        loaded.send_replace(true);
    });
    let serving = async {
        let tls = serving_certificate::wait_for_certificate(
            &client,
            &options.namespace,
            clients.as_ref(),
            &metrics,
        )
        .await;
        let _ = first.wait_for(|loaded| *loaded).await;
        ready();
        tracing::info!(address = %options.address, "serving admission reviews");
        let following = serving_certificate::reload_certificates(
            &client,
            &options.namespace,
            clients.as_ref(),
            &tls,
            &metrics,
        );
        tokio::select! {
            served = server::serve_reviews(options.address, tls.clone(), Arc::clone(&state), stop.clone()) => served,
            () = following => Ok(()),
        }
    };
    tokio::select! {
        served = serving => served.map_err(|cause| WebhookError::Serve { address: options.address, cause }),
        () = loading => Err(WebhookError::PoliciesNotWatched),
        () = revision_announcer::announce_revisions(client.clone(), &options.namespace, &options.identity, revisions) => Err(WebhookError::PoliciesNotWatched),
    }
}
