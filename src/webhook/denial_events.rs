//! Reports denials as Kubernetes events: users cannot always see the response that a controller
//! got.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Reporter},
};
use moka::sync::Cache;

use super::{
    options::NAME,
    review_request::ReviewRequest,
    review_response::{EvaluatedImage, ReviewResponse},
};
use crate::{core::report::ReportOutcome, telemetry};

/// The same event is repeated at most at this interval.
const REPEAT_INTERVAL: Duration = Duration::from_mins(1);
/// Recent events that are remembered.
const MAX_RECENT_EVENTS: u64 = 10_000;
/// The timeout for storing an event.
const EVENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Records events.
pub(super) struct DenialEventRecorder {
    recorder: Arc<telemetry::events::EventRecorder>,
    recently_recorded: Cache<String, ()>,
}

impl DenialEventRecorder {
    /// Records as the replica `instance`.
    pub(super) fn new(client: Client, instance: &str) -> Self {
        let reporter = Reporter {
            controller: NAME.to_owned(),
            instance: Some(instance.to_owned()),
        };
        Self {
            recorder: Arc::new(telemetry::events::EventRecorder::new(client, reporter)),
            recently_recorded: Cache::builder()
                .max_capacity(MAX_RECENT_EVENTS)
                .time_to_live(REPEAT_INTERVAL)
                .build(),
        }
    }

    /// Records denials, at most once a minute for each object and reason. Dry runs are not
    /// recorded. Runs in the background.
    pub(super) fn record_denials(&self, request: &ReviewRequest, response: &ReviewResponse) {
        let ReviewResponse::Evaluated(all) = response else {
            return;
        };
        if request.admission_request().dry_run || request.namespace().is_empty() {
            return;
        }
        for image in all
            .iter()
            .filter(|image| image.report.outcome() == ReportOutcome::Denied)
        {
            if let Some(event) = self.build_denial_event(request, image) {
                let (recorder, about) = (Arc::clone(&self.recorder), involved_object(request));
                tokio::spawn(async move {
                    match tokio::time::timeout(EVENT_TIMEOUT, recorder.record_event(event, &about))
                        .await
                    {
                        Ok(Ok(())) => (),
                        Ok(Err(error)) => tracing::debug!(%error, "an event was not recorded"),
                        Err(_) => tracing::debug!("timed out recording an event"),
                    }
                });
            }
        }
    }

    /// `None` if it was recorded just now.
    fn build_denial_event(&self, request: &ReviewRequest, image: &EvaluatedImage) -> Option<Event> {
        let denial = image.report.denials().first()?;
        let key = format!(
            "{} {} {} {}",
            request.namespace(),
            request.admission_request().kind.kind,
            request.name(),
            denial.reason
        );
        if self.recently_recorded.contains_key(&key) {
            return None;
        }
        self.recently_recorded.insert(key, ());
        let field = denial.field.as_deref().unwrap_or_default();
        let refused = if image.is_denied() {
            "denied"
        } else {
            "would be denied"
        };
        Some(Event {
            type_: EventType::Warning,
            reason: denial.reason.as_str().to_owned(),
            note: Some(format!("{refused}: {field}: {}", denial.message)),
            action: "Admission".to_owned(),
            secondary: None,
        })
    }
}

fn involved_object(request: &ReviewRequest) -> ObjectReference {
    let kind = &request.admission_request().kind;
    let api_version = if kind.group.is_empty() {
        kind.version.clone()
    } else {
        format!("{}/{}", kind.group, kind.version)
    };
    ObjectReference {
        api_version: Some(api_version),
        kind: Some(kind.kind.clone()),
        namespace: Some(request.namespace().to_owned()),
        name: Some(request.name()),
        ..ObjectReference::default()
    }
}
