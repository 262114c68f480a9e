//! The state shared by all reviews.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kube::Client;
use tokio::sync::Semaphore;

use super::{
    active_policies::ActivePolicies,
    admission_check::AdmissionChecker,
    denial_events::DenialEventRecorder,
    metrics::WebhookMetrics,
    options::WebhookOptions,
    request_body::{BodyLimits, BodyReader},
    review_request::ReviewRequest,
    review_response::{EvaluatedImage, ReviewResponse},
};
use crate::{
    api::installation::NoMatchConfig, cluster_reader::PullSecretReader, core::verify::sanitize_text,
};

/// The state shared by all reviews.
pub(super) struct WebhookState {
    /// The client of the API server.
    pub client: Client,
    /// The namespace that it runs in.
    pub system_namespace: String,
    /// The policies in force.
    pub policies: ActivePolicies,
    /// Evaluates uses of images.
    pub checker: AdmissionChecker,
    /// Reads the Secrets that images are pulled with.
    pub pull_secrets: PullSecretReader,
    /// What happens with a use that no policy governs.
    pub no_match: NoMatchConfig,
    /// The deadline of one review.
    pub deadline: Duration,
    /// Reads the bodies of requests.
    pub bodies: BodyReader,
    /// Large reviews are parsed one at a time.
    pub parsing: Arc<Semaphore>,
    /// Locks are planned one at a time.
    pub planning: Arc<Semaphore>,
    events: DenialEventRecorder,
    /// The metrics.
    pub metrics: WebhookMetrics,
}

impl WebhookState {
    /// Nothing is in force yet.
    pub(super) fn new(
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
                &options.namespace,
            ),
            pull_secrets: PullSecretReader::new(client.clone()),
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
    pub(super) fn record_verdicts(
        &self,
        request: &ReviewRequest,
        response: &ReviewResponse,
        begun: Instant,
    ) {
        let took = begun.elapsed();
        if let ReviewResponse::Evaluated(all) = response {
            for image in all {
                self.metrics.record_verdict(image, took);
                log_verdict(request, image, took);
            }
        }
        self.events.record_denials(request, response);
    }
}

fn log_verdict(request: &ReviewRequest, image: &EvaluatedImage, took: Duration) {
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
        reference = sanitize_text(report.reference()),
        digest = report.digest().map(ToString::to_string).unwrap_or_default(),
        outcome = report.outcome().as_str(),
        allowed = !image.is_denied(),
        reason = report.denials().first().map_or("", |denial| denial.reason.as_str()),
        message = report.denials().first().map_or("", |denial| denial.message.as_str()),
        registry_requests = report.registry_requests(),
        micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        "verdict"
    );
}
