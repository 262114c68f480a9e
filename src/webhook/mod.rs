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
mod metrics;
mod packed_bundle;
mod policy;
mod policy_loader;
mod registries;
mod request_body;
mod review_request;
mod review_response;
mod revision_announcer;
mod server;
mod serving_certificate;
mod trust_root;
mod workload;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use kube::Client;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

pub use metrics::WebhookMetrics;

use self::{
    active_policies::ActivePolicies,
    admission_check::AdmissionChecker,
    denial_events::DenialEventRecorder,
    policy_loader::PolicyLoader,
    request_body::{BodyLimits, BodyReader},
    review_request::ReviewRequest,
    review_response::ReviewResponse,
};
use crate::{
    api::installation::{InstallationConfig, NoMatchConfig},
    clock::Clock,
    core::{
        job::JobRegistry,
        reason::{ClassifiedError, Reason},
    },
    service::registries::TenantRepositoryOpener,
};

/// Name of the Deployment, the Service, the account and the Lease.
pub const NAME: &str = "packgate-webhook";

/// The options of the webhook.
pub struct WebhookOptions {
    /// The namespace that it runs in.
    pub namespace: String,
    /// The unique identity of this replica.
    pub identity: String,
    /// The address that serves reviews.
    pub address: SocketAddr,
    /// The installation's settings from the chart's values.
    pub installation: InstallationConfig,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Opens repositories with a tenant's credentials.
    pub registries: Arc<dyn TenantRepositoryOpener>,
}

/// Why the webhook stopped.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// It cannot listen on the address.
    #[error("reviews cannot be served on {address}: {cause}; choose another address")]
    Serve {
        /// The address to bind.
        address: SocketAddr,
        /// The system's error.
        cause: std::io::Error,
    },
    /// CA certificates of the configuration are invalid.
    #[error("{0}")]
    Authorities(String),
    /// Policies are no longer watched.
    #[error("internal: the watch of the policies ended")]
    PoliciesNotWatched,
}

impl ClassifiedError for WebhookError {
    fn reason(&self) -> Reason {
        match self {
            Self::Serve { .. } | Self::Authorities(_) => Reason::InvalidSpec,
            Self::PoliciesNotWatched => Reason::Internal,
        }
    }
}

/// The state shared by all reviews.
struct WebhookState {
    client: Client,
    system_namespace: String,
    policies: ActivePolicies,
    checker: AdmissionChecker,
    no_match: NoMatchConfig,
    /// The deadline of one review.
    deadline: Duration,
    bodies: BodyReader,
    /// Large reviews are parsed one at a time.
    parsing: Arc<Semaphore>,
    /// Locks are planned one at a time.
    planning: Arc<Semaphore>,
    events: DenialEventRecorder,
    metrics: WebhookMetrics,
}

impl WebhookState {
    fn new(
        client: Client,
        options: &WebhookOptions,
        policies: ActivePolicies,
        metrics: WebhookMetrics,
    ) -> Self {
        let deadline = options.installation.webhook.review_deadline();
        Self {
            checker: AdmissionChecker::new(
                Arc::clone(&options.registries),
                Arc::clone(&options.clock),
                deadline,
                metrics.clone(),
            ),
            system_namespace: options.namespace.clone(),
            no_match: options.installation.no_match.clone(),
            deadline,
            bodies: BodyReader::new(BodyLimits::DEFAULT),
            parsing: Arc::new(Semaphore::new(1)),
            planning: Arc::new(Semaphore::new(1)),
            events: DenialEventRecorder::new(client.clone(), &options.identity),
            policies,
            metrics,
            client,
        }
    }

    /// One log line for each verdict, metrics, and events.
    fn record_verdicts(&self, request: &ReviewRequest, answer: &ReviewResponse, begun: Instant) {
        let took = begun.elapsed();
        if let ReviewResponse::Evaluated(all) = answer {
            for image in all {
                self.metrics.record_verdict(image, took);
                log_verdict(request, image, took);
            }
        }
        self.events.record_denials(request, answer);
    }
}

fn log_verdict(request: &ReviewRequest, image: &review_response::EvaluatedImage, took: Duration) {
    let (inner, report) = (request.admission_request(), &image.report);
    tracing::info!(
        uid = inner.uid,
        kind = inner.kind.kind,
        namespace = request.namespace(),
        name = request.name(),
        operation = ?inner.operation,
        dry_run = inner.dry_run,
        user = inner.user_info.username.as_deref().unwrap_or_default(),
        field = report.field().unwrap_or_default(),
        r#use = report.used_as().as_str(),
        reference = crate::core::display_text::sanitize_text(report.reference()),
        digest = report.digest().map(|digest| digest.to_string()).unwrap_or_default(),
        outcome = report.outcome().as_str(),
        allowed = !image.is_denied(),
        reason = report.denials().first().map_or("", |denial| denial.reason.as_str()),
        message = report.denials().first().map_or("", |denial| denial.message.as_str()),
        registry_requests = report.registry_requests(),
        micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        "verdict"
    );
}

/// The settings of the installation's registries.
pub async fn configured_registries(
    client: &Client,
    installation: &InstallationConfig,
    namespace: &str,
) -> Result<Vec<JobRegistry>, WebhookError> {
    registries::read_registries(client, installation, namespace).await
}

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
